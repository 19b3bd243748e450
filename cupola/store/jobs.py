"""Jobs: durable work that runs once, enqueued in the transaction of whoever asks for it (behaviours.md section 6).

One row is one job of the API. A runner leases a row, works, and marks it done; a lease that is not renewed makes the
row free again, so a job whose runner was killed is finished by the next one. POLLING is a job that waits for somebody
outside, such as a broker, and asks again at `run_at`: it holds no lease meanwhile.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    Row,
    String,
    Table,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from cupola import guid as guids
from cupola.roles import Actor
from cupola.store.database import Tx
from cupola.store.schema import Json, metadata, resource_columns

__all__ = [
    "Wanted",
    "any_due",
    "claim",
    "completed",
    "enqueue",
    "fail",
    "finish",
    "holds",
    "is_open",
    "jobs",
    "next_due",
    "poll",
    "postpone",
    "progress",
    "prune",
    "release",
    "renew",
]

jobs = Table(
    "jobs",
    metadata,
    *resource_columns(),
    Column("operation", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("lane", String(16), nullable=False),
    Column("payload", Json, nullable=False),
    Column("actor", Json, nullable=False),
    Column("run_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("lease_owner", String(64)),
    Column("lease_until", BigInteger, nullable=False, default=0),
    Column("dedup", String(255), unique=True),
    Column("errors", Json, nullable=False),
    Column("warnings", Json, nullable=False),
    Column("resource_guid", String(255), index=True),
    Column("resource_type", String(64)),
    Column("target", String(255)),
    Index("ix_jobs_open", "state", "lane", "run_at"),
)
"""States PROCESSING, POLLING, COMPLETE, FAILED. `run_at` and `lease_until` in microseconds since 1970. `dedup` is cleared
when a job ends. `target` names whom the job calls, such as a broker: few jobs of one target run at once. `payload` is what
the job was asked for, and how far it has come."""


def is_open() -> ColumnElement[bool]:
    """The condition that a job has not ended."""
    return or_(jobs.c.state == "PROCESSING", jobs.c.state == "POLLING")


def enqueue(
    tx: Tx,
    operation: str,
    payload: Mapping[str, Any],
    *,
    actor: Actor,
    lane: str = "default",
    run_after: float = 0,
    dedup: str | None = None,
    resource_guid: str | None = None,
    resource_type: str | None = None,
    target: str | None = None,
) -> str:
    """Add a job that runs when this transaction is committed, not before `run_after` seconds. Returns its guid.

    With `dedup`, a job that has the same key and has not ended is returned instead.
    """
    if dedup is not None:
        existing = tx.scalar(select(jobs.c.guid).where(jobs.c.dedup == dedup))
        if existing is not None:
            return str(existing)
    values = _values(tx, operation, payload, actor, resource_guid, resource_type)
    run_at = tx.now + int(run_after * 1_000_000)
    tx.run(insert(jobs).values(**values, state="PROCESSING", lane=lane, run_at=run_at, dedup=dedup, target=target))
    tx.ring("jobs")
    return str(values["guid"])


def completed(
    tx: Tx, operation: str, *, actor: Actor, resource_guid: str | None = None, resource_type: str | None = None
) -> str:
    """Note a job whose work this very transaction does, for clients that poll for it. Returns its guid."""
    values = _values(tx, operation, {}, actor, resource_guid, resource_type)
    tx.run(insert(jobs).values(**values, state="COMPLETE", lane="default", run_at=tx.now))
    return str(values["guid"])


def _values(
    tx: Tx,
    operation: str,
    payload: Mapping[str, Any],
    actor: Actor,
    resource_guid: str | None,
    resource_type: str | None,
) -> dict[str, Any]:
    return {
        "guid": guids.new(),
        "created_at": tx.now,
        "updated_at": tx.now,
        "operation": operation,
        "payload": dict(payload),
        "actor": {
            "guid": actor.guid,
            "name": actor.name,
            "scopes": sorted(actor.scopes),
            "is_client": actor.is_client,
            "email": actor.email,
            "origin": actor.origin,
            "type": actor.type,
        },
        "errors": [],
        "warnings": [],
        "resource_guid": resource_guid,
        "resource_type": resource_type,
    }


@dataclass(frozen=True)
class Wanted:
    """Which jobs a runner takes: those of a lane, not those that it `runs` (guids) already, and of no target more than
    `per_target` at once (0: no limit), counting those of `targets`."""

    lane: str
    runs: Collection[str] = ()
    targets: Mapping[str, int] = field(default_factory=dict)
    per_target: int = 0

    def free(self, tx: Tx) -> ColumnElement[bool]:
        """The condition on a job that may be taken now."""
        found = and_(is_open(), jobs.c.lane == self.lane, jobs.c.run_at <= tx.now, jobs.c.lease_until < tx.now)
        if self.runs:
            found = and_(found, jobs.c.guid.not_in(list(self.runs)))
        busy = [target for target, number in self.targets.items() if self.per_target and number >= self.per_target]
        return and_(found, or_(jobs.c.target.is_(None), jobs.c.target.not_in(busy))) if busy else found


def any_due(tx: Tx, wanted: Wanted) -> bool:
    """Whether there is a job to be taken now."""
    return tx.scalar(select(jobs.c.guid).where(wanted.free(tx)).limit(1)) is not None


def claim(tx: Tx, owner: str, wanted: Wanted, lease: int, limit: int) -> Sequence[Row[Any]]:
    """Lease up to `limit` jobs that may run now, oldest first, for `lease` microseconds."""
    candidates = select(jobs.c.guid, jobs.c.target).where(wanted.free(tx))
    candidates = candidates.order_by(jobs.c.run_at, jobs.c.id).limit(limit)
    if tx.connection.dialect.name == "postgresql":
        candidates = candidates.with_for_update(skip_locked=True)
    counts = dict(wanted.targets)
    found = []
    for row in tx.all(candidates):
        if row.target is None or not wanted.per_target or counts.get(row.target, 0) < wanted.per_target:
            counts[row.target] = counts.get(row.target, 0) + 1
            found.append(row.guid)
    if not found:
        return []
    taken = tx.all(
        update(jobs)
        .where(jobs.c.guid.in_(found))
        .values(lease_owner=owner, lease_until=tx.now + lease, attempts=jobs.c.attempts + 1)
        .returning(jobs)
    )
    return sorted(taken, key=lambda row: (row.run_at, row.id))


def next_due(tx: Tx, lane: str) -> int | None:
    """When the next job of a lane that waits for its time may run (microseconds since 1970), or None."""
    later = and_(is_open(), jobs.c.lane == lane, jobs.c.run_at > tx.now)
    found: int | None = tx.scalar(select(func.min(jobs.c.run_at)).where(later))
    return found


def renew(tx: Tx, owner: str, guid: str, lease: int) -> bool:
    """Extend a lease. False when somebody else has the job by now."""
    changed = tx.run(
        update(jobs)
        .where(jobs.c.guid == guid, jobs.c.lease_owner == owner, is_open())
        .values(lease_until=tx.now + lease)
    )
    return bool(changed.rowcount)


def holds(tx: Tx, owner: str, guid: str) -> bool:
    """Whether the job is still this runner's and has not ended; locks the row on PostgreSQL until the commit."""
    wanted = select(jobs.c.guid).where(jobs.c.guid == guid, jobs.c.lease_owner == owner, is_open())
    if tx.connection.dialect.name == "postgresql":
        wanted = wanted.with_for_update()
    return tx.scalar(wanted) is not None


