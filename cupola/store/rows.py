"""The few statements that every resource needs: add a row, change it, find it by guid, with its labels."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Row, Table, bindparam, delete, insert, select, update

from cupola import guid
from cupola.store import labels as label_rules
from cupola.store.database import Tx
from cupola.store.prepared import Prepared

__all__ = ["add", "by_guid", "by_guids", "change", "remove"]


def add(tx: Tx, table: Table, values: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> Row[Any]:
    """Insert a resource; guid and times are made here unless given. `metadata` as in a request body."""
    complete = {"guid": guid.new(), "created_at": tx.now, "updated_at": tx.now, **values}
    labels: dict[str, str] = {}
    if metadata:
        labels, annotations = label_rules.merged(metadata)
        complete["labels"] = msgspec.json.encode(labels).decode()
        complete["annotations"] = msgspec.json.encode(annotations).decode()
    row = tx.one(insert(table).values(complete).returning(table))
    assert row is not None
    if labels:
        label_rules.reindex(tx, table.name, complete["guid"], labels)
    return row


def change(
    tx: Tx, table: Table, row: Row[Any], values: Mapping[str, Any], metadata: Mapping[str, Any] | None = None
) -> Row[Any]:
    """Update a resource's row and return it as it is now; `updated_at` moves, also when nothing else does."""
    complete: dict[str, Any] = {"updated_at": tx.now, **values}
    if metadata:
        labels, annotations = label_rules.merged(metadata, row.labels, row.annotations)
        complete["labels"] = msgspec.json.encode(labels).decode()
        complete["annotations"] = msgspec.json.encode(annotations).decode()
        label_rules.reindex(tx, table.name, row.guid, labels)
    changed = tx.one(update(table).where(table.c.guid == row.guid).values(complete).returning(table))
    assert changed is not None, f"{table.name} {row.guid} vanished within its transaction"
    return changed


@cache
def _of_one(table: Table) -> Prepared:
    return Prepared(select(table).where(table.c.guid == bindparam("guid")), one_plan=True)


@cache
def _of_many(table: Table) -> Prepared:
    return Prepared(select(table).where(table.c.guid.in_(bindparam("guids", expanding=True))))


def by_guid(tx: Tx, table: Table, wanted: str | None) -> Row[Any] | None:
    """The row with this guid, or None."""
    return None if wanted is None else tx.one(_of_one(table), {"guid": wanted})


def by_guids(tx: Tx, table: Table, wanted: Sequence[str]) -> dict[str, Row[Any]]:
    """The rows with these guids, by guid; unknown ones are left out. One statement."""
    distinct = sorted({one for one in wanted if one})
    if not distinct:
        return {}
    return {row.guid: row for row in tx.all(_of_many(table), {"guids": distinct})}


def remove(tx: Tx, table: Table, guids: Sequence[str]) -> None:
    """Delete rows and what the label index knows of them."""
    if guids:
        tx.run(delete(table).where(table.c.guid.in_(list(guids))))
        if "labels" in table.c:
            label_rules.forget(tx, table.name, guids)
