"""The staging part of a second push of two samples: `python -m benchmarks.staging [rounds]`.

Stagings run through the native engine in the strongest isolation mode of this machine, with the cache of a first
staging: from the request to the stored droplet. Beside each staging of the Python sample, in the same round, pip
installs the same requirements into a fresh virtual environment, with a warm cache of its own; making the environment is
not counted. Goals: the Python sample at most 3 s more than pip; the static sample under 3 s.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Literal

from cupola import buildpacks, clock, guid
from cupola.blobs.archives import zip_directory
from cupola.blobs.store import LocalStore
from cupola.config import Settings
from cupola.runtime.engine import Container, Exit, Program
from cupola.runtime.local import probe
from cupola.runtime.local.engine import LocalEngine
from cupola.runtime.messages import DesiredTask, StagingInput, StagingResult
from cupola.staging.cell import CellStager

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
ROUNDS = 5


class Watcher:
    """Waits for the end of one staging and keeps its log."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.exit: Exit | None = None
        self.lines: list[bytes] = []

    def exited(self, container: Container, exit: Exit) -> None:
        self.exit = exit
        self.ended.set()

    def output(self, container: Container, source: str, stream: Literal["OUT", "ERR"], lines: list[bytes]) -> None:
        self.lines += lines


class Bench:
    """An open engine, its blob store and the system buildpacks in it."""

    def __init__(self, engine: LocalEngine, watcher: Watcher, blobs: LocalStore) -> None:
        self.engine, self.watcher, self.blobs = engine, watcher, blobs
        self.recipe = [
            {"key": name, "name": name, "digest": blobs.put_stream([buildpacks.pack(name)]).digest}
            for name in buildpacks.SYSTEM
        ]

    async def stage(self, package: str, cache: str) -> tuple[float, StagingResult]:
        """Seconds from the request to the stored droplet, and the result. Raises RuntimeError with the log."""
        staging = StagingInput(package=package, buildpacks=self.recipe, skip_detect=False, cache=cache)
        task = DesiredTask(
            guid=guid.new(), kind="staging", app_guid="a", memory_mb=1024, disk_mb=2048, env={}, staging=staging
        )
        container = Container(
            guid=task.guid, kind="staging", owner=task.guid, app_guid="a", memory_mb=1024, disk_mb=2048, env={}, task=task,
            programs=[Program(name="", command="", source="STG")], created=clock.micros(),
        )  # fmt: skip
        self.watcher.ended.clear()
        self.watcher.lines.clear()
        began = time.perf_counter()
        await self.engine.create(container, lambda _: None)
        await self.watcher.ended.wait()
        took = time.perf_counter() - began
        await self.engine.destroy(container.guid)
        if self.watcher.exit is None or self.watcher.exit.staging is None:
            raise RuntimeError(b"\n".join(self.watcher.lines).decode(errors="replace"))
        return took, self.watcher.exit.staging

    def package(self, sample: str, scratch: Path) -> str:
        zip_directory(SAMPLES / sample, scratch / f"{sample}.zip")
        return self.blobs.put_file(scratch / f"{sample}.zip").digest


def pip_install(scratch: Path, number: int) -> float:
    """Seconds for pip to install the Python sample's requirements into a fresh environment."""
    target = scratch / f"venv{number}"
    venv.create(target, with_pip=True)
    env = {**os.environ, "PIP_CACHE_DIR": str(scratch / "pip-cache"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [str(target / "bin/python"), "-m", "pip", "install", "-q", "-r", str(SAMPLES / "python/requirements.txt")]
    began = time.perf_counter()
    subprocess.run(command, check=True, env=env)
    return time.perf_counter() - began


async def measure(scratch: Path, rounds: int) -> tuple[str, dict[str, list[float]]]:
    """The isolation mode, and seconds by what was measured."""
    settings = Settings(data_dir=scratch / "data")
    choice = probe.choose("auto", settings.data_dir)
    blobs = LocalStore(settings.data_dir / "blobs")
    watcher = Watcher()
    engine = LocalEngine(settings, choice, stager=CellStager(settings, blobs))
    await engine.open(watcher)
    figures: dict[str, list[float]] = {"static": [], "python": [], "pip": []}
    try:
        bench = Bench(engine, watcher, blobs)
        packages = {sample: bench.package(sample, scratch) for sample in ("static", "python")}
        caches = {sample: (await bench.stage(package, ""))[1].cache for sample, package in packages.items()}
        await asyncio.to_thread(pip_install, scratch, -1)
        for number in range(rounds):
            for sample, package in packages.items():
                figures[sample].append((await bench.stage(package, caches[sample]))[0])
            figures["pip"].append(await asyncio.to_thread(pip_install, scratch, number))
    finally:
        await engine.close()
    return choice.mode, figures


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as directory:
        mode, figures = asyncio.run(measure(Path(directory), rounds))
    static, python, pip = (statistics.median(figures[name]) for name in ("static", "python", "pip"))
    print(f"Second push, staging part; isolation mode {mode}, median [min] of {rounds} rounds\n")
    print("| what | seconds | goal | |")
    print("|---|---|---|---|")
    print(f"| static sample staged | {static:.2f} [{min(figures['static']):.2f}] | under 3 | {_met(static < 3)} |")
    print(f"| pip install into a fresh environment | {pip:.2f} [{min(figures['pip']):.2f}] | | |")
    print(
        f"| python sample staged | {python:.2f} [{min(figures['python']):.2f}] | pip + 3 = {pip + 3:.2f} | "
        f"{_met(python <= pip + 3)}: {python - pip:+.2f} s, ratio {python / pip:.2f} |"
    )


def _met(good: bool) -> str:
    return "met" if good else "MISSED"


if __name__ == "__main__":
    main()
