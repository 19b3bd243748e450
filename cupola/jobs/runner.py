"""Runs jobs: leases them lane by lane, works, retries what may pass, records what will not.

A handler is a plain function of a transaction and a job, run on a thread. Its changes and the end of the job commit
together, so a job killed half-way leaves nothing half-done: its lease runs out, and it runs again from the start.

Work that waits for somebody outside is an `Outside` handler (outside.py): a coroutine with transactions of its own.
"""

import asyncio
import logging
import os
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.exc import IntegrityError, OperationalError

from cupola import clock, errors
from cupola.bell import Bells
from cupola.config import Jobs
from cupola.errors import CloudError
from cupola.jobs.outside import Done, Job, LeaseLost, Outcome, Outside, OutsideJob, Retry
from cupola.roles import Actor
from cupola.store import jobs
from cupola.store.database import Database, Tx

__all__ = ["Handler", "Job", "Retry", "Runner"]

log = logging.getLogger(__name__)
_PERIOD = 5.0
"""Seconds between looks at the table when no bell rings."""
_MAX_ATTEMPTS = 8


_STOP_SECONDS = 5.0
"""Seconds that a stopping runner waits for outside work; then it is given back, for the next runner."""
_COMMITS = 3
"""Times that the last transaction of outside work is tried, so that nobody outside is asked again for a conflict."""

Handler = Callable[[Tx, Job], None] | Outside


