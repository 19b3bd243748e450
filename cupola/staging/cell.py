"""The cell's side of staging: fills a container's files for the builder, and packs what the builder made.

`prepare` and `collect` block and use constant memory; the engine calls them in worker threads. What the builder made was
under the control of the app's code, so `collect` follows no symbolic link in it and believes no size.
"""

import gzip
import hashlib
import importlib.util
import json
import os
import platform
import stat
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from cupola.blobs.archives import ArchiveError, unpack_zip
from cupola.blobs.store import Blob, LocalStore, NotFound, StoreError, Writer
from cupola.blobs.tars import unpack_tar
from cupola.config import Settings
from cupola.runtime.engine import EngineError, StagingFailure, StagingPlan
from cupola.runtime.messages import DesiredTask, StagingInput, StagingResult
from cupola.staging import inherit

__all__ = ["CellStager", "collect", "prepare", "stack_fingerprint"]

_LIFECYCLE = Path(__file__).resolve().parent / "lifecycle"
_MIB = 1024 * 1024
_MAX_JSON = 4 * _MIB
_CHUNK = 1024 * 1024
_ERRORS = {222: "NoAppDetectedError", 223: "BuildpackCompileFailed", 224: "BuildpackReleaseFailed"}
_SENTENCES = {
    "NoAppDetectedError": "No buildpack recognised the app: push the directory that holds it, or name a buildpack with -b",
    "BuildpackCompileFailed": "A buildpack failed to compile the app: the staging log says why",
    "BuildpackReleaseFailed": "A buildpack failed to say how the app is started: the staging log says why",
    "StagingError": "Staging failed: the staging log says why",
}


class _Leak(Exception):
    """A credential of the host is in what would be stored; the text names the file."""


class CellStager:
    """Implements `cupola.runtime.engine.Stager` for one cell."""

    def __init__(self, settings: Settings, blobs: LocalStore) -> None:
        self._settings = settings
        self._blobs = blobs

    def prepare(self, task: DesiredTask, directory: Path) -> StagingPlan:
        """See `prepare`."""
        return prepare(task, directory, self._blobs, self._settings)

    def collect(self, task: DesiredTask, directory: Path, exit_status: int) -> StagingResult | StagingFailure:
        """See `collect`."""
        return collect(task, directory, self._blobs, exit_status, self._settings)


