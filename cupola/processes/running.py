"""Which processes of a platform run. A file per process names it so that no other can be meant: number, start, boot.

Written by the process itself before its program begins, so that one whose supervisor was killed at any moment is
found again. Signals go through pidfds, so they cannot reach a later process with the same number.
"""

import contextlib
import hashlib
import os
import time
from pathlib import Path

import msgspec

__all__ = [
    "Running",
    "ask_to_look",
    "code_fingerprint",
    "fingerprint",
    "forget",
    "open_bell",
    "open_running",
    "read",
    "write_own",
]

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_BELL = "supervisor.bell"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the platform. `start` is in clock ticks after the boot named by `boot`; `since` in Unix seconds."""

    name: str
    pid: int
    start: int
    boot: str
    fingerprint: str
    """Settings and code that it was started with."""
    since: float


def read(run_dir: Path, name: str) -> Running | None:
    """The process of this name, if it runs."""
    try:
        found = msgspec.json.decode((run_dir / f"{name}.pid").read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None
    return found if found.boot == _boot() and _start(found.pid) == found.start else None


def open_running(run_dir: Path, name: str) -> tuple[Running, int] | None:
    """The process of this name and a pidfd of it, if it runs; the caller closes the pidfd."""
    found = read(run_dir, name)
    if found is None:
        return None
    try:
        descriptor = os.pidfd_open(found.pid)
    except OSError:
        return None
    # The number may have gone to another process between the look and the opening.
    if _start(found.pid) != found.start:
        os.close(descriptor)
        return None
    return found, descriptor


def write_own(run_dir: Path, name: str, fingerprint: str) -> None:
    """Name this process; whoever held the name before is gone."""
    pid = os.getpid()
    own = Running(
        name=name, pid=pid, start=_start(pid) or 0, boot=_boot(), fingerprint=fingerprint, since=time.time()
    )  # fmt: skip
    temporary = run_dir / f".{name}.pid.{pid}"
    temporary.unlink(missing_ok=True)
    # The directory may be open to another user, who must not make root write elsewhere.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(own))
    finally:
        os.close(descriptor)
    temporary.replace(run_dir / f"{name}.pid")


def forget(run_dir: Path, name: str) -> None:
    """The process of this name is gone."""
    with contextlib.suppress(FileNotFoundError):
        (run_dir / f"{name}.pid").unlink()


def open_bell(run_dir: Path) -> int:
    """A descriptor that is readable when somebody has asked the supervisor to look again at what should run."""
    file = run_dir / _BELL
    file.unlink(missing_ok=True)
    os.mkfifo(file, 0o600)
    # For writing as well: it stays open, and is never at its end.
    return os.open(file, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)


def ask_to_look(run_dir: Path) -> bool:
    """Ask the supervisor to look again at what should run; False when there is none."""
    try:
        descriptor = os.open(run_dir / _BELL, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, b"x")
    except BlockingIOError:
        pass  # it has been asked often enough
    finally:
        os.close(descriptor)
    return True


def fingerprint(settings: bytes) -> str:
    """Of encoded settings together with the code on the disk: a process with another one is not mixed with new ones."""
    return hashlib.sha256(settings + code_fingerprint().encode()).hexdigest()[:16]


def code_fingerprint() -> str:
    """Changes whenever a file of this package does."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for directory, subdirectories, files in os.walk(root):
        subdirectories[:] = sorted(name for name in subdirectories if name != "__pycache__")
        for name in sorted(files):
            path = os.path.join(directory, name)  # noqa: PTH118  # a Path per file would triple the time of this walk
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(path)  # noqa: PTH116  # as above
                digest.update(f"{path}\0{status.st_mtime_ns}\0{status.st_size}\n".encode())
    return digest.hexdigest()


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _start(pid: int) -> int | None:
    """When a process started, in clock ticks after boot; None when it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, ValueError):
        return None
    # The name, in parentheses, may contain anything.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])
