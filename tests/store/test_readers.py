"""Connections for reading that lie at hand: used again, replaced when lost, never kept from whoever waits for one."""

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from cupola.store.database import Database
from cupola.store.platform import platform_state
from cupola.store.prepared import Prepared as PreparedStatement
from tests.databases import Prepared

COUNT = PreparedStatement(select(func.count()).select_from(platform_state))
_ENDING = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE pid <> pg_backend_pid() AND datname = current_database()"
)


def used(database: Database) -> Any:
    with database.read() as tx:
        tx.scalar(text("SELECT 1"))
        return tx.connection.connection.dbapi_connection


def test_the_one_that_was_used_last_is_used_next(fresh_database: Database) -> None:
    with fresh_database.read() as outer, fresh_database.read() as inner:
        first, second = (tx.connection.connection.dbapi_connection for tx in (outer, inner))
    assert first is not second
    assert {id(used(fresh_database)) for _ in range(5)} == {id(first)}


def test_nothing_of_a_reader_is_left_for_the_next(fresh_database: Database) -> None:
    with fresh_database.read() as tx:
        tx.scalar(text("SELECT 1"))
        before = tx.connection
    with fresh_database.read() as tx:
        assert tx.connection is before
        assert not tx.connection.in_transaction()


def test_a_reader_that_failed_does_no_harm(fresh_database: Database) -> None:
    def fail() -> None:
        with fresh_database.read() as tx:
            tx.scalar(text("SELECT 1"))
            raise KeyError

    for _ in range(40):
        with pytest.raises(KeyError):
            fail()
    with fresh_database.read() as tx:
        assert tx.scalar(COUNT) >= 0


def test_more_readers_than_connections_take_turns(fresh_database: Database) -> None:
    """Those that wait for the pool get what others give back."""
    errors: list[BaseException] = []
    together = threading.Barrier(24)

    def read() -> None:
        try:
            together.wait(30)
            for _ in range(50):
                with fresh_database.read() as tx:
                    tx.scalar(COUNT)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []


def test_one_lost_connection_takes_the_others_along(postgres_prepared: Prepared, tmp_path: Path) -> None:
    database = postgres_prepared.fresh(tmp_path)
    with database.read() as one, database.read() as other:
        assert one.scalar(COUNT) == other.scalar(COUNT)
    with database.engine.connect() as connection:
        connection.execute(text(_ENDING))
    with pytest.raises(DBAPIError), database.read() as tx:
        tx.scalar(COUNT)
    with database.read() as one, database.read() as other:
        assert one.scalar(COUNT) == other.scalar(COUNT)
    database.close()
