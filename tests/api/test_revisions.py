"""Revisions: when there is a new one, how it is described, what can be rolled back to."""

from typing import Any

import pytest

from cupola.store import rows
from cupola.store.apps import revisions
from tests.api.conftest import Cloud
from tests.api.work import finish
from tests.deploying import Site
from tests.scripted_cell import staged_droplet


@pytest.fixture
def site(cloud: Cloud) -> Site:
    return Site(cloud)


def _revisions(site: Site, query: str = "") -> list[tuple[int, str]]:
    found = site.cloud.admin.ok("GET", f"{site.path}/revisions{query}")["resources"]
    return [(one["version"], one["description"]) for one in found]


def _act(site: Site, verb: str = "restart") -> None:
    site.cloud.admin.ok("POST", f"{site.path}/actions/{verb}")


def _assign(site: Site, **more: Any) -> str:
    droplet = staged_droplet(site.cloud.database, site.app, **more)
    site.cloud.admin.ok("PATCH", site.path + "/relationships/current_droplet", {"data": {"guid": droplet}})
    return droplet


def test_a_start_makes_one_and_a_restart_only_when_something_changed(site: Site) -> None:
    _act(site, "start")
    assert _revisions(site) == [(1, "Initial revision.")]
    _act(site)
    assert len(_revisions(site)) == 1
    (shown,) = site.cloud.admin.ok("GET", site.path + "/revisions")["resources"]
    assert shown["droplet"] == {"guid": site.first}
    assert shown["processes"] == {"web": {"command": None}, "worker": {"command": None}}
    assert (shown["sidecars"], shown["deployable"]) == ([], True)
    (event,) = site.events("audit.app.revision.create")
    assert event["data"]["revision_version"] == 1


def test_each_change_is_told(site: Site) -> None:
    admin = site.cloud.admin
    _act(site, "start")
    _assign(site)
    _act(site)
    admin.ok("PATCH", site.path + "/environment_variables", {"var": {"A": "1"}})
    _act(site)
    for command in ("serve", "serve --more", None):
        admin.ok("PATCH", site.path + "/processes/web", {"command": command})
        _act(site)
    admin.ok("POST", site.path + "/sidecars", {"name": "s", "command": "c", "process_types": ["web"]}, 201)
    _act(site)
    _assign(site, process_types={"web": "w", "worker": "w", "clock": "c"})
    admin.ok("PATCH", site.path + "/environment_variables", {"var": {"A": "2"}})
    _act(site)
    assert _revisions(site) == [
        (1, "Initial revision."),
        (2, "New droplet deployed."),
        (3, "New environment variables deployed."),
        (4, "Custom start command added for 'web' process."),
        (5, "Custom start command updated for 'web' process."),
        (6, "Custom start command removed for 'web' process."),
        (7, "Sidecars updated."),
        (8, "New droplet deployed. New environment variables deployed. New process type 'clock' added."),
    ]


def test_sizes_and_metadata_are_no_part_of_it(site: Site) -> None:
    _act(site, "start")
    site.scale(3, memory_in_mb=32)
    site.cloud.admin.ok("PATCH", site.path, {"metadata": {"labels": {"a": "b"}}})
    _act(site)
    assert len(_revisions(site)) == 1


def test_while_the_feature_is_off_there_are_none(site: Site) -> None:
    site.cloud.admin.ok("PATCH", site.path + "/features/revisions", {"enabled": False})
    _act(site, "start")
    assert _revisions(site) == []


def test_versions_begin_again_after_9999(site: Site) -> None:
    _act(site, "start")
    with site.cloud.database.write() as tx:
        first = tx.one(revisions.select())
        assert first is not None
        rows.change(tx, revisions, first, {"version": 9999})
    _assign(site)
    _act(site)
    assert [version for version, _ in _revisions(site)] == [9999, 1]


def test_what_is_deployed_now(site: Site) -> None:
    admin = site.cloud.admin
    _act(site, "start")
    _assign(site)
    path = site.path + "/revisions/deployed"
    assert [one["version"] for one in admin.ok("GET", path)["resources"]] == [1]
    _act(site)
    assert [one["version"] for one in admin.ok("GET", path)["resources"]] == [2]
    _act(site, "stop")
    assert admin.ok("GET", path)["resources"] == []
    assert _revisions(site, "?versions=1") == [(1, "Initial revision.")]


def test_one_whose_droplet_is_gone_is_not_deployable(site: Site) -> None:
    admin = site.cloud.admin
    _act(site, "start")
    _assign(site)
    _act(site)
    assert admin.delete(f"/v3/droplets/{site.first}").status_code == 202
    finish(site.cloud)
    first, second = admin.ok("GET", site.path + "/revisions")["resources"]
    assert (first["deployable"], second["deployable"]) == (False, True)
    assert [version for version, _ in _revisions(site, "?deployable=true")] == [2]
    assert site.problem(revision={"guid": first["guid"]})[2] == (
        "Unable to deploy this revision, the droplet for this revision no longer exists."
    )


def test_a_rollback_says_to_which_version(site: Site) -> None:
    _act(site, "start")
    site.cell.keep_up()
    _assign(site)
    _act(site)
    site.cell.keep_up()
    first = site.cloud.admin.ok("GET", site.path + "/revisions/1")
    site.cloud.admin.ok("POST", "/v3/deployments", site.body(revision={"guid": first["guid"]}), 201)
    assert _revisions(site)[-1] == (3, "New droplet deployed. Rolled back to revision 1.")


def test_a_rollback_brings_back_what_a_buildpack_runs_beside(site: Site) -> None:
    own = {"name": "own", "command": "mine", "process_types": ["web"]}
    site.cloud.admin.ok("POST", site.path + "/sidecars", own, 201)
    _assign(site, sidecars=[{"name": "agent", "command": "watch", "process_types": ["web"]}])
    _act(site, "start")
    _assign(site)
    _act(site)
    site.cell.keep_up()
    first = site.cloud.admin.ok("GET", site.path + "/revisions/1")
    site.cloud.admin.ok("POST", "/v3/deployments", site.body(revision={"guid": first["guid"]}), 201)
    shown = site.cloud.admin.ok("GET", site.path + "/sidecars")["resources"]
    assert {(one["name"], one["origin"]) for one in shown} == {("own", "user"), ("agent", "buildpack")}


def test_a_rollback_to_what_runs_is_refused(site: Site) -> None:
    _act(site, "start")
    (only,) = site.cloud.admin.ok("GET", site.path + "/revisions")["resources"]
    assert site.problem(revision={"guid": only["guid"]})[2] == (
        "Unable to rollback. The code and configuration you are rolling back to is the same as the deployed revision."
    )


def test_who_reads_and_relabels(site: Site) -> None:
    _act(site, "start")
    (only,) = site.cloud.admin.ok("GET", site.path + "/revisions")["resources"]
    path = f"/v3/revisions/{only['guid']}"
    developer, auditor = site.user("space_developer"), site.user("space_auditor")
    assert developer.ok("PATCH", path, {"metadata": {"labels": {"a": "b"}}})["metadata"]["labels"] == {"a": "b"}
    assert auditor.ok("GET", path)["version"] == 1
    assert auditor.problem("PATCH", path, {"metadata": {}})[:2] == (403, 10003)
    assert developer.ok("GET", path + "/environment_variables")["var"] == {}
    for role in ("space_auditor", "space_supporter", "space_manager"):
        assert site.user(role).problem("GET", path + "/environment_variables")[:2] == (403, 10003)
    assert site.cloud.user().problem("GET", path) == (404, 10010, "Revision not found")
