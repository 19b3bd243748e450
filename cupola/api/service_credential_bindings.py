"""Service credential bindings: what lets an app, or whoever holds a key, use a service instance."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, and_, or_, select
from starlette.responses import Response

from cupola import errors
from cupola.api import outside
from cupola.api.apps import APPS
from cupola.api.service_instances import SERVICE_INSTANCES, OperationShape, last_operation
from cupola.brokers.facts import BindingFacts, of_binding
from cupola.domain import access as rights
from cupola.domain import last_operations, service_bindings, service_errors, service_events, visibility
from cupola.domain import service_credential_bindings as rules
from cupola.rest.document import decode
from cupola.rest.message import Message, MetadataOnly, anything, metadata, nested, object_, string, to_one
from cupola.rest.operation import (
    Accepted,
    Call,
    Operation,
    Reply,
    StreamCall,
    delete,
    list_,
    present,
    show,
    update,
)
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Include, Resource, World
from cupola.rest.stream import json_response
from cupola.roles import Actor
from cupola.store import rows, sealed
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.service_bindings import service_credential_bindings
from cupola.store.service_brokers import service_offerings, service_plans
from cupola.store.service_instances import service_instances

__all__ = ["BINDINGS", "OPERATIONS", "may_write"]

_bindings = service_credential_bindings
_NAME = re.compile(r"[\w-]+", re.ASCII)


def _app_binding_name(name: Any) -> Iterator[str]:
    if not isinstance(name, str):
        yield "Name must be a string"
    elif len(name) > 255:
        yield "The binding name is invalid. App binding names must be less than 256 characters."
    elif name and not _NAME.fullmatch(name):
        yield "The binding name is invalid. Valid characters are alphanumeric, underscore, and dash."


class _OfInstance(Message):
    rejects_unknown = False
    service_instance = to_one(required=True)


class _OfInstanceOnly(Message):
    service_instance = to_one(required=True)


class _OfInstanceAndApp(Message):
    service_instance = to_one(required=True)
    app = to_one(required=True)


_KINDS = "must be 'app' or 'key'"


class Create(Message):
    """What new bindings of both kinds have."""

    rejects_unknown = False
    type = string(required=True, one_of=("app", "key"), one_of_message=_KINDS, blank=_KINDS)
    parameters = object_(nullable=True)
    relationships = nested(_OfInstance, required=True)
    metadata = metadata()


class CreateForApp(Message):
    """A new binding of an app."""

    type = string(required=True, one_of=("app",))
    name = anything(_app_binding_name, {"type": ["string", "null"], "maxLength": 255, "pattern": "^[A-Za-z0-9_-]*$"})
    strategy = string(nullable=True, one_of=("single", "multiple"), one_of_message="must be 'single' or 'multiple'")
    parameters = object_(nullable=True)
    relationships = nested(_OfInstanceAndApp, required=True)
    metadata = metadata()


class CreateKey(Message):
    """A new key."""

    type = string(required=True, one_of=("key",))
    name = string(required=True, min_length=1, max_length=255)
    parameters = object_(nullable=True)
    relationships = nested(_OfInstanceOnly, required=True)
    metadata = metadata()


class ServiceCredentialBinding(TypedDict):
    """A binding as the API shows it, without what it gives."""

    guid: str
    created_at: str
    updated_at: str
    name: str | None
    type: str
    last_operation: OperationShape
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


class _Credentials(TypedDict):
    credentials: dict[str, Any]


class Details(_Credentials, total=False):
    """What a binding gives."""

    syslog_drain_url: str
    volume_mounts: list[dict[str, Any]]


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/service_credential_bindings/{row.guid}"
    instance = row.service_instance_guid
    relationships = {"service_instance": one(instance)}
    links = {
        "self": world.link(path),
        "details": world.link(path + "/details"),
        "service_instance": world.link(f"/v3/service_instances/{instance}"),
    }
    if world.related["managed"].get(instance):
        links["parameters"] = world.link(path + "/parameters")
    if row.app_guid is not None:
        relationships["app"] = one(row.app_guid)
        links["app"] = world.link(f"/v3/apps/{row.app_guid}")
    return {
        **common(row),
        "name": row.name,
        "type": row.type,
        "last_operation": last_operation(row),
        "relationships": relationships,
        "metadata": metadata_of(row),
        "links": links,
    }


def managed(world: World, page: Sequence[Row[Any]]) -> dict[str, bool]:
    """Instance guid to whether a broker has it."""
    found = rows.by_guids(world.tx, service_instances, [row.service_instance_guid for row in page])
    return {guid: row.type == "managed" for guid, row in found.items()}


def visible(actor: Actor) -> ColumnElement[bool] | None:
    """Bindings of apps in readable spaces, and keys of instances there."""
    if actor.reads_everything:
        return None
    readable = visibility.readable_spaces()
    of_apps = select(apps.c.guid).where(apps.c.space_guid.in_(readable))
    of_instances = select(service_instances.c.guid).where(service_instances.c.space_guid.in_(readable))
    keys = and_(_bindings.c.type == "key", _bindings.c.service_instance_guid.in_(of_instances))
    return or_(_bindings.c.app_guid.in_(of_apps), keys)


def _of_instances(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return _bindings.c.service_instance_guid.in_(select(service_instances.c.guid).where(condition))


def _of_plans(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    plans = select(service_plans.c.guid).where(condition)
    return _of_instances(service_instances.c.service_plan_guid.in_(plans))


def _of_offerings(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    offerings = select(service_offerings.c.guid).where(condition)
    return _of_plans(service_plans.c.service_offering_guid.in_(offerings))


def _apps_named(names: Any) -> ColumnElement[bool]:
    return _bindings.c.app_guid.in_(select(apps.c.guid).where(apps.c.name_key.in_(names)))


def _their_apps(world: World, page: Sequence[Row[Any]]) -> list[Any]:
    found = rows.by_guids(world.tx, apps, [row.app_guid for row in page])
    return present(world, APPS, list(found.values()))


def their_instances(world: World, page: Sequence[Row[Any]]) -> list[Any]:
    """The instances of bindings, for `include`."""
    found = rows.by_guids(world.tx, service_instances, [row.service_instance_guid for row in page])
    return present(world, SERVICE_INSTANCES, list(found.values()))


BINDINGS = Resource(
    name="service_credential_binding",
    path="/v3/service_credential_bindings",
    table=_bindings,
    view=view,
    shape=ServiceCredentialBinding,
    visible=visible,
    parameter_order=[
        "names",
        "service_instance_guids",
        "service_instance_names",
        "service_plan_names",
        "service_plan_guids",
        "service_offering_names",
        "service_offering_guids",
        "app_guids",
        "app_names",
        "include",
    ],
    filters=[
        Filter("names", _bindings.c.name),
        Filter("service_instance_guids", _bindings.c.service_instance_guid),
        Filter("service_instance_names", lambda names: _of_instances(service_instances.c.name.in_(names))),
        Filter("service_plan_names", lambda names: _of_plans(service_plans.c.name_key.in_(names)), fold=True),
        Filter("service_plan_guids", lambda guids: _of_plans(service_plans.c.guid.in_(guids))),
        Filter(
            "service_offering_names",
            lambda names: _of_offerings(service_offerings.c.name_key.in_(names)),
            fold=True,
        ),
        Filter("service_offering_guids", lambda guids: _of_offerings(service_offerings.c.guid.in_(guids))),
        Filter("app_guids", _bindings.c.app_guid),
        Filter("app_names", _apps_named, fold=True),
        Filter("type", _bindings.c.type, choices=("app", "key")),
    ],
    order_by=["created_at", "updated_at", "name"],
    includes=[
        Include("app", "apps", _their_apps),
        Include("service_instance", "service_instances", their_instances),
    ],
    related={"managed": managed},
)


def create_binding(call: Call[None, None]) -> Row[Any] | Accepted:
    """Bind an app to a service instance, or make a key of one; by a job where a broker does it."""
    document = decode(call.raw_body)
    kind = Create.parse(document)
    message = CreateForApp.parse(document) if kind.type == "app" else CreateKey.parse(document)
    guid = kind.relationships.service_instance
    instance = rules.usable_instance(call.tx, call.actor, guid, message.given)
    if isinstance(message, CreateForApp):
        app = rules.usable_app(call.tx, call.actor, message.relationships.app)
        found = rules.create_app_binding(
            call.tx, call.settings, call.actor, instance, app, message.given, call.request_id
        )
        return Accepted(found) if isinstance(found, str) else found
    rights.require_in_space(call.tx, call.actor, instance.space_guid, rights.WRITE_IN_SPACE)
    return Accepted(rules.create_key(call.tx, call.actor, instance, message.given, call.request_id))


def space_of(tx: Tx, row: Row[Any]) -> str:
    """An app's binding belongs to the space of the app, a key to that of the instance."""
    table, guid = (apps, row.app_guid) if row.app_guid is not None else (service_instances, row.service_instance_guid)
    return str(tx.scalar(select(table.c.space_guid).where(table.c.guid == guid)))


