"""The controller's end of the connection to a cell: tells what should run, stores what does."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from sqlalchemy import Row, delete, insert, select, update

from cupola.config import Settings
from cupola.domain import audit, builds_outcome, tasks
from cupola.logs.envelope import Batch, Envelope
from cupola.roles import Actor
from cupola.runtime.desired import compute, difference
from cupola.runtime.messages import (
    Actual,
    Desired,
    Event,
    Instance,
    InstanceChanged,
    InstanceCrashed,
    InstanceGone,
    InstanceMetrics,
    ReadinessChanged,
    TaskFinished,
    TaskStarted,
)
from cupola.store import rows
from cupola.store.apps import apps, processes
from cupola.store.database import Database, Tx
from cupola.store.instances import cells, instances
from cupola.wire import Peer

__all__ = ["CellFeed", "apply", "replace_actual"]

PERIOD = 15.0
"""Seconds after which desired state is compared again, should a bell have been lost."""
STALE = 60_000_000
"""Microseconds after which the metrics of an instance are forgotten."""
_log = logging.getLogger(__name__)


class CellFeed:
    """One for all cells. `take_logs` stores a batch and returns the number to acknowledge (`Ring.take`);
    `add_envelopes` takes the platform's own envelopes (`Ring.add`)."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        take_logs: Callable[[Batch], int],
        add_envelopes: Callable[[Iterable[Envelope]], None],
    ) -> None:
        self._database = database
        self._settings = settings
        self._take_logs = take_logs
        self._add_envelopes = add_envelopes
        self._metrics: dict[str, InstanceMetrics] = {}

    def metrics(self) -> dict[str, InstanceMetrics]:
        """The last metrics by instance guid. Callable from any thread."""
        return self._metrics

    async def handle(self, peer: Peer) -> None:
        """Serve one cell until it goes. Raises EOFError or OSError then."""
        session = _Session(self, peer, self._database, self._settings)
        push = asyncio.create_task(session.push())
        try:
            receive = asyncio.create_task(session.receive())
            try:
                done, _ = await asyncio.wait({push, receive}, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                receive.cancel()
        finally:
            push.cancel()

    def take_metrics(self, found: list[InstanceMetrics]) -> None:
        """Keep the metrics of one cell, and pass them on as envelopes."""
        newest = max((one.at for one in found), default=0)
        kept = {key: one for key, one in self._metrics.items() if one.at > newest - STALE}
        self._metrics = kept | {one.instance_guid: one for one in found}
        self._add_envelopes([envelope for one in found for envelope in _gauges(one)])

    def take_logs(self, batch: Batch) -> int:
        """Store a batch of log lines; the number to acknowledge."""
        return self._take_logs(batch)


class _Session:
    def __init__(self, feed: CellFeed, peer: Peer, database: Database, settings: Settings) -> None:
        self._feed = feed
        self._peer = peer
        self._database = database
        self._settings = settings
        self._cell_id = ""
        self._full = True
        self._wake = asyncio.Event()

    async def push(self) -> None:
        listener = self._database.bells.listen("desired")
        sent: Desired | None = None
        revision = 0
        try:
            while True:
                revision += 1
                found = await asyncio.to_thread(self._compute, revision)
                if sent is None or self._full:
                    self._full = False
                    await self._peer.send("desired.full", found)
                    sent = found
                else:
                    delta = difference(sent, found)
                    if delta is not None:
                        await self._peer.send("desired.delta", delta)
                        sent = found
                    elif found.terminate != sent.terminate:
                        sent = msgspec.structs.replace(sent, terminate=found.terminate)
                await self._rest(listener)
        finally:
            listener.close()

    async def _rest(self, listener: Any) -> None:
        rung = asyncio.create_task(listener.wait(PERIOD))
        asked = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({rung, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            rung.cancel()
            asked.cancel()
        self._wake.clear()
        # Several changes made at once travel together. Longer than the router's pause, so that a route is withdrawn
        # before the instance behind it is stopped.
        await asyncio.sleep(0.03)

    def _compute(self, revision: int) -> Desired:
        with self._database.read() as tx:
            return compute(tx, self._settings, self._cell_id, revision)

    async def receive(self) -> None:
        while True:
            kind, body = await self._peer.receive()
            if kind == "event":
                event = msgspec.convert(body, Event)
                await asyncio.to_thread(self._event, event)
                await self._peer.send("event.ack", event.seq)
            elif kind == "actual.full":
                actual = msgspec.convert(body, Actual)
                self._cell_id = actual.cell_id
                await asyncio.to_thread(self._actual, actual)
            elif kind == "metrics":
                self._feed.take_metrics(msgspec.convert(body, list[InstanceMetrics]))
            elif kind == "logs":
                batch = msgspec.convert(body, Batch)
                await self._peer.send("logs.ack", await asyncio.to_thread(self._feed.take_logs, batch))
            elif kind == "desired.request":
                self._full = True
                self._wake.set()
            else:
                _log.warning("a cell sent %r, which this controller does not know: update both together", kind)

    def _event(self, event: Event) -> None:
        with self._database.write() as tx:
            apply(tx, self._settings, event)

    def _actual(self, actual: Actual) -> None:
        with self._database.write() as tx:
            replace_actual(tx, actual)


def replace_actual(tx: Tx, actual: Actual) -> None:
    """Make the rows of a cell what it says it has."""
    known = tx.one(select(cells).where(cells.c.cell_id == actual.cell_id))
    if known is None:
        tx.run(insert(cells).values(cell_id=actual.cell_id, last_event=0, seen_at=tx.now))
    else:
        # A cell whose directory was lost counts from the start again; its events must not pass for old ones.
        last = min(known.last_event, actual.seq)
        if actual.seq < known.last_event:
            tasks.lost(tx, actual.cell_id, actual.tasks)
        tx.run(update(cells).where(cells.c.cell_id == actual.cell_id).values(last_event=last, seen_at=tx.now))
    asked = set(
        tx.scalars(
            select(instances.c.instance_guid).where(
                instances.c.cell_id == actual.cell_id, instances.c.terminate.is_(True)
            )
        )
    )
    tx.run(delete(instances).where(instances.c.cell_id == actual.cell_id))
    for one in actual.instances:
        _put(tx, actual.cell_id, one, terminate=bool(one.instance_guid) and one.instance_guid in asked)
    _changed(tx)


def apply(tx: Tx, settings: Settings, event: Event) -> None:
    """Store one event, once: its number is kept in the same transaction."""
    known = tx.one(select(cells).where(cells.c.cell_id == event.cell_id))
    if known is None:
        tx.run(insert(cells).values(cell_id=event.cell_id, last_event=event.seq, seen_at=tx.now))
    elif event.seq <= known.last_event:
        return
    else:
        tx.run(update(cells).where(cells.c.cell_id == event.cell_id).values(last_event=event.seq, seen_at=tx.now))
    body = event.body
    if isinstance(body, InstanceChanged):
        _put(tx, event.cell_id, body.instance, terminate=None)
        _changed(tx)
    elif isinstance(body, InstanceGone):
        tx.run(
            delete(instances).where(
                instances.c.process_guid == body.process_guid,
                instances.c.index == body.index,
                instances.c.instance_guid == body.instance_guid,
            )
        )
        _changed(tx)
    elif isinstance(body, InstanceCrashed):
        _crashed(tx, body)
    elif isinstance(body, ReadinessChanged):
        _readiness(tx, body)
    elif isinstance(body, TaskStarted):
        if not tasks.started(tx, body.guid, event.cell_id, body.at):
            builds_outcome.started(tx, body.guid, body.at)
    else:
        _finished(tx, settings, body)


def _put(tx: Tx, cell_id: str, one: Instance, terminate: bool | None) -> None:
    key = (
        (instances.c.process_guid == one.process_guid)
        & (instances.c.index == one.index)
        & (instances.c.version == one.version)
    )
    old = tx.one(select(instances).where(key))
    if terminate is None:
        terminate = old is not None and old.instance_guid == one.instance_guid and bool(old.terminate)
    first = str(one.ports[0].internal) if one.ports else "8080"
    values = {
        "process_guid": one.process_guid,
        "index": one.index,
        "version": one.version,
        "instance_guid": one.instance_guid,
        "cell_id": cell_id,
        "state": one.state,
        "since": one.since,
        "routable": one.routable,
        "endpoints": one.endpoints or ({first: one.endpoint} if one.endpoint else {}),
        "host": one.host,
        "internal_ip": one.internal_ip,
        "ports": [{"internal": port.internal, "external": port.external} for port in one.ports],
        "details": one.details,
        "crash_count": one.crash_count,
        "terminate": terminate,
    }
    if old is None:
        tx.run(insert(instances).values(values))
    else:
        tx.run(update(instances).where(key).values(values))


def _owner(tx: Tx, process_guid: str) -> tuple[Row[Any], Row[Any]] | None:
    process = rows.by_guid(tx, processes, process_guid)
    app = rows.by_guid(tx, apps, process.app_guid) if process is not None else None
    return (process, app) if process is not None and app is not None else None


def _crashed(tx: Tx, body: InstanceCrashed) -> None:
    owner = _owner(tx, body.process_guid)
    if owner is None:
        return
    process, app = owner
    data = {
        "instance": body.instance_guid,
        "index": body.index,
        "cell_id": body.cell_id,
        "exit_description": body.exit_description,
        "reason": "CRASHED",
    }
    actor = _process_actor(process)
    audit.record(tx, "app.crash", actor, app.guid, "app", app.name, data, space_guid=app.space_guid)
    more = {"crash_count": body.crash_count, "crash_timestamp": body.at // 1_000_000, "version": body.version}
    kind = "audit.app.process.crash"
    audit.record(tx, kind, actor, process.guid, "process", process.type, data | more, space_guid=app.space_guid)


def _readiness(tx: Tx, body: ReadinessChanged) -> None:
    owner = _owner(tx, body.process_guid)
    if owner is None:
        return
    process, app = owner
    kind = "audit.app.process.ready" if body.ready else "audit.app.process.not-ready"
    data = {"instance": body.instance_guid, "index": body.index, "cell_id": body.cell_id, "version": body.version}
    actor = _process_actor(process)
    audit.record(tx, kind, actor, process.guid, "process", process.type, data, space_guid=app.space_guid)


def _process_actor(process: Row[Any]) -> Actor:
    return Actor(guid=process.guid, name=process.type, scopes=frozenset(), type="process")


def _finished(tx: Tx, settings: Settings, body: TaskFinished) -> None:
    if tasks.finished(tx, body.guid, body.failure_reason):
        return
    made = body.staging
    if body.exit_status == 0 and not body.failure_reason and made is not None and made.droplet:
        builds_outcome.succeed(
            tx,
            settings,
            body.guid,
            droplet=made.droplet,
            sha1=made.droplet_sha1,
            size=made.droplet_bytes,
            cache=made.cache,
            result=made.result,
            stack_fingerprint=made.stack_fingerprint,
        )
    else:
        builds_outcome.fail(tx, body.guid, body.error_id, body.failure_reason or "staging failed")


def _changed(tx: Tx) -> None:
    tx.ring("routes")
    tx.ring("instances")


def _gauges(one: InstanceMetrics) -> list[Envelope]:
    # Three envelopes, as Cloud Foundry sends them (reference/app-runtime.md section 9).
    groups: list[dict[str, tuple[float, str]]] = [
        {
            "cpu": (one.cpu * 100, "percentage"),
            "memory": (float(one.memory), "bytes"),
            "disk": (float(one.disk), "bytes"),
            "memory_quota": (float(one.memory_quota), "bytes"),
            "disk_quota": (float(one.disk_quota), "bytes"),
        },
        {
            "container_age": (float(one.age), "nanoseconds"),
            "cpu_entitlement": (one.cpu_entitlement * 100, "percentage"),
        },
        {
            "log_rate": (float(one.log_rate), "B/s"),
            "log_rate_limit": (float(one.log_rate_limit), "B/s"),
        },
    ]
    tags = {**one.tags, "instance_id": str(one.index), "process_instance_id": one.instance_guid}
    return [Envelope(one.at * 1000, one.app_guid, str(one.index), tags, gauge=gauges) for gauges in groups]
