"""The spool of a cell or router: numbered envelopes in segment files until the controller has taken them.

    SpoolError      the directory is in use by another process, or cannot be used; names it

Accepted means spooled: when `put` returns, the envelope is in the kernel's page cache and survives the death of the
process (kill -9), though not a power failure: nothing is synced. Numbers of one spool never repeat; the producer's
name carries a random part that is made with the directory, so that a new spool is never taken for an old one.

A segment is named by its first number and holds frames: length and CRC-32 of the envelope's msgpack (four bytes
each, little endian), then the msgpack. A torn last frame is cut off on start.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import struct
import threading
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from cupola import clock
from cupola.logs.envelope import Batch, Envelope

__all__ = ["Spool", "SpoolError", "read_frames"]

HEAD = struct.Struct("<II")
"""Length and CRC-32 of a frame's body."""
MAX_FRAME = 4 * 1024 * 1024
"""Bytes; a longer body is damage. A log line has at most 61440 bytes."""

_BATCH_LINES = 1000
_BATCH_BYTES = 512 * 1024
_WINDOW = 20_000
"""Envelopes that may be under way without an acknowledgement."""
_GAP = 1_000_000
"""Numbers left out after the machine was restarted."""
_LINGER = 0.005
"""Seconds that a small batch waits for company."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


class SpoolError(Exception):
    """The spool's directory cannot be used; the text names it and says what to do."""


class Sender(Protocol):
    """What a spool needs of `cupola.wire.Peer`."""

    async def send(self, kind: str, body: object = None) -> None:
        """Send one message; raises OSError when the other side is gone."""


class _Segment:
    """One file: numbers `first` to `end - 1`. `sources` counts by source id what was put since the start."""

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        self.first = first
        self.count = 0
        self.size = 0
        self.sources: Counter[str] = Counter()

    @property
    def end(self) -> int:
        return self.first + self.count


