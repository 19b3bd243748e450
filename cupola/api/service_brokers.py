"""Service brokers: where services come from."""

from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row

from cupola.domain import service_brokers as rules
from cupola.domain import visibility
from cupola.rest.message import Message, metadata, nested, string, to_one
from cupola.rest.operation import Accepted, Call, Operation, Reply, delete, list_, show
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Resource, World
from cupola.roles import Actor
from cupola.store.service_brokers import service_brokers

__all__ = ["OPERATIONS", "SERVICE_BROKERS"]


class _Credentials(Message):
    username = string(required=True, min_length=1, max_length=1000)
    password = string(required=True, min_length=1, max_length=1000)


class _Authentication(Message):
    type = string(required=True, one_of=("basic",))
    credentials = nested(_Credentials, required=True)


class _Relationships(Message):
    space = to_one()


class Create(Message):
    """A broker, for everybody or (with a space) for one space."""

    name = string(required=True, min_length=1, max_length=255)
    url = string(required=True, min_length=1, max_length=2000, checks=[rules.url_problems])
    authentication = nested(_Authentication, required=True)
    relationships = nested(_Relationships)
    metadata = metadata()


class Update(Message):
    """Name, url, credentials, metadata."""

    name = string(min_length=1, max_length=255)
    url = string(min_length=1, max_length=2000, checks=[rules.url_problems])
    authentication = nested(_Authentication)
    metadata = metadata()


class ServiceBroker(TypedDict):
    """A service broker as the API shows it: without credentials."""

    guid: str
    created_at: str
    updated_at: str
    name: str
    url: str
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    links = {
        "self": world.link(f"/v3/service_brokers/{row.guid}"),
        "service_offerings": world.link(f"/v3/service_offerings?service_broker_guids={row.guid}"),
    }
    if row.space_guid:
        links["space"] = world.link(f"/v3/spaces/{row.space_guid}")
    return {
        **common(row),
        "name": row.name,
        "url": row.url,
        "relationships": {"space": one(row.space_guid)} if row.space_guid else {},
        "metadata": metadata_of(row),
        "links": links,
    }


def visible(actor: Actor) -> ColumnElement[bool] | None:
    """Developers and supporters see the brokers of their spaces; those for everybody are the admins' business."""
    if actor.reads_everything:
        return None
    return service_brokers.c.space_guid.in_(visibility.spaces_with_role("space_developer", "space_supporter"))


SERVICE_BROKERS = Resource(
    name="service_broker",
    path="/v3/service_brokers",
    table=service_brokers,
    view=view,
    shape=ServiceBroker,
    visible=visible,
    filters=[
        Filter("space_guids", service_brokers.c.space_guid),
        Filter("names", service_brokers.c.name),
    ],
    order_by=["created_at", "updated_at", "name"],
)


def writable(call: Call[Row[Any], Any]) -> None:
    """Admins; developers of the space of a space-scoped broker."""
    rules.require_writable(call.tx, call.actor, call.row)


def create_broker(call: Call[None, Create]) -> Accepted:
    """Register a service broker; its catalog is fetched by the job."""
    _, job = rules.create(call.tx, call.actor, call.body.given, call.request_id)
    return Accepted(job)


def update_broker(call: Call[Row[Any], Update]) -> Reply | Accepted:
    """Change a service broker: at once where only metadata changes, else by a job that fetches its catalog."""
    changed, job = rules.request_update(call.tx, call.actor, call.row, call.body.given, call.request_id)
    return Reply(200, call.present(SERVICE_BROKERS, changed)) if job is None else Accepted(job)


def delete_broker(call: Call[Row[Any], None]) -> Accepted:
    """Delete a service broker with its offerings and plans; it must have no instances."""
    return Accepted(rules.request_deletion(call.tx, call.actor, call.row, call.request_id))


_ONE = SERVICE_BROKERS.path + "/{guid}"

OPERATIONS: list[Operation] = [
    list_(SERVICE_BROKERS),
    show(SERVICE_BROKERS),
    Operation("POST", SERVICE_BROKERS.path, create_broker, body=Create, status=202, job=True),
    Operation(
        "PATCH",
        _ONE,
        update_broker,
        body=Update,
        target=SERVICE_BROKERS,
        returns=SERVICE_BROKERS,
        allow=writable,
        job=True,
    ),
    delete(SERVICE_BROKERS, delete_broker, allow=writable),
]
