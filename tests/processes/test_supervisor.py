"""The supervisor with real processes: stand-ins that a shell runs, each in a data directory of its own."""

import contextlib
import fcntl
import json
import os
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cupola.processes import running
from cupola.processes.supervisor import Event, Program

ROOT = Path(__file__).resolve().parents[2]
READY = "echo $0 begins; touch $0.ready; exec sleep 600"


def program(name: str, script: str = READY, **more: Any) -> Program:
    return Program(name, ("/bin/sh", "-c", script, name), **more)


class Supervision:
    """A running supervisor, its events, and the processes that it leaves."""

    def __init__(self, data: Path, programs: list[Program], settings: str = "") -> None:
        self.run_dir = data / "run"
        self.data = data
        command = [
            sys.executable,
            str(ROOT / "tests/processes/supervise.py"),
            str(data),
            msgspec.json.encode(programs).decode(),
            settings,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
        self.events: list[Event] = []
        self._pending = b""

    def until(self, process: str, state: str) -> Event:
        """The next event of this kind."""
        return self.until_event(lambda event: (event.process, event.state) == (process, state), f"{process} {state}")

    def until_event(self, is_it: Callable[[Event], bool], what: str) -> Event:
        assert self.process.stdout is not None
        while True:
            while b"\n" in self._pending:
                line, self._pending = self._pending.split(b"\n", 1)
                self.events.append(msgspec.json.decode(line, type=Event))
                if is_it(self.events[-1]):
                    return self.events[-1]
            assert select.select([self.process.stdout], [], [], 30)[0], f"waited in vain for {what}: {self.events}"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"the supervisor ended before {what}: {self.events}"
            self._pending += data

    def signal(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        return self.process.wait(30)

    def pid(self, name: str) -> int:
        found = running.read(self.run_dir, name)
        assert found is not None, f"{name} does not run"
        return found.pid


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervision]]:
    made: list[Supervision] = []

    def make(*programs: Program, settings: str = "") -> Supervision:
        made.append(Supervision(tmp_path, list(programs), settings))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        if one.process.stdout is not None:
            one.process.stdout.close()
    for file in (tmp_path / "run").glob("*.pid"):
        found = running.read(tmp_path / "run", file.stem)
        if found is not None:
            os.kill(found.pid, signal.SIGKILL)


def wait_for_end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            assert select.select([descriptor], [], [], 30)[0], f"process {pid} does not end"
        finally:
            os.close(descriptor)


