"""The supervisor: starts the platform's processes, starts again those that die, stops them in order.

    CannotStart         a process says that it cannot start (exit status 3), or never came up
    AlreadySupervised   another supervisor holds the run directory

Every process is a session leader with a log file of its own, so all of them outlive the supervisor; the next one finds
them by their pid files and adopts them. One whose settings or code differ from what is wanted is replaced.
`python -m cupola.processes.supervisor SETTINGS EVENTS` is the detached form: SETTINGS is a file that it takes away,
EVENTS a descriptor to which it reports until the platform is ready. It imports little, because it waits all day.
"""

import contextlib
import fcntl
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal

import msgspec

from cupola.config import Settings, read_resolved, write_resolved
from cupola.databases import choice
from cupola.processes import output, privileges, running
from cupola.processes.program import Program, extras, programs
from cupola.processes.running import Running
from cupola.secrets import generated

__all__ = ["AlreadySupervised", "CannotStart", "Event", "Program", "State", "Supervisor", "extras", "main", "programs"]

CANNOT_START = 3
"""Exit status by which a process says that starting it again is of no use."""
GIVE_UP = 5
"""Ends in a row without having been ready once, after which a first start is given up."""
STEADY = 10.0
"""Seconds after which a process counts as recovered, so that the next end is a first one."""
_BACK_OFF = (0.1, 10.0)
"""First and longest pause before a process is started again; each is twice the one before."""
_LOOK = 0.01
"""Seconds between looks for the ready files of processes that are starting."""
_ROTATE = 60.0
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_log = logging.getLogger("cupola.supervisor")

State = Literal["adopted", "starting", "ready", "waiting", "replacing", "stopping", "stopped", "killed", "failed"]


class CannotStart(Exception):
    """The platform cannot start; the text is for the user and names the process."""


class AlreadySupervised(Exception):
    """Another supervisor lives; `holder` is who, where that is known."""

    def __init__(self, holder: Running | None) -> None:
        who = f"process {holder.pid}" if holder else "another process"
        super().__init__(f"{who} supervises this platform already")
        self.holder = holder


class Event(msgspec.Struct, frozen=True):
    """What happened: to a process, or with an empty name to the platform (`ready`, `stopping`, `stopped`, `failed`)."""

    process: str
    state: State
    pid: int = 0
    text: str = ""


@dataclass
class _Child:
    program: Program
    state: State = "stopped"
    running: Running | None = None
    pidfd: int = -1
    changed: float = 0.0
    failures: int = 0
    adopted: bool = False
    proven: bool = False
    """It was ready once, so a later failure is something to recover from."""
    due: float = field(default=float("inf"))
    """When to start it again, or to kill it."""
    offset: int = 0

    @property
    def alive(self) -> bool:
        return self.pidfd >= 0


