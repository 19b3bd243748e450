"""Fixtures for every package: a PostgreSQL server, and databases with the whole schema on both kinds.

A test that takes `fresh_database` (or a fixture built on it) runs twice, on SQLite and on PostgreSQL; without an
installed PostgreSQL the second run is skipped and says so.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cupola.store.database import Database
from tests import postgres
from tests.databases import Postgres, Prepared, Sqlite


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a throw-away PostgreSQL server, started when the first test asks for it."""
    server = postgres.server()
    try:
        url = server.__enter__()
    except postgres.NoPostgres as problem:
        pytest.skip(str(problem))
    try:
        yield url
    finally:
        server.__exit__(None, None, None)


@pytest.fixture(scope="session")
def sqlite_prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """Gives out fresh SQLite databases."""
    prepared = Sqlite(tmp_path_factory.mktemp("sqlite"))
    yield prepared
    prepared.close()


@pytest.fixture(scope="session")
def postgres_prepared(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """Gives out fresh PostgreSQL databases."""
    prepared = Postgres(postgres_server, tmp_path_factory.mktemp("postgres"))
    yield prepared
    prepared.close()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def prepared(request: pytest.FixtureRequest) -> Prepared:
    """Gives out fresh databases, of each kind in turn."""
    name = "sqlite_prepared" if request.param == "sqlite" else "postgres_prepared"
    found: Prepared = request.getfixturevalue(name)
    return found


@pytest.fixture
def fresh_database(prepared: Prepared, tmp_path: Path) -> Iterator[Database]:
    """A database as after a first start, of each kind in turn."""
    database = prepared.fresh(tmp_path)
    yield database
    database.close()
