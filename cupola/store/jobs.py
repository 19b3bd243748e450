"""Jobs: durable work that runs once, enqueued in the transaction of whoever asks for it (behaviours.md section 6).

One row is one job of the API. A runner leases a row, works, and marks it done; a lease that is not renewed makes the
row free again, so a job whose runner was killed is finished by the next one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
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

__all__ = ["claim", "completed", "enqueue", "fail", "finish", "jobs", "postpone", "prune", "release", "renew"]

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
    Index("ix_jobs_open", "state", "lane", "run_at"),
)
"""States PROCESSING, COMPLETE, FAILED. `lease_until` in microseconds since 1970. `dedup` is cleared when a job ends."""


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
    tx.run(insert(jobs).values(**values, state="PROCESSING", lane=lane, run_at=run_at, dedup=dedup))
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


def claim(tx: Tx, owner: str, lane: str, lease: int, limit: int) -> Sequence[Row[Any]]:
    """Lease up to `limit` jobs of a lane that may run now, oldest first, for `lease` microseconds."""
    free = and_(jobs.c.state == "PROCESSING", jobs.c.lane == lane, jobs.c.run_at <= tx.now, jobs.c.lease_until < tx.now)
    wanted = select(jobs.c.guid).where(free).order_by(jobs.c.run_at, jobs.c.id).limit(limit)
    if tx.connection.dialect.name == "postgresql":
        wanted = wanted.with_for_update(skip_locked=True)
    found = tx.scalars(wanted)
    if not found:
        return []
    taken = (
        update(jobs)
        .where(jobs.c.guid.in_(found))
        .values(lease_owner=owner, lease_until=tx.now + lease, attempts=jobs.c.attempts + 1)
        .returning(jobs)
    )
    return tx.all(taken)


def renew(tx: Tx, owner: str, guid: str, lease: int) -> bool:
    """Extend a lease. False when somebody else has the job by now."""
    changed = tx.run(
        update(jobs)
        .where(jobs.c.guid == guid, jobs.c.lease_owner == owner, jobs.c.state == "PROCESSING")
        .values(lease_until=tx.now + lease)
    )
    return bool(changed.rowcount)


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


def release(tx: Tx, but: str) -> int:
    """Free the leases of every other runner of a single-process platform: at its start, they are all dead."""
    changed = tx.run(
        update(jobs)
        .where(jobs.c.state == "PROCESSING", or_(jobs.c.lease_owner.is_(None), jobs.c.lease_owner != but))
        .values(lease_until=0, lease_owner=None)
    )
    return int(changed.rowcount)


def prune(tx: Tx, before: int) -> int:
    """Delete ended jobs that were last changed before a time (microseconds since 1970)."""
    ended = jobs.c.state.in_(("COMPLETE", "FAILED"))
    return int(tx.run(delete(jobs).where(ended, jobs.c.updated_at < before)).rowcount)


def open_count(tx: Tx) -> int:
    """Jobs that have not ended."""
    return int(tx.scalar(select(func.count()).select_from(jobs).where(jobs.c.state == "PROCESSING")))
