"""Resource matching: files of earlier packages, kept by SHA-1, so that a client need not upload them again.

    ArchiveError
    `- ResourceError    a resource of an upload is malformed, or gone from the pool; names its path

The pool is a cache: files come from packages that were uploaded, the least recently used go when it is full, and
what went is simply not matched. SHA-1 is what clients send; a file is checked against it again when it is used.
These functions compute and block: call them in a worker process or a thread.
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from cupola import clock
from cupola.blobs.archives import ArchiveError, Matched, chunks_of, merge_zip, opened_zip, reading_entry, verify_zip
from cupola.blobs.store import Blob, Store, StoreError, TooLarge
from cupola.config import Blobs

__all__ = ["ResourceError", "ResourcePool", "build_package"]

_SHA1 = re.compile(r"[0-9a-f]{40}", re.ASCII)
_MODE = re.compile(r"[0-7]{1,6}", re.ASCII)
_DEFAULT_MODE = 0o744
"""Of a matched file that names none, as in Cloud Foundry."""
_GRACE = 600.0
"""Seconds for which a file that was matched is kept, so that the upload which relies on it finds it."""
_ABANDONED = 86_400.0


class ResourceError(ArchiveError):
    """A resource that the client named cannot be used; the text names its path."""


class ResourcePool:
    """Files by SHA-1 below `root`. Several processes may use one pool; may be passed to a worker process.

    Files under `min_bytes` are neither kept nor matched. Beyond `max_bytes` the least recently used go; twice that is
    never exceeded for longer than one package.
    """

    def __init__(self, root: Path, *, min_bytes: int = 1, max_bytes: int = 2 * 1024**3) -> None:
        self.root = root
        self.min_bytes = max(min_bytes, 1)
        self.max_bytes = max_bytes
        self._temporary = root / "tmp"
        self._temporary.mkdir(mode=0o700, parents=True, exist_ok=True)

    def match(self, resources: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Those of the (sha1, size in bytes) that need not be uploaded, in order; they are then kept a while."""
        found = []
        for sha1, size in resources:
            if not _SHA1.fullmatch(sha1) or size < self.min_bytes:
                continue
            path = self._path(sha1)
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size == size:
                    os.utime(path)
                    found.append((sha1, size))
        return found

    def fetch(self, sha1: str) -> Path:
        """The file of a SHA-1, not to be written to. Raises ResourceError when the pool has it no more."""
        if not _SHA1.fullmatch(sha1) or not self._path(sha1).is_file():
            raise ResourceError(f"Resource {sha1!r} is not in the cache any more: push again")
        return self._path(sha1)

    def add_from_zip(self, path: Path) -> int:
        """Keep the files of a package; returns how many are new.

        Every entry is read and its checksum compared. Raises ArchiveError, OSError.
        """
        added = 0
        with opened_zip(path) as (archive, pairs):
            for info, entry in pairs:
                with reading_entry(entry.name), archive.open(info) as source:
                    if entry.kind == "file" and self.min_bytes <= entry.size <= self.max_bytes // 4:
                        added += self._add(source)
                    else:
                        for _chunk in chunks_of(source):
                            pass
        if added:
            self.evict()
        return added

    def evict(self) -> int:
        """Delete the least recently used files until the pool is within its bound; returns how many went."""
        files = sorted(self._files())
        total = sum(size for _used, size, _path in files)
        now = clock.seconds()
        gone = 0
        for used, size, path in files:
            if total <= self.max_bytes or (now - used < _GRACE and total <= 2 * self.max_bytes):
                break
            path.unlink(missing_ok=True)
            total -= size
            gone += 1
        self._remove_abandoned(now)
        return gone

    @contextlib.contextmanager
    def borrowed(self, resources: Sequence[Mapping[str, Any]]) -> Iterator[list[Matched]]:
        """The files of API resources, checked, under names that stay although the pool may drop them meanwhile.

        Raises ResourceError.
        """
        with tempfile.TemporaryDirectory(dir=self._temporary) as directory:
            matched = []
            links: dict[str, Path] = {}
            for resource in resources:
                sha1, size, path, mode = _fields(resource)
                if sha1 not in links:
                    links[sha1] = self._borrow(sha1, Path(directory), path)
                if links[sha1].stat().st_size != size:
                    raise ResourceError(f"Resource {path!r} has not the size {size}: push again")
                matched.append(Matched(path, links[sha1], mode))
            yield matched

    def temporary_file(self) -> Path:
        """A new file in the pool's file system; the caller deletes it."""
        descriptor, name = tempfile.mkstemp(dir=self._temporary)
        os.close(descriptor)
        return Path(name)

    def _borrow(self, sha1: str, directory: Path, path: str) -> Path:
        source = self._path(sha1)
        link = directory / sha1
        try:
            os.link(source, link)
        except FileNotFoundError:
            raise ResourceError(f"Resource {path!r} is not in the cache any more: push again") from None
        with link.open("rb") as file:
            if hashlib.file_digest(file, _sha1).hexdigest() != sha1:
                source.unlink(missing_ok=True)
                raise ResourceError(f"Resource {path!r} is damaged in the cache and was removed: push again")
        os.utime(link)
        return link

    def _add(self, source: IO[bytes]) -> int:
        descriptor, name = tempfile.mkstemp(dir=self._temporary)
        temporary = Path(name)
        try:
            digest = _sha1()
            with os.fdopen(descriptor, "wb") as file:
                for chunk in chunks_of(source):
                    digest.update(chunk)
                    file.write(chunk)
            final = self._path(digest.hexdigest())
            if final.exists():
                os.utime(final)
                return 0
            final.parent.mkdir(mode=0o700, exist_ok=True)
            temporary.replace(final)
            return 1
        finally:
            temporary.unlink(missing_ok=True)

    def _path(self, sha1: str) -> Path:
        return self.root / sha1[:2] / sha1

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        for directory in self.root.glob("[0-9a-f][0-9a-f]"):
            with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        # What it takes on the disk, so that many small files are bounded too.
                        yield status.st_mtime, max(status.st_size, status.st_blocks * 512), Path(entry.path)

    def _remove_abandoned(self, now: float) -> None:
        # What a killed process left; a build that still runs is not a day old.
        for path in self._temporary.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if now - path.stat().st_mtime > _ABANDONED:
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink()


