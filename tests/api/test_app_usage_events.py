"""Usage events over HTTP: what is written when processes, stagings and tasks come and go."""

import uuid
from typing import Any

import pytest
from sqlalchemy import insert, select

from cupola import clock
from cupola.domain import builds_outcome, usage
from cupola.processes.chores import chores
from cupola.store import rows
from cupola.store.app_usage_events import app_usage_events
from cupola.store.apps import processes
from cupola.store.platform import buildpacks
from cupola.store.service_usage_events import service_usage_events
from cupola.store.staging import droplets, packages
from tests.api.conftest import Cloud
from tests.api.work import finished
from tests.deploying import Site

_PATH = "/v3/app_usage_events"
_PURGE = "/actions/destructively_purge_all_and_reseed"


def buildpack(cloud: Cloud, name: str = "static") -> str:
    with cloud.database.write() as tx:
        return str(rows.add(tx, buildpacks, {"name": name, "position": 1, "state": "READY"}).guid)


def droplet(cloud: Cloud, app: str, name: str = "static") -> None:
    """A staged droplet, made current."""
    values = {
        "app_guid": app,
        "state": "STAGED",
        "lifecycle_type": "buildpack",
        "buildpacks": [{"name": "nodejs"}, {"name": name}],
        "process_types": {"web": "serve", "worker": "work"},
        "sidecars": [],
    }
    with cloud.database.write() as tx:
        made = rows.add(tx, droplets, values)
    body = {"data": {"guid": made.guid}}
    cloud.admin.ok("PATCH", f"/v3/apps/{app}/relationships/current_droplet", body)


def events(cloud: Cloud, query: str = "") -> list[Any]:
    found: list[Any] = cloud.admin.ok("GET", f"{_PATH}{query}")["resources"]
    return found


def act(cloud: Cloud, app: str, verb: str) -> None:
    cloud.admin.ok("POST", f"/v3/apps/{app}/actions/{verb}")


def told(cloud: Cloud, after: str = "") -> list[tuple[Any, ...]]:
    """(type, before, now) of events, in order."""
    found = events(cloud, f"?after_guid={after}" if after else "")
    return [
        (
            one["process"]["type"],
            (one["state"]["previous"], one["instance_count"]["previous"], one["memory_in_mb_per_instance"]["previous"]),
            (one["state"]["current"], one["instance_count"]["current"], one["memory_in_mb_per_instance"]["current"]),
        )
        for one in found
    ]


def test_start_scale_stop_and_delete_are_told(cloud: Cloud) -> None:
    app = cloud.app("shop")["guid"]
    droplet(cloud, app)
    assert told(cloud) == []
    act(cloud, app, "start")
    web, worker = events(cloud)
    assert [one["process"]["type"] for one in (web, worker)] == ["web", "worker"]
    assert told(cloud)[0] == ("web", ("STOPPED", 1, 1024), ("STARTED", 1, 1024))
    scale = f"/v3/apps/{app}/processes/web/actions/scale"
    cloud.admin.ok("POST", scale, {"instances": 3}, 202)
    cloud.admin.ok("POST", scale, {"memory_in_mb": 256}, 202)
    cloud.admin.ok("POST", scale, {"disk_in_mb": 512}, 202)
    act(cloud, app, "restart")
    act(cloud, app, "stop")
    act(cloud, app, "stop")
    cloud.admin.ok("POST", scale, {"instances": 2}, 202)
    assert told(cloud, worker["guid"]) == [
        ("web", ("STARTED", 1, 1024), ("STARTED", 3, 1024)),
        ("web", ("STARTED", 3, 1024), ("STARTED", 3, 256)),
        ("web", ("STARTED", 3, 256), ("STOPPED", 3, 256)),
        ("worker", ("STARTED", 0, 1024), ("STOPPED", 0, 1024)),
    ]
    act(cloud, app, "start")
    last = events(cloud)[-1]["guid"]
    assert finished(cloud, cloud.admin, "DELETE", f"/v3/apps/{app}")["state"] == "COMPLETE"
    assert told(cloud, last) == [
        ("web", ("STARTED", 2, 256), ("STOPPED", 2, 256)),
        ("worker", ("STARTED", 0, 1024), ("STOPPED", 0, 1024)),
    ]


