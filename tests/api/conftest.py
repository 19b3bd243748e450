"""The API over HTTP against a real database: every test runs on SQLite and on PostgreSQL (tests/conftest.py).

`cloud` is a fresh platform with the defaults of a first start; `cloud.admin`, `cloud.user(...)` are clients.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cupola.store.database import Database
from tests.cloud import Client, Cloud, authenticate, open_cloud

__all__ = ["Client", "Cloud", "authenticate"]


@pytest.fixture
def cloud(fresh_database: Database, tmp_path: Path) -> Iterator[Cloud]:
    with open_cloud(fresh_database, tmp_path) as opened:
        yield opened
