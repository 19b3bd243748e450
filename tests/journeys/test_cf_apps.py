"""One app and everything that the official CLI can do to it: packages, droplets, checks, labels, tasks, copies, manifests."""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.cf import Cf
from tests.journeys.platform import Platform, eventually

STEADY = Path(__file__).parent / "apps" / "steady"
SMALL = ("-m", "32M", "-k", "64M")


@pytest.fixture(scope="module")
def app(desk: Cf) -> str:
    """The app of the module."""
    name = f"kept-{desk.name}"
    desk("push", name, "-m", "64M", "-k", "256M", "-p", str(STEADY))
    return name


@pytest.fixture
def empty(desk: Cf) -> Iterator[str]:
    """An app without a package."""
    name = f"empty-{desk.name}"
    assert 'Using app type "buildpack"\nOK' in desk("create-app", name)
    yield name
    desk("delete", "-f", "-r", name)


def rows(printed: str) -> list[list[str]]:
    """The lines of the first table, without its head, as cells."""
    _, _, table = printed.partition("\n\n")
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()[1:] if line.strip()]


def checks(printed: str) -> dict[str, list[str]]:
    """Process type to the cells behind it."""
    return {cells[0]: cells[1:] for cells in rows(printed)}


# Looking.


def test_apps_are_listed_and_shown(desk: Cf, app: str, empty: str) -> None:
    listed = desk("apps")
    assert re.search(rf"^{app}\s+started\s+web:1/1, worker:0/0\s+{app}\.apps\.localhost$", listed, re.MULTILINE)
    assert re.search(rf"^{empty}\s+stopped\s+web:0/1\s*$", listed, re.MULTILINE)
    shown = desk("app", app)
    for name, value in (("name", app), ("requested state", "started"), ("stack", "cflinuxfs4"), ("instances", "1/1")):
        assert re.search(rf"^{name}:\s+{value}$", shown, re.MULTILINE)
    assert re.search(r"^#0\s+running\s+\S+Z\s.*\s+true$", shown, re.MULTILINE)
    head = r"cpu entitlement\s+memory" if desk.major >= 9 else r"cpu\s+memory\s+disk\s+logging\s+cpu entitlement"
    assert re.search(rf"^\s+state\s+since\s+{head}", shown, re.MULTILINE)
    assert re.search(r"^#0\s+down\s", desk("app", empty), re.MULTILINE)
    assert re.fullmatch(r"[0-9a-f-]{36}", desk.guid(app))
    for command in ("app", "events", "packages", "droplets", "tasks", "revisions", "get-health-check", "start", "stop"):
        assert "App 'nothing' not found" in desk.refused(command, "nothing"), command
    assert "App 'nothing' does not exist.\nOK" in desk("delete", "-f", "nothing")
    assert "already exists.\nOK" in desk("create-app", empty)


def test_events_tell_what_was_done(desk: Cf, app: str) -> None:
    found = [cells[1] for cells in rows(desk("events", app).replace("admin...\n", "admin...\n\n", 1))]
    assert found.index("audit.app.restart") < found.index("audit.app.build.create") < found.index("audit.app.create")
    assert {"audit.app.package.upload", "audit.app.droplet.mapped", "audit.app.map-route"} <= set(found)


# Packages, droplets, copies.


def test_packages_and_droplets_are_made_listed_and_set(desk: Cf, app: str) -> None:
    assert rows(desk("packages", app))[0][1] == "ready"
    created = desk("create-package", app, "-p", str(STEADY))
    (package,) = re.findall(r"Package with guid '(\S+)' has been created\.\nOK", created)
    assert rows(desk("packages", app))[0][0] == package, "the newest is first"
    staged = desk("stage-package", app, "--package-guid", package)
    assert "Package staged" in staged
    (droplet,) = re.findall(r"^droplet guid:\s+(\S+)$", staged, re.MULTILINE)
    before = next(cells[0] for cells in rows(desk("droplets", app)) if "(current)" in cells[0]).removesuffix(
        " (current)"
    )
    assert [droplet, "staged"] == rows(desk("droplets", app))[0][:2]
    assert "OK" in desk("set-droplet", app, droplet)
    assert f"{droplet} (current)" in desk("droplets", app)
    wrong = desk.refused("set-droplet", app, "nonsense")
    assert "Unable to assign current droplet. Ensure the droplet exists and belongs to this app." in wrong
    desk("set-droplet", app, before)
    unknown = desk.refused("stage-package", app, "--package-guid", "nonsense")
    assert "Package with guid 'nonsense' not found in app" in unknown


