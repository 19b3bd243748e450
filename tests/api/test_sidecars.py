"""Sidecars: what they may be, which memory they have, what a droplet brings along."""

from typing import Any

import pytest

from tests.api.conftest import Cloud
from tests.deploying import Site
from tests.scripted_cell import staged_droplet

SIDECAR = {"name": "side", "command": "help", "process_types": ["web", "worker"], "memory_in_mb": 8}


@pytest.fixture
def site(cloud: Cloud) -> Site:
    return Site(cloud)


def test_a_sidecar_is_made_shown_changed_and_deleted(site: Site) -> None:
    admin = site.cloud.admin
    made = admin.ok("POST", site.path + "/sidecars", SIDECAR, 201)
    assert {name: made[name] for name in SIDECAR} == SIDECAR
    assert (made["origin"], made["relationships"]["app"]["data"]["guid"]) == ("user", site.app)
    path = f"/v3/sidecars/{made['guid']}"
    assert admin.ok("GET", path) == made
    assert [one["guid"] for one in admin.ok("GET", site.path + "/sidecars")["resources"]] == [made["guid"]]
    of_web = f"/v3/processes/{site.app}/sidecars"
    assert [one["guid"] for one in admin.ok("GET", of_web)["resources"]] == [made["guid"]]
    changed = admin.ok("PATCH", path, {"process_types": ["worker"], "memory_in_mb": None})
    assert (changed["process_types"], changed["memory_in_mb"], changed["command"]) == (["worker"], None, "help")
    assert admin.ok("GET", of_web)["resources"] == []
    assert admin.delete(path).status_code == 204
    assert admin.problem("GET", path) == (404, 10010, "Sidecar not found")


def test_names_are_unique_in_the_app(site: Site) -> None:
    admin = site.cloud.admin
    admin.ok("POST", site.path + "/sidecars", SIDECAR, 201)
    expected = (422, 10008, "Sidecar with name 'side' already exists for given app")
    assert admin.problem("POST", site.path + "/sidecars", SIDECAR) == expected
    other = admin.ok("POST", site.path + "/sidecars", {**SIDECAR, "name": "other"}, 201)
    assert admin.problem("PATCH", f"/v3/sidecars/{other['guid']}", {"name": "side"}) == expected
    admin.ok("POST", f"/v3/apps/{site.cloud.app()['guid']}/sidecars", SIDECAR, 201)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"name": ""}, "Name is too short (minimum is 1 character)"),
        ({"name": "x" * 256}, "Name is too long (maximum is 255 characters)"),
        ({"command": "x" * 4097}, "Command is too long (maximum is 4096 characters)"),
        ({"process_types": []}, "Process types must have at least one process_type"),
        ({"process_types": None}, "Process types must be an array"),
        ({"memory_in_mb": 0}, "Memory in mb must be greater than 0"),
        ({"colour": "red"}, "Unknown field(s): 'colour'"),
    ],
)
def test_what_a_sidecar_may_be(site: Site, change: dict[str, Any], detail: str) -> None:
    problem = site.cloud.admin.problem("POST", site.path + "/sidecars", {**SIDECAR, **change})
    assert problem[:2] == (422, 10008)
    assert detail in problem[2]


def test_their_memory_is_part_of_their_process(site: Site) -> None:
    """The web process has 64 MB."""
    admin = site.cloud.admin
    too_large = 'The memory allocation defined is too large to run with the dependent "web" process'
    assert admin.problem("POST", site.path + "/sidecars", {**SIDECAR, "memory_in_mb": 64})[2] == too_large
    made = admin.ok("POST", site.path + "/sidecars", {**SIDECAR, "memory_in_mb": 40}, 201)
    second = {**SIDECAR, "name": "second", "memory_in_mb": 24}
    assert admin.problem("POST", site.path + "/sidecars", second)[2] == too_large
    assert admin.problem("PATCH", f"/v3/sidecars/{made['guid']}", {"memory_in_mb": 64})[2] == too_large
    admin.ok("POST", site.path + "/sidecars", {**second, "memory_in_mb": 23}, 201)


def _assign(site: Site, sidecars: list[dict[str, Any]]) -> Any:
    droplet = staged_droplet(site.cloud.database, site.app, sidecars=sidecars)
    return site.cloud.admin.patch(site.path + "/relationships/current_droplet", {"data": {"guid": droplet}})


def test_those_of_a_droplet_replace_those_of_the_one_before(site: Site) -> None:
    own = {"name": "own", "command": "mine", "process_types": ["web"]}
    site.cloud.admin.ok("POST", site.path + "/sidecars", own, 201)
    first = {"name": "first", "command": "a", "process_types": ["web"], "memory": 8}
    assert _assign(site, [first]).status_code == 200
    shown = site.cloud.admin.ok("GET", site.path + "/sidecars")["resources"]
    assert [(one["name"], one["origin"]) for one in shown] == [("own", "user"), ("first", "buildpack")]
    assert _assign(site, [{"name": "second", "command": "b", "process_types": ["web"]}]).status_code == 200
    shown = site.cloud.admin.ok("GET", site.path + "/sidecars")["resources"]
    assert [(one["name"], one["origin"]) for one in shown] == [("own", "user"), ("second", "buildpack")]


def test_a_users_sidecar_stands_in_the_way_of_one_with_its_name(site: Site) -> None:
    site.cloud.admin.ok("POST", site.path + "/sidecars", SIDECAR, 201)
    answer = _assign(site, [{"name": "side", "command": "b", "process_types": ["web"]}])
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["detail"]) == (
        422,
        "Buildpack defined sidecar 'side' conflicts with an existing user-defined sidecar. Consider renaming 'side'.",
    )


def test_developers_write_and_others_read(site: Site) -> None:
    made = site.user("space_developer").ok("POST", site.path + "/sidecars", SIDECAR, 201)
    path = f"/v3/sidecars/{made['guid']}"
    for role in ("space_auditor", "space_manager", "space_supporter"):
        assert site.user(role).ok("GET", path)["name"] == "side"
        assert site.user(role).problem("PATCH", path, {"command": "x"})[:2] == (403, 10003)
        assert site.user(role).problem("DELETE", path)[:2] == (403, 10003)
    assert site.cloud.user().problem("GET", path)[0] == 404
