"""Runs jobs: leases them lane by lane, works on threads, retries what may pass, records what will not.

A handler is a plain function of a transaction and a job. Its changes and the end of the job commit together, so a job
killed half-way leaves nothing half-done: its lease runs out, and it runs again from the start.
"""

import asyncio
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.exc import IntegrityError, OperationalError

from cupola import errors
from cupola.bell import Bells
from cupola.config import Jobs
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import jobs
from cupola.store.database import Database, Tx

__all__ = ["Handler", "Job", "Retry", "Runner"]

log = logging.getLogger(__name__)
_PERIOD = 5.0
"""Seconds between looks at the table when no bell rings."""
_MAX_ATTEMPTS = 8


class Retry(Exception):
    """The job cannot be finished now; try again after `seconds`."""

    def __init__(self, seconds: float, why: str) -> None:
        super().__init__(why)
        self.seconds = seconds


@dataclass(frozen=True)
class Job:
    """What a handler gets."""

    guid: str
    operation: str
    payload: dict[str, Any]
    actor: Actor
    attempts: int
    resource_guid: str | None


Handler = Callable[[Tx, Job], None]


class Runner:
    """Runs the jobs of one process. `start` on the event loop, `stop` before the database is closed."""

    def __init__(self, database: Database, handlers: Mapping[str, Handler], settings: Jobs, bells: Bells) -> None:
        self._database = database
        self._handlers = handlers
        self._settings = settings
        self._bells = bells
        self._owner = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._lease = int(settings.lease_seconds * 1_000_000)
        self._threads = ThreadPoolExecutor(sum(settings.lanes.values()), thread_name_prefix="job")
        self._lanes: list[asyncio.Task[None]] = []
        self._working: set[asyncio.Task[None]] = set()
        self._ended: dict[str, list[asyncio.Event]] = {}

    async def start(self, *, alone: bool) -> None:
        """Begin. `alone`: no other process runs jobs of this database, so every lease that exists is a dead one's."""
        if alone:
            await self._in_thread(self._free_leases)
        self._lanes = [asyncio.create_task(self._lane(name, limit)) for name, limit in self._settings.lanes.items()]

    async def stop(self) -> None:
        """Take no more jobs and wait for those that run."""
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)
        await asyncio.gather(*self._working, return_exceptions=True)
        self._threads.shutdown()

    async def wait(self, guid: str, seconds: float) -> None:
        """Return when the job has ended, or after `seconds`."""
        event = asyncio.Event()
        self._ended.setdefault(guid, []).append(event)
        try:
            if not await self._in_thread(self._has_ended, guid):
                async with asyncio.timeout(seconds):
                    await event.wait()
        except TimeoutError:
            pass
        finally:
            waiting = self._ended.get(guid, [])
            if event in waiting:
                waiting.remove(event)
            if not waiting:
                self._ended.pop(guid, None)

    def _has_ended(self, guid: str) -> bool:
        with self._database.read() as tx:
            return bool(tx.scalar(select(jobs.jobs.c.state).where(jobs.jobs.c.guid == guid)) != "PROCESSING")

    def _free_leases(self) -> None:
        with self._database.write() as tx:
            jobs.release(tx, self._owner)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def _lane(self, name: str, limit: int) -> None:
        bell = self._bells.listen("jobs", f"jobs.room.{name}")
        room = limit
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                running = {task for task in running if not task.done()}
                room = limit - len(running)
                found = await self._claim(name, room) if room else []
                for row in found:
                    task = asyncio.create_task(self._run(row, name))
                    running.add(task)
                    self._working.add(task)
                    task.add_done_callback(self._working.discard)
                if len(found) < room or not room:
                    await bell.wait(_PERIOD)
        finally:
            bell.close()

    async def _claim(self, lane: str, limit: int) -> list[Row[Any]]:
        def work() -> list[Row[Any]]:
            with self._database.write() as tx:
                return list(jobs.claim(tx, self._owner, lane, self._lease, limit))

        try:
            found: list[Row[Any]] = await self._in_thread(work)
        except Exception:
            log.exception("cannot look for jobs of lane %s", lane)
            return []
        return found

    async def _run(self, row: Row[Any], lane: str) -> None:
        keeper = asyncio.create_task(self._keep(row.guid))
        try:
            await self._in_thread(self._work, row)
        except Exception:
            log.exception("job %s (%s) could not be recorded", row.guid, row.operation)
        finally:
            keeper.cancel()
            for event in self._ended.get(row.guid, ()):
                event.set()
            self._bells.ring(f"jobs.room.{lane}")

    async def _keep(self, guid: str) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 3)

            def renew() -> None:
                with self._database.write() as tx:
                    jobs.renew(tx, self._owner, guid, self._lease)

            try:
                await self._in_thread(renew)
            except Exception:
                log.exception("cannot renew the lease of job %s", guid)

    def _work(self, row: Row[Any]) -> None:
        actor = Actor(**{**row.actor, "scopes": frozenset(row.actor["scopes"])})
        job = Job(row.guid, row.operation, row.payload, actor, row.attempts, row.resource_guid)
        handler = self._handlers.get(row.operation)
        if handler is None:
            self._failed(row, errors.server_error(f"This platform does not know how to do {row.operation}."))
            return
        try:
            with self._database.write() as tx:
                handler(tx, job)
                jobs.finish(tx, row.guid)
        except CloudError as error:
            self._failed(row, error)
        except Retry as retry:
            log.info("job %s (%s) is tried again: %s", row.guid, row.operation, retry)
            self._postpone(row, retry.seconds)
        except (IntegrityError, OperationalError):
            log.warning("job %s (%s) met a conflict and is tried again", row.guid, row.operation, exc_info=True)
            self._again(row)
        except Exception:
            log.exception("job %s (%s) failed", row.guid, row.operation)
            self._again(row)

    def _again(self, row: Row[Any]) -> None:
        if row.attempts >= _MAX_ATTEMPTS:
            self._failed(row, errors.server_error())
        else:
            self._postpone(row, min(60.0, 0.2 * 2**row.attempts))

    def _failed(self, row: Row[Any], error: CloudError) -> None:
        with self._database.write() as tx:
            jobs.fail(tx, row.guid, error.entries)

    def _postpone(self, row: Row[Any], seconds: float) -> None:
        with self._database.write() as tx:
            jobs.postpone(tx, row.guid, seconds)
