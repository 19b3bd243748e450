"""Service route bindings: services that see the requests of a route before its apps do."""

from collections.abc import Sequence
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, select
from starlette.responses import Response

from cupola import errors
from cupola.api import outside
from cupola.api.routes import ROUTES
from cupola.api.service_credential_bindings import managed, require_made, their_instances
from cupola.api.service_instances import OperationShape, last_operation
from cupola.brokers.facts import BindingFacts, of_binding
from cupola.domain import access as rights
from cupola.domain import service_bindings, visibility
from cupola.domain import service_route_bindings as rules
from cupola.rest.message import Message, MetadataOnly, metadata, nested, object_, to_one
from cupola.rest.operation import Accepted, Call, Operation, StreamCall, create, delete, list_, present, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Include, Resource, World
from cupola.rest.stream import json_response
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.routes import routes
from cupola.store.service_bindings import service_route_bindings
from cupola.store.service_instances import service_instances

__all__ = ["OPERATIONS", "ROUTE_BINDINGS"]

_bindings = service_route_bindings


class _Relationships(Message):
    service_instance = to_one(required=True)
    route = to_one(required=True)


class Create(Message):
    """A new binding of a route."""

    parameters = object_(nullable=True)
    relationships = nested(_Relationships, required=True)
    metadata = metadata()


class ServiceRouteBinding(TypedDict):
    """A binding of a route as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    route_service_url: str | None
    last_operation: OperationShape
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/service_route_bindings/{row.guid}"
    links = {
        "self": world.link(path),
        "service_instance": world.link(f"/v3/service_instances/{row.service_instance_guid}"),
        "route": world.link(f"/v3/routes/{row.route_guid}"),
    }
    if world.related["managed"].get(row.service_instance_guid):
        links["parameters"] = world.link(path + "/parameters")
    return {
        **common(row),
        "route_service_url": row.route_service_url,
        "last_operation": last_operation(row),
        "relationships": {"service_instance": one(row.service_instance_guid), "route": one(row.route_guid)},
        "metadata": metadata_of(row),
        "links": links,
    }


def _of_instances(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return _bindings.c.service_instance_guid.in_(select(service_instances.c.guid).where(condition))


def visible(actor: Actor) -> ColumnElement[bool] | None:
    """Bindings of instances in readable spaces; the route is in the same one."""
    if actor.reads_everything:
        return None
    return _of_instances(service_instances.c.space_guid.in_(visibility.readable_spaces()))


def _their_routes(world: World, page: Sequence[Row[Any]]) -> list[Any]:
    found = rows.by_guids(world.tx, routes, [row.route_guid for row in page])
    return present(world, ROUTES, list(found.values()))


ROUTE_BINDINGS = Resource(
    name="service_route_binding",
    path="/v3/service_route_bindings",
    table=_bindings,
    view=view,
    shape=ServiceRouteBinding,
    visible=visible,
    filters=[
        Filter("service_instance_guids", _bindings.c.service_instance_guid),
        Filter("service_instance_names", lambda names: _of_instances(service_instances.c.name.in_(names))),
        Filter("route_guids", _bindings.c.route_guid),
    ],
    includes=[
        Include("route", "routes", _their_routes),
        Include("service_instance", "service_instances", their_instances),
    ],
    related={"managed": managed},
)


def create_binding(call: Call[None, Create]) -> Row[Any] | Accepted:
    """Put a service in front of a route; by a job where a broker does it."""
    found = rules.create(call.tx, call.settings, call.actor, call.body.given, call.request_id)
    return Accepted(found) if isinstance(found, str) else found


def _space_of(tx: Tx, row: Row[Any]) -> str:
    wanted = select(service_instances.c.space_guid).where(service_instances.c.guid == row.service_instance_guid)
    return str(tx.scalar(wanted))


def may_write(call: Call[Row[Any], Any]) -> None:
    """Developers."""
    rights.require_in_space(call.tx, call.actor, _space_of(call.tx, call.row), rights.WRITE_IN_SPACE)


def may_unbind(call: Call[Row[Any], Any]) -> None:
    """Developers and supporters."""
    rights.require_in_space(call.tx, call.actor, _space_of(call.tx, call.row), rights.MANAGE_APPS)


def update_binding(call: Call[Row[Any], MetadataOnly]) -> Row[Any]:
    """Relabel a binding of a route."""
    return service_bindings.relabel(call.tx, call.actor, service_bindings.ROUTE, call.row, call.body.given)


def delete_binding(call: Call[Row[Any], None]) -> Accepted | None:
    """Take a service away from a route; by a job where a broker has to know."""
    job = rules.delete(call.tx, call.actor, call.row, call.request_id)
    return None if job is None else Accepted(job)


async def show_parameters(call: StreamCall) -> Response:
    """The parameters of a binding of a route, as its broker has them."""

    def find(tx: Tx) -> BindingFacts:
        row = outside.target(call, tx, ROUTE_BINDINGS)
        require_made(row, service_bindings.ROUTE.noun)
        rights.require_in_space(tx, outside.actor(call), _space_of(tx, row), rights.WRITE_IN_SPACE)
        facts = of_binding(tx, service_bindings.ROUTE, row.guid)
        if facts is None:
            raise errors.bad_request(
                "user provided service instances do not support fetching route bindings parameters."
            )
        if not facts.offer.bindings_retrievable:
            raise errors.bad_request("this service does not support fetching route bindings parameters.")
        return facts

    facts = await call.read(find)
    async with outside.slot(call, facts.broker.guid) as client:
        found = await client.fetch_binding(
            facts.broker, outside.caller(call), facts.instance.guid, facts.binding.guid, facts.offer.requires
        )
    return json_response(200, found.parameters)


OPERATIONS: list[Operation] = [
    list_(ROUTE_BINDINGS),
    show(ROUTE_BINDINGS, query_status=400),
    create(ROUTE_BINDINGS, Create, create_binding, job=True),
    update(ROUTE_BINDINGS, MetadataOnly, update_binding, allow=may_write),
    delete(ROUTE_BINDINGS, delete_binding, allow=may_unbind, status=204),
    Operation("GET", ROUTE_BINDINGS.path + "/{guid}/parameters", stream=show_parameters),
]
