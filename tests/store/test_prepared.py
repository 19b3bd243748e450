"""Statements that are kept ready: they give what the same statement gives on its way through SQLAlchemy."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Select, bindparam, func, insert, literal_column, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from cupola.bell import Bells
from cupola.store.database import Database
from cupola.store.platform import buildpacks, platform_state, security_groups
from cupola.store.prepared import Prepared as PreparedStatement
from tests.databases import PlainVault, Prepared

_groups = security_groups.c
NAMED = select(security_groups).where(_groups.name == bindparam("name"), _groups.running_default == bindparam("on"))


def fill(database: Database) -> None:
    common = {"created_at": 1, "updated_at": 2}
    groups = [
        {"guid": f"g{at}", "name": f"n{at}", "rules": [{"protocol": "tcp", "at": at}], "running_default": at % 2 == 0}
        for at in range(5)
    ]
    with database.write() as tx:
        tx.run(insert(security_groups), [{**one, "staging_default": False, **common} for one in groups])


def both(
    database: Database, statement: Select[Any], values: dict[str, Any]
) -> tuple[list[Sequence[Any]], list[Sequence[Any]]]:
    """What the database gives the long way and the short way, the second twice in a row."""
    prepared = PreparedStatement(statement)
    with database.read() as tx:
        long = [
            tx.all(statement, values),
            [tx.one(statement, values)],
            [tx.scalar(statement, values)],
            tx.scalars(statement, values),
        ]
        for _ in range(2):
            short = [
                tx.all(prepared, values),
                [tx.one(prepared, values)],
                [tx.scalar(prepared, values)],
                tx.scalars(prepared, values),
            ]
    return long, short


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (NAMED, {"name": "n2", "on": True}),
        (NAMED, {"name": "n2", "on": False}),
        (select(security_groups).where(_groups.name.in_(bindparam("names", expanding=True))), {"names": ["n1", "n4"]}),
        (select(security_groups).order_by(_groups.id).limit(bindparam("most")).offset(1), {"most": 2}),
        (select(security_groups, _groups.guid.label("again"), func.length(_groups.name)).order_by(_groups.id), {}),
        (select(func.count()).select_from(security_groups).where(_groups.running_default.is_(True)), {}),
        (select(_groups.guid, _groups.name).where(_groups.name != "n1", _groups.name != bindparam("x")), {"x": "n2"}),
        (select(buildpacks), {}),
    ],
)
def test_rows_are_the_same(fresh_database: Database, statement: Select[Any], values: dict[str, Any]) -> None:
    fill(fresh_database)
    long, short = both(fresh_database, statement, values)
    assert short == long
    for one, other in zip(long[0], short[0], strict=True):
        assert one._mapping.keys() == other._mapping.keys()
        assert one._fields == other._fields
        assert dict(one._mapping) == dict(other._mapping)
        for column in statement.selected_columns:
            assert one._mapping[column] == other._mapping[column]


def test_values_are_read_as_their_types_say(fresh_database: Database) -> None:
    fill(fresh_database)
    with fresh_database.read() as tx:
        row = tx.one(PreparedStatement(NAMED), {"name": "n2", "on": True})
    assert row is not None
    assert (row.rules, row.running_default, row.staging_default) == ([{"protocol": "tcp", "at": 2}], True, False)


def test_it_reads_what_its_own_transaction_wrote(fresh_database: Database) -> None:
    names = PreparedStatement(select(platform_state.c.name).where(platform_state.c.name == bindparam("name")))
    with fresh_database.write() as tx:
        tx.run(insert(platform_state).values(name="mine", value="x"))
        assert tx.scalar(names, {"name": "mine"}) == "mine"
        with fresh_database.read() as other:
            assert other.scalar(names, {"name": "mine"}) is None


def test_whoever_counts_or_watches_statements_sees_it(fresh_database: Database) -> None:
    counted = PreparedStatement(select(func.count()).select_from(platform_state))
    with fresh_database.watched() as seen, fresh_database.read() as tx:
        tx.scalar(counted)
        assert tx.statements == 1
    assert seen == [str(counted.statement)]


FAILING = PreparedStatement(select(literal_column("missing")).select_from(platform_state))


def test_errors_are_those_of_sqlalchemy(fresh_database: Database) -> None:
    expected = OperationalError if fresh_database.is_sqlite else DBAPIError
    with pytest.raises(expected, match="missing") as told, fresh_database.read() as tx:
        tx.all(FAILING)
    assert "SELECT missing" in str(told.value)


def test_an_error_undoes_the_transaction(fresh_database: Database) -> None:
    def fail() -> None:
        with fresh_database.write() as tx:
            tx.run(insert(platform_state).values(name="undone", value="x"))
            tx.all(FAILING)

    with pytest.raises(DBAPIError):
        fail()
    with fresh_database.read() as tx:
        assert "undone" not in tx.scalars(select(platform_state.c.name))


def test_it_is_cancelled_when_it_takes_too_long(prepared: Prepared, tmp_path: Path) -> None:
    plain = prepared.fresh(tmp_path)
    url = "" if plain.is_sqlite else plain.url.render_as_string(hide_password=False)
    database = Database(url, Path(plain.url.database or ""), PlainVault(), Bells(), statement_timeout=0.2)
    numbers = select(literal_column("1").label("i")).cte("n", recursive=True)
    numbers = numbers.union_all(select(numbers.c.i + 1).where(numbers.c.i < 1_000_000_000))
    start = time.monotonic()
    with pytest.raises(DBAPIError, match=r"interrupted|timeout"), database.read() as tx:
        tx.all(PreparedStatement(select(func.count()).select_from(numbers)))
    assert time.monotonic() - start < 5
    database.close()
    plain.close()


def test_postgresql_keeps_a_plan_only_where_one_is_right(postgres_prepared: Prepared, tmp_path: Path) -> None:
    database = postgres_prepared.fresh(tmp_path)
    named = select(platform_state.c.value).where(platform_state.c.name == bindparam("name"))
    kept = text("SELECT statement FROM pg_prepared_statements WHERE statement LIKE '%platform_state%'")
    with database.read() as tx:
        for prepared, plans in ((PreparedStatement(named), 0), (PreparedStatement(named, one_plan=True), 1)):
            for _ in range(10):
                tx.one(prepared, {"name": "nobody"})
            assert len(tx.scalars(kept)) == plans
    database.close()
