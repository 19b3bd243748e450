"""Syslog drains: the lines of an app go on to where its bindings say, as they come.

    ring ──> subscription ──> queue (bounded) ──> connection          one of each per app and address

A drain that does not answer is tried again and again, ever more rarely; meanwhile its queue fills up, and what does not
fit is lost. The app's own log says so (`LGR`), with the number of messages.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from cupola.config import Settings
from cupola.logs.drain_connections import Connection, Dialler, Undelivered, connection, shown
from cupola.logs.envelope import Envelope
from cupola.logs.ring import Ring, Subscription
from cupola.logs.syslog import messages
from cupola.logs.writer import AppLog

__all__ = ["Drains", "Target"]

_FIRST_PAUSE = 0.1
_BATCH = 100
_BATCH_BYTES = 256 * 1024
_REPORT_SECONDS = 30.0
"""Between two lines in the app's log about one drain: these lines go to the drain as well."""


@dataclass(frozen=True)
class Target:
    """A drain of an app. `anywhere`: an admin gave the address, so it may be a private one (cupola/outbound.py)."""

    app_guid: str
    url: str = field(repr=False)
    anywhere: bool = False


class Drains:
    """All drains of a controller. Used in one event loop."""

    def __init__(self, ring: Ring, log: AppLog, settings: Settings) -> None:
        self._ring = ring
        self._log = log
        self._settings = settings
        self._dialler = Dialler(settings)
        self._running: dict[Target, _Drain] = {}

    async def follow(self, targets: Iterable[Target]) -> None:
        """Have exactly these drains: new ones get lines from now on, others end."""
        wanted = set(targets)
        await self._stop([target for target in self._running if target not in wanted])
        for target in wanted - self._running.keys():
            try:
                way = connection(self._dialler, target.url, anywhere=target.anywhere)
            except ValueError as error:
                self._log.line(
                    target.app_guid, "LGR", "0", f"Invalid syslog drain URL {shown(target.url)}: {error}", "ERR"
                )
                way = None
            self._running[target] = _Drain(target, way, self._ring, self._log, self._settings)

    async def close(self) -> None:
        """End all drains. What they have not delivered is lost."""
        await self._stop(list(self._running))

    async def _stop(self, targets: list[Target]) -> None:
        await asyncio.gather(*(self._running.pop(target).stop() for target in targets))


class _Queue:
    """Messages that wait; `lost` counts those that found no room. One task puts, another takes."""

    def __init__(self, max_bytes: int) -> None:
        self.lost = 0
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._max_bytes = max_bytes
        self._filled = asyncio.Event()

    def put(self, message: bytes) -> None:
        if self._bytes + len(message) > self._max_bytes:
            self.lost += 1
            return
        self._waiting.append(message)
        self._bytes += len(message)
        self._filled.set()

    async def first(self) -> list[bytes]:
        """The oldest messages, which stay until they are `done`."""
        await self._filled.wait()
        found: list[bytes] = []
        size = 0
        for message in self._waiting:
            if found and (len(found) == _BATCH or size + len(message) > _BATCH_BYTES):
                break
            found.append(message)
            size += len(message)
        return found

    def done(self, count: int) -> None:
        for _ in range(count):
            self._bytes -= len(self._waiting.popleft())
        if not self._waiting:
            self._filled.clear()


class _Drain:
    """One drain, from the first line to `stop`. Without a way it only exists."""

    def __init__(self, target: Target, way: Connection | None, ring: Ring, log: AppLog, settings: Settings) -> None:
        self._target = target
        self._log = log
        self._longest = settings.services.drain_backoff_max_seconds
        self._queue = _Queue(settings.services.drain_queue_bytes)
        self._wanted = _Wanted(target.url)
        self._reported: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        if way is not None:
            subscription = ring.subscribe(target.app_guid)
            self._tasks = [asyncio.create_task(self._fill(subscription)), asyncio.create_task(self._empty(way))]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _fill(self, subscription: Subscription) -> None:
        with subscription:
            async for envelope in subscription:
                for message in self._wanted.of(envelope):
                    self._queue.put(message)
                self._queue.lost += subscription.missed
                subscription.missed = 0
                self._report_lost()

    async def _empty(self, way: Connection) -> None:
        failures = 0
        with contextlib.closing(way):
            while True:
                batch = await self._queue.first()
                try:
                    await way.send(batch)
                except Undelivered as error:
                    self._report(
                        "reach", f"Syslog drain {shown(self._target.url)} takes no messages: {error}. Trying again."
                    )
                    pause = min(self._longest, _FIRST_PAUSE * 2 ** min(failures, 30))
                    failures += 1
                    # Many drains of one server must not all come back at once.
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, hides nothing
                    continue
                failures = 0
                self._queue.done(len(batch))
                self._report_lost()

    def _report_lost(self) -> None:
        if not self._queue.lost:
            return
        text = (
            f"{self._queue.lost} messages lost for application {self._target.app_guid} "
            f"in user provided syslog drain with url {shown(self._target.url)}"
        )
        if self._report("lost", text):
            self._queue.lost = 0

    def _report(self, what: str, text: str) -> bool:
        """Tell the app's log, unless it was told a moment ago."""
        now = time.monotonic()
        if now - self._reported.get(what, -_REPORT_SECONDS) < _REPORT_SECONDS:
            return False
        self._reported[what] = now
        self._log.line(self._target.app_guid, "LGR", "0", text, "ERR")
        return True


class _Wanted:
    """Which envelopes a drain gets, as its address says: `drain-type` or `drain-data` is logs (default), metrics or all."""

    def __init__(self, url: str) -> None:
        given = parse_qs(urlsplit(url).query)
        kind = (given.get("drain-type") or given.get("drain-data") or ["logs"])[0]
        self._logs = kind != "metrics"
        self._metrics = kind in ("metrics", "all")
        self._metadata = (given.get("disable-metadata") or ["false"])[0] != "true"

    def of(self, envelope: Envelope) -> list[bytes]:
        """The messages for an envelope."""
        wanted = self._logs if envelope.payload is not None else self._metrics
        return messages(envelope, metadata=self._metadata) if wanted else []
