"""Service instances: managed by a broker or described by a user. Sharing, backups and bindings have files of their own."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, Row, or_, select
from starlette.responses import Response

from cupola import errors
from cupola.api import access, outside
from cupola.brokers.facts import Facts, of_instance
from cupola.clock import format_api
from cupola.domain import access as rights
from cupola.domain import last_operations, service_errors, service_events, service_offers, visibility
from cupola.domain import service_instance_updates as updates
from cupola.domain import service_instances as rules
from cupola.rest.document import decode
from cupola.rest.message import Message, anything, array, metadata, nested, object_, string, to_one
from cupola.rest.operation import Accepted, Call, Operation, Parameter, Reply, StreamCall, list_, show
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.present import to_one as one
from cupola.rest.resource import Fields, Filter, Resource, World
from cupola.rest.stream import json_response
from cupola.roles import READ_SCOPES, Actor
from cupola.store import rows, sealed
from cupola.store.database import Tx
from cupola.store.orgs import organizations, spaces
from cupola.store.service_brokers import service_brokers, service_offerings, service_plans
from cupola.store.service_instances import service_instance_shares, service_instances

__all__ = ["OPERATIONS", "SERVICE_INSTANCES", "OperationShape", "last_operation", "space_fields"]

_TYPES = ("managed", "user-provided")
_KINDS = "must be one of 'managed', 'user-provided'"
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)
_READ_PERMISSIONS = "cloud_controller_service_permissions.read"


def _not_blank(name: str) -> Iterator[str]:
    if not name.strip():
        yield "can't be blank"


def _uri(name: str, *, https: bool = False) -> Any:
    """A field that is empty, null or a URI."""
    label = name.replace("_", " ").capitalize()

    def problems(value: Any) -> Iterator[str]:
        if value in (None, ""):
            return
        if not isinstance(value, str) or not _is_uri(value, host=https):
            yield f"{label} must be a valid URI"
        elif len(value) > 10_000:
            yield f"{label} is too long (maximum is 10000 characters)"
        elif https and not value.startswith("https:"):
            yield f"{label} must be https"

    return anything(problems, {"type": ["string", "null"], "maxLength": 10_000})


def _is_uri(value: str, *, host: bool) -> bool:
    try:
        parts = urlsplit(value)
        # Reading the port judges it.
        well_formed = bool(parts.scheme and (parts.netloc or parts.path)) and parts.port != 0
    except ValueError:
        return False
    return well_formed and not re.search(r"[\s\x00-\x1f]", value) and (bool(parts.hostname) or not host)


class _InSpace(Message):
    rejects_unknown = False
    space = to_one(required=True)


class _InSpaceOnly(Message):
    space = to_one(required=True)


class _InSpaceOfPlan(Message):
    space = to_one(required=True)
    service_plan = to_one(required=True)


class Create(Message):
    """What new instances of both kinds have."""

    rejects_unknown = False
    type = string(required=True, one_of=_TYPES, one_of_message=_KINDS, blank=_KINDS)
    name = string(required=True, max_length=255, checks=[_not_blank])
    tags = array(nullable=True, items={"type": "string"}, checks=[rules.tag_problems])
    relationships = nested(_InSpace, required=True)
    metadata = metadata()


class CreateManaged(Message):
    """A new instance that its broker makes."""

    type = string(required=True, one_of=("managed",))
    name = string(required=True, max_length=255, checks=[_not_blank])
    tags = array(nullable=True, items={"type": "string"}, checks=[rules.tag_problems])
    relationships = nested(_InSpaceOfPlan, required=True)
    parameters = object_(nullable=True)
    metadata = metadata()


class CreateUserProvided(Message):
    """A new instance that is what its user says."""

    type = string(required=True, one_of=("user-provided",))
    name = string(required=True, max_length=255, checks=[_not_blank])
    tags = array(nullable=True, items={"type": "string"}, checks=[rules.tag_problems])
    relationships = nested(_InSpaceOnly, required=True)
    credentials = object_(nullable=True)
    syslog_drain_url = _uri("syslog_drain_url")
    route_service_url = _uri("route_service_url", https=True)
    metadata = metadata()


class _OfPlan(Message):
    service_plan = to_one(required=True)


def _semantic(version: str) -> Iterator[str]:
    if not _SEMVER.fullmatch(version):
        yield "must be a Semantic Version string"


class _MaintenanceInfo(Message):
    version = string(nullable=True, max_length=255, checks=[_semantic])


class UpdateManaged(Message):
    """What changes; only some of it concerns the broker."""

    name = string(nullable=True, max_length=255, checks=[_not_blank])
    tags = array(nullable=True, items={"type": "string"}, checks=[rules.tag_problems])
    parameters = object_(nullable=True)
    relationships = nested(_OfPlan, nullable=True)
    maintenance_info = nested(_MaintenanceInfo, nullable=True)
    metadata = metadata()


class UpdateUserProvided(Message):
    """What changes."""

    name = string(nullable=True, max_length=255, checks=[_not_blank])
    tags = array(nullable=True, items={"type": "string"}, checks=[rules.tag_problems])
    credentials = object_(nullable=True)
    syslog_drain_url = _uri("syslog_drain_url")
    route_service_url = _uri("route_service_url", https=True)
    metadata = metadata()


class OperationShape(TypedDict):
    """How far the last thing that was asked for is."""

    type: str
    state: str
    description: str | None
    created_at: str
    updated_at: str


class _Common(TypedDict):
    guid: str
    created_at: str
    updated_at: str
    name: str
    type: str
    tags: list[str]
    last_operation: OperationShape
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


class ServiceInstance(_Common, total=False):
    """A service instance as the API shows it; the rest depends on the type."""

    maintenance_info: dict[str, Any]
    upgrade_available: bool
    dashboard_url: str | None
    broker_provided_metadata: dict[str, Any]
    syslog_drain_url: str | None
    route_service_url: str | None


class Permissions(TypedDict):
    """What the caller may do with an instance."""

    manage: bool
    read: bool


def last_operation(row: Row[Any]) -> dict[str, Any]:
    """The `last_operation` of an instance or a binding."""
    return {
        "type": row.operation_type,
        "state": row.operation_state,
        "description": row.operation_description,
        "created_at": format_api(row.operation_created_at),
        "updated_at": format_api(row.operation_updated_at),
    }


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/service_instances/{row.guid}"
    shown: dict[str, Any] = {
        **common(row),
        "name": row.name,
        "type": row.type,
        "tags": row.tags,
        "last_operation": last_operation(row),
    }
    links = {
        "self": world.link(path),
        "space": world.link(f"/v3/spaces/{row.space_guid}"),
        "service_credential_bindings": world.link(f"/v3/service_credential_bindings?service_instance_guids={row.guid}"),
        "service_route_bindings": world.link(f"/v3/service_route_bindings?service_instance_guids={row.guid}"),
    }
    relationships = {"space": one(row.space_guid)}
    if row.type == "managed":
        shown |= _managed(row, world)
        relationships["service_plan"] = one(row.service_plan_guid)
        links["service_plan"] = world.link(f"/v3/service_plans/{row.service_plan_guid}")
        links["parameters"] = world.link(path + "/parameters")
        links["shared_spaces"] = world.link(path + "/relationships/shared_spaces")
    else:
        shown["syslog_drain_url"] = sealed.opened(world.tx, service_instances.c.syslog_drain_url, row.syslog_drain_url)
        shown["route_service_url"] = row.route_service_url
        links["credentials"] = world.link(path + "/credentials")
    return {**shown, "relationships": relationships, "metadata": metadata_of(row), "links": links}


def _managed(row: Row[Any], world: World) -> dict[str, Any]:
    of_plan = world.related["maintenance"].get(row.service_plan_guid) or {}
    shown = {
        "maintenance_info": row.maintenance_info,
        "upgrade_available": row.maintenance_info.get("version") != of_plan.get("version"),
        "dashboard_url": row.dashboard_url,
    }
    if row.broker_provided_metadata:
        shown["broker_provided_metadata"] = row.broker_provided_metadata
    return shown


def _maintenance(world: World, page: Sequence[Row[Any]]) -> dict[str, Any]:
    """Plan guid to its maintenance_info."""
    found = rows.by_guids(world.tx, service_plans, [row.service_plan_guid for row in page])
    return {guid: plan.maintenance_info for guid, plan in found.items()}


def visible(actor: Actor) -> ColumnElement[bool] | None:
    """Instances of readable spaces, and those that are shared with them."""
    return None if actor.reads_everything else _in_spaces(visibility.readable_spaces())


def _in_spaces(guids: Any) -> ColumnElement[bool]:
    shares = service_instance_shares.c
    shared = select(shares.service_instance_guid).where(shares.space_guid.in_(guids))
    return or_(service_instances.c.space_guid.in_(guids), service_instances.c.guid.in_(shared))


def _in_organizations(guids: Any) -> ColumnElement[bool]:
    return _in_spaces(select(spaces.c.guid).where(spaces.c.organization_guid.in_(guids)))


def _of_plans_named(names: Any) -> ColumnElement[bool]:
    named = select(service_plans.c.guid).where(service_plans.c.name_key.in_(names))
    return service_instances.c.service_plan_guid.in_(named)


def _spaces(world: World, page: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    found = rows.by_guids(world.tx, spaces, [row.space_guid for row in page])
    return [
        {"guid": row.guid, "name": row.name, "relationships": {"organization": one(row.organization_guid)}}
        for row in found.values()
    ]


def _organizations(world: World, page: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    of_spaces = rows.by_guids(world.tx, spaces, [row.space_guid for row in page])
    found = rows.by_guids(world.tx, organizations, [row.organization_guid for row in of_spaces.values()])
    return [{"guid": row.guid, "name": row.name} for row in found.values()]


def _plans(world: World, page: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    found = rows.by_guids(world.tx, service_plans, [row.service_plan_guid for row in page])
    return [
        {
            "guid": row.guid,
            "name": row.name,
            "relationships": {"service_offering": one(row.service_offering_guid)},
        }
        for row in found.values()
    ]


def _offering_rows(world: World, page: Sequence[Row[Any]]) -> list[Row[Any]]:
    plans = rows.by_guids(world.tx, service_plans, [row.service_plan_guid for row in page])
    wanted = [row.service_offering_guid for row in plans.values()]
    return list(rows.by_guids(world.tx, service_offerings, wanted).values())


def _offerings(world: World, page: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": row.name,
            "guid": row.guid,
            "description": row.description,
            "documentation_url": row.documentation_url,
            "tags": row.tags,
            "relationships": {"service_broker": one(row.service_broker_guid)},
        }
        for row in _offering_rows(world, page)
    ]


def _brokers(world: World, page: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    wanted = [row.service_broker_guid for row in _offering_rows(world, page)]
    found = rows.by_guids(world.tx, service_brokers, wanted)
    return [{"name": row.name, "guid": row.guid} for row in found.values()]


space_fields = (
    Fields("space", "spaces", ("guid", "name", "relationships.organization"), _spaces),
    Fields("space.organization", "organizations", ("name", "guid"), _organizations),
)
"""For rows with a space_guid."""

SERVICE_INSTANCES = Resource(
    name="service_instance",
    path="/v3/service_instances",
    table=service_instances,
    view=view,
    shape=ServiceInstance,
    visible=visible,
    parameter_order=["type", "fields"],
    filters=[
        Filter("names", service_instances.c.name),
        Filter("space_guids", _in_spaces),
        Filter("organization_guids", _in_organizations),
        Filter("service_plan_guids", service_instances.c.service_plan_guid),
        Filter("service_plan_names", _of_plans_named, fold=True),
        Filter("type", service_instances.c.type, kind="one", choices=_TYPES),
    ],
    order_by=["created_at", "updated_at", "name"],
    fields=[
        *space_fields,
        Fields("service_plan", "service_plans", ("guid", "name", "relationships.service_offering"), _plans),
        Fields(
            "service_plan.service_offering",
            "service_offerings",
            ("name", "guid", "description", "documentation_url", "tags", "relationships.service_broker"),
            _offerings,
        ),
        Fields("service_plan.service_offering.service_broker", "service_brokers", ("name", "guid"), _brokers),
    ],
    related={"maintenance": _maintenance},
)


def create_instance(call: Call[None, None]) -> Row[Any] | Accepted:
    """Create a service instance: a user-provided one at once, a managed one by a job."""
    document = decode(call.raw_body)
    kind = Create.parse(document).type
    if kind == "user-provided":
        return rules.create_user_provided(call.tx, call.actor, CreateUserProvided.parse(document).given)
    body = CreateManaged.parse(document).given
    return Accepted(rules.create_managed(call.tx, call.actor, body, call.request_id))


def update_instance(call: Call[Row[Any], None]) -> Row[Any] | Accepted:
    """Change a service instance; by a job where its broker has to know."""
    document = decode(call.raw_body)
    if call.row.type == "user-provided":
        return rules.update_user_provided(call.tx, call.actor, call.row, UpdateUserProvided.parse(document).given)
    body = UpdateManaged.parse(document).given
    found = updates.update(call.tx, call.actor, call.row, body, call.request_id)
    return Accepted(found) if isinstance(found, str) else found


def delete_instance(call: Call[Row[Any], None]) -> Accepted | None:
    """Delete a service instance with its bindings; `purge` forgets it without a word to its broker."""
    if call.query.get("purge") == "true":
        _require_purge(call)
        rules.purge(call.tx, call.actor, call.row)
        return None
    if call.row.type == "user-provided":
        rules.delete_user_provided(call.tx, call.actor, call.row)
        return None
    return Accepted(rules.request_deletion(call.tx, call.actor, call.row, call.request_id))


def _require_purge(call: Call[Row[Any], None]) -> None:
    """Admins; developers of the space where the instance's broker is at home; anybody for what has no broker."""
    offer = service_offers.of_plan(call.tx, call.row.service_plan_guid)
    if offer is None:
        return
    if offer.broker_space_guid is None:
        rights.require_admin(call.actor)
    else:
        rights.require_in_space(call.tx, call.actor, offer.broker_space_guid, access.DEVELOPER)


