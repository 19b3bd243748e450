"""Transactions on both databases: what is kept, what is told, what happens when a connection is lost."""

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError

from cupola.bell import Bells
from cupola.store import readers
from cupola.store.database import Database, DatabaseProblem
from cupola.store.platform import platform_state
from tests.databases import PlainVault, Prepared


def put(database: Database, name: str, value: str = "x") -> None:
    with database.write() as tx:
        tx.run(insert(platform_state).values(name=name, value=value))


def names(database: Database) -> set[str]:
    with database.read() as tx:
        return set(tx.scalars(select(platform_state.c.name)))


def test_a_write_is_kept_or_undone_as_a_whole(fresh_database: Database) -> None:
    put(fresh_database, "kept")

    def fail() -> None:
        with fresh_database.write() as tx:
            tx.run(insert(platform_state).values(name="undone", value="x"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert "kept" in names(fresh_database)
    assert "undone" not in names(fresh_database)


def test_bells_ring_after_the_commit_and_never_without_one(fresh_database: Database) -> None:
    heard: list[tuple[str, bool]] = []
    fresh_database.bells.on_ring(lambda name: heard.append((name, "seen" in names(fresh_database))))
    with fresh_database.write() as tx:
        tx.run(insert(platform_state).values(name="seen", value="x"))
        tx.ring("apps")
        tx.ring("apps")
        assert heard == []
    assert heard == [("apps", True)]

    def fail() -> None:
        with fresh_database.write() as tx:
            tx.ring("never")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert len(heard) == 1


def test_actions_after_the_commit(fresh_database: Database) -> None:
    done: list[int] = []
    with fresh_database.write() as tx:
        tx.after_commit(lambda: done.append(1))
        assert done == []
    assert done == [1]


def test_readers_do_not_wait_for_a_writer(fresh_database: Database) -> None:
    with fresh_database.write() as tx:
        tx.run(insert(platform_state).values(name="open", value="x"))
        assert "open" not in names(fresh_database)


def test_writers_take_turns(fresh_database: Database) -> None:
    """Each adds one to what it read: nothing is lost, whatever the database does with writers at once."""
    put(fresh_database, "count", "0")

    def add() -> None:
        for _ in range(10):
            with fresh_database.write() as tx:
                mine = platform_state.c.name == "count"
                found = tx.scalar(select(platform_state.c.value).where(mine).with_for_update())
                tx.run(update(platform_state).where(mine).values(value=str(int(found) + 1)))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with fresh_database.read() as tx:
        assert tx.scalar(select(platform_state.c.value).where(platform_state.c.name == "count")) == "40"


LONG = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT count(*) FROM n"


def test_long_statements_are_cancelled(prepared: Prepared, tmp_path: Path) -> None:
    plain = prepared.fresh(tmp_path)
    url = "" if plain.is_sqlite else plain.url.render_as_string(hide_password=False)
    file = Path(plain.url.database or "")
    database = Database(url, file, PlainVault(), Bells(), statement_timeout=0.2)
    start = time.monotonic()
    with pytest.raises(DBAPIError, match=r"interrupted|timeout"), database.read() as tx:
        tx.scalar(text(LONG))
    assert time.monotonic() - start < 5
    assert names(database)
    database.close()
    plain.close()


def test_watching_sees_reads_and_writes(fresh_database: Database) -> None:
    with fresh_database.watched() as seen:
        names(fresh_database)
        put(fresh_database, "watched")
    assert [one.split()[0] for one in seen if not one.startswith("BEGIN")] == ["SELECT", "INSERT"]
    names(fresh_database)
    assert len([one for one in seen if one.startswith("SELECT")]) == 1


def test_connections_that_the_server_closed_are_replaced(
    postgres_prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = postgres_prepared.fresh(tmp_path)
    names(database)
    put(database, "before")
    with database.engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        )
    monkeypatch.setattr(readers, "IDLE_SECONDS", 0.0)
    assert "before" in names(database)
    put(database, "after")
    assert "after" in names(database)
    database.close()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cupola.db"
    file.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    database = Database("", file, PlainVault(), Bells())
    with pytest.raises(DatabaseProblem, match=str(file)):
        database.check()
    database.close()


def test_an_unreachable_server_is_named_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql://user:secret@/nothing?host={tmp_path}"
    database = Database(url, tmp_path / "unused", PlainVault(), Bells())
    with pytest.raises(DatabaseProblem) as caught:
        database.check()
    assert "secret" not in str(caught.value)
    database.close()
