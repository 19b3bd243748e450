"""Routes and their destinations."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, or_, select

from cupola import errors
from cupola.api import access
from cupola.api.apps import APPS, their_organizations, their_spaces
from cupola.api.domains import DOMAINS, protocols
from cupola.api.spaces import SPACES
from cupola.domain import access as rules_of_access
from cupola.domain import destinations as destination_rules
from cupola.domain import feature_flags, visibility
from cupola.domain import routes as rules
from cupola.rest import listing
from cupola.rest.message import Message, anything, array, integer, metadata, nested, string, to_one
from cupola.rest.operation import (
    Accepted,
    Call,
    Operation,
    Parameter,
    Reply,
    create,
    delete,
    list_,
    present,
    show,
    update,
)
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.present import to_many as many
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Include, Resource, World
from cupola.roles import Actor
from cupola.store import jobs, rows
from cupola.store.orgs import spaces
from cupola.store.routes import destinations, domains, route_shares, routes

__all__ = ["OPERATIONS", "ROUTES"]

_OPTIONS_SCHEMA = {
    "type": "object",
    "properties": {
        "loadbalancing": {"type": ["string", "null"]},
        "hash_header": {"type": ["string", "null"]},
        "hash_balance": {"type": ["string", "number", "null"]},
    },
    "additionalProperties": False,
}
_DESTINATION_SCHEMA = {
    "type": "object",
    "properties": {
        "app": {
            "type": "object",
            "properties": {
                "guid": {"type": "string"},
                "process": {"type": "object", "properties": {"type": {"type": "string"}}},
            },
            "required": ["guid"],
        },
        "port": {"type": ["integer", "null"], "minimum": 1024, "maximum": 65535},
        "protocol": {"type": ["string", "null"], "enum": ["http1", "http2", "tcp", None]},
        "weight": {"type": ["integer", "null"], "minimum": 1, "maximum": 100},
    },
    "required": ["app"],
}


class _Relationships(Message):
    space = to_one(required=True)
    domain = to_one(required=True)


class Create(Message):
    """A new route."""

    host = string(nullable=True, checks=[rules.host_problems])
    path = string(nullable=True, checks=[rules.path_problems])
    port = integer(nullable=True, at_least=0, at_most=65535)
    options = anything(rules.options_problems, _OPTIONS_SCHEMA, nullable=False)
    relationships = nested(_Relationships, required=True)
    metadata = metadata()


class Update(Message):
    """Options and metadata."""

    options = anything(rules.options_problems, _OPTIONS_SCHEMA, nullable=False)
    metadata = metadata()


def _destinations(least: int, *, weights: bool) -> Any:
    def problems(value: Any) -> Iterator[str]:
        yield from destination_rules.problems(value, least=least, weights=weights)

    return anything(problems, {"type": "array", "items": _DESTINATION_SCHEMA}, required=True, nullable=False)


class Insert(Message):
    """Destinations to add."""

    destinations = _destinations(1, weights=False)


class Replace(Message):
    """The destinations that a route shall have."""

    destinations = _destinations(0, weights=True)


class UpdateDestination(Message):
    """What a destination is spoken to with."""

    protocol = string(nullable=True, one_of=("http1", "http2", "tcp"))


class ShareWith(Message):
    """Spaces that may map their apps to the route."""

    data = array(required=True)


class Transfer(Message):
    """The space that owns the route from now on."""

    data = anything(
        lambda value: (
            () if isinstance(value, dict) and isinstance(value.get("guid"), str) else ("Data must be an object",)
        ),
        {"type": "object"},
        required=True,
        nullable=False,
    )


class Route(TypedDict, total=False):
    """A route as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    protocol: str
    host: str
    path: str
    port: int | None
    url: str
    destinations: list[dict[str, Any]]
    options: dict[str, Any]
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def destination_view(row: Row[Any]) -> dict[str, Any]:
    times = common(row)
    return {
        "guid": row.guid,
        "created_at": times["created_at"],
        "updated_at": times["updated_at"],
        "app": {"guid": row.app_guid, "process": {"type": row.process_type}},
        "weight": row.weight,
        "port": row.port or 8080,
        "protocol": row.protocol or "http1",
    }


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/routes/{row.guid}"
    domain = world.related["domains"][row.domain_guid]
    return {
        **common(row),
        "protocol": protocols(domain)[0],
        "host": row.host,
        "path": row.path,
        "port": row.port or None,
        "url": rules.url(row, domain.name),
        "destinations": [destination_view(one) for one in world.related["destinations"].get(row.guid, [])],
        "options": row.options,
        "relationships": {"space": one(row.space_guid), "domain": one(row.domain_guid)},
        "metadata": metadata_of(row),
        "links": {
            "self": world.link(path),
            "space": world.link(f"/v3/spaces/{row.space_guid}"),
            "destinations": world.link(path + "/destinations"),
            "domain": world.link(f"/v3/domains/{row.domain_guid}"),
        },
    }