class Runner:
    """Runs the jobs of one process. `start` on the event loop, `stop` before the database is closed."""

    def __init__(self, database: Database, handlers: Mapping[str, Handler], settings: Jobs, bells: Bells) -> None:
        self._database = database
        self._handlers = handlers
        self._settings = settings
        self._bells = bells
        self._owner = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._lease = int(settings.lease_seconds * 1_000_000)
        # More threads than jobs: leases are renewed while every job works.
        self._threads = ThreadPoolExecutor(sum(settings.lanes.values()) + 2, thread_name_prefix="job")
        self._lanes: list[asyncio.Task[None]] = []
        self._working: set[asyncio.Task[None]] = set()
        self._outside: set[asyncio.Task[Outcome]] = set()
        self._stopping = False
        self._running: dict[str, Row[Any]] = {}
        """The jobs that run here, by guid."""
        self._ended: dict[str, list[asyncio.Event]] = {}

    async def start(self, *, alone: bool) -> None:
        """Begin. `alone`: no other process runs jobs of this database, so every lease that exists is a dead one's."""
        if alone:
            await self._in_thread(self._free_leases)
        self._lanes = [asyncio.create_task(self._lane(name, limit)) for name, limit in self._settings.lanes.items()]

    async def stop(self) -> None:
        """Take no more jobs and wait for those that run; what waits for the outside is given back after some seconds."""
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)
        self._stopping = True
        if self._outside:
            await asyncio.wait(self._outside, timeout=_STOP_SECONDS)
            for task in self._outside:
                task.cancel()
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
            return tx.scalar(select(jobs.jobs.c.guid).where(jobs.jobs.c.guid == guid, jobs.is_open())) is None

    def _free_leases(self) -> None:
        with self._database.write() as tx:
            jobs.release(tx, self._owner)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def _lane(self, name: str, limit: int) -> None:
        bell = self._bells.listen("jobs", f"jobs.room.{name}")
        try:
            while True:
                room = limit - sum(row.lane == name for row in self._running.values())
                found, due = await self._claim(name, room) if room else ([], None)
                for row in found:
                    self._begin(row)
                if not found:
                    await bell.wait(_PERIOD if due is None else min(_PERIOD, max(0.0, due - clock.seconds())))
        finally:
            bell.close()

    def _begin(self, row: Row[Any]) -> None:
        self._running[row.guid] = row
        task = asyncio.create_task(self._run(row))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _claim(self, lane: str, limit: int) -> tuple[list[Row[Any]], float | None]:
        """Jobs to run now, and when the next one is due (seconds since 1970) where there are none."""
        targets = Counter(row.target for row in self._running.values() if row.target is not None)
        # One whose lease ran out while it still runs here is not to be run a second time.
        wanted = jobs.Wanted(lane, frozenset(self._running), targets, self._settings.per_target)

        def work() -> tuple[list[Row[Any]], float | None]:
            with self._database.read() as tx:
                if not jobs.any_due(tx, wanted):
                    due = jobs.next_due(tx, lane)
                    return [], None if due is None else due / 1_000_000
            with self._database.write() as tx:
                return list(jobs.claim(tx, self._owner, wanted, self._lease, limit)), None

        try:
            found: tuple[list[Row[Any]], float | None] = await self._in_thread(work)
        except Exception:
            log.exception("cannot look for jobs of lane %s", lane)
            return [], None
        return found

    async def _run(self, row: Row[Any]) -> None:
        keeper = asyncio.create_task(self._keep(row.guid))
        handler = self._handlers.get(row.operation)
        try:
            if isinstance(handler, Outside):
                await self._work_outside(row, handler)
            else:
                await self._in_thread(self._work, row, handler)
        except Exception:
            log.exception("job %s (%s) could not be recorded", row.guid, row.operation)
        finally:
            keeper.cancel()
            del self._running[row.guid]
            for event in self._ended.get(row.guid, ()):
                event.set()
            self._bells.ring(f"jobs.room.{row.lane}")

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

    def _work(self, row: Row[Any], handler: Callable[[Tx, Job], None] | None) -> None:
        if handler is None:
            self._failed(row, errors.server_error(f"This platform does not know how to do {row.operation}."))
            return
        job = Job(**_described(row))
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

    async def _work_outside(self, row: Row[Any], handler: Outside) -> None:
        work = self._in_thread
        job = OutsideJob(**_described(row), database=self._database, owner=self._owner, in_thread=work)
        try:
            outcome = await self._outcome(handler, job)
            await work(self._conclude, job, outcome)
        except asyncio.CancelledError:
            # The runner stops. Whoever was asked may still do it: what the payload says is what the next one knows.
            await work(self._postpone, row, 0.0)
        except LeaseLost as lost:
            log.warning("%s", lost)
        except CloudError as error:
            await work(self._fail_outside, job, handler, error)
        except Retry as retry:
            log.info("job %s (%s) is tried again: %s", row.guid, row.operation, retry)
            await work(self._postpone, row, retry.seconds)
        except Exception:
            log.exception("job %s (%s) failed", row.guid, row.operation)
            if row.attempts >= _MAX_ATTEMPTS:
                await work(self._fail_outside, job, handler, errors.server_error())
            else:
                await work(self._again, row)

    async def _outcome(self, handler: Outside, job: OutsideJob) -> Outcome:
        if self._stopping:
            raise asyncio.CancelledError
        task = asyncio.ensure_future(handler.work(job))
        self._outside.add(task)
        task.add_done_callback(self._outside.discard)
        return await task

    def _conclude(self, job: OutsideJob, outcome: Outcome) -> None:
        def record(tx: Tx) -> None:
            job.require_lease(tx)
            if outcome.then is not None:
                outcome.then(tx)
            jobs.progress(tx, job.guid, job.payload)
            if isinstance(outcome, Done):
                jobs.finish(tx, job.guid, outcome.warnings)
            else:
                jobs.poll(tx, job.guid, outcome.seconds)

        self._commit(record)

    def _fail_outside(self, job: OutsideJob, handler: Outside, error: CloudError) -> None:
        def record(tx: Tx) -> None:
            job.require_lease(tx)
            if handler.failed is not None:
                handler.failed(tx, job, error)
            jobs.fail(tx, job.guid, error.entries)

        self._commit(record)

    def _commit(self, record: Callable[[Tx], None]) -> None:
        for attempt in range(1, _COMMITS + 1):
            try:
                with self._database.write() as tx:
                    record(tx)
            except (IntegrityError, OperationalError):
                if attempt == _COMMITS:
                    raise
            else:
                return

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


def _described(row: Row[Any]) -> dict[str, Any]:
    return {
        "guid": row.guid,
        "operation": row.operation,
        "payload": row.payload,
        "actor": Actor(**{**row.actor, "scopes": frozenset(row.actor["scopes"])}),
        "attempts": row.attempts,
        "resource_guid": row.resource_guid,
        "created_at": row.created_at,
    }
