"""Organizations: names unique in any case, a quota from the start, the creator as its manager."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, insert, select

from cupola import errors, guid
from cupola.domain import audit, feature_flags
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.orgs import organization_quotas, organizations, roles, users

__all__ = ["DEFAULT_QUOTA", "create", "update"]

DEFAULT_QUOTA = "default"
"""Name of the organization quota that new organizations get."""


def create(tx: Tx, actor: Actor, body: Mapping[str, Any]) -> Row[Any]:
    """Add an organization with the default quota. Raises 403 unless admin or flag user_org_creation; 422 for a taken name."""
    if not actor.is_admin:
        if not feature_flags.is_enabled(tx, "user_org_creation"):
            raise errors.not_authorized()
        if body.get("suspended"):
            raise errors.not_authorized()
    name = body["name"].strip()
    if tx.scalar(select(organizations.c.guid).where(organizations.c.name_key == name.lower())):
        raise errors.unprocessable(f"Organization '{name}' already exists.")
    quota = tx.scalar(select(organization_quotas.c.guid).where(organization_quotas.c.name_key == DEFAULT_QUOTA))
    if quota is None:
        raise CloudError(
            30001,
            "CF-OrganizationInvalid",
            400,
            "The organization info is invalid: Quota Definition could not be found: "
            f"{DEFAULT_QUOTA}. Create an organization quota of that name, or rename one to it.",
        )
    values = {
        "name": name,
        "name_key": name.lower(),
        "suspended": bool(body.get("suspended")),
        "deleting": False,
        "quota_guid": quota,
    }
    row = rows.add(tx, organizations, values, body.get("metadata"))
    audit.record(
        tx,
        "audit.organization.create",
        actor,
        row.guid,
        "organization",
        name,
        {"request": dict(body)},
        organization_guid=row.guid,
    )
    if not actor.is_admin:
        _give_to_creator(tx, actor, row, body)
    return row


def _give_to_creator(tx: Tx, actor: Actor, organization: Row[Any], body: Mapping[str, Any]) -> None:
    if tx.scalar(select(users.c.guid).where(users.c.guid == actor.guid)) is None:
        rows.add(tx, users, {"guid": actor.guid, "is_client": actor.is_client})
    for type_ in ("organization_user", "organization_manager"):
        tx.run(
            insert(roles).values(
                guid=guid.new(),
                created_at=tx.now,
                updated_at=tx.now,
                type=type_,
                user_guid=actor.guid,
                organization_guid=organization.guid,
                target_guid=organization.guid,
            )
        )
        audit.record(
            tx,
            f"audit.user.{type_}_add",
            actor,
            actor.guid,
            "user",
            actor.name,
            {"request": dict(body)},
            organization_guid=organization.guid,
        )


def update(tx: Tx, actor: Actor, row: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Rename, suspend (admins only) or relabel. Raises 403, 422."""
    values: dict[str, Any] = {}
    if "suspended" in body:
        # Managers send what is so already: `cf rename-org` repeats the whole organization.
        if body["suspended"] and not actor.is_admin:
            raise errors.not_authorized()
        if row.deleting:
            raise errors.unprocessable(f"Organization '{row.name}' is being deleted and cannot be updated.")
        values["suspended"] = bool(body["suspended"])
    if "name" in body:
        name = body["name"].strip()
        taken = tx.scalar(
            select(organizations.c.guid).where(
                organizations.c.name_key == name.lower(), organizations.c.guid != row.guid
            )
        )
        if taken:
            raise errors.unprocessable(f"Organization name '{name}' is already taken.")
        values |= {"name": name, "name_key": name.lower()}
    changed = rows.change(tx, organizations, row, values, body.get("metadata"))
    audit.record(
        tx,
        "audit.organization.update",
        actor,
        row.guid,
        "organization",
        changed.name,
        {"request": dict(body)},
        organization_guid=row.guid,
    )
    return changed
