"""Environment variable groups: variables that every app has while it runs, or while it is staged."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Row, delete, insert, select

from cupola import errors
from cupola.store import sealed
from cupola.store.database import Tx
from cupola.store.platform import environment_variable_groups as table

__all__ = ["NAMES", "find", "update", "variables"]

NAMES = ("running", "staging")
MAX_BYTES = 1024 * 1024
"""Of a group's JSON."""


def find(tx: Tx, name: str) -> Row[Any] | None:
    """The group's row; None until somebody sets a variable."""
    return tx.one(select(table).where(table.c.name == name))


def variables(tx: Tx, name: str) -> dict[str, str]:
    """The variables of the group."""
    row = find(tx, name)
    found: dict[str, str] = {} if row is None else sealed.opened(tx, table.c.variables, row.variables, {})
    return found


def update(tx: Tx, name: str, change: Mapping[str, str | None]) -> dict[str, str]:
    """Merge `change` into the group, null removes. Raises 422 when the group would be too large."""
    merged = variables(tx, name)
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    if len(msgspec.json.encode(merged)) > MAX_BYTES:
        raise errors.unprocessable(
            "Environment variable group is too large. Specify fewer variables or reduce key/value lengths."
        )
    tx.run(delete(table).where(table.c.name == name))
    values = {"name": name, "variables": sealed.seal(tx, table.c.variables, merged), "updated_at": tx.now}
    tx.run(insert(table).values(values))
    return merged
