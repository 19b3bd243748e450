"""The API over HTTP against a real database: every test runs on SQLite and on PostgreSQL (tests/conftest.py).

`cloud` is a fresh platform with the defaults of a first start; `cloud.admin`, `cloud.user(...)` are clients.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cupola.store.database import Database
from tests.brokers.scripted import serving
from tests.cloud import Client, Cloud, authenticate, open_cloud
from tests.service_rig import ScriptedBroker, Shop

__all__ = ["Client", "Cloud", "authenticate"]


@pytest.fixture
def cloud(fresh_database: Database, tmp_path: Path) -> Iterator[Cloud]:
    with open_cloud(fresh_database, tmp_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def broker_server() -> Iterator[ScriptedBroker]:
    server = ScriptedBroker()
    with serving(server):
        yield server


@pytest.fixture
def broker(broker_server: ScriptedBroker) -> ScriptedBroker:
    """A service broker that succeeds at everything, until a test tells it otherwise."""
    broker_server.reset()
    return broker_server


@pytest.fixture
def shop(cloud: Cloud, broker: ScriptedBroker) -> Iterator[Shop]:
    """A space whose people use what the broker offers."""
    shop = Shop(cloud, broker)
    yield shop
    shop.close()
