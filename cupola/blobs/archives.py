"""Zip files from outside: looked at before anything is unpacked, and unpacked into a directory of their own.

    ArchiveError    the archive is damaged, hostile or too large; the text names the entry and what is wrong

What is refused: absolute names and names with `..`, symbolic links that lead out, entries below a link or a file, two
entries of one name, overlapping entries, encryption, names that are not UTF-8, special files, more files or bytes
than allowed, and compression no real content reaches. Mode bits and links are kept; setuid, setgid and sticky are not.
Nothing is ever written through a link: links are made last. tars.py does the same for tar files.

These functions compute and block: call them in a worker process or a thread.
"""

import calendar
import contextlib
import os
import shutil
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Literal

import msgspec

from cupola.blobs.store import full_disk

__all__ = [
    "MAX_FILES",
    "MAX_UNPACKED",
    "ArchiveError",
    "Entry",
    "Matched",
    "Tree",
    "clean_name",
    "inspect_zip",
    "merge_zip",
    "opened_zip",
    "unpack_zip",
    "verify_zip",
    "zip_directory",
]

MAX_UNPACKED = 8 * 1024**3
"""Bytes that an archive may have unpacked, unless the caller says otherwise."""
MAX_FILES = 200_000
"""Entries that an archive may have, unless the caller says otherwise."""

_MAX_RATIO = 250
_RATIO_FREE = 100 * 1024 * 1024
"""Bytes below which compression is not judged: a file of zeros may be small and meant."""
_MAX_LINK = 4095
_MAX_LINK_STEPS = 40
_CHUNK = 1024 * 1024
_UNIX = (3, 19)
_LOCAL = struct.Struct("<4s5H3I2H")
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
"""Not LZMA: an archive chooses how much memory its decompressor takes, up to 4 GiB."""


class ArchiveError(Exception):
    """An archive is not accepted; the text is one sentence for the user."""


class Entry(msgspec.Struct, frozen=True):
    """One entry: `name` without leading `./` and trailing `/`, `mode` the nine permission bits, `size` in bytes."""

    name: str
    kind: Literal["file", "directory", "link"]
    mode: int
    size: int = 0
    target: str = ""
    """Where a symbolic link points."""


class Matched(msgspec.Struct, frozen=True):
    """A file that was not uploaded because the platform has it: `path` in the package, `file` with its bytes."""

    path: str
    file: Path
    mode: int = 0o644


class Tree:
    """The names of an archive as directories, files and links; refuses what cannot be unpacked safely."""

    def __init__(self, max_bytes: int = MAX_UNPACKED, max_files: int = MAX_FILES) -> None:
        self.bytes = 0
        self._kinds: dict[str, Literal["file", "directory", "link"]] = {}
        self._targets: dict[str, str] = {}
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._count = 0

    def add(self, entry: Entry) -> None:
        """Add one entry. Raises ArchiveError for a duplicate, a place below a non-directory, or a limit."""
        self._count += 1
        self.bytes += entry.size
        if self._count > self._max_files:
            raise ArchiveError(f"The archive has more than {self._max_files} entries")
        if self.bytes > self._max_bytes:
            raise ArchiveError(f"The archive is larger than {self._max_bytes} bytes when unpacked")
        for end in (i for i, char in enumerate(entry.name) if char == "/"):
            above = entry.name[:end]
            if (kind := self._kinds.setdefault(above, "directory")) != "directory":
                what = "a symbolic link" if kind == "link" else "a file"
                raise ArchiveError(f"Entry {entry.name!r} lies below {above!r}, which is {what}")
        before = self._kinds.get(entry.name)
        if before is not None and not (before == "directory" == entry.kind):
            raise ArchiveError(f"The archive has two entries named {entry.name!r}")
        self._kinds[entry.name] = entry.kind
        if entry.kind == "link":
            self._targets[entry.name] = entry.target

    def has(self, name: str) -> bool:
        """Whether an entry, or a directory above one, has this name."""
        return name in self._kinds

    def is_file(self, name: str) -> bool:
        """Whether a regular file of this name was added."""
        return self._kinds.get(name) == "file"

    def check_links(self) -> None:
        """Refuse symbolic links that lead out of the archive, directly or through other links."""
        for name in self._targets:
            self._follow(name)

    def _follow(self, name: str) -> None:
        place: list[str] = []
        ahead = list(reversed(name.split("/")))
        steps = 0
        while ahead:
            part = ahead.pop()
            if part == "..":
                if not place:
                    raise ArchiveError(f"Symbolic link {name!r} points outside of the archive: {self._targets[name]!r}")
                place.pop()
                continue
            if part in ("", "."):
                continue
            place.append(part)
            target = self._targets.get("/".join(place))
            if target is None:
                continue
            if target.startswith("/"):
                raise ArchiveError(f"Symbolic link {name!r} points outside of the archive: {target!r}")
            steps += 1
            if steps > _MAX_LINK_STEPS:
                return  # a loop, which the kernel refuses to follow too
            place.pop()
            ahead.extend(reversed(target.split("/")))