def test_an_event_says_what_it_was_and_where(cloud: Cloud) -> None:
    guid = buildpack(cloud)
    space = cloud.space("dev")
    app = cloud.app("shop", space["guid"])["guid"]
    droplet(cloud, app)
    act(cloud, app, "start")
    event = events(cloud)[0]
    assert event == {
        "guid": event["guid"],
        "created_at": event["created_at"],
        "updated_at": event["created_at"],
        "state": {"current": "STARTED", "previous": "STOPPED"},
        "app": {"guid": app, "name": "shop"},
        "process": {"guid": app, "type": "web"},
        "space": {"guid": space["guid"], "name": "dev"},
        "organization": {"guid": space["relationships"]["organization"]["data"]["guid"]},
        "buildpack": {"guid": guid, "name": "static"},
        "task": {"guid": None, "name": None},
        "memory_in_mb_per_instance": {"current": 1024, "previous": 1024},
        "instance_count": {"current": 1, "previous": 1},
        "links": {"self": {"href": f"{cloud.settings.api_url}{_PATH}/{event['guid']}"}},
    }
    assert cloud.admin.ok("GET", f"{_PATH}/{event['guid']}") == event


def test_a_custom_buildpack_is_named_without_its_secret(cloud: Cloud) -> None:
    data = {"buildpacks": ["https://me:secret@example.test/pack.git"]}
    app = cloud.app(lifecycle={"type": "buildpack", "data": data})["guid"]
    droplet(cloud, app, "https://***:***@example.test/pack.git")
    act(cloud, app, "start")
    named = {"guid": None, "name": "https://***:***@example.test/pack.git"}
    assert [one["buildpack"] for one in events(cloud)] == [named, named]


def test_a_process_that_comes_to_a_started_app_is_told_without_a_before(cloud: Cloud) -> None:
    app = cloud.app()["guid"]
    droplet(cloud, app)
    act(cloud, app, "start")
    last = events(cloud)[-1]["guid"]
    values = {
        "app_guid": app,
        "state": "STAGED",
        "lifecycle_type": "buildpack",
        "buildpacks": [],
        "process_types": {"web": "serve", "clock": "tick"},
        "sidecars": [],
    }
    with cloud.database.write() as tx:
        made = rows.add(tx, droplets, values)
    cloud.admin.ok("PATCH", f"/v3/apps/{app}/relationships/current_droplet", {"data": {"guid": made.guid}})
    assert told(cloud, last) == [("clock", (None, None, None), ("STARTED", 0, 1024))]


def test_after_a_rolling_deployment_the_events_tell_what_runs(cloud: Cloud) -> None:
    site = Site(cloud)
    site.start()
    deployment = site.deploy()
    site.settle()
    assert site.reason(deployment) == "DEPLOYED"
    running: dict[str, int] = {}
    for event in events(cloud):
        if event["process"]["guid"] is not None:
            started = event["state"]["current"] == "STARTED"
            running[event["process"]["guid"]] = event["instance_count"]["current"] if started else 0
    (web,) = site.webs()
    assert web["guid"] != site.app
    assert {guid: count for guid, count in running.items() if count} == {web["guid"]: 2}
    assert running[site.app] == 0


def build(cloud: Cloud, app: str) -> str:
    with cloud.database.write() as tx:
        package = rows.add(tx, packages, {"app_guid": app, "type": "bits", "state": "READY"})
    body = {"package": {"guid": package.guid}, "staging_memory_in_mb": 2048}
    return str(cloud.admin.ok("POST", "/v3/builds", body, 201)["guid"])


def states(cloud: Cloud) -> list[tuple[str, str, str | None]]:
    return [(one["state"]["previous"], one["state"]["current"], one["buildpack"]["name"]) for one in events(cloud)]


def test_staging_is_told(cloud: Cloud) -> None:
    buildpack(cloud)
    app = cloud.app("shop", lifecycle={"type": "buildpack", "data": {"buildpacks": ["static"]}})["guid"]
    made = build(cloud, app)
    (event,) = events(cloud)
    assert event["app"] == {"guid": app, "name": "shop"}
    assert event["process"] == {"guid": None, "type": None}
    assert event["memory_in_mb_per_instance"] == {"current": 2048, "previous": 2048}
    assert event["instance_count"] == {"current": 1, "previous": 1}
    used = {"key": "other", "name": "other"}
    with cloud.database.write() as tx:
        builds_outcome.succeed(
            tx,
            cloud.settings,
            made,
            droplet="sha256:0",
            sha1="0",
            size=1,
            cache="",
            result={"process_types": {"web": "serve"}, "lifecycle_metadata": {"buildpacks": [used]}},
            stack_fingerprint="",
        )
    assert states(cloud) == [
        ("STAGING", "STAGING_STARTED", "static"),
        ("STAGING", "STAGING_STOPPED", "other"),
        ("STAGED", "BUILDPACK_SET", "other"),
    ]


