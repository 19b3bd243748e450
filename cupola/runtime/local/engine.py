"""The native engine: makes instances by the spawner, watches them by pidfd, measures them, adopts those that it finds."""

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import Literal

from cupola.blobs.store import LocalStore, NotFound
from cupola.config import Settings
from cupola.runtime.engine import (
    Address,
    Container,
    EngineError,
    Exit,
    Observer,
    PlacementError,
    Progress,
    Stager,
    StagingFailure,
    Usage,
)
from cupola.runtime.local import launch, measure, record, spaces
from cupola.runtime.local.cgroups import Group
from cupola.runtime.local.droplets import Droplets
from cupola.runtime.local.egress import Egress
from cupola.runtime.local.fingerprint import mismatch
from cupola.runtime.local.forks import Forks
from cupola.runtime.local.output import Output, RateLimit
from cupola.runtime.local.ports import NoPort, Ports
from cupola.runtime.local.probe import Choice
from cupola.runtime.local.record import Record
from cupola.runtime.local.resolver import Resolver
from cupola.runtime.messages import Endpoint

__all__ = ["LocalEngine"]

_MIB = 1024 * 1024
_MEASURE_SECONDS = 2.0
_RENEW_SECONDS = 60.0
_SPARES = 2
"""Forks that are made in advance, so that the next instances start sooner; each takes some megabyte."""
_log = logging.getLogger(__name__)


class _Live:
    """An instance that this cell process watches."""

    def __init__(self, entry: Record, directory: Path, pid: int, descriptor: int, group: Group | None) -> None:
        self.entry = entry
        self.container = entry.container
        self.directory = directory
        self.pid = pid
        self.descriptor = descriptor
        self.group = group
        self.space = spaces.Space(entry.space, directory, entry.carried)
        self.limit = RateLimit(entry.container.log_rate)
        self.outputs: list[Output] = []
        self.gone = asyncio.Event()
        self.usage: Usage | None = None
        self.out_of_memory = False
        self.out_of_disk = False
        self.disk = 0
        self.ending: asyncio.Task[None] | None = None

    def is_disk_due(self, turn: int) -> bool:
        """Whether disk use is read this time: what has to be counted file by file is, every seventh time."""
        return turn % 7 == 0 or self.usage is None or self.space.is_cheap

    def hush(self) -> None:
        """Read what is left of the output, and no more."""
        for output in self.outputs:
            output.finish()
        self.outputs.clear()

    def leave(self) -> None:
        """Leave what is to be read to the next cell."""
        for output in self.outputs:
            output.leave()
        self.outputs.clear()


