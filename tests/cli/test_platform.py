"""The whole platform from the command line: start, push, die, be adopted, stop. The tests build on each other's platform."""

import json
import os
import re
import select
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import PROCESSES, SAMPLES, Platform, environment, place, until

pytestmark = pytest.mark.journey
HOST = "sample-static.apps.localhost"


@pytest.fixture(scope="module")
def pushed(platform: Platform) -> Platform:
    """The platform with the static sample on it."""
    output = platform.cupola("push", str(SAMPLES / "static"))
    assert f"http://{HOST}:{platform.port}" in output
    until(lambda: platform.get(HOST)[0] == 200)
    return platform


def kill(pid: int) -> None:
    """Kill a process and wait until it is gone."""
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert select.select([descriptor], [], [], 60)[0]
    finally:
        os.close(descriptor)


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie, which is what is left of an orphan where nobody reaps orphans."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_first_start_says_how_to_go_on(platform: Platform) -> None:
    credentials = platform.data / "credentials.json"
    admin = json.loads(credentials.read_text())["admin"]
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    text = platform.first_start
    for words in (
        f"http://localhost:{platform.port}",
        str(credentials),
        f"{admin['password']}   (shown this once)",
        "cf login -a ",
    ):
        assert words in text
    assert platform.get("localhost")[0] == 200
    assert admin["password"] == platform.cupola("login-info", "--password").strip()


def test_status_tells_what_runs(platform: Platform) -> None:
    found = platform.status()
    assert found["up"]
    assert found["isolation"] in {"root", "rootless", "process"}
    assert {one["name"]: one["state"] for one in found["processes"]} == dict.fromkeys(
        ("supervisor", *PROCESSES), "ready"
    )
    assert all(one["memory"] > 2**20 and one["pid"] for one in found["processes"])


def test_up_again_changes_nothing(platform: Platform) -> None:
    before = platform.pids()
    text = platform.up("--detach")
    assert "Cupola runs already in " in text
    assert "shown this once" not in text
    assert platform.pids() == before


def test_a_push_is_staged_before_our_eyes_and_answers(pushed: Platform) -> None:
    status, body = pushed.get(HOST)
    assert status == 200
    assert "Hello from Cupola" in body


def test_a_second_push_uploads_nothing_that_is_there(pushed: Platform) -> None:
    output = pushed.cupola("push", str(SAMPLES / "static"))
    assert re.search(r"Uploading 0 of \d files, \d are known already", output)
    assert "-----> Staticfile buildpack" in output
    assert "sample-static  web  1/1 running  64 MB each" in output
    assert "sample-static is there already." in pushed.cupola("push", "--if-missing", str(SAMPLES / "static"))


def test_a_rolling_push_never_stops_answering(pushed: Platform, tmp_path: Path) -> None:
    (tmp_path / "Staticfile").touch()
    (tmp_path / "index.html").write_text("the new one")
    command = pushed.command(
        "push", str(tmp_path), "--name", "sample-static", "--strategy", "rolling", "--memory", "64M"
    )
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as push:
        answers = []
        while push.poll() is None:
            answers.append(pushed.get(HOST))
        assert push.stdout is not None
        assert push.returncode == 0, push.stdout.read()
    assert {status for status, _ in answers} == {200}
    assert pushed.get(HOST) == (200, "the new one")


def test_a_push_that_fails_says_why(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "Staticfile").touch()
    words = ("push", str(tmp_path), "--name", "broken", "--memory", "64M", "--command", "echo no luck; exit 7")
    output = platform.cupola(*words, status=1)
    assert "Error: broken (web) crashed at its start: its log is above" in output
    assert re.search(r"\[APP/PROC/WEB\] no luck", output)
    assert "Error: there is nothing to push in" in platform.cupola("push", str(_empty(tmp_path)), status=1)
    # A crashing app has no place in the tests that follow.
    platform.cupola("push", str(tmp_path), "--name", "broken", "--memory", "64M", "--instances", "0")


def test_a_push_to_a_platform_that_is_named_without_a_start(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "Staticfile").touch()
    (tmp_path / "manifest.yml").write_text("applications: [{name: ((name)), memory: 64M, no-route: true}]")
    address = ("--api", f"http://127.0.0.1:{platform.port}", "--user", "admin", "--org", "cupola", "--space", "dev")
    words = ("push", str(tmp_path), "--no-start", "--var", "name=idle", *address)
    refused = platform.cupola(*words, status=1, CUPOLA_PASSWORD="wrong")
    assert re.search(r"Error: cannot log in to http://localhost:\d+/uaa/oauth/token as admin: ", refused)
    password = platform.cupola("login-info", "--password").strip()
    assert "idle is staged and not started." in platform.cupola(*words, CUPOLA_PASSWORD=password)
    assert platform.get("idle.apps.localhost")[0] == 404
    nowhere = platform.cupola(*words[:-1], "nowhere", status=1, CUPOLA_PASSWORD=password)
    assert "Error: the space nowhere in cupola does not exist" in nowhere


