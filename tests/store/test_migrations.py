"""Migrations make what the tables say, on both databases, and the package has them all."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, Table, insert, inspect, select, text

import cupola.store
from cupola.bell import Bells
from cupola.store import counts, migrate, tables
from cupola.store.database import Database, DatabaseProblem
from cupola.store.orgs import users
from cupola.store.tables import metadata
from tests.databases import PlainVault, create_database, drop_database


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without a table, of each kind in turn."""
    url = "" if request.param == "sqlite" else create_database(request.getfixturevalue("postgres_server"))
    database = Database(url, tmp_path / "empty.db", PlainVault(), Bells())
    yield database
    database.close()
    if url:
        drop_database(url)


def described(engine: Engine) -> dict[str, Any]:
    """All tables as the database sees them, in a form that can be compared."""
    inspector = inspect(engine)

    def table(name: str) -> dict[str, Any]:
        return {
            "columns": [
                (one["name"], str(one["type"]), one["nullable"], str(one["default"]).replace(name, ""))
                for one in inspector.get_columns(name)
            ],
            "primary key": inspector.get_pk_constraint(name)["constrained_columns"],
            "references": sorted(
                (one["constrained_columns"], one["referred_table"], one["referred_columns"], str(one["options"]))
                for one in inspector.get_foreign_keys(name)
            ),
            "unique": sorted(one["column_names"] for one in inspector.get_unique_constraints(name)),
            "checks": sorted(one["sqltext"] for one in inspector.get_check_constraints(name)),
            "indexes": sorted(
                (str(one["name"]), str(one["column_names"]), bool(one["unique"]), str(one.get("dialect_options")))
                for one in inspector.get_indexes(name)
            ),
        }

    return {name: table(name) for name in inspector.get_table_names() if name != "alembic_version"}


def test_migrations_make_what_the_tables_say(empty: Database) -> None:
    migrate.upgrade(empty)
    migrated = described(empty.engine)
    reflected = MetaData()
    reflected.reflect(empty.engine)
    reflected.drop_all(empty.engine)
    metadata.create_all(empty.engine)
    assert migrated == described(empty.engine), "run: python scripts/migration.py initial"


def test_a_new_database_knows_how_many_rows_there_are(empty: Database) -> None:
    """PostgreSQL by triggers, which no migration makes; SQLite keeps no numbers."""
    migrate.upgrade(empty)
    with empty.write() as tx:
        tx.run(insert(users).values(guid="somebody", created_at=0, updated_at=0))
        noted = tx.all(select(counts.row_counts.c.table_name, counts.row_counts.c.change))
    assert [tuple(row) for row in noted] == ([] if empty.is_sqlite else [("users", 1)])


def test_upgrading_again_changes_nothing(empty: Database) -> None:
    migrate.upgrade(empty)
    before = described(empty.engine)
    migrate.upgrade(empty)
    assert described(empty.engine) == before


def test_a_newer_database_is_left_alone(empty: Database) -> None:
    migrate.upgrade(empty)
    with empty.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_from_the_future'"))
    before = described(empty.engine)
    with pytest.raises(DatabaseProblem, match="newer version of Cupola"):
        migrate.upgrade(empty)
    assert described(empty.engine) == before


def test_a_migration_that_fails_leaves_nothing_behind(empty: Database) -> None:
    with empty.engine.begin() as connection:
        connection.execute(text("CREATE TABLE stacks (id INTEGER)"))
    with pytest.raises(Exception, match="stacks"):
        migrate.upgrade(empty)
    assert list(described(empty.engine)) == ["stacks"]


def test_every_module_with_tables_is_known() -> None:
    named = set()
    for file in Path(cupola.store.__file__).parent.glob("*.py"):
        if re.search(r"^\w+ = Table\(", file.read_text(), re.MULTILINE):
            named.add(file.stem)
    known = {module.__name__.rpartition(".")[2] for module in tables._ALL}
    assert named - {"schema"} <= known, "add the module to cupola/store/tables.py"


def test_names_that_postgresql_would_cut() -> None:
    names = [name for table in metadata.tables.values() for name in _names(table)]
    assert [name for name in names if len(name) > 63] == []


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
def test_references_are_indexed(table: Table) -> None:
    """Deleting a row looks for rows that refer to it: without an index that reads the whole table."""
    leading = {index.columns[0].name for index in table.indexes}
    leading |= {next(iter(one.columns)).name for one in (table.primary_key, *_uniques(table)) if list(one.columns)}
    referring = {column.name for column in table.columns if column.foreign_keys}
    assert referring <= leading


def _names(table: Table) -> list[str]:
    own = [*(one.name for one in table.indexes), *(one.name for one in table.constraints)]
    return [table.name, *(str(name) for name in own if name)]


def _uniques(table: Table) -> list[Any]:
    return [one for one in table.constraints if one.__visit_name__ == "unique_constraint"]
