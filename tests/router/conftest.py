import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
import uvloop

from tests.router.rig import Rig, rig

Scenario = Callable[[Rig], Awaitable[None]]


class Play(Protocol):
    def __call__(self, scenario: Scenario, **router: Any) -> None: ...


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run a scenario with a router of its own; an exception in any callback of the loop fails the test."""

    def run(scenario: Scenario, **router: Any) -> None:
        problems: list[dict[str, Any]] = []

        async def whole() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
            async with rig(tmp_path, **router) as made:
                await scenario(made)

        uvloop.run(whole())
        gc.collect()
        assert problems == []

    return run
