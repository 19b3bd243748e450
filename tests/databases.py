"""Databases for tests: the whole schema with the defaults of a first start, fresh in a few milliseconds.

The fixtures are in tests/conftest.py: `fresh_database` runs its test on SQLite and on PostgreSQL.
"""

import base64
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from cupola.bell import Bells
from cupola.config import load
from cupola.domain import bootstrap
from cupola.store import counts
from cupola.store.database import Database
from cupola.store.tables import metadata

__all__ = ["PlainVault", "Postgres", "Prepared", "Sqlite", "create_database", "drop_database"]


class PlainVault:
    """Encryption at rest has tests of its own; here a sealed value is base64 and bound to its context."""

    def derive(self, purpose: str) -> list[bytes]:
        return [purpose.encode().ljust(32)]

    def seal(self, plain: bytes, context: str) -> str:
        return f"{context}:{base64.b64encode(plain).decode()}"

    def open(self, sealed: str, context: str) -> bytes:
        kept, _, data = sealed.rpartition(":")
        assert kept == context
        return base64.b64decode(data)


class Prepared(Protocol):
    """A place that gives out fresh databases."""

    def fresh(self, directory: Path, threads: int = 2) -> Database:
        """A database as after a first start. The caller closes it, and so gives it back; `directory` is the test's own.

        What is given back is brought to its first state and given out again: a new engine would have to compile every
        statement anew, which costs more than most tests.
        """

    def keep(self, database: Database) -> Callable[[], None]:
        """Remember what is in a fresh database; gives what brings back exactly that, while nobody uses it."""


class _Lent(Database):
    """A database that is given out again and again."""

    free = True

    def lend(self) -> Database:
        """Give it out; nothing of the last borrower is left but its compiled statements."""
        self.free = False
        self.bells = Bells()
        return self

    def close(self) -> None:
        self.free = True

    def end(self) -> None:
        """Really close it."""
        super().close()


class Sqlite:
    """Files; those that were given back are filled again with what a first start puts in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lent: list[_Lent] = []
        file = directory / "first.db"
        _fill(Database("", file, PlainVault(), Bells()), directory)
        self._first = _copy(file)

    def fresh(self, directory: Path, threads: int = 2) -> Database:
        database = next((one for one in self._lent if one.free), None)
        if database is None:
            database = _Lent("", self._directory / f"{len(self._lent)}.db", PlainVault(), Bells(), threads=4)
            self._lent.append(database)
            # A test's database need not survive a power failure.
            for engine in (database.engine, database.reader):
                event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        _paste(self._first, database)
        return database.lend()

    def keep(self, database: Database) -> Callable[[], None]:
        kept = _copy(Path(database.url.database or ""))
        return lambda: _paste(kept, database)

    def close(self) -> None:
        """Close all connections."""
        for database in self._lent:
            database.end()


def _copy(file: Path) -> sqlite3.Connection:
    """All that is in a file, in memory."""
    kept = sqlite3.connect(":memory:", check_same_thread=False)
    with closing(sqlite3.connect(file)) as connection:
        connection.backup(kept)
    return kept


def _paste(kept: sqlite3.Connection, database: Database) -> None:
    with closing(sqlite3.connect(database.url.database or "")) as connection:
        kept.backup(connection)


class Postgres:
    """One database, emptied and filled again with what a first start puts in; for one borrower at a time."""

    def __init__(self, server: str, directory: Path) -> None:
        self._url = create_database(server)
        self._lent = _Lent(self._url, directory / "unused", PlainVault(), Bells(), threads=4)
        _fill(self._lent, directory)
        self._engine = create_engine(self._lent.url, isolation_level="AUTOCOMMIT")
        self._again = self._script("first_start")

    def _script(self, schema: str) -> str:
        """Keep all rows in a schema of their own; gives the statements that bring back exactly these."""
        names = [table.name for table in metadata.sorted_tables]
        # References are right again at the end, so they are not looked at in between.
        script = ["SET session_replication_role = replica", *(f'DELETE FROM public."{name}"' for name in names)]
        with self._engine.connect() as connection:
            connection.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))
            connection.execute(text(f"CREATE SCHEMA {schema}"))
            for name in names:
                if connection.execute(text(f'SELECT EXISTS (SELECT FROM public."{name}")')).scalar():
                    connection.execute(text(f'CREATE TABLE {schema}."{name}" AS SELECT * FROM public."{name}"'))
                    script.append(f'INSERT INTO public."{name}" SELECT * FROM {schema}."{name}"')
        return "; ".join([*script, "SET session_replication_role = DEFAULT"])

    def fresh(self, directory: Path, threads: int = 2) -> Database:
        self._run(self._again)
        return self._lent.lend()

    def _run(self, script: str) -> None:
        try:
            self._execute(script)
        except OperationalError:
            # What a test left behind may still hold a lock, or have been in the way of one: it has ended meanwhile.
            self._execute(script)

    def _execute(self, script: str) -> None:
        with self._engine.connect() as connection:
            connection.exec_driver_sql(script)

    def keep(self, database: Database) -> Callable[[], None]:
        script = self._script("kept")
        return lambda: self._run(script)

    def close(self) -> None:
        """Drop the database."""
        self._lent.end()
        self._engine.dispose()
        drop_database(self._url)


def _fill(database: Database, directory: Path) -> None:
    """Make the tables as the code says (that migrations make the same has a test) and the first-start defaults."""
    metadata.create_all(database.engine)
    with database.write() as tx:
        counts.ensure(tx.connection)
        bootstrap.ensure(tx, load(environment={}, flags={"data_dir": str(directory)}))
    database.close()


def create_database(server: str) -> str:
    """A new, empty database on this server; its URL."""
    name = f"cupola_test_{uuid.uuid4().hex[:12]}"
    _administer(server, f'CREATE DATABASE "{name}"')
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def drop_database(url: str) -> None:
    """Drop what `create_database` made."""
    parsed = make_url(url)
    server = parsed.set(database="postgres").render_as_string(hide_password=False)
    _administer(server, f'DROP DATABASE IF EXISTS "{parsed.database}" WITH (FORCE)')


def _administer(server: str, statement: str) -> Any:
    engine = create_engine(make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
