"""Stages a directory for real, without isolation: prepare, the builder in a process of its own, collect."""

import io
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cupola import buildpacks
from cupola.blobs.archives import zip_directory
from cupola.blobs.store import LocalStore
from cupola.config import Settings
from cupola.runtime.engine import Exit, StagingFailure
from cupola.runtime.messages import DesiredTask, StagingInput, StagingResult
from cupola.staging.cell import collect, prepare

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
Buildpack = dict[str, str]


@dataclass
class Staged:
    """What came out: the builder's exit status, its log, the cell's result, and where it was made."""

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

    @property
    def droplet(self) -> Path:
        """The directory that became the droplet."""
        return self.directory / "tmp" / "droplet"


def system(blobs: LocalStore, *names: str) -> list[Buildpack]:
    """System buildpacks (all of them, when none is named), stored."""
    stored = []
    for name in names or buildpacks.SYSTEM:
        digest = blobs.put_stream([buildpacks.pack(name)]).digest
        stored.append({"key": f"{name}-key", "name": name, "digest": digest})
    return stored


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """A zip; files in `bin` may be executed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            mode = 0o755 if "bin" in name.split("/") else 0o644
            entry.external_attr = (0o100000 | mode) << 16
            made.writestr(entry, text)
    return buffer.getvalue()


def buildpack(blobs: LocalStore, name: str, scripts: Mapping[str, str]) -> Buildpack:
    """Store a buildpack whose bin/<script> are written in sh."""
    made = archive({f"bin/{script}": f"#!/bin/sh\nset -e\n{text}\n" for script, text in scripts.items()})
    return {"key": f"{name}-key", "name": name, "digest": blobs.put_stream([made]).digest}


def write(directory: Path, files: Mapping[str, str]) -> Path:
    """Make an app's directory."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def stage(
    source: Path,
    tmp_path: Path,
    *,
    chosen: list[Buildpack] | None = None,
    detectable: list[Buildpack] | None = None,
    settings: Settings | None = None,
    cache: str = "",
    env: dict[str, str] | None = None,
    disk_mb: int = 1024,
    anywhere: bool = False,
) -> Staged:
    """Stage `source`; with `chosen` buildpacks detection is off."""
    settings = settings or Settings()
    blobs = LocalStore(tmp_path / "blobs")
    number = len(list(tmp_path.glob("staging*")))
    package = tmp_path / f"package{number}.zip"
    zip_directory(source, package)
    given = chosen if chosen is not None else detectable if detectable is not None else system(blobs)
    staging = StagingInput(
        package=blobs.put_file(package).digest, buildpacks=given, skip_detect=chosen is not None, cache=cache,
        anywhere=anywhere,
    )  # fmt: skip
    task = DesiredTask(
        guid="staging", kind="staging", app_guid="app", memory_mb=1024, disk_mb=disk_mb, env=env or {}, staging=staging
    )
    directory = tmp_path / f"staging{number}"
    plan = prepare(task, directory, blobs, settings)
    tmp = directory / "tmp"
    python = plan.argv[0]
    done = subprocess.run(
        [part.replace("@TMP@", str(tmp)) for part in plan.argv], check=False, capture_output=True, text=True, cwd=directory,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(directory / "home/vcap"), "LANG": "C.UTF-8", **plan.env,
            "CUPOLA_TMP_ROOT": str(tmp), "CUPOLA_PYTHON": python,
        },
    )  # fmt: skip
    result = collect(task, directory, blobs, Exit(statuses=[("STG", done.returncode)]), settings)
    return Staged(done.returncode, done.stdout + done.stderr, result, blobs, directory)
