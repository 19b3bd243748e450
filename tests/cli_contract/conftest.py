"""One real platform for all commands, and the data."""

import json
import uuid
from collections.abc import Generator, Iterator

import pytest

from tests.cli_contract import broker
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
def broker_url() -> Iterator[str]:
    with broker.broker() as url:
        yield url


@pytest.fixture(scope="session")
def replayer(book: Book, platform: Platform, broker_url: str) -> Iterator[Replayer]:
    secrets = json.loads((platform.data_dir / "keys" / "clients.json").read_text())
    base = {
        "api": platform.url,
        "admin": "admin",
        "password": platform.password,
        "client": "admin",
        "client secret": secrets["admin"],
        "broker url": broker_url,
        "broker username": broker.USERNAME,
        "broker password": broker.PASSWORD,
        "directory": "/home/dev/app",
        "app files": resources(HERE / "app"),
        "many files": [
            {"path": f"{n}", "mode": "644", "checksum": {"value": f"{n:040x}"}, "size_in_bytes": n}
            for n in range(1, 5001)
        ],
        "many guids": [str(uuid.UUID(int=n)) for n in range(200)],
    }
    replayer = Replayer(book, platform.port, base)
    yield replayer
    replayer.close()
