"""Stacks: unique by their exact name, deleted only when no app names them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, func, select

from cupola import errors
from cupola.domain import audit
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.platform import stacks

__all__ = ["create", "delete", "update"]


def create(tx: Tx, actor: Actor, body: Mapping[str, Any]) -> Row[Any]:
    """Add a stack. Raises 422 when the name is taken."""
    if tx.scalar(select(stacks.c.guid).where(stacks.c.name == body["name"])):
        raise errors.unprocessable("Name must be unique")
    values = {
        "name": body["name"],
        "description": body.get("description"),
        "state": body.get("state", "ACTIVE"),
        "state_reason": body.get("state_reason"),
    }
    row = rows.add(tx, stacks, values, body.get("metadata"))
    audit.record(tx, "audit.stack.create", actor, row.guid, "stack", row.name, {"request": dict(body)})
    return row


def update(tx: Tx, actor: Actor, row: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Change state, reason and metadata."""
    values = {name: body[name] for name in ("state", "state_reason") if name in body}
    changed = rows.change(tx, stacks, row, values, body.get("metadata"))
    audit.record(tx, "audit.stack.update", actor, row.guid, "stack", row.name, {"request": dict(body)})
    return changed


def delete(tx: Tx, actor: Actor, row: Row[Any]) -> None:
    """Remove the stack. Raises 422 while apps use it."""
    if tx.scalar(select(func.count()).select_from(apps).where(apps.c.stack == row.name)):
        raise errors.unprocessable(f"Cannot delete stack '{row.name}' because apps are currently using the stack.")
    rows.remove(tx, stacks, [row.guid])
    audit.record(tx, "audit.stack.delete", actor, row.guid, "stack", row.name, {})
