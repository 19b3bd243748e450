"""Audit events: who did what, for those who may audit the place. Admins may add events of their own."""

from collections.abc import Iterator
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, or_, select

from cupola import errors
from cupola.api import access
from cupola.clock import format_api
from cupola.domain import audit, visibility
from cupola.rest.message import Message, anything, object_, string
from cupola.rest.operation import Call, Operation, create, list_, show
from cupola.rest.present import Links
from cupola.rest.resource import Filter, Resource, World
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.orgs import organizations, spaces
from cupola.store.platform import audit_events

__all__ = ["OPERATIONS"]


_PREFIX = "custom."
_PARTY = {"type": "object", "properties": {name: {"type": "string"} for name in ("guid", "type", "name")}}
_PLACE = {"type": "object", "properties": {"guid": {"type": "string"}}, "required": ["guid"]}


def _own_type(value: str) -> list[str]:
    return [] if value.startswith(_PREFIX) else [f"must start with '{_PREFIX}': other events are the platform's own"]


def _party_problems(label: str, value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{label} must be an object"
        return
    unknown = [name for name in value if name not in {"guid", "type", "name"}]
    if unknown:
        yield f"{label} Unknown field(s): " + ", ".join(f"'{name}'" for name in unknown)
    for name in ("guid", "type", "name"):
        text = value.get(name)
        if text is not None and (not isinstance(text, str) or len(text) > 255):
            yield f"{label} {name} must be a string of at most 255 characters"


def _place_problems(label: str, value: Any) -> Iterator[str]:
    if not isinstance(value, dict) or not isinstance(value.get("guid"), str):
        yield f'{label} must be structured like this: "{label.lower()}: {{"guid": "valid-guid"}}"'


def _metadata_problems(value: Any) -> Iterator[str]:
    if value not in ({}, {"labels": {}, "annotations": {}}, {"labels": {}}, {"annotations": {}}):
        yield "Metadata of audit events is not kept: put it into data"


class Create(Message):
    """An event of an admin's own making; the actor is who asks."""

    type = string(required=True, max_length=255, checks=[_own_type])
    actor = anything(lambda value: _party_problems("Actor", value), _PARTY)
    target = anything(lambda value: _party_problems("Target", value), _PARTY)
    data = object_(nullable=True)
    space = anything(lambda value: _place_problems("Space", value), _PLACE)
    organization = anything(lambda value: _place_problems("Organization", value), _PLACE)
    metadata = anything(_metadata_problems, {"type": "object"})


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
        Filter("entity_type", audit_events.c.target_type, quiet=True),
    ],
    aliases={"type": "types"},
    order_columns={"updated_at": "created_at"},
    labels=False,
)


def create_event(call: Call[None, Create]) -> Row[Any]:
    """Record an event of one's own, such as what a tool outside the platform did."""
    actor = (call.body.actor or {}).get("guid")
    if actor not in {None, call.actor.guid}:
        raise errors.unprocessable("Actor must be the caller: leave it out")
    space_guid, organization_guid = _places(call)
    target = call.body.target or {}
    guid = audit.record(
        call.tx,
        call.body.type,
        call.actor,
        target.get("guid") or space_guid or organization_guid or "",
        target.get("type") or ("space" if space_guid else "organization" if organization_guid else "platform"),
        target.get("name"),
        call.body.data,
        space_guid=space_guid,
        organization_guid=organization_guid,
    )
    row = call.tx.one(select(audit_events).where(audit_events.c.guid == guid))
    assert row is not None
    return row


def _places(call: Call[None, Create]) -> tuple[str | None, str | None]:
    organization_guid = (call.body.organization or {}).get("guid")
    if organization_guid is not None and rows.by_guid(call.tx, organizations, organization_guid) is None:
        raise errors.unprocessable(
            "Invalid organization. Ensure that the organization exists and you have access to it."
        )
    space_guid = (call.body.space or {}).get("guid")
    if space_guid is None:
        return None, organization_guid
    space = rows.by_guid(call.tx, spaces, space_guid)
    if space is None or organization_guid not in {None, space.organization_guid}:
        raise errors.unprocessable("Invalid space. Ensure that the space exists and you have access to it.")
    return space_guid, space.organization_guid


OPERATIONS: list[Operation] = [
    list_(AUDIT_EVENTS),
    show(AUDIT_EVENTS),
    create(AUDIT_EVENTS, Create, create_event, allow=access.ADMIN),
]
