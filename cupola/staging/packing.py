"""Packs a directory that an app's build made into the blob store as a tar.

The build had the directory under its control, so no symbolic link in it is followed and no size believed. The same tree
gives the same bytes: entries are sorted, without owners, without fractions of seconds.
"""

import gzip
import os
import stat
import tarfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from cupola.blobs.store import Blob, LocalStore, Writer

__all__ = ["Leak", "has_files", "pack"]


class Leak(Exception):
    """A credential of the host is in what would be stored; the text names the file."""


def has_files(directory: Path) -> bool:
    """Whether there is anything but directories below `directory`."""
    try:
        return any(files for _path, _names, files, _fd in os.fwalk(directory, follow_symlinks=False))
    except OSError:
        return False


def pack(blobs: LocalStore, directory: Path, limit: int, secrets: Collection[str], *, compress: bool) -> Blob:
    """Store a tar (compressed: tar.gz) of at most `limit` bytes of content. Raises Leak, OSError, ValueError, StoreError."""
    writer = blobs.writer()
    try:
        with (
            _compressor(writer, compress) as sink,
            tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            _Packer(tar, limit, [secret.encode() for secret in secrets]).add(directory)
        return writer.finish()
    except BaseException:
        writer.abort()
        raise


@contextmanager
def _compressor(writer: Writer, compress: bool) -> Iterator[Any]:
    if not compress:
        yield writer
        return
    # Level 1: staging time counts more than the disk of this machine. Of the writer only write() is used.
    with gzip.GzipFile(filename="", fileobj=cast(Any, writer), mode="wb", compresslevel=1, mtime=0) as stream:
        yield stream


class _Packer:
    """Adds a tree to a tar. `secrets` are what no file may contain."""

    def __init__(self, tar: tarfile.TarFile, limit: int, secrets: list[bytes]) -> None:
        self._tar = tar
        self._left = limit
        self._secrets = secrets
        self._links: dict[tuple[int, int], str] = {}

    def add(self, directory: Path) -> None:
        base = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY)
        top = directory.name
        try:
            os.close(os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=base))
            for path, names, files, descriptor in os.fwalk(top, follow_symlinks=False, dir_fd=base):
                names.sort()
                inside = "." + path.removeprefix(top)
                self._tar.addfile(_member(inside, os.fstat(descriptor)))
                for name in sorted([*files, *(name for name in names if _is_link(name, descriptor))]):
                    self._entry(f"{inside}/{name}", name, descriptor)
        finally:
            os.close(base)

    def _entry(self, inside: str, name: str, descriptor: int) -> None:
        """Add a file or link. Sockets, pipes and devices are left out."""
        found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            member = _member(inside, found)
            member.linkname = os.readlink(name, dir_fd=descriptor)
            self._tar.addfile(member)
        elif stat.S_ISREG(found.st_mode):
            first = self._links.setdefault((found.st_dev, found.st_ino), inside) if found.st_nlink > 1 else inside
            if first != inside:
                member = _member(inside, found)
                member.type, member.linkname, member.size = tarfile.LNKTYPE, first, 0
                self._tar.addfile(member)
            else:
                self._file(inside, name, descriptor)

    def _file(self, inside: str, name: str, descriptor: int) -> None:
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor)
        with os.fdopen(opened, "rb") as file:
            member = _member(inside, os.fstat(opened))
            self._left -= member.size
            if self._left < 0:
                raise ValueError(
                    "it is larger than the disk limit of the build: push with a smaller app or raise staging.disk_mb"
                )
            source = _Guard(file, inside, self._secrets) if self._secrets else file
            self._tar.addfile(member, cast(IO[bytes], source))


def _is_link(name: str, descriptor: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode)


def _member(inside: str, found: os.stat_result) -> tarfile.TarInfo:
    member = tarfile.TarInfo(inside)
    member.mode = stat.S_IMODE(found.st_mode) & 0o777
    member.mtime = int(found.st_mtime)
    if stat.S_ISDIR(found.st_mode):
        # Times of directories and links are those of the build, so they would differ each time.
        member.type, member.mtime = tarfile.DIRTYPE, 0
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
            raise Leak(
                f"{self._name.removeprefix('./')} contains a credential of the platform's own package access: "
                "make the build not write it, or turn staging.inherit off"
            )
        self._tail = window[-self._keep :] if self._keep else b""
        return chunk