def test_a_droplet_is_downloaded_and_pushed_elsewhere(desk: Cf, app: str, platform: Platform, tmp_path: Path) -> None:
    file = tmp_path / "droplet.tgz"
    printed = desk("download-droplet", app, "-p", str(file))
    assert f"Droplet downloaded successfully at {file}\nOK" in printed
    with tarfile.open(file) as archive:
        assert "./app/server.py" in archive.getnames()
    other = f"carried-{desk.name}"
    pushed = desk("push", other, "--droplet", str(file), "-m", "64M", "-k", "256M", "-c", "python3 server.py")
    assert "Uploading droplet bits" in pushed
    assert platform.app(other).json()["application"] == other
    desk("delete", "-f", "-r", other)
    assert "App 'nothing' not found" in desk.refused("download-droplet", "nothing")


def test_an_app_without_bits_says_what_it_lacks(desk: Cf, empty: str) -> None:
    assert "App cannot start without a package to stage or a droplet to run." in desk.refused("start", empty)
    assert f"App '{empty}' does not have a current droplet." in desk.refused("download-droplet", empty)
    assert "Error running task: App is not staged." in desk.refused("run-task", empty, "--command", "true")
    assert "No packages found" in desk("packages", empty)
    assert "No droplets found" in desk("droplets", empty)
    assert "No tasks found" in desk("tasks", empty)
    assert "No revisions found" in desk("revisions", empty)


def test_the_source_of_an_app_is_copied(desk: Cf, app: str, empty: str, platform: Platform) -> None:
    said = f"Copying source from app {app} to target app {empty} in org apps-{desk.name} / space desk as admin..."
    printed = desk("copy-source", app, empty, "--no-restart")
    assert said in printed
    assert re.search(rf"^{empty}\s+stopped", desk("apps"), re.MULTILINE)
    desk("scale", empty, "-i", "1")
    desk("curl", "--fail", f"/v3/apps/{desk.guid(empty)}/processes/web/actions/scale", "-d", '{"memory_in_mb": 64}')
    desk("map-route", empty, "apps.localhost", "-n", empty)
    printed = desk("copy-source", app, empty)
    assert said in printed
    assert re.search(r"^#0\s+running", printed, re.MULTILINE)
    assert platform.app(empty).json()["application"] == empty
    assert "App 'nothing' not found" in desk.refused("copy-source", app, "nothing")
    desk("create-space", "away")
    assert "App" in desk.refused("copy-source", app, empty, "-s", "away")
    desk("delete-space", "-f", "away")


# Checks, ssh, instances, names.


def test_health_checks_are_shown_and_set(desk: Cf, app: str) -> None:
    assert checks(desk("get-health-check", app)) == {"web": ["port", "1"], "worker": ["process", "1"]}
    said = desk("set-health-check", app, "http", "--endpoint", "/health", "--invocation-timeout", "2")
    assert f"Updating health check type for app {app} process web" in said
    assert "TIP: An app restart is required for the change to take effect." in said
    assert checks(desk("get-health-check", app))["web"] == ["http", "/health", "2"]
    desk("set-health-check", app, "port", "--process", "worker")
    assert checks(desk("get-health-check", app))["worker"][0] == "port"
    desk("set-health-check", app, "process", "--process", "worker")
    desk("set-health-check", app, "port", "--invocation-timeout", "1")
    assert checks(desk("get-health-check", app)) == {"web": ["port", "1"], "worker": ["process", "1"]}
    wrong = desk.refused("set-health-check", app, "nonsense")
    assert 'HEALTH_CHECK_TYPE must be "port", "process", or "http"' in wrong
    assert "not found" in desk.refused("set-health-check", app, "port", "--process", "nothing")
    assert checks(desk("get-readiness-health-check", app)) == {"web": ["process"], "worker": ["process"]}