def may_write(call: Call[Row[Any], Any]) -> None:
    """Developers."""
    rights.require_in_space(call.tx, call.actor, space_of(call.tx, call.row), rights.WRITE_IN_SPACE)


def may_unbind(call: Call[Row[Any], Any]) -> None:
    """Developers; supporters as well where an app is unbound."""
    allowed = rights.MANAGE_APPS if call.row.type == "app" else rights.WRITE_IN_SPACE
    rights.require_in_space(call.tx, call.actor, space_of(call.tx, call.row), allowed)


def update_binding(call: Call[Row[Any], MetadataOnly]) -> Row[Any]:
    """Relabel a binding."""
    kind = service_bindings.KINDS[call.row.type]
    return service_bindings.relabel(call.tx, call.actor, kind, call.row, call.body.given)


def delete_binding(call: Call[Row[Any], None]) -> Accepted | None:
    """Delete a binding; by a job where a broker has to know."""
    job = rules.delete(call.tx, call.actor, call.row, call.request_id)
    return None if job is None else Accepted(job)


def require_made(row: Row[Any], noun: str) -> None:
    """The binding was made and nobody is deleting it, or 404 that says how far it is."""
    if not last_operations.create_succeeded(row):
        what = "Creation" if row.operation_type == "create" else "Deletion"
        raise service_errors.not_found_with(f"{what} of {noun} {row.operation_state}")


