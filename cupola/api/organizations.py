"""Organizations."""

from typing import Any, TypedDict

from sqlalchemy import Row

from cupola.api import access
from cupola.domain import access as rules_of_access
from cupola.domain import locks, visibility
from cupola.domain import organizations as rules
from cupola.domain.deletion_lanes import lane_of
from cupola.rest.message import Message, boolean, metadata, string
from cupola.rest.operation import Accepted, Call, Operation, create, delete, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of, to_one
from cupola.rest.resource import Filter, Resource, World
from cupola.store import jobs
from cupola.store.orgs import organizations

__all__ = ["OPERATIONS", "ORGANIZATIONS", "printable"]


def printable(value: str) -> list[str]:
    """Names of organizations, spaces and apps take any printable character (behaviours.md section 5)."""
    if value and not value.strip():
        return ["can't be blank"]
    return [] if value.isprintable() else ["must not contain escaped characters"]


class Create(Message):
    """A new organization."""

    name = string(required=True, max_length=255, blank="can't be blank", checks=[printable])
    suspended = boolean(nullable=True)
    metadata = metadata()


class Update(Message):
    """Name, suspension, metadata."""

    name = string(min_length=1, max_length=255, checks=[printable])
    suspended = boolean(nullable=True)
    metadata = metadata()


class Organization(TypedDict):
    """An organization as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    name: str
    suspended: bool
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/organizations/{row.guid}"
    return {
        **common(row),
        "name": row.name,
        "suspended": row.suspended,
        "relationships": {"quota": to_one(row.quota_guid)},
        "metadata": metadata_of(row),
        "links": {
            "self": world.link(path),
            "domains": world.link(path + "/domains"),
            "default_domain": world.link(path + "/domains/default"),
            "quota": world.link(f"/v3/organization_quotas/{row.quota_guid}"),
        },
    }


ORGANIZATIONS = Resource(
    name="organization",
    path="/v3/organizations",
    table=organizations,
    view=view,
    shape=Organization,
    visible=visibility.organizations,
    filters=[Filter("names", organizations.c.name_key, fold=True)],
    order_by=["created_at", "updated_at", "name"],
)


def managed(call: Call[Row[Any], Any]) -> None:
    """Organization managers and admins."""
    rules_of_access.require_in_org(call.tx, call.actor, call.row.guid, ("organization_manager",))


def create_organization(call: Call[None, Create]) -> Row[Any]:
    """Create an organization."""
    return rules.create(call.tx, call.actor, call.body.given)


def update_organization(call: Call[Row[Any], Update]) -> Row[Any]:
    """Rename, suspend or relabel an organization."""
    return rules.update(call.tx, call.actor, call.row, call.body.given)


def delete_organization(call: Call[Row[Any], None]) -> Accepted:
    """Delete an organization and everything in it."""
    locks.require_organization_unlocked(call.tx, call.row)
    return Accepted(
        jobs.enqueue(
            call.tx,
            "organization.delete",
            {"guid": call.row.guid, "request_id": call.request_id},
            actor=call.actor,
            lane=lane_of(call.tx, "organization.delete", call.row.guid),
            resource_guid=call.row.guid,
            resource_type="organizations",
        )
    )


OPERATIONS: list[Operation] = [
    list_(ORGANIZATIONS),
    show(ORGANIZATIONS),
    create(ORGANIZATIONS, Create, create_organization),
    update(ORGANIZATIONS, Update, update_organization, allow=managed),
    delete(ORGANIZATIONS, delete_organization, allow=access.ADMIN),
]
