"""Canaries, rolling restarts, revisions and rollbacks with the official CLI, on one app of four instances."""

import re
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.journeys.cf import Cf
from tests.journeys.platform import Platform, eventually

STEADY = Path(__file__).parent / "apps" / "steady"


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of the app that say so."""
    root = tmp_path_factory.mktemp("versions")
    for name in ("one", "two", "three"):
        shutil.copytree(STEADY, root / name)
        server = root / name / "server.py"
        server.write_text(server.read_text().replace('"one"', f'"{name}"'))
    return {path.name: path for path in root.iterdir()}


@pytest.fixture(scope="module")
def app(desk: Cf, versions: dict[str, Path]) -> str:
    name = f"deployed-{desk.name}"
    desk("push", name, "-m", "32M", "-k", "128M", "-i", "4", "-p", str(versions["one"]))
    return name


def seen(platform: Platform, app: str) -> Counter[str]:
    """How often each version answers, of 40 requests; every one is answered."""
    answers = [platform.app(app) for _ in range(40)]
    assert {one.status for one in answers} == {200}
    return Counter(one.json()["version"] for one in answers)


def settled(platform: Platform, app: str, version: str) -> None:
    """Instances that are replaced may answer until they have drained."""
    eventually(lambda: set(seen(platform, app)) == {version}, 20, f"only {version} answers")
    assert set(seen(platform, app)) == {version}


def webs(printed: str) -> list[str]:
    """The `instances` of each web process, the oldest first."""
    return re.findall(r"^type:\s+web\n.*\ninstances:\s+(\S+)$", printed, re.MULTILINE)


def look(desk: Cf, app: str) -> str:
    """`cf app` while a deployment ends: a process may go between the list of them and the look at it."""
    done = desk.run("app", app)
    if done.returncode:
        assert "Process not found" in done.stdout
        return ""
    return done.stdout


def whole(desk: Cf, app: str) -> bool:
    """Whether nothing but the app's four instances is left."""
    shown = look(desk, app)
    return webs(shown) == ["4/4"] and "Active deployment" not in shown


def paused(printed: str, app: str, step: str) -> None:
    assert re.search(r"^Active deployment with status PAUSED \(since .*\)$", printed, re.MULTILINE)
    assert re.search(r"^strategy:\s+canary$", printed, re.MULTILINE)
    assert re.search(rf"^canary-steps:\s+{step}$", printed, re.MULTILINE)
    assert f"Please run `cf continue-deployment {app}` to promote the canary deployment" in printed


def test_a_canary_is_looked_at_and_cancelled(desk: Cf, app: str, versions: dict[str, Path], platform: Platform) -> None:
    pushed = desk("push", app, "-p", str(versions["two"]), "--strategy", "canary")
    assert "Starting deployment for app" in pushed
    paused(pushed, app, "1/1")
    shown = desk("app", app)
    paused(shown, app, "1/1")
    assert webs(shown) == ["4/4", "1/1"]
    both = seen(platform, app)
    assert both["one"] > both["two"] > 0
    cancelled = desk("cancel-deployment", app)
    assert (
        f"Canceling deployment for app {app} in org deployments-{desk.name} / space desk as admin...\nOK" in cancelled
    )
    settled(platform, app, "one")
    eventually(lambda: whole(desk, app), 20)
    for command in ("cancel-deployment", "continue-deployment"):
        assert "No active deployment found for app." in desk.refused(command, app)


def test_a_canary_goes_on_step_by_step(desk: Cf, app: str, versions: dict[str, Path], platform: Platform) -> None:
    wrong = desk.refused("restart", app, "--strategy", "canary", "--instance-steps", "60,10")
    assert "Options canary steps instance weight must be sorted in ascending order" in wrong
    pushed = desk("push", app, "-p", str(versions["two"]), "--strategy", "canary", "--instance-steps", "25,50")
    paused(pushed, app, "1/2")
    assert webs(pushed) == ["4/4", "1/1"]
    further = desk("continue-deployment", app)
    assert f"Continuing deployment for app {app} in org deployments-{desk.name} / space desk as admin..." in further
    paused(further, app, "2/2")
    assert webs(further) == ["3/3", "2/2"]
    assert set(seen(platform, app)) == {"one", "two"}
    last = desk("continue-deployment", app)
    assert "Active deployment" not in last
    assert f"TIP: Run 'cf app {app}' to view app status." in last
    settled(platform, app, "two")
    eventually(lambda: whole(desk, app), 20)


def test_a_rolling_restart_serves_throughout(desk: Cf, app: str, platform: Platform) -> None:
    version = platform.app(app).json()["version"]
    since = re.findall(r"^#\d\s+running\s+(\S+)", desk("app", app), re.MULTILINE)
    printed = desk("restart", app, "--strategy", "rolling", "--max-in-flight", "2")
    assert f"Creating deployment for app {app}..." in printed
    settled(platform, app, version)
    eventually(lambda: whole(desk, app), 20)
    now = re.findall(r"^#\d\s+running\s+(\S+)", desk("app", app), re.MULTILINE)
    assert set(now).isdisjoint(since) or max(now) > max(since)
    none = desk.refused("restart", app, "--strategy", "rolling", "--max-in-flight", "0")
    assert "--max-in-flight must be greater than or equal to 1" in none
    unknown = desk.refused("restart", app, "--strategy", "nonsense")
    assert 'STRATEGY must be "canary", "rolling" or not set' in unknown


