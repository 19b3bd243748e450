"""Where the platform's own processes write: one bounded file each, kept in a few generations.

A process holds its file open for appending, so it keeps writing while nobody supervises it.
"""

import contextlib
import os
from pathlib import Path

__all__ = ["KEEP", "MAX_BYTES", "bound", "open_for_append", "place", "tail"]

MAX_BYTES = 8 * 1024 * 1024
"""Bytes at which a file is put aside."""
KEEP = 2
"""Generations that are kept beside the current one: NAME.log.1 is the youngest."""


def place(data_dir: Path, name: str) -> Path:
    """The file that a process of the platform writes to."""
    return data_dir / "logs" / f"{name}.log"


def open_for_append(path: Path) -> tuple[int, int]:
    """A descriptor for a process's output, and the size at which it begins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > MAX_BYTES:
        _shift(path)
        path.replace(_generation(path, 1))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return descriptor, os.fstat(descriptor).st_size


def bound(path: Path, max_bytes: int = MAX_BYTES) -> bool:
    """Put the content aside when the file has grown too large, while a process writes to it; whether that was done."""
    try:
        if path.stat().st_size <= max_bytes:
            return False
        _shift(path)
        with path.open("rb+") as source, _generation(path, 1).open("wb") as target:
            os.fchmod(target.fileno(), 0o600)
            while chunk := source.read(1024 * 1024):
                target.write(chunk)
            # Writers append, so they go on at the new end; what came since the last read is a line at most.
            source.truncate(0)
    except OSError:
        return False  # a full disk: the next time, perhaps
    return True


def tail(path: Path, offset: int = 0, max_bytes: int = 16384) -> list[str]:
    """The last non-empty lines that were written after `offset`."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            # A file that is shorter than it was has been put aside since.
            file.seek(max(size - max_bytes, offset if offset <= size else 0))
            text = file.read()
    except OSError:
        return []
    return [line for line in text.decode(errors="replace").splitlines() if line.strip()]


def _generation(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _shift(path: Path) -> None:
    for number in range(KEEP, 1, -1):
        with contextlib.suppress(FileNotFoundError):
            _generation(path, number - 1).replace(_generation(path, number))
