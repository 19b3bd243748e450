"""Start of instances against a bare fork and exec, and how fast many start: `python -m benchmarks.instances`.

Both are measured in one run, alternating, with the same program (`/bin/true` by way of a launcher written in sh, so that
the time of CF's launcher and of the app itself does not count). Time runs from the request to the instance's end being
known. Goals: at most 10 ms more than the bare fork and exec; 200 instances in 3 s.
"""

import asyncio
import io
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cupola import clock, guid
from cupola.blobs.store import LocalStore
from cupola.config import Settings
from cupola.runtime.engine import Container, EngineError, Exit, Program
from cupola.runtime.local import key_stock, probe
from cupola.runtime.local.engine import LocalEngine

ROUNDS = 40
MANY = 200


class Watcher:
    """Knows which containers have written their line and which have ended."""

    def __init__(self) -> None:
        self.ended: dict[str, asyncio.Event] = {}
        self.spoke: dict[str, asyncio.Event] = {}

    def expect(self, key: str) -> None:
        self.ended[key], self.spoke[key] = asyncio.Event(), asyncio.Event()

    def exited(self, container: Container, exit: Exit) -> None:
        self.ended[container.guid].set()

    def output(self, container: Container, source: str, stream: str, lines: list[bytes]) -> None:
        self.spoke[container.guid].set()


def make_droplet(settings: Settings) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for number in range(100):
            member = tarfile.TarInfo(f"./app/file-{number}")
            member.size = 4096
            tar.addfile(member, io.BytesIO(b"x" * 4096))
    return LocalStore(settings.data_dir / "blobs").put_stream([buffer.getvalue()]).digest


def make_container(droplet: str, command: str) -> Container:
    return Container(
        guid=guid.new(), kind="process", owner="p", app_guid="a", memory_mb=64, disk_mb=64, droplet=droplet, env={},
        programs=[Program(name="", command=command, source="APP/PROC/WEB")], ports=[8080], created=clock.micros(),
    )  # fmt: skip


def bare() -> float:
    """Milliseconds from fork to the first line of the same shell, without any engine."""
    start = time.perf_counter()
    process = subprocess.Popen(["/bin/sh", "-c", "echo up"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    took = (time.perf_counter() - start) * 1000
    process.communicate()
    return took


async def one(engine: LocalEngine, watcher: Watcher, droplet: str) -> float:
    """Milliseconds from the request to the first line."""
    container = make_container(droplet, "echo up")
    watcher.expect(container.guid)
    start = time.perf_counter()
    await engine.create(container, lambda _: None)
    await watcher.spoke[container.guid].wait()
    took = (time.perf_counter() - start) * 1000
    await watcher.ended[container.guid].wait()
    await engine.destroy(container.guid)
    return took


async def many(engine: LocalEngine, watcher: Watcher, droplet: str) -> float:
    """Seconds until all of MANY instances have written their first line."""
    containers = [make_container(droplet, "echo up; exec sleep 1000") for _ in range(MANY)]
    gate = asyncio.Semaphore(16)

    async def begin(container: Container) -> None:
        async with gate:
            await engine.create(container, lambda _: None)
        await watcher.spoke[container.guid].wait()

    for container in containers:
        watcher.expect(container.guid)
    start = time.perf_counter()
    await asyncio.gather(*(begin(container) for container in containers))
    took = time.perf_counter() - start
    await asyncio.gather(*(engine.stop(container.guid, 0) for container in containers))
    await asyncio.gather(*(engine.destroy(container.guid) for container in containers))
    return took


async def measure(mode: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(data_dir=Path(directory) / "data")
        launcher = Path(directory) / "lifecycle" / "launcher.py"
        launcher.parent.mkdir()
        launcher.write_text("")
        try:
            choice = probe.choose(mode, settings.data_dir)
        except EngineError as error:
            print(f"| {mode} | not available here: {str(error)[:80]} |")
            return
        engine = LocalEngine(
            settings,
            choice,
            launcher=launcher,
        )
        # The shell itself, so that the interpreter of the real launcher is not what is measured.
        engine._plan._command = _shell(engine._plan._command)  # type: ignore[method-assign]  # a benchmark may
        watcher = Watcher()
        await engine.open(watcher)
        await stocked(engine)
        droplet = make_droplet(settings)
        await one_warm(engine, watcher, droplet)
        plain, made = [], []
        for _ in range(ROUNDS):
            plain.append(bare())
            made.append(await one(engine, watcher, droplet))
        await stocked(engine)
        total = await many(engine, watcher, droplet)
        added = statistics.median(made) - statistics.median(plain)
        print(
            f"| {mode} | {statistics.median(plain):.1f} | {statistics.median(made):.1f} [{min(made):.1f}] | {added:.1f} |"
            f" {total:.2f} | {'yes' if added <= 10 else 'no'}, {'yes' if total <= 3 else 'no'} |"
        )
        await engine.close()


async def stocked(engine: LocalEngine) -> None:
    """Wait until keys for instances are there, as they are a few minutes after a first start."""
    identities, pause = engine._plan.identities, key_stock._PAUSE_SECONDS
    key_stock._PAUSE_SECONDS = 0.0
    while identities is not None and len(identities._keys) < MANY:  # noqa: ASYNC110  # a thread fills it
        await asyncio.sleep(0.1)
    key_stock._PAUSE_SECONDS = pause


async def one_warm(engine: LocalEngine, watcher: Watcher, droplet: str) -> None:
    for _ in range(3):
        await one(engine, watcher, droplet)


def _shell(command: Callable[..., Any]) -> Callable[..., Any]:
    """The engine's own way to build a command, with the program's command line alone."""

    def wrapped(entry: Any, program: Any, files: Any, plan: Any) -> Any:
        _argv, env = command(entry, program, files, plan)
        return ["/bin/sh", "-c", program.command], env

    return wrapped


def main() -> None:
    """Print the table."""
    print("| mode | bare fork+exec, ms | instance, ms [min] | added, ms | 200 instances, s | goals met (10 ms, 3 s) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for mode in sys.argv[1:] or ["root", "rootless", "process", "none"]:
        asyncio.run(measure(mode))


if __name__ == "__main__":
    main()
