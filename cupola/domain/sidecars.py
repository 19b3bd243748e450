"""Sidecars: extra processes in an app's containers, by name unique in the app."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Text, cast, literal, select

from cupola import errors
from cupola.store import rows
from cupola.store.apps import processes, sidecars
from cupola.store.database import Tx

__all__ = ["names_type", "of_app", "put"]


def of_app(tx: Tx, app_guid: str) -> list[Row[Any]]:
    """An app's sidecars, oldest first."""
    return list(tx.all(select(sidecars).where(sidecars.c.app_guid == app_guid).order_by(sidecars.c.id)))


def put(
    tx: Tx, app: Row[Any], name: str, command: str, process_types: Sequence[str], memory_mb: int | None
) -> Row[Any]:
    """Make the app's sidecar of this name be so. Takes effect at the next start. Raises 422."""
    existing = next((row for row in of_app(tx, app.guid) if row.name == name), None)
    _require_room(tx, app, process_types, memory_mb, but=name)
    values = {"command": command, "process_types": list(process_types), "memory_mb": memory_mb}
    if existing is not None:
        return rows.change(tx, sidecars, existing, {**values, "origin": "user"})
    return rows.add(tx, sidecars, {"app_guid": app.guid, "name": name, "origin": "user", **values})


def names_type(type_: Any) -> ColumnElement[bool]:
    """Condition on the sidecars table: `process_types` (a JSON list of names) has `type_`, an SQL expression."""
    listed = cast(sidecars.c.process_types, Text)
    found: ColumnElement[bool] = listed.like(literal('%"') + type_ + literal('"%'))
    return found


def _require_room(tx: Tx, app: Row[Any], types: Sequence[str], memory_mb: int | None, but: str) -> None:
    others = [row for row in of_app(tx, app.guid) if row.name != but]
    found = tx.all(select(processes).where(processes.c.app_guid == app.guid, processes.c.type.in_(list(types))))
    for process in found:
        used = sum(row.memory_mb or 0 for row in others if process.type in row.process_types)
        if memory_mb and used + memory_mb >= process.memory_mb:
            raise errors.unprocessable(
                f'The memory allocation defined is too large to run with the dependent "{process.type}" process'
            )
