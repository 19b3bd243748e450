"""A runner with handlers of a test's own, and what became of its jobs."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Row, delete, func, insert, select

from cupola.config import Jobs
from cupola.jobs.runner import Handler, Runner
from cupola.roles import system_actor
from cupola.store import jobs
from cupola.store.database import Database, Tx
from cupola.store.leases import leases

__all__ = ["LANES", "counted", "done", "ended", "enqueue", "job_of", "marks", "note", "running", "unmark"]

LANES = {"default": 2, "broker": 4}


def note(tx: Tx, mark: str) -> None:
    """An effect that a handler has on the database. Rows of a table with a name as key serve: one more has to differ."""
    number = counted(tx, mark)
    tx.run(insert(leases).values(name=f"{mark}#{number}", due_at=0))


def counted(tx: Tx, mark: str) -> int:
    """How often `note` was committed."""
    return int(tx.scalar(select(func.count()).select_from(leases).where(leases.c.name.startswith(f"{mark}#"))))


def marks(database: Database, mark: str) -> int:
    """How often `note` was committed."""
    with database.read() as tx:
        return counted(tx, mark)


def unmark(tx: Tx) -> None:
    """Forget all notes."""
    tx.run(delete(leases))


def enqueue(database: Database, operation: str, payload: Mapping[str, Any] | None = None, **more: Any) -> str:
    """A job of nobody in particular."""
    with database.write() as tx:
        return jobs.enqueue(tx, operation, payload or {}, actor=system_actor(), **more)


def job_of(database: Database, guid: str) -> Row[Any]:
    """The job as it is."""
    with database.read() as tx:
        row = tx.one(select(jobs.jobs).where(jobs.jobs.c.guid == guid))
    assert row is not None
    return row


async def ended(database: Database, *guids: str) -> list[Row[Any]]:
    """The jobs, once all of them have ended."""
    bell = database.bells.listen("jobs.done")
    try:
        async with asyncio.timeout(20):
            while True:
                found = [await asyncio.to_thread(job_of, database, guid) for guid in guids]
                if all(job.state in {"COMPLETE", "FAILED"} for job in found):
                    return found
                await bell.wait(1)
    finally:
        bell.close()


def done(job: Row[Any]) -> bool:
    """Whether a job ended well."""
    return bool(job.state == "COMPLETE")


@asynccontextmanager
async def running(
    database: Database, handlers: Mapping[str, Handler], *, alone: bool = False, **settings: Any
) -> AsyncIterator[Runner]:
    """A runner that works until the block ends."""
    runner = Runner(database, handlers, Jobs(**{"lanes": LANES, **settings}), database.bells)
    await runner.start(alone=alone)
    try:
        yield runner
    finally:
        await runner.stop()
