"""Service offerings: how they look, who sees them, what a changed catalog does to them, how they go."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Cloud
from tests.api.marketplace import Marketplace
from tests.brokers.scripted import Broker, catalog, plan, scripted, service


@pytest.fixture
def broker() -> Iterator[Broker]:
    with scripted() as opened:
        yield opened


@pytest.fixture
def market(cloud: Cloud, broker: Broker) -> Marketplace:
    return Marketplace(cloud, broker)


def names(found: Any) -> list[str]:
    return [one["name"] for one in found]


def test_an_offering_is_what_the_catalog_says(market: Marketplace) -> None:
    extra = {"displayName": "The DB", "shareable": True, "documentationUrl": "http://docs", "nested": {"a": [1]}}
    market.broker.catalog = catalog(
        service(
            "Db",
            tags=["sql"],
            requires=["syslog_drain"],
            metadata=extra,
            plan_updateable=True,
            instances_retrievable=True,
            bindings_retrievable=True,
            allow_context_updates=True,
        )
    )
    market.register()
    (shown,) = market.offerings()
    path = f"/v3/service_offerings/{shown['guid']}"
    assert market.admin.ok("GET", path) == shown
    (broker,) = market.list()
    expected = {
        "name": "Db",
        "description": "The Db service",
        "available": True,
        "tags": ["sql"],
        "requires": ["syslog_drain"],
        "shareable": True,
        "documentation_url": "http://docs",
        "broker_catalog": {
            "id": "Db-id",
            "metadata": extra,
            "features": {
                "plan_updateable": True,
                "bindable": True,
                "instances_retrievable": True,
                "bindings_retrievable": True,
                "allow_context_updates": True,
            },
        },
        "relationships": {"service_broker": {"data": {"guid": broker["guid"]}}},
        "metadata": {"labels": {}, "annotations": {}},
    }
    assert {name: shown[name] for name in expected} == expected
    assert set(shown) == {*expected, "guid", "created_at", "updated_at", "links"}
    links = {name: link["href"].removeprefix(market.cloud.settings.api_url) for name, link in shown["links"].items()}
    assert links == {
        "self": path,
        "service_plans": f"/v3/service_plans?service_offering_guids={shown['guid']}",
        "service_broker": f"/v3/service_brokers/{broker['guid']}",
    }


def test_an_offering_that_says_little(market: Marketplace) -> None:
    market.register()
    (shown,) = market.offerings()
    assert (shown["tags"], shown["requires"], shown["shareable"], shown["documentation_url"]) == ([], [], False, "")
    assert shown["broker_catalog"]["metadata"] == {}
    assert set(shown["broker_catalog"]["features"].values()) == {True, False}


def test_an_offering_is_visible_with_one_of_its_plans(market: Marketplace) -> None:
    market.broker.catalog = catalog(service("db", [plan("one"), plan("two")]), service("cache", [plan("three")]))
    market.register()
    org = market.cloud.org()["guid"]
    member, other = market.cloud.user(organization_user=org), market.cloud.user()
    nobody = market.cloud.nobody
    assert market.offerings(client=member) == market.offerings(client=nobody) == []
    market.show("two", "organization", org)
    assert names(market.offerings(client=member)) == ["db"]
    assert market.offerings(client=other) == market.offerings(client=nobody) == []
    market.show("three")
    for client, expected in ((member, ["db", "cache"]), (other, ["cache"]), (nobody, ["cache"])):
        assert names(market.offerings(client=client)) == expected
    path = f"/v3/service_offerings/{market.offering('db')['guid']}"
    member.ok("GET", path)
    assert other.problem("GET", path) == (404, 10010, "Service offering not found")
    assert nobody.get(path).status_code == 404
    assert names(market.offerings(client=market.cloud.client("cloud_controller.global_auditor"))) == ["db", "cache"]


def test_the_marketplace_can_be_hidden_from_those_without_a_token(market: Marketplace) -> None:
    market.register()
    market.show("db-small")
    one = market.offering("db")["guid"]
    flag = "/v3/feature_flags/hide_marketplace_from_unauthenticated_users"
    market.admin.ok("PATCH", flag, {"enabled": True})
    for path in ("/v3/service_offerings", f"/v3/service_offerings/{one}", "/v3/service_plans"):
        assert market.cloud.nobody.problem("GET", path) == (401, 10002, "Authentication error")
    assert names(market.offerings(client=market.cloud.user())) == ["db"]
    bad = market.cloud.nobody.get("/v3/service_offerings", headers={"Authorization": "bearer x"})
    assert bad.status_code == 401


def test_filters(market: Marketplace) -> None:
    market.broker.catalog = catalog(service("Db", [plan("one"), plan("two")]), service("cache", [plan("three")]))
    market.register()
    broker = market.list()[0]["guid"]
    space = market.cloud.space()
    org = space["relationships"]["organization"]["data"]["guid"]
    market.show("two", "organization", org)
    for query, expected in {
        "names=db": ["Db"],
        "names=CACHE,db": ["Db", "cache"],
        "available=true": ["Db", "cache"],
        "available=false": [],
        "broker_catalog_ids=cache-id": ["cache"],
        f"service_broker_guids={broker}": ["Db", "cache"],
        "service_broker_names=broker": ["Db", "cache"],
        "service_broker_names=Broker": [],
        f"organization_guids={org}": ["Db"],
        f"space_guids={space['guid']}": ["Db"],
        "organization_guids=x": [],
        f"guids={market.offering('cache')['guid']}": ["cache"],
        "order_by=name": ["Db", "cache"],
        "order_by=-name": ["cache", "Db"],
    }.items():
        assert names(market.offerings("?" + query)) == expected, query
    market.show("three")
    assert names(market.offerings(f"?organization_guids={org}")) == ["Db", "cache"]
    status, _, detail = market.admin.problem("GET", "/v3/service_offerings?available=x")
    assert (status, detail) == (400, "The query parameter is invalid: Available must be 'true' or 'false'")


def test_who_filters_by_a_foreign_organization_sees_no_more(market: Marketplace) -> None:
    """An offering with one plan for mine and another one for theirs is not told to be theirs."""
    market.broker.catalog = catalog(service("db", [plan("mine"), plan("theirs")]))
    market.register()
    mine, theirs = market.cloud.org()["guid"], market.cloud.org()["guid"]
    market.show("mine", "organization", mine)
    market.show("theirs", "organization", theirs)
    member = market.cloud.user(organization_user=mine)
    assert names(market.offerings(f"?organization_guids={mine}", member)) == ["db"]
    assert market.offerings(f"?organization_guids={theirs}", member) == []


def test_fields_of_the_broker(market: Marketplace) -> None:
    market.register()
    (broker,) = market.list()
    found = market.admin.ok("GET", "/v3/service_offerings?fields[service_broker]=guid,name")
    assert found["included"] == {"service_brokers": [{"guid": broker["guid"], "name": "broker"}]}
    path = f"/v3/service_offerings/{found['resources'][0]['guid']}"
    assert market.admin.ok("GET", path + "?fields[service_broker]=name")["included"] == {
        "service_brokers": [{"name": "broker"}]
    }
    status, _, detail = market.admin.problem("GET", "/v3/service_offerings?fields[service_broker]=url")
    assert (status, detail) == (
        400,
        "The query parameter is invalid: Fields valid keys for 'service_broker' are: 'guid', 'name'",
    )


def test_labels(market: Marketplace) -> None:
    market.register()
    path = f"/v3/service_offerings/{market.offering('db')['guid']}"
    changed = market.admin.ok("PATCH", path, {"metadata": {"labels": {"tier": "gold"}}})
    assert changed["metadata"]["labels"] == {"tier": "gold"}
    assert names(market.offerings("?label_selector=tier=gold")) == ["db"]
    assert market.admin.problem("PATCH", path, {"name": "x"})[0] == 422
    market.show("db-small")
    assert market.cloud.user().problem("PATCH", path, {})[0] == 403
    market.synchronize()
    assert market.offering("db")["metadata"]["labels"] == {"tier": "gold"}


# A changed catalog


def test_what_changes_in_the_catalog_changes_here(market: Marketplace) -> None:
    market.register()
    before = market.offering("db")
    market.broker.catalog = catalog({**service("cache"), "id": "db-id", "tags": ["new"], "bindable": False})
    assert market.synchronize()["warnings"] == []
    (after,) = market.offerings()
    assert (after["guid"], after["name"], after["tags"]) == (before["guid"], "cache", ["new"])
    assert after["broker_catalog"]["features"]["bindable"] is False


def test_a_service_that_is_gone_is_gone(market: Marketplace) -> None:
    market.broker.catalog = catalog(service("db"), service("cache"))
    market.register()
    market.broker.catalog = catalog(service("cache"))
    market.synchronize()
    assert names(market.offerings()) == ["cache"]


def test_a_service_that_is_gone_but_used_stays_unavailable(market: Marketplace) -> None:
    market.broker.catalog = catalog(service("db", [plan("one"), plan("two")]), service("cache"))
    market.register()
    market.instance("two")
    market.broker.catalog = catalog(service("cache"))
    (warning,) = market.synchronize()["warnings"]
    assert warning["detail"] == (
        f"Warning: Service plans are missing from the broker's catalog ({market.broker.url}/v2/catalog) but can not be "
        "removed from Cloud Foundry while instances exist. The plans have been deactivated to prevent users from "
        "attempting to provision new instances of these plans. The broker should continue to support bind, unbind, and "
        "delete for existing instances; if these operations fail contact your broker provider.\n"
        "\nService Offering: db\nPlans deactivated: two\n"
    )
    assert [(one["name"], one["available"]) for one in market.offerings()] == [("db", False), ("cache", True)]
    assert [(one["name"], one["available"]) for one in market.plans()] == [("two", False), ("cache-small", True)]
    # It comes back as the same thing.
    guid = market.offering("db")["guid"]
    market.broker.catalog = catalog(service("db", [plan("two")]))
    assert market.synchronize()["warnings"] == []
    assert market.offering("db")["guid"] == guid
    assert market.offering("db")["available"] is True


def test_a_new_service_does_not_take_the_name_of_one_that_is_used(market: Marketplace) -> None:
    market.register()
    market.instance("db-small")
    market.broker.catalog = catalog({**service("db", [plan("other")]), "id": "another-id"})
    (error,) = market.synchronize()["errors"]
    assert error["detail"] == (
        "Service broker catalog is invalid: \n"
        'Service names must be unique within a broker. Services with names ["db"] already exist\n'
    )
    assert market.state() == "AVAILABLE"


def test_a_new_service_takes_the_name_of_one_that_goes(market: Marketplace) -> None:
    market.register()
    market.broker.catalog = catalog({**service("db", [plan("other")]), "id": "another-id"})
    assert market.synchronize()["state"] == "COMPLETE"
    assert [one["broker_catalog"]["id"] for one in market.offerings()] == ["another-id"]


def test_osmapi_that_we_do_not_speak_is_a_warning(market: Marketplace) -> None:
    market.broker.catalog = catalog(service("db", metadata={"osmapi": {"version": "9", "features": ["backup"]}}))
    job = market.register()
    assert job["state"] == "COMPLETE"
    assert job["warnings"] == [
        {
            "detail": 'Service db: metadata.osmapi has version "9", and this platform speaks version "1" only. '
            "Its OSMAPI features are not used."
        }
    ]


# Removal


def test_an_offering_with_plans_stays(market: Marketplace) -> None:
    market.register()
    path = f"/v3/service_offerings/{market.offering('db')['guid']}"
    detail = "Please delete the service_plans associations for your services."
    assert market.admin.problem("DELETE", path) == (422, 10008, detail)
    market.admin.ok("DELETE", f"/v3/service_plans/{market.plan('db-small')['guid']}", None, 204)
    market.admin.ok("DELETE", path, None, 204)
    assert market.offerings() == []
    assert [one.path for one in market.broker.asked()] == ["/v2/catalog"]


def test_an_offering_is_purged_with_all_that_hangs_on_it(market: Marketplace) -> None:
    market.broker.catalog = catalog(service("db"), service("cache"))
    market.register()
    space = market.cloud.space()["guid"]
    gone, stays = market.instance("db-small", space), market.instance("cache-small", space)
    market.show("db-small", "organization", market.cloud.org()["guid"])
    path = f"/v3/service_offerings/{market.offering('db')['guid']}"
    assert market.admin.problem("DELETE", path + "?purge=maybe")[0] == 400
    market.admin.ok("DELETE", path + "?purge=true", None, 204)
    assert names(market.offerings()) == ["cache"]
    assert market.admin.get(f"/v3/service_instances/{gone}").status_code == 404
    market.admin.ok("GET", f"/v3/service_instances/{stays}")
    assert [one.path for one in market.broker.asked()] == ["/v2/catalog"]
    (event,) = market.admin.ok("GET", "/v3/audit_events?types=audit.service.delete")["resources"]
    assert (event["actor"]["type"], event["data"]) == ("user", {"request": {"purge": True}})


def test_who_may_delete_one(market: Marketplace) -> None:
    market.register()
    market.show("db-small")
    path = f"/v3/service_offerings/{market.offering('db')['guid']}"
    assert market.cloud.user().problem("DELETE", path + "?purge=true")[0] == 403
    assert market.cloud.nobody.problem("DELETE", path)[0] == 401
