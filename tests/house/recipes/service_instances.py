"""Service instances, their sharing and backups, credential and route bindings, the removed service bindings."""

from collections.abc import Callable
from typing import Any

from tests.api.work import finish
from tests.brokers.scripted import Says
from tests.house.recipes.service_brokers import broker_of
from tests.house.town import Recipe, Town


def _related(town: Town, **names: str) -> dict[str, Any]:
    return {name: {"data": {"guid": town[thing]}} for name, thing in names.items()}


def _done(town: Town, path: str, body: dict[str, Any], listed: str) -> str:
    """Ask for something, let the broker make it, and give what the list shows then."""
    answer = town.cloud.admin.post(path, body)
    assert answer.status_code == 202, answer.text
    finish(town.cloud)
    (found,) = town.cloud.admin.ok("GET", listed)["resources"]
    assert found["last_operation"]["state"] == "succeeded", found
    return str(found["guid"])


def _instance(town: Town) -> str:
    broker = broker_of(town)
    backups = "/osmapi/v1/service_instances/*/backups"
    backup = {"id": "b1", "created_at": 1_700_000_000}
    broker.on("GET", backups, Says(200, {"backups": [backup]}))
    broker.on("POST", backups, Says(201, backup))
    body = {
        "type": "managed",
        "name": "town-instance",
        "relationships": _related(town, space="space", service_plan="service_plan"),
    }
    guid = _done(town, "/v3/service_instances", body, "/v3/service_instances?names=town-instance")
    town.cloud.admin.ok("PATCH", "/v3/feature_flags/service_instance_sharing", {"enabled": True})
    shared = {"data": [{"guid": town["other_space"]}]}
    town.cloud.admin.ok("POST", f"/v3/service_instances/{guid}/relationships/shared_spaces", shared)
    return guid


def _user_provided(town: Town, name: str = "town-provided", **more: Any) -> str:
    body = {"type": "user-provided", "name": name, "relationships": _related(town, space="space"), **more}
    return str(town.cloud.admin.ok("POST", "/v3/service_instances", body, 201)["guid"])


def _bound(town: Town, type_: str, **more: Any) -> str:
    related = _related(town, service_instance="service_instance", **({"app": "app"} if type_ == "app" else {}))
    listed = f"/v3/service_credential_bindings?type={type_}&service_instance_guids={town['service_instance']}"
    body = {"type": type_, "relationships": related, **more}
    return _done(town, "/v3/service_credential_bindings", body, listed)


def _provided_binding(town: Town) -> str:
    body = {"type": "app", "relationships": _related(town, service_instance="user_provided", app="app")}
    return str(town.cloud.admin.ok("POST", "/v3/service_credential_bindings", body, 201)["guid"])


def _route_binding(town: Town) -> str:
    related = _related(town, service_instance="route_service", route="route")
    return str(town.cloud.admin.ok("POST", "/v3/service_route_bindings", {"relationships": related}, 201)["guid"])


def _managed_route_binding(town: Town) -> str:
    """Of an instance whose plan the catalog has for routes; on a route of its own."""
    broker, admin = broker_of(town), town.cloud.admin
    plan = admin.ok("GET", f"/v3/service_plans?names=guard&service_broker_guids={town['service_broker']}")["resources"][
        0
    ]
    admin.ok("PATCH", f"/v3/service_plans/{plan['guid']}/visibility", {"type": "public"})
    related = {**_related(town, space="space"), "service_plan": {"data": {"guid": plan["guid"]}}}
    body = {"type": "managed", "name": "town-guard", "relationships": related}
    instance = _done(town, "/v3/service_instances", body, "/v3/service_instances?names=town-guard")
    route = {"host": "guarded", "relationships": _related(town, space="space", domain="shared_domain")}
    guid = admin.ok("POST", "/v3/routes", route, 201)["guid"]
    bindings = f"/v2/service_instances/{instance}/service_bindings/*"
    broker.on("PUT", bindings, Says(201, {"route_service_url": "https://example.com"}))
    related = {name: {"data": {"guid": one}} for name, one in (("service_instance", instance), ("route", guid))}
    listed = f"/v3/service_route_bindings?route_guids={guid}"
    return _done(town, "/v3/service_route_bindings", {"relationships": related}, listed)


MAKERS: dict[str, Callable[[Town], str]] = {
    "service_instance": _instance,
    "user_provided": lambda town: _user_provided(town, credentials={"password": "secret"}),
    "route_service": lambda town: _user_provided(town, "town-route-service", route_service_url="https://example.com"),
    "spare_instance": lambda town: _user_provided(town, "town-spare"),
    "app_binding": lambda town: _bound(town, "app", name="town-binding"),
    "service_key": lambda town: _bound(town, "key", name="town-key"),
    "provided_binding": _provided_binding,
    "route_binding": _route_binding,
    "managed_route_binding": _managed_route_binding,
}

_LABELS = {"metadata": {"labels": {"tier": "gold"}}}
_OTHER_SPACE = {"data": [{"guid": "$other_space"}]}
_PLACE = {"space": {"data": {"guid": "$space"}}}
_INSTANCE = {"service_instance": {"data": {"guid": "$service_instance"}}}


