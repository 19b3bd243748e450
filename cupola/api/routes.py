"""Routes and their destinations."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, and_, case, or_, select

from cupola import errors
from cupola.api import access
from cupola.api.apps import APPS, their_organizations
from cupola.api.domains import DOMAINS
from cupola.api.relationships import ToMany, show_many
from cupola.api.route_policy_view import of_routes
from cupola.api.spaces import SPACES
from cupola.domain import destinations as destination_rules
from cupola.domain import feature_flags, route_options, visibility
from cupola.domain import route_sharing as sharing
from cupola.domain import routes as rules
from cupola.domain.deletion_lanes import lane_of
from cupola.rest import listing
from cupola.rest.message import Message, anything, integer, metadata, nested, string, to_one
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
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Include, Resource, World
from cupola.roles import Actor
from cupola.store import jobs, rows
from cupola.store.orgs import spaces
from cupola.store.routes import destinations, domains, route_shares, routes

__all__ = ["OPERATIONS", "ROUTES"]

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


_PROTOCOLS = {"http": "http", "http1": "http", "http2": "http", "tcp": "tcp"}
"""Words for what a route speaks."""


class _Relationships(Message):
    space = to_one(required=True)
    domain = to_one(required=True)


class Create(Message):
    """A new route."""

    host = string(nullable=True, checks=[rules.host_problems])
    path = string(nullable=True, checks=[rules.path_problems])
    port = integer(nullable=True, at_least=0, at_most=65535)
    # The OpenAPI rendering of the API names it; what a route speaks is its domain's affair.
    protocol = string(nullable=True, one_of=tuple(_PROTOCOLS))
    options = anything(route_options.form_problems, route_options.SCHEMA, nullable=False)
    relationships = nested(_Relationships, required=True)
    metadata = metadata()


class Update(Message):
    """Options and metadata."""

    options = anything(route_options.form_problems, route_options.SCHEMA, nullable=False)
    metadata = metadata()


def _destinations(least: int, *, weights: bool) -> Any:
    def problems(value: Any) -> Iterator[str]:
        yield from destination_rules.problems(value, least=least, weights=weights)

    return anything(problems, {"type": "array", "items": _DESTINATION_SCHEMA}, required=True, nullable=False)


class Insert(Message):
    """Destinations to add, as an object or as a bare list."""

    destinations = _destinations(1, weights=False)

    @classmethod
    def parse(cls, document: Any) -> "Insert":
        return super().parse({"destinations": document} if isinstance(document, list) else document)


class Replace(Message):
    """The destinations that a route shall have."""

    destinations = _destinations(0, weights=True)


class ReplaceByPut(Replace):
    """The destinations that a route shall have, as an object or as a bare list."""

    @classmethod
    def parse(cls, document: Any) -> "ReplaceByPut":
        return super().parse({"destinations": document} if isinstance(document, list) else document)


def _protocol_problems(value: Any) -> Iterator[str]:
    if value not in destination_rules.PROTOCOLS:
        yield "Destination protocol must be 'http1', 'http2' or 'tcp'."


class UpdateDestination(Message):
    """What a destination is spoken to with; null for the usual."""

    protocol = anything(_protocol_problems, {"type": ["string", "null"], "enum": [*destination_rules.PROTOCOLS, None]})


def _owner_problems(value: Any) -> Iterator[str]:
    if value is None or value == {}:
        yield "Data can't be blank"
    if not isinstance(value, dict):
        yield "Data must be an object"
        return
    if len(value) != 1:
        yield "Data can only accept one key"
    guid = value.get("guid")
    if "guid" not in value:
        yield "Data can only accept key 'guid'"
    elif not isinstance(guid, str):
        yield f"Data {guid} must be a string"
    elif not guid:
        yield "Data guid can't be blank"


class Transfer(Message):
    """The space that owns the route from now on."""

    data = anything(
        _owner_problems,
        {"type": "object", "properties": {"guid": {"type": "string"}}, "required": ["guid"]},
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
        "protocol": rules.protocol_of(domain),
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


def _their_readable_spaces(world: World, page: Sequence[Row[Any]]) -> list[Any]:
    """The spaces of routes: organization auditors read routes, but not the spaces that they are in."""
    guids = sorted({row.space_guid for row in page})
    statement = select(spaces).where(spaces.c.guid.in_(guids)).order_by(spaces.c.id)
    if world.actor is None or world.actor.reads_everything:
        return present(world, SPACES, world.tx.all(statement))
    readable = statement.where(spaces.c.guid.in_(visibility.readable_spaces()))
    return present(world, SPACES, world.tx.all(readable, {"actor": world.actor.guid}))


def _mapped_to(guids: Any) -> ColumnElement[bool]:
    return routes.c.guid.in_(select(destinations.c.route_guid).where(destinations.c.app_guid.in_(guids)))


def _in_spaces(guids: Any) -> ColumnElement[bool]:
    shared = select(route_shares.c.route_guid).where(route_shares.c.space_guid.in_(guids))
    return or_(routes.c.space_guid.in_(guids), routes.c.guid.in_(shared))


def _bound_to(guids: Any) -> ColumnElement[bool]:
    # No service instance can be bound to a route yet, so none of them has one.
    return and_(routes.c.guid.is_(None), routes.c.guid.in_(guids))


def _speaking(protocols: Any) -> ColumnElement[bool]:
    spoken = case((domains.c.router_group_type == "tcp", "tcp"), else_="http")
    return routes.c.domain_guid.in_(select(domains.c.guid).where(spoken.in_(protocols)))


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
    parameter_order=[
        "hosts",
        "space_guids",
        "organization_guids",
        "domain_guids",
        "paths",
        "app_guids",
        "include",
        "label_selector",
    ],
    filters=[
        Filter("hosts", routes.c.host, fold=True),
        Filter("space_guids", _in_spaces),
        Filter("organization_guids", _in_organizations),
        Filter("domain_guids", routes.c.domain_guid),
        Filter("paths", routes.c.path, fold=True),
        Filter("app_guids", _mapped_to),
        Filter("ports", routes.c.port, convert=int),
        Filter("service_instance_guids", _bound_to),
        Filter("protocols", _speaking, convert=lambda name: _PROTOCOLS.get(name, name), quiet=True),
    ],
    includes=[
        Include("domain", "domains", _their_domains),
        Include("space", "spaces", _their_readable_spaces),
        Include("space.organization", "spaces", _their_readable_spaces),
        Include("space.organization", "organizations", their_organizations),
        Include("route_policies", "route_policies", of_routes),
    ],
)


def create_route(call: Call[None, Create]) -> Row[Any]:
    """Create a route in a space."""
    body, relationships = call.body, call.body.relationships
    space = rules.require_usable(call.tx, call.actor, relationships.space)
    domain = rows.by_guid(call.tx, domains, relationships.domain)
    if domain is None:
        raise errors.unprocessable("Invalid domain. Ensure that the domain exists and you have access to it.")
    if body.protocol is not None:
        _check_protocol(call, body.protocol, rules.protocol_of(domain))
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
        request=body.given,
    )


def _check_protocol(call: Call[None, Create], wanted: str, spoken: str) -> None:
    if _PROTOCOLS[wanted] != spoken:
        raise errors.unprocessable(f"Protocol must be '{spoken}' as the domain says, or be left out.")
    call.warnings += destination_rules.warnings_of([wanted])


def update_route(call: Call[Row[Any], Update]) -> Row[Any]:
    """Change a route's options or relabel it."""
    return rules.update_options(call.tx, call.actor, call.row, call.body.options, call.body.metadata)