def test_ssh_is_switched_for_an_app_and_not_served_yet(desk: Cf, app: str) -> None:
    assert f"ssh support is enabled for app '{app}'." in desk("ssh-enabled", app)
    assert "OK" in desk("disable-ssh", app)
    off = desk("ssh-enabled", app)
    assert f"ssh support is disabled for app '{app}'.\nssh is disabled for app" in off
    assert "already disabled" in desk("disable-ssh", app)
    desk("disallow-space-ssh", "desk")
    assert "TIP: Ensure ssh is also enabled on the space and global level." in desk("enable-ssh", app)
    assert "ssh is disabled for space" in desk("ssh-enabled", app)
    desk("allow-space-ssh", "desk")
    assert f"ssh support is enabled for app '{app}'." in desk("ssh-enabled", app)
    assert "already enabled" in desk("enable-ssh", app)
    assert "SSH endpoint not set" in desk.refused("ssh", app, "-c", "true")
    assert re.fullmatch(r"\S{6,}", desk("ssh-code").strip())


def test_one_instance_is_restarted(desk: Cf, app: str, platform: Platform) -> None:
    def since() -> list[str]:
        return re.findall(r"^#0\s+running\s+(\S+)", desk("app", app), re.MULTILINE)

    before = eventually(since)
    assert "OK" in desk("restart-app-instance", app, "0")
    eventually(lambda: since() not in ([], before), 30, "another instance 0 runs")
    eventually(lambda: platform.app(app).status == 200)
    assert "Instance 7 of process web not found" in desk.refused("restart-app-instance", app, "7")
    missing = desk.refused("restart-app-instance", app, "0", "--process", "nothing")
    assert "Process nothing not found" in missing


def test_an_app_is_renamed(desk: Cf, app: str, empty: str) -> None:
    assert "OK" in desk("rename", empty, f"{empty}-new")
    assert re.search(rf"^{empty}-new\s", desk("apps"), re.MULTILINE)
    taken = desk.refused("rename", f"{empty}-new", app)
    assert f"App with the name '{app}' already exists." in taken
    assert "OK" in desk("rename", f"{empty}-new", empty)
    assert "App 'nothing' not found" in desk.refused("rename", "nothing", "more")


def test_labels_of_an_app_and_its_route(desk: Cf, app: str) -> None:
    assert "OK" in desk("set-label", "app", app, "tier=front", "team=a")
    assert rows(desk("labels", "app", app)) == [["team", "a"], ["tier", "front"]]
    assert app in desk("apps", "--labels", "tier in (front,back),team=a")
    assert "No apps found" in desk("apps", "--labels", "tier=back")
    assert "OK" in desk("unset-label", "app", app, "tier")
    assert rows(desk("labels", "app", app)) == [["team", "a"]]
    desk("unset-label", "app", app, "team")
    wrong = desk.refused("set-label", "app", app, "a/b/c=x")
    assert "Metadata label key error: key has more than one '/'" in wrong
    assert "Metadata label value error" in desk.refused("set-label", "app", app, "key=not good!")
    route = f"{app}.apps.localhost"
    assert "OK" in desk("set-label", "route", route, "kind=public")
    assert rows(desk("labels", "route", route)) == [["kind", "public"]]
    assert "OK" in desk("unset-label", "route", route, "kind")
    assert "No labels found." in desk("labels", "route", route)


def test_more_than_a_quota_allows_is_refused_by_name(desk: Cf, app: str) -> None:
    org, name = f"apps-{desk.name}", f"tight-{desk.name}"
    assert "memory quota_exceeded" in desk.refused("scale", app, "-m", "2T", "-f")
    desk("create-org-quota", name, "-m", "1G", "-i", "128M", "-a", "2", "-r", "9", "-l", "10M")
    desk("set-org-quota", org, name)
    try:
        assert "memory instance_memory_limit_exceeded" in desk.refused("scale", app, "-m", "129M", "-f")
        assert "app_instance_limit_exceeded" in desk.refused("scale", app, "-i", "3")
        assert "log_rate_limit exceeds organization log rate quota" in desk.refused("scale", app, "-l", "11M", "-f")
        exceeded = desk.refused("run-task", app, "--command", "true", "-m", "2G")
        assert "memory_in_mb exceeds organization memory quota" in exceeded
    finally:
        desk("set-org-quota", org, "default")
        desk("delete-org-quota", "-f", name)
    assert re.search(r"^instances:\s+1/1$", desk("app", app), re.MULTILINE), "nothing was changed"


