"""Audit events: who did what, for those who may audit the place."""

from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, or_

from cupola.clock import format_api
from cupola.domain import visibility
from cupola.rest.operation import Operation, list_, show
from cupola.rest.present import Links
from cupola.rest.resource import Filter, Resource, World
from cupola.roles import Actor
from cupola.store.platform import audit_events

__all__ = ["OPERATIONS"]


class AuditEvent(TypedDict):
    """An audit event as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    type: str
    actor: dict[str, Any]
    target: dict[str, Any]
    data: dict[str, Any]
    space: dict[str, Any] | None
    organization: dict[str, Any] | None
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    at = format_api(row.created_at)
    return {
        "guid": row.guid,
        "created_at": at,
        "updated_at": at,
        "type": row.type,
        "actor": {"guid": row.actor_guid, "type": row.actor_type, "name": row.actor_name},
        "target": {"guid": row.target_guid, "type": row.target_type, "name": row.target_name},
        "data": row.data,
        "space": {"guid": row.space_guid} if row.space_guid else None,
        "organization": {"guid": row.organization_guid} if row.organization_guid else None,
        "links": {"self": world.link(f"/v3/audit_events/{row.guid}")},
    }


def visible(actor: Actor) -> ColumnElement[bool] | None:
    if actor.reads_everything:
        return None
    in_spaces = visibility.spaces_with_role("space_auditor", "space_developer", "space_supporter")
    return or_(
        audit_events.c.space_guid.in_(in_spaces),
        audit_events.c.organization_guid.in_(visibility.managed_orgs("organization_auditor")),
    )


AUDIT_EVENTS = Resource(
    name="audit_event",
    path="/v3/audit_events",
    title="Event",
    table=audit_events,
    view=view,
    shape=AuditEvent,
    visible=visible,
    filters=[
        Filter("types", audit_events.c.type),
        Filter("target_guids", audit_events.c.target_guid, excludes=True),
        Filter("space_guids", audit_events.c.space_guid),
        Filter("organization_guids", audit_events.c.organization_guid),
    ],
    order_columns={"updated_at": "created_at"},
    labels=False,
)

OPERATIONS: list[Operation] = [list_(AUDIT_EVENTS), show(AUDIT_EVENTS)]
