"""Many rows at once: the driver's own connection, COPY on PostgreSQL and one prepared INSERT on SQLite."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import chain
from typing import Any, Protocol

import msgspec
import psycopg
from sqlalchemy import Column, Table

from cupola.store.database import Database

__all__ = ["Bulk", "bulk"]


class Bulk(Protocol):
    """A place to put rows. All rows of a call have the keys of the first, which are columns."""

    def insert(self, table: Table, rows: Iterable[Mapping[str, Any]]) -> int:
        """Put the rows in; gives their number."""

    def finish(self) -> None:
        """Commit, and let the database look at what it has, as a server does by itself in time."""


def _values(table: Table, rows: Iterable[Mapping[str, Any]]) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """Column names, and the rows as tuples in their order; columns that were left out have their plain defaults."""
    remaining = iter(rows)
    first = next(remaining, None)
    if first is None:
        return [], iter(())
    more = {
        column.name: _default(column)
        for column in table.columns
        if column.default is not None and column.name not in first
    }
    rest = tuple(more.values())
    return [*first, *more], ((*row.values(), *rest) for row in chain([first], remaining))


def _default(column: Column[Any]) -> Any:
    default: Any = column.default
    value = default.arg if default.is_scalar else default.arg({})
    return value if isinstance(value, (str, int)) else msgspec.json.encode(value).decode()


class _Sqlite:
    def __init__(self, file: str) -> None:
        self._connection = sqlite3.connect(file, isolation_level=None)
        for pragma in ("synchronous=OFF", "cache_size=-262144", "journal_mode=WAL"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute("BEGIN")

    def insert(self, table: Table, rows: Iterable[Mapping[str, Any]]) -> int:
        columns, values = _values(table, rows)
        if not columns:
            return 0
        names = ", ".join(f'"{name}"' for name in columns)
        marks = ", ".join("?" * len(columns))
        with closing(self._connection.cursor()) as cursor:
            cursor.executemany(f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})', values)
            return cursor.rowcount

    def finish(self) -> None:
        self._connection.execute("COMMIT")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()


class _Postgres:
    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url)

    def insert(self, table: Table, rows: Iterable[Mapping[str, Any]]) -> int:
        columns, values = _values(table, rows)
        if not columns:
            return 0
        names = ", ".join(f'"{name}"' for name in columns)
        with self._connection.cursor() as cursor:
            with cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:
                for row in values:
                    copy.write_row(row)
            return cursor.rowcount

    def finish(self) -> None:
        self._connection.commit()
        self._connection.autocommit = True
        # The throw-away server has no autovacuum.
        self._connection.execute("VACUUM ANALYZE")
        self._connection.close()


def bulk(database: Database) -> Bulk:
    """Where rows for this database go."""
    if database.is_sqlite:
        return _Sqlite(str(database.url.database))
    return _Postgres(database.url.set(drivername="postgresql").render_as_string(hide_password=False))
