"""Plan definitions: plans that are described to their broker, and how that is done for an offering."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from sqlalchemy import Row
from starlette.responses import Response

from cupola import errors
from cupola.api import outside
from cupola.api.service_offerings import SERVICE_OFFERINGS, of_brokers
from cupola.api.service_plans import SERVICE_PLANS
from cupola.brokers import dashboards
from cupola.brokers.client import BrokerClient
from cupola.brokers.definitions import Definitions, Offer
from cupola.brokers.osmapi import DefinitionSchema
from cupola.domain import visibility
from cupola.rest import listing
from cupola.rest.message import Message, metadata, nested, object_, string, to_one
from cupola.rest.operation import Call, Listing, Operation, Parameter, StreamCall
from cupola.rest.present import Links
from cupola.rest.present import to_one as one
from cupola.rest.query import Query
from cupola.rest.resource import Filter, Resource, World
from cupola.rest.stream import json_response, present_one
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.service_brokers import service_offerings, service_plans

__all__ = ["OPERATIONS"]


class _Definition(Message):
    plan_id = string(min_length=1, max_length=255)
    name = string(required=True, min_length=1, max_length=255)
    description = string(required=True, min_length=1, max_length=10_000)
    properties = object_()
    metadata = object_()


class _Replacement(_Definition):
    plan_id = string(required=True, min_length=1, max_length=255)
    created_at = string()
    resource_version = string()


class _Relationships(Message):
    service_offering = to_one(required=True)


class CreatePlan(Message):
    """A plan with a definition that its broker is given."""

    name = string(required=True, min_length=1, max_length=255)
    description = string(required=True, min_length=1, max_length=10_000)
    relationships = nested(_Relationships, required=True)
    definition = nested(_Definition, required=True)
    metadata = metadata()


class Replace(Message):
    """The whole new definition; what only the broker sets (created_at, resource_version) is ignored."""

    definition = nested(_Replacement, required=True)


class ServicePlanDefinition(TypedDict):
    """The definition of a plan as the API shows it; null where there is none."""

    guid: str
    definition: dict[str, Any] | None
    relationships: dict[str, Any]
    links: Links


class _Schema(TypedDict):
    json_schema: dict[str, Any]
    ui_schema: dict[str, Any]
    version: str


class PlanDefinitionSchema(TypedDict):
    """How plans of an offering are defined; null where its broker does not say."""

    guid: str
    schema: _Schema | None
    relationships: dict[str, Any]
    links: Links


def definition_view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/service_plans/{row.guid}"
    return {
        "guid": row.guid,
        "definition": None,
        "relationships": {"service_plan": one(row.guid)},
        "links": {"self": world.link(f"{path}/definition"), "service_plan": world.link(path)},
    }


def schema_view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/service_offerings/{row.guid}"
    return {
        "guid": row.guid,
        "schema": None,
        "relationships": {"service_offering": one(row.guid)},
        "links": {"self": world.link(f"{path}/plan_definition_schema"), "service_offering": world.link(path)},
    }


# What the database knows of them; their brokers are asked for the rest once the page is found.
PLAN_DEFINITIONS = Resource(
    name="service_plan_definition",
    path="/v3/service_plan_definitions",
    table=service_plans,
    view=definition_view,
    shape=ServicePlanDefinition,
    visible=visibility.everyone,
    guids=False,
    filters=[
        Filter("names", service_plans.c.name),
        Filter("service_offering_guids", service_plans.c.service_offering_guid),
        Filter("service_broker_guids", service_plans.c.service_broker_guid),
        Filter("service_broker_names", of_brokers(service_plans.c.service_broker_guid)),
    ],
    order_by=["created_at", "updated_at", "name"],
)
DEFINITION_SCHEMAS = Resource(
    name="service_plan_definition_schema",
    path="/v3/service_plan_definition_schemas",
    table=service_offerings,
    view=schema_view,
    shape=PlanDefinitionSchema,
    visible=visibility.everyone,
    guids=False,
    timestamps=(),
    filters=[
        Filter("names", service_offerings.c.name),
        Filter("service_broker_guids", service_offerings.c.service_broker_guid),
        Filter("service_broker_names", of_brokers(service_offerings.c.service_broker_guid)),
    ],
    order_by=["created_at", "updated_at", "name"],
)
_DEFINITIONS = Listing(PLAN_DEFINITIONS)
_SCHEMAS = Listing(DEFINITION_SCHEMAS)


class _Pages(TypedDict):
    pagination: dict[str, Any]


class DefinitionsPage(_Pages):
    """A page of definitions."""

    resources: list[ServicePlanDefinition]


class SchemasPage(_Pages):
    """A page of schemas."""

    resources: list[PlanDefinitionSchema]


def _definitions(call: StreamCall, client: BrokerClient) -> Definitions:
    registry: dashboards.Registry | None = call.services.extra.get("directory")
    return Definitions(call, client, call.services.settings, outside.actor(call), outside.caller(call), registry)


def _client(call: StreamCall) -> BrokerClient:
    client: BrokerClient = call.services.extra["brokers"]
    return client


def _require(allowed: bool) -> None:
    if not allowed:
        raise errors.not_authorized()


async def _page(call: StreamCall, listed: Listing) -> dict[str, Any]:
    """One page of a list, as far as the database knows it."""
    query = Query(call.request.scope["query_string"], listing.parameters(listed), status=400)
    url = call.services.settings.api_url + listed.resource.path

    def work(tx: Tx) -> dict[str, Any]:
        asked: Call[Any, Any] = Call(
            tx, outside.actor(call), None, None, query, call.path, call.services, call.operation, call.request_id
        )
        return listing.page(asked, listed, url)

    return await call.read(work)


async def list_definitions(call: StreamCall) -> Response:
    """List the definitions of plans; brokers that support none, or are in trouble, have null."""
    _require(outside.actor(call).reads_secrets)
    page = await _page(call, _DEFINITIONS)
    definitions = _definitions(call, _client(call))
    guids = [shown["guid"] for shown in page["resources"]]
    plans = await call.read(lambda tx: rows.by_guids(tx, service_plans, guids))
    offers = await definitions.offers([plan.service_offering_guid for plan in plans.values()])
    found = await definitions.all_of(list(offers.values()))
    for shown in page["resources"]:
        plan = plans.get(shown["guid"])
        if plan is not None:
            shown["definition"] = found.get((plan.service_offering_guid, plan.catalog_id))
    return json_response(200, page)


async def list_schemas(call: StreamCall) -> Response:
    """List how plans of the offerings are defined; brokers that do not say have null."""
    actor = outside.actor(call)
    _require(actor.is_service_admin or actor.reads_secrets)
    page = await _page(call, _SCHEMAS)
    definitions = _definitions(call, _client(call))
    offers = list((await definitions.offers([shown["guid"] for shown in page["resources"]])).values())
    found = await definitions.schemas(offers)
    schemas = {offer.offering.guid: schema for offer, schema in zip(offers, found, strict=True)}
    for shown in page["resources"]:
        shown["schema"] = _shown_schema(schemas.get(shown["guid"]))
    return json_response(200, page)


def _shown_schema(schema: DefinitionSchema | None) -> dict[str, Any] | None:
    if schema is None:
        return None
    return {"json_schema": schema.json_schema, "ui_schema": schema.ui_schema, "version": schema.version}


async def show_schema(call: StreamCall) -> Response:
    """Get how plans of a service offering are defined; null where its broker does not say."""
    actor = outside.actor(call)
    sees = actor.is_service_admin or actor.reads_secrets

    def find(tx: Tx) -> dict[str, Any]:
        row = rows.by_guid(tx, service_offerings, call.path["guid"]) if sees else None
        if row is None:
            row = outside.target(call, tx, SERVICE_OFFERINGS)
        _require(sees)
        return dict(present_one(call, tx, DEFINITION_SCHEMAS, row))

    shown = await call.read(find)
    offer = await _definitions(call, _client(call)).offer(shown["guid"])
    if offer is not None:
        async with outside.slot(call, offer.broker.guid) as client:
            shown["schema"] = _shown_schema(await _definitions(call, client).schema(offer))
    return json_response(200, shown)


async def _plan(call: StreamCall, *, writes: bool) -> tuple[Row[Any], Offer]:
    """The plan that the path names, for admins."""
    actor = outside.actor(call)
    row = await call.read(lambda tx: outside.target(call, tx, SERVICE_PLANS))
    _require(actor.is_admin or (not writes and actor.reads_secrets))
    offer = await _definitions(call, _client(call)).offer(row.service_offering_guid)
    if offer is None:
        raise errors.not_found(SERVICE_PLANS.shown)
    return row, offer


async def _shown(call: StreamCall, plan: Row[Any], definition: Mapping[str, Any] | None) -> Response:
    shown = await call.read(lambda tx: present_one(call, tx, PLAN_DEFINITIONS, plan))
    return json_response(200, {**shown, "definition": definition})


async def show_definition(call: StreamCall) -> Response:
    """Get the definition of a service plan; null where its offering has no definitions."""
    plan, offer = await _plan(call, writes=False)
    async with outside.slot(call, offer.broker.guid) as client:
        found = await _definitions(call, client).get(offer, plan)
    return await _shown(call, plan, found)


async def replace_definition(call: StreamCall) -> Response:
    """Replace the definition of a service plan; the catalog is fetched anew, and the plan changes with it."""
    body = await outside.body(call, Replace)
    plan, offer = await _plan(call, writes=True)
    async with outside.slot(call, offer.broker.guid) as client:
        made = await _definitions(call, client).replace(offer, plan, body.given)
    return await _shown(call, plan, made)


async def delete_definition(call: StreamCall) -> Response:
    """Delete the definition of a service plan, and with it the plan, which must have no instances."""
    plan, offer = await _plan(call, writes=True)
    async with outside.slot(call, offer.broker.guid) as client:
        await _definitions(call, client).delete(offer, plan)
    return Response(status_code=204)


async def create_plan(call: StreamCall) -> Response:
    """Create a service plan by defining it at its broker; the catalog is fetched anew and brings it."""
    body = await outside.body(call, CreatePlan)
    _require(outside.actor(call).is_service_admin)
    offering_guid = body.relationships.service_offering
    offer = await _definitions(call, _client(call)).offer(offering_guid)
    if offer is None:
        raise errors.unprocessable(
            "Invalid service offering. Ensure that the service offering exists and you have access to it."
        )
    async with outside.slot(call, offer.broker.guid) as client:
        plan = await _definitions(call, client).create(offer, body.given)
    return json_response(201, await call.read(lambda tx: present_one(call, tx, SERVICE_PLANS, plan)))


_DEFINITION = SERVICE_PLANS.path + "/{guid}/definition"
_Stream = Callable[[StreamCall], Any]


def _operation(method: str, path: str, stream: _Stream, returns: Resource, **more: Any) -> Operation:
    return Operation(method, path, stream=stream, returns=returns, **more)


def _bodies(*kinds: type[Message]) -> dict[str, Sequence[type[Message]]]:
    return {"bodies": kinds}


def _list(listed: Listing, stream: _Stream, shape: Any) -> Operation:
    """A list that asks brokers: it takes what other lists take, and answers itself."""
    names = listing.parameters(listed)
    query = [Parameter(name, "As in every list." if name in _USUAL else "Comma-separated values.") for name in names]
    return Operation("GET", listed.resource.path, stream=stream, query=query, query_status=400, shape=shape)


_USUAL = {"page", "per_page", "order_by", "created_ats", "updated_ats", "label_selector"}

OPERATIONS: list[Operation] = [
    _list(_DEFINITIONS, list_definitions, DefinitionsPage),
    _list(_SCHEMAS, list_schemas, SchemasPage),
    _operation("GET", SERVICE_OFFERINGS.path + "/{guid}/plan_definition_schema", show_schema, DEFINITION_SCHEMAS),
    _operation("POST", SERVICE_PLANS.path, create_plan, SERVICE_PLANS, status=201, **_bodies(CreatePlan)),
    _operation("GET", _DEFINITION, show_definition, PLAN_DEFINITIONS),
    _operation("PATCH", _DEFINITION, replace_definition, PLAN_DEFINITIONS, **_bodies(Replace)),
    Operation("DELETE", _DEFINITION, stream=delete_definition, target=SERVICE_PLANS, status=204, produces=""),
]
