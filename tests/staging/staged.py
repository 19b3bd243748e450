"""Stages a directory for real, without isolation: prepare, the builder in a process of its own, collect."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cupola import buildpacks
from cupola.blobs.archives import zip_directory
from cupola.blobs.store import LocalStore
from cupola.config import Settings
from cupola.runtime.engine import StagingFailure
from cupola.runtime.messages import DesiredTask, StagingInput, StagingResult
from cupola.staging.cell import collect, prepare

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


@dataclass
class Staged:
    status: int
    log: str
    result: StagingResult | StagingFailure
    blobs: LocalStore
    directory: Path

    @property
    def good(self) -> StagingResult:
        assert isinstance(self.result, StagingResult), f"{self.result}\n{self.log}"
        return self.result

    @property
    def bad(self) -> StagingFailure:
        assert isinstance(self.result, StagingFailure), self.log
        return self.result


def system(blobs: LocalStore) -> list[dict[str, str]]:
    """All system buildpacks, stored."""
    stored = []
    for name in buildpacks.SYSTEM:
        digest = blobs.put_stream([buildpacks.pack(name)]).digest
        stored.append({"key": f"{name}-key", "name": name, "digest": digest})
    return stored


def stage(
    source: Path,
    tmp_path: Path,
    *,
    chosen: list[dict[str, str]] | None = None,
    settings: Settings | None = None,
    cache: str = "",
    env: dict[str, str] | None = None,
) -> Staged:
    """Stage `source`; with `chosen` buildpacks detection is off."""
    settings = settings or Settings()
    blobs = LocalStore(tmp_path / "blobs")
    number = len(list(tmp_path.glob("staging*")))
    archive = tmp_path / f"package{number}.zip"
    zip_directory(source, archive)
    package = blobs.put_file(archive).digest
    task = DesiredTask(
        guid="staging", kind="staging", app_guid="app", memory_mb=1024, disk_mb=1024, env=env or {},
        staging=StagingInput(package=package, buildpacks=chosen or system(blobs), skip_detect=chosen is not None, cache=cache),
    )  # fmt: skip
    directory = tmp_path / f"staging{number}"
    plan = prepare(task, directory, blobs, settings)
    done = subprocess.run(
        plan.argv, check=False, capture_output=True, text=True, cwd=directory,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(directory / "home/vcap"), "LANG": "C.UTF-8",
            "CUPOLA_TMP_ROOT": str(directory / "tmp"), "CUPOLA_PYTHON": plan.argv[0], **plan.env,
        },
    )  # fmt: skip
    result = collect(task, directory, blobs, done.returncode, settings)
    return Staged(done.returncode, done.stdout + done.stderr, result, blobs, directory)
