"""Any process is killed at any moment: running apps are served throughout, and nothing is lost."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cupola.processes import running
from tests.journeys.client import Client
from tests.journeys.platform import Platform, eventually, started

STEADY = Path(__file__).parent / "apps" / "steady"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that these tests may hurt, with one app of two instances."""
    with started(tmp_path_factory.mktemp("faults") / "data") as platform:
        platform.cupola("push", str(STEADY), "--name", "steady")
        client = Client(platform)
        client.scale("steady", instances=2, memory_in_mb=64, disk_in_mb=256)
        eventually(lambda: both_answer(platform))
        yield platform


def both_answer(platform: Platform) -> bool:
    answers = [platform.app("steady") for _ in range(6)]
    return all(one.status == 200 for one in answers) and {one.json()["index"] for one in answers} == {"0", "1"}


class Load:
    """Asks the app without pause; `bad` are the answers that were not 200."""

    def __init__(self, platform: Platform) -> None:
        self.bad: list[str] = []
        self.count = 0
        self._platform = platform
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self._done.is_set():
            try:
                answer = self._platform.app("steady", timeout=5)
                if answer.status != 200:
                    self.bad.append(f"{answer.status} {answer.body[:80]!r}")
            except OSError as error:
                self.bad.append(repr(error))
            self.count += 1

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


@pytest.mark.parametrize("process", ["controller", "cell"])
def test_requests_are_served_while_a_process_is_killed(own: Platform, process: str) -> None:
    old = own.pid(process)
    with Load(own) as load:
        os.kill(old, signal.SIGKILL)
        eventually(lambda: replaced(own, process, old), 30, f"a new {process}")
        eventually(lambda: Client(own).running("steady") == 2, 30)
    assert load.count > 3
    assert load.bad == []


def replaced(platform: Platform, process: str, old: int) -> bool:
    """Whether another one runs, and is of use: it has taken over what it found."""
    run = platform.data_dir / "run"
    found = running.read(run, process)
    return found is not None and found.pid != old and (run / f"{process}.ready").exists()


def test_a_killed_router_comes_back_with_its_table(own: Platform) -> None:
    old = own.pid("router")
    os.kill(old, signal.SIGKILL)
    eventually(lambda: replaced(own, "router", old), 20)
    eventually(lambda: answers(own), 20)
    assert both_answer(own)


def answers(platform: Platform) -> bool:
    try:
        return platform.app("steady").status == 200
    except OSError:
        return False


def test_a_killed_supervisor_leaves_everything_running_and_the_next_adopts(own: Platform) -> None:
    before = {process: own.pid(process) for process in ("controller", "router", "cell")}
    supervisor = own.pid("supervisor")
    with Load(own) as load:
        os.kill(supervisor, signal.SIGKILL)
        eventually(lambda: gone(own, "supervisor"), 10)
        own.up()
    assert load.bad == []
    assert {process: own.pid(process) for process in before} == before
    assert own.pid("supervisor") != supervisor


def gone(platform: Platform, process: str) -> bool:
    """Ended, whether or not whoever inherited it has noticed."""
    return running.read(platform.data_dir / "run", process) is None


def test_a_job_survives_a_killed_controller(own: Platform) -> None:
    client = Client(own)
    names = [f"doomed-{number}" for number in range(8)]
    for name in names:
        client.create_app(name)
    jobs = [client.delete_app(name) for name in names]
    os.kill(own.pid("controller"), signal.SIGKILL)
    eventually(lambda: all(client.job(guid) == "COMPLETE" for guid in jobs), 60, "every job ended")
    assert client.app_names() == ["steady"]


def test_a_task_that_ends_while_no_cell_runs_shows_every_line(own: Platform) -> None:
    client = Client(own)
    say = "for i in $(seq 300); do echo line $i; echo problem $i >&2; sleep 0.002; done; printf last"
    task = client.start_task("steady", "speaker", say)
    eventually(lambda: len(client.log("steady", "APP/TASK/speaker")) > 50, 30, "it speaks")
    supervisor = own.pid("supervisor")
    # So that no new cell comes before the task has ended.
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(own.pid("cell"), signal.SIGKILL)
        before = len(client.log("steady", "APP/TASK/speaker"))
        exit_record = own.data_dir / "cell" / "instances" / task / "exit.new"
        eventually(lambda: exit_record.read_bytes(), 30, "the task ended")
        assert before < 600, "it ended too early to show anything"
    finally:
        os.kill(supervisor, signal.SIGCONT)
    eventually(lambda: client.task_state(task) == "SUCCEEDED", 30)
    eventually(lambda: ("OUT", "last") in client.log("steady", "APP/TASK/speaker"), 10)
    told = client.log("steady", "APP/TASK/speaker")
    # The cell may have died in the microseconds between keeping a line and taking it from the pipe; then it is told twice.
    assert len(told) <= len(set(told)) + 5
    told = list(dict.fromkeys(told))
    assert [line for stream, line in told if stream == "OUT" and line.startswith("line ")] == _numbered("line")
    assert [line for stream, line in told if stream == "ERR"] == _numbered("problem")


def _numbered(word: str) -> list[str]:
    return [f"{word} {number}" for number in range(1, 301)]


def test_a_staging_survives_a_killed_cell(own: Platform) -> None:
    client = Client(own)
    build = client.start_build("steady")
    os.kill(own.pid("cell"), signal.SIGKILL)
    state = eventually(lambda: (found := client.build_state(build)) != "STAGING" and found, 90, "the build ended")
    assert state in {"STAGED", "FAILED"}
    if state == "FAILED":
        assert client.build_error(build)
    eventually(lambda: both_answer(own), 30)


def test_apps_come_back_after_down_and_up(own: Platform) -> None:
    own.down()
    assert not answers(own)
    own.up()
    eventually(lambda: both_answer(own), 30, "the apps run again")
