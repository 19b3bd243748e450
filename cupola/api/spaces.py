"""Spaces."""

from collections.abc import Sequence
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row

from cupola.api import access
from cupola.api.organizations import ORGANIZATIONS, printable
from cupola.domain import locks, visibility
from cupola.domain import spaces as rules
from cupola.domain.deletion_lanes import lane_of
from cupola.rest.message import Message, boolean, metadata, nested, string, to_one
from cupola.rest.operation import Accepted, Call, Operation, create, delete, list_, present, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Include, Resource, World
from cupola.roles import Actor
from cupola.store import jobs, rows
from cupola.store.orgs import organizations, spaces

__all__ = ["OPERATIONS", "SPACES"]


class _Relationships(Message):
    organization = to_one(required=True)


class Create(Message):
    """A new space."""

    relationships = nested(_Relationships, required=True)
    name = string(required=True, max_length=255, blank="can't be blank", checks=[printable])
    suspended = boolean(nullable=True)
    metadata = metadata()


class Update(Message):
    """Name, suspension, metadata."""

    name = string(min_length=1, max_length=255, checks=[printable])
    suspended = boolean(nullable=True)
    metadata = metadata()


class Space(TypedDict):
    """A space as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    name: str
    suspended: bool
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/spaces/{row.guid}"
    links = {
        "self": world.link(path),
        "organization": world.link(f"/v3/organizations/{row.organization_guid}"),
        "features": world.link(path + "/features"),
        "apply_manifest": world.link(path + "/actions/apply_manifest", "POST"),
    }
    if row.quota_guid:
        links["quota"] = world.link(f"/v3/space_quotas/{row.quota_guid}")
    return {
        **common(row),
        "name": row.name,
        "suspended": row.suspended,
        "relationships": {"organization": one(row.organization_guid), "quota": one(row.quota_guid)},
        "metadata": metadata_of(row),
        "links": links,
    }


def visible(actor: Actor) -> ColumnElement[bool] | None:
    return None if actor.reads_everything else spaces.c.guid.in_(visibility.readable_spaces())


def their_organizations(world: World, page: Sequence[Row[Any]]) -> list[Any]:
    """The organizations of spaces, for `include`."""
    found = rows.by_guids(world.tx, organizations, [row.organization_guid for row in page])
    return present(world, ORGANIZATIONS, list(found.values()))


SPACES = Resource(
    name="space",
    path="/v3/spaces",
    table=spaces,
    view=view,
    shape=Space,
    visible=visible,
    filters=[
        Filter("names", spaces.c.name_key, fold=True),
        Filter("organization_guids", spaces.c.organization_guid),
    ],
    order_by=["created_at", "updated_at", "name"],
    includes=[
        Include("org", "organizations", their_organizations),
        Include("organization", "organizations", their_organizations),
    ],
)


def create_space(call: Call[None, Create]) -> Row[Any]:
    """Create a space in an organization."""
    return rules.create(call.tx, call.actor, call.body.name, call.body.relationships.organization, call.body.given)


def update_space(call: Call[Row[Any], Update]) -> Row[Any]:
    """Rename, suspend or relabel a space."""
    return rules.update(call.tx, call.actor, call.row, call.body.given)


def delete_space(call: Call[Row[Any], None]) -> Accepted:
    """Delete a space and everything in it."""
    locks.require_space_unlocked(call.tx, call.row)
    guid = jobs.enqueue(
        call.tx,
        "space.delete",
        {"guid": call.row.guid, "request_id": call.request_id},
        actor=call.actor,
        lane=lane_of(call.tx, "space.delete", call.row.guid),
        resource_guid=call.row.guid,
        resource_type="spaces",
    )
    return Accepted(guid)


OPERATIONS: list[Operation] = [
    list_(SPACES),
    show(SPACES, query_status=400),
    create(SPACES, Create, create_space),
    update(SPACES, Update, update_space, allow=access.in_space("organization_manager", "space_manager")),
    delete(SPACES, delete_space, allow=access.in_space("organization_manager")),
]
