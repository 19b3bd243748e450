"""The identity server over HTTP against a real database: every test runs on SQLite and on PostgreSQL."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cupola import clock
from cupola.store.database import Database
from tests.databases import Prepared
from tests.uaa.house import House, Platform, first_start, opened


@pytest.fixture(scope="session")
def template(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> tuple[Platform, Callable[[], None]]:
    """A platform after its first start, and what makes its database so again."""
    directory = tmp_path_factory.mktemp("identity")
    database: Database = prepared.fresh(directory)
    url = "" if database.is_sqlite else database.url.render_as_string(hide_password=False)
    platform = Platform(
        directory, url, Path(database.url.database or "") if database.is_sqlite else directory / "unused"
    )
    first_start(platform, database)
    restore = prepared.keep(database)
    database.close()
    return platform, restore


@pytest.fixture
def platform(template: tuple[Platform, Callable[[], None]], tmp_path: Path) -> Platform:
    """A platform for tests that open it with settings of their own or more than once."""
    found, restore = template
    restore()
    directory = tmp_path / "platform"
    shutil.copytree(found.directory, directory, ignore=shutil.ignore_patterns("cupola.db*"))
    return Platform(directory, found.url, found.file)


@pytest.fixture
def house(platform: Platform) -> Iterator[House]:
    """A controller with the admin user and the clients of a first start."""
    with opened(platform) as found:
        yield found


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def forward(self, seconds: float) -> None:
        self.ahead += seconds


@pytest.fixture
def moving_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Moves the platform's clock (cupola.clock) ahead of the real one."""
    made, real = Clock(), clock.nanos
    monkeypatch.setattr(clock, "nanos", lambda: real() + int(made.ahead * 1e9))
    return made
