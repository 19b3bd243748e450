"""Sealed values under the newest key: rows are found by the form of what is sealed, batch by batch, so it may be killed.

Every text column is looked at, so none can be forgotten; a text that only looks sealed does not open and stays as it is.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Row,
    Table,
    Text,
    and_,
    func,
    not_,
    or_,
    select,
    tuple_,
    type_coerce,
    update,
)

from cupola import clock
from cupola.secrets.vault import Vault, VaultProblem
from cupola.store.database import Database, Tx
from cupola.store.tables import metadata

__all__ = ["KEEP_SECONDS", "NESTED", "Progress", "finish_rotation", "leftovers", "reseal"]

KEEP_SECONDS = 86_400.0
"""For which a key that was replaced is kept at least: a job may still hold what it sealed."""
_BATCH = 200
"""Rows of one transaction: writers of SQLite wait for no longer than some milliseconds."""
NESTED = {"jobs.payload": ("manifest", "operation", "request")}
"""Columns with a JSON object of which these members are sealed, each bound to `TABLE.MEMBER`."""
_log = logging.getLogger(__name__)


@dataclass
class Progress:
    """What was done, and what could not be."""

    resealed: int = 0
    unopened: int = 0


@dataclass(frozen=True)
class _Place:
    """A column in which sealed values may lie. `members` for JSON objects."""

    table: Table
    column: Column[Any]
    members: tuple[str, ...] = ()

    def stale(self, key: str) -> Any:
        """Rows with a value under another key than `key`, as SQL."""
        starts = [f'%"{member}":"' for member in self.members] or [""]
        text = self.text
        return or_(*(and_(text.like(f"{start}v1:%"), not_(text.like(f"{start}v1:{key}:%"))) for start in starts))

    @property
    def text(self) -> ColumnElement[str]:
        """The column's bytes, as the database has them."""
        return type_coerce(self.column, Text())


def _places() -> Iterator[_Place]:
    for table in metadata.sorted_tables:
        for column in table.columns:
            members = NESTED.get(f"{table.name}.{column.name}", ())
            if members or type(column.type) is Text:
                yield _Place(table, column, members)


def leftovers(tx: Tx, vault: Vault) -> int:
    """Rows with a value that the newest key did not seal."""
    count = 0
    for place in _places():
        count += tx.scalar(select(func.count()).select_from(place.table).where(place.stale(vault.active)))
    return count


def reseal(database: Database, vault: Vault, told: Callable[[Progress], None] = lambda _: None) -> Progress:
    """Seal every value anew that an older key has sealed. Blocking, safe to repeat and to be killed at any moment."""
    progress = Progress()
    for place in _places():
        keys = list(place.table.primary_key.columns)
        last: tuple[Any, ...] | None = None
        while True:
            condition = [place.stale(vault.active), *([_after(keys, last)] if last is not None else ())]
            query = select(*keys, place.text.label("sealed")).where(*condition).order_by(*keys).limit(_BATCH)
            with database.write() as tx:
                found = tx.all(query)
                for row in found:
                    _reseal_row(tx, vault, place, keys, row, progress)
            if not found:
                break
            told(progress)
            last = tuple(found[-1])[:-1]
    return progress


def _after(keys: list[Column[Any]], last: tuple[Any, ...]) -> ColumnElement[bool]:
    return keys[0] > last[0] if len(keys) == 1 else tuple_(*keys) > last


def finish_rotation(database: Database, vault: Vault) -> Progress:
    """What a rotation leaves to be done: seal anew, and forget keys that nothing needs any more. Safe to repeat."""
    keys = list(vault.keys.items())
    if len(keys) == 1:
        return Progress()
    progress = reseal(database, vault)
    # Each key was replaced when the next one began.
    for (key, _), (_, replaced) in pairwise(keys):
        if clock.seconds() - replaced < KEEP_SECONDS:
            break
        with database.read() as tx:
            if leftovers(tx, vault):
                break
        vault.forget(key)
        _log.info("the key %s has sealed nothing that is left, and is forgotten", key)
    return progress


def _reseal_row(
    tx: Tx, vault: Vault, place: _Place, keys: list[Column[Any]], row: Row[Any], progress: Progress
) -> None:
    old = row.sealed
    try:
        new = _anew(vault, place, old)
    except VaultProblem as problem:
        # It may be what a user wrote; if it was sealed, it is damaged, and no key opens it.
        progress.unopened += 1
        _log.warning("%s of row %s is left as it is: %s", place.column, tuple(row)[:-1], problem)
        return
    same = [key == row._mapping[key.name] for key in keys]
    # Whoever changed the value meanwhile has sealed it with the newest key.
    tx.run(update(place.table).where(*same, place.text == old).values({place.column: new}))
    progress.resealed += 1


def _anew(vault: Vault, place: _Place, old: str) -> Any:
    """The value for the column."""
    if not place.members:
        return vault.reseal(old, f"{place.table.name}.{place.column.name}")
    new = msgspec.json.decode(old, type=dict[str, Any])
    for one in place.members:
        if isinstance(new.get(one), str):
            new[one] = vault.reseal(new[one], f"{place.table.name}.{one}")
    return new
