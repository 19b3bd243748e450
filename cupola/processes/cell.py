"""The cell: runs instances on this machine for the controller. `python -m cupola.processes.cell`, CUPOLA_SETTINGS set.

    SIGTERM    ends and leaves the instances running for the next cell, unless `stop-apps` is in the run directory:
               then they are stopped gracefully first

One per data directory. It needs no controller to keep running what runs. Never imports the database.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import psutil

from cupola import clock, wire
from cupola.blobs.store import LocalStore
from cupola.config import ConfigError, Settings, read_resolved
from cupola.logs.envelope import Envelope
from cupola.logs.spool import Spool, SpoolError
from cupola.processes import privileges
from cupola.runtime.engine import Container, EngineError, Stager
from cupola.runtime.local import probe
from cupola.runtime.local.engine import LocalEngine
from cupola.runtime.messages import Desired, DesiredDelta
from cupola.runtime.outbox import Outbox
from cupola.runtime.planner import Capacity
from cupola.runtime.reconciler import Reconciler
from cupola.secrets.generated import write_private
from cupola.staging.cell import CellStager

__all__ = ["Cell", "main"]

CANNOT_START = 3
"""Exit status that says: starting again will not help before somebody acts. The reason is on standard error."""
_METRICS_SECONDS = 5.0
_BACK_OFF = (0.05, 0.1, 0.2, 0.5, 1.0)
_encoder = msgspec.msgpack.Encoder()
_log = logging.getLogger("cupola.cell")


class AlreadyRunning(Exception):
    """Another cell holds this data directory."""


class Cell:
    """All parts of the process, connected by hand. `stager` None: this cell cannot stage."""

    def __init__(
        self, settings: Settings, choice: probe.Choice, stager: Stager | None = None, launcher: Path | None = None
    ) -> None:
        self.settings = settings
        self.directory = settings.data_dir / "cell"
        self.cell_id = settings.runtime.cell_id or f"cell-{probe.platform_id(settings.data_dir)}"
        self.spool = Spool(self.directory / "logs", "cell")
        self.outbox = Outbox(self.directory / "outbox", self.cell_id)
        self.engine = LocalEngine(
            settings,
            choice,
            stager=stager,
            launcher=launcher,
        )
        self.reconciler = Reconciler(
            self.engine,
            self.outbox,
            self.output,
            self.directory,
            cell_id=self.cell_id,
            capacity=Capacity(_memory_mb(settings), settings.runtime.max_instances),
            grace=settings.runtime.graceful_stop_seconds,
        )

    def output(self, container: Container, source: str, stream: Literal["OUT", "ERR"], lines: list[bytes]) -> None:
        """Spool lines of a container's log, all by one call, so that the death of this process leaves them whole."""
        index = str(container.index)
        tags = {
            **container.tags,
            "source_type": source,
            "app_id": container.app_guid,
            "instance_id": index,
            "origin": "rep",
        }
        if container.kind == "process":
            tags["process_instance_id"] = container.guid
        app = container.app_guid
        self.spool.put_encoded(
            [(app, _encoder.encode(Envelope(clock.nanos(), app, index, tags, line, stream))) for line in lines]
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop`; then leave or stop the instances."""
        ready_file = self.settings.run_dir / "cell.ready"
        ready_file.unlink(missing_ok=True)
        found = await self.engine.open(self.reconciler)
        self.reconciler.adopt(found)
        _log.info("cell %s runs in mode %s and adopted %d instances", self.cell_id, self.engine.mode, len(found))
        work = [
            asyncio.create_task(self.reconciler.run(self._tell_ready)),
            asyncio.create_task(self._stay_connected()),
            asyncio.create_task(stop.wait()),
        ]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if (self.settings.run_dir / "stop-apps").exists():
                _log.info("stopping all instances")
                await self.reconciler.stop_all()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._drained(), 2)
        finally:
            ready_file.unlink(missing_ok=True)
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            await self.reconciler.close()
            await self.engine.close()
            self.spool.close()

    def _tell_ready(self) -> None:
        write_private(self.settings.run_dir / "cell.ready", self.engine.mode.encode())

    async def _drained(self) -> None:
        while self.outbox.pending or self.spool.pending:  # noqa: ASYNC110 - two counters of other modules, for two seconds
            await asyncio.sleep(0.02)

    async def _stay_connected(self) -> None:
        attempt = 0
        path = self.settings.run_dir / "control.sock"
        while True:
            try:
                token = (self.settings.run_dir / "cell.token").read_text().strip()
                peer = await wire.connect(path, "cell", token)
            except (OSError, EOFError, wire.Refused) as error:
                if isinstance(error, wire.Refused):
                    _log.warning("the controller refuses this cell: %s", error)
                await asyncio.sleep(_BACK_OFF[min(attempt, len(_BACK_OFF) - 1)])
                attempt += 1
                continue
            attempt = 0
            try:
                await self._converse(peer)
            finally:
                await peer.close()

    async def _converse(self, peer: wire.Peer) -> None:
        """Speak until the connection ends."""
        await peer.send("actual.full", self.reconciler.actual())
        speakers: list[Callable[[Any], Any]] = [self._listen, self.outbox.run, self.spool.run, self._send_metrics]
        work = [asyncio.create_task(speaker(peer)) for speaker in speakers]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is not None and not isinstance(error, OSError | EOFError):
                    _log.error("the conversation with the controller ended", exc_info=error)
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _send_metrics(self, peer: wire.Peer) -> None:
        while True:
            await asyncio.sleep(_METRICS_SECONDS)
            metrics = self.reconciler.metrics()
            if metrics:
                await peer.send("metrics", metrics)

    async def _listen(self, peer: wire.Peer) -> None:
        while True:
            kind, body = await peer.receive()
            match kind:
                case "desired.full":
                    self.reconciler.set_full(msgspec.convert(body, Desired))
                case "desired.delta":
                    if not self.reconciler.apply(msgspec.convert(body, DesiredDelta)):
                        await peer.send("desired.request")
                case "event.ack":
                    self.outbox.ack(int(body))
                case "logs.ack":
                    self.spool.ack(int(body))
                case "actual.request":
                    await peer.send("actual.full", self.reconciler.actual())
                case _:
                    _log.warning("the controller sent %s, which this version does not know", kind)


def _memory_mb(settings: Settings) -> int:
    return settings.runtime.memory_mb or psutil.virtual_memory().total // (1024 * 1024)


def _hold(directory: Path) -> int:
    """Be the only cell of this data directory; the lock ends with the process. Raises AlreadyRunning."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise AlreadyRunning(
            f"another cell uses {directory}: stop it (`cupola down`) or use another data_dir"
        ) from None
    return descriptor


def _confined(settings: Settings) -> probe.Choice:
    """How instances are isolated here; with what that does not need given up. Raises EngineError."""
    choice = probe.choose(
        settings.runtime.isolation, settings.data_dir, settings.runtime.rootfs, settings.runtime.disk_limit
    )
    for reason in choice.weaker:
        _log.warning("a stronger isolation mode is not available: %s", reason)
    privileges.confine_cell()
    return choice


async def _serve(settings: Settings, choice: probe.Choice) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Cell(settings, choice, CellStager(settings, LocalStore(settings.data_dir / "blobs"))).run(stop)


def main() -> int:
    """Run the process; returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        settings = read_resolved(Path(os.environ["CUPOLA_SETTINGS"]))
        lock = _hold(settings.data_dir / "cell")
    except KeyError:
        _log.error("CUPOLA_SETTINGS is not set: it names the settings.json in the run directory; use `cupola up`")
        return CANNOT_START
    except (ConfigError, AlreadyRunning) as error:
        _log.error("the cell cannot start: %s", error)
        return CANNOT_START
    try:
        asyncio.run(_serve(settings, _confined(settings)))
    except (EngineError, SpoolError) as error:
        _log.error("the cell cannot start: %s", error)
        return CANNOT_START
    finally:
        os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