def visible(actor: Actor) -> ColumnElement[bool] | None:
    if actor.reads_everything:
        return None
    readable = visibility.readable_spaces("organization_manager", "organization_auditor")
    shared = select(route_shares.c.route_guid).where(route_shares.c.space_guid.in_(visibility.readable_spaces()))
    return or_(routes.c.space_guid.in_(readable), routes.c.guid.in_(shared))


def _their_domains(world: World, page: Sequence[Row[Any]]) -> list[Any]:
    found = rows.by_guids(world.tx, domains, [row.domain_guid for row in page])
    return present(world, DOMAINS, list(found.values()))


def _mapped_to(guids: Any) -> ColumnElement[bool]:
    return routes.c.guid.in_(select(destinations.c.route_guid).where(destinations.c.app_guid.in_(guids)))


def _in_organizations(guids: Any) -> ColumnElement[bool]:
    return routes.c.space_guid.in_(select(spaces.c.guid).where(spaces.c.organization_guid.in_(guids)))


ROUTES = Resource(
    name="route",
    path="/v3/routes",
    table=routes,
    view=view,
    shape=Route,
    visible=visible,
    related={
        "domains": lambda world, page: rows.by_guids(world.tx, domains, [row.domain_guid for row in page]),
        "destinations": lambda world, page: destination_rules.of_routes(world.tx, [row.guid for row in page]),
    },
    filters=[
        Filter("hosts", routes.c.host, fold=True),
        Filter("paths", routes.c.path, fold=True),
        Filter("ports", routes.c.port, convert=int),
        Filter("app_guids", _mapped_to),
        Filter("space_guids", routes.c.space_guid),
        Filter("organization_guids", _in_organizations),
        Filter("domain_guids", routes.c.domain_guid),
    ],
    includes=[
        Include("domain", "domains", _their_domains),
        Include("space", "spaces", their_spaces),
        Include("space.organization", "organizations", their_organizations),
    ],
)


def create_route(call: Call[None, Create]) -> Row[Any]:
    """Create a route in a space."""
    body, relationships = call.body, call.body.relationships
    space = rules.require_usable(call.tx, call.actor, relationships.space)
    domain = listing.find(DOMAINS, call.actor, call.tx, relationships.domain)
    if domain is None:
        raise errors.unprocessable("Invalid domain. Ensure that the domain exists and you have access to it.")
    return rules.create(
        call.tx,
        call.settings,
        call.actor,
        space,
        domain,
        host=body.host or "",
        path=body.path or "",
        port=body.port or None,
        options=body.options,
        metadata=body.metadata,
    )


def update_route(call: Call[Row[Any], Update]) -> Row[Any]:
    """Change a route's options or relabel it."""
    return rules.update_options(call.tx, call.actor, call.row, call.body.options, call.body.metadata)


def delete_route(call: Call[Row[Any], None]) -> Accepted:
    """Delete a route; the apps that it was mapped to stay."""
    guid = jobs.enqueue(
        call.tx,
        "route.delete",
        {"guid": call.row.guid},
        actor=call.actor,
        resource_guid=call.row.guid,
        resource_type="routes",
    )
    return Accepted(guid)


