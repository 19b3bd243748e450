"""Service plans: how they look, who sees them, what a changed catalog does to them, how they go."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Cloud
from tests.api.marketplace import Marketplace
from tests.brokers.scripted import Broker, catalog, plan, scripted, service

DRAFT = "http://json-schema.org/draft-04/schema#"


@pytest.fixture
def broker() -> Iterator[Broker]:
    with scripted() as opened:
        yield opened


@pytest.fixture
def market(cloud: Cloud, broker: Broker) -> Marketplace:
    return Marketplace(cloud, broker)


def names(found: Any) -> list[str]:
    return [one["name"] for one in found]


def test_a_plan_is_what_the_catalog_says(market: Marketplace) -> None:
    costs = [{"amount": {"usd": 649.0, "eur": 600}, "unit": "MONTHLY"}, {"amount": {"gbp": 0.5}, "unit": "1GB"}]
    schema = {"$schema": DRAFT, "type": "object"}
    market.broker.catalog = catalog(
        service(
            "db",
            [
                plan(
                    "Big",
                    free=False,
                    bindable=False,
                    plan_updateable=True,
                    maximum_polling_duration=60,
                    maintenance_info={"version": "1.2.3", "description": "Faster"},
                    metadata={"costs": costs, "bullets": ["many"]},
                    schemas={"service_instance": {"update": {"parameters": schema}}},
                )
            ],
        )
    )
    market.register()
    (shown,) = market.plans()
    path = f"/v3/service_plans/{shown['guid']}"
    assert market.admin.ok("GET", path) == shown
    offering = market.offering("db")["guid"]
    expected = {
        "name": "Big",
        "visibility_type": "admin",
        "available": True,
        "free": False,
        "costs": [
            {"amount": 649.0, "currency": "USD", "unit": "MONTHLY"},
            {"amount": 600, "currency": "EUR", "unit": "MONTHLY"},
            {"amount": 0.5, "currency": "GBP", "unit": "1GB"},
        ],
        "description": "The Big plan",
        "maintenance_info": {"version": "1.2.3", "description": "Faster"},
        "broker_catalog": {
            "id": "Big-id",
            "metadata": {"costs": costs, "bullets": ["many"]},
            "maximum_polling_duration": 60,
            "features": {"plan_updateable": True, "bindable": False},
        },
        "schemas": {
            "service_instance": {"create": {"parameters": {}}, "update": {"parameters": schema}},
            "service_binding": {"create": {"parameters": {}}},
        },
        "relationships": {"service_offering": {"data": {"guid": offering}}},
        "metadata": {"labels": {}, "annotations": {}},
    }
    assert {name: shown[name] for name in expected} == expected
    assert set(shown) == {*expected, "guid", "created_at", "updated_at", "links"}
    links = {name: link["href"].removeprefix(market.cloud.settings.api_url) for name, link in shown["links"].items()}
    assert links == {
        "self": path,
        "service_offering": f"/v3/service_offerings/{offering}",
        "visibility": f"{path}/visibility",
    }


@pytest.mark.parametrize("costs", [None, "x", {}, [1], [{"amount": 1}], [{"amount": {"usd": "x"}}], [{}]])
def test_costs_that_nobody_understands_are_none(market: Marketplace, costs: Any) -> None:
    market.broker.catalog = catalog(service("db", [plan("p", metadata={"costs": costs})]))
    market.register()
    (shown,) = market.plans()
    assert shown["costs"] == []
    assert shown["broker_catalog"]["metadata"] == {"costs": costs}


def test_plans_of_a_space(market: Marketplace) -> None:
    space = market.cloud.space()
    org = space["relationships"]["organization"]["data"]["guid"]
    market.register(relationships={"space": {"data": {"guid": space["guid"]}}})
    members = [market.cloud.user(organization_user=org, **{role: space["guid"]}) for role in ("space_auditor", "space_manager", "space_developer", "space_supporter")]  # fmt: skip
    for member in members:
        (shown,) = market.plans(client=member)
        assert shown["visibility_type"] == "space"
        assert shown["relationships"]["space"] == {"data": {"guid": space["guid"]}}
        assert shown["links"]["space"]["href"].endswith(f"/v3/spaces/{space['guid']}")
        assert names(market.offerings(client=member)) == ["db"]
    for outsider in (market.cloud.user(organization_manager=org), market.cloud.user(), market.cloud.nobody):
        assert market.plans(client=outsider) == []
    found = market.admin.ok("GET", "/v3/service_plans?include=service_offering,space.organization")
    assert list(found["included"]) == ["service_offerings", "spaces", "organizations"]
    assert [one["guid"] for one in found["included"]["spaces"]] == [space["guid"]]
    assert [one["guid"] for one in found["included"]["organizations"]] == [org]


def test_who_sees_which_plans(market: Marketplace) -> None:
    market.broker.catalog = catalog(service("db", [plan("all"), plan("org"), plan("admin")]))
    market.register()
    org = market.cloud.org()["guid"]
    market.show("all")
    market.show("org", "organization", org)
    for client, expected in (
        (market.admin, ["all", "org", "admin"]),
        (market.cloud.client("cloud_controller.admin_read_only"), ["all", "org", "admin"]),
        (market.cloud.client("cloud_controller.global_auditor"), ["all", "org", "admin"]),
        (market.cloud.user(organization_user=org), ["all", "org"]),
        (market.cloud.user(organization_billing_manager=org), ["all", "org"]),
        (market.cloud.user(organization_user=market.cloud.org()["guid"]), ["all"]),
        (market.cloud.nobody, ["all"]),
    ):
        assert names(market.plans(client=client)) == expected
        for name in ("all", "org", "admin"):
            status = client.get(f"/v3/service_plans/{market.plan(name)['guid']}").status_code
            assert status == (200 if name in expected else 404)


def test_filters(market: Marketplace) -> None:
    market.broker.catalog = catalog(service("Db", [plan("One"), plan("two")]), service("cache", [plan("three")]))
    market.register()
    broker = market.list()[0]["guid"]
    space = market.cloud.space()
    org = space["relationships"]["organization"]["data"]["guid"]
    market.show("two", "organization", org)
    instance = market.instance("three", space["guid"])
    for query, expected in {
        "names=one": ["One"],
        "available=true": ["One", "two", "three"],
        "broker_catalog_ids=two-id,three-id": ["two", "three"],
        f"organization_guids={org}": ["two"],
        f"space_guids={space['guid']}": ["two"],
        f"service_broker_guids={broker}": ["One", "two", "three"],
        "service_broker_names=broker": ["One", "two", "three"],
        "service_broker_names=x": [],
        f"service_instance_guids={instance}": ["three"],
        f"service_offering_guids={market.offering('cache')['guid']}": ["three"],
        "service_offering_names=DB": ["One", "two"],
        "order_by=-name": ["two", "three", "One"],
        "per_page=1&page=2": ["two"],
    }.items():
        assert names(market.plans("?" + query)) == expected, query


def test_include_and_fields(market: Marketplace) -> None:
    market.broker.catalog = catalog(service("db", [plan("one"), plan("two")]))
    market.register()
    query = "?include=service_offering&fields[service_offering.service_broker]=name"
    found = market.admin.ok("GET", "/v3/service_plans" + query)
    assert names(found["included"]["service_offerings"]) == ["db"]
    assert found["included"]["service_brokers"] == [{"name": "broker"}]
    one = market.admin.ok("GET", f"/v3/service_plans/{found['resources'][0]['guid']}{query}")
    assert one["included"] == found["included"]
    assert market.admin.problem("GET", "/v3/service_plans?include=space")[2] == (
        "The query parameter is invalid: Invalid included resource: 'space'. "
        "Valid included resources are: 'space.organization', 'service_offering'"
    )


def test_labels(market: Marketplace) -> None:
    market.register()
    path = f"/v3/service_plans/{market.plan('db-small')['guid']}"
    changed = market.admin.ok("PATCH", path, {"metadata": {"labels": {"tier": "gold"}}})
    assert changed["metadata"]["labels"] == {"tier": "gold"}
    assert names(market.plans("?label_selector=tier")) == ["db-small"]
    market.show("db-small")
    assert market.cloud.user().problem("PATCH", path, {})[0] == 403


def test_developers_write_the_plans_of_their_spaces_broker(market: Marketplace) -> None:
    space = market.cloud.space()
    org = space["relationships"]["organization"]["data"]["guid"]
    market.register(relationships={"space": {"data": {"guid": space["guid"]}}})
    developer = market.cloud.user(organization_user=org, space_developer=space["guid"])
    auditor = market.cloud.user(organization_user=org, space_auditor=space["guid"])
    plan_path = f"/v3/service_plans/{market.plan('db-small')['guid']}"
    offering_path = f"/v3/service_offerings/{market.offering('db')['guid']}"
    for path in (plan_path, offering_path):
        assert auditor.problem("PATCH", path, {})[0] == 403
        developer.ok("PATCH", path, {"metadata": {"labels": {"a": "b"}}})
    assert auditor.problem("DELETE", plan_path)[0] == 403
    developer.ok("DELETE", plan_path, None, 204)
    developer.ok("DELETE", offering_path + "?purge=true", None, 204)


# A changed catalog


def test_a_plan_changes_with_the_catalog_and_stays_the_same(market: Marketplace) -> None:
    market.register()
    market.show("db-small")
    before = market.plan("db-small")
    market.broker.catalog = catalog(
        service("db", [{**plan("renamed", free=False, maintenance_info={"version": "2.0.0"}), "id": "db-small-id"}])
    )
    market.synchronize()
    after = market.plan("renamed")
    assert (after["guid"], after["visibility_type"], after["free"]) == (before["guid"], "public", False)
    assert after["maintenance_info"] == {"version": "2.0.0"}


def test_a_catalog_that_has_not_changed_changes_nothing(market: Marketplace) -> None:
    market.register()
    before = (market.plans(), market.offerings())
    events = market.admin.ok("GET", "/v3/audit_events")["pagination"]["total_results"]
    market.synchronize()
    assert (market.plans(), market.offerings()) == before
    assert market.admin.ok("GET", "/v3/audit_events")["pagination"]["total_results"] == events + 1


def test_a_plan_that_is_gone_is_gone_unless_it_is_used(market: Marketplace) -> None:
    market.broker.catalog = catalog(service("db", [plan("one"), plan("two"), plan("three")]))
    market.register()
    market.instance("two")
    market.broker.catalog = catalog(service("db", [plan("one")]))
    (warning,) = market.synchronize()["warnings"]
    assert "Service Offering: db\nPlans deactivated: two\n" in warning["detail"]
    assert [(one["name"], one["available"]) for one in market.plans()] == [("one", True), ("two", False)]
    assert names(market.plans("?available=false")) == ["two"]
    assert market.offering("db")["available"] is True


def test_a_plan_does_not_move_to_another_service(market: Marketplace) -> None:
    market.broker.catalog = catalog(service("db", [plan("one"), plan("two")]))
    market.register()
    market.broker.catalog = catalog(service("db", [plan("one")]), service("cache", [plan("two")]))
    (error,) = market.synchronize()["errors"]
    assert error["detail"] == (
        "Service broker catalog is invalid: \n"
        "Plan ids must be unique. Unable to register plan with id 'two-id' (plan name 'two', service name 'cache') "
        "because it uses the same id as an existing plan (plan name 'two', service name 'db', broker name 'broker')\n"
    )


def test_a_large_catalog(market: Marketplace) -> None:
    market.broker.catalog = catalog(
        *(service(f"s{one}", [plan(f"s{one}p{two}") for two in range(20)]) for one in range(20))
    )
    assert market.register()["state"] == "COMPLETE"
    assert market.admin.ok("GET", "/v3/service_plans")["pagination"]["total_results"] == 400


# Removal


def test_a_plan_with_instances_stays(market: Marketplace) -> None:
    market.register()
    market.instance("db-small")
    path = f"/v3/service_plans/{market.plan('db-small')['guid']}"
    detail = "Please delete the service_instances associations for your service_plans."
    assert market.admin.problem("DELETE", path) == (422, 10008, detail)


def test_a_plan_is_deleted_without_asking_anybody_and_comes_back(market: Marketplace) -> None:
    market.register()
    guid = market.plan("db-small")["guid"]
    market.show("db-small", "organization", market.cloud.org()["guid"])
    market.admin.ok("DELETE", f"/v3/service_plans/{guid}", None, 204)
    assert market.plans() == []
    assert len(market.broker.asked()) == 1
    (event,) = market.admin.ok("GET", "/v3/audit_events?types=audit.service_plan.delete")["resources"]
    assert (event["actor"]["type"], event["target"]["guid"]) == ("user", guid)
    market.synchronize()
    assert market.plan("db-small")["guid"] != guid
