"""Chores: work that is due every so many seconds, once for the whole platform, however many controllers there are."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cupola.store.database import Database
from cupola.store.leases import take

__all__ = ["Chore", "Periodic"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chore:
    """`work` is blocking and safe to repeat; it is due every `seconds`."""

    seconds: float
    work: Callable[[], None]


class Periodic:
    """Runs chores when they are due; a lease in the database sees to it that one controller does."""

    def __init__(self, database: Database, chores: Mapping[str, Chore]) -> None:
        self._database = database
        self._chores = chores

    async def run(self) -> None:
        """Run for ever."""
        await asyncio.gather(*(self._repeat(name, chore) for name, chore in self._chores.items()))

    async def _repeat(self, name: str, chore: Chore) -> None:
        while True:
            # Controllers that started together do not ask together.
            await asyncio.sleep(min(chore.seconds, 60.0) * random.uniform(0.5, 1.0))  # noqa: S311  # no secret
            try:
                if await asyncio.to_thread(self._due, name, chore.seconds):
                    await asyncio.to_thread(chore.work)
            except Exception:
                log.exception("the chore %r failed; it is tried again when it is due", name)

    def _due(self, name: str, seconds: float) -> bool:
        with self._database.write() as tx:
            return take(tx, name, int(seconds * 1_000_000))
