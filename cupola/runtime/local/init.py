"""The init of an instance: starts its programs, reaps orphans, forwards SIGTERM, hands out connections, writes how it
ended, and stays until a cell has read its output.

    SIGTERM     ends the instance: SIGTERM to each program, after the grace SIGKILL to everything
    SIGINT      the same without a grace

The exit record (file `exit.new`) is JSON: `statuses` ([index of the program, status] in the order in which they ended) and
`killed`. It is written through a descriptor, because the init cannot reach the directory by name.
"""

import contextlib
import json
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from cupola.runtime.local import kernel
from cupola.runtime.local.ingress import Ingress

__all__ = ["Confine", "run"]

Confine = Callable[[list[int]], None]
_LOOK_SECONDS = 0.25
"""How often is looked, at last, whether a cell has read the output of an instance that has ended."""
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


def run(
    launch: dict[str, Any],
    outputs: list[tuple[int, int]],
    joins: list[int],
    exit_descriptor: int,
    record: int,
    report: int,
    confine: Confine,
    ingress: Ingress | None = None,
) -> NoReturn:
    """Start the programs, tell `report` (nothing: all is well), and stay until all have ended and their output is read.

    Never returns.
    """
    status = 1
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for number in (signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        pids = _start_all(launch, outputs, joins, report, confine)
        _detach({exit_descriptor, record, *_numbers(outputs), *(ingress.descriptors() if ingress else ())})
        _Watch(launch, pids, ingress).until_empty(exit_descriptor)
        if ingress is not None:
            ingress.close()
        _until_read(_numbers(outputs), record)
        status = 0
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(report, f"{error}".encode()[:4000])
    finally:
        os._exit(status)


def _start_all(
    launch: dict[str, Any], outputs: list[tuple[int, int]], joins: list[int], report: int, confine: Confine
) -> list[int]:
    pids = []
    for program, (out, err) in zip(launch["programs"], outputs, strict=True):
        pid = os.fork()
        if pid == 0:
            _exec(program, out, err, joins, report, confine)
        pids.append(pid)
    os.close(report)
    for join in joins:
        os.close(join)
    return pids


def _exec(program: dict[str, Any], out: int, err: int, joins: list[int], report: int, confine: Confine) -> NoReturn:
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        # Handlers that the interpreter ignores would stay ignored in the app.
        for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGINT, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        confine(joins)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.chdir(program["directory"])
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        # Every other descriptor closes by exec; that `report` does is the good news.
        os.execvpe(program["argv"][0], program["argv"], program["env"])
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(report, f"cannot start {program['argv'][0]}: {error}".encode()[:4000])
    finally:
        os._exit(4)


def _numbers(outputs: list[tuple[int, int]]) -> list[int]:
    return [descriptor for pair in outputs for descriptor in pair]


def _detach(keep: set[int]) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for descriptor in range(3, max(*keep, null) + 64):
        if descriptor not in keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _until_read(outputs: list[int], record: int) -> None:
    """Hold the pipes until a cell has emptied them, however long none is there: their last end takes their content along.

    Without the record directory there is nobody to wait for.
    """
    poll = select.poll()
    for descriptor in outputs:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            poll.register(descriptor, select.POLLIN)
    pause = 0.0005
    while poll.poll(0) and os.fstat(record).st_nlink:
        time.sleep(pause)
        pause = min(pause * 2, _LOOK_SECONDS)


class _Watch:
    """The programs of this instance and how they ended."""

    def __init__(self, launch: dict[str, Any], pids: list[int], ingress: Ingress | None) -> None:
        self.ingress = ingress
        self.signals = kernel.signal_descriptor(_SIGNALS) if ingress else -1
        self.grace = float(launch["grace"])
        self.pids = {pid: index for index, pid in enumerate(pids)}
        self.statuses: list[tuple[int, int]] = []
        self.killed = False
        self.deadline: float | None = None

    def until_empty(self, exit_descriptor: int) -> None:
        while self.pids:
            wait = 3600.0 if self.deadline is None else max(self.deadline - time.monotonic(), 0)
            found = self._next_signal(wait)
            if found is None:
                if self.deadline is not None and time.monotonic() >= self.deadline:
                    self._kill()
            elif found.si_signo == signal.SIGTERM:
                self._end(self.grace)
            elif found.si_signo == signal.SIGINT:
                self._end(0)
            self._reap()
        record = json.dumps({"statuses": self.statuses, "killed": self.killed}).encode()
        os.ftruncate(exit_descriptor, 0)
        os.pwrite(exit_descriptor, record, 0)
        _kill_descendants()

    def _next_signal(self, seconds: float) -> signal.struct_siginfo | None:
        if self.ingress is None:
            return signal.sigtimedwait(_SIGNALS, seconds)
        listener = self.ingress.listener.fileno()
        readable, _, _ = select.select([self.signals, listener], [], [], seconds)
        if listener in readable:
            self.ingress.ready()
        return signal.sigtimedwait(_SIGNALS, 0)

    def _end(self, grace: float) -> None:
        due = time.monotonic() + grace
        if self.deadline is None or due < self.deadline:
            self.deadline = due
        if grace > 0:
            for pid in self.pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def _kill(self) -> None:
        self.killed = True
        self.deadline = time.monotonic() + 1
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _kill_descendants()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                index = self.pids.pop(pid, None)
                if index is not None:
                    code = os.waitstatus_to_exitcode(status)
                    self.statuses.append((index, code if code >= 0 else 128 - code))
                    if self.pids and self.deadline is None:
                        self._end(self.grace)  # programs of one container depend on each other


def _kill_descendants() -> None:
    """End every process below this one; a few rounds, because they may fork meanwhile."""
    if os.getpid() == 1:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(-1, signal.SIGKILL)
        return
    for _round in range(50):
        below = _descendants()
        if not below:
            return
        for pid in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def _descendants() -> list[int]:
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rsplit(b")", 1)[1].split()
                if fields[0] != b"Z":
                    parents.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


if sys.platform != "linux":
    raise ImportError("the native engine runs on Linux")
