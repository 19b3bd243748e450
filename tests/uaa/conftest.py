"""The identity server over HTTP against a real database: SQLite, or PostgreSQL where CUPOLA_TEST_POSTGRES names one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cupola import clock
from tests.uaa.house import POSTGRES, House, copied, drop_postgres, make_template, opened


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data directory of a platform after its first start."""
    directory = tmp_path_factory.mktemp("identity")
    make_template(directory)
    yield directory
    if POSTGRES:
        drop_postgres((directory / "postgres").read_text())


@pytest.fixture
def platform(template: Path, tmp_path: Path) -> Iterator[Path]:
    """A platform's data directory, for tests that open it with settings of their own or more than once."""
    with copied(template, tmp_path / "platform") as directory:
        yield directory


@pytest.fixture
def house(platform: Path) -> Iterator[House]:
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
