"""Locks over HTTP: what they protect, from whom, and how they go away."""

from typing import Any

import pytest

from cupola.processes.handlers import handlers
from cupola.store import jobs
from tests.api.conftest import Client, Cloud
from tests.api.work import finish, finished

_PATH = "/v3/locks"


def body(app: str, title: str = "keep", **more: Any) -> dict[str, Any]:
    return {"title": title, "detail": "", "relationships": {"app": {"data": {"guid": app}}}, **more}


def lock(cloud: Cloud, app: str, title: str = "keep", **more: Any) -> Any:
    return cloud.admin.ok("POST", _PATH, body(app, title, **more), 201)


def titles(client: Client, query: str = "") -> list[str]:
    return [one["title"] for one in client.ok("GET", f"{_PATH}{query}")["resources"]]


def test_a_lock_is_made_shown_changed_and_deleted(cloud: Cloud) -> None:
    app = cloud.app("shop")["guid"]
    metadata = {"labels": {"why": "audit"}, "annotations": {}}
    made = lock(cloud, app, detail="until the audit is over", metadata=metadata)
    path = f"{_PATH}/{made['guid']}"
    assert made == {
        "guid": made["guid"],
        "created_at": made["created_at"],
        "updated_at": made["updated_at"],
        "title": "keep",
        "detail": "until the audit is over",
        "relationships": {"app": {"data": {"guid": app}}},
        "metadata": metadata,
        "links": {
            "self": {"href": cloud.settings.api_url + path},
            "app": {"href": f"{cloud.settings.api_url}/v3/apps/{app}"},
        },
    }
    assert cloud.admin.ok("GET", path) == made
    changed = cloud.admin.ok("PATCH", path, {"detail": "", "metadata": {"labels": {"why": None}}})
    assert (changed["title"], changed["detail"], changed["metadata"]["labels"]) == ("keep", "", {})
    assert cloud.admin.problem("PATCH", path, {"title": "x"})[2] == "Unknown field(s): 'title'"
    job = finished(cloud, cloud.admin, "DELETE", path)
    assert (job["operation"], job["state"], list(job["links"])) == ("lock.delete", "COMPLETE", ["self"])
    assert cloud.admin.problem("GET", path) == (404, 10010, "Lock not found")
    events = cloud.admin.ok("GET", f"/v3/audit_events?target_guids={made['guid']}")["resources"]
    assert [event["type"] for event in events] == ["audit.lock.create", "audit.lock.update", "audit.lock.delete"]
    assert {event["target"]["type"] for event in events} == {"lock"}
    assert all(event["data"]["app_guid"] == app and event["space"] for event in events)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"title": ...}, "Title must be a string"),
        ({"title": ""}, "Title is too short (minimum is 1 character)"),
        ({"title": "x" * 251}, "Title is too long (maximum is 250 characters)"),
        ({"detail": ...}, "Detail must be a string"),
        ({"detail": "x" * 10_001}, "Detail is too long (maximum is 10000 characters)"),
        ({"size": 1}, "Unknown field(s): 'size'"),
        ({"relationships": ...}, "Relationships 'relationships' is not an object"),
        (
            {"relationships": {"app": {"data": {"guid": "nope"}}}},
            "Invalid app. Ensure that the app exists and you have access to it.",
        ),
    ],
)
def test_bad_bodies(cloud: Cloud, change: dict[str, Any], detail: str) -> None:
    wanted = {**body(cloud.app()["guid"]), **change}
    given = {name: value for name, value in wanted.items() if value is not ...}
    assert cloud.admin.problem("POST", _PATH, given) == (422, 10008, detail)
    assert titles(cloud.admin) == []


def test_titles_are_unique_in_an_app_in_any_case(cloud: Cloud) -> None:
    app = cloud.app("shop")["guid"]
    lock(cloud, app, "Keep")
    taken = (422, 10016, "Lock with title 'KEEP' already exists for app 'shop'.")
    assert cloud.admin.problem("POST", _PATH, body(app, "KEEP")) == taken
    lock(cloud, cloud.app()["guid"], "Keep")


def test_who_sees_and_who_makes_locks(cloud: Cloud) -> None:
    app = cloud.app()
    space = app["relationships"]["space"]["data"]["guid"]
    org = cloud.admin.ok("GET", f"/v3/spaces/{space}")["relationships"]["organization"]["data"]["guid"]
    path = f"{_PATH}/{lock(cloud, app['guid'])['guid']}"
    stranger = cloud.user()
    assert titles(stranger) == []
    assert stranger.problem("GET", path) == (404, 10010, "Lock not found")
    assert stranger.problem("POST", _PATH, body(app["guid"], "x"))[0] == 422
    for reader in (
        cloud.user(space_supporter=space, organization_user=org),
        cloud.user(space_manager=space, organization_user=org),
        cloud.user(organization_manager=org),
    ):
        assert titles(reader) == ["keep"]
        assert reader.problem("POST", _PATH, body(app["guid"], "x"))[:2] == (403, 10003)
        assert reader.problem("PATCH", path, {"detail": "x"})[:2] == (403, 10003)
        assert reader.problem("DELETE", path)[:2] == (403, 10003)
    developer = cloud.user(space_developer=space, organization_user=org)
    own = developer.ok("POST", _PATH, body(app["guid"], "mine"), 201)
    assert developer.patch(f"{_PATH}/{own['guid']}", {"detail": "x"}).status_code == 200
    assert developer.delete(path).status_code == 202
    cloud.admin.ok("PATCH", f"/v3/organizations/{org}", {"suspended": True})
    assert developer.problem("DELETE", f"{_PATH}/{own['guid']}")[:2] == (403, 10017)
    assert titles(developer) == ["mine"]