def test_max_in_flight_is_shown_while_it_deploys(desk: Cf, app: str) -> None:
    printed = desk("restart", app, "--strategy", "canary", "--max-in-flight", "3")
    assert re.search(r"^max-in-flight:\s+3$", printed, re.MULTILINE)
    desk("cancel-deployment", app)
    eventually(lambda: whole(desk, app), 20)


def test_a_restage_rolls_in_the_background(desk: Cf, app: str, platform: Platform) -> None:
    version = platform.app(app).json()["version"]
    printed = desk("restage", app, "--strategy", "rolling", "--no-wait")
    assert "First instance restaged correctly, restaging remaining in the background" in printed
    eventually(lambda: whole(desk, app), 60)
    settled(platform, app, version)


def test_a_deployment_that_cannot_start_is_cancelled(
    desk: Cf, app: str, versions: dict[str, Path], platform: Platform, tmp_path: Path
) -> None:
    """The old instances serve on, and whoever waits for the new ones is told."""
    version = platform.app(app).json()["version"]
    broken = tmp_path / "broken"
    shutil.copytree(versions["one"], broken)
    (broken / "server.py").write_text("raise SystemExit('no luck today')\n")
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(desk.run, "push", app, "-p", str(broken), "--strategy", "rolling")
        eventually(lambda: "no luck today" in desk("logs", app, "--recent"), 60, "a new instance crashed")
        assert "Active deployment with status DEPLOYING" in desk("app", app)
        assert set(seen(platform, app)) == {version}
        desk("cancel-deployment", app)
        pushed = pushing.result()
    assert pushed.returncode == 1
    assert "Deployment has been canceled" in pushed.stdout
    assert set(seen(platform, app)) == {version}
    eventually(lambda: whole(desk, app), 20)


def test_revisions_tell_why_and_roll_back(desk: Cf, app: str, versions: dict[str, Path], platform: Platform) -> None:
    desk("push", app, "-p", str(versions["three"]), "--strategy", "rolling", "--max-in-flight", "4")
    settled(platform, app, "three")
    listed = desk("revisions", app)
    assert re.search(r"^\d+\(deployed\)\s+New droplet deployed\.\s+true\s+\S{36}\s+\S+Z$", listed, re.MULTILINE)
    assert re.search(r"^1\s+Initial revision\.\s+true\s", listed, re.MULTILINE)
    (newest,) = re.findall(r"^(\d+)\(deployed\)", listed, re.MULTILINE)
    shown = desk("revision", app, "--version", newest)
    assert f"Showing revision {newest} for app {app} in org deployments-{desk.name} / space desk as admin..." in shown
    assert re.search(r"^deployed:\s+true$", shown, re.MULTILINE)
    assert re.search(r"^droplet GUID:\s+\S{36}$", shown, re.MULTILINE)
    assert re.search(r"^deployed:\s+false$", desk("revision", app, "--version", "1"), re.MULTILINE)
    for command in (("revision", app), ("rollback", app, "-f")):
        assert "Revision '99' not found" in desk.refused(*command, "--version", "99")
    asked = desk("rollback", app, "--version", "1", answer="n\n")
    assert f"App '{app}' has not been rolled back to revision '1'" in asked
    back = desk("rollback", app, "--version", "1", "-f")
    assert f"Rolling back to revision 1 for app {app} in org deployments-{desk.name} / space desk as admin..." in back
    settled(platform, app, "one")
    again = desk("revisions", app)
    assert re.search(
        rf"^{int(newest) + 1}\(deployed\)\s+New droplet deployed\. Rolled back to revision 1\.", again, re.MULTILINE
    )


def test_a_rollback_can_be_a_canary(desk: Cf, app: str, platform: Platform) -> None:
    version = platform.app(app).json()["version"]
    desk("set-env", app, "COLOUR", "blue")
    desk("restart", app, "--strategy", "rolling", "--max-in-flight", "4")
    eventually(lambda: platform.app(app).json()["colour"] == "blue")
    listed = desk("revisions", app)
    (newest,) = re.findall(r"^(\d+)\(deployed\)\s+New environment variables deployed\.", listed, re.MULTILINE)
    assert re.search(r"^COLOUR:\s+blue$", desk("revision", app, "--version", newest), re.MULTILINE)
    back = desk("rollback", app, "--version", str(int(newest) - 1), "-f", "--strategy", "canary")
    paused(back, app, "1/1")
    desk("continue-deployment", app)
    settled(platform, app, version)
    eventually(lambda: platform.app(app).json()["colour"] is None)
    assert "COLOUR" not in desk("env", app)
