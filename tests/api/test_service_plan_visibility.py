"""Who may use a plan: shown, set, extended, taken away."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Cloud
from tests.api.marketplace import Marketplace
from tests.api.work import finished
from tests.brokers.scripted import Broker, scripted


@pytest.fixture
def broker() -> Iterator[Broker]:
    with scripted() as opened:
        yield opened


@pytest.fixture
def market(cloud: Cloud, broker: Broker) -> Marketplace:
    found = Marketplace(cloud, broker)
    found.register()
    return found


def path(market: Marketplace) -> str:
    return f"/v3/service_plans/{market.plan('db-small')['guid']}/visibility"


def organizations(*guids: str) -> dict[str, Any]:
    return {"type": "organization", "organizations": [{"guid": guid} for guid in guids]}


def test_the_types(market: Marketplace) -> None:
    where = path(market)
    org = market.cloud.org("the-org")["guid"]
    assert market.admin.ok("GET", where) == {"type": "admin"}
    for body, expected in (
        ({"type": "public"}, {"type": "public"}),
        (
            organizations(org),
            {"type": "organization", "organizations": [{"guid": org, "name": "the-org"}]},
        ),
        ({"type": "admin"}, {"type": "admin"}),
    ):
        assert market.admin.ok("PATCH", where, body) == expected
        assert market.admin.ok("GET", where) == expected
        assert market.plan("db-small")["visibility_type"] == expected["type"]


def test_patch_replaces_and_post_appends(market: Marketplace) -> None:
    where = path(market)
    one, two, three = (market.cloud.org()["guid"] for _ in range(3))

    def have() -> list[str]:
        return [org["guid"] for org in market.admin.ok("GET", where)["organizations"]]

    market.admin.ok("PATCH", where, organizations(one))
    assert market.admin.ok("POST", where, organizations(two, one, two)) == {"type": "organization"}
    assert have() == [one, two]
    market.admin.ok("PATCH", where, organizations(three))
    assert have() == [three]
    market.admin.ok("POST", where, {"type": "public"})
    assert market.admin.ok("POST", where, organizations(one)) == {"type": "organization"}
    assert have() == [one]


def test_what_takes_a_plan_away(market: Marketplace) -> None:
    where = path(market)
    one, two = market.cloud.org()["guid"], market.cloud.org()["guid"]
    member = market.cloud.user(organization_user=one)
    market.admin.ok("PATCH", where, organizations(one, two))
    assert len(market.plans(client=member)) == 1
    market.admin.ok("DELETE", f"{where}/{one}", None, 204)
    assert market.plans(client=member) == []
    assert market.admin.problem("DELETE", f"{where}/{one}") == (404, 10010, "Organization not found")
    market.admin.ok("DELETE", f"{where}/{two}", None, 204)
    assert market.admin.ok("GET", where) == {"type": "admin"}
    detail = "Cannot delete visibilities from non-org-restricted plans"
    assert market.admin.problem("DELETE", f"{where}/{two}") == (422, 10008, detail)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "Type must be a string"),
        ({"type": "space"}, "Type must be one of 'public', 'admin', 'organization'"),
        ({"type": "organization"}, "Organizations must be a non-empty array"),
        (
            {"type": "organization", "organizations": []},
            "Organizations must be a non-empty array, Organizations must be a non-empty array",
        ),
        ({"type": "public", "organizations": [{"guid": "x"}]}, "Organizations must be blank"),
        (
            {"type": "organization", "organizations": ["x"]},
            'Organizations must be an array of objects like {"guid": "valid-guid"}',
        ),
        ({"type": "public", "x": 1}, "Unknown field(s): 'x'"),
    ],
)
def test_bad_bodies_are_bad_requests(market: Marketplace, body: Any, detail: str) -> None:
    if body.get("organizations") == []:
        detail = "Organizations must be a non-empty array"
    for method in ("PATCH", "POST"):
        assert market.admin.problem(method, path(market), body) == (400, 1004, f"Bad request: {detail}")


def test_unknown_organizations(market: Marketplace) -> None:
    org = market.cloud.org()["guid"]
    found = market.admin.problem("PATCH", path(market), organizations(org, "x", "y"))
    assert found == (422, 10008, "Could not find Organizations with guids: x, y")
    assert market.admin.ok("GET", path(market)) == {"type": "admin"}


def test_who_may(market: Marketplace) -> None:
    where = path(market)
    org = market.cloud.org()["guid"]
    manager, outsider = market.cloud.user(organization_manager=org), market.cloud.user()
    assert manager.problem("GET", where)[0] == 404
    other = market.cloud.org()["guid"]
    market.admin.ok("PATCH", where, organizations(org, other))
    assert [one["guid"] for one in manager.ok("GET", where)["organizations"]] == [org]
    assert outsider.problem("GET", where)[0] == 404
    assert market.cloud.nobody.problem("GET", where)[0] == 401
    for client in (manager, market.cloud.client("cloud_controller.admin_read_only", "cloud_controller.write")):
        assert client.problem("PATCH", where, {"type": "public"})[0] == 403
        assert client.problem("POST", where, {"type": "public"})[0] == 403
        assert client.problem("DELETE", f"{where}/{org}")[0] == 403


def test_plans_of_a_space_stay_there(market: Marketplace) -> None:
    space = market.cloud.space("the-space")
    org = space["relationships"]["organization"]["data"]["guid"]
    developer = market.cloud.user(organization_user=org, space_developer=space["guid"])
    market.register("local", relationships={"space": {"data": {"guid": space["guid"]}}})
    (shown,) = market.plans("?service_broker_names=local")
    where = f"/v3/service_plans/{shown['guid']}/visibility"
    expected = {"type": "space", "space": {"guid": space["guid"], "name": "the-space"}}
    assert developer.ok("GET", where) == market.admin.ok("GET", where) == expected
    for client in (developer, market.admin):
        detail = "cannot update plans with visibility type 'space'"
        assert client.problem("PATCH", where, {"type": "public"}) == (422, 10008, detail)


def test_an_organization_that_goes_takes_its_visibilities_along(market: Marketplace) -> None:
    where = path(market)
    one, two = market.cloud.org()["guid"], market.cloud.org()["guid"]
    market.admin.ok("PATCH", where, organizations(one, two))
    assert finished(market.cloud, market.admin, "DELETE", f"/v3/organizations/{one}")["state"] == "COMPLETE"
    assert [org["guid"] for org in market.admin.ok("GET", where)["organizations"]] == [two]
    finished(market.cloud, market.admin, "DELETE", f"/v3/organizations/{two}")
    assert market.admin.ok("GET", where) == {"type": "admin"}


def test_a_space_that_goes_takes_its_brokers_along(market: Marketplace) -> None:
    space = market.cloud.space()["guid"]
    market.register("local", relationships={"space": {"data": {"guid": space}}})
    assert finished(market.cloud, market.admin, "DELETE", f"/v3/spaces/{space}")["state"] == "COMPLETE"
    assert [one["name"] for one in market.list()] == ["broker"]


def test_events(market: Marketplace) -> None:
    where = path(market)
    org = market.cloud.org()["guid"]
    market.admin.ok("PATCH", where, organizations(org))
    market.admin.ok("DELETE", f"{where}/{org}", None, 204)
    found = market.admin.ok(
        "GET", "/v3/audit_events?types=audit.service_plan_visibility.update,audit.service_plan_visibility.delete"
    )["resources"]
    assert [(one["type"], one["data"]) for one in found] == [
        ("audit.service_plan_visibility.update", {"request": organizations(org)}),
        ("audit.service_plan_visibility.delete", {"organization_guid": org}),
    ]
