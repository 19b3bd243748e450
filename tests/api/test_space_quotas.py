"""Space quotas over HTTP. What they refuse is in test_quota_enforcement.py."""

from typing import Any

import pytest

from tests.api.conftest import Cloud
from tests.api.test_organization_quotas import LIMITED, UNLIMITED, events, targets, unlimited_app
from tests.api.work import finished

PATH = "/v3/space_quotas"
GROUPS = ("apps", "services", "routes")
LIMITS: dict[str, Any] = {name: LIMITED[name] for name in GROUPS}


def body(org: str, name: str = "small", spaces: tuple[str, ...] = (), **limits: Any) -> dict[str, Any]:
    relationships: dict[str, Any] = {"organization": {"data": {"guid": org}}}
    if spaces:
        relationships["spaces"] = targets(*spaces)
    return {"name": name, "relationships": relationships, **limits}


def quota(cloud: Cloud, org: str, name: str = "small", spaces: tuple[str, ...] = (), **limits: Any) -> Any:
    return cloud.admin.ok("POST", PATH, body(org, name, spaces, **limits), 201)


def groups(shown: Any) -> dict[str, Any]:
    return {name: shown[name] for name in GROUPS}


def test_a_quota_is_made_shown_and_changed(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    made = quota(cloud, org, spaces=(space,), **LIMITS)
    assert groups(made) == LIMITS
    assert "domains" not in made
    assert made["relationships"] == {"organization": {"data": {"guid": org}}, "spaces": targets(space)}
    url = cloud.settings.api_url
    assert made["links"] == {
        "self": {"href": f"{url}{PATH}/{made['guid']}"},
        "organization": {"href": f"{url}/v3/organizations/{org}"},
    }
    shown = cloud.admin.ok("GET", f"/v3/spaces/{space}")
    assert shown["relationships"]["quota"]["data"]["guid"] == made["guid"]
    assert shown["links"]["quota"]["href"] == f"{url}{PATH}/{made['guid']}"
    # `domains` is accepted in updates, as upstream, and limits nothing.
    nulls = {group: dict.fromkeys(limits) for group, limits in LIMITS.items()}
    changed = cloud.admin.ok("PATCH", f"{PATH}/{made['guid']}", {**nulls, "name": "x", "domains": {"total_domains": 1}})
    assert changed["name"] == "x"
    assert groups(changed) == {name: UNLIMITED[name] for name in GROUPS}
    assert cloud.admin.problem("POST", PATH, body(org, "y", domains={}))[2] == "Unknown field(s): 'domains'"


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        ({"name": "x"}, "Relationships 'relationships' is not an object"),
        (
            {"name": "x", "relationships": {"organization": {"data": {"guid": "nope"}}}},
            "Organization with guid 'nope' does not exist, or you do not have access to it.",
        ),
    ],
)
def test_a_quota_belongs_to_an_organization(cloud: Cloud, given: Any, detail: str) -> None:
    assert cloud.admin.problem("POST", PATH, given) == (422, 10008, detail)


def test_names_are_unique_in_the_organization_with_regard_to_case(cloud: Cloud) -> None:
    org, other = cloud.org()["guid"], cloud.org()["guid"]
    quota(cloud, org)
    quota(cloud, other)
    made = quota(cloud, org, "Small")["guid"]
    assert cloud.admin.problem("POST", PATH, body(org))[2] == "Space Quota 'small' already exists."
    assert cloud.admin.problem("PATCH", f"{PATH}/{made}", {"name": "small"})[2] == "Space Quota 'small' already exists."
    found = cloud.admin.ok("GET", f"{PATH}?names=Small&organization_guids={org}")["resources"]
    assert [one["guid"] for one in found] == [made]


