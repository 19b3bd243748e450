"""The cell's side of staging: fills a container's files for the builder, and stores what the builder made.

`prepare` and `collect` block and use constant memory; the engine calls them in worker threads.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import stat
import sys
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cupola.blobs.archives import ArchiveError, unpack_zip
from cupola.blobs.store import LocalStore, NotFound, StoreError
from cupola.blobs.tars import unpack_tar
from cupola.config import Settings
from cupola.runtime.engine import EngineError, Exit, StagingFailure, StagingPlan
from cupola.runtime.local.fingerprint import stack_fingerprint
from cupola.runtime.messages import DesiredTask, StagingInput, StagingResult
from cupola.staging import inherit
from cupola.staging.packing import Leak, has_files, pack

__all__ = ["CellStager", "collect", "prepare"]

_HERE = Path(__file__).resolve().parent
_PROGRAM = (
    *(_HERE / "lifecycle" / f"{name}.py" for name in ("builder", "commands", "fetch", "launcher", "running")),
    _HERE.parent / "buildpacks" / "common" / "yaml_subset.py",
    _HERE.parent / "outbound.py",
)
"""The builder's files; in the container they lie in /tmp/lifecycle, where Cloud Foundry has its own."""
_MIB = 1024 * 1024
_MAX_JSON = 4 * _MIB
_GUARDED = 8
"""Shorter credentials would be found in any file: they are kept out of the log, and files are not searched for them."""
_ERRORS = {222: "NoAppDetectedError", 223: "BuildpackCompileFailed", 224: "BuildpackReleaseFailed"}
_SENTENCES = {
    "NoAppDetectedError": "No buildpack recognised the app: push the directory that holds it, or name a buildpack with -b",
    "BuildpackCompileFailed": "A buildpack failed to compile the app: the staging log says why",
    "BuildpackReleaseFailed": "A buildpack failed to say how the app is started: the staging log says why",
    "StagingError": "Staging failed: the staging log says why",
}


class CellStager:
    """Implements `cupola.runtime.engine.Stager` for one cell."""

    def __init__(self, settings: Settings, blobs: LocalStore) -> None:
        self._settings = settings
        self._blobs = blobs

    def prepare(self, task: DesiredTask, directory: Path) -> StagingPlan:
        """See `prepare`."""
        return prepare(task, directory, self._blobs, self._settings)

    def collect(self, task: DesiredTask, directory: Path, ended: Exit) -> StagingResult | StagingFailure:
        """See `collect`."""
        return collect(task, directory, self._blobs, ended, self._settings)


