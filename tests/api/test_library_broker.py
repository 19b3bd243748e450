"""A whole life of a service with a broker that was made with openbrokerapi, synchronous and asynchronous."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Cloud
from tests.api.marketplace import Marketplace
from tests.brokers.library import LibraryBroker, library


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def broker(request: pytest.FixtureRequest) -> Iterator[LibraryBroker]:
    with library(slow=request.param) as running:
        yield running


@pytest.fixture
def market(cloud: Cloud, broker: LibraryBroker) -> Marketplace:
    cloud.settings.brokers.poll_seconds = 0.02
    cloud.settings.brokers.poll_backoff = 1.0
    found = Marketplace(cloud, broker)
    job = found.register("library")
    assert job["state"] == "COMPLETE", job
    found.show("one")
    found.show("two")
    return found


def instance(market: Marketplace, space: str, **more: Any) -> tuple[str, Any]:
    """(guid, job) of a new instance."""
    relationships = {
        "space": {"data": {"guid": space}},
        "service_plan": {"data": {"guid": market.plan("one")["guid"]}},
    }
    body = {"type": "managed", "name": "books", "relationships": relationships, **more}
    job = market.job(market.admin.post("/v3/service_instances", body))
    (found,) = market.admin.ok("GET", "/v3/service_instances?names=books")["resources"]
    return found["guid"], job


def test_a_whole_life(market: Marketplace) -> None:
    broker: LibraryBroker = market.broker
    assert [one["costs"] for one in market.plans()] == [[], [{"amount": 5.5, "currency": "USD", "unit": "MONTHLY"}]]
    app = market.cloud.app()
    space = app["relationships"]["space"]["data"]["guid"]
    guid, job = instance(market, space, parameters={"shelf": 1})
    assert (job["state"], job["errors"]) == ("COMPLETE", [])
    path = f"/v3/service_instances/{guid}"
    shown = market.admin.ok("GET", path)
    assert (shown["last_operation"]["type"], shown["last_operation"]["state"]) == ("create", "succeeded")
    assert shown["dashboard_url"] == "http://dashboard.example"
    assert market.admin.actor is not None
    assert broker.identities[0] == {"platform": "cloudfoundry", "value": {"user_id": market.admin.actor.guid}}
    assert broker.instances == {guid: {"plan": "one-id", "parameters": {"shelf": 1}}}
    assert market.admin.ok("GET", path + "/parameters") == {"shelf": 1}

    change = {
        "parameters": {"lamp": True},
        "relationships": {"service_plan": {"data": {"guid": market.plan("two")["guid"]}}},
    }
    assert market.job(market.admin.patch(path, change))["state"] == "COMPLETE"
    assert broker.instances[guid] == {"plan": "two-id", "parameters": {"shelf": 1, "lamp": True}}
    assert market.admin.ok("GET", path)["last_operation"]["type"] == "update"

    relationships = {"service_instance": {"data": {"guid": guid}}, "app": {"data": {"guid": app["guid"]}}}
    body = {"type": "app", "relationships": relationships}
    assert market.job(market.admin.post("/v3/service_credential_bindings", body))["state"] == "COMPLETE"
    (binding,) = market.admin.ok("GET", "/v3/service_credential_bindings")["resources"]
    where = f"/v3/service_credential_bindings/{binding['guid']}"
    details = market.admin.ok("GET", where + "/details")
    assert details == {"credentials": {"password": f"password of {guid}", "app": app["guid"]}}
    environment = market.admin.ok("GET", f"/v3/apps/{app['guid']}/env")["system_env_json"]["VCAP_SERVICES"]
    assert environment["library"][0]["credentials"] == details["credentials"]

    assert market.job(market.admin.delete(where))["state"] == "COMPLETE"
    assert broker.bindings == {}
    assert market.job(market.admin.delete(path))["state"] == "COMPLETE"
    assert broker.instances == {}
    assert market.admin.get(path).status_code == 404


def test_what_the_broker_refuses(market: Marketplace) -> None:
    guid, job = instance(market, market.cloud.space()["guid"], parameters={"bad": True})
    assert job["state"] == "FAILED"
    assert job["errors"][0]["detail"] == "provision could not be completed: Service broker error: bad is not good"
    shown = market.admin.ok("GET", f"/v3/service_instances/{guid}")["last_operation"]
    assert (shown["state"], shown["description"]) == ("failed", "Service broker error: bad is not good")


def test_what_the_broker_does_not_know_any_more(market: Marketplace) -> None:
    guid, _ = instance(market, market.cloud.space()["guid"])
    market.broker.instances.clear()
    assert market.job(market.admin.delete(f"/v3/service_instances/{guid}"))["state"] == "COMPLETE"
    assert market.admin.get(f"/v3/service_instances/{guid}").status_code == 404
