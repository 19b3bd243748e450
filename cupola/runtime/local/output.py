"""Reads the output of instances from their FIFOs: lines, cut and rate-limited as log agents do.

Rules: reference/app-runtime.md section 11.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable

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
    """One FIFO: calls `emit` with each line. The writer's end stays open elsewhere; `finish` reads what is left."""

    def __init__(self, path: str, limit: RateLimit, emit: Callable[[bytes], None]) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._limit = limit
        self._emit = emit
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._readable)

    def _readable(self) -> None:
        # One chunk at a time, so that a chatty instance does not starve the others.
        if self._read() == b"":
            self._loop.remove_reader(self._descriptor)

    def _read(self) -> bytes | None:
        try:
            data = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return None
        if data:
            self._take(data)
        return data

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if line:
                self._pass(line)
        while len(self._rest) > MAX_LINE:
            end = _cut(self._rest)
            self._pass(self._rest[:end])
            self._rest = self._rest[end:]

    def _pass(self, line: bytes) -> None:
        while line:
            end = _cut(line) if len(line) > MAX_LINE else len(line)
            passes, notice = self._limit.take(end)
            if passes:
                self._emit(line[:end])
            elif notice:
                self._emit(self._limit.notice)
            line = line[end:]

    def finish(self) -> None:
        """Read to the end and close; safe to call twice."""
        if self._descriptor < 0:
            return
        self._loop.remove_reader(self._descriptor)
        # A process that escaped may keep on writing: what is there now is taken, not what may come for ever.
        for _ in range(64):
            if not self._read():
                break
        if self._rest:
            self._pass(self._rest)
            self._rest = b""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        self._descriptor = -1


def _cut(line: bytes) -> int:
    end = MAX_LINE
    while end > MAX_LINE - 4 and line[end] & 0xC0 == 0x80:
        end -= 1
    return end