def test_a_failed_staging_is_told_once(cloud: Cloud) -> None:
    made = build(cloud, cloud.app()["guid"])
    for _ in range(2):
        with cloud.database.write() as tx:
            builds_outcome.fail(tx, made, "StagingError")
    assert states(cloud) == [("STAGING", "STAGING_STARTED", None), ("STAGING", "STAGING_STOPPED", None)]


def test_deleting_an_app_ends_its_staging(cloud: Cloud) -> None:
    app = cloud.app()["guid"]
    build(cloud, app)
    finished(cloud, cloud.admin, "DELETE", f"/v3/apps/{app}")
    assert states(cloud)[1:] == [("STAGING", "STAGING_STOPPED", None)]


def test_tasks_are_told(cloud: Cloud) -> None:
    app = cloud.app("shop")["guid"]

    class Task:
        guid = str(uuid.uuid4())
        name = "migrate"
        app_guid = app
        state = "PENDING"
        memory_mb = 64

    task: Any = Task()
    with cloud.database.write() as tx:
        usage.task_stopped(tx, task)
        usage.task_started(tx, task)
        task.state = "RUNNING"
        usage.task_stopped(tx, task)
        usage.task_stopped(tx, task)
    started, stopped = events(cloud)
    assert started["state"] == {"previous": "PENDING", "current": "TASK_STARTED"}
    assert stopped["state"] == {"previous": "RUNNING", "current": "TASK_STOPPED"}
    assert stopped["task"] == {"guid": task.guid, "name": "migrate"}
    assert stopped["app"] == {"guid": app, "name": "shop"}
    assert stopped["memory_in_mb_per_instance"]["current"] == 64


def write(cloud: Cloud, table: Any, count: int, **more: Any) -> list[str]:
    place = {"space_guid": "s", "space_name": "s", "organization_guid": "o", "state": "STARTED", **more}
    now = clock.micros()
    with cloud.database.write() as tx:
        guids = [str(uuid.uuid4()) for _ in range(count)]
        for at, guid in enumerate(guids):
            tx.run(insert(table).values({"guid": guid, "created_at": now + at * 1_000_000, **place}))
    return guids


_APP = {"app_guid": "a", "app_name": "a"}
_INSTANCE = {"service_instance_guid": "i", "service_instance_name": "i"}


@pytest.mark.parametrize(
    ("path", "table", "more", "kind"),
    [
        ("/v3/app_usage_events", app_usage_events, _APP, "app"),
        (
            "/v3/service_usage_events",
            service_usage_events,
            {**_INSTANCE, "service_instance_type": "managed_service_instance"},
            "service",
        ),
    ],
)
def test_lists_of_both_kinds(cloud: Cloud, path: str, table: Any, more: dict[str, Any], kind: str) -> None:
    first, second, third = write(cloud, table, 3, **more)

    def guids(query: str) -> list[str]:
        return [one["guid"] for one in cloud.admin.ok("GET", f"{path}?{query}")["resources"]]

    assert guids(f"after_guid={first}") == [second, third]
    assert guids(f"after_guid={third}") == []
    assert guids(f"guids={first},{third}") == [first, third]
    assert guids("order_by=-created_at&per_page=2") == [third, second]
    at = cloud.admin.ok("GET", f"{path}/{second}")["created_at"]
    assert guids(f"created_ats[gte]={at}") == [second, third]
    for query, detail in (
        ("after_guid=nope", f"After guid filter must be a valid {kind} usage event guid."),
        (f"after_guid={first},{second}", "After guid filter accepts only one guid"),
        (f"updated_ats[gt]={at}", "Filtering by 'updated_ats' is not allowed on this resource."),
        ("order_by=updated_at", "Order by can only be: 'created_at'"),
        ("per_page=5001", "Per page must be between 1 and 5000"),
    ):
        assert cloud.admin.problem("GET", f"{path}?{query}") == (422, 10008, detail)
    assert cloud.admin.problem("GET", f"{path}?label_selector=a")[:2] == (422, 10008)
    auditor = cloud.client("cloud_controller.global_auditor")
    assert len(auditor.ok("GET", path)["resources"]) == 3
    user = cloud.user()
    assert user.ok("GET", f"{path}?after_guid=nope")["resources"] == []
    shown = f"{kind.capitalize()} usage event not found"
    assert user.problem("GET", f"{path}/{first}") == (404, 10010, shown)
    assert cloud.admin.problem("GET", f"{path}/nope") == (404, 10010, shown)
    assert user.problem("POST", path + _PURGE)[:2] == (403, 10003)
    assert auditor.problem("POST", path + _PURGE)[:2] == (403, 10003)
    assert cloud.admin.ok("POST", path + _PURGE) == {}
    assert guids("") == []


