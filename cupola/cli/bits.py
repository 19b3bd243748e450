"""The files of an app: which of them are pushed, their checksums, and the archive of those that must be uploaded."""

import hashlib
import os
import stat
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

__all__ = ["BitsProblem", "File", "collect", "matchable", "write_zip"]

_ALWAYS = (".cfignore", ".DS_Store", ".git", ".gitignore", ".hg", ".svn", "_darcs")
"""What the official client leaves out as well."""


class BitsProblem(Exception):
    """The app's files cannot be read; the text names the one."""


@dataclass(frozen=True)
class File:
    """One entry. `name` is relative, with slashes; `sha1` and `size` (bytes) are filled for regular files."""

    name: str
    path: Path
    mode: int
    kind: str = "file"
    """`file`, `directory` or `link`."""
    size: int = 0
    sha1: str = ""


def collect(root: Path) -> list[File]:
    """Everything below `root` that is pushed, in order. `.cfignore` has the syntax of .gitignore.

    Raises BitsProblem.
    """
    spec = _ignored(root)
    found: list[File] = []
    try:
        _walk(root, "", spec, found)
    except OSError as error:
        raise BitsProblem(f"cannot read {error.filename}: {error.strerror}") from error
    if not found:
        raise BitsProblem(f"there is nothing to push in {root}: it is empty, or .cfignore names everything")
    return found


def _ignored(root: Path) -> GitIgnoreSpec:
    try:
        lines = (root / ".cfignore").read_text().splitlines()
    except FileNotFoundError:
        lines = []
    except (OSError, UnicodeDecodeError) as error:
        raise BitsProblem(f"cannot read {root / '.cfignore'}: {error}") from error
    return GitIgnoreSpec.from_lines([*_ALWAYS, *lines])


def _walk(directory: Path, prefix: str, spec: GitIgnoreSpec, found: list[File]) -> None:
    with os.scandir(directory) as entries:
        children = sorted(entries, key=lambda entry: entry.name)
    for entry in children:
        name = prefix + entry.name
        is_directory = entry.is_dir(follow_symlinks=False)
        # A pattern with a final slash is for directories only, and names them so.
        if spec.match_file(name + "/" if is_directory else name):
            continue
        path = Path(entry.path)
        status = entry.stat(follow_symlinks=False)
        mode = stat.S_IMODE(status.st_mode) & 0o777
        if entry.is_symlink():
            found.append(File(name, path, mode, "link"))
        elif is_directory:
            found.append(File(name, path, mode, "directory"))
            _walk(path, name + "/", spec, found)
        elif entry.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
            # The platform refuses files that their owner could not read and write again.
            found.append(File(name, path, mode | 0o600, "file", status.st_size, digest))


def matchable(files: Collection[File]) -> list[dict[str, Any]]:
    """The files that the platform may have already, as its resource matching takes them."""
    return [
        {
            "path": file.name,
            "mode": f"{file.mode:o}",
            "size_in_bytes": file.size,
            "checksum": {"value": file.sha1},
        }
        for file in files
        if file.kind == "file" and file.size > 0
    ]


def write_zip(files: Collection[File], leave_out: Collection[str], target: Path) -> int:
    """Write those entries whose names are not left out; returns how many files were written. Raises BitsProblem."""
    written = 0
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for file in files:
                if file.name in leave_out:
                    continue
                if file.kind == "file":
                    _add(archive, file)
                    written += 1
                elif file.kind == "directory":
                    info = zipfile.ZipInfo(file.name + "/")
                    info.external_attr = (stat.S_IFDIR | file.mode) << 16 | 0x10
                    archive.writestr(info, b"")
                else:
                    info = zipfile.ZipInfo(file.name)
                    info.create_system = 3
                    info.external_attr = (stat.S_IFLNK | 0o777) << 16
                    archive.writestr(info, os.fsencode(os.readlink(file.path)))  # noqa: PTH115  # the text, not a Path made of it
                    written += 1
    except OSError as error:
        raise BitsProblem(f"cannot pack {error.filename or target}: {error.strerror or error}") from error
    return written


def _add(archive: zipfile.ZipFile, file: File) -> None:
    info = zipfile.ZipInfo.from_file(file.path, file.name, strict_timestamps=False)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | file.mode) << 16
    with file.path.open("rb") as source, archive.open(info, "w") as target:
        while chunk := source.read(1024 * 1024):
            target.write(chunk)
