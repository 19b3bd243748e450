"""Who reads which audit events, how they are found, and what they never tell."""

from typing import Any

import pytest

from cupola import clock
from tests.api.conftest import Cloud
from tests.deploying import Site


@pytest.fixture
def site(cloud: Cloud) -> Site:
    return Site(cloud)


def _types(client: Any, query: str = "") -> set[str]:
    return {one["type"] for one in client.ok("GET", f"/v3/audit_events?per_page=500{query}")["resources"]}


def test_an_event_says_who_did_what_to_what_and_where(site: Site) -> None:
    developer = site.user("space_developer")
    assert developer.actor is not None
    developer.ok("POST", site.path + "/actions/start")
    (event,) = site.events("audit.app.start")
    assert event["actor"] == {"guid": developer.actor.guid, "type": "user", "name": developer.actor.name}
    assert event["target"] == {"guid": site.app, "type": "app", "name": "shop"}
    assert (event["space"], event["organization"]) == ({"guid": site.space}, {"guid": site.org})
    assert event["updated_at"] == event["created_at"]
    assert set(event) == {
        "guid",
        "created_at",
        "updated_at",
        "type",
        "actor",
        "target",
        "data",
        "space",
        "organization",
        "links",
    }


@pytest.mark.parametrize(
    ("role", "reads"),
    [
        ("space_auditor", True),
        ("space_developer", True),
        ("space_supporter", True),
        ("space_manager", False),
        ("organization_auditor", True),
        ("organization_manager", False),
        ("organization_billing_manager", False),
        ("organization_user", False),
    ],
)
def test_who_reads_the_events_of_a_space(site: Site, role: str, reads: bool) -> None:
    place = site.space if role.startswith("space") else site.org
    client = site.cloud.user(**{role: place})
    assert ("audit.app.create" in _types(client)) is reads
    (event,) = site.events("audit.app.create")
    assert (client.get(f"/v3/audit_events/{event['guid']}").status_code == 200) is reads


def test_who_reads_everything_reads_the_platforms_events(site: Site) -> None:
    site.cloud.admin.ok("POST", "/v3/stacks", {"name": "new"}, 201)
    for scope in ("cloud_controller.admin_read_only", "cloud_controller.global_auditor"):
        assert "audit.stack.create" in _types(site.cloud.client(scope))
    assert "audit.stack.create" not in _types(site.cloud.user(organization_auditor=site.org))


def test_events_are_found_by_type_target_place_and_time(site: Site) -> None:
    admin = site.cloud.admin
    other = site.cloud.app("other")["guid"]
    assert _types(admin, f"&target_guids={site.app}&types=audit.app.create,audit.app.start") == {"audit.app.create"}
    without = admin.ok("GET", f"/v3/audit_events?per_page=500&target_guids[not]={site.app}")["resources"]
    assert site.app not in {one["target"]["guid"] for one in without}
    assert other in {one["target"]["guid"] for one in without}
    of_space = admin.ok("GET", f"/v3/audit_events?per_page=500&space_guids={site.space}")["resources"]
    assert {one["space"]["guid"] for one in of_space} == {site.space}
    of_org = admin.ok("GET", f"/v3/audit_events?per_page=500&organization_guids={site.org}")["resources"]
    assert {one["organization"]["guid"] for one in of_org} == {site.org}
    later = clock.format_api(clock.micros() + 3_600_000_000)
    assert _types(admin, f"&created_ats[gt]={later}") == set()
    assert "audit.app.create" in _types(admin, f"&created_ats[lt]={later}")
    newest = admin.ok("GET", "/v3/audit_events?order_by=-created_at&per_page=1")["resources"]
    assert newest[0]["created_at"] >= of_space[0]["created_at"]


def test_secrets_stay_out_of_events(site: Site) -> None:
    admin, secret = site.cloud.admin, "s3cret"
    admin.ok("PATCH", site.path + "/environment_variables", {"var": {"PASSWORD": secret}})
    admin.ok(
        "POST",
        "/v3/apps",
        {
            "name": "x",
            "relationships": {"space": {"data": {"guid": site.space}}},
            "environment_variables": {"A": secret},
        },
        201,
    )
    admin.ok("POST", site.path + "/tasks", {"command": f"curl -u me:{secret}"}, 202)
    address = f"https://me:{secret}@example.com/b.git"
    admin.ok("PATCH", site.path, {"lifecycle": {"type": "buildpack", "data": {"buildpacks": [address]}}})
    admin.ok("PATCH", site.path + "/processes/web", {"command": f"serve --key {secret}"})
    found = admin.get("/v3/audit_events?per_page=500").text
    assert secret not in found
    assert "[PRIVATE DATA HIDDEN]" in found


def test_roles_are_told_by_their_names(site: Site) -> None:
    user = site.user("space_auditor").actor
    assert user is not None
    links = {"user": {"data": {"guid": user.guid}}, "space": {"data": {"guid": site.space}}}
    role = site.cloud.admin.ok("POST", "/v3/roles", {"type": "space_developer", "relationships": links}, 201)
    (event,) = site.cloud.admin.ok("GET", "/v3/audit_events?types=audit.user.space_developer_add")["resources"]
    assert (event["target"]["guid"], event["target"]["type"]) == (user.guid, "user")
    assert event["space"] == {"guid": site.space}
    assert site.cloud.admin.delete(f"/v3/roles/{role['guid']}").status_code == 202


def test_bad_queries(cloud: Cloud) -> None:
    for query in ("updated_ats[gt]=yesterday", "created_ats[near]=2026-01-01T00:00:00Z", "target_names=a"):
        status, code, _ = cloud.admin.problem("GET", f"/v3/audit_events?{query}")
        assert (status, code) == (400, 10005)