def clean_name(name: str) -> str:
    """A name as it is unpacked: no `.` and no empty parts. Raises ArchiveError for one that is not safe."""
    if "\0" in name:
        raise ArchiveError(f"Entry {name!r} has a zero byte in its name")
    if name.startswith("/") or (len(name) > 2 and name[1] == ":" and name[2] in "\\/" and name[0].isalpha()):
        raise ArchiveError(f"Entry {name!r} has an absolute name")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ArchiveError(f"Entry {name!r} leads out of the archive")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise ArchiveError(f"Entry {name!r} has a name that is not valid UTF-8") from None
    if any(size > 255 for size in sizes) or sum(sizes) + len(sizes) > 4096:
        raise ArchiveError(f"Entry {name[:60]!r}... has a name that is too long for a file system")
    return "/".join(parts)


def inspect_zip(path: Path, *, max_bytes: int = MAX_UNPACKED, max_files: int = MAX_FILES) -> list[Entry]:
    """The entries of a zip file, all checks done but the checksums of the contents. Raises ArchiveError, OSError."""
    with opened_zip(path, max_bytes, max_files) as (_archive, pairs):
        return [entry for _info, entry in pairs]


def verify_zip(path: Path) -> None:
    """Read every byte and compare the checksums. Raises ArchiveError, OSError."""
    with opened_zip(path) as (archive, pairs):
        for info, entry in pairs:
            with reading_entry(entry.name), archive.open(info) as source:
                for _chunk in chunks_of(source):
                    pass


def unpack_zip(path: Path, into: Path, *, max_bytes: int = MAX_UNPACKED, max_files: int = MAX_FILES) -> list[Entry]:
    """Unpack into the directory `into`, which is made or must be empty; on failure it is empty again.

    Raises ArchiveError, NoSpace, OSError; ValueError when `into` is not empty.
    """
    with opened_zip(path, max_bytes, max_files) as (archive, pairs), filling(into):
        for info, entry in pairs:
            if entry.kind == "directory":
                (into / entry.name).mkdir(parents=True, exist_ok=True)
            elif entry.kind == "file":
                with reading_entry(entry.name), archive.open(info) as source:
                    write_file(into, entry, chunks_of(source), _mtime(info))
        finish_tree(into, (entry for _info, entry in pairs))
        return [entry for _info, entry in pairs]


def merge_zip(
    upload: Path | None,
    matched: Sequence[Matched],
    out: Path,
    *,
    max_bytes: int = MAX_UNPACKED,
    max_files: int = MAX_FILES,
) -> list[Entry]:
    """Write to `out` a zip of the uploaded entries and the matched files; a path in both is taken from the upload.

    The result is the same for the same input. Raises ArchiveError, NoSpace, OSError; then `out` does not exist.
    """
    tree = Tree(max_bytes, max_files)
    entries = inspect_zip(upload, max_bytes=max_bytes, max_files=max_files) if upload is not None else []
    for entry in entries:
        tree.add(entry)
    try:
        with full_disk(out.parent):
            if upload is None:
                zipfile.ZipFile(out, "w").close()
            else:
                shutil.copyfile(upload, out)
            # Appending keeps the compressed bytes of the upload as they are and writes one new directory.
            with zipfile.ZipFile(out, "a") as archive:
                for item in sorted(matched, key=lambda item: item.path):
                    name = clean_name(item.path)
                    if not tree.is_file(name):
                        entry = Entry(name, "file", item.mode & 0o777 or 0o644, item.file.stat().st_size)
                        tree.add(entry)
                        entries.append(entry)
                        _add(archive, entry, item.file, _FIXED_DATE)
        tree.check_links()
    except BaseException:
        out.unlink(missing_ok=True)
        raise
    return entries


