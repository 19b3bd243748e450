"""Reads the output of instances from their FIFOs: lines, cut and rate-limited as log agents do.

The cell may die at any moment, and the next one goes on where it was: bytes are looked at while they stay in the FIFO, and
leave it when their lines are kept. The beginning of a line whose end is not there yet moves to a file. Who is killed
between the keeping and the leaving, a few microseconds, tells these lines again; none is lost.

Rules: reference/app-runtime.md section 11.
"""

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Callable

from cupola.runtime.local import kernel

__all__ = ["MAX_LINE", "Output", "RateLimit"]

MAX_LINE = 61_440
"""Bytes of one line; a longer one is cut at character boundaries."""
_CHUNK = 65536


class RateLimit:
    """A token bucket of bytes per second with a burst of one second; shared by all streams of an instance."""

    def __init__(self, limit: int, now: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._now = now
        self._tokens = float(limit)
        self._filled = now()
        self._muted_until = 0.0
        self._bytes = 0
        self._window = now()
        self._rate = 0

    def take(self, size: int) -> tuple[bool, bool]:
        """Whether a line of `size` bytes may pass, and whether the notice of the limit is due."""
        if self.limit < 0:
            self._bytes += size
            return True, False
        now = self._now()
        if now < self._muted_until:
            return False, False
        self._tokens = min(self._tokens + (now - self._filled) * self.limit, float(self.limit))
        self._filled = now
        if size > self._tokens:
            self._muted_until = now + 1
            return False, self.limit > 0
        self._tokens -= size
        self._bytes += size
        return True, False

    @property
    def notice(self) -> bytes:
        """The line that tells of the limit."""
        return b"app instance exceeded log rate limit (%d bytes/sec)" % self.limit

    def rate(self) -> int:
        """Bytes per second since the last call that was at least a second ago."""
        now = self._now()
        if now - self._window >= 1:
            self._rate = int(self._bytes / (now - self._window))
            self._bytes, self._window = 0, now
        return self._rate


class Output:
    """One FIFO: calls `emit` with lines, which are kept when it returns. The writer's end stays open elsewhere.

    `finish` or `leave` ends it: the instance has ended, or another cell goes on reading.
    """

    def __init__(self, path: str, limit: RateLimit, emit: Callable[[list[bytes]], None]) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._limit = limit
        self._emit = emit
        self._begun = _Begun(f"{path}.rest")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._readable)

    def _readable(self) -> None:
        # One chunk at a time, so that a chatty instance does not starve the others.
        if self._read() == b"":
            self._loop.remove_reader(self._descriptor)

    def _read(self) -> bytes | None:
        """Look at what waits and take what can be taken of it: None when nothing waits, b"" when nobody writes any more."""
        try:
            data = _peek(self._descriptor)
        except BlockingIOError:
            return None
        if data:
            self._take(data)
        return data

    def _take(self, data: bytes) -> None:
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if not end and len(self._begun.text) + len(data) <= MAX_LINE:
            self._begun.move(self._descriptor, len(data))
            return
        taken = data[:end] if end else data
        *lines, begun = (self._begun.text + taken).replace(b"\r", b"\n").split(b"\n")
        while len(begun) > MAX_LINE:
            cut = _cut(begun)
            lines.append(begun[:cut])
            begun = begun[cut:]
        try:
            self._pass(lines)
        finally:
            self._begun.replace(begun)
            os.read(self._descriptor, len(taken))

    def _pass(self, lines: list[bytes]) -> None:
        passed: list[bytes] = []
        for line in lines:
            while line:
                end = _cut(line) if len(line) > MAX_LINE else len(line)
                passes, notice = self._limit.take(end)
                if passes:
                    passed.append(line[:end])
                elif notice:
                    passed.append(self._limit.notice)
                line = line[end:]
        if passed:
            self._emit(passed)

    def finish(self) -> None:
        """Read to the end, of which the last line may not be whole, and close; safe to call twice."""
        if self._descriptor < 0:
            return
        # A process that escaped may keep on writing: what is there now is taken, not what may come for ever.
        for _ in range(128):
            if not self._read():
                break
        if self._begun.text:
            self._pass([self._begun.text])
            self._begun.replace(b"")
        self.leave()

    def leave(self) -> None:
        """Close; what is not told yet is left to the next cell. Safe to call twice."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


class _Begun:
    """`text` is the beginning of a line, also in a file, where the next cell finds it; a full disk must do without."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.text = b""
        with contextlib.suppress(OSError), open(path, "rb") as file:
            self.text = file.read()

    def move(self, pipe: int, count: int) -> None:
        """Append what is in the pipe: it is in one of both at any moment."""
        text = b""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                at = len(self.text)
                moved = os.splice(pipe, descriptor, count, offset_dst=at, flags=os.SPLICE_F_NONBLOCK)
                text = os.pread(descriptor, moved, at)
            finally:
                os.close(descriptor)
        self.text += text or os.read(pipe, count)

    def replace(self, text: bytes) -> None:
        """Begin anew with `text`."""
        if text or self.text:
            with contextlib.suppress(OSError), open(self._path, "wb") as file:
                file.write(text)
        self.text = text


@functools.cache
def _copies() -> tuple[int, int]:
    return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)


def _peek(pipe: int) -> bytes:
    source, target = _copies()
    count = kernel.tee(pipe, target, _CHUNK)
    return os.read(source, count) if count else b""


def _cut(line: bytes) -> int:
    end = MAX_LINE
    while end > MAX_LINE - 4 and line[end] & 0xC0 == 0x80:
        end -= 1
    return end