def prepare(task: DesiredTask, directory: Path, blobs: LocalStore, settings: Settings) -> StagingPlan:
    """Unpack package, buildpacks and cache below `directory`/tmp and write the builder's plan. Raises EngineError.

    `directory` holds what becomes the container's /home/vcap (as home/vcap) and /tmp (as tmp).
    """
    staging = task.staging
    if staging is None:
        raise EngineError(f"task {task.guid} is no staging")
    tmp = directory / "tmp"
    for made in (directory / "home" / "vcap", tmp):
        made.mkdir(parents=True, exist_ok=True)
    limit = max(task.disk_mb, 1) * _MIB
    lines = ["Downloading app package..."]
    _unpack(blobs, staging.package, tmp / "app", limit, "the app's package")
    lines.append(f"Downloaded app package ({_size(blobs.size(staging.package))})")
    lines += _unpack_cache(blobs, staging, tmp, limit)
    buildpacks = []
    for buildpack in staging.buildpacks:
        entry = {name: buildpack[name] for name in ("key", "name", "url") if buildpack.get(name)}
        entry.setdefault("name", entry.get("url", entry.get("key", "")))
        entry.setdefault("key", entry["name"])
        if not entry.get("url"):
            place = f"buildpacks/{hashlib.md5(entry['key'].encode(), usedforsecurity=False).hexdigest()}"
            if not (tmp / place).exists():
                (tmp / "buildpacks").mkdir(exist_ok=True)
                lines.append(f"Downloading {entry['name']}...")
                _unpack(blobs, buildpack["digest"], tmp / place, limit, f"buildpack {entry['name']}")
                lines.append(f"Downloaded {entry['name']}")
            entry["directory"] = place
        buildpacks.append(entry)
    given = inherit.inherit(settings, os.environ, Path.home())
    for name, content in given.files.items():
        path = tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    pip = _pip()
    plan = {
        "buildpacks": buildpacks,
        "skip_detect": staging.skip_detect,
        "lines": [*lines, *given.notices, "Staging..."],
        "scrub": sorted(given.scrub),
        "environment": given.environment,
    }
    (tmp / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    env = dict(task.env)
    env.setdefault("CF_STACK", staging.stack or "cflinuxfs4")
    mounts = [(path, str(path)) for path in [*given.mounts, *pip]]
    if pip:
        env["CUPOLA_PIP"] = str(pip[0])
    python = os.environ.get("CUPOLA_PYTHON") or os.path.realpath(sys.executable)
    return StagingPlan(
        argv=[python, "-S", str(_LIFECYCLE / "builder.py"), "plan.json"],
        env=env,
        read_only_mounts=[(_LIFECYCLE, str(_LIFECYCLE)), *mounts],
        network=True,
    )


def collect(
    task: DesiredTask, directory: Path, blobs: LocalStore, exit_status: int, settings: Settings | None = None
) -> StagingResult | StagingFailure:
    """Store droplet and cache, or say why there are none. `exit_status` is the builder's, as a shell gives it."""
    tmp = directory / "tmp"
    if exit_status:
        return _failure(tmp, exit_status, task)
    secrets: set[str] = inherit.inherit(settings, os.environ, Path.home()).scrub if settings else set()
    limit = max(task.disk_mb, 1) * _MIB
    try:
        result = json.loads(_read(tmp / "result.json"))
        if not isinstance(result, dict):
            raise ValueError("result.json is no object")
        droplet = _pack(blobs, tmp, "droplet", limit, secrets, compress=True)
        cache = _pack(blobs, tmp, "cache", limit, secrets, compress=False) if _has_files(tmp / "cache") else None
    except _Leak as leak:
        return StagingFailure("StagingError", str(leak))
    except (OSError, ValueError, StoreError, tarfile.TarError) as error:
        return StagingFailure("StagingError", f"The droplet cannot be stored: {error}")
    return StagingResult(
        droplet=droplet.digest,
        droplet_sha1=droplet.sha1,
        droplet_bytes=droplet.size,
        cache=cache.digest if cache else "",
        result=result,
        stack_fingerprint=stack_fingerprint(),
    )


def stack_fingerprint() -> str:
    """What a droplet's binaries depend on: machine, libc and Python, such as `x86_64 glibc2.36 python3.11`."""
    libc = "".join(platform.libc_ver()) or "libc"
    return f"{platform.machine()} {libc} python{sys.version_info[0]}.{sys.version_info[1]}"


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


def _pip() -> list[Path]:
    """The platform's own pip, for a base Python that has none; empty when there is none either."""
    spec = importlib.util.find_spec("pip")
    return [Path(spec.origin).resolve().parent] if spec and spec.origin else []


def _failure(tmp: Path, status: int, task: DesiredTask) -> StagingFailure:
    error_id = _ERRORS.get(status, "StagingError")
    reason = ""
    with suppress(OSError, ValueError):
        told = json.loads(_read(tmp / "failure.json"))
        if isinstance(told, dict) and told.get("error_id") == error_id:
            reason = str(told.get("message", ""))[:2000]
    if not reason and status == 137:
        reason = (
            f"Staging was killed: it took more than {task.memory_mb} MB of memory or too much time. "
            "Push with more memory (-m), or raise staging.memory_mb or staging.timeout_seconds"
        )
    elif not reason and status > 128 and error_id == "StagingError":
        reason = f"Staging was ended by signal {status - 128}: push again, and see the cell's log if it happens once more"
    return StagingFailure(error_id, reason or _SENTENCES[error_id])


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path.name} is no file")
        content = file.read(_MAX_JSON + 1)
    if len(content) > _MAX_JSON:
        raise ValueError(f"{path.name} is larger than {_MAX_JSON} bytes")
    return content.decode("utf-8", "replace")


def _has_files(directory: Path) -> bool:
    try:
        return any(files for _path, _names, files, _fd in os.fwalk(directory, follow_symlinks=False))
    except OSError:
        return False


