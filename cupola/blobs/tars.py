"""Tar files (droplets, buildpacks, caches), plain or with gzip or bzip2: unpacked under the rules of archives.py.

A tar has no directory, so it is read twice: once in a scan that bounds its size, once to unpack. Hard links become
links to files of the same archive. Links that lead out are refused unless the caller expects them (a droplet's virtual
environment names /usr/bin/python3); nothing is ever written through one, because links are made last.
"""

import contextlib
import os
import re
import stat
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, Protocol

from cupola.blobs.archives import (
    MAX_FILES,
    MAX_UNPACKED,
    ArchiveError,
    Entry,
    Tree,
    chunks_of,
    clean_name,
    filling,
    finish_tree,
    write_file,
)
from cupola.blobs.store import full_disk

__all__ = ["inspect_tar", "tar_directory", "unpack_tar"]

_BLOCK = 512
_MAX_HEADER = 1024 * 1024
"""Bytes of one extended header; more than any path or attribute needs."""
_EXTENDED = b"xgLKXN"
"""Types of headers whose content tarfile reads into memory: pax, and GNU's long names."""
_WITHOUT_CONTENT = b"123456"
"""Types of links, devices and directories, which have no content, whatever their size says."""
_MAX_PADDING = 65_536
"""Blocks of zeros, of which tar programs write up to a record at the end."""
_OCTAL = re.compile(rb"[0-7]+")
_MAX_LINK = 4095


class _Stream(Protocol):
    """What the scan needs of a file that may be decompressed on the fly."""

    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, /) -> object: ...


def inspect_tar(path: Path, *, max_bytes: int = MAX_UNPACKED, max_files: int = MAX_FILES) -> list[Entry]:
    """The entries of a tar file, hard links as files of size 0. Raises ArchiveError, OSError."""
    tree = Tree(max_bytes, max_files)
    entries = []
    with _opened(path, max_bytes) as archive:
        for member in archive:
            if (entry := _entry(member)).name:
                tree.add(entry)
                entries.append(entry)
    tree.check_links()
    return entries


def unpack_tar(
    path: Path,
    into: Path,
    *,
    max_bytes: int = MAX_UNPACKED,
    max_files: int = MAX_FILES,
    outside_links: bool = False,
) -> list[Entry]:
    """Unpack into the directory `into`, which is made or must be empty; on failure it is empty again.

    Owners are those of the process. `outside_links` keeps symbolic links that lead out of `into`. Raises ArchiveError,
    NoSpace, OSError; ValueError when `into` is not empty.
    """
    tree = Tree(max_bytes, max_files)
    entries = []
    with _opened(path, max_bytes) as archive, filling(into):
        for member in archive:
            entry = _entry(member)
            if not entry.name:
                continue
            tree.add(entry)
            entries.append(entry)
            if entry.kind == "directory":
                (into / entry.name).mkdir(parents=True, exist_ok=True)
            elif member.islnk():
                _hard_link(tree, into, entry, member)
            elif entry.kind == "file":
                source = archive.extractfile(member)
                if source is None:
                    raise ArchiveError(f"Entry {entry.name!r} has no content")
                with source:
                    write_file(into, entry, chunks_of(source), max(float(member.mtime), 0))
        if not outside_links:
            tree.check_links()
        finish_tree(into, entries)
    return entries


def tar_directory(directory: Path, out: Path, *, compression: Literal["gz", ""] = "gz") -> None:
    """Write a tar of everything below `directory`: names begin with `./`, owners are left out, hard links are kept.

    Raises ArchiveError for a special file, NoSpace, OSError; then `out` does not exist.
    """

    def prepare(member: tarfile.TarInfo) -> tarfile.TarInfo:
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise ArchiveError(f"{member.name!r} is neither file nor directory nor link: leave it out")
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    try:
        with full_disk(out.parent), out.open("wb") as file, _writer(file, compression) as archive:
            archive.add(directory, arcname=".", filter=prepare)
    except BaseException:
        out.unlink(missing_ok=True)
        raise


def _writer(file: IO[bytes], compression: Literal["gz", ""]) -> tarfile.TarFile:
    if compression:
        return tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT, compresslevel=6)
    return tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)


@contextlib.contextmanager
def _opened(path: Path, max_bytes: int) -> Iterator[tarfile.TarFile]:
    with _reading():
        with _open(path) as archive:
            if archive.fileobj is not None:
                _scan(archive.fileobj, max_bytes)
        with _open(path) as archive:
            yield archive


