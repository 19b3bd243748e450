"""Which processes a platform is made of."""

import logging
import sys
from dataclasses import dataclass
from signal import SIGINT, SIGTERM

from cupola.config import Settings
from cupola.databases import choice

__all__ = ["Program", "extras", "programs"]

_log = logging.getLogger("cupola.supervisor")
_PYTHON = (sys.executable, "-P", "-m")


@dataclass(frozen=True)
class Program:
    """A process to keep running. `NAME.ready` in the run directory says that it is of use."""

    name: str
    command: tuple[str, ...]
    stop_turn: int = 0
    """All of a turn are stopped together, the next turn after that."""
    stop_seconds: float = 15.0
    """Seconds after which a process that was asked to end is killed."""
    stop_signal: int = SIGTERM
    unprivileged: bool = False
    """Runs as `platform.user`."""
    optional: bool = False
    """The platform is up without it, and goes on when it cannot start."""
    version: str = ""
    """What it was started for; one with another version is replaced."""
    alone: bool = False
    """The version is all that counts: other settings and code of the platform do not replace it."""
    wanted: bool = True
    """False: it may still run from before, and is stopped."""


def programs(settings: Settings) -> list[Program]:
    """The platform's processes on one machine."""
    return [*_always(settings), *(program for program in extras(settings) if program.wanted)]


def _always(settings: Settings) -> list[Program]:
    grace = settings.runtime.graceful_stop_seconds
    return [
        # The router finishes its requests while the apps finish theirs; what both report still reaches the controller.
        Program(
            "controller",
            (*_PYTHON, "cupola.processes.controller"),
            stop_turn=1,
            stop_seconds=20,
            unprivileged=True,
        ),
        Program(
            "router",
            (*_PYTHON, "cupola.processes.router"),
            stop_seconds=settings.router.drain_seconds + 5,
            unprivileged=True,
        ),
        Program("cell", (*_PYTHON, "cupola.processes.cell"), stop_seconds=grace + 10),
    ]


def extras(settings: Settings) -> list[Program]:
    """Processes that come and go while the platform runs: those of databases, if they are offered."""
    try:
        found = choice.read(settings.data_dir)
    except choice.Unreadable as error:
        _log.error("databases are not offered: %s", error)
        found = None
    enabled = found is not None and found.enabled
    own = enabled and found is not None and not found.server
    decided = choice.digest(found) if found is not None else ""
    return [
        # After the apps, which may have something left to write.
        Program(
            "databases",
            (*_PYTHON, "cupola.processes.databases"),
            stop_turn=1,
            unprivileged=True,
            optional=True,
            version=decided,
            wanted=enabled,
        ),
        # A new version of ours is no reason to end the connections of all apps.
        Program(
            "postgres",
            (*_PYTHON, "cupola.processes.postgres"),
            stop_turn=2,
            stop_seconds=60,
            # The one by which PostgreSQL does not wait for its clients.
            stop_signal=SIGINT,
            optional=True,
            version=str(found.port) if found is not None else "",
            alone=True,
            wanted=own,
        ),
    ]
