"""Isolation segments over HTTP, and those of organizations and spaces."""

from typing import Any
from urllib.parse import unquote

import pytest

from cupola.domain.isolation_segments import SHARED
from tests.api.conftest import Cloud
from tests.api.test_organization_quotas import targets
from tests.api.work import finished

PATH = "/v3/isolation_segments"
WARNING = "Isolation segments are stored, not enforced by this engine yet."


def segment(cloud: Cloud, name: str = "gold", *orgs: str) -> str:
    guid = str(cloud.admin.ok("POST", PATH, {"name": name}, 201)["guid"])
    if orgs:
        cloud.admin.ok("POST", f"{PATH}/{guid}/relationships/organizations", targets(*orgs))
    return guid


def one(guid: str | None) -> dict[str, Any]:
    return {"data": None if guid is None else {"guid": guid}}


def test_a_segment_is_made_shown_changed_and_deleted(cloud: Cloud) -> None:
    answer = cloud.admin.post(PATH, {"name": "gold", "metadata": {"labels": {"tier": "1"}}})
    assert answer.status_code == 201
    made = answer.json()
    path = f"{PATH}/{made['guid']}"
    url = cloud.settings.api_url
    assert made["metadata"] == {"labels": {"tier": "1"}, "annotations": {}}
    assert made["links"] == {"self": {"href": url + path}, "organizations": {"href": f"{url}{path}/organizations"}}
    changed = cloud.admin.ok("PATCH", path, {"name": "Silver", "metadata": {"annotations": {"a": "b"}}})
    assert (changed["name"], changed["metadata"]["annotations"]) == ("Silver", {"a": "b"})
    assert cloud.admin.ok("GET", path) == changed
    found = cloud.admin.ok("GET", f"{PATH}?names=silver&label_selector=tier%3D1&order_by=-name")["resources"]
    assert found == [changed]
    assert cloud.admin.delete(path).status_code == 204
    assert cloud.admin.problem("GET", path) == (404, 10010, "Isolation segment not found")


def test_who_makes_use_of_segments_is_warned_that_nothing_enforces_them(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    answers = [cloud.admin.post(PATH, {"name": "gold"})]
    guid = answers[0].json()["guid"]
    answers += [
        cloud.admin.post(f"{PATH}/{guid}/relationships/organizations", targets(org)),
        cloud.admin.patch(f"/v3/organizations/{org}/relationships/default_isolation_segment", one(guid)),
        cloud.admin.patch(f"/v3/spaces/{space}/relationships/isolation_segment", one(guid)),
    ]
    assert [unquote(answer.headers["X-Cf-Warnings"]) for answer in answers] == [WARNING] * 4
    quiet = cloud.admin.patch(f"/v3/spaces/{space}/relationships/isolation_segment", one(None))
    assert "X-Cf-Warnings" not in quiet.headers


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "Name can't be blank"),
        ({"name": ""}, "Name can't be blank"),
        ({"name": " "}, "Name can't be blank"),
        ({"name": 1}, "Name must be a string"),
        ({"name": "a\nb"}, "Isolation Segment names can only contain non-blank unicode characters"),
        ({"name": "SHARED"}, "Isolation Segment names are case insensitive and must be unique"),
        ({"name": "x", "size": 1}, "Unknown field(s): 'size'"),
    ],
)
def test_what_a_segment_may_be_called(cloud: Cloud, body: Any, detail: str) -> None:
    assert cloud.admin.problem("POST", PATH, body) == (422, 10008, detail)


def test_the_shared_segment_stays_as_it_is(cloud: Cloud) -> None:
    path = f"{PATH}/{SHARED}"
    assert cloud.admin.ok("GET", path)["name"] == "shared"
    assert cloud.admin.problem("PATCH", path, {"name": "x"})[2] == "Cannot update the shared Isolation Segment"
    assert cloud.admin.problem("DELETE", path)[2] == "Cannot delete the shared Isolation Segment"


