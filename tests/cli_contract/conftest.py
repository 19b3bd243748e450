"""One real platform for all commands, and the data."""

import json
from collections.abc import Generator, Iterator

import pytest

from tests.cli_contract.bodies import resources
from tests.cli_contract.book import HERE, Book, read
from tests.cli_contract.replay import Replayer
from tests.journeys.platform import Platform, started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed command shows what the platform's processes said last."""
    report = yield
    platform = getattr(item, "funcargs", {}).get("platform")
    if report.failed and isinstance(platform, Platform):
        report.sections.append(("platform", platform.diagnosis()))
    return report


@pytest.fixture(scope="session")
def book() -> Book:
    return read()


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with started(tmp_path_factory.mktemp("platform") / "data") as platform:
        yield platform


@pytest.fixture(scope="session")
def replayer(book: Book, platform: Platform) -> Iterator[Replayer]:
    secrets = json.loads((platform.data_dir / "keys" / "clients.json").read_text())
    base = {
        "api": platform.url,
        "admin": "admin",
        "password": platform.password,
        "client": "admin",
        "client secret": secrets["admin"],
        "directory": "/home/dev/app",
        "app files": resources(HERE / "app"),
    }
    replayer = Replayer(book, platform.port, base)
    yield replayer
    replayer.close()