class Supervisor:
    """One per run directory: `lock` first, then `run`, or `adopt` and `stop`; `close` last. Belongs to one thread.

    `tell` gets every event; `on_turn` is called while something is starting or stopping, for who shows the time.
    `look` says which processes come and go, whether they are wanted or not; it is asked again when the bell was rung.
    """

    def __init__(
        self,
        settings: Settings,
        wanted: Sequence[Program],
        tell: Callable[[Event], None],
        on_turn: Callable[[], None] = lambda: None,
        look: Callable[[], Sequence[Program]] | None = None,
    ) -> None:
        self.settings = settings
        self.run_dir = settings.run_dir
        self.account = settings.account
        self.fingerprint = running.fingerprint(msgspec.json.encode(settings, enc_hook=str))
        self._children = [_Child(program) for program in wanted]
        self._extras = look
        self._tell = tell
        self._on_turn = on_turn
        self._asked: Literal["stop", "leave"] | None = None
        self._announced = False
        self._apps_ran = False
        self._rotated = time.monotonic()
        self._lock = self._bell = -1
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def lock(self) -> None:
        """Be the only supervisor. Raises AlreadySupervised, OSError."""
        self.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.account is None:
            self.run_dir.chmod(0o700)
        descriptor = os.open(self.run_dir / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise AlreadySupervised(running.read(self.run_dir, "supervisor")) from None
        self._lock = descriptor
        self._bell = running.open_bell(self.run_dir)
        running.write_own(self.run_dir, "supervisor", self.fingerprint)

    def close(self) -> None:
        """Let go of everything but the processes."""
        for child in self._children:
            if child.alive:
                os.close(child.pidfd)
                child.pidfd = -1
        if self._lock >= 0:
            running.forget(self.run_dir, "supervisor")
            os.close(self._lock)
            self._lock = -1
        if self._bell >= 0:
            os.close(self._bell)
            self._bell = -1
        for descriptor in (self._wake, self._waker):
            os.close(descriptor)

    def request(self, what: Literal["stop", "leave"]) -> None:
        """End `run`: with the processes (`stop`) or without them. Callable from signal handlers and other threads."""
        if self._asked != "stop":
            self._asked = what
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b"x")

    def adopt(self) -> list[str]:
        """Take over the processes that run already; returns their names."""
        for program in self._extras() if self._extras is not None else ():
            if not program.wanted and running.read(self.run_dir, program.name):
                self._children.append(_Child(program))
        for child in self._children:
            found = running.open_running(self.run_dir, child.program.name)
            if found is not None:
                child.running, child.pidfd = found
                child.proven = child.adopted = True
                self._change(child, "ready" if self._ready_file(child).exists() else "adopted")
        self._apps_ran = self.has_instances()
        return [child.program.name for child in self._children if child.alive]

    def run(self) -> None:
        """Adopt, start and supervise until a signal or `request` says to stop or to leave; do that.

        Raises CannotStart, OSError; then only what ran before is left running.
        """
        with self._signals():
            try:
                self._start()
                while self._asked is None:
                    self._turn()
            except (CannotStart, OSError):
                self.stop(apps=not self._apps_ran, adopted=False)
                raise
            if self._asked == "stop":
                self.stop()

    def stop(self, apps: bool = True, adopted: bool = True) -> None:
        """Stop the processes turn by turn, and with `apps` what the cell runs. Kills who does not end in time.

        Those that ran before this supervisor are left alone unless `adopted`.
        """
        self._tell(Event("", "stopping"))
        if apps:
            with contextlib.suppress(FileExistsError):
                (self.run_dir / "stop-apps").touch(mode=0o600, exist_ok=False)
            self._raise_for_leftovers()
        for child in self._children:
            if not child.alive:
                child.state = "stopped"
                # One that ended while nobody supervised it.
                running.forget(self.run_dir, child.program.name)
        for turn in sorted({child.program.stop_turn for child in self._children}):
            ending = [child for child in self._children if child.program.stop_turn == turn and child.alive]
            ending = [child for child in ending if adopted or not child.adopted]
            for child in ending:
                self._ask_to_end(child, "stopping")
            self._wait_for(lambda ending=ending: not any(child.alive for child in ending))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        (self.run_dir / "stop-apps").unlink(missing_ok=True)
        self._tell(Event("", "stopped"))

    def has_instances(self) -> bool:
        """Whether the cell has, or left, instances of apps."""
        directory = self.settings.data_dir / "cell" / "instances"
        try:
            return any(directory.iterdir())
        except OSError:
            return False

    # What the loop does

    def _start(self) -> None:
        """Adopt what runs, replace what differs, start what is missing."""
        (self.run_dir / "stop-apps").unlink(missing_ok=True)
        for child in self._children:
            if child.program.name != "controller" and not child.program.optional:
                token = generated.password(43).encode()
                generated.create_private(self.run_dir / f"{child.program.name}.token", token)
        write_resolved(self.settings, self.run_dir / "settings.json")
        if self.account is not None:
            privileges.share(self.settings, self.account)
            choice.share(self.settings.data_dir, self.account)
        self.adopt()
        for child in self._children:
            if not child.program.wanted:
                self._ask_to_end(child, "stopping")
            elif not child.alive:
                self._spawn(child)
            elif child.running is not None and child.running.fingerprint != self._version(child.program):
                child.proven = False
                self._ask_to_end(child, "replacing")

    def _look_again(self) -> None:
        """Start, replace and stop the processes that come and go, as is wanted now."""
        for program in self._extras() if self._extras is not None else ():
            child = next((child for child in self._children if child.program.name == program.name), None)
            if child is None:
                if program.wanted:
                    self._children.append(_Child(program))
                    self._spawn(self._children[-1])
                continue
            before, child.program = child.program, program
            if not program.wanted:
                if child.alive:
                    self._ask_to_end(child, "stopping")
                else:
                    child.due = float("inf")
                    self._change(child, "stopped")
            elif child.state == "stopping":
                self._change(child, "replacing")
            elif not child.alive:
                self._spawn(child)
            elif before.version != program.version:
                self._ask_to_end(child, "replacing")

    def _version(self, program: Program) -> str:
        return program.version if program.alone else f"{self.fingerprint}-{program.version}".removesuffix("-")

    def _turn(self) -> None:
        now = time.monotonic()
        for child in self._children:
            self._look(child, now)
        self._children = [child for child in self._children if child.program.wanted or child.state != "stopped"]
        needed = [child for child in self._children if not child.program.optional]
        if not self._announced and all(child.state == "ready" for child in needed):
            self._announced = True
            self._tell(Event("", "ready"))
        if now - self._rotated > _ROTATE:
            self._rotated = now
            for name in ("supervisor", *(child.program.name for child in self._children)):
                output.bound(self._log_file(name))
        self._on_turn()
        self._poll(self._pause(now))

    def _look(self, child: _Child, now: float) -> None:
        if child.state in ("starting", "adopted") and self._ready_file(child).exists():
            child.proven = True
            self._change(child, "ready")
        if child.state == "ready" and child.failures and now - child.changed > STEADY:
            child.failures = 0
        if now < child.due:
            return
        if child.state == "waiting":
            self._spawn(child)
        elif child.alive:
            self._kill(child)

    def _pause(self, now: float) -> float:
        states = {child.state for child in self._children}
        if states & {"starting", "adopted"}:
            return _LOOK
        soonest = min((child.due for child in self._children), default=float("inf"))
        longest = 0.1 if states & {"stopping", "replacing"} else _ROTATE
        return max(min(soonest - now, longest), 0.0)

    def _poll(self, seconds: float) -> None:
        poll = select.poll()
        for descriptor in (self._wake, self._bell):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        alive = {child.pidfd: child for child in self._children if child.alive}
        for descriptor in alive:
            poll.register(descriptor, select.POLLIN)
        # Rounded up: a wait that is cut to whole milliseconds would spin before its end.
        for descriptor, _ in poll.poll(int(seconds * 1000) + 1):
            if descriptor in (self._wake, self._bell):
                with contextlib.suppress(BlockingIOError):
                    os.read(descriptor, 4096)
                if descriptor == self._bell and self._asked is None:
                    self._look_again()
            else:
                self._ended(alive[descriptor])

    def _ended(self, child: _Child) -> None:
        status = _reap(child.pidfd)
        os.close(child.pidfd)
        child.pidfd, child.due = -1, float("inf")
        running.forget(self.run_dir, child.program.name)
        self._ready_file(child).unlink(missing_ok=True)
        if child.state == "stopping":
            child.running = None
            self._change(child, "stopped")
            return
        if child.state == "replacing":
            self._spawn(child)
            return
        child.failures += 1
        said = self._last_words(child)
        needed = not child.proven and not child.program.optional
        if status == CANNOT_START and needed:
            self._change(child, "failed", said)
            raise CannotStart(said)
        if needed and child.failures >= GIVE_UP:
            self._change(child, "failed", said)
            raise CannotStart(
                f"the {child.program.name} ended {child.failures} times while starting ({_how(status)}: {said}): "
                f"see {self._log_file(child.program.name)}"
            )
        first, longest = _BACK_OFF
        pause = min(first * 2 ** min(child.failures - 1, 20), longest)
        child.due = time.monotonic() + pause
        self._change(child, "waiting", f"{_how(status)}{': ' + said if said else ''}; starts again in {pause:.1f} s")

    def _last_words(self, child: _Child) -> str:
        lines = output.tail(self._log_file(child.program.name), child.offset)
        says = f"the {child.program.name} cannot start: "
        for line in reversed(lines):
            if says in line:
                return line[line.index(says) :]
        begins = [number for number, line in enumerate(lines) if line.startswith("Traceback ")]
        if begins:
            # After the calls, which are indented, the first line is the error; what follows explains it at length.
            lines = [line for line in lines[begins[-1] + 1 :] if not line.startswith(" ")][:1]
        return lines[-1].strip() if lines else ""

    # What is done to one process

    def _spawn(self, child: _Child) -> None:
        self._ready_file(child).unlink(missing_ok=True)
        log, child.offset = output.open_for_append(self._log_file(child.program.name))
        # A signal to the child must meet its default action, not a handler that the child never gets to run.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            pid = os.fork()
            if pid == 0:
                self._become(child.program, log)
            child.pidfd = os.pidfd_open(pid)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(log)
        child.running, child.adopted = None, False
        child.due = float("inf")
        self._change(child, "starting", pid=pid)

    def _become(self, program: Program, log: int) -> None:
        """In the new process: be the program. Never returns."""
        try:
            # Python ignores SIGPIPE, and what is ignored stays so in the new program.
            for number in (*_HANDLED, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.setsid()
            null = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((null, 0), (log, 1), (log, 2)):
                os.dup2(source, target)
            running.write_own(self.run_dir, program.name, self._version(program))
            os.chdir(self.run_dir)
            if program.unprivileged and self.account is not None:
                privileges.become(self.settings, self.account, program.name)
            os.execve(program.command[0], program.command, self._environment())  # noqa: S606  # there is no shell to avoid
        except BaseException as error:
            os.write(2, f"the {program.name} cannot start: {program.command[0]}: {error}\n".encode())
        os._exit(CANNOT_START)

    def _environment(self) -> dict[str, str]:
        source = str(Path(__file__).resolve().parents[2])
        search = [source, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        # Without compiled files on the disk each process would compile two seconds' worth of modules at every start.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {
            **inherited,
            "CUPOLA_SETTINGS": str(self.run_dir / "settings.json"),
            # From a checkout that is not installed the package is found nowhere else.
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(search)),
        }

    def _ask_to_end(self, child: _Child, state: State) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child.pidfd, signal.Signals(child.program.stop_signal))
        child.due = time.monotonic() + child.program.stop_seconds
        self._change(child, state)

    def _kill(self, child: _Child) -> None:
        self._tell(Event(child.program.name, "killed", text=f"did not end within {child.program.stop_seconds:.0f} s"))
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
        child.due = float("inf")

    def _change(self, child: _Child, state: State, text: str = "", pid: int = 0) -> None:
        child.state, child.changed = state, time.monotonic()
        self._tell(Event(child.program.name, state, pid or (child.running.pid if child.running else 0), text))

    # Stopping

    def _raise_for_leftovers(self) -> None:
        """Instances outlive their cell; only a cell can stop them, and only with a controller does it come up at once."""
        needed = [child for child in self._children if child.program.name in ("controller", "cell")]
        cell = next((child for child in needed if child.program.name == "cell"), None)
        if cell is None or cell.alive or not self.has_instances():
            return
        for child in needed:
            if not child.alive:
                self._spawn(child)
        self._wait_for(lambda: cell.state not in ("starting", "adopted"), seconds=30)

    def _wait_for(self, done: Callable[[], bool], seconds: float = float("inf")) -> None:
        deadline = time.monotonic() + seconds
        while not done() and time.monotonic() < deadline:
            now = time.monotonic()
            for child in self._children:
                if child.state != "waiting":
                    self._look(child, now)
            self._on_turn()
            with contextlib.suppress(CannotStart):
                # Looking may have changed a state, so the pause is short whatever the states are.
                self._poll(min(self._pause(now), 0.1))

    # Places

    def _ready_file(self, child: _Child) -> Path:
        return self.run_dir / f"{child.program.name}.ready"

    def _log_file(self, name: str) -> Path:
        return output.place(self.settings.data_dir, name)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """While supervising: end with the processes on TERM, INT and HUP, without them on USR1."""

        def handle(number: int, _frame: FrameType | None) -> None:
            self.request("leave" if number == signal.SIGUSR1 else "stop")

        before = {number: signal.signal(number, handle) for number in _HANDLED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _reap(pidfd: int) -> int | None:
    """The exit status of a child, negative for a signal; None for a process that another one started."""
    try:
        found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        return None
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def _how(status: int | None) -> str:
    if status is None:
        return "it ended"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-status).name}"
    return f"it ended with status {abs(status)}"


def main() -> int:
    """Run the detached supervisor; returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    privileges.guard()
    file, events = Path(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(events, False)
    settings = read_resolved(file)
    file.unlink()
    listener: int | None = events

    def tell(event: Event) -> None:
        nonlocal listener
        _log.info("%s: %s %s", event.process or "platform", event.state, event.text)
        if listener is None:
            return
        with contextlib.suppress(OSError):
            os.write(listener, msgspec.json.encode(event) + b"\n")
        if not event.process and event.state in ("ready", "failed"):
            os.close(listener)
            listener = None

    supervisor = Supervisor(settings, programs(settings), tell, look=lambda: extras(settings))
    try:
        supervisor.lock()
        supervisor.run()
    except (AlreadySupervised, CannotStart, OSError) as error:
        tell(Event("", "failed", text=str(error)))
        return CANNOT_START
    finally:
        supervisor.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
