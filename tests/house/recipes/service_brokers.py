"""Service brokers, offerings, plans, their visibility and definitions; a broker runs beside the town."""

from collections.abc import Callable
from typing import Any

from tests.api.marketplace import Marketplace
from tests.brokers.scripted import PASSWORD, USERNAME, Broker, Says, catalog, plan, scripted, service
from tests.house.town import Recipe, Town

_METADATA = {"osmapi": {"version": "1", "features": ["backup", "plan_definitions"]}, "shareable": True}
_FETCHED = {"instances_retrievable": True, "bindings_retrievable": True}
_DEFINITION = {"plan_id": "defined-id", "name": "defined", "description": "The defined plan"}
_DEFINITIONS = "/osmapi/v1/services/db-id/plan_definitions"
_brokers: dict[int, Broker] = {}


def broker_of(town: Town) -> Broker:
    """The broker beside the town, which is the same whatever was asked of it."""
    if id(town) not in _brokers:
        broker = town.beside.enter_context(scripted())
        offered = service("db", [plan("small"), plan("defined")], metadata=_METADATA, **_FETCHED)
        guard = service("guard", [plan("guard")], requires=["route_forwarding"], **_FETCHED)
        broker.catalog = catalog(offered, guard)
        broker.on("POST", _DEFINITIONS, Says(201, _DEFINITION))
        broker.on("GET", _DEFINITIONS, Says(200, {"plan_definitions": [_DEFINITION]}))
        broker.on("GET", _DEFINITIONS + "/*", Says(200, _DEFINITION))
        broker.on("PUT", _DEFINITIONS + "/*", Says(200, _DEFINITION))
        broker.on("GET", "/osmapi/v1/services/*/plan_definition_schema", Says(200, {"json_schema": {}}))
        _brokers[id(town)] = broker
    return _brokers[id(town)]


def _registered(town: Town, name: str, **more: Any) -> str:
    market = Marketplace(town.cloud, broker_of(town))
    job = market.register(name, **more)
    assert job["state"] == "COMPLETE", job
    return market.path(name).rpartition("/")[2]


def _one(town: Town, path: str) -> str:
    (found,) = town.cloud.admin.ok("GET", path)["resources"]
    return str(found["guid"])


def _public_plan(town: Town) -> str:
    guid = _one(town, f"/v3/service_plans?names=small&service_broker_guids={town['service_broker']}")
    town.cloud.admin.ok("PATCH", f"/v3/service_plans/{guid}/visibility", {"type": "public"})
    return guid


def _to_organization(town: Town) -> None:
    body = {"type": "organization", "organizations": [{"guid": town["organization"]}]}
    town.cloud.admin.ok("PATCH", f"/v3/service_plans/{town['service_plan']}/visibility", body)


def _without_defined_plan(town: Town) -> None:
    town.cloud.admin.ok("DELETE", f"/v3/service_plans/{town['defined_plan']}", None, 204)


MAKERS: dict[str, Callable[[Town], str]] = {
    "broker_url": lambda town: broker_of(town).url,
    "service_broker": lambda town: _registered(town, "town-broker"),
    "service_plan": _public_plan,
    "service_offering": lambda town: _one(
        town, f"/v3/service_offerings?names=db&service_broker_guids={town['service_broker']}"
    ),
    "defined_plan": lambda town: _one(
        town, f"/v3/service_plans?names=defined&service_broker_guids={town['service_broker']}"
    ),
    "space_broker": lambda town: _registered(
        town, "space-broker", relationships={"space": {"data": {"guid": town["space"]}}}
    ),
    "space_offering": lambda town: _one(
        town, f"/v3/service_offerings?names=db&service_broker_guids={town['space_broker']}"
    ),
    "space_plan": lambda town: _one(town, f"/v3/service_plans?names=small&service_broker_guids={town['space_broker']}"),
}

_LABELS = {"metadata": {"labels": {"tier": "gold"}}}
_CREDENTIALS = {"username": USERNAME, "password": PASSWORD}
_NEW = {
    "name": "new-broker",
    "url": "$broker_url",
    "authentication": {"type": "basic", "credentials": _CREDENTIALS},
    "relationships": {"space": {"data": {"guid": "$space"}}},
}
_NEW_PLAN = {
    "name": "defined",
    "description": "The defined plan",
    "definition": _DEFINITION,
    "relationships": {"service_offering": {"data": {"guid": "$service_offering"}}},
}

RECIPES = {
    "GET /v3/service_brokers": Recipe(sees="space_broker"),
    "GET /v3/service_brokers/{guid}": Recipe("space_broker"),
    "POST /v3/service_brokers": Recipe(body=_NEW),
    "PATCH /v3/service_brokers/{guid}": Recipe("space_broker", _LABELS),
    "PATCH /v3/service_brokers/{guid}?name": Recipe("space_broker", {"name": "renamed"}),
    "DELETE /v3/service_brokers/{guid}": Recipe("space_broker"),
    "GET /v3/service_offerings": Recipe(sees="service_offering"),
    "GET /v3/service_offerings/{guid}": Recipe("service_offering"),
    "PATCH /v3/service_offerings/{guid}": Recipe("space_offering", _LABELS),
    "DELETE /v3/service_offerings/{guid}": Recipe("space_offering", query="purge=true"),
    "GET /v3/service_plans": Recipe(sees="service_plan"),
    "GET /v3/service_plans/{guid}": Recipe("service_plan"),
    "PATCH /v3/service_plans/{guid}": Recipe("space_plan", _LABELS),
    "DELETE /v3/service_plans/{guid}": Recipe("space_plan"),
    "GET /v3/service_plans/{guid}/visibility": Recipe("service_plan"),
    "PATCH /v3/service_plans/{guid}/visibility": Recipe("service_plan", {"type": "admin"}),
    "POST /v3/service_plans/{guid}/visibility": Recipe("service_plan", {"type": "public"}),
    "DELETE /v3/service_plans/{guid}/visibility/{org_guid}": Recipe(
        "service_plan", path={"org_guid": "$organization"}, first=_to_organization
    ),
    "POST /v3/service_plans": Recipe(body=_NEW_PLAN, first=_without_defined_plan),
    "GET /v3/service_plan_definitions": Recipe(sees="defined_plan"),
    "GET /v3/service_plans/{guid}/definition": Recipe("defined_plan"),
    "PATCH /v3/service_plans/{guid}/definition": Recipe("defined_plan", {"definition": _DEFINITION}),
    "DELETE /v3/service_plans/{guid}/definition": Recipe("defined_plan"),
    "GET /v3/service_plan_definition_schemas": Recipe(sees="service_offering"),
    "GET /v3/service_offerings/{guid}/plan_definition_schema": Recipe("service_offering"),
}