def delete_route(call: Call[Row[Any], None]) -> Accepted:
    """Delete a route; the apps that it was mapped to stay."""
    guid = jobs.enqueue(
        call.tx,
        "route.delete",
        {"guid": call.row.guid, "request_id": call.request_id},
        actor=call.actor,
        lane=lane_of(call.tx, "route.delete", call.row.guid),
        resource_guid=call.row.guid,
        resource_type="routes",
    )
    return Accepted(guid)


def delete_unmapped(call: Call[Row[Any], None]) -> Accepted:
    """Delete the routes of a space that lead to no app."""
    unmapped = call.query.get("unmapped")
    if unmapped not in {None, "true", "false"}:
        raise call.query.bad("Unmapped must be a boolean")
    if unmapped != "true":
        which = "routes" if unmapped is None else "mapped routes"
        raise errors.unprocessable(
            f"Mass delete not supported for {which}. Use 'unmapped=true' parameter to delete all unmapped routes."
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
    shown = [destination_view(row) for row in found]
    if "page" not in call.query and "per_page" not in call.query:
        return Reply(200, {"destinations": shown, "links": links})
    page = listing.page_of(call.query, links["self"]["href"], shown)
    return Reply(200, {"pagination": page["pagination"], "destinations": page["resources"], "links": links})


def list_destinations(call: Call[Row[Any], None]) -> Reply:
    """List the destinations of a route."""
    return _destinations_reply(call)


def insert_destinations(call: Call[Row[Any], Insert]) -> Reply:
    """Add destinations to a route; those it has stay."""
    destination_rules.insert(call.tx, call.actor, call.row, call.body.destinations)
    call.warnings += destination_rules.warnings_of([one.get("protocol") for one in call.body.destinations])
    return _destinations_reply(call)


def replace_destinations(call: Call[Row[Any], Replace]) -> Reply:
    """Give a route exactly these destinations."""
    destination_rules.replace(call.tx, call.actor, call.row, call.body.destinations)
    call.warnings += destination_rules.warnings_of([one.get("protocol") for one in call.body.destinations])
    return _destinations_reply(call)


def remove_destination(call: Call[Row[Any], None]) -> None:
    """Remove one destination from a route."""
    destination_rules.remove(call.tx, call.actor, call.row, call.path["destination_guid"])


def update_destination(call: Call[Row[Any], UpdateDestination]) -> Reply:
    """Change the protocol of a destination."""
    row = rows.by_guid(call.tx, destinations, call.path["destination_guid"])
    if row is None or row.route_guid != call.row.guid:
        raise destination_rules.unknown()
    changed = row
    if call.body.has("protocol"):
        changed = destination_rules.set_protocol(call.tx, call.row, row, call.body.protocol)
        call.warnings += destination_rules.warnings_of([call.body.protocol])
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
    guids = sharing.shared_with(call.tx, call.row)
    return show_many(call, f"/v3/routes/{call.row.guid}/relationships/shared_spaces", guids)


def list_shares(call: Call[Row[Any], None]) -> Reply:
    """List the spaces that a route is shared with."""
    return _shares_reply(call)


def share(call: Call[Row[Any], ToMany]) -> Reply:
    """Let apps of more spaces answer at a route."""
    sharing.share(call.tx, call.actor, call.row, call.body.guids)
    return _shares_reply(call)


def unshare(call: Call[Row[Any], None]) -> None:
    """End the sharing of a route with a space."""
    sharing.unshare(call.tx, call.actor, call.row, call.path["space_guid"])


def transfer(call: Call[Row[Any], Transfer]) -> Reply:
    """Give a route to another space; the old one keeps it as a shared route."""
    sharing.transfer(call.tx, call.actor, call.row, call.body.data["guid"])
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
        query=(
            Parameter("guids"),
            Parameter("app_guids"),
            Parameter("page", quiet=True),
            Parameter("per_page", quiet=True),
        ),
        query_status=422,
    ),
    Operation("POST", _ONE + "/destinations", insert_destinations, target=ROUTES, body=Insert, allow=_MANAGE),
    Operation("PATCH", _ONE + "/destinations", replace_destinations, target=ROUTES, body=Replace, allow=_MANAGE),
    Operation("PUT", _ONE + "/destinations", replace_destinations, target=ROUTES, body=ReplaceByPut, allow=_MANAGE),
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
    Operation("POST", _SHARED, _sharing(share), target=ROUTES, body=ToMany, allow=_MANAGE),
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