def build_package(
    upload: Path | None, resources: Sequence[Mapping[str, Any]], pool: ResourcePool, store: Store, limits: Blobs
) -> Blob:
    """Make a package of the uploaded zip and the resources that the pool has, and keep the new files in the pool.

    `resources` are the API's: `{"checksum": {"value": sha1}, "size_in_bytes": n, "path": p, "mode": "644"}`, or in the
    old form `{"sha1", "size", "fn", "mode"}`. `upload` is gone after success. Raises ArchiveError (also ResourceError),
    TooLarge, NoSpace, OSError; ValueError when there is neither an upload nor a resource.
    """
    if upload is None and not resources:
        raise ValueError("a package needs an upload or resources")
    if upload is not None and upload.stat().st_size > limits.max_package_bytes:
        raise TooLarge(limits.max_package_bytes)
    if not resources and upload is not None:
        _keep(pool, upload)
        return store.put_file(upload, move=True, max_bytes=limits.max_package_bytes)
    if upload is not None:
        _keep(pool, upload)
    out = pool.temporary_file()
    try:
        with pool.borrowed(resources) as matched:
            merge_zip(upload, matched, out)
        blob = store.put_file(out, move=True, max_bytes=limits.max_package_bytes)
    finally:
        out.unlink(missing_ok=True)
    if upload is not None:
        upload.unlink(missing_ok=True)
    return blob


def _keep(pool: ResourcePool, upload: Path) -> None:
    try:
        pool.add_from_zip(upload)
    except (OSError, StoreError):
        # The pool is only a cache, so a full disk is for the package itself to report; the checks are still owed.
        verify_zip(upload)


def _fields(resource: Mapping[str, Any]) -> tuple[str, int, str, int]:
    checksum = resource.get("checksum")
    sha1 = checksum.get("value") if isinstance(checksum, Mapping) else resource.get("sha1")
    size = resource.get("size_in_bytes", resource.get("size"))
    path = resource.get("path", resource.get("fn"))
    if not isinstance(path, str) or not path:
        raise ResourceError("A resource has no path")
    if not isinstance(sha1, str) or not _SHA1.fullmatch(sha1) or not isinstance(size, int):
        raise ResourceError(f"Resource {path!r} has no SHA-1 checksum or no size")
    return sha1, size, path, _mode(resource.get("mode"), path)


def _mode(text: object, path: str) -> int:
    if text is None:
        return _DEFAULT_MODE
    if not isinstance(text, str) or not _MODE.fullmatch(text) or int(text, 8) & 0o600 != 0o600:
        raise ResourceError(
            f"Resource {path!r} has the mode {text!r}: it must be octal and let its owner read and write"
        )
    return int(text, 8) & 0o777


def _sha1() -> "hashlib._Hash":
    return hashlib.sha1(usedforsecurity=False)