def progress(tx: Tx, guid: str, payload: Mapping[str, Any]) -> None:
    """Remember how far a job has come; best in the transaction of the step that it has done."""
    tx.run(update(jobs).where(jobs.c.guid == guid).values(payload=dict(payload)))


def finish(tx: Tx, guid: str, warnings: Sequence[str] = ()) -> None:
    """Mark a job as done; best in the transaction that did its work."""
    values = {"state": "COMPLETE", "warnings": [{"detail": warning} for warning in warnings]}
    tx.run(update(jobs).where(jobs.c.guid == guid).values(**values, updated_at=tx.now, dedup=None))
    tx.ring("jobs.done")


def fail(tx: Tx, guid: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Mark a job as failed with the errors that its poller sees."""
    values = {"state": "FAILED", "errors": list(entries), "updated_at": tx.now, "dedup": None}
    tx.run(update(jobs).where(jobs.c.guid == guid).values(values))
    tx.ring("jobs.done")


def postpone(tx: Tx, guid: str, seconds: float) -> None:
    """Give a job back, to be tried again after `seconds`."""
    run_at = tx.now + int(seconds * 1_000_000)
    tx.run(update(jobs).where(jobs.c.guid == guid).values(run_at=run_at, lease_until=0, lease_owner=None))
    tx.ring("jobs")


def poll(tx: Tx, guid: str, seconds: float) -> None:
    """Give a job back that waits for somebody outside: it is POLLING, and asks again after `seconds`."""
    values = {"state": "POLLING", "run_at": tx.now + int(seconds * 1_000_000), "updated_at": tx.now, "attempts": 0}
    tx.run(update(jobs).where(jobs.c.guid == guid).values(**values, lease_until=0, lease_owner=None))
    tx.ring("jobs")


def release(tx: Tx, but: str) -> int:
    """Free the leases of every other runner of a single-process platform: at its start, they are all dead."""
    changed = tx.run(
        update(jobs)
        .where(is_open(), or_(jobs.c.lease_owner.is_(None), jobs.c.lease_owner != but))
        .values(lease_until=0, lease_owner=None)
    )
    return int(changed.rowcount)


def prune(tx: Tx, before: int) -> int:
    """Delete ended jobs that were last changed before a time (microseconds since 1970)."""
    ended = jobs.c.state.in_(("COMPLETE", "FAILED"))
    return int(tx.run(delete(jobs).where(ended, jobs.c.updated_at < before)).rowcount)


def open_count(tx: Tx) -> int:
    """Jobs that have not ended."""
    return int(tx.scalar(select(func.count()).select_from(jobs).where(is_open())))