def show_details(call: Call[Row[Any], None]) -> Reply:
    """What a binding gives: credentials, and a drain or volumes where there are some."""
    row, kind = call.row, service_bindings.KINDS[call.row.type]
    if not call.actor.reads_secrets and not rights.has_in_space(
        call.tx, call.actor, space_of(call.tx, row), rights.WRITE_IN_SPACE
    ):
        raise errors.not_found(BINDINGS.shown)
    require_made(row, kind.noun)
    request = {
        name: row._mapping[name] for name in ("app_guid", "service_instance_guid") if row._mapping[name] is not None
    }
    service_events.of_binding(call.tx, "show", call.actor, kind.event, row, request)
    return Reply(200, details_of(call.tx, row))


def details_of(tx: Tx, row: Row[Any]) -> dict[str, Any]:
    """The body of the details of a binding."""
    columns = _bindings.c
    found = {
        "credentials": sealed.opened(tx, columns.credentials, row.credentials, {}),
        "syslog_drain_url": sealed.opened(tx, columns.syslog_drain_url, row.syslog_drain_url),
        "volume_mounts": sealed.opened(tx, columns.volume_mounts, row.volume_mounts),
    }
    return {name: value for name, value in found.items() if value not in (None, [])}


async def show_parameters(call: StreamCall) -> Response:
    """The parameters of a binding, as its broker has them."""

    def find(tx: Tx) -> BindingFacts:
        row = outside.target(call, tx, BINDINGS)
        kind = service_bindings.KINDS[row.type]
        require_made(row, kind.noun)
        facts = of_binding(tx, kind, row.guid)
        if facts is None or not facts.offer.bindings_retrievable:
            raise service_errors.no_binding_parameters()
        return facts

    facts = await call.read(find)
    async with outside.slot(call, facts.broker.guid) as client:
        found = await client.fetch_binding(
            facts.broker, outside.caller(call), facts.instance.guid, facts.binding.guid, facts.offer.requires
        )
    return json_response(200, found.parameters)


_ONE = BINDINGS.path + "/{guid}"

OPERATIONS: list[Operation] = [
    list_(BINDINGS),
    show(BINDINGS, query_status=400),
    Operation(
        "POST",
        BINDINGS.path,
        create_binding,
        returns=BINDINGS,
        bodies=(CreateForApp, CreateKey),
        status=201,
        job=True,
    ),
    update(BINDINGS, MetadataOnly, update_binding, allow=may_write),
    delete(BINDINGS, delete_binding, allow=may_unbind, status=204),
    Operation("GET", _ONE + "/details", show_details, target=BINDINGS, shape=Details, writes=True),
    Operation("GET", _ONE + "/parameters", stream=show_parameters),
]