def test_lists_are_filtered_and_ordered(cloud: Cloud) -> None:
    here, there = cloud.app(), cloud.app()
    lock(cloud, here["guid"], "b", metadata={"labels": {"env": "prod"}})
    lock(cloud, here["guid"], "c")
    lock(cloud, there["guid"], "a")
    space = there["relationships"]["space"]["data"]["guid"]
    org = cloud.admin.ok("GET", f"/v3/spaces/{space}")["relationships"]["organization"]["data"]["guid"]
    assert titles(cloud.admin, f"?app_guids={here['guid']}") == ["b", "c"]
    assert titles(cloud.admin, f"?space_guids={space}") == ["a"]
    assert titles(cloud.admin, f"?organization_guids={org}") == ["a"]
    assert titles(cloud.admin, "?label_selector=env") == ["b"]
    assert titles(cloud.admin, "?order_by=-title") == ["c", "b", "a"]


def test_nothing_but_deletion_is_blocked(cloud: Cloud) -> None:
    app = cloud.app("shop")["guid"]
    first = lock(cloud, app, "T1")["guid"]
    second = lock(cloud, app, "T2")["guid"]
    path = f"/v3/apps/{app}"
    refused = "App 'shop' cannot be deleted because it is locked: 'T1', 'T2'. Delete the locks first."
    assert cloud.admin.problem("DELETE", path) == (422, 10008, refused)
    assert cloud.admin.patch(path, {"name": "store"}).status_code == 200
    assert cloud.admin.post(f"{path}/actions/stop").status_code == 200
    for guid in (first, second):
        assert cloud.admin.delete(f"{_PATH}/{guid}").status_code == 202
    assert finished(cloud, cloud.admin, "DELETE", path)["state"] == "COMPLETE"
    assert cloud.admin.get(path).status_code == 404


def test_a_locked_app_keeps_its_space_and_organization(cloud: Cloud) -> None:
    org = cloud.org("acme")["guid"]
    space = cloud.space("dev", org)["guid"]
    app = cloud.app("shop", space)["guid"]
    cloud.app("other", space)
    made = lock(cloud, app)["guid"]
    paths = (f"/v3/spaces/{space}", f"/v3/organizations/{org}")
    for path, place in zip(paths, ("Space 'dev'", "Organization 'acme'"), strict=True):
        refused = f"{place} cannot be deleted because it contains locked apps: 'shop'."
        assert cloud.admin.problem("DELETE", path) == (422, 10008, refused)
    cloud.admin.delete(f"{_PATH}/{made}")
    assert finished(cloud, cloud.admin, "DELETE", paths[1])["state"] == "COMPLETE"


@pytest.mark.parametrize("kind", ["app", "space", "organization"])
def test_a_job_looks_again_and_deletes_nothing(cloud: Cloud, kind: str) -> None:
    """A lock that came between the request and its job counts, however it came."""
    org = cloud.org("acme")["guid"]
    space = cloud.space("dev", org)["guid"]
    app = cloud.app("shop", space)["guid"]
    lock(cloud, app)
    guid = {"app": app, "space": space, "organization": org}[kind]
    actor = cloud.admin.actor
    assert actor is not None
    assert f"{kind}.delete" in handlers(cloud.settings)
    with cloud.database.write() as tx:
        job = jobs.enqueue(tx, f"{kind}.delete", {"guid": guid}, actor=actor, resource_guid=guid)
    finish(cloud)
    shown = cloud.admin.ok("GET", f"/v3/jobs/{job}")
    assert shown["state"] == "FAILED"
    assert "locked" in shown["errors"][0]["detail"]
    assert cloud.admin.get(f"/v3/apps/{app}").status_code == 200
    assert titles(cloud.admin) == ["keep"]


@pytest.mark.parametrize("kind", ["app", "space", "organization"])
def test_what_is_being_deleted_cannot_be_locked(cloud: Cloud, kind: str) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    app = cloud.app("shop", space)["guid"]
    guid = {"app": app, "space": space, "organization": org}[kind]
    assert cloud.admin.delete(f"/v3/{kind}s/{guid}").status_code == 202
    refused = cloud.admin.problem("POST", _PATH, body(app))
    assert refused == (409, 10008, "App 'shop' cannot be locked because it is being deleted.")
