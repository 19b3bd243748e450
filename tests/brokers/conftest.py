"""Brokers over real HTTP; `calling(broker)` runs calls of the client against one."""

from collections.abc import Iterator

import pytest

from tests.brokers.scripted import Broker, scripted


@pytest.fixture
def broker() -> Iterator[Broker]:
    with scripted() as opened:
        yield opened
