"""Numbers of rows that PostgreSQL knows: they are what counting gives, whatever happens to the rows."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql

from cupola.rest import seek
from cupola.store import counts
from cupola.store.database import Database, Tx
from cupola.store.orgs import users
from cupola.store.tables import metadata


@pytest.fixture
def database(fresh_database: Database) -> Database:
    if fresh_database.is_sqlite:
        pytest.skip("SQLite counts")
    return fresh_database


def rows(*guids: Any) -> list[dict[str, Any]]:
    return [{"guid": f"u-{guid}", "created_at": 0, "updated_at": 0} for guid in guids]


def numbers(database: Database, name: str = "users") -> tuple[int, int]:
    """As it is known, and as it is counted."""
    with database.read() as tx:
        return numbers_in(tx, name)


def numbers_in(tx: Tx, name: str = "users") -> tuple[int, int]:
    table = metadata.tables[name]
    known = counts.known(table)
    assert known is not None
    return tx.scalar(known), tx.scalar(select(func.count()).select_from(table))


def noted(database: Database) -> int:
    """Changes that were not added up yet."""
    with database.read() as tx:
        found = select(func.count()).select_from(counts.row_counts).where(counts.row_counts.c.table_name == "users")
        number: int = tx.scalar(found)
        return number


@pytest.mark.parametrize("name", counts.COUNTED)
def test_a_first_start_is_counted(database: Database, name: str) -> None:
    known, counted = numbers(database, name)
    assert known == counted


def test_rows_come_and_go(database: Database) -> None:
    with database.write() as tx:
        tx.run(insert(users), rows(*range(10)))
        tx.run(insert(users).values(rows("a", "b", "c")))
        assert numbers_in(tx) == (13, 13)
        tx.run(delete(users).where(users.c.guid.in_(["u-a", "u-b", "nobody"])))
        tx.run(delete(users).where(users.c.guid == "nobody"))
        tx.run(update(users).values(updated_at=1))
    assert numbers(database) == (11, 11)


def test_what_is_rolled_back_was_never_there(database: Database) -> None:
    with database.write() as tx:
        tx.run(insert(users), rows(*range(3)))
        part = tx.connection.begin_nested()
        tx.run(delete(users))
        assert numbers_in(tx) == (0, 0)
        part.rollback()
        assert numbers_in(tx) == (3, 3)
    with database.engine.connect() as connection:
        connection.execute(insert(users), rows("a", "b"))
        connection.rollback()
    assert numbers(database) == (3, 3)


def test_others_see_nothing_before_the_commit(database: Database) -> None:
    with database.write() as tx:
        tx.run(insert(users), rows(1, 2))
        assert numbers(database) == (0, 0)
    assert numbers(database) == (2, 2)


def test_an_insert_that_meets_a_row_counts_what_it_adds(database: Database) -> None:
    statement = postgresql.insert(users).on_conflict_do_nothing()
    changing = postgresql.insert(users).on_conflict_do_update(index_elements=["guid"], set_={"updated_at": 1})
    with database.write() as tx:
        tx.run(statement.values(rows(1, 2)))
        tx.run(statement.values(rows(2, 3)))
        tx.run(statement.values(rows(2, 3)))
        tx.run(changing.values(rows(3, 4)))
    assert numbers(database) == (4, 4)


def test_an_emptied_table(database: Database) -> None:
    with database.write() as tx:
        tx.run(insert(users), rows(*range(5)))
    with database.write() as tx:
        tx.run(text("TRUNCATE users CASCADE"))
        tx.run(insert(users), rows("a"))
    assert numbers(database) == (1, 1)
    assert numbers(database, "roles") == (0, 0)


def test_changes_are_added_up_now_and_then(database: Database) -> None:
    with database.write() as tx:
        for number in range(600):
            tx.run(insert(users), rows(number))
    assert noted(database) <= 257
    assert numbers(database) == (600, 600)


def test_many_writers_at_once(database: Database) -> None:
    """Each adds up what the others wrote, while they write, and some take back what they did."""
    start = threading.Barrier(4)

    def work(writer: int) -> None:
        start.wait()
        for number in range(150):
            with database.engine.connect() as connection:
                connection.execute(insert(users), rows(f"{writer}-{number}", f"{writer}-{number}-more"))
                connection.execute(delete(users).where(users.c.guid == f"u-{writer}-{number}-more"))
                if number % 10 != 3:
                    connection.commit()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert numbers(database) == (540, 540)
    # Whoever adds up leaves to the others what they have not committed, and so never waits for them.
    with database.write() as tx:
        tx.run(insert(users), rows("open"))
        with database.write() as other:
            for number in range(300):
                other.run(insert(users), rows(f"other-{number}"))
    assert numbers(database) == (841, 841)


def test_a_start_corrects_what_was_done_with_triggers_off(database: Database) -> None:
    with database.write() as tx:
        tx.run(text("SET LOCAL session_replication_role = replica"))
        tx.run(insert(users), rows(*range(7)))
        tx.run(insert(counts.row_counts).values(table_name="roles", change=5))
    assert numbers(database) == (0, 7)
    for _ in range(2):
        with database.write() as tx:
            counts.ensure(tx.connection)
        assert numbers(database) == (7, 7)
        assert numbers(database, "roles") == (0, 0)


def test_a_start_makes_triggers_that_are_missing(database: Database) -> None:
    with database.write() as tx:
        tx.run(text("DROP TRIGGER note_row_count_insert ON users"))
        tx.run(insert(users), rows(1))
        counts.ensure(tx.connection)
        tx.run(insert(users), rows(2))
    assert numbers(database) == (2, 2)


@pytest.mark.parametrize("name", counts.COUNTED)
def test_a_whole_list_is_not_counted_where_its_length_is_known(fresh_database: Database, name: str) -> None:
    table = metadata.tables[name]
    whole = seek.Statements(select(table), [], None, [(table.c.id, False)], table.c.id)
    some = seek.Statements(select(table), [table.c.id > 0], None, [(table.c.id, False)], table.c.id)
    assert some.known is None
    with fresh_database.watched() as seen, fresh_database.read() as tx:
        seek.rows(tx, whole, {}, 30, 50, "somebody")
    assert ("row_counts" in seen[-1]) == (not fresh_database.is_sqlite)


def test_lists_that_are_not_whole_are_counted() -> None:
    for base in (select(users).where(users.c.is_client), select(users).join(users.alias(), users.c.id == 1)):
        assert seek.Statements(base, [], None, [(users.c.id, False)], users.c.id).known is None
    visible = seek.Statements(select(users), [], users.c.guid == "me", [(users.c.id, False)], users.c.id)
    assert visible.known is None