def delete_unmapped(call: Call[Row[Any], None]) -> Accepted:
    """Delete the routes of a space that lead to no app."""
    if call.query.get("unmapped") != "true":
        raise errors.unprocessable(
            "Mass delete not supported for routes. Use 'unmapped=true' parameter to delete all unmapped routes."
        )
    guid = jobs.enqueue(
        call.tx,
        "space.delete_unmapped_routes",
        {"guid": call.row.guid},
        actor=call.actor,
        resource_guid=call.row.guid,
        resource_type="spaces",
    )
    return Accepted(guid)


def _destinations_reply(call: Call[Row[Any], Any]) -> Reply:
    found = destination_rules.of_route(call.tx, call.row.guid)
    for name, column in (("guids", "guid"), ("app_guids", "app_guid")):
        wanted = call.query.values(name)
        if wanted is not None:
            found = [row for row in found if row._mapping[column] in wanted]
    world, path = call.world(), f"/v3/routes/{call.row.guid}"
    links = {"self": world.link(path + "/destinations"), "route": world.link(path)}
    return Reply(200, {"destinations": [destination_view(row) for row in found], "links": links})


def list_destinations(call: Call[Row[Any], None]) -> Reply:
    """List the destinations of a route."""
    return _destinations_reply(call)


def insert_destinations(call: Call[Row[Any], Insert]) -> Reply:
    """Add destinations to a route; those it has stay."""
    destination_rules.insert(call.tx, call.actor, call.row, call.body.destinations)
    return _destinations_reply(call)


def replace_destinations(call: Call[Row[Any], Replace]) -> Reply:
    """Give a route exactly these destinations."""
    destination_rules.replace(call.tx, call.actor, call.row, call.body.destinations)
    return _destinations_reply(call)


def remove_destination(call: Call[Row[Any], None]) -> None:
    """Remove one destination from a route."""
    destination_rules.remove(call.tx, call.actor, call.row, call.path["destination_guid"])


def update_destination(call: Call[Row[Any], UpdateDestination]) -> Reply:
    """Change the protocol of a destination."""
    row = rows.by_guid(call.tx, destinations, call.path["destination_guid"])
    if row is None or row.route_guid != call.row.guid:
        raise errors.not_found("Destination")
    changed = destination_rules.set_protocol(call.tx, call.row, row, call.body.protocol)
    world, path = call.world(), f"/v3/routes/{call.row.guid}"
    links = {"destinations": world.link(path + "/destinations"), "route": world.link(path)}
    return Reply(200, {**destination_view(changed), "links": links})


def _sharing(verb: Callable[[Call[Any, Any]], Any]) -> Callable[[Call[Any, Any]], Any]:
    def run(call: Call[Any, Any]) -> Any:
        feature_flags.require(call.tx, call.actor, "route_sharing")
        return verb(call)

    run.__doc__ = verb.__doc__
    return run


def _shares_reply(call: Call[Row[Any], Any]) -> Reply:
    guids = call.tx.scalars(select(route_shares.c.space_guid).where(route_shares.c.route_guid == call.row.guid))
    path = f"/v3/routes/{call.row.guid}/relationships/shared_spaces"
    return Reply(200, {**many(guids), "links": {"self": call.world().link(path)}})


def _writable_spaces(call: Call[Row[Any], Any], guids: Sequence[str]) -> None:
    found = rows.by_guids(call.tx, spaces, guids)
    bad = [
        guid
        for guid in guids
        if guid not in found or not rules_of_access.has_in_space(call.tx, call.actor, guid, access.MANAGE_APPS)
    ]
    if bad:
        shown = "', '".join(bad)
        raise errors.unprocessable(
            f"Unable to share route with spaces ['{shown}']. Ensure the spaces exist and that you have access to them."
        )


def list_shares(call: Call[Row[Any], None]) -> Reply:
    """List the spaces that a route is shared with."""
    return _shares_reply(call)


