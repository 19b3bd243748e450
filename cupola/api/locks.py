"""Locks: what keeps an app from being deleted."""

from typing import Any, TypedDict

from sqlalchemy import Row, select

from cupola.api import access
from cupola.domain import locks as rules
from cupola.domain import visibility
from cupola.rest.message import Message, metadata, nested, string, to_one
from cupola.rest.operation import Accepted, Call, Operation, create, delete, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Resource, World
from cupola.store import jobs
from cupola.store.apps import apps
from cupola.store.locks import locks
from cupola.store.orgs import spaces

__all__ = ["LOCKS", "OPERATIONS"]


class _Relationships(Message):
    app = to_one(required=True)


class Create(Message):
    """A new lock on an app."""

    title = string(required=True, min_length=1, max_length=250)
    detail = string(required=True, max_length=10_000)
    relationships = nested(_Relationships, required=True)
    metadata = metadata()


class Update(Message):
    """Detail and metadata."""

    detail = string(max_length=10_000)
    metadata = metadata()


class Lock(TypedDict):
    """A lock as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    title: str
    detail: str
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    return {
        **common(row),
        "title": row.title,
        "detail": row.detail,
        "relationships": {"app": one(row.app_guid)},
        "metadata": metadata_of(row),
        "links": {"self": world.link(f"/v3/locks/{row.guid}"), "app": world.link(f"/v3/apps/{row.app_guid}")},
    }


def _in_spaces(condition: Any) -> Any:
    return locks.c.app_guid.in_(select(apps.c.guid).where(condition))


LOCKS = Resource(
    name="lock",
    path="/v3/locks",
    table=locks,
    view=view,
    shape=Lock,
    visible=visibility.by_app(locks.c.app_guid),
    filters=[
        Filter("app_guids", locks.c.app_guid),
        Filter("space_guids", lambda guids: _in_spaces(apps.c.space_guid.in_(guids))),
        Filter(
            "organization_guids",
            lambda guids: _in_spaces(
                apps.c.space_guid.in_(select(spaces.c.guid).where(spaces.c.organization_guid.in_(guids)))
            ),
        ),
    ],
    order_by=["created_at", "updated_at", "title"],
)


def create_lock(call: Call[None, Create]) -> Row[Any]:
    """Protect an app from deletion."""
    return rules.create(call.tx, call.actor, call.body.relationships.app, call.body.given)


def update_lock(call: Call[Row[Any], Update]) -> Row[Any]:
    """Change the detail of a lock, or relabel it."""
    return rules.update(call.tx, call.actor, call.row, call.body.given)


def delete_lock(call: Call[Row[Any], None]) -> Accepted:
    """Delete a lock; without its last lock an app may be deleted."""
    rules.remove(call.tx, call.actor, call.row)
    guid = jobs.completed(call.tx, "lock.delete", actor=call.actor, resource_guid=call.row.guid, resource_type="locks")
    return Accepted(guid)


_WRITE = access.in_space_of_app(*access.DEVELOPER)

OPERATIONS: list[Operation] = [
    list_(LOCKS),
    show(LOCKS),
    create(LOCKS, Create, create_lock),
    update(LOCKS, Update, update_lock, allow=_WRITE),
    delete(LOCKS, delete_lock, allow=_WRITE),
]
