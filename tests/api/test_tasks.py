"""Tasks over HTTP, with a cell that does what the test says."""

from typing import Any

import pytest
from sqlalchemy import select, update

from cupola.domain import tasks as rules
from cupola.roles import system_actor
from cupola.runtime import feed
from cupola.runtime.messages import Actual
from cupola.store.app_usage_events import app_usage_events
from cupola.store.staging import droplets
from cupola.store.tasks import tasks
from tests.api.conftest import Cloud
from tests.api.work import finished
from tests.scripted_cell import ScriptedCell, staged_droplet


class Site:
    """A space with an app that has a current droplet, and a cell."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        space = cloud.space()
        self.space: str = space["guid"]
        self.org: str = space["relationships"]["organization"]["data"]["guid"]
        self.app: str = cloud.app("shop", self.space)["guid"]
        self.droplet = staged_droplet(cloud.database, self.app)
        path = f"/v3/apps/{self.app}/relationships/current_droplet"
        cloud.admin.ok("PATCH", path, {"data": {"guid": self.droplet}})
        self.path = f"/v3/apps/{self.app}/tasks"
        self.cell = ScriptedCell(cloud.database, cloud.settings)

    def user(self, role: str) -> Any:
        return self.cloud.user(**{role: self.space, "organization_user": self.org})

    def task(self, client: Any = None, **body: Any) -> Any:
        """A new task of the app."""
        return (client or self.cloud.admin).ok("POST", self.path, {"command": "echo hi", **body}, 202)

    def shown(self, task: Any) -> Any:
        return self.cloud.admin.ok("GET", f"/v3/tasks/{task['guid']}")


@pytest.fixture
def site(cloud: Cloud) -> Site:
    return Site(cloud)


def test_a_task_has_the_defaults_of_the_platform_and_the_next_number(site: Site) -> None:
    first = site.task()
    assert (first["state"], first["sequence_id"], first["command"], first["user"]) == ("PENDING", 1, "echo hi", "vcap")
    defaults = site.cloud.settings.defaults
    sizes = (first["memory_in_mb"], first["disk_in_mb"], first["log_rate_limit_in_bytes_per_second"])
    assert sizes == (defaults.app_memory_mb, defaults.app_disk_mb, defaults.app_log_rate_bytes)
    assert len(first["name"]) == 8
    assert first["droplet_guid"] == site.droplet
    assert first["result"] == {"failure_reason": None}
    assert first["relationships"] == {"app": {"data": {"guid": site.app}}}
    api = site.cloud.settings.api_url
    assert first["links"]["cancel"] == {"href": f"{api}/v3/tasks/{first['guid']}/actions/cancel", "method": "POST"}
    second = site.task(
        name="migrate",
        memory_in_mb=64,
        disk_in_mb=32,
        log_rate_limit_in_bytes_per_second=-1,
        metadata={"labels": {"a": "b"}},
    )
    assert (second["sequence_id"], second["name"], second["memory_in_mb"]) == (2, "migrate", 64)
    assert second["metadata"]["labels"] == {"a": "b"}
    events = site.cloud.admin.ok("GET", f"/v3/audit_events?types=audit.app.task.create&target_guids={site.app}")
    assert events["resources"][1]["data"] == {
        "task_guid": second["guid"],
        "request": {"name": "migrate", "memory_in_mb": 64, "command": "[PRIVATE DATA HIDDEN]"},
    }


def test_a_task_runs_and_ends_as_the_cell_says(site: Site) -> None:
    good, bad = site.task(name="good"), site.task(name="bad", command="exit 3")
    wanted = site.cell.task(bad["guid"])
    assert wanted is not None
    assert (wanted.command, wanted.log_source, wanted.kind) == ("exit 3", "APP/TASK/bad", "task")
    assert "VCAP_APPLICATION" in wanted.env
    assert "PORT" not in wanted.env
    for task in (good, bad):
        site.cell.start_task(task["guid"])
    assert site.shown(good)["state"] == "RUNNING"
    site.cell.end_task(good["guid"])
    site.cell.end_task(bad["guid"], "APP/TASK/bad: Exited with status 3", 3)
    assert site.shown(good)["state"] == "SUCCEEDED"
    assert (site.shown(bad)["state"], site.shown(bad)["result"]) == (
        "FAILED",
        {"failure_reason": "APP/TASK/bad: Exited with status 3"},
    )
    assert site.cell.desired().tasks == []
    with site.cloud.database.read() as tx:
        told = tx.all(select(app_usage_events.c.task_name, app_usage_events.c.state).order_by(app_usage_events.c.id))
    assert [tuple(row) for row in told] == [
        ("good", "TASK_STARTED"),
        ("bad", "TASK_STARTED"),
        ("good", "TASK_STOPPED"),
        ("bad", "TASK_STOPPED"),
    ]


def test_what_a_cell_says_of_an_ended_task_changes_nothing(site: Site) -> None:
    task = site.task()
    site.cell.start_task(task["guid"])
    site.cell.end_task(task["guid"])
    site.cell.start_task(task["guid"])
    site.cell.end_task(task["guid"], "too late", 1)
    assert (site.shown(task)["state"], site.shown(task)["result"]["failure_reason"]) == ("SUCCEEDED", None)


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/actions/cancel"), ("PUT", "/actions/cancel"), ("PUT", "/cancel")]
)
def test_a_cancelled_task_fails_when_it_has_stopped(site: Site, method: str, path: str) -> None:
    task = site.task()
    site.cell.start_task(task["guid"])
    supporter = site.user("space_supporter")
    cancelled = supporter.ok(method, f"/v3/tasks/{task['guid']}{path}", status=202)
    assert cancelled["state"] == "CANCELING"
    assert "command" not in cancelled
    assert site.cell.task(task["guid"]) is None
    assert supporter.ok(method, f"/v3/tasks/{task['guid']}{path}", status=202)["state"] == "CANCELING"
    site.cell.end_task(task["guid"], "task was cancelled", 143)
    assert (site.shown(task)["state"], site.shown(task)["result"]["failure_reason"]) == ("FAILED", "task was cancelled")
    refused = supporter.problem(method, f"/v3/tasks/{task['guid']}{path}")
    assert refused == (422, 10008, "Task state is FAILED and therefore cannot be canceled")
    events = site.cloud.admin.ok("GET", f"/v3/audit_events?types=audit.app.task.cancel&target_guids={site.app}")
    assert {event["data"]["task_guid"] for event in events["resources"]} == {task["guid"]}


def test_a_task_cancelled_before_any_cell_took_it_is_ended_by_the_platform(site: Site) -> None:
    task = site.task()
    site.cloud.admin.ok("POST", f"/v3/tasks/{task['guid']}/actions/cancel", status=202)
    with site.cloud.database.write() as tx:
        assert rules.sweep(tx) == 0
        tx.run(update(tasks).values(updated_at=tx.now - 60_000_000))
        assert rules.sweep(tx) == 1
    assert (site.shown(task)["state"], site.shown(task)["result"]["failure_reason"]) == ("FAILED", "task was cancelled")


def test_a_task_whose_droplet_is_gone_fails_and_says_so(site: Site) -> None:
    task = site.task()
    with site.cloud.database.write() as tx:
        tx.run(update(droplets).values(state="EXPIRED", digest=None))
    assert site.cell.task(task["guid"]) is None
    with site.cloud.database.write() as tx:
        assert rules.sweep(tx) == 1
    assert "droplet of the task is gone" in site.shown(task)["result"]["failure_reason"]


def test_tasks_of_a_cell_that_lost_its_memory_are_not_run_again(site: Site) -> None:
    lost, kept = site.task(), site.task()
    for task in (lost, kept):
        site.cell.start_task(task["guid"])
    with site.cloud.database.write() as tx:
        feed.replace_actual(tx, Actual("cell-1", 0, [], [kept["guid"]]))
    assert "Unable to determine completion status" in site.shown(lost)["result"]["failure_reason"]
    assert site.shown(kept)["state"] == "RUNNING"
    assert [one.guid for one in site.cell.desired().tasks] == [kept["guid"]]


def test_a_template_gives_command_and_sizes(site: Site) -> None:
    web = f"/v3/apps/{site.app}/processes/web"
    site.cloud.admin.ok("POST", web + "/actions/scale", {"memory_in_mb": 77, "disk_in_mb": 55}, 202)
    template = {"template": {"process": {"guid": site.app}}, "command": None}
    task = site.task(**template)
    assert (task["command"], task["memory_in_mb"], task["disk_in_mb"]) == ("run web", 77, 55)
    site.cloud.admin.ok("PATCH", web, {"command": "own"})
    assert site.task(**template)["command"] == "own"
    assert site.task(**{**template, "command": "other", "memory_in_mb": 9})["command"] == "other"
    elsewhere = site.cloud.app()["guid"]
    body = {"template": {"process": {"guid": elsewhere}}}
    assert site.cloud.admin.problem("POST", site.path, body) == (
        404,
        350003,
        f"The process could not be found: {elsewhere}",
    )


def test_bad_bodies_are_refused_in_upstreams_words(site: Site) -> None:
    def problem(body: Any) -> tuple[int, int, str]:
        found: tuple[int, int, str] = site.cloud.admin.problem("POST", site.path, body)
        return found

    assert problem({}) == (422, 10008, "Command No command or template provided")
    assert problem({"command": "x", "memory_in_mb": 0})[2] == "Memory in mb must be greater than 0"
    assert problem({"command": "x", "disk_in_mb": 1.5})[2] == "Disk in mb must be an integer"
    assert problem({"command": "x" * 4097})[2] == "Command is too long (maximum is 4096 characters)"
    unnamed = "Template process guid must be a string, Template process guid must be between 1 and 200 characters"
    templates: list[Any] = [{}, {"process": {}}, {"process": {"guid": 1}}]
    assert {problem({"template": template})[2] for template in templates} == {unnamed}
    assert problem({"command": "x", "bogus": 1})[2] == "Unknown field(s): 'bogus'"
    most = site.cloud.settings.defaults.app_disk_max_mb
    too_much = f"Cannot request disk_in_mb greater than {most}"
    assert problem({"command": "x", "disk_in_mb": most + 1})[2] == too_much
    user = "user invalid (requested user 'root' not allowed, permitted users are: 'vcap')"
    assert problem({"command": "x", "user": "root"})[2] == user
    assert problem({"command": "x", "droplet_guid": "nope"}) == (404, 10010, "Droplet not found")
    bare = f"/v3/apps/{site.cloud.app()['guid']}/tasks"
    missing = "Task must have a droplet. Specify droplet or assign current droplet to app."
    assert site.cloud.admin.problem("POST", bare, {"command": "x"})[2] == missing


def test_a_droplet_can_be_named_if_it_is_the_apps_and_staged(site: Site) -> None:
    other = staged_droplet(site.cloud.database, site.app)
    assert site.task(droplet_guid=other)["droplet_guid"] == other
    waiting = staged_droplet(site.cloud.database, site.app, state="AWAITING_UPLOAD")
    refused = site.cloud.admin.problem("POST", site.path, {"command": "x", "droplet_guid": waiting})
    assert refused[0] == 422
    foreign = staged_droplet(site.cloud.database, site.cloud.app()["guid"])
    assert site.cloud.admin.problem("POST", site.path, {"command": "x", "droplet_guid": foreign})[0] == 404


def test_who_may_run_see_and_relabel_tasks(site: Site) -> None:
    developer, supporter, auditor = (
        site.user(role) for role in ("space_developer", "space_supporter", "space_auditor")
    )
    stranger = site.cloud.user()
    task = site.task(developer)
    path = f"/v3/tasks/{task['guid']}"
    assert "command" in task
    assert "command" in developer.ok("GET", path)
    assert "command" in developer.ok("GET", site.path)["resources"][0]
    assert "command" not in developer.ok("GET", "/v3/tasks")["resources"][0]
    assert "command" not in site.cloud.admin.ok("GET", "/v3/tasks")["resources"][0]
    for client in (supporter, auditor):
        assert "command" not in client.ok("GET", path)
        assert "command" not in client.ok("GET", site.path)["resources"][0]
        assert client.problem("POST", site.path, {"command": "x"})[:2] == (403, 10003)
        assert client.problem("PATCH", path, {"metadata": {"labels": {"a": "b"}}})[:2] == (403, 10003)
    assert auditor.problem("POST", path + "/actions/cancel")[:2] == (403, 10003)
    assert stranger.problem("GET", path) == (404, 10010, "Task not found")
    assert stranger.problem("POST", site.path, {"command": "x"}) == (404, 10010, "App not found")
    assert stranger.ok("GET", "/v3/tasks")["resources"] == []
    changed = developer.ok("PATCH", path, {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}})
    assert changed["metadata"] == {"labels": {"a": "b"}, "annotations": {"c": "d"}}
    assert developer.ok("GET", "/v3/tasks?label_selector=a=b")["pagination"]["total_results"] == 1


def test_the_flag_keeps_all_but_admins_from_running_tasks(site: Site) -> None:
    flag = {"enabled": False, "custom_error_message": "not today"}
    site.cloud.admin.ok("PATCH", "/v3/feature_flags/task_creation", flag)
    developer = site.user("space_developer")
    assert developer.problem("POST", site.path, {"command": "x"}) == (403, 330002, "Feature Disabled: not today")
    site.task()


def test_lists_filter_and_refuse_what_they_do_not_know(site: Site) -> None:
    one, two = site.task(name="One"), site.task(name="two")
    site.cell.start_task(two["guid"])
    get = site.cloud.admin.ok

    def guids(path: str) -> list[str]:
        return [task["guid"] for task in get("GET", path)["resources"]]

    assert guids("/v3/tasks?names=one") == [one["guid"]]
    assert guids("/v3/tasks?states=RUNNING") == [two["guid"]]
    assert guids(f"/v3/tasks?app_guids={site.app}&order_by=-created_at") == [two["guid"], one["guid"]]
    assert guids(f"/v3/tasks?space_guids={site.space}&organization_guids={site.org}") == [one["guid"], two["guid"]]
    assert guids("/v3/tasks?space_guids=nope") == []
    assert guids(f"{site.path}?sequence_ids=2,7") == [two["guid"]]
    assert guids(f"{site.path}?sequence_ids=x") == []
    refused = site.cloud.admin.problem("GET", "/v3/tasks?sequence_ids=2")
    assert refused[:2] == (400, 10005)
    assert "Unknown query parameter(s): 'sequence_ids'" in refused[2]
    assert site.cloud.admin.problem("GET", site.path + "?space_guids=x")[0] == 400


def test_deleting_an_app_stops_its_tasks(site: Site) -> None:
    task = site.task()
    site.cell.start_task(task["guid"])
    assert finished(site.cloud, site.cloud.admin, "DELETE", f"/v3/apps/{site.app}")["state"] == "COMPLETE"
    assert site.cloud.admin.problem("GET", f"/v3/tasks/{task['guid']}")[0] == 404
    assert site.cell.desired().tasks == []
    events = site.cloud.admin.ok("GET", f"/v3/audit_events?types=audit.app.task.cancel&target_guids={site.app}")
    assert len(events["resources"]) == 1
    with site.cloud.database.read() as tx:
        told = tx.scalars(select(app_usage_events.c.state).where(app_usage_events.c.task_guid == task["guid"]))
    assert told == ["TASK_STARTED", "TASK_STOPPED"]


def test_old_tasks_are_pruned_and_their_numbers_not_given_again(site: Site) -> None:
    old, running = site.task(), site.task()
    site.cell.start_task(old["guid"])
    site.cell.end_task(old["guid"])
    site.cell.start_task(running["guid"])
    with site.cloud.database.write() as tx:
        assert rules.prune(tx, tx.now + 1) == 1
    assert [task["guid"] for task in site.cloud.admin.ok("GET", site.path)["resources"]] == [running["guid"]]
    with site.cloud.database.write() as tx:
        row = tx.one(select(tasks).where(tasks.c.guid == running["guid"]))
        assert row is not None
        rules.cancel(tx, system_actor(), row)
    site.cell.end_task(running["guid"], "task was cancelled")
    with site.cloud.database.write() as tx:
        rules.prune(tx, tx.now + 1)
    assert site.task()["sequence_id"] == 3


def test_a_quota_limits_tasks_and_their_memory(site: Site) -> None:
    limits = {"apps": {"total_memory_in_mb": 200, "per_app_tasks": 2}}
    body = {"name": "small", **limits, "relationships": {"organizations": {"data": [{"guid": site.org}]}}}
    site.cloud.admin.ok("POST", "/v3/organization_quotas", body, 201)
    refused = site.cloud.admin.problem("POST", site.path, {"command": "x", "memory_in_mb": 201})
    assert refused == (422, 10008, "memory_in_mb exceeds organization memory quota")
    for _ in range(2):
        site.task(memory_in_mb=10)
    assert (
        site.cloud.admin.problem("POST", site.path, {"command": "x", "memory_in_mb": 10})[2]
        == "app_task_limit quota exceeded"
    )