def zip_directory(directory: Path, out: Path) -> list[Entry]:
    """Write a zip of everything below `directory`, with modes, links and times. Raises ArchiveError for a special file.

    Links are stored as they are, wherever they point; `out` may not lie inside.
    """
    entries = []
    with full_disk(out.parent), zipfile.ZipFile(out, "w") as archive:
        for path in _walk(directory):
            status = path.lstat()
            name = path.relative_to(directory).as_posix()
            mode = stat.S_IMODE(status.st_mode) & 0o777
            if stat.S_ISLNK(status.st_mode):
                entry = Entry(name, "link", 0o777, target=str(path.readlink()))
            elif stat.S_ISDIR(status.st_mode):
                entry = Entry(name, "directory", mode)
            elif stat.S_ISREG(status.st_mode):
                entry = Entry(name, "file", mode, status.st_size)
            else:
                raise ArchiveError(f"{name!r} is neither file nor directory nor link: leave it out")
            date = time.gmtime(max(status.st_mtime, calendar.timegm((*_FIXED_DATE, 0, 0, 0))))[:6]
            _add(archive, entry, path, date)
            entries.append(entry)
    return entries


@contextlib.contextmanager
def filling(into: Path) -> Iterator[None]:
    """Make `into`, or check that it is empty, and empty it again when the block fails."""
    into.mkdir(parents=True, exist_ok=True)
    if any(into.iterdir()):
        raise ValueError(f"{into} is not empty: unpack into a new directory")
    try:
        with full_disk(into):
            yield
    except BaseException:
        for path in into.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


def write_file(into: Path, entry: Entry, chunks: Iterable[bytes], mtime: float) -> None:
    """Write one regular file below `into` with its mode and time (seconds since 1970)."""
    path = into / entry.name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        # Names that differ for us but not for this file system (letter case, Unicode forms).
        raise ArchiveError(f"Entry {entry.name!r} has the name of another entry on this file system") from None
    with os.fdopen(descriptor, "wb") as file:
        written = 0
        for chunk in chunks:
            written += len(chunk)
            if written > entry.size:
                raise ArchiveError(f"Entry {entry.name!r} is larger than the archive says")
            file.write(chunk)
        if written != entry.size:
            raise ArchiveError(f"Entry {entry.name!r} is shorter than the archive says")
        file.flush()
        os.fchmod(descriptor, entry.mode)
        os.utime(descriptor, (mtime, mtime))


def finish_tree(into: Path, entries: Iterable[Entry]) -> None:
    """Make the links, then give directories their modes, the deepest first."""
    directories = []
    for entry in entries:
        if entry.kind == "link":
            path = into / entry.name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.symlink_to(entry.target)
            except FileExistsError:
                raise ArchiveError(f"Entry {entry.name!r} has the name of another entry on this file system") from None
        elif entry.kind == "directory" and entry.name:
            directories.append(entry)
    for entry in sorted(directories, key=lambda entry: entry.name, reverse=True):
        (into / entry.name).chmod(entry.mode | 0o700)


@contextlib.contextmanager
def opened_zip(
    path: Path, max_bytes: int = MAX_UNPACKED, max_files: int = MAX_FILES
) -> Iterator[tuple[zipfile.ZipFile, list[tuple[zipfile.ZipInfo, Entry]]]]:
    """A zip file that passed all checks, and its entries. Raises ArchiveError, OSError."""
    try:
        archive = zipfile.ZipFile(path)
    except UnicodeDecodeError:
        raise ArchiveError("The archive has an entry whose name is not valid UTF-8") from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise ArchiveError(f"The file is not a valid zip archive: {error}") from None
    with archive:
        tree = Tree(max_bytes, max_files)
        infos = archive.infolist()
        if len(infos) > max_files:
            raise ArchiveError(f"The archive has more than {max_files} entries")
        _check_layout(path, archive, infos)
        pairs = []
        for info in infos:
            entry = _entry(archive, info)
            if entry.name:  # `./` is the directory itself
                tree.add(entry)
                pairs.append((info, entry))
        tree.check_links()
        packed = sum(info.compress_size for info in infos)
        if tree.bytes > _RATIO_FREE and tree.bytes > packed * _MAX_RATIO:
            raise ArchiveError(f"The archive unpacks {packed} bytes to {tree.bytes}: it is taken for a zip bomb")
        yield archive, pairs


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    raw = _name(info)
    name = clean_name(raw)
    if info.flag_bits & 0x41:
        raise ArchiveError(f"Entry {name!r} is encrypted: upload the archive without a password")
    if info.compress_type not in _METHODS:
        raise ArchiveError(f"Entry {name!r} uses compression method {info.compress_type}: use deflate")
    mode = info.external_attr >> 16 if info.create_system in _UNIX else 0
    kind = stat.S_IFMT(mode)
    if raw.endswith("/") or kind == stat.S_IFDIR:
        if info.file_size:
            raise ArchiveError(f"Entry {name!r} is a directory with content")
        return Entry(name, "directory", mode & 0o777 or 0o755)
    if not name:
        raise ArchiveError("The archive has an entry without a name")
    if kind == stat.S_IFLNK:
        return Entry(name, "link", 0o777, target=_link_target(archive, info, name))
    if kind not in (0, stat.S_IFREG):
        raise ArchiveError(f"Entry {name!r} is neither file nor directory nor symbolic link")
    return Entry(name, "file", (mode & 0o777 or 0o644) | 0o400, info.file_size)