def _empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


@pytest.mark.parametrize("name", PROCESSES)
def test_a_killed_process_comes_back_and_the_app_answers(pushed: Platform, name: str) -> None:
    before = pushed.pids()
    kill(before[name])
    until(lambda: pushed.is_ready(name))
    after = pushed.pids()
    assert after.pop(name) != before.pop(name)
    assert after == before
    until(lambda: pushed.get(HOST)[0] == 200)
    until(lambda: pushed.get("localhost", "/v3/info")[0] == 200)


def test_without_a_supervisor_all_goes_on_and_up_adopts(pushed: Platform) -> None:
    before = pushed.pids()
    kill(pushed.pid("supervisor"))
    assert pushed.get(HOST)[0] == 200
    assert not pushed.status()["supervised"]
    assert "Cupola is up" in pushed.up("--detach")
    assert pushed.pids() == before
    assert pushed.status()["supervised"]


def test_other_settings_replace_processes_and_keep_apps(pushed: Platform) -> None:
    before = pushed.pids()
    (instance,) = {one.name for one in (pushed.data / "cell/instances").iterdir()}
    text = pushed.up("--detach", "--set", "platform.description=changed")
    assert "platform.description 'Cupola: Cloud Foundry in Python' \u2192 'changed'" in text
    assert not set(before.values()) & set(pushed.pids().values())
    assert json.loads(pushed.get("localhost", "/v3/info")[1])["description"] == "changed"
    assert {one.name for one in (pushed.data / "cell/instances").iterdir()} == {instance}
    until(lambda: pushed.get(HOST)[0] == 200)


def test_two_platforms_run_side_by_side(platform: Platform, tmp_path: Path) -> None:
    with place(tmp_path / "data") as other:
        clash = other.cupola("up", "--detach", "--port", str(platform.port), status=1)
        assert f"port {platform.port} on 127.0.0.1 is in use by the Cupola platform in {platform.data}" in clash
        other.up("--detach")
        assert other.status()["up"]
        assert platform.status()["up"]
        # Its router has no route table in the first moment, and says so with 503.
        until(lambda: other.get(HOST)[0] == 404)
        other.cupola("down")
        assert platform.status()["up"]


def test_logs_and_doctor_work_while_it_runs(platform: Platform) -> None:
    text = platform.cupola("logs", "-n", "1000")
    assert re.search(r"^supervisor \| .*platform: ready", text, re.MULTILINE)
    assert "there is no process nobody: choose from supervisor, controller, router, cell" in platform.cupola(
        "logs", "nobody", status=1
    )
    checks = {one["name"]: one for one in json.loads(platform.cupola("doctor", "--json"))}
    assert checks[f"port {platform.port}"]["found"] == "in use by this platform"
    assert checks["mode"]["found"].endswith("(of the running platform)")


def test_down_stops_apps_of_whom_nobody_takes_care(pushed: Platform) -> None:
    (record,) = (pushed.data / "cell/instances").iterdir()
    app = int((record / "pid").read_text().split()[0])
    for name in ("supervisor", *PROCESSES):
        kill(pushed.pid(name))
    assert "Cupola is down" in pushed.cupola("down")
    assert not runs(app)
    assert not list((pushed.data / "cell/instances").iterdir())
    assert pushed.status(exit_status=3)["problem"] == "not running"
    assert "Cupola is not running in" in pushed.cupola("down")


def test_in_the_foreground_until_interrupted(pushed: Platform) -> None:
    command = pushed.command("up", "--port", str(pushed.port), "--push", str(SAMPLES / "static"))
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as up:
        assert up.stdout is not None
        lines = []
        for line in up.stdout:
            lines.append(line)
            if line.startswith("http://"):
                break
        text = "".join(lines)
        assert "Cupola is up" in text
        assert "sample-static is there already." in text, text
        assert "Ctrl-C" in text
        # The app was started again by the start.
        until(lambda: pushed.get(HOST)[0] == 200)
        up.send_signal(signal.SIGINT)
        rest = up.stdout.read()
        assert up.wait(60) == 0, rest
    assert "Stopping apps and platform" in rest
    assert not pushed.status(exit_status=3)["instances"]
