"""Outside jobs: work that waits for somebody else, such as a service broker, and holds no transaction meanwhile.

    async def provision(job: OutsideJob) -> Outcome:
        instance = await job.read(lambda tx: ...)
        if "asked" not in job.payload:
            job.payload["asked"] = True
            await job.write(lambda tx: ...)         # commits what it did together with the payload
        answer = await broker.provision(...)        # as long as it takes; no connection is held
        if answer.state == "in progress":
            return Poll(answer.retry_after, lambda tx: ...)
        return Done(lambda tx: ...)                 # commits together with the end of the job

    Outside(provision, failed=note_failure)

A platform that is killed starts `work` again with the payload that was committed last: what must not be done twice is
written down before it is done, and looked for when it is found written down. Every transaction makes sure that the job
is still this runner's; when it is not, `LeaseLost` ends the work.

`failed` commits together with the failure of the job, whatever the reason: an error that `work` raised or that its last
transaction raised, too many attempts. An error's `__cause__` tells it more than the job's poller sees.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import jobs
from cupola.store.database import Database, Tx

__all__ = ["Done", "Job", "LeaseLost", "Outcome", "Outside", "OutsideJob", "Poll", "Retry"]

T = TypeVar("T")
Then = Callable[[Tx], None]


class Retry(Exception):
    """The job cannot be finished now; try again after `seconds`."""

    def __init__(self, seconds: float, why: str) -> None:
        super().__init__(why)
        self.seconds = seconds


class LeaseLost(Exception):
    """Somebody else has the job by now, or it has ended: whatever this runner still does must not be kept."""


@dataclass(frozen=True)
class Job:
    """What a handler gets."""

    guid: str
    operation: str
    payload: dict[str, Any]
    actor: Actor
    attempts: int
    """From 1; counts anew after every poll."""
    resource_guid: str | None
    created_at: int = 0
    """When it was enqueued, in microseconds since 1970."""


@dataclass(frozen=True)
class Done:
    """The work is done. `then` commits together with the end of the job; its errors fail the job."""

    then: Then | None = None
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Poll:
    """Somebody outside is still at it: run `work` again after `seconds`. The job is POLLING and holds no slot of its lane."""

    seconds: float
    then: Then | None = None


Outcome = Done | Poll


@dataclass(frozen=True)
class OutsideJob(Job):
    """A job whose handler takes its transactions one by one; `payload` may be changed, and is kept with the next one."""

    database: Database = field(kw_only=True, repr=False)
    owner: str = field(kw_only=True)
    in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] = field(kw_only=True, repr=False)

    async def read(self, function: Callable[[Tx], T]) -> T:
        """What `function` reads, on a thread."""

        def work() -> T:
            with self.database.read() as tx:
                return function(tx)

        found: T = await self.in_thread(work)
        return found

    async def write(self, function: Callable[[Tx], T]) -> T:
        """What `function` gives, in a transaction on a thread that also keeps the payload. Raises LeaseLost."""

        def work() -> T:
            with self.database.write() as tx:
                self.require_lease(tx)
                result = function(tx)
                jobs.progress(tx, self.guid, self.payload)
                return result

        result: T = await self.in_thread(work)
        return result

    async def keep(self) -> None:
        """Commit the payload alone."""
        await self.write(lambda tx: None)

    def require_lease(self, tx: Tx) -> None:
        """Raises LeaseLost unless the job is still this runner's."""
        if not jobs.holds(tx, self.owner, self.guid):
            raise LeaseLost(f"job {self.guid} ({self.operation}) is no longer this runner's")


@dataclass(frozen=True)
class Outside:
    """A handler that waits for the outside. `work` runs on the event loop and must not block it."""

    work: Callable[[OutsideJob], Awaitable[Outcome]]
    failed: Callable[[Tx, Job, CloudError], None] | None = None