def _name(info: zipfile.ZipInfo) -> str:
    name = info.orig_filename
    if not info.flag_bits & 0x800:
        # Many tools write UTF-8 without saying so; zipfile read it as code page 437, which loses nothing.
        try:
            name = name.encode("cp437").decode()
        except UnicodeDecodeError:
            raise ArchiveError(f"Entry {name!r} has a name that is not valid UTF-8") from None
    return name.replace("\\", "/") if info.create_system in (0, 10, 11, 14) else name


def _link_target(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> str:
    if info.file_size > _MAX_LINK:
        raise ArchiveError(f"Symbolic link {name!r} has a target of more than {_MAX_LINK} bytes")
    with reading_entry(name), archive.open(info) as source:
        data = source.read(_MAX_LINK + 1)
    try:
        target = data.decode()
    except UnicodeDecodeError:
        raise ArchiveError(f"Symbolic link {name!r} has a target that is not valid UTF-8") from None
    if not target or "\0" in target:
        raise ArchiveError(f"Symbolic link {name!r} has no valid target")
    return target


def _check_layout(path: Path, archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> None:
    """Refuse entries that share bytes, reach into the directory, or are named differently at their data."""
    order = sorted(infos, key=lambda info: info.header_offset)
    with path.open("rb") as file:
        for position, info in enumerate(order):
            end = order[position + 1].header_offset if position + 1 < len(order) else archive.start_dir
            if info.header_offset < 0:
                raise ArchiveError(f"Entry {info.orig_filename!r} is damaged: it begins before the file")
            file.seek(info.header_offset)
            head = file.read(_LOCAL.size)
            if len(head) < _LOCAL.size or head[:4] != b"PK\3\4":
                raise ArchiveError(f"Entry {info.orig_filename!r} is damaged: it has no header at its place")
            name_size, extra_size = _LOCAL.unpack(head)[-2:]
            name = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "surrogateescape")
            if file.read(name_size) != name:
                raise ArchiveError(f"Entry {info.orig_filename!r} has another name at its data")
            if info.header_offset + _LOCAL.size + name_size + extra_size + info.compress_size > end:
                raise ArchiveError(f"Entry {info.orig_filename!r} overlaps another one: it is taken for a zip bomb")


@contextlib.contextmanager
def reading_entry(name: str) -> Iterator[None]:
    """Turn what zipfile and its decompressors raise for a damaged entry into ArchiveError."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError) as error:
        raise ArchiveError(f"Entry {name!r} is damaged: {error or 'it ends too early'}") from None
    except OSError as error:
        if error.errno is None:  # the decompressors' own errors
            raise ArchiveError(f"Entry {name!r} is damaged: {error}") from None
        raise


def _mtime(info: zipfile.ZipInfo) -> float:
    try:
        return float(calendar.timegm((*info.date_time, 0, 0, 0)))
    except (ValueError, OverflowError):
        return float(calendar.timegm((*_FIXED_DATE, 0, 0, 0)))


def _add(archive: zipfile.ZipFile, entry: Entry, file: Path, date: tuple[int, ...]) -> None:
    info = zipfile.ZipInfo(entry.name, (date[0], date[1], date[2], date[3], date[4], date[5]))
    info.create_system = 3
    info.compress_type = zipfile.ZIP_DEFLATED
    if entry.kind == "directory":
        info.filename += "/"
        info.compress_type = zipfile.ZIP_STORED
        info.external_attr = (stat.S_IFDIR | entry.mode) << 16 | 0x10
        archive.writestr(info, b"")
    elif entry.kind == "link":
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, entry.target)
    else:
        info.external_attr = (stat.S_IFREG | entry.mode) << 16
        info.file_size = entry.size
        with file.open("rb") as source, archive.open(info, "w") as sink:
            _copy(source, sink)


def chunks_of(source: IO[bytes]) -> Iterator[bytes]:
    """What is left of a stream, in pieces of a MiB."""
    while chunk := source.read(_CHUNK):
        yield chunk


def _copy(source: IO[bytes], sink: IO[bytes]) -> None:
    shutil.copyfileobj(source, sink, _CHUNK)


def _walk(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
