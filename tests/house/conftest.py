"""`town`: the platform with one of everything, made once for all tests; whoever changes it brings it back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cloud import open_cloud
from tests.databases import Postgres, Prepared
from tests.house.town import Town

_OPEN: list[Town] = []


@contextmanager
def open_town(prepared: Prepared, directory: Path) -> Iterator[Town]:
    database = prepared.fresh(directory)
    with open_cloud(database, directory) as cloud:
        town = Town(cloud, lambda: None, directory)
        with town.beside:
            town.make_everything()
            town.restore = prepared.keep(database)
            _OPEN.append(town)
            yield town
            _OPEN.remove(town)
    database.close()


@pytest.fixture(scope="module", autouse=True)
def _as_it_was() -> None:
    """No file of tests begins with what another one left."""
    for town in _OPEN:
        town.restore()


@pytest.fixture(scope="session")
def town(sqlite_prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with open_town(sqlite_prepared, tmp_path_factory.mktemp("town")) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres_town(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The same on PostgreSQL, in a database of its own."""
    directory = tmp_path_factory.mktemp("town")
    prepared = Postgres(postgres_server, directory)
    with open_town(prepared, directory) as opened:
        yield opened
    prepared.close()
