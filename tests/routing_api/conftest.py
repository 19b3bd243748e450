"""A platform, and what its controller serves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cupola.store.database import Database
from tests.cloud import Cloud, open_cloud
from tests.front import open_front


@pytest.fixture
def cloud(fresh_database: Database, tmp_path: Path) -> Iterator[Cloud]:
    with open_cloud(fresh_database, tmp_path) as opened:
        yield opened


@pytest.fixture
def front(cloud: Cloud, tmp_path: Path) -> Iterator[Any]:
    with open_front(cloud, tmp_path) as opened:
        yield opened
