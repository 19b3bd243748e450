"""`house`: the make-believe API of tests/rest/widgets.py, fresh for every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rest.widgets import House
from tests.rest.widgets import house as open_house


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as opened:
        yield opened
