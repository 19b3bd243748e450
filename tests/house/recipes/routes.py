"""Domains, routes, destinations."""

from collections.abc import Callable

from tests.house.town import Recipe, Town


def _shared_domain(town: Town) -> str:
    name = town.cloud.settings.apps_domain
    return str(town.cloud.admin.ok("GET", f"/v3/domains?names={name}")["resources"][0]["guid"])


def _private_domain(town: Town) -> str:
    owner = {"organization": {"data": {"guid": town["organization"]}}}
    body = {"name": "town.example.com", "relationships": owner}
    guid = str(town.cloud.admin.ok("POST", "/v3/domains", body, 201)["guid"])
    shared = {"data": [{"guid": town["other_organization"]}]}
    town.cloud.admin.ok("POST", f"/v3/domains/{guid}/relationships/shared_organizations", shared)
    return guid


def _spare_domain(town: Town) -> str:
    owner = {"organization": {"data": {"guid": town["organization"]}}}
    body = {"name": "spare.example.com", "relationships": owner}
    return str(town.cloud.admin.ok("POST", "/v3/domains", body, 201)["guid"])


def _route(town: Town) -> str:
    links = {"space": {"data": {"guid": town["space"]}}, "domain": {"data": {"guid": town["shared_domain"]}}}
    guid = str(town.cloud.admin.ok("POST", "/v3/routes", {"host": "town", "relationships": links}, 201)["guid"])
    town.cloud.admin.ok("PATCH", "/v3/feature_flags/route_sharing", {"enabled": True})
    shared = {"data": [{"guid": town["other_space"]}]}
    town.cloud.admin.ok("POST", f"/v3/routes/{guid}/relationships/shared_spaces", shared)
    return guid


def _destination(town: Town) -> str:
    body = {"destinations": [{"app": {"guid": town["app"]}}]}
    answer = town.cloud.admin.ok("POST", f"/v3/routes/{town['route']}/destinations", body)
    return str(answer["destinations"][0]["guid"])


MAKERS: dict[str, Callable[[Town], str]] = {
    "shared_domain": _shared_domain,
    "private_domain": _private_domain,
    "spare_domain": _spare_domain,
    "route": _route,
    "destination": _destination,
}

_LABELS = {"metadata": {"labels": {"tier": "gold"}}}
_ONE = {"destinations": [{"app": {"guid": "$app"}, "port": 9000}]}
_NEW = {
    "host": "new",
    "relationships": {"space": {"data": {"guid": "$space"}}, "domain": {"data": {"guid": "$shared_domain"}}},
}

RECIPES = {
    "GET /v3/domains": Recipe(sees="private_domain"),
    "GET /v3/domains/{guid}": Recipe("private_domain"),
    "POST /v3/domains": Recipe(
        body={"name": "new.example.com", "relationships": {"organization": {"data": {"guid": "$organization"}}}}
    ),
    "POST /v3/domains?shared": Recipe(body={"name": "shared.example.com"}),
    "PATCH /v3/domains/{guid}": Recipe("private_domain", _LABELS),
    "DELETE /v3/domains/{guid}": Recipe("spare_domain"),
    "POST /v3/domains/{guid}/relationships/shared_organizations": Recipe(
        "private_domain", {"data": [{"guid": "$other_organization"}]}
    ),
    "DELETE /v3/domains/{guid}/relationships/shared_organizations/{org_guid}": Recipe(
        "private_domain", path={"org_guid": "$other_organization"}
    ),
    "GET /v3/domains/{guid}/route_reservations": Recipe("shared_domain", query="host=town"),
    "GET /v3/organizations/{guid}/domains": Recipe("organization", sees="private_domain"),
    "GET /v3/organizations/{guid}/domains/default": Recipe("organization"),
    "GET /v3/routes": Recipe(sees="route"),
    "GET /v3/routes/{guid}": Recipe("route"),
    "GET /v3/apps/{guid}/routes": Recipe("app", sees="route"),
    "POST /v3/routes": Recipe(body=_NEW),
    "PATCH /v3/routes/{guid}": Recipe("route", _LABELS),
    "DELETE /v3/routes/{guid}": Recipe("route"),
    "DELETE /v3/spaces/{guid}/routes": Recipe("space", query="unmapped=true"),
    "GET /v3/routes/{guid}/destinations": Recipe("route"),
    "POST /v3/routes/{guid}/destinations": Recipe("route", _ONE),
    "PATCH /v3/routes/{guid}/destinations": Recipe("route", _ONE),
    "PUT /v3/routes/{guid}/destinations": Recipe("route", _ONE),
    "PATCH /v3/routes/{guid}/destinations/{destination_guid}": Recipe(
        "route", {"protocol": "http2"}, path={"destination_guid": "$destination"}
    ),
    "DELETE /v3/routes/{guid}/destinations/{destination_guid}": Recipe(
        "route", path={"destination_guid": "$destination"}
    ),
    "GET /v3/routes/{guid}/relationships/shared_spaces": Recipe("route"),
    "POST /v3/routes/{guid}/relationships/shared_spaces": Recipe("route", {"data": [{"guid": "$other_space"}]}),
    "DELETE /v3/routes/{guid}/relationships/shared_spaces/{space_guid}": Recipe(
        "route", path={"space_guid": "$other_space"}
    ),
    "PATCH /v3/routes/{guid}/relationships/space": Recipe("route", {"data": {"guid": "$other_space"}}),
}