# Tasks.


def test_a_task_is_shown_and_terminated(desk: Cf, app: str) -> None:
    printed = desk("run-task", app, "--command", "echo begun; sleep 60", "--name", "long", *SMALL)
    assert f"Creating task for app {app} in org apps-{desk.name} / space desk as admin..." in printed
    (number,) = re.findall(r"^task id:\s+(\d+)$", printed, re.MULTILINE)
    eventually(lambda: re.search(rf"^{number}\s+long\s+RUNNING\s", desk("tasks", app), re.MULTILINE))
    shown = desk("task", app, number)
    for name, value in (("name", "long"), ("state", "RUNNING"), ("command", "echo begun; sleep 60")):
        assert re.search(rf"^{name}:\s+{value}$", shown, re.MULTILINE)
    assert re.search(r"^memory in mb:\s+32$", shown, re.MULTILINE)
    assert f"Terminating task {number} of app {app}" in desk("terminate-task", app, number)
    eventually(lambda: re.search(rf"^{number}\s+long\s+FAILED\s", desk("tasks", app), re.MULTILINE))
    assert re.search(r"^failure reason:\s+task was cancelled$", desk("task", app, number), re.MULTILINE)
    over = desk.refused("terminate-task", app, number)
    assert "Task state is FAILED and therefore cannot be canceled" in over
    assert "Task sequence ID 99 not found." in desk.refused("terminate-task", app, "99")
    assert "Task sequence ID 99 not found." in desk.refused("task", app, "99")


def test_a_task_is_waited_for_and_its_end_is_the_exit_code(desk: Cf, app: str) -> None:
    good = desk("run-task", app, "--command", "true", "--name", "good", "--wait", *SMALL)
    assert "Task has completed successfully.\nOK" in good
    bad = desk.refused("run-task", app, "--command", "exit 3", "--name", "bad", "--wait", *SMALL)
    assert "Task failed to complete successfully" in bad
    listed = desk("tasks", app)
    assert re.search(r"^\d+\s+good\s+SUCCEEDED\s", listed, re.MULTILINE)
    (number,) = re.findall(r"^(\d+)\s+bad\s+FAILED\s", listed, re.MULTILINE)
    assert re.search(r"^failure reason:\s+\S.*status 3$", desk("task", app, number), re.MULTILINE)
    of_worker = desk("run-task", app, "--process", "worker", "--name", "as-worker", *SMALL)
    (number,) = re.findall(r"^task id:\s+(\d+)$", of_worker, re.MULTILINE)
    assert "the worker works" in desk("task", app, number), "the command of the process"
    desk("terminate-task", app, number)


def test_feature_flags_bind_developers_and_no_admin(desk: Cf, app: str, platform: Platform, tmp_path: Path) -> None:
    name, password = f"dev-{desk.name}", "correct horse 2"
    desk("create-user", name, password)
    desk("set-space-role", name, f"apps-{desk.name}", "desk", "SpaceDeveloper")
    developer = Cf(desk.program, tmp_path)
    developer("api", platform.url)
    developer("auth", name, password)
    developer("target", "-o", f"apps-{desk.name}", "-s", "desk")
    task = ("run-task", app, "--command", "true", *SMALL)
    assert "OK" in developer(*task)
    for flag in ("task_creation", "app_scaling"):
        desk("disable-feature-flag", flag)
    try:
        assert "Feature Disabled: task_creation" in developer.refused(*task)
        assert "Feature Disabled: app_scaling" in developer.refused("scale", app, "-i", "2")
        assert "OK" in desk(*task)
    finally:
        for flag in ("task_creation", "app_scaling"):
            desk("enable-feature-flag", flag)
    assert "OK" in developer(*task)
    desk("delete-user", "-f", name)


# Manifests.

