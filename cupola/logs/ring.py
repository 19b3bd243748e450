"""Recent log lines and metrics of every source, in the controller's memory and, for lines, on its disk.

One `Ring` per controller takes batches from the spools of cells and router and the controller's own lines, gives each
envelope a timestamp that is unique and increasing in its source, and answers reads. Batches may come twice: an
envelope is known by its producer and number, also after a crash at any point. Metrics are kept in memory only.
"""

import asyncio
import bisect
import contextlib
import os
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Literal

import msgspec

from cupola import clock
from cupola.config import Logs
from cupola.logs.envelope import Batch, Envelope
from cupola.logs.segments import Segments, encode_record, list_sources

__all__ = ["EnvelopeType", "Meta", "Ring", "Subscription", "envelope_type"]

EnvelopeType = Literal["LOG", "COUNTER", "GAUGE", "TIMER"]

_METRICS = 250
"""Envelopes kept per source and kind of metric."""
_OVERHEAD = 120
"""Bytes that an envelope costs in memory beside its own."""
_PRODUCERS = 4096
_COMPACT = 256 * 1024
_RECENT = 2.0
"""Seconds before the last note of progress within which lines may have been stored without one: the clock's leeway."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


class Meta(msgspec.Struct, frozen=True):
    """What is held of a source: how many envelopes, how many are gone again, timestamps in nanoseconds (0: none)."""

    count: int
    expired: int
    oldest: int
    newest: int


def envelope_type(envelope: Envelope) -> EnvelopeType:
    """Which of the kinds an envelope is."""
    if envelope.gauge is not None:
        return "GAUGE"
    if envelope.counter is not None:
        return "COUNTER"
    return "LOG" if envelope.timer is None else "TIMER"


class _Lane:
    """Encoded envelopes in order of time, the oldest dropped beyond the bounds."""

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self.times: list[int] = []
        self.bodies: list[bytes] = []
        self.size = 0
        self.dropped = 0
        self._max_count = max_count
        self._max_bytes = max_bytes

    def append(self, time: int, body: bytes) -> None:
        self.times.append(time)
        self.bodies.append(body)
        self.size += len(body) + _OVERHEAD
        if len(self.times) > self._max_count + self._max_count // 8 or self.size > self._max_bytes:
            self._trim()

    def _trim(self) -> None:
        # In portions, because cutting the front of a list moves the rest.
        first = max(len(self.times) - self._max_count, 0)
        size = self.size - sum(len(body) + _OVERHEAD for body in self.bodies[:first])
        while size > self._max_bytes - self._max_bytes // 8 and first < len(self.times) - 1:
            size -= len(self.bodies[first]) + _OVERHEAD
            first += 1
        del self.times[:first]
        del self.bodies[:first]
        self.size = size
        self.dropped += first

    def between(self, start: int | None, end: int | None) -> list[bytes]:
        low = 0 if start is None else bisect.bisect_left(self.times, start)
        high = len(self.times) if end is None else bisect.bisect_left(self.times, end)
        return self.bodies[low:high]


class _Source:
    """One source: `logs` is None while its lines are on disk only."""

    def __init__(self, segments: Segments, settings: Logs, *, new: bool) -> None:
        self.segments = segments
        self.metrics: dict[EnvelopeType, _Lane] = {}
        self.lost_metrics = 0
        self.logs: _Lane | None = None
        self.last = 0
        self._settings = settings
        if new:
            self.logs = self._lane()
        else:
            self.last = max((record.envelope.timestamp for record in segments.tail()), default=0)

    def load(self) -> _Lane:
        if self.logs is None:
            self.logs = self._lane()
            for record in self.segments.read():
                self.logs.append(record.envelope.timestamp, _encoder.encode(record.envelope))
            self.logs.dropped = 0
        return self.logs

    def metric(self, kind: EnvelopeType) -> _Lane:
        lane = self.metrics.get(kind)
        if lane is None:
            lane = self.metrics[kind] = _Lane(_METRICS, self._settings.max_bytes_per_source // 4)
        return lane

    def cool(self) -> None:
        """Leave memory: lines stay on disk, metrics go."""
        self.logs = None
        self.lost_metrics += sum(len(lane.times) + lane.dropped for lane in self.metrics.values())
        self.metrics = {}

    def size(self) -> int:
        return sum(lane.size for lane in self.metrics.values()) + (self.logs.size if self.logs is not None else 0)

    def _lane(self) -> _Lane:
        return _Lane(self._settings.max_lines_per_source, self._settings.max_bytes_per_source)


class Ring:
    """All sources. Every method may be called from any thread; `take` and `add` cost about ten microseconds a line."""

    def __init__(self, directory: Path, settings: Logs) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._settings = settings
        self._lock = threading.RLock()
        self._sources: dict[str, _Source] = {}
        self._hot: OrderedDict[str, int] = OrderedDict()
        self._memory = 0
        self._cold = list_sources(directory)
        self._progress_path = directory / "progress"
        self._progress = _read_progress(self._progress_path)
        self._known: dict[str, set[int]] = {}
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._find_unnoted()
        self._progress_fd = self._open_progress()

    def take(self, batch: Batch) -> int:
        """Take a spool's batch; returns the number to acknowledge. What was taken before is passed over.

        The lines are in the kernel's hands when this returns. With a full disk they are in memory only.
        """
        last = batch.first + len(batch.envelopes) - 1
        with self._lock:
            progress = self._progress.get(batch.producer, 0)
            known = self._known.get(batch.producer, set())
            fresh = [
                (number, envelope)
                for number, envelope in enumerate(batch.envelopes, batch.first)
                if number > progress and number not in known
            ]
            self._store(batch.producer, fresh)
            if last <= progress:
                return progress
            self._note_progress(batch.producer, last)
        return last

    def add(self, envelopes: Iterable[Envelope]) -> None:
        """Add envelopes of the controller itself: its own lines, metrics that cells reported."""
        with self._lock:
            self._store("", [(0, envelope) for envelope in envelopes])

    def query(
        self,
        source_id: str,
        start: int | None = None,
        end: int | None = None,
        limit: int = 100,
        types: frozenset[EnvelopeType] | None = None,
        *,
        descending: bool = False,
    ) -> list[Envelope]:
        """At most `limit` envelopes with start <= timestamp < end (nanoseconds; None is open), the oldest first.

        `descending` takes the newest, and those first. `types` None means all. An unknown source has none.
        """
        with self._lock:
            source = self._source(source_id)
            if source is None:
                return []
            lanes = [lane for kind, lane in source.metrics.items() if types is None or kind in types]
            if types is None or "LOG" in types:
                lanes.append(self._load(source_id, source))
            bodies = [body for lane in lanes for body in _cut(lane.between(start, end), limit, descending)]
        envelopes = [_decoder.decode(body) for body in bodies]
        if len(lanes) > 1 or descending:
            envelopes.sort(key=lambda envelope: envelope.timestamp, reverse=descending)
        return envelopes[:limit]

    def sources(self) -> set[str]:
        """The ids of all sources that hold something."""
        with self._lock:
            return set(self._sources) | self._cold

    def meta(self, source_ids: Iterable[str] | None = None) -> dict[str, Meta]:
        """Figures of the named sources, or of all; unknown ones are left out."""
        found = {}
        for source_id in self.sources() if source_ids is None else source_ids:
            with self._lock:
                source = self._source(source_id)
                if source is None:
                    continue
                lanes = [self._load(source_id, source), *source.metrics.values()]
                times = [lane.times for lane in lanes if lane.times]
                if times:
                    found[source_id] = Meta(
                        sum(len(lane) for lane in times),
                        sum(lane.dropped for lane in lanes) + source.lost_metrics,
                        min(lane[0] for lane in times),
                        max(lane[-1] for lane in times),
                    )
        return found

    def subscribe(self, source_id: str, *, max_waiting: int = 10_000) -> "Subscription":
        """Follow a source from now on. Call in a running event loop; close it, or use it as a context manager."""
        subscription = Subscription(self, source_id, asyncio.get_running_loop(), max_waiting)
        with self._lock:
            self._subscriptions.setdefault(source_id, []).append(subscription)
        return subscription

    def forget(self, source_id: str) -> None:
        """Delete everything of a source."""
        with self._lock:
            source = self._source(source_id)
            if source is not None:
                source.segments.delete()
                self._memory -= self._hot.pop(source_id, 0)
                del self._sources[source_id]

    def expire(self, older_than: float) -> list[str]:
        """Forget sources that got no line for `older_than` seconds; returns their ids. For a daily job."""
        expired = []
        for source_id in self.sources():
            with self._lock:
                source = self._source(source_id)
                if source is None or clock.seconds() - source.segments.modified() <= older_than:
                    continue
                if clock.seconds() - source.last / 1e9 > older_than:
                    self.forget(source_id)
                    expired.append(source_id)
        return expired

    def close(self) -> None:
        """Close the files; safe to call twice. Nothing is lost."""
        with self._lock:
            if self._progress_fd >= 0:
                os.close(self._progress_fd)
                self._progress_fd = -1

    def _store(self, producer: str, envelopes: list[tuple[int, Envelope]]) -> None:
        now = clock.nanos()
        frames: dict[str, list[bytes]] = {}
        touched = set()
        for number, envelope in envelopes:
            source_id = envelope.source_id
            source = self._source(source_id) or self._new_source(source_id)
            # A future line would be hidden by clients until then, one behind the last would never be seen.
            timestamp = max(source.last + 1, min(envelope.timestamp, now))
            if timestamp != envelope.timestamp:
                envelope = msgspec.structs.replace(envelope, timestamp=timestamp)
            source.last = timestamp
            body = _encoder.encode(envelope)
            touched.add(source_id)
            if (kind := envelope_type(envelope)) != "LOG":
                source.metric(kind).append(timestamp, body)
            else:
                frames.setdefault(source_id, []).append(encode_record(producer, number, body))
                if source.logs is not None:
                    source.logs.append(timestamp, body)
            for subscription in self._subscriptions.get(source_id, ()):
                subscription.offer(envelope)
        for source_id, group in frames.items():
            self._sources[source_id].segments.append(group)
        for source_id in touched:
            self._touch(source_id, self._sources[source_id])

    def _source(self, source_id: str) -> _Source | None:
        source = self._sources.get(source_id)
        if source is None and source_id in self._cold:
            source = _Source(self._segments(source_id), self._settings, new=False)
            self._sources[source_id] = source
            self._cold.discard(source_id)
        return source

    def _new_source(self, source_id: str) -> _Source:
        source = self._sources[source_id] = _Source(self._segments(source_id), self._settings, new=True)
        return source

    def _segments(self, source_id: str) -> Segments:
        return Segments(
            self._directory,
            source_id,
            max_lines=self._settings.max_lines_per_source,
            max_bytes=self._settings.max_bytes_per_source,
        )

    def _load(self, source_id: str, source: _Source) -> _Lane:
        lane = source.load()
        self._touch(source_id, source)
        return lane

    def _touch(self, source_id: str, source: _Source) -> None:
        size = source.size()
        self._memory += size - self._hot.get(source_id, 0)
        self._hot[source_id] = size
        self._hot.move_to_end(source_id)
        while self._memory > self._settings.memory_mb * 1024 * 1024 and len(self._hot) > 1:
            oldest, size = self._hot.popitem(last=False)
            self._memory -= size
            self._sources[oldest].cool()

    def _note_progress(self, producer: str, number: int) -> None:
        self._progress.pop(producer, None)
        self._progress[producer] = number
        known = {one for one in self._known.pop(producer, ()) if one > number}
        if known:
            self._known[producer] = known
        with contextlib.suppress(OSError):  # a full disk: a restart takes some lines twice
            os.write(self._progress_fd, _progress_line(producer, number))
            if os.fstat(self._progress_fd).st_size > _COMPACT:
                self._compact_progress()
                os.close(self._progress_fd)
                self._progress_fd = self._open_progress()

    def _open_progress(self) -> int:
        return os.open(self._progress_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _compact_progress(self) -> None:
        while len(self._progress) > _PRODUCERS:
            del self._progress[next(iter(self._progress))]
        temporary = self._progress_path.with_suffix(".new")
        temporary.write_bytes(b"".join(_progress_line(*item) for item in self._progress.items()))
        temporary.replace(self._progress_path)

    def _find_unnoted(self) -> None:
        """After a crash: numbers of lines that are stored but not noted, which their spools will send again."""
        try:
            noted = self._progress_path.stat().st_mtime
        except FileNotFoundError:
            noted = 0.0
        # A line without a note was stored after the last note, so only files that are younger need a look.
        for source_id in self._cold:
            segments = self._segments(source_id)
            if segments.modified() >= noted - _RECENT:
                for record in segments.tail():
                    if record.number > self._progress.get(record.producer, 0):
                        self._known.setdefault(record.producer, set()).add(record.number)


class Subscription:
    """A follower of one source: an asynchronous iterator of envelopes in order; `missed` counts what came too fast."""

    def __init__(self, ring: Ring, source_id: str, loop: asyncio.AbstractEventLoop, max_waiting: int) -> None:
        self.missed = 0
        self._ring = ring
        self._source_id = source_id
        self._loop = loop
        self._waiting: deque[Envelope] = deque()
        self._max_waiting = max_waiting
        self._event = asyncio.Event()
        self._closed = False

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[Envelope]:
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._closed:
                return
            self._event.clear()
            if not self._waiting:
                await self._event.wait()

    def offer(self, envelope: Envelope) -> None:
        """Called by the ring, in its writer's thread."""
        if len(self._waiting) >= self._max_waiting:
            self.missed += 1
            return
        self._waiting.append(envelope)
        self._wake()

    def close(self) -> None:
        """Stop following; the iterator ends when it has given what waits. Safe to call twice."""
        self._closed = True
        with self._ring._lock:
            followers = self._ring._subscriptions.get(self._source_id, [])
            if self in followers:
                followers.remove(self)
            if not followers:
                self._ring._subscriptions.pop(self._source_id, None)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # its loop is closed
            self._loop.call_soon_threadsafe(self._event.set)


def _cut(bodies: list[bytes], limit: int, descending: bool) -> list[bytes]:
    return bodies[max(len(bodies) - limit, 0) :] if descending else bodies[:limit]


def _progress_line(producer: str, number: int) -> bytes:
    return msgspec.json.encode([producer, number]) + b"\n"


def _read_progress(path: Path) -> dict[str, int]:
    progress: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().split(b"\n"):
            with contextlib.suppress(msgspec.MsgspecError):
                producer, number = msgspec.json.decode(line, type=tuple[str, int])
                progress.pop(producer, None)
                progress[producer] = number
    return progress
