"""Spaces: names unique within their organization in any case."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select

from cupola import errors
from cupola.domain import access, audit
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.orgs import organizations, spaces

__all__ = ["create", "update"]


def create(tx: Tx, actor: Actor, name: str, organization_guid: str, body: Mapping[str, Any]) -> Row[Any]:
    """Add a space. Raises 422 when the organization cannot be seen or has a space of that name, 403 without the role."""
    organization = rows.by_guid(tx, organizations, organization_guid)
    hidden = not actor.reads_everything and not access.roles_in_org(tx, actor, organization_guid)
    if organization is None or hidden:
        raise errors.unprocessable("Invalid organization. Ensure the organization exists and you have access to it.")
    access.require_in_org(tx, actor, organization_guid, ("organization_manager",))
    name = name.strip()
    taken = select(spaces.c.guid).where(
        spaces.c.organization_guid == organization_guid, spaces.c.name_key == name.lower()
    )
    if tx.scalar(taken):
        raise errors.unprocessable("Name must be unique per organization")
    values = {
        "name": name,
        "name_key": name.lower(),
        "suspended": bool(body.get("suspended")),
        "deleting": False,
        "ssh_enabled": True,
        "organization_guid": organization_guid,
    }
    row = rows.add(tx, spaces, values, body.get("metadata"))
    audit.record(
        tx,
        "audit.space.create",
        actor,
        row.guid,
        "space",
        name,
        {"request": dict(body)},
        space_guid=row.guid,
        organization_guid=organization_guid,
    )
    return row


def update(tx: Tx, actor: Actor, row: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Rename, suspend (admin or organization manager) or relabel. Raises 403, 422."""
    values: dict[str, Any] = {}
    if "suspended" in body:
        if not access.has_in_space(tx, actor, row.guid, ("organization_manager",)):
            raise errors.not_authorized()
        if row.deleting:
            raise errors.unprocessable(f"Space '{row.name}' is being deleted and cannot be updated.")
        values["suspended"] = bool(body["suspended"])
    if "name" in body:
        name = body["name"].strip()
        taken = select(spaces.c.guid).where(
            spaces.c.organization_guid == row.organization_guid,
            spaces.c.name_key == name.lower(),
            spaces.c.guid != row.guid,
        )
        if tx.scalar(taken):
            organization = rows.by_guid(tx, organizations, row.organization_guid)
            shown = organization.name if organization else row.organization_guid
            raise errors.unprocessable(f"Organization '{shown}' already contains a space with name '{name}'.")
        values |= {"name": name, "name_key": name.lower()}
    changed = rows.change(tx, spaces, row, values, body.get("metadata"))
    audit.record(
        tx,
        "audit.space.update",
        actor,
        row.guid,
        "space",
        changed.name,
        {"request": dict(body)},
        space_guid=row.guid,
        organization_guid=row.organization_guid,
    )
    return changed