MANIFEST = """\
applications:
- name: {name}
  memory: 128M
  disk_quota: 256M
  env: {{GREETING: hello}}
  metadata: {{labels: {{tier: front}}}}
  routes:
  - route: {name}.apps.localhost/here
    options: {{loadbalancing: least-connection}}
  - route: {name}.apps.localhost
  sidecars:
  - name: helper
    process_types: [web]
    command: 'while true; do echo helping; sleep 1; done'
    memory: 32M
"""


def test_sidecars_run_by_manifest(desk: Cf, platform: Platform, tmp_path: Path) -> None:
    name = f"aided-{desk.name}"
    (tmp_path / "manifest.yml").write_text(MANIFEST.format(name=name))
    pushed = desk("push", "-f", str(tmp_path / "manifest.yml"), "-p", str(STEADY))
    assert f"Applying manifest file {tmp_path / 'manifest.yml'}..." in pushed
    assert re.search(r"^\+ +- command: while true; do echo helping; sleep 1; done$", pushed, re.MULTILINE)
    assert "Manifest applied" in pushed
    assert re.search(r"^sidecars:\s+helper$", pushed, re.MULTILINE)
    line = r"\[APP/PROC/WEB/SIDECAR/HELPER/0\] OUT helping"
    eventually(lambda: re.search(line, desk("logs", name, "--recent")), 15, "the sidecar speaks")
    assert platform.app(name, "/here/more").status == 200
    assert "{loadbalancing=least-connection}" in desk("route", "apps.localhost", "-n", name, "--path", "/here")

    written = tmp_path / "written.yml"
    assert f"Manifest file created successfully at {written}\nOK" in desk(
        "create-app-manifest", name, "-p", str(written)
    )
    text = written.read_text()
    for part in ("name: helper", "memory: 32M", "GREETING: hello", "loadbalancing: least-connection", "tier: front"):
        assert part in text
    same = desk("apply-manifest", "-f", str(written))
    assert not re.search(r"^[+-] ", same, re.MULTILINE), "nothing differs"
    assert same.rstrip().endswith("OK")
    written.write_text(text.replace("GREETING: hello", "GREETING: bye").replace("memory: 32M", "memory: 40M"))
    changed = desk("apply-manifest", "-f", str(written))
    assert re.search(r"^- +GREETING: hello\n\+ +GREETING: bye$", changed, re.MULTILINE)
    assert re.search(r"^- +memory: 32M\n\+ +memory: 40M$", changed, re.MULTILINE)
    assert re.search(r"^GREETING:\s+bye$", desk("env", name), re.MULTILINE)
    desk("delete", "-f", "-r", name)


def test_a_manifest_makes_an_app_and_a_wrong_one_none(desk: Cf, tmp_path: Path) -> None:
    name, file = f"planned-{desk.name}", tmp_path / "manifest.yml"
    file.write_text(
        f"applications:\n- name: {name}\n  random-route: true\n  processes:\n"
        "  - {type: web, instances: 2, memory: 64M, health-check-type: http, health-check-http-endpoint: /up,"
        " readiness-health-check-type: http, readiness-health-check-http-endpoint: /ready,"
        " readiness-health-check-interval: 5}\n"
    )
    assert "OK" in desk("apply-manifest", "-f", str(file))
    shown = desk("app", name)
    assert re.search(r"^instances:\s+0/2$", shown, re.MULTILINE)
    assert re.search(rf"^routes:\s+{name}-\w+-\w+-\w+\.apps\.localhost$", shown, re.MULTILINE)
    assert checks(desk("get-health-check", name)) == {"web": ["http", "/up", "1"]}
    assert checks(desk("get-readiness-health-check", name)) == {"web": ["http", "/ready", "5"]}
    desk("delete", "-f", "-r", name)
    file.write_text(f"applications:\n- name: {name}\n  memory: 12Q\n")
    wrong = desk.refused("apply-manifest", "-f", str(file))
    assert f"For application '{name}': Process \"web\": Memory must use a supported unit" in wrong
    file.write_text("applications: [")
    assert "yaml" in desk.refused("apply-manifest", "-f", str(file))
    file.write_text(f"applications:\n- name: {name}\n  memory: ((much))\n")
    assert "Expected to find variables: much" in desk.refused("push", "-f", str(file), "-p", str(STEADY))
    assert name not in desk("apps")