class Spool:
    """Envelopes on their way to the controller.

    `put` may be called from any thread; `run` from one task at a time. `producer` is the name given plus the spool's
    random part. At most `max_bytes` lie on disk: then the oldest segment is dropped, and each source that lost lines
    gets a line of source type LGR that says how many. Raises SpoolError.
    """

    def __init__(
        self,
        directory: Path,
        producer: str,
        *,
        max_bytes: int = 256 * 1024 * 1024,
        segment_bytes: int = 4 * 1024 * 1024,
        memory_bytes: int = 4 * 1024 * 1024,
    ) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._segment_bytes = min(segment_bytes, max(max_bytes // 4, 1))
        self._memory_bytes = memory_bytes
        self._lock = threading.RLock()
        self._recent: deque[bytes] = deque()
        self._recent_size = 0
        self._lost: Counter[str] = Counter()
        self._noticing = False
        self._wake: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._guard = _lock_directory(directory)
        identity, rebooted = _identity(directory)
        self.producer = f"{producer}@{identity}"
        self._segments = _recover(directory)
        first = self._segments[-1].end if self._segments else 1
        if rebooted and self._segments:
            # Envelopes that were sent may not have reached the disk: their numbers must not be used again.
            first += _GAP
        if rebooted or not self._segments:
            self._segments.append(_Segment(_path(directory, first), first))
        self._bytes = sum(segment.size for segment in self._segments)
        self.acknowledged = self._segments[0].first - 1
        """The highest number that the controller has taken, or that is gone."""
        self._fd = self._open(self._segments[-1])

    @property
    def next_number(self) -> int:
        """The number that the next envelope gets."""
        return self._segments[-1].end

    @property
    def pending(self) -> int:
        """Envelopes that are not acknowledged."""
        return sum(s.end - max(s.first, self.acknowledged + 1) for s in self._segments if s.end > self.acknowledged)

    def put(self, envelope: Envelope) -> int:
        """Spool one envelope and return its number, or 0 when the disk refused it (a notice follows when it can).

        Takes a few microseconds: one append to an open file. Never raises for a full disk.
        """
        body = _encoder.encode(envelope)
        with self._lock:
            if self._fd < 0:
                raise SpoolError(f"the spool {self._directory} is closed")
            number = self._append(body, envelope.source_id)
            if self._lost and number and not self._noticing:
                self._notice()
        self._ring()
        return number

    def put_encoded(self, envelopes: Sequence[tuple[str, bytes]]) -> None:
        """`put` for many envelopes that are encoded, each with its source id: one system call for all of them."""
        with self._lock:
            if self._fd < 0:
                raise SpoolError(f"the spool {self._directory} is closed")
            written = self._append_all(envelopes)
            if self._lost and written and not self._noticing:
                self._notice()
        self._ring()

    def ack(self, number: int) -> None:
        """The controller has taken every envelope up to `number`: their segments are deleted."""
        with self._lock:
            number = min(number, self.next_number - 1)
            if number <= self.acknowledged:
                return
            self.acknowledged = number
            while self._recent and self.next_number - len(self._recent) <= number:
                self._recent_size -= len(self._recent.popleft())
            while len(self._segments) > 1 and self._segments[0].end - 1 <= number:
                self._remove_oldest()
            last = self._segments[-1]
            if last.count and last.end - 1 <= number and last.size >= self._segment_bytes // 4:
                self._rotate()
                self._remove_oldest()
        self._ring()

    async def run(self, peer: Sender) -> None:
        """Send what is not acknowledged, then what comes, as `logs` messages, until cancelled or the peer is gone.

        Starts at the first number that is not acknowledged, so the controller may see an envelope twice and tells by
        its number. The caller reads `logs.ack` from the peer and calls `ack`. Raises OSError when the peer is gone.
        """
        event = asyncio.Event()
        self._wake = (asyncio.get_running_loop(), event)
        position = self.acknowledged + 1
        start = self._segments[0].first - 1
        try:
            while True:
                event.clear()
                under_way = position - 1 - max(self.acknowledged, start)
                if position >= self.next_number or under_way > _WINDOW:
                    await event.wait()
                    await asyncio.sleep(_LINGER)
                    continue
                first, bodies = await self._read(position)
                if bodies:
                    envelopes = [msgspec.Raw(body) for body in bodies]
                    # The same shape as Batch; Raw spares decoding what is encoded again at once.
                    await peer.send("logs", {"producer": self.producer, "first": first, "envelopes": envelopes})
                position = first + len(bodies)
        finally:
            if self._wake is not None and self._wake[1] is event:
                self._wake = None

    def pending_batches(self) -> Iterator[Batch]:
        """What is not acknowledged, for who reads a spool without a controller (`cupola doctor`, tests)."""
        position = self.acknowledged + 1
        while position < self.next_number:
            first, bodies = self._from_disk(position)
            if bodies:
                yield Batch(self.producer, first, [_decoder.decode(body) for body in bodies])
            position = first + len(bodies)

    def close(self) -> None:
        """Close the files; nothing is lost. Safe to call twice."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
                self._guard.close()

    def _append(self, body: bytes, source_id: str) -> int:
        return self.next_number - 1 if self._append_all([(source_id, body)]) else 0

    def _append_all(self, envelopes: Sequence[tuple[str, bytes]]) -> bool:
        """Append frames to the open segment; False and all counted as lost when the disk refuses them."""
        if self._segments[-1].size >= self._segment_bytes and not self._try_rotate():
            self._lost.update(source_id for source_id, _body in envelopes)
            return False
        segment = self._segments[-1]
        frames = b"".join([HEAD.pack(len(body), zlib.crc32(body)) + body for _source, body in envelopes])
        if not self._write(segment, frames):
            self._lost.update(source_id for source_id, _body in envelopes)
            return False
        segment.size += len(frames)
        segment.count += len(envelopes)
        self._bytes += len(frames)
        segment.sources.update([source_id for source_id, _body in envelopes])
        self._recent += [body for _source, body in envelopes]
        self._recent_size += len(frames) - HEAD.size * len(envelopes)
        while self._recent_size > self._memory_bytes:
            self._recent_size -= len(self._recent.popleft())
        while self._bytes > self._max_bytes and len(self._segments) > 1:
            self._drop_oldest()
        return True

    def _write(self, segment: _Segment, frame: bytes) -> bool:
        try:
            if os.write(self._fd, frame) == len(frame):
                return True
        except OSError as error:
            if error.errno not in _FULL:
                raise SpoolError(f"cannot write {segment.path}: {error.strerror}") from error
        # A part of a frame must not stand before the next one.
        os.ftruncate(self._fd, segment.size)
        return False

    def _notice(self) -> None:
        self._noticing = True
        try:
            lost, self._lost = self._lost, Counter()
            for source_id, count in lost.items():
                text = f"Log message output is too high. {count} messages dropped, because the log spool is full."
                tags = {"source_type": "LGR", "origin": "cupola"}
                envelope = Envelope(clock.nanos(), source_id, "0", tags, text.encode(), "ERR")
                self._append(_encoder.encode(envelope), source_id)
        finally:
            self._noticing = False

    def _drop_oldest(self) -> None:
        oldest = self._segments[0]
        lost = oldest.end - 1 - max(self.acknowledged, oldest.first - 1)
        if lost == oldest.count == oldest.sources.total():
            self._lost.update(oldest.sources)
        elif lost > 0:
            # Some were taken already, or written before a restart: only the file knows whose they are.
            for body in list(read_frames(oldest.path))[-lost:]:
                self._lost[_decoder.decode(body).source_id] += 1
        self.acknowledged = max(self.acknowledged, oldest.end - 1)
        self._remove_oldest()

    def _remove_oldest(self) -> None:
        oldest = self._segments.pop(0)
        self._bytes -= oldest.size
        oldest.path.unlink(missing_ok=True)

    def _try_rotate(self) -> bool:
        try:
            self._rotate()
        except OSError as error:
            if error.errno in _FULL:
                return False
            raise
        return True

    def _rotate(self) -> None:
        segment = _Segment(_path(self._directory, self.next_number), self.next_number)
        descriptor = self._open(segment)
        os.close(self._fd)
        self._fd = descriptor
        self._segments.append(segment)

    def _open(self, segment: _Segment) -> int:
        return os.open(segment.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    async def _read(self, position: int) -> tuple[int, list[bytes]]:
        with self._lock:
            start = self.next_number - len(self._recent)
            if position >= start:
                return position, self._from_memory(position - start)
        return await asyncio.to_thread(self._from_disk, position)

    def _from_memory(self, index: int) -> list[bytes]:
        bodies: list[bytes] = []
        size = 0
        while index < len(self._recent) and len(bodies) < _BATCH_LINES and size < _BATCH_BYTES:
            bodies.append(self._recent[index])
            size += len(self._recent[index])
            index += 1
        return bodies

    def _from_disk(self, position: int) -> tuple[int, list[bytes]]:
        with self._lock:
            segment = next((s for s in self._segments if position < s.end), None)
            if segment is None:
                return self.next_number, []
            position = max(position, segment.first)
            end = segment.end
        bodies: list[bytes] = []
        size = 0
        for number, body in enumerate(read_frames(segment.path), segment.first):
            if number >= position:
                bodies.append(body)
                size += len(body)
                if len(bodies) >= _BATCH_LINES * 10 or size >= _BATCH_BYTES * 4:
                    break
        # A segment that was dropped meanwhile, or damaged, is passed over.
        return (position, bodies) if bodies else (end, [])

    def _ring(self) -> None:
        wake = self._wake
        if wake is not None and not wake[1].is_set():
            loop, event = wake
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                if _running_loop() is loop:
                    event.set()
                else:
                    loop.call_soon_threadsafe(event.set)


def read_frames(path: Path) -> Iterator[bytes]:
    """The whole frames of a segment, in order; ends at the first torn or damaged one, or where the file is gone."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        while len(head := file.read(HEAD.size)) == HEAD.size:
            length, checksum = HEAD.unpack(head)
            if length > MAX_FRAME:
                return
            body = file.read(length)
            if len(body) < length or zlib.crc32(body) != checksum:
                return
            yield body


def _recover(directory: Path) -> list[_Segment]:
    segments: list[_Segment] = []
    for path in sorted(directory.glob("*.seg")):
        segment = _Segment(path, int(path.stem))
        for body in read_frames(path):
            segment.count += 1
            segment.size += HEAD.size + len(body)
        if path.stat().st_size > segment.size:
            os.truncate(path, segment.size)
        segments.append(segment)
    return segments


def _lock_directory(directory: Path) -> "_Guard":
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _Guard(directory / "lock")
    except BlockingIOError:
        raise SpoolError(f"the log spool {directory} is in use: stop the process that has it first") from None
    except OSError as error:
        raise SpoolError(f"cannot use {directory} as log spool: {error.strerror}") from error


class _Guard:
    """A record lock: unlike flock it is not passed on to children that are forked, which may outlive the process."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise BlockingIOError(error.errno, str(path)) from error
            raise

    def close(self) -> None:
        os.close(self._fd)


def _identity(directory: Path) -> tuple[str, bool]:
    """The random part of the producer's name, and whether the machine was restarted since the spool was used."""
    path = directory / "id"
    boot = _boot_id()
    words = path.read_text().split() if path.exists() else []
    if len(words) == 2 and words[1] == boot:
        return words[0], False
    if len(words) != 2:
        # Numbers start again with a new name, so old segments would be taken for new ones.
        words = [secrets.token_hex(8), boot]
        for segment in directory.glob("*.seg"):
            segment.unlink()
    temporary = path.with_suffix(".new")
    temporary.write_text(f"{words[0]} {boot}\n")
    temporary.replace(path)
    return words[0], words[1] != boot


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _path(directory: Path, first: int) -> Path:
    return directory / f"{first:020}.seg"


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