def _pack(blobs: LocalStore, tmp: Path, name: str, limit: int, secrets: set[str], *, compress: bool) -> Blob:
    """Store `tmp`/`name` as a tar, the same bytes for the same tree: sorted, without owners and without fractions of seconds."""
    writer = blobs.writer()
    try:
        with _compressor(writer, compress) as sink, tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            _add_directory(tar, tmp, name, limit, [secret.encode() for secret in secrets])
        return writer.finish()
    except BaseException:
        writer.abort()
        raise


@contextmanager
def _compressor(writer: Writer, compress: bool) -> Iterator[Any]:
    if not compress:
        yield writer
        return
    # Level 1: staging time counts more than the disk of this machine.
    with gzip.GzipFile(filename="", fileobj=writer, mode="wb", compresslevel=1, mtime=0) as stream:  # type: ignore[arg-type]  # only write() is used
        yield stream


def _add_directory(tar: tarfile.TarFile, tmp: Path, name: str, limit: int, secrets: list[bytes]) -> None:
    base = os.open(tmp, os.O_RDONLY | os.O_DIRECTORY)
    links: dict[tuple[int, int], str] = {}
    left = limit
    try:
        root = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=base)
        os.close(root)
        for directory, names, files, descriptor in os.fwalk(name, follow_symlinks=False, dir_fd=base):
            names.sort()
            inside = "./" + os.path.relpath(directory, name) if directory != name else "."
            tar.addfile(_member(inside, os.fstat(descriptor)))
            for entry in sorted([*files, *(n for n in names if _is_link(n, descriptor))]):
                left -= _add_entry(tar, f"{inside}/{entry}", entry, descriptor, links, left, secrets)
    finally:
        os.close(base)


def _is_link(name: str, descriptor: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode)


def _add_entry(
    tar: tarfile.TarFile,
    inside: str,
    name: str,
    descriptor: int,
    links: dict[tuple[int, int], str],
    left: int,
    secrets: list[bytes],
) -> int:
    """Add a file or link; returns its bytes. Sockets, pipes and devices are left out."""
    found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        member = _member(inside, found)
        member.linkname = os.readlink(name, dir_fd=descriptor)
        tar.addfile(member)
        return 0
    if not stat.S_ISREG(found.st_mode):
        return 0
    identity = (found.st_dev, found.st_ino)
    if found.st_nlink > 1 and identity in links:
        member = _member(inside, found)
        member.type, member.linkname, member.size = tarfile.LNKTYPE, links[identity], 0
        tar.addfile(member)
        return 0
    links[identity] = inside
    if found.st_size > left:
        raise ValueError("it is larger than the disk limit of the build: push with more disk (-k)")
    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor)
    with open(opened, "rb") as file:
        member = _member(inside, os.fstat(opened))
        tar.addfile(member, _Guard(file, inside, secrets) if secrets else file)
    return member.size


def _member(inside: str, found: os.stat_result) -> tarfile.TarInfo:
    member = tarfile.TarInfo(inside)
    member.mode = stat.S_IMODE(found.st_mode) & 0o777
    member.mtime = int(found.st_mtime)
    if stat.S_ISDIR(found.st_mode):
        member.type = tarfile.DIRTYPE
        # Times of directories are those of the build, so they would differ each time.
        member.mtime = 0
    elif stat.S_ISLNK(found.st_mode):
        member.type, member.mtime = tarfile.SYMTYPE, 0
    else:
        member.size = found.st_size
    return member


class _Guard:
    """Reads a file and refuses it when it contains one of `secrets`."""

    def __init__(self, file: IO[bytes], name: str, secrets: list[bytes]) -> None:
        self._file = file
        self._name = name
        self._secrets = secrets
        self._keep = max(len(secret) for secret in secrets) - 1
        self._tail = b""

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        window = self._tail + chunk
        if any(secret in window for secret in self._secrets):
            raise _Leak(
                f"{self._name.removeprefix('./')} contains a credential of the platform's own package access: "
                "make the build not write it, or turn staging.inherit off"
            )
        self._tail = window[-self._keep :] if self._keep else b""
        return chunk


def _size(count: int) -> str:
    """As Cloud Foundry prints it: `1.2K`, `34M`."""
    for unit, factor in (("G", 1024**3), ("M", _MIB), ("K", 1024)):
        if count >= factor:
            return f"{count / factor:.1f}".removesuffix(".0") + unit
    return f"{count}B"
