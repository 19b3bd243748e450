"""How a route policy looks, for its own list and for routes that include theirs."""

from collections.abc import Sequence
from typing import Any, TypedDict

from sqlalchemy import Row

from cupola.domain import route_policies as rules
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.present import to_one as one
from cupola.rest.resource import World

__all__ = ["KINDS", "RoutePolicy", "of_routes", "view"]

KINDS = {"app": ("app", "apps"), "space": ("space", "spaces"), "org": ("organization", "organizations")}
"""Kind of source to the name and the path of the resource that it is."""


class RoutePolicy(TypedDict):
    """A route policy as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    source: str
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    kind = row.source.split(":")[1]
    links = {
        "self": world.link(f"/v3/route_policies/{row.guid}"),
        "route": world.link(f"/v3/routes/{row.route_guid}"),
    }
    if kind in KINDS:
        name, path = KINDS[kind]
        links[name] = world.link(f"/v3/{path}/{row.source_guid}")
    sources = {name: one(row.source_guid if kind == own else None) for own, (name, _) in KINDS.items()}
    return {
        **common(row),
        "source": row.source,
        "metadata": metadata_of(row),
        "relationships": {"route": one(row.route_guid), **sources},
        "links": links,
    }


def of_routes(world: World, page: Sequence[Row[Any]]) -> list[Any]:
    """The policies of routes, for `include`."""
    return [view(row, world) for row in rules.of_routes(world.tx, [route.guid for route in page])]