def test_only_admins_write(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    guid = segment(cloud, "gold", org)
    for client in (cloud.user(organization_manager=org), cloud.client("cloud_controller.global_auditor")):
        for method, path, body in (
            ("POST", PATH, {"name": "x"}),
            ("PATCH", f"{PATH}/{guid}", {"name": "x"}),
            ("DELETE", f"{PATH}/{guid}", None),
            ("POST", f"{PATH}/{guid}/relationships/organizations", targets(org)),
            ("DELETE", f"{PATH}/{guid}/relationships/organizations/{org}", None),
        ):
            assert client.problem(method, path, body)[:2] == (403, 10003)


def test_members_of_entitled_organizations_see_a_segment_and_what_of_it_is_theirs(cloud: Cloud) -> None:
    mine, other = cloud.org("mine")["guid"], cloud.org("other")["guid"]
    guid, hidden = segment(cloud, "gold", mine, other), segment(cloud, "lead", other)
    path = f"{PATH}/{guid}"
    user = cloud.user(organization_user=mine)
    assert [found["guid"] for found in user.ok("GET", PATH)["resources"]] == [guid]
    assert user.ok("GET", path)["name"] == "gold"
    assert user.problem("GET", f"{PATH}/{hidden}")[:2] == (404, 10010)
    assert user.ok("GET", path + "/relationships/organizations")["data"] == targets(mine)["data"]
    assert [found["name"] for found in user.ok("GET", path + "/organizations")["resources"]] == ["mine"]
    shown = cloud.admin.ok("GET", path + "/relationships/organizations")
    url = cloud.settings.api_url
    assert shown == {
        **targets(mine, other),
        "links": {
            "self": {"href": f"{url}{path}/relationships/organizations"},
            "related": {"href": f"{url}{path}/organizations"},
        },
    }
    listed = cloud.admin.ok("GET", f"{path}/organizations?order_by=-name&names=OTHER,mine")
    assert [found["name"] for found in listed["resources"]] == ["other", "mine"]
    assert [found["name"] for found in cloud.admin.ok("GET", f"{PATH}?organization_guids={mine}")["resources"]] == [
        "gold"
    ]
    spaces = [cloud.space(org=org)["guid"] for org in (mine, other)]
    for space in spaces:
        cloud.admin.ok("PATCH", f"/v3/spaces/{space}/relationships/isolation_segment", one(guid))
    relationship = path + "/relationships/spaces"
    assert cloud.admin.ok("GET", relationship) == {
        **targets(*spaces),
        "links": {"self": {"href": url + relationship}},
    }
    assert cloud.user(organization_manager=mine).ok("GET", relationship)["data"] == targets(spaces[0])["data"]
    assert user.ok("GET", relationship)["data"] == []


def test_entitling_names_organizations_that_exist(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    path = f"{PATH}/{segment(cloud)}/relationships/organizations"
    assert cloud.admin.problem("POST", path, targets(org, "a", "b"))[2] == (
        "Unable to entitle organizations ['a', 'b'] for the isolation segment. Ensure the organizations exist."
    )
    assert cloud.admin.ok("GET", path)["data"] == []
    for _ in "twice":
        assert cloud.admin.ok("POST", path, targets(org))["data"] == [{"guid": org}]
    assert cloud.admin.problem("POST", path, {})[2] == "Data can't be blank, Data must be an array"


def test_the_shared_segment_becomes_the_default_of_those_that_have_none(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    path = f"/v3/organizations/{org}/relationships/default_isolation_segment"
    gold = segment(cloud, "gold", org)
    assert cloud.admin.ok("GET", path)["data"] is None
    cloud.admin.ok("POST", f"{PATH}/{SHARED}/relationships/organizations", targets(org))
    assert cloud.admin.ok("GET", path)["data"] == {"guid": SHARED}
    cloud.admin.ok("PATCH", path, one(gold))
    cloud.admin.ok("POST", f"{PATH}/{SHARED}/relationships/organizations", targets(org))
    assert cloud.admin.ok("GET", path)["data"] == {"guid": gold}


def test_the_default_segment_of_an_organization(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    path = f"/v3/organizations/{org}/relationships/default_isolation_segment"
    url = cloud.settings.api_url
    assert cloud.admin.ok("GET", path) == {"data": None, "links": {"self": {"href": url + path}}}
    guid, stranger = segment(cloud, "gold", org), segment(cloud, "lead")
    manager, user = cloud.user(organization_manager=org), cloud.user(organization_user=org)
    expected = {
        "data": {"guid": guid},
        "links": {"self": {"href": url + path}, "related": {"href": f"{url}{PATH}/{guid}"}},
    }
    assert manager.ok("PATCH", path, one(guid)) == expected
    assert user.ok("GET", path) == expected
    assert user.problem("PATCH", path, one(None))[:2] == (403, 10003)
    for unknown in (stranger, "nope"):
        assert manager.problem("PATCH", path, one(unknown))[2] == (
            f"Unable to assign isolation segment with guid '{unknown}'. "
            "Ensure it has been entitled to the organization."
        )
    assert manager.ok("PATCH", path, {}) == expected
    assert manager.ok("PATCH", path, one(None))["data"] is None
    assert manager.problem("PATCH", path, {"data": {"name": "gold"}})[2] == "Data can only accept key 'guid'"
    assert manager.problem("PATCH", path, {"data": []})[2] == "Data must be an object"
    assert cloud.user().problem("GET", path) == (404, 10010, "Organization not found")


def test_the_segment_of_a_space(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    path = f"/v3/spaces/{space}/relationships/isolation_segment"
    guid = segment(cloud, "gold", org)
    manager = cloud.user(organization_manager=org)
    for other in ("space_manager", "space_developer"):
        client = cloud.user(**{other: space, "organization_user": org})
        assert client.ok("GET", path)["data"] is None
        assert client.problem("PATCH", path, one(guid))[:2] == (403, 10003)
    shown = manager.ok("PATCH", path, one(guid))
    url = cloud.settings.api_url
    assert shown == {
        **one(guid),
        "links": {"self": {"href": url + path}, "related": {"href": f"{url}{PATH}/{guid}"}},
    }
    event = cloud.admin.ok("GET", f"/v3/audit_events?target_guids={space}")["resources"][-1]
    assert (event["type"], event["data"]["request"]) == ("audit.space.update", one(guid))
    assert manager.problem("PATCH", path, one("nope"))[2] == (
        "Unable to assign isolation segment with guid 'nope'. "
        "Ensure it has been entitled to the organization that this space belongs to."
    )
    assert manager.ok("PATCH", path, one(None))["data"] is None


def test_what_is_in_use_is_neither_changed_nor_revoked_nor_deleted(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    guid = segment(cloud, "gold", org)
    default = f"/v3/organizations/{org}/relationships/default_isolation_segment"
    revoke = f"{PATH}/{guid}/relationships/organizations/{org}"
    assert cloud.admin.problem("DELETE", f"{PATH}/{guid}") == (
        422,
        10008,
        "Revoke the Organization entitlements for your Isolation Segment.",
    )
    cloud.admin.ok("PATCH", default, one(guid))
    unchanged = "Cannot update Isolation Segments that are assigned as the default for an Organization or Space."
    assert cloud.admin.problem("PATCH", f"{PATH}/{guid}", {"name": "x"})[2] == unchanged
    assert cloud.admin.problem("DELETE", revoke)[2] == (
        "Cannot remove the entitlement while this Isolation Segment is assigned as the "
        "Default Isolation Segment for the Organization."
    )
    cloud.admin.ok("PATCH", default, one(None))
    spaces = [cloud.space(name, org)["guid"] for name in ("a", "b")]
    for space in spaces:
        cloud.admin.ok("PATCH", f"/v3/spaces/{space}/relationships/isolation_segment", one(guid))
    assert cloud.admin.problem("PATCH", f"{PATH}/{guid}", {"name": "x"})[2] == unchanged
    assert cloud.admin.problem("DELETE", revoke)[2] == (
        "Cannot remove the entitlement while this Isolation Segment is assigned to any Spaces. "
        "Currently assigned to: 'a', 'b'"
    )
    for space in spaces:
        cloud.admin.ok("PATCH", f"/v3/spaces/{space}/relationships/isolation_segment", one(None))
    for _ in "twice":
        assert cloud.admin.delete(revoke).status_code == 204
    nobody = f"{PATH}/{guid}/relationships/organizations/nope"
    assert cloud.admin.problem("DELETE", nobody) == (404, 10010, "Org not found")
    assert cloud.admin.delete(f"{PATH}/{guid}").status_code == 204


def test_entitlements_go_with_their_organization(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    guid = segment(cloud, "gold", org)
    cloud.admin.ok("PATCH", f"/v3/organizations/{org}/relationships/default_isolation_segment", one(guid))
    assert finished(cloud, cloud.admin, "DELETE", f"/v3/organizations/{org}")["state"] == "COMPLETE"
    assert cloud.admin.delete(f"{PATH}/{guid}").status_code == 204


@pytest.mark.parametrize("path", [PATH, f"{PATH}/{SHARED}/organizations"])
def test_bad_queries_are_400(cloud: Cloud, path: str) -> None:
    assert cloud.admin.problem("GET", f"{path}?size=1")[:2] == (400, 10005)
    assert cloud.admin.problem("GET", f"{path}?order_by=size")[:2] == (400, 10005)