def prepare(task: DesiredTask, directory: Path, blobs: LocalStore, settings: Settings) -> StagingPlan:
    """Unpack package, buildpacks and cache below `directory`/tmp and write the builder's plan. Raises EngineError.

    `directory` holds what becomes the container's /home/vcap (as home/vcap) and /tmp (as tmp).
    """
    staging = task.staging
    if staging is None:
        raise EngineError(f"task {task.guid} is no staging")
    tmp = directory / "tmp"
    for made in (directory / "home" / "vcap", tmp / "lifecycle"):
        made.mkdir(parents=True, exist_ok=True)
    for path in _PROGRAM:
        shutil.copyfile(path, tmp / "lifecycle" / path.name)
    limit = max(task.disk_mb, 1) * _MIB
    lines = ["Downloading app package..."]
    _unpack(blobs, staging.package, tmp / "app", limit, "the app's package")
    lines.append(f"Downloaded app package ({_size(blobs.size(staging.package))})")
    lines += _unpack_cache(blobs, staging, tmp, limit)
    buildpacks = [_buildpack(blobs, given, tmp, limit, lines) for given in staging.buildpacks]
    given = inherit.inherit(settings, os.environ, Path.home())
    for name, content in given.files.items():
        path = tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    plan = {
        "buildpacks": buildpacks,
        "skip_detect": staging.skip_detect,
        "lines": [*lines, *given.notices, "Staging..."],
        "scrub": sorted(given.scrub),
        "environment": given.environment,
        "outbound": {"anywhere": staging.anywhere, "allow": [*settings.outbound.allow, *settings.staging.allow]},
    }
    (tmp / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    return _start(task, staging, given, settings)


def _start(task: DesiredTask, staging: StagingInput, given: inherit.Inherited, settings: Settings) -> StagingPlan:
    env = dict(task.env)
    env.setdefault("CF_STACK", staging.stack or "cflinuxfs4")
    pip = _pip()
    if pip is not None:
        env["CUPOLA_PIP"] = str(pip)
    python = os.environ.get("CUPOLA_PYTHON") or os.path.realpath(sys.executable)
    return StagingPlan(
        # Isolated: an app's PYTHONPATH or PYTHONHOME is for its buildpack, not for the builder.
        argv=[python, "-I", "-S", "-B", "@TMP@/lifecycle/builder.py", "plan.json"],
        env=env,
        read_only_mounts=[(path, str(path)) for path in (*given.mounts, *([pip] if pip is not None else []))],
        loopback=[*settings.staging.allow, *settings.outbound.allow, *_named_by_admin(staging)],
    )


def _named_by_admin(staging: StagingInput) -> list[str]:
    """`host:port` of the buildpacks' addresses, for an admin, who may name any."""
    parts = [urlsplit(one["url"]) for one in staging.buildpacks if staging.anywhere and one.get("url")]
    return [f"{one.hostname}:{one.port or (443 if one.scheme == 'https' else 80)}" for one in parts if one.hostname]


def collect(
    task: DesiredTask, directory: Path, blobs: LocalStore, ended: Exit, settings: Settings
) -> StagingResult | StagingFailure:
    """Store droplet and cache, or say why there are none. `ended` is how the builder ended."""
    tmp = directory / "tmp"
    if ended.status or ended.out_of_memory or ended.out_of_disk:
        return _failure(tmp, ended, task)
    scrub = inherit.inherit(settings, os.environ, Path.home()).scrub
    secrets = [secret for secret in scrub if len(secret) >= _GUARDED]
    limit = max(task.disk_mb, 1) * _MIB
    try:
        result = _object(tmp / "result.json")
        droplet = pack(blobs, tmp / "droplet", limit, secrets, compress=True)
    except Leak as leak:
        return StagingFailure("StagingError", str(leak))
    except (OSError, ValueError, StoreError, tarfile.TarError) as error:
        return StagingFailure("StagingError", f"The droplet cannot be stored: {error}")
    return StagingResult(
        droplet=droplet.digest,
        droplet_sha1=droplet.sha1,
        droplet_bytes=droplet.size,
        cache=_keep_cache(blobs, tmp / "cache", limit, secrets),
        result=result,
        stack_fingerprint=stack_fingerprint(),
    )


def _buildpack(blobs: LocalStore, given: dict[str, str], tmp: Path, limit: int, lines: list[str]) -> dict[str, str]:
    """The builder's entry for a buildpack; one that is not fetched by its address is unpacked."""
    entry = {name: given[name] for name in ("key", "name", "url") if given.get(name)}
    entry.setdefault("name", entry.get("url", entry.get("key", "")))
    entry.setdefault("key", entry["name"])
    if entry.get("url"):
        return entry
    place = f"buildpacks/{hashlib.md5(entry['key'].encode(), usedforsecurity=False).hexdigest()}"
    if not (tmp / place).exists():
        lines.append(f"Downloading {entry['name']}...")
        _unpack(blobs, given["digest"], tmp / place, limit, f"buildpack {entry['name']}")
        lines.append(f"Downloaded {entry['name']} ({_size(blobs.size(given['digest']))})")
    return entry | {"directory": place}


def _unpack(blobs: LocalStore, digest: str, into: Path, limit: int, what: str) -> None:
    try:
        if not blobs.exists(digest):
            raise NotFound(digest)
        unpack_zip(blobs.path(digest), into, max_bytes=limit)
    except (ArchiveError, StoreError, ValueError, OSError) as error:
        raise EngineError(f"cannot unpack {what}: {error}") from error


def _unpack_cache(blobs: LocalStore, staging: StagingInput, tmp: Path, limit: int) -> list[str]:
    """A cache that is missing or damaged costs time, not the build."""
    if not staging.cache:
        return []
    lines = ["Downloading build artifacts cache..."]
    try:
        unpack_tar(blobs.path(staging.cache), tmp / "cache", max_bytes=limit, outside_links=True)
        lines.append(f"Downloaded build artifacts cache ({_size(blobs.size(staging.cache))})")
    except (ArchiveError, StoreError, ValueError, OSError):
        lines.append("The build artifacts cache cannot be read; building without it")
    return lines


def _keep_cache(blobs: LocalStore, cache: Path, limit: int, secrets: list[str]) -> str:
    """The digest of the stored cache; empty when there is none, or none that may be kept."""
    if not has_files(cache):
        return ""
    with suppress(Leak, OSError, ValueError, StoreError, tarfile.TarError):
        return pack(blobs, cache, limit, secrets, compress=False).digest
    return ""


def _pip() -> Path | None:
    """The platform's own pip, for a base Python that has none; None when there is none either."""
    spec = importlib.util.find_spec("pip")
    return Path(spec.origin).resolve().parent if spec and spec.origin else None


def _failure(tmp: Path, ended: Exit, task: DesiredTask) -> StagingFailure:
    status = ended.status
    error_id = _ERRORS.get(status, "StagingError")
    reason = ""
    with suppress(OSError, ValueError):
        told = _object(tmp / "failure.json")
        if told.get("error_id") == error_id:
            reason = str(told.get("message", ""))[:2000]
    if ended.out_of_disk:
        reason = f"The build wrote more than its {task.disk_mb} MB of disk: push less, or raise staging.disk_mb"
    elif ended.out_of_memory:
        reason = (
            f"The build used more than its {task.memory_mb} MB of memory, and programs of it were ended: push with more "
            "memory (-m), or raise staging.memory_mb"
        )
    elif not reason and 128 < status <= 192 and error_id == "StagingError":
        reason = (
            f"Staging was ended by signal {status - 128}: push again, and see the cell's log if it happens once more"
        )
    return StagingFailure(error_id, reason or _SENTENCES[error_id])


def _object(path: Path) -> dict[str, Any]:
    """A JSON object that the builder wrote. Raises OSError, ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path.name} is no file")
        content = file.read(_MAX_JSON + 1)
    if len(content) > _MAX_JSON:
        raise ValueError(f"{path.name} is larger than {_MAX_JSON} bytes")
    found = json.loads(content.decode("utf-8", "replace"))
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is no object")  # noqa: TRY004 - wrong content, as the other cases
    return found


def _size(count: int) -> str:
    """As Cloud Foundry prints it: `1.2K`, `34M`."""
    for unit, factor in (("G", 1024**3), ("M", _MIB), ("K", 1024)):
        if count >= factor:
            return f"{count / factor:.1f}".removesuffix(".0") + unit
    return f"{count}B"
