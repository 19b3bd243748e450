"""Ends builds that no cell will end: those past their time, and those whose package is gone.

What a cell stages is computed from the rows of builds (runtime/desired.py) and ended by its events
(domain/builds_outcome.py); this loop keeps no state.
"""

import asyncio
import logging

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from cupola.config import Settings
from cupola.domain import builds_outcome
from cupola.store import rows
from cupola.store.database import Database, Tx
from cupola.store.staging import builds, packages

__all__ = ["StagingLoop", "sweep"]

GRACE = 30.0
"""Seconds that a cell has to report a staging's end after its own time limit."""
_log = logging.getLogger(__name__)


class StagingLoop:
    """Runs `sweep` on the bell `staging` and every few seconds."""

    def __init__(self, database: Database, settings: Settings, period: float = 5.0) -> None:
        self._database = database
        self._settings = settings
        self._period = period

    async def run(self) -> None:
        """Until cancelled."""
        listener = self._database.bells.listen("staging")
        try:
            while True:
                try:
                    await asyncio.to_thread(self._once)
                except SQLAlchemyError:
                    _log.exception("builds could not be looked at; trying again in %s s", self._period)
                    await asyncio.sleep(self._period)
                await listener.wait(self._period)
        finally:
            listener.close()

    def _once(self) -> None:
        with self._database.read() as tx:
            if tx.scalar(select(builds.c.guid).where(builds.c.state == "STAGING").limit(1)) is None:
                return
        with self._database.write() as tx:
            sweep(tx, self._settings)


def sweep(tx: Tx, settings: Settings) -> int:
    """Fail the builds that cannot end otherwise; returns how many."""
    waiting = tx.all(select(builds).where(builds.c.state == "STAGING").order_by(builds.c.id))
    sources = rows.by_guids(tx, packages, [row.package_guid for row in waiting])
    limit = int((settings.staging.timeout_seconds + GRACE) * 1_000_000)
    failed = 0
    for build in waiting:
        package = sources.get(build.package_guid)
        if build.lifecycle_type != "buildpack":
            reason = f"this platform cannot stage apps of lifecycle {build.lifecycle_type}: use buildpacks"
            builds_outcome.fail(tx, build.guid, "StagingError", reason)
        elif package is None or package.state != "READY" or not package.digest:
            reason = "the bits of the package are gone: upload the app again"
            builds_outcome.fail(tx, build.guid, "StagingError", reason)
        elif (build.started_at is not None and tx.now - build.started_at > limit) or (
            build.started_at is None and tx.now - build.created_at > 2 * limit
        ):
            builds_outcome.fail(tx, build.guid, "StagingTimeExpired")
        else:
            continue
        failed += 1
    return failed
