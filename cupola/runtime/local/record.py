"""The record directory of an instance: what a restarted cell needs to adopt it.

container.json   the Container and its ports (Record)
launch.json      how it is started (birth.py)
pid              "<pid> <start time>" of its init, written by the fork that made it
void             there is none and shall be none: written by a cell that gave it up (spawner.py looks for it last)
exit.new         how it ended, written by its init (init.py)
out.N, err.N     FIFOs of program N; out.N.rest, err.N.rest: the beginning of a line whose end is not written yet (output.py)
files/           its own files: home/vcap and tmp, or upper and work of the overlay
"""

import contextlib
import json
import os
from pathlib import Path

import msgspec

from cupola.runtime.engine import Address, Container
from cupola.runtime.local.spaces import Kind
from cupola.runtime.local.spawner import start_time

__all__ = ["Record", "give_up", "is_alive", "load", "open_process", "read_statuses", "save"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What container.json holds. `slot` is the first port, which also numbers the instance's users."""

    container: Container
    address: Address
    slot: int
    claimed: list[int]
    mode: str
    layout: str
    """`overlay` or `copy`."""
    space: Kind = "polling"
    """Who holds it to its disk limit (spaces.py)."""
    carried: int = 0
    """Bytes of its droplet, where that is shared and counts all the same."""


def save(directory: Path, record: Record) -> None:
    """Write container.json, whole or not at all."""
    temporary = directory / "container.new"
    # It holds the app's environment; others may pass through the directory (engine.py).
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(record))
    temporary.rename(directory / "container.json")


def load(directory: Path) -> Record | None:
    """The record, or None when the making of the instance did not get that far."""
    try:
        return msgspec.json.decode((directory / "container.json").read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None


def _process(directory: Path) -> tuple[int, int]:
    try:
        pid, start = (directory / "pid").read_text().split()
        return int(pid), int(start)
    except (OSError, ValueError):
        return 0, 0


def is_alive(directory: Path) -> bool:
    """Whether the instance's init runs: its pid, and that this is not another process by now."""
    pid, start = _process(directory)
    return pid > 0 and start > 0 and start_time(pid) == start


def open_process(directory: Path) -> tuple[int, int]:
    """The init's pid and a descriptor that names it for good, or (0, -1) when it is gone."""
    pid, start = _process(directory)
    if pid <= 0:
        return 0, -1
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return 0, -1
    if start and start_time(pid) == start:
        return pid, descriptor
    os.close(descriptor)
    return 0, -1


def give_up(directory: Path) -> None:
    """Have a fork that may still be making this instance end it. What has a pid by now is not ended by this."""
    with contextlib.suppress(OSError):
        (directory / "void").touch()


def read_statuses(directory: Path) -> tuple[list[tuple[int, int]], bool]:
    """(program, exit status) in the order in which they ended, and whether they had to be killed."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        data = json.loads((directory / "exit.new").read_bytes())
        return [(int(i), int(s)) for i, s in data["statuses"]], bool(data["killed"])
    return [], False