def test_service_events_are_shown_and_filtered(cloud: Cloud) -> None:
    own = {"service_instance_type": "user_provided_service_instance", "state": "CREATED"}
    (given,) = write(cloud, service_usage_events, 1, **_INSTANCE, **own)
    managed = {
        "service_instance_type": "managed_service_instance",
        "state": "DELETED",
        "service_plan_guid": "p",
        "service_plan_name": "small",
        "service_offering_guid": "f",
        "service_offering_name": "db",
        "service_broker_guid": "b",
        "service_broker_name": "acme",
    }
    (bought,) = write(cloud, service_usage_events, 1, **_INSTANCE, **managed)
    path = "/v3/service_usage_events"
    listed = cloud.admin.ok("GET", f"{path}?service_instance_types=user_provided_service_instance")["resources"]
    assert [one["guid"] for one in listed] == [given]
    assert listed[0]["service_plan"] == {"guid": None, "name": None}
    listed = cloud.admin.ok("GET", f"{path}?service_offering_guids=f,g")["resources"]
    assert listed == [
        {
            "guid": bought,
            "created_at": listed[0]["created_at"],
            "updated_at": listed[0]["created_at"],
            "state": "DELETED",
            "space": {"guid": "s", "name": "s"},
            "organization": {"guid": "o"},
            "service_instance": {"guid": "i", "name": "i", "type": "managed_service_instance"},
            "service_plan": {"guid": "p", "name": "small"},
            "service_offering": {"guid": "f", "name": "db"},
            "service_broker": {"guid": "b", "name": "acme"},
            "links": {"self": {"href": f"{cloud.settings.api_url}{path}/{bought}"}},
        }
    ]


def test_reseeding_writes_one_event_for_each_started_process(cloud: Cloud) -> None:
    guid = buildpack(cloud)
    running, stopped = cloud.app("running")["guid"], cloud.app("stopped")["guid"]
    for app in (running, stopped):
        droplet(cloud, app)
        act(cloud, app, "start")
    act(cloud, stopped, "stop")
    cloud.admin.ok("POST", _PATH + _PURGE)
    found = events(cloud)
    with cloud.database.read() as tx:
        own = tx.scalars(select(processes.c.guid).where(processes.c.app_guid == running).order_by(processes.c.id))
    assert [one["guid"] for one in found] == own
    assert found[0]["guid"] == running
    assert {(one["state"]["previous"], one["state"]["current"]) for one in found} == {("STARTED", "STARTED")}
    assert [one["process"] for one in found] == [{"guid": own[0], "type": "web"}, {"guid": own[1], "type": "worker"}]
    assert {one["app"]["name"] for one in found} == {"running"}
    assert found[0]["buildpack"] == {"guid": guid, "name": "static"}
    cloud.admin.ok("POST", _PATH + _PURGE)
    assert [one["guid"] for one in events(cloud)] == own


def prune(cloud: Cloud) -> None:
    nothing: Any = None
    found = chores(cloud.settings, cloud.database, nothing, nothing, nothing)
    (pruning,) = (chore for name, chore in found.items() if name.startswith("prune"))
    pruning.work()


def test_old_events_are_pruned_but_for_the_newest(cloud: Cloud) -> None:
    old = clock.micros() - 32 * 86_400 * 1_000_000
    with cloud.database.write() as tx:
        place = {"space_guid": "s", "space_name": "s", "organization_guid": "o", "state": "STARTED", **_APP}
        for guid in ("one", "two"):
            tx.run(insert(app_usage_events).values({"guid": guid, "created_at": old, **place}))
    prune(cloud)
    assert [one["guid"] for one in events(cloud)] == ["two"]
    (fresh,) = write(cloud, app_usage_events, 1, **_APP)
    prune(cloud)
    assert [one["guid"] for one in events(cloud)] == [fresh]
