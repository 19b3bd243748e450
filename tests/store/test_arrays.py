"""`column IN (values)`: the same rows on both databases, and on PostgreSQL one parameter for all values."""

from collections.abc import Sequence

import pytest
from sqlalchemy import insert, not_, select

from cupola.store.database import Database
from cupola.store.orgs import isolation_segments as segments

LONG = "x" * 255


@pytest.fixture
def database(fresh_database: Database) -> Database:
    values = [
        {"guid": name, "created_at": number, "updated_at": number, "name": name, "name_key": name}
        for number, name in enumerate(("it's", "a,{b}", LONG))
    ]
    with fresh_database.write() as tx:
        tx.run(insert(segments), values)
    return fresh_database


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([], []),
        (["nobody"], []),
        (["it's", "nobody", "it's"], ["it's"]),
        (["a,{b}", 'a,"{b}"', "NULL"], ["a,{b}"]),
        ([LONG + "y"], []),
        ([LONG, "it's"], ["it's", LONG]),
    ],
)
def test_values_are_found_and_left_out(database: Database, wanted: Sequence[str], found: Sequence[str]) -> None:
    every = ["it's", "a,{b}", LONG]
    mine = segments.c.guid.in_(every)
    with database.read() as tx:
        order = select(segments.c.guid).order_by(segments.c.created_at)
        assert tx.scalars(order.where(segments.c.guid.in_(wanted))) == list(found)
        left = tx.scalars(order.where(mine, not_(segments.c.guid.in_(wanted))))
    assert left == [one for one in every if one not in found]


def test_numbers_are_found(database: Database) -> None:
    with database.read() as tx:
        found = tx.scalars(select(segments.c.guid).where(segments.c.created_at.in_([2, 1, 7]), segments.c.name == LONG))
    assert found == [LONG]


def test_any_number_of_values_is_one_statement_to_postgresql(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite has no arrays")
    with database.watched() as seen, database.read() as tx:
        for number in (1, 100):
            tx.all(select(segments.c.id).where(segments.c.guid.in_([str(one) for one in range(number)])))
    assert len(seen) == 2
    assert len(set(seen)) == 1
    assert "= ANY" in seen[0]