class LocalEngine:
    """Implements `Engine`. `choice` is what `probe.choose` found; `stager` may be missing where nothing is staged."""

    def __init__(
        self,
        settings: Settings,
        choice: Choice,
        *,
        stager: Stager | None = None,
        launcher: Path | None = None,
    ) -> None:
        self.mode = mode = choice.mode
        self._settings = settings
        self._root = settings.data_dir / "cell"
        self._instances = self._root / "instances"
        self._cgroups = choice.groups
        self._blobs = LocalStore(settings.data_dir / "blobs")
        self._stager = stager
        self._overlay = choice.overlay and mode in ("root", "rootless")
        self._plan = launch.Launcher(
            settings, mode, self._root, landlock=choice.landlock, own_network=choice.own_network, launcher=launcher
        )
        owner = launch.VCAP if mode == "root" else -1
        self._droplets = Droplets(self._root / "droplets", owner)
        self._spaces = spaces.Spaces(choice.space, self._root / "disks")
        self._wanted: dict[str, str] = {}
        """Digests of the droplets that instances use or are about to, by the instance."""
        self._unpacking: dict[str, asyncio.Lock] = {}
        self._ports = Ports(settings.runtime.port_range)
        domains = [] if settings.platform.system_domain else [settings.apps_domain]
        self._egress = Egress(Resolver(domains)) if choice.own_network else None
        self._forks: Forks | None = None
        self._live: dict[str, _Live] = {}
        self._observer: Observer | None = None
        self._measuring: asyncio.Task[None] | None = None
        self._tending: asyncio.Task[None] | None = None
        self._meter = measure.Meter()

    async def open(self, observer: Observer) -> list[tuple[Container, Address]]:
        """Start the spawner and adopt what runs. Raises EngineError when the mode cannot be had."""
        self._observer = observer
        self._instances.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = await asyncio.to_thread(self._plan.prepare)
        if self._plan.identities is not None:
            self._plan.identities.open()
        by_groups = self._cgroups is not None and self._cgroups.version == 1 and os.getuid() == 0
        self._forks = Forks(
            configuration | {"favordynmods": by_groups and self._settings.runtime.favordynmods, "spares": _SPARES}
        )
        await self._forks.start()
        adopted = []
        for directory in sorted(self._instances.iterdir()):
            live = self._adopt(directory)
            if live is not None:
                await self._lead_out(live)
                adopted.append(live)
        self._measuring = asyncio.create_task(self._measure())
        self._tending = asyncio.create_task(self._tend())
        # The end of one that only waited for a reader of its output may be told already.
        return [(live.container, live.entry.address) for live in adopted if not live.gone.is_set()]

    def _adopt(self, directory: Path) -> _Live | None:
        entry = record.load(directory)
        if entry is None:
            # Its making was interrupted: nobody was told of it.
            self._kill_remains(directory)
            self._discard(directory)
            return None
        for port in entry.claimed:
            self._ports.adopt(port)
        live = _Live(entry, directory, -1, -1, self._group(directory.name))
        self._live[directory.name] = live
        self._wanted[directory.name] = entry.container.droplet
        self._listen(live)
        live.pid, live.descriptor = record.open_process(directory)
        if live.descriptor < 0:
            # The fork of an earlier cell may be at it still.
            record.give_up(directory)
            live.pid, live.descriptor = record.open_process(directory)
        if live.descriptor < 0:
            live.ending = asyncio.create_task(self._end(live))
            return None
        self._watch(live)
        return live

    def _kill_remains(self, directory: Path) -> None:
        record.give_up(directory)
        _pid, descriptor = record.open_process(directory)
        if descriptor >= 0:
            # Without a pid namespace its programs would outlive the init: that ends them, and then itself.
            namespaced = self.mode in ("root", "rootless")
            signal.pidfd_send_signal(descriptor, signal.SIGKILL if namespaced else signal.SIGINT)
            os.close(descriptor)
        group = self._group(directory.name)
        if group is not None:
            group.kill()
            group.remove()

    def _group(self, guid: str) -> Group | None:
        return self._cgroups.group(guid) if self._cgroups else None

    async def create(self, container: Container, progress: Progress) -> Address:
        """Make and start a container. Raises EngineError or PlacementError; then nothing of it is left."""
        if self._forks is None:
            raise EngineError("the engine is not open")
        try:
            claimed = [self._ports.claim()]
        except NoPort as error:
            raise PlacementError(f"insufficient resources: ports ({error})") from error
        directory = self._instances / container.guid
        self._wanted[container.guid] = container.droplet
        try:
            return await self._create(container, directory, claimed, progress)
        except BaseException as error:
            self._kill_remains(directory)
            for port in claimed:
                self._ports.release(port)
            self._discard(directory)
            self._wanted.pop(container.guid, None)
            if isinstance(error, NotFound):
                raise EngineError(f"the droplet of the app is missing: {error}; restage the app") from error
            if isinstance(error, OSError):
                raise EngineError(f"cannot create the container: {error}") from error
            raise

    async def _create(self, container: Container, directory: Path, claimed: list[int], progress: Progress) -> Address:
        assert self._forks is not None
        lower = await self._unpack(container, progress)
        if warning := mismatch(container.made_on):
            progress(warning)
        if self._egress is not None and (warning := launch.not_opened(container)):
            progress(warning)
        layout: Literal["overlay", "copy"] = "overlay" if lower is not None and self._overlay else "copy"
        space = self._spaces.kind(container.disk_mb, overlay=layout == "overlay")
        address = launch.address(container, claimed[0], directory if self._egress is not None else None)
        entry = Record(
            container=container, address=address, slot=claimed[0], claimed=claimed, mode=self.mode, layout=layout,
            space=space, carried=self._droplets.size(lower) if lower is not None and layout == "overlay" else 0,
        )  # fmt: skip
        group = self._make_group(container)
        await asyncio.to_thread(self._write, entry, directory, lower, group)
        live = _Live(entry, directory, -1, -1, group)
        self._listen(live)
        try:
            live.pid = await self._forks.spawn(directory)
            live.descriptor = os.pidfd_open(live.pid)
        except BaseException:
            live.hush()
            raise
        self._live[container.guid] = live
        self._watch(live)
        await self._lead_out(live)
        return address

    async def _lead_out(self, live: _Live) -> None:
        """Serve the connections that the instance makes."""
        if self._egress is None:
            return
        try:
            address = live.entry.address
            await self._egress.attach(live.container.guid, str(live.directory), address.internal_ip)
            if self._settings.runtime.direct_ports:
                for port in address.ports:
                    listen = self._settings.listen
                    endpoint = address.endpoints[str(port.internal)]
                    await self._egress.listen(live.container.guid, listen, port.external, endpoint)
        except OSError:
            # It ended before it could be asked for its sockets, which the watch on its process tells.
            self._egress.detach(live.container.guid)

    def _write(self, entry: Record, directory: Path, lower: Path | None, group: Group | None) -> None:
        """All files of the record; container.json last, which makes it one."""
        container = entry.container
        files = directory / "files"
        directory.mkdir(mode=0o700)
        account = self._settings.account
        if account is not None:
            # The router connects to the ingress socket in it, and sees nothing else.
            os.chown(directory, -1, account.gid)
            directory.chmod(0o710)
        plan = None
        self._spaces.make(entry.space, directory, spaces.left(container.disk_mb, entry.carried))
        if container.kind == "staging":
            if self._stager is None or container.task is None:
                raise EngineError("this cell cannot stage: it was started without a stager")
            plan = self._stager.prepare(container.task, files)
        self._plan.make_files(entry, files, lower)
        self._plan.write_identity(entry, directory)
        self._plan.write_launch(entry, directory, lower, plan, group.procs() if group else [])
        record.save(directory, entry)

    async def _unpack(self, container: Container, progress: Progress) -> Path | None:
        if not container.droplet:
            return None
        progress("Downloading droplet...")
        size = self._blobs.size(container.droplet)
        lock = self._unpacking.setdefault(container.droplet, asyncio.Lock())
        async with lock:
            archive = self._blobs.path(container.droplet)
            unpacked = self._droplets.find(container.droplet)
            if unpacked is None:
                unpacked = await asyncio.to_thread(self._droplets.unpacked, container.droplet, archive)
        self._unpacking.pop(container.droplet, None)
        progress(f"Downloaded droplet ({_size(size)})")
        return unpacked

    def _make_group(self, container: Container) -> Group | None:
        if self._cgroups is None:
            return None
        share = min(max(container.memory_mb, 128), 8192) / 8192
        pids = self._settings.runtime.pids
        return self._cgroups.make(container.guid, container.memory_mb * _MIB, pids, share)

    def _watch(self, live: _Live) -> None:
        asyncio.get_running_loop().add_reader(live.descriptor, self._ended, live)

    def _listen(self, live: _Live) -> None:
        observer = self._observer
        assert observer is not None
        for number, program in enumerate(live.container.programs):
            for name, stream in (("out", "OUT"), ("err", "ERR")):

                def emit(lines: list[bytes], source: str = program.source, stream: str = stream) -> None:
                    observer.output(live.container, source, "OUT" if stream == "OUT" else "ERR", lines)

                live.outputs.append(Output(str(live.directory / f"{name}.{number}"), live.limit, emit))

    def _ended(self, live: _Live) -> None:
        asyncio.get_running_loop().remove_reader(live.descriptor)
        os.close(live.descriptor)
        live.descriptor = -1
        live.ending = asyncio.create_task(self._end(live))

    async def _end(self, live: _Live) -> None:
        assert self._observer is not None
        if live.group is not None:
            live.out_of_memory = live.out_of_memory or live.group.out_of_memory()
            live.group.kill()
        if self._egress is not None:
            self._egress.detach(live.container.guid)
        live.hush()
        found, killed = record.read_statuses(live.directory)
        programs = live.container.programs
        statuses = [(programs[i].source, status) for i, status in found if i < len(programs)]
        result = Exit(
            statuses=statuses,
            out_of_memory=live.out_of_memory,
            out_of_disk=live.out_of_disk,
            killed=killed,
        )
        if live.container.kind == "staging":
            result = await self._collect(live, result)
        live.gone.set()
        self._observer.exited(live.container, result)

    async def _collect(self, live: _Live, result: Exit) -> Exit:
        if self._stager is None or live.container.task is None:
            return result
        files = live.directory / "files"
        try:
            collected = await asyncio.to_thread(self._stager.collect, live.container.task, files, result)
        except Exception as error:
            collected = StagingFailure("StagingError", f"cannot collect the result of staging: {error}")
        failed = isinstance(collected, StagingFailure)
        return Exit(
            statuses=result.statuses,
            out_of_memory=result.out_of_memory,
            out_of_disk=result.out_of_disk,
            killed=result.killed,
            staging=None if isinstance(collected, StagingFailure) else collected,
            error_id=collected.error_id if isinstance(collected, StagingFailure) else "",
            reason=collected.reason if failed and isinstance(collected, StagingFailure) else "",
        )

    async def stop(self, guid: str, grace: float) -> None:
        """Ask it to end, end it after `grace` seconds (0: at once; else the grace it was started with)."""
        live = self._live.get(guid)
        if live is None or live.gone.is_set():
            return
        self._signal(live, signal.SIGTERM if grace > 0 else signal.SIGINT)
        try:
            await asyncio.wait_for(live.gone.wait(), grace + 5)
        except TimeoutError:
            if live.group is not None:
                live.group.kill()
            self._signal(live, signal.SIGKILL)
            await live.gone.wait()

    def _signal(self, live: _Live, number: signal.Signals) -> None:
        if live.descriptor >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(live.descriptor, number)

    async def destroy(self, guid: str) -> None:
        """Remove what is left of an ended container. Raises EngineError when it still runs."""
        live = self._live.get(guid)
        directory = self._instances / guid
        if live is not None:
            if not live.gone.is_set():
                raise EngineError(f"container {guid} still runs: stop it first")
            del self._live[guid]
            for port in live.entry.claimed:
                self._ports.release(port)
        group = self._group(guid)
        if group is not None:
            group.kill()
            for _ in range(50):
                if group.remove():
                    break
                await asyncio.sleep(0.02)
        # Gone by its name at once; the files take as long as they take.
        doomed = self._root / "trash" / f"{guid}.{os.urandom(4).hex()}"
        with contextlib.suppress(FileNotFoundError):
            doomed.parent.mkdir(mode=0o700, exist_ok=True)
            directory.rename(doomed)
            await asyncio.to_thread(spaces.remove, doomed)
        self._wanted.pop(guid, None)

    def _discard(self, directory: Path) -> None:
        if directory.exists():
            spaces.remove(directory)

    def reach(self, guid: str, endpoints: list[Endpoint]) -> None:
        """Of what was opened to a container when it was made, only what its services are at now stays open."""
        live = self._live.get(guid)
        if self._egress is not None and live is not None:
            self._egress.reach(guid, launch.opened(endpoints, live.container))

    def usage(self, guid: str) -> Usage | None:
        """The last measurement; taken every two seconds, of a disk that is counted by files every fifteen."""
        live = self._live.get(guid)
        if live is None or live.usage is None:
            return None
        return live.usage

    async def _measure(self) -> None:
        await asyncio.to_thread(self._empty_trash)
        turn = 0
        while True:
            lives = [live for live in self._live.values() if not live.gone.is_set() and live.descriptor >= 0]
            subjects = [(live.pid, live.group, live.space if live.is_disk_due(turn) else None) for live in lives]
            figures = await asyncio.to_thread(self._meter.take, subjects)
            for live, figure in zip(lives, figures, strict=True):
                if figure.disk is not None:
                    live.disk = figure.disk
                live.usage = Usage(
                    cpu_seconds=figure.cpu_seconds, memory=figure.memory, disk=live.disk, log_rate=live.limit.rate()
                )
                self._enforce(live)
            turn += 1
            await asyncio.sleep(_MEASURE_SECONDS)

    async def _tend(self) -> None:
        """What has time for a minute: certificates, and droplets that nobody uses any more."""
        while True:
            try:
                await self._renew()
            except OSError as error:
                _log.error("certificates of instances cannot be renewed (%s); tried again in a minute", error)
            try:
                await asyncio.to_thread(self._droplets.sweep, lambda: set(self._wanted.copy().values()))
            except OSError as error:
                _log.error("unpacked droplets cannot be removed (%s); tried again in a minute", error)
            await asyncio.sleep(_RENEW_SECONDS)

    async def _renew(self) -> None:
        """Replace certificates of instances before they end, and see to it that instances trust what is to be trusted."""
        await asyncio.to_thread(self._plan.trust.sync)
        for live in list(self._live.values()):
            if not live.gone.is_set() and self._plan.is_identity_due(live.directory):
                await asyncio.to_thread(self._plan.write_identity, live.entry, live.directory)

    def _enforce(self, live: _Live) -> None:
        assert live.usage is not None
        container = live.container
        accounted = live.group is not None and "memory" in live.group.directories
        if not accounted and 0 < container.memory_mb * _MIB < live.usage.memory:
            live.out_of_memory = True
            self._signal(live, signal.SIGINT)
        if live.space.kind == "polling" and 0 < container.disk_mb * _MIB < live.disk:
            live.out_of_disk = True
            self._signal(live, signal.SIGINT)

    def _empty_trash(self) -> None:
        trash = self._root / "trash"
        if trash.is_dir():
            for entry in trash.iterdir():
                spaces.remove(entry)

    async def close(self) -> None:
        """Let go of the containers; they keep running, and their ports stay theirs."""
        for task in (self._measuring, self._tending):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._plan.identities is not None:
            await asyncio.to_thread(self._plan.identities.close)
        loop = asyncio.get_running_loop()
        for live in self._live.values():
            if live.ending is not None:
                await live.ending
            live.leave()
            if live.descriptor >= 0:
                loop.remove_reader(live.descriptor)
                os.close(live.descriptor)
                live.descriptor = -1
        if self._egress is not None:
            self._egress.close()
        if self._forks is not None:
            await self._forks.close()
        self._ports.close()
        if self._cgroups is not None:
            self._cgroups.remove()


def _size(count: int) -> str:
    for unit in ("B", "K", "M"):
        if count < 1024:
            return f"{count:.0f}{unit}" if unit == "B" else f"{count:.1f}{unit}"
        count //= 1024
    return f"{count:.1f}G"