def show_credentials(call: Call[Row[Any], None]) -> Reply:
    """The credentials of a user-provided service instance."""
    if call.row.type != "user-provided":
        raise errors.not_found(SERVICE_INSTANCES.shown)
    if not call.actor.reads_secrets:
        rights.require_in_space(call.tx, call.actor, call.row.space_guid, access.DEVELOPER, also_suspended=True)
    service_events.of_instance(call.tx, "show", call.actor, call.row, {"request": {}})
    return Reply(200, sealed.opened(call.tx, service_instances.c.credentials, call.row.credentials, {}))


def show_permissions(call: Call[None, None]) -> Reply:
    """What the caller may do with a service instance; dashboards of services ask this."""
    instance = rows.by_guid(call.tx, service_instances, call.path["guid"])
    if instance is None:
        raise errors.not_found(SERVICE_INSTANCES.shown)
    return Reply(
        200,
        {
            "manage": _may_manage(call.tx, call.actor, instance.space_guid),
            "read": rules.readable(call.tx, call.actor, instance.guid) is not None,
        },
    )


def _may_manage(tx: Tx, actor: Actor, space_guid: str) -> bool:
    try:
        rights.require_in_space(tx, actor, space_guid, access.DEVELOPER)
    except errors.CloudError:
        return False
    return True