def share(call: Call[Row[Any], ShareWith]) -> Reply:
    """Let apps of more spaces answer at a route."""
    guids = [entry.get("guid", "") for entry in call.body.data or [] if isinstance(entry, dict)]
    if call.row.space_guid in guids:
        raise errors.unprocessable(
            "Unable to share route. Routes cannot be shared into the space where they were created."
        )
    _writable_spaces(call, guids)
    known = set(call.tx.scalars(select(route_shares.c.space_guid).where(route_shares.c.route_guid == call.row.guid)))
    new = [{"route_guid": call.row.guid, "space_guid": guid} for guid in dict.fromkeys(guids) if guid not in known]
    if new:
        call.tx.run(route_shares.insert(), new)
    return _shares_reply(call)


def unshare(call: Call[Row[Any], None]) -> None:
    """End the sharing of a route with a space."""
    space = call.path["space_guid"]
    shared = route_shares.c.route_guid == call.row.guid, route_shares.c.space_guid == space
    if call.tx.scalar(select(route_shares.c.space_guid).where(*shared)) is None:
        raise errors.unprocessable(
            f"Unable to unshare route from space '{space}'. Ensure the space exists and the route has been shared to it."
        )
    call.tx.run(route_shares.delete().where(*shared))


def transfer(call: Call[Row[Any], Transfer]) -> Reply:
    """Give a route to another space; the old one keeps it as a shared route."""
    target, old = call.body.data["guid"], call.row.space_guid
    _writable_spaces(call, [target])
    if target != old:
        both = route_shares.c.route_guid == call.row.guid
        call.tx.run(route_shares.delete().where(both, route_shares.c.space_guid == target))
        call.tx.run(route_shares.insert().values(route_guid=call.row.guid, space_guid=old))
        rows.change(call.tx, routes, call.row, {"space_guid": target})
    return Reply(200, {"status": "ok"})


_ONE = ROUTES.path + "/{guid}"
_MANAGE = access.in_space(*access.MANAGE_APPS)
_SHARED = _ONE + "/relationships/shared_spaces"

OPERATIONS: list[Operation] = [
    list_(ROUTES),
    list_(
        ROUTES,
        path="/v3/apps/{guid}/routes",
        parent=APPS,
        within=lambda app: routes.c.guid.in_(select(destinations.c.route_guid).where(destinations.c.app_guid == app)),
        doc="List the routes that are mapped to an app.",
    ),
    show(ROUTES, query_status=422),
    create(ROUTES, Create, create_route),
    update(ROUTES, Update, update_route, allow=_MANAGE),
    delete(ROUTES, delete_route, allow=_MANAGE),
    Operation(
        "DELETE",
        "/v3/spaces/{guid}/routes",
        delete_unmapped,
        target=SPACES,
        allow=_MANAGE,
        status=202,
        job=True,
        query=(Parameter("unmapped", "Must be true.", ("true",), required=True),),
        query_status=422,
    ),
    Operation(
        "GET",
        _ONE + "/destinations",
        list_destinations,
        target=ROUTES,
        query=(Parameter("guids"), Parameter("app_guids")),
        query_status=422,
    ),
    Operation("POST", _ONE + "/destinations", insert_destinations, target=ROUTES, body=Insert, allow=_MANAGE),
    Operation("PATCH", _ONE + "/destinations", replace_destinations, target=ROUTES, body=Replace, allow=_MANAGE),
    Operation("PUT", _ONE + "/destinations", replace_destinations, target=ROUTES, body=Replace, allow=_MANAGE),
    Operation(
        "DELETE",
        _ONE + "/destinations/{destination_guid}",
        remove_destination,
        target=ROUTES,
        allow=_MANAGE,
        status=204,
    ),
    Operation(
        "PATCH",
        _ONE + "/destinations/{destination_guid}",
        update_destination,
        target=ROUTES,
        body=UpdateDestination,
        allow=_MANAGE,
    ),
    Operation("GET", _SHARED, _sharing(list_shares), target=ROUTES),
    Operation("POST", _SHARED, _sharing(share), target=ROUTES, body=ShareWith, allow=_MANAGE),
    Operation("DELETE", _SHARED + "/{space_guid}", _sharing(unshare), target=ROUTES, allow=_MANAGE, status=204),
    Operation(
        "PATCH",
        _ONE + "/relationships/space",
        _sharing(transfer),
        target=ROUTES,
        body=Transfer,
        allow=access.in_space(*access.DEVELOPER),
    ),
]