def _unshare(town: Town) -> None:
    path = f"/v3/service_instances/{town['service_instance']}/relationships/shared_spaces/{town['other_space']}"
    town.cloud.admin.ok("DELETE", path, None, 204)


def _unbind_route(town: Town) -> None:
    town.cloud.admin.ok("DELETE", f"/v3/service_route_bindings/{town['route_binding']}", None, 204)


RECIPES = {
    "GET /v3/service_instances": Recipe(sees="service_instance"),
    "GET /v3/service_instances/{guid}": Recipe("service_instance"),
    "POST /v3/service_instances": Recipe(
        body={
            "type": "managed",
            "name": "new",
            "parameters": {"size": 3},
            "tags": ["sql"],
            "relationships": {**_PLACE, "service_plan": {"data": {"guid": "$service_plan"}}},
        }
    ),
    "POST /v3/service_instances?user-provided": Recipe(
        body={
            "type": "user-provided",
            "name": "new",
            "credentials": {"password": "secret"},
            "syslog_drain_url": "syslog://example.com",
            "route_service_url": "https://example.com",
            "tags": ["sql"],
            "relationships": _PLACE,
        }
    ),
    "PATCH /v3/service_instances/{guid}": Recipe("service_instance", _LABELS),
    "PATCH /v3/service_instances/{guid}?parameters": Recipe(
        "service_instance", {"parameters": {"size": 4}, "tags": ["sql"]}
    ),
    "PATCH /v3/service_instances/{guid}?user-provided": Recipe(
        "user_provided", {"name": "renamed", "credentials": {"password": "new"}, "tags": ["sql"]}
    ),
    "DELETE /v3/service_instances/{guid}": Recipe("spare_instance"),
    "DELETE /v3/service_instances/{guid}?purge": Recipe("service_instance", query="purge=true"),
    "GET /v3/service_instances/{guid}/credentials": Recipe("user_provided"),
    "GET /v3/service_instances/{guid}/parameters": Recipe("service_instance"),
    "GET /v3/service_instances/{guid}/permissions": Recipe("service_instance"),
    "GET /v3/service_instances/{guid}/relationships/shared_spaces": Recipe("service_instance"),
    "GET /v3/service_instances/{guid}/relationships/shared_spaces/usage_summary": Recipe("service_instance"),
    "POST /v3/service_instances/{guid}/relationships/shared_spaces": Recipe(
        "service_instance", _OTHER_SPACE, first=_unshare
    ),
    "DELETE /v3/service_instances/{guid}/relationships/shared_spaces/{space_guid}": Recipe(
        "service_instance", path={"space_guid": "$other_space"}
    ),
    "GET /v3/service_instances/{guid}/backups": Recipe("service_instance"),
    "POST /v3/service_instances/{guid}/backups": Recipe("service_instance"),
    "POST /v3/service_instances/{guid}/actions/restore": Recipe("service_instance", {"backup_id": "b1"}),
    "GET /v3/service_credential_bindings": Recipe(sees="app_binding"),
    "GET /v3/service_credential_bindings/{guid}": Recipe("app_binding"),
    "GET /v3/service_credential_bindings/{guid}?key": Recipe("service_key"),
    "GET /v3/service_credential_bindings/{guid}/details": Recipe("app_binding"),
    "GET /v3/service_credential_bindings/{guid}/details?key": Recipe("service_key"),
    "GET /v3/service_credential_bindings/{guid}/parameters": Recipe("app_binding"),
    "POST /v3/service_credential_bindings": Recipe(
        body={
            "type": "app",
            "name": "new",
            "strategy": "single",
            "parameters": {"role": "reader"},
            "relationships": {**_INSTANCE, "app": {"data": {"guid": "$other_app"}}},
        }
    ),
    "POST /v3/service_credential_bindings?key": Recipe(body={"type": "key", "name": "new", "relationships": _INSTANCE}),
    "PATCH /v3/service_credential_bindings/{guid}": Recipe("app_binding", _LABELS),
    "DELETE /v3/service_credential_bindings/{guid}": Recipe("app_binding"),
    "GET /v3/service_route_bindings": Recipe(sees="route_binding"),
    "GET /v3/service_route_bindings/{guid}": Recipe("route_binding"),
    "GET /v3/service_route_bindings/{guid}/parameters": Recipe("managed_route_binding"),
    "POST /v3/service_route_bindings": Recipe(
        body={
            "relationships": {
                "service_instance": {"data": {"guid": "$route_service"}},
                "route": {"data": {"guid": "$route"}},
            }
        },
        first=_unbind_route,
    ),
    "PATCH /v3/service_route_bindings/{guid}": Recipe("route_binding", _LABELS),
    "DELETE /v3/service_route_bindings/{guid}": Recipe("route_binding"),
    "GET /v3/service_bindings": Recipe(sees="app_binding"),
    "GET /v3/service_bindings/{guid}": Recipe("app_binding"),
    "POST /v3/service_bindings": Recipe(
        body={
            "type": "app",
            "relationships": {
                "app": {"data": {"guid": "$other_app"}},
                "service_instance": {"data": {"guid": "$user_provided"}},
            },
        }
    ),
    "DELETE /v3/service_bindings/{guid}": Recipe("provided_binding"),
}
