"""Route policies, on a route of a domain that enforces them."""

from collections.abc import Callable

from tests.house.town import Recipe, Town


def _guarded_route(town: Town) -> str:
    body = {"name": "guarded.example.com", "enforce_route_policies": True, "route_policies_scope": "any"}
    domain = town.cloud.admin.ok("POST", "/v3/domains", body, 201)["guid"]
    links = {"space": {"data": {"guid": town["space"]}}, "domain": {"data": {"guid": domain}}}
    return str(town.cloud.admin.ok("POST", "/v3/routes", {"host": "x", "relationships": links}, 201)["guid"])


def _policy(town: Town) -> str:
    links = {"route": {"data": {"guid": town["guarded_route"]}}}
    body = {"source": f"cf:app:{town['app']}", "relationships": links}
    return str(town.cloud.admin.ok("POST", "/v3/route_policies", body, 201)["guid"])


MAKERS: dict[str, Callable[[Town], str]] = {"guarded_route": _guarded_route, "route_policy": _policy}

RECIPES = {
    "GET /v3/route_policies": Recipe(sees="route_policy"),
    "GET /v3/route_policies/{guid}": Recipe("route_policy"),
    "POST /v3/route_policies": Recipe(
        body={
            "source": "cf:org:00000000-0000-4000-8000-000000000000",
            "relationships": {"route": {"data": {"guid": "$guarded_route"}}},
        }
    ),
    "PATCH /v3/route_policies/{guid}": Recipe("route_policy", {"metadata": {"labels": {"tier": "gold"}}}),
    "DELETE /v3/route_policies/{guid}": Recipe("route_policy"),
}