def _open(path: Path) -> tarfile.TarFile:
    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith((b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        # An xz file chooses how much memory its decompressor takes, up to 4 GiB.
        raise ArchiveError("The archive is compressed with xz or zstd: use gzip")
    if magic.startswith(b"\x1f\x8b"):
        return tarfile.open(path, "r:gz", errorlevel=2)
    if magic.startswith(b"BZh"):
        return tarfile.open(path, "r:bz2", errorlevel=2)
    return tarfile.open(path, "r:", errorlevel=2)


def _scan(stream: _Stream, max_bytes: int) -> None:
    """Walk the headers alone and refuse what would fill memory or disk before tarfile acts on it."""
    stream.seek(0)  # tarfile has read the first header to find out whether this is a tar
    total = padding = 0
    while len(header := stream.read(_BLOCK)) == _BLOCK:
        if not header.strip(b"\0"):
            padding += 1
            if padding > _MAX_PADDING:
                raise ArchiveError("The archive has too many empty blocks: it is taken for a bomb")
            continue
        kind, size = header[156:157], _size(header)
        if kind == tarfile.AREGTYPE and header[:100].split(b"\0")[0].endswith(b"/"):
            kind = tarfile.DIRTYPE  # as old tar programs wrote directories, and as tarfile reads it
        if kind == tarfile.GNUTYPE_SPARSE:
            raise ArchiveError("The archive has a sparse file: make it without --sparse")
        if kind in _EXTENDED:
            if size > _MAX_HEADER:
                raise ArchiveError(f"The archive has an extended header of {size} bytes")
            # Such a size replaces that of the next header, which only files over 8 GiB need.
            if b" size=" in _skip(stream, size, keep=True):
                raise ArchiveError("The archive has a file that gives its size in an extended header")
        total += 0 if kind in _WITHOUT_CONTENT else size
        if total > max_bytes:
            raise ArchiveError(f"The archive is larger than {max_bytes} bytes when unpacked")
        if kind not in _EXTENDED + _WITHOUT_CONTENT:
            _skip(stream, size)


def _skip(stream: _Stream, size: int, *, keep: bool = False) -> bytes:
    rest = -(-size // _BLOCK) * _BLOCK
    kept = b""
    while rest > 0:
        chunk = stream.read(min(rest, _MAX_HEADER))
        if not chunk:
            raise ArchiveError("The archive is truncated")
        if keep:
            kept += chunk
        rest -= len(chunk)
    return kept


def _size(header: bytes) -> int:
    field = header[124:136]
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    text = field.split(b"\0")[0].strip() or b"0"
    if not _OCTAL.fullmatch(text):
        raise ArchiveError("The file is not a valid tar archive: a header has no size")
    return int(text, 8)


def _entry(member: tarfile.TarInfo) -> Entry:
    name = clean_name(member.name)
    mode = member.mode & 0o777
    if member.isdir():
        return Entry(name, "directory", mode)
    if not name:
        raise ArchiveError("The archive has an entry without a name")
    if member.issym():
        target = member.linkname
        if not target or "\0" in target or len(os.fsencode(target)) > _MAX_LINK:
            raise ArchiveError(f"Symbolic link {name!r} has no valid target")
        return Entry(name, "link", 0o777, target=target)
    if member.islnk():
        return Entry(name, "file", mode | stat.S_IRUSR)
    if not member.isreg():
        raise ArchiveError(f"Entry {name!r} is neither file nor directory nor link")
    return Entry(name, "file", mode | stat.S_IRUSR, member.size)


def _hard_link(tree: Tree, into: Path, entry: Entry, member: tarfile.TarInfo) -> None:
    target = clean_name(member.linkname)
    if not tree.is_file(target) or target == entry.name or not (into / target).is_file():
        raise ArchiveError(f"Entry {entry.name!r} is a hard link to {target!r}, which is no file before it")
    (into / entry.name).parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(into / target, into / entry.name, follow_symlinks=False)
    except FileExistsError:
        raise ArchiveError(f"Entry {entry.name!r} has the name of another entry on this file system") from None


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, UnicodeError, OverflowError) as error:
        raise ArchiveError(f"The file is not a valid tar archive: {error or 'it is truncated'}") from None
    except OSError as error:
        if error.errno is None:  # the decompressors' own errors
            raise ArchiveError(f"The file is not a valid tar archive: {error}") from None
        raise