def test_ports_stay_within_routes_and_within_the_organization(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    default = cloud.admin.ok("GET", "/v3/organization_quotas?names=default")["resources"][0]["guid"]
    cloud.admin.ok("PATCH", f"/v3/organization_quotas/{default}", {"routes": {"total_reserved_ports": 3}})
    detail = (
        "Total reserved ports must be -1, 0, or a positive integer, must be less than or equal to total routes, "
        "and must be less than or equal to total reserved ports for the organization quota."
    )
    for routes in ({"total_reserved_ports": 4}, {"total_routes": 1, "total_reserved_ports": 2}):
        assert cloud.admin.problem("POST", PATH, body(org, routes=routes)) == (422, 10008, detail)
    made = quota(cloud, org, routes={"total_reserved_ports": 3})["guid"]
    assert cloud.admin.problem("PATCH", f"{PATH}/{made}", {"routes": {"total_routes": 2}})[2] == detail


def test_who_sees_which_quotas_and_which_of_their_spaces(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    mine, other = (cloud.space(org=org)["guid"] for _ in "ab")
    used, unused = quota(cloud, org, "used", (mine, other)), quota(cloud, org, "unused")
    manager = cloud.user(organization_manager=org)
    auditor = cloud.user(space_auditor=mine, organization_user=org)
    plain = cloud.user(organization_user=org)

    def seen(client: Any, query: str = "") -> set[str]:
        return {one["name"] for one in client.ok("GET", PATH + query)["resources"]}

    assert seen(cloud.admin) == seen(cloud.client("cloud_controller.global_auditor")) == {"used", "unused"}
    assert seen(manager) == {"used", "unused"}
    assert seen(auditor) == {"used"}
    assert seen(plain) == set()
    assert seen(cloud.admin, f"?space_guids={other}") == {"used"}
    assert seen(cloud.admin, f"?organization_guids={cloud.org()['guid']}") == set()
    assert manager.ok("GET", f"{PATH}/{used['guid']}")["relationships"]["spaces"] == targets(mine, other)
    assert auditor.ok("GET", f"{PATH}/{used['guid']}")["relationships"]["spaces"] == targets(mine)
    for client, guid in ((auditor, unused["guid"]), (plain, used["guid"])):
        assert client.problem("GET", f"{PATH}/{guid}") == (404, 10010, "Space quota not found")


def test_who_may_write(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    made = quota(cloud, org, "one", (space,))["guid"]
    writes: list[tuple[str, str, Any]] = [
        ("PATCH", f"{PATH}/{made}", {"name": "two"}),
        ("POST", f"{PATH}/{made}/relationships/spaces", targets(space)),
        ("DELETE", f"{PATH}/{made}/relationships/spaces/{space}", None),
        ("POST", PATH, body(org, "three")),
    ]
    developer = cloud.user(space_developer=space, organization_user=org)
    for method, path, given in writes:
        assert developer.problem(method, path, given)[:2] == (403, 10003)
    manager = cloud.user(organization_manager=org)
    assert cloud.user(organization_manager=cloud.org()["guid"]).problem("POST", PATH, body(org))[:2] == (403, 10003)
    assert [manager.request(*write).status_code for write in writes] == [200, 200, 204, 201]
    cloud.admin.ok("PATCH", f"/v3/organizations/{org}", {"suspended": True})
    for method, path, given in writes:
        assert manager.problem(method, path, given)[:2] == (403, 10017)


def test_a_quota_is_applied_and_removed(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space("dev", org)["guid"]
    made = quota(cloud, org)["guid"]
    path = f"{PATH}/{made}/relationships/spaces"
    answer = cloud.admin.ok("POST", path, targets(space))
    assert answer == {**targets(space), "links": {"self": {"href": cloud.settings.api_url + path}}}
    assert cloud.admin.delete(f"{path}/{space}").status_code == 204
    assert cloud.admin.ok("GET", f"/v3/spaces/{space}")["relationships"]["quota"]["data"] is None
    for unknown in (space, "nope"):
        assert cloud.admin.problem("DELETE", f"{path}/{unknown}")[2] == (
            f"Unable to remove quota from space with guid '{unknown}'. Ensure the space quota is applied to this space."
        )
    _, apply, remove = events(cloud, made)
    assert [apply["type"], remove["type"]] == ["audit.space_quota.apply", "audit.space_quota.remove"]
    for event in (apply, remove):
        assert event["data"] == {"space_guid": space, "space_name": "dev"}
        assert (event["space"], event["organization"]) == ({"guid": space}, {"guid": org})


def test_what_a_quota_may_be_applied_to(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    made, foreign = quota(cloud, org)["guid"], cloud.space()["guid"]
    path = f"{PATH}/{made}/relationships/spaces"
    outside = "Space quotas cannot be applied outside of their owning organization."
    assert cloud.admin.problem("POST", path, targets(foreign)) == (422, 10008, outside)
    missing = 'Spaces with guids ["nope"] do not exist, or you do not have access to them.'
    assert cloud.admin.problem("POST", path, targets("nope"))[2] == missing
    hidden = cloud.user(organization_manager=org).problem("POST", path, targets(foreign))[2]
    assert hidden == f'Spaces with guids ["{foreign}"] do not exist, or you do not have access to them.'
    assert cloud.admin.problem("POST", PATH, body(org, "other", (foreign,)))[2] == (
        f'Spaces with guids ["{foreign}"] do not exist within the organization specified, '
        "or you do not have access to them."
    )


def test_spaces_with_unlimited_logs_get_no_limit_of_logs(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    unlimited_app(cloud, org)
    space = cloud.admin.ok("GET", f"/v3/spaces?organization_guids={org}")["resources"][0]
    limit: dict[str, Any] = {"apps": {"log_rate_limit_in_bytes_per_second": 1000}}
    free, limited = quota(cloud, org, "free", (space["guid"],)), quota(cloud, org, "limited", **limit)
    lead = "Current usage exceeds new quota values. "
    assert cloud.admin.problem("PATCH", f"{PATH}/{free['guid']}", limit)[2] == (
        f"{lead}This quota is applied to space '{space['name']}' which contains apps running with an unlimited "
        "log rate limit."
    )
    path = f"{PATH}/{limited['guid']}/relationships/spaces"
    assert cloud.admin.problem("POST", path, targets(space["guid"]))[2] == (
        f"{lead}The space(s) being assigned this quota contain apps running with an unlimited log rate limit."
    )


def test_a_quota_in_use_cannot_be_deleted(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    made = quota(cloud, org, spaces=(space,))["guid"]
    assert cloud.admin.problem("DELETE", f"{PATH}/{made}") == (
        422,
        10008,
        "This quota is applied to one or more spaces. Remove this quota from all spaces before deleting.",
    )
    cloud.admin.delete(f"{PATH}/{made}/relationships/spaces/{space}")
    manager = cloud.user(organization_manager=org)
    job = finished(cloud, manager, "DELETE", f"{PATH}/{made}")
    assert (job["operation"], job["state"]) == ("space_quota.delete", "COMPLETE")
    assert cloud.admin.problem("GET", f"{PATH}/{made}")[0] == 404
    assert events(cloud, made)[-1]["type"] == "audit.space_quota.delete"


def test_quotas_go_with_their_organization(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    quota(cloud, org, spaces=(space,))
    job = finished(cloud, cloud.admin, "DELETE", f"/v3/organizations/{org}")
    assert job["state"] == "COMPLETE", job
    assert cloud.admin.ok("GET", PATH)["resources"] == []


@pytest.mark.parametrize("query", ["size=1", "order_by=name", "per_page=0"])
def test_bad_queries_are_422(cloud: Cloud, query: str) -> None:
    assert cloud.admin.problem("GET", f"{PATH}?{query}")[:2] == (422, 10008)
