"""Conditions rewritten: the same rows, in a form that asks for one row or for sets of keys."""

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    ColumnElement,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    func,
    or_,
    select,
    union,
)
from sqlalchemy import union_all as all_of
from sqlalchemy.engine import Connection

from cupola.rest.conditions import alternatives, as_exists, as_union, members

_metadata = MetaData()
towns = Table("towns", _metadata, Column("id", Integer, primary_key=True), Column("name", String))
houses = Table(
    "houses",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("town", String, ForeignKey("towns.name")),
    Column("owner", String),
    Column("open", Integer),
)
owned = select(houses.c.town).where(houses.c.owner == bindparam("actor"))
open_ones = select(houses.c.town).where(houses.c.open == 1)
CONDITIONS: dict[str, ColumnElement[bool]] = {
    "set": towns.c.name.in_(owned),
    "two sets": towns.c.name.in_(all_of(owned, open_ones)),
    "set in a set": towns.c.name.in_(select(towns.c.name).where(towns.c.name.in_(owned))),
    "or": or_(towns.c.name == "Aa", towns.c.name.in_(owned), towns.c.name.in_(open_ones)),
    "the same table": houses.c.town.in_(owned),
}


@pytest.fixture(scope="module")
def connection() -> Any:
    with create_engine("sqlite://").connect() as opened:
        _metadata.create_all(opened)
        opened.execute(towns.insert(), [{"name": name} for name in ("Aa", "Bo", "Ce", "Di")])
        opened.execute(
            houses.insert(),
            [
                {"town": "Bo", "owner": "ann", "open": 0},
                {"town": "Bo", "owner": "ben", "open": 0},
                {"town": "Ce", "owner": "ben", "open": 1},
                {"town": None, "owner": "ann", "open": 1},
            ],
        )
        yield opened


def _table(name: str) -> Table:
    return houses if name == "the same table" else towns


@pytest.mark.parametrize("actor", ["ann", "ben", "nobody"])
@pytest.mark.parametrize("name", CONDITIONS)
def test_rewritten_conditions_find_the_same_rows(connection: Connection, name: str, actor: str) -> None:
    condition, table = CONDITIONS[name], _table(name)

    def found(where: ColumnElement[bool]) -> list[Any]:
        statement = select(table.c.id).where(where).order_by(table.c.id)
        return list(connection.execute(statement, {"actor": actor}).scalars())

    expected = found(condition)
    assert found(as_exists(condition)) == expected
    assert found(as_union(table, condition)) == expected


def test_a_single_row_is_asked_for_without_sets() -> None:
    for name, condition in CONDITIONS.items():
        text = str(select(_table(name).c.id).where(as_exists(condition)))
        assert " IN (SELECT" not in text, name
        assert "EXISTS" in text, name


def test_an_or_over_tables_becomes_a_union_of_keys() -> None:
    assert len(alternatives(CONDITIONS["or"])) == 3
    assert str(as_union(towns, CONDITIONS["or"])).count("UNION") == 2


@pytest.mark.parametrize(
    "condition",
    [
        towns.c.name == "Aa",
        or_(towns.c.name == "Aa", towns.c.name.is_(None)),
        towns.c.name.in_(["Aa", "Bo"]),
        CONDITIONS["set"],
    ],
)
def test_what_looks_into_no_other_table_stays(condition: ColumnElement[bool]) -> None:
    assert as_union(towns, condition) is condition
    assert alternatives(condition) == [condition]


@pytest.mark.parametrize(
    "inside",
    [owned.limit(1), owned.distinct(), owned.group_by(houses.c.town), union(owned, open_ones.limit(1))],
)
def test_a_set_that_is_more_than_columns_and_conditions_stays(inside: Any) -> None:
    condition = towns.c.name.in_(inside)
    assert str(as_exists(condition)) == str(condition)


@pytest.mark.parametrize("actor", ["ann", "ben", "nobody"])
@pytest.mark.parametrize("inside", [owned, open_ones, select(houses.c.town)])
def test_references_are_counted_without_the_rows_that_they_name(
    connection: Connection, inside: Any, actor: str
) -> None:
    found = members(towns, [towns.c.name.in_(inside)])
    assert found is not None
    assert "towns" not in str(found)
    expected = select(func.count()).select_from(towns).where(towns.c.name.in_(inside))
    counted = select(func.count()).select_from(found.subquery())
    assert connection.scalar(counted, {"actor": actor}) == connection.scalar(expected, {"actor": actor})


@pytest.mark.parametrize(
    "conditions",
    [
        [],
        [towns.c.name.in_(owned), towns.c.id > 1],
        [towns.c.name == "Aa"],
        [towns.c.name.in_(["Aa", "Bo"])],
        [towns.c.name.not_in(owned)],
        [towns.c.name.in_(owned.limit(1))],
        [towns.c.name.in_(union(owned, open_ones))],
        # Nothing says that there is a town for each of these.
        [towns.c.name.in_(select(houses.c.owner))],
        [towns.c.id.in_(select(houses.c.town))],
        [houses.c.town.in_(owned)],
    ],
)
def test_what_is_no_set_of_references_is_counted_among_the_rows(conditions: Any) -> None:
    assert members(towns, conditions) is None