def test_processes_lead_their_sessions_log_to_their_files_and_stop(supervise: Callable[..., Supervision]) -> None:
    platform = supervise(program("controller", stop_turn=1), program("cell"))
    platform.until("", "ready")
    pids = [platform.pid(name) for name in ("controller", "cell")]
    assert all(os.getsid(pid) == pid for pid in pids)
    assert (platform.data / "logs/cell.log").read_text() == "cell begins\n"
    settings = platform.run_dir / "settings.json"
    for secret in (platform.run_dir / "cell.token", settings, platform.data / "logs/cell.log"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(platform.run_dir.stat().st_mode) == 0o700
    assert json.loads(settings.read_text())["data_dir"] == str(platform.data)
    assert platform.signal(signal.SIGTERM) == 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not list(platform.run_dir.glob("*.pid"))
    assert not list(platform.run_dir.glob("*.ready"))


def test_a_process_that_is_killed_starts_again_alone(supervise: Callable[..., Supervision]) -> None:
    platform = supervise(program("controller"), program("cell"))
    platform.until("", "ready")
    killed, other = platform.pid("cell"), platform.pid("controller")
    os.kill(killed, signal.SIGKILL)
    assert "SIGKILL" in platform.until("cell", "waiting").text
    platform.until("cell", "ready")
    assert platform.pid("cell") != killed
    assert platform.pid("controller") == other


def test_each_failure_in_a_row_waits_longer(supervise: Callable[..., Supervision]) -> None:
    platform = supervise(
        program("cell", "test -f died && { echo once more; exit 1; }; touch died cell.ready; exec sleep 600")
    )
    platform.until("", "ready")
    os.kill(platform.pid("cell"), signal.SIGKILL)
    texts = [platform.until("cell", "waiting").text for _ in range(4)]
    assert [text.rpartition("starts again in ")[2] for text in texts] == ["0.1 s", "0.2 s", "0.4 s", "0.8 s"]
    assert texts[1].startswith("it ended with status 1: once more")


def test_processes_outlive_their_supervisor_and_the_next_adopts_them(supervise: Callable[..., Supervision]) -> None:
    programs = (program("controller"), program("cell"))
    first = supervise(*programs)
    first.until("", "ready")
    pids = [first.pid(name) for name in ("controller", "cell")]
    assert first.signal(signal.SIGKILL) == -signal.SIGKILL
    second = supervise(*programs)
    second.until("", "ready")
    assert not [event for event in second.events if event.state == "starting"]
    assert [second.pid(name) for name in ("controller", "cell")] == pids
    # What was adopted is watched like what was started.
    os.kill(pids[1], signal.SIGKILL)
    second.until("cell", "ready")
    assert second.signal(signal.SIGINT) == 0
    wait_for_end(pids[0])


def test_a_supervisor_that_is_told_to_leave_leaves_the_processes(supervise: Callable[..., Supervision]) -> None:
    platform = supervise(program("cell"))
    platform.until("", "ready")
    pid = platform.pid("cell")
    assert platform.signal(signal.SIGUSR1) == 0
    assert platform.pid("cell") == pid
    assert running.read(platform.run_dir, "supervisor") is None


def test_there_is_one_supervisor(supervise: Callable[..., Supervision]) -> None:
    first = supervise(program("cell"))
    first.until("", "ready")
    second = supervise(program("cell"))
    failed = second.until("", "failed")
    assert failed.text == f"AlreadySupervised: process {first.process.pid} supervises this platform already"
    assert second.ended() == 3
    assert first.pid("cell")


def test_other_settings_replace_what_runs(supervise: Callable[..., Supervision]) -> None:
    programs = (program("controller"), program("cell"))
    first = supervise(*programs)
    first.until("", "ready")
    pids = [first.pid(name) for name in ("controller", "cell")]
    first.signal(signal.SIGKILL)
    second = supervise(*programs, settings="other")
    second.until("", "ready")
    assert {event.process for event in second.events if event.state == "replacing"} == {"controller", "cell"}
    assert not set(pids) & {second.pid("controller"), second.pid("cell")}
    assert not (second.run_dir / "stop-apps").exists()


def test_what_cannot_start_ends_the_start_with_its_reason(supervise: Callable[..., Supervision]) -> None:
    reason = "the router cannot start: port 80 needs root"
    platform = supervise(
        program("cell"), program("router", f"echo noise; echo 16:31 ERROR {reason} >&2; echo more; exit 3")
    )
    assert platform.until("", "failed").text == f"CannotStart: {reason}"
    assert platform.ended() == 3
    assert running.read(platform.run_dir, "cell") is None


def test_a_missing_program_ends_the_start(supervise: Callable[..., Supervision]) -> None:
    platform = supervise(Program("cell", ("/nowhere/cell",)))
    assert "the cell cannot start: /nowhere/cell: " in platform.until("", "failed").text


def test_a_failed_start_leaves_alone_what_ran_before(supervise: Callable[..., Supervision]) -> None:
    first = supervise(program("cell"))
    first.until("", "ready")
    pid = first.pid("cell")
    first.signal(signal.SIGKILL)
    second = supervise(program("cell"), program("router", "exit 3"))
    second.until("", "failed")
    assert second.pid("cell") == pid


def test_what_was_ready_once_is_tried_again_whatever_it_says(supervise: Callable[..., Supervision]) -> None:
    script = (
        "test -f full && { rm full; echo the cell cannot start: no room; exit 3; }; touch cell.ready; exec sleep 600"
    )
    platform = supervise(program("cell", script))
    platform.until("", "ready")
    (platform.run_dir / "full").touch()
    os.kill(platform.pid("cell"), signal.SIGKILL)
    platform.until("cell", "waiting")
    assert "the cell cannot start: no room" in platform.until("cell", "waiting").text
    platform.until("cell", "ready")


def test_what_never_comes_up_is_given_up(supervise: Callable[..., Supervision]) -> None:
    platform = supervise(program("cell", "echo broken; exit 1"))
    failed = platform.until("", "failed").text
    assert "the cell ended 5 times while starting (it ended with status 1: broken): see " in failed


def test_stopping_goes_by_turns_and_asks_the_cell_to_stop_apps(supervise: Callable[..., Supervision]) -> None:
    script = (
        "trap 'test -f stop-apps && echo $0 with apps >> order || echo $0 >> order; exit 0' TERM; "
        "touch $0.ready; while :; do sleep 600 & wait $!; done"
    )
    platform = supervise(program("controller", script, stop_turn=1), program("cell", script))
    platform.until("", "ready")
    sleepers = [
        int(pid)
        for pid in subprocess.run(
            ["ps", "-o", "pid=", "-s", f"{platform.pid('controller')},{platform.pid('cell')}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
    ]
    assert platform.signal(signal.SIGTERM) == 0
    assert (platform.run_dir / "order").read_text() == "cell with apps\ncontroller with apps\n"
    assert not (platform.run_dir / "stop-apps").exists()
    for pid in sleepers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_who_does_not_end_is_killed(supervise: Callable[..., Supervision]) -> None:
    platform = supervise(program("cell", "trap '' TERM; touch cell.ready; exec sleep 600", stop_seconds=0.2))
    platform.until("", "ready")
    platform.process.send_signal(signal.SIGTERM)
    assert platform.until("cell", "killed").text == "did not end within 0 s"
    assert platform.ended() == 0


def test_a_signal_while_starting_stops_what_was_started(supervise: Callable[..., Supervision]) -> None:
    platform = supervise(program("cell", "exec sleep 600"))
    pid = platform.until("cell", "starting").pid
    assert platform.signal(signal.SIGINT) == 0
    wait_for_end(pid)


def test_a_waiting_supervisor_costs_nothing(supervise: Callable[..., Supervision]) -> None:
    platform = supervise(program("cell"))
    platform.until("", "ready")
    memory = int(of_status(platform.process.pid, "VmRSS").removesuffix(" kB"))
    assert memory < 32 * 1024, f"{memory} KiB"
    maps = Path(f"/proc/{platform.process.pid}/maps").read_text()
    for module in ("sqlalchemy", "starlette", "uvloop", "_asyncio"):
        assert module not in maps
    assert platform.process.stdout is not None
    # In the first moment it may still be on its way to sleep.
    assert not select.select([platform.process.stdout], [], [], 0.3)[0]
    switches = of_status(platform.process.pid, "voluntary_ctxt_switches")
    assert not select.select([platform.process.stdout], [], [], 0.3)[0]
    assert of_status(platform.process.pid, "voluntary_ctxt_switches") == switches, "it wakes although nothing happens"


def of_status(pid: int, name: str) -> str:
    """A line of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))


def test_the_lock_is_not_inherited(supervise: Callable[..., Supervision]) -> None:
    platform = supervise(program("cell"))
    platform.until("", "ready")
    platform.signal(signal.SIGKILL)
    with (platform.run_dir / "supervisor.lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def decide(data: Path, *programs: Program) -> None:
    """Which processes come and go, and whether they are wanted."""
    (data / "extras.json").write_bytes(msgspec.json.encode(list(programs)))


def extra(name: str = "extra", script: str = READY, **more: Any) -> Program:
    return program(name, script, **{"optional": True, "version": "1", **more})


def test_a_process_comes_changes_and_goes_while_the_platform_runs(
    supervise: Callable[..., Supervision], tmp_path: Path
) -> None:
    decide(tmp_path, extra(wanted=False))
    platform = supervise(program("cell"))
    platform.until("", "ready")
    cell = platform.pid("cell")
    decide(tmp_path, extra())
    assert running.ask_to_look(platform.run_dir)
    platform.until("extra", "ready")
    first = platform.pid("extra")
    assert running.ask_to_look(platform.run_dir)
    os.kill(first, signal.SIGKILL)
    platform.until("extra", "ready")
    second = platform.pid("extra")
    decide(tmp_path, extra(version="2"))
    running.ask_to_look(platform.run_dir)
    platform.until("extra", "replacing")
    platform.until("extra", "ready")
    assert len({first, second, platform.pid("extra")}) == 3
    decide(tmp_path, extra(wanted=False))
    running.ask_to_look(platform.run_dir)
    platform.until("extra", "stopped")
    assert running.read(platform.run_dir, "extra") is None
    assert platform.pid("cell") == cell
    decide(tmp_path, extra())
    running.ask_to_look(platform.run_dir)
    platform.until("extra", "ready")
    assert platform.signal(signal.SIGTERM) == 0
    assert running.read(platform.run_dir, "extra") is None
    assert not running.ask_to_look(platform.run_dir)


def test_who_is_wanted_again_while_ending_comes_back(supervise: Callable[..., Supervision], tmp_path: Path) -> None:
    slow = "trap 'sleep 0.5; exit 0' TERM; touch $0.ready; while :; do sleep 0.1; done"
    decide(tmp_path, extra(script=slow))
    platform = supervise(program("cell"), extra(script=slow))
    platform.until("extra", "ready")
    for wanted, state in ((False, "stopping"), (True, "replacing")):
        decide(tmp_path, extra(script=slow, wanted=wanted))
        running.ask_to_look(platform.run_dir)
        platform.until("extra", state)
    platform.until("extra", "ready")


def test_what_is_optional_and_cannot_start_keeps_nobody_waiting(
    supervise: Callable[..., Supervision], tmp_path: Path
) -> None:
    script = "test -f $0.may || { echo the extra cannot start: not yet; exit 3; }; touch $0.ready; exec sleep 600"
    decide(tmp_path, extra(script=script))
    platform = supervise(program("cell", "sleep 1; touch $0.ready; exec sleep 600"))
    for _ in range(6):
        assert "the extra cannot start: not yet" in platform.until("extra", "waiting").text
    (platform.run_dir / "extra.may").touch()
    platform.until("extra", "ready")
    assert any(event == Event("", "ready") for event in platform.events)


def test_what_is_not_wanted_any_more_and_was_left_is_stopped(
    supervise: Callable[..., Supervision], tmp_path: Path
) -> None:
    decide(tmp_path, extra())
    first = supervise(program("cell"))
    first.until("extra", "ready")
    pid = first.pid("extra")
    first.signal(signal.SIGKILL)
    decide(tmp_path, extra(wanted=False))
    second = supervise(program("cell"))
    second.until("extra", "stopped")
    wait_for_end(pid)


def test_a_version_of_its_own_outlives_other_settings(supervise: Callable[..., Supervision], tmp_path: Path) -> None:
    script = "trap 'echo interrupted >> log; exit 0' INT; touch $0.ready; while :; do sleep 0.1; done"
    decide(tmp_path, extra(script=script, stop_signal=int(signal.SIGINT), alone=True))
    first = supervise(program("cell"))
    first.until("extra", "ready")
    pid = first.pid("extra")
    first.signal(signal.SIGUSR1)
    second = supervise(program("cell"), settings="other")
    second.until("cell", "replacing")
    second.until("", "ready")
    assert second.pid("extra") == pid
    assert second.signal(signal.SIGTERM) == 0
    assert (second.run_dir / "log").read_text() == "interrupted\n"
