"""What a developer does with the official CLI, from login to delete."""

import json
import re
import shutil
import threading
import time
from pathlib import Path

import pytest

from tests.journeys.cf import Cf
from tests.journeys.platform import ROOT, Platform, eventually

STEADY = Path(__file__).parent / "apps" / "steady"
SAMPLES = ROOT / "samples"


@pytest.fixture(scope="session")
def steady(cf: Cf, platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An app that says who it is, pushed once for the tests that only look at it; its name."""
    name = f"steady-{cf.name}"
    cf("push", name, "-m", "64M", "-k", "256M", "-p", str(STEADY))
    return name


def source(tmp_path: Path, **replaced: str) -> Path:
    """A copy of the steady app with some words replaced in its server."""
    copy = tmp_path / "source"
    shutil.copytree(STEADY, copy)
    server = copy / "server.py"
    text = server.read_text()
    for old, new in replaced.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    server.write_text(text)
    return copy


def test_a_wrong_password_is_refused(cf: Cf, platform: Platform, tmp_path: Path) -> None:
    stranger = Cf(cf.program, tmp_path)
    stranger("api", platform.url)
    done = stranger.run("auth", "admin", "wrong")
    assert done.returncode == 1
    assert "Credentials were rejected" in done.stdout


def test_organizations_and_spaces(cf: Cf) -> None:
    other = Cf(cf.program, cf.home)
    cf("create-org", f"temporary-{cf.name}")
    assert f"temporary-{cf.name}" in cf("orgs")
    cf("create-space", "one", "-o", f"temporary-{cf.name}")
    assert "already exists" in cf("create-space", "one", "-o", f"temporary-{cf.name}")
    assert "one" in other("org", f"temporary-{cf.name}")
    cf("delete-org", "-f", f"temporary-{cf.name}")
    assert f"temporary-{cf.name}" not in cf("orgs")
    cf("target", "-o", f"org-{cf.name}", "-s", "journeys")


@pytest.mark.parametrize(
    ("sample", "expected"), [("static", b"<html"), ("python", b"<html"), ("node", b""), ("binary", b"")]
)
def test_each_sample_is_pushed_and_answers(cf: Cf, platform: Platform, sample: str, expected: bytes) -> None:
    name = f"sample-{sample}-{cf.name}"
    printed = cf("push", name, cwd=SAMPLES / sample, seconds=300)
    assert re.search(rf"routes:\s+{name}\.apps\.localhost", printed)
    answer = platform.app(name)
    assert answer.status == 200
    assert expected in answer.body.lower()
    cf("delete", "-f", "-r", name)
    eventually(lambda: platform.app(name).status == 404, 2, "the route is gone")


def test_an_unchanged_app_is_not_uploaded_again(cf: Cf, platform: Platform, steady: str) -> None:
    before = time.monotonic()
    printed = cf("push", steady, "-m", "64M", "-k", "256M", "-p", str(STEADY))
    assert "All files found in remote cache; nothing to upload" in printed or "0 B" in printed
    assert platform.app(steady).status == 200
    assert time.monotonic() - before < 60


def test_the_app_and_its_staging_are_shown(cf: Cf, steady: str) -> None:
    printed = cf("app", steady)
    assert re.search(r"#0\s+running", printed)
    assert "cflinuxfs4" in printed
    assert steady in cf("apps")
    assert "python" in printed
    assert "audit.app" in cf("events", steady) or "app.update" in cf("events", steady)


def test_logs_come_back(cf: Cf, platform: Platform, steady: str) -> None:
    word = f"said-{cf.name}-{time.time_ns()}"
    assert platform.app(steady, f"/say/{word}").status == 200
    printed = eventually(lambda: (found := cf("logs", steady, "--recent")).count(word) >= 3 and found, 10)
    assert re.search(rf"\[APP/PROC/WEB/0\] OUT {word}", printed)
    assert re.search(rf"\[APP/PROC/WEB/0\] ERR to stderr: {word}", printed)
    assert re.search(rf'\[RTR/\d+\] OUT {steady}\.apps\.localhost.*"GET /say/{word} HTTP/1.1" 200', printed)


def test_scale_crash_and_restart(cf: Cf, platform: Platform, tmp_path: Path) -> None:
    name = f"scaled-{cf.name}"
    cf("push", name, "-m", "64M", "-k", "256M", "-p", str(STEADY))
    cf("scale", name, "-i", "3")
    eventually(
        lambda: {platform.app(name).json()["index"] for _ in range(9)} == {"0", "1", "2"}, what="3 instances answer"
    )
    platform.app(name, "/crash", method="POST")
    eventually(lambda: "crash" in cf("events", name), 15, "the crash is an event")
    eventually(
        lambda: {platform.app(name).json()["index"] for _ in range(9)} == {"0", "1", "2"},
        what="the crashed one is back",
    )
    assert re.search(r"\[APP/PROC/WEB/\d\] OUT Exit status 7", cf("logs", name, "--recent"))
    cf("restart", name)
    assert platform.app(name).status == 200
    cf("stop", name)
    stopped = eventually(lambda: (found := platform.app(name)).status == 503 and found, 2, "no instance is left")
    assert stopped.headers["x-cf-routererror"] == "no_endpoints"
    cf("delete", "-f", "-r", name)


def test_environment_and_restage(cf: Cf, platform: Platform) -> None:
    name = f"painted-{cf.name}"
    cf("push", name, "-m", "64M", "-k", "256M", "-p", str(STEADY))
    assert platform.app(name).json()["colour"] is None
    cf("set-env", name, "COLOUR", "blue")
    assert "blue" in cf("env", name)
    cf("restage", name)
    assert platform.app(name).json()["colour"] == "blue"
    cf("unset-env", name, "COLOUR")
    cf("restart", name)
    assert platform.app(name).json()["colour"] is None
    cf("delete", "-f", "-r", name)


def test_rolling_deploy_under_load_and_rollback(cf: Cf, platform: Platform, tmp_path: Path) -> None:
    name = f"rolled-{cf.name}"
    cf("push", name, "-m", "64M", "-k", "256M", "-i", "2", "-p", str(STEADY))
    answers: list[tuple[int, str]] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            answer = platform.app(name)
            answers.append((answer.status, answer.json()["version"] if answer.status == 200 else repr(answer.body)))

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        cf("push", name, "-p", str(source(tmp_path, one="two")), "--strategy", "rolling")
        eventually(lambda: answers[-1][1] == "two", what="the new version answers")
        eventually(lambda: {version for _, version in answers[-20:]} == {"two"}, what="only the new version answers")
        cf("rollback", name, "--version", "1", "-f")
        eventually(lambda: {version for _, version in answers[-20:]} == {"one"}, what="only the old version answers")
    finally:
        done.set()
        for asker in askers:
            asker.join()
    assert {status for status, _ in answers} == {200}, [one for one in answers if one[0] != 200][:5]
    revisions = cf("revisions", name)
    assert re.search(r"^3", revisions, re.MULTILINE)
    cf("delete", "-f", "-r", name)


def test_a_push_that_cannot_be_staged_says_why(cf: Cf, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing that anybody could run")
    done = cf.run("push", f"unknown-{cf.name}", "-p", str(tmp_path))
    assert done.returncode == 1
    assert "NoAppDetectedError" in done.stdout
    cf("delete", "-f", "-r", f"unknown-{cf.name}")


def test_an_app_that_crashes_at_start_fails_the_push(cf: Cf, tmp_path: Path) -> None:
    copy = source(tmp_path)
    (copy / "Procfile").write_text("web: echo no luck today; exit 3\n")
    name = f"unlucky-{cf.name}"
    done = cf.run("push", name, "-m", "64M", "-k", "256M", "-p", str(copy))
    assert done.returncode == 1
    assert "Start unsuccessful" in done.stdout
    assert "no luck today" in cf("logs", name, "--recent")
    cf("delete", "-f", "-r", name)


def test_the_worker_runs_when_it_is_scaled(cf: Cf, steady: str) -> None:
    wanted = {"instances": 1, "memory_in_mb": 64, "disk_in_mb": 256}
    cf("curl", f"/v3/apps/{cf.guid(steady)}/processes/worker/actions/scale", "-X", "POST", "-d", json.dumps(wanted))
    eventually(lambda: "the worker works" in cf("logs", steady, "--recent"), 20)


def test_tasks(cf: Cf, steady: str) -> None:
    printed = cf(
        "run-task", steady, "--command", "echo from the task; exit 0", "--name", "once", "-m", "64M", "-k", "256M"
    )
    assert "Task has been submitted successfully" in printed
    eventually(lambda: re.search(r"once\s+SUCCEEDED", cf("tasks", steady)), 30)
    assert re.search(r"\[APP/TASK/once/0\] OUT from the task", cf("logs", steady, "--recent"))


def test_manifest_comes_back(cf: Cf, steady: str, tmp_path: Path) -> None:
    cf("create-app-manifest", steady, "-p", str(tmp_path / "manifest.yml"))
    text = (tmp_path / "manifest.yml").read_text()
    assert f"route: {steady}.apps.localhost" in text
    assert "OK" in cf("apply-manifest", "-f", str(tmp_path / "manifest.yml"))


def test_curl_shows_what_the_api_answers(cf: Cf) -> None:
    root = json.loads(cf("curl", "/"))
    assert root["links"]["cloud_controller_v3"]["href"].endswith("/v3")
    assert json.loads(cf("curl", "/v3/nothing"))["errors"][0]["code"] == 10000


def test_logout_ends_the_session(cf: Cf, platform: Platform, tmp_path: Path) -> None:
    other = Cf(cf.program, tmp_path)
    other("api", platform.url)
    other("auth", "admin", platform.password)
    token = other("oauth-token").strip()
    assert platform.get("localhost", "/v3/organizations", headers={"Authorization": token}).status == 200
    other("logout")
    assert platform.get("localhost", "/v3/organizations", headers={"Authorization": token}).status == 401