async def show_parameters(call: StreamCall) -> Response:
    """The parameters of a managed service instance, as its broker has them."""

    def find(tx: Tx) -> Facts:
        row = outside.target(call, tx, SERVICE_INSTANCES)
        if not rights.may_read_space(tx, outside.actor(call), row.space_guid):
            raise errors.not_authorized()
        facts = of_instance(tx, row.guid)
        if facts is not None and last_operations.create_failed(row):
            raise errors.not_found(SERVICE_INSTANCES.shown)
        if facts is None or not facts.offer.instances_retrievable:
            raise service_errors.no_instance_parameters()
        rules.require_free(tx, row)
        return facts

    facts = await call.read(find)
    async with outside.slot(call, facts.broker.guid) as client:
        found = await client.fetch_instance(facts.broker, outside.caller(call), facts.instance.guid)
    return json_response(200, found.parameters)


_ONE = SERVICE_INSTANCES.path + "/{guid}"
_WRITE = access.in_space(*access.DEVELOPER)

OPERATIONS: list[Operation] = [
    list_(SERVICE_INSTANCES),
    show(SERVICE_INSTANCES, query_status=400),
    Operation(
        "POST",
        SERVICE_INSTANCES.path,
        create_instance,
        returns=SERVICE_INSTANCES,
        bodies=(CreateManaged, CreateUserProvided),
        status=201,
        job=True,
    ),
    Operation(
        "PATCH",
        _ONE,
        update_instance,
        target=SERVICE_INSTANCES,
        bodies=(UpdateManaged, UpdateUserProvided),
        allow=_WRITE,
        job=True,
    ),
    Operation(
        "DELETE",
        _ONE,
        delete_instance,
        target=SERVICE_INSTANCES,
        allow=_WRITE,
        status=204,
        job=True,
        query=(Parameter("purge", "Forget the instance without a word to its broker.", ("true", "false")),),
    ),
    Operation("GET", _ONE + "/credentials", show_credentials, target=SERVICE_INSTANCES, writes=True),
    Operation("GET", _ONE + "/parameters", stream=show_parameters),
    Operation(
        "GET",
        _ONE + "/permissions",
        show_permissions,
        scopes=READ_SCOPES | {_READ_PERMISSIONS},
        shape=Permissions,
    ),
]
