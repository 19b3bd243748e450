"""What the identity server asks of other servers, on an event loop of its own, so that nobody else waits with it.

    Outside     the loop, in a thread; made when it is first needed
    Gate        one server's share: so many questions at once, each with a deadline, none while it is down

A server that failed three times in a row is left alone for ten seconds; then one question tries it again.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic
from typing import Any, TypeVar

__all__ = ["Gate", "Outside", "Unreachable"]

log = logging.getLogger(__name__)
T = TypeVar("T")
FAILURES = 3
REST = 10.0
"""Failures in a row after which a server rests, and for how many seconds."""


class Unreachable(Exception):
    """A server gave no answer, or none that makes sense; the text says which server and why, for the log and operators."""


class Outside:
    """An event loop in a thread. `close` ends what still runs there."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closers: list[Callable[[], Awaitable[None]]] = []

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` there and wait for it here; it is cancelled when the waiting is."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._running()))

    def wait(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """The same for a thread that may block. Raises TimeoutError."""
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise

    def at_close(self, action: Callable[[], Awaitable[None]]) -> None:
        """Await `action` on the loop before it ends."""
        self._closers.append(action)

    def close(self) -> None:
        """Stop the thread."""
        with self._guard:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()

    async def _end(self) -> None:
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for action in self._closers:
            await action()
        # The HTTP client's connections are closed by callbacks of the loop's next turns.
        await asyncio.sleep(0.01)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="identity-outside", daemon=True)
                self._thread.start()
            return self._loop


class Gate:
    """What one server is given. Used on the loop of `Outside` only."""

    def __init__(self, name: str, concurrency: int, seconds: float) -> None:
        self.name = name
        self._most = concurrency
        self._seconds = seconds
        self._inside = 0
        self._failures = 0
        self._rests_until = 0.0
        self._trying = False

    async def __call__(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work`. Raises Unreachable: too many wait already, the server rests, is too slow, or fails."""
        trial = self._enter()
        self._inside += 1
        try:
            async with asyncio.timeout(self._seconds):
                done = await work()
        except TimeoutError:
            raise self._failed(f"{self.name} gave no answer within {self._seconds:g} seconds") from None
        except (Unreachable, OSError) as error:
            raise self._failed(f"{self.name}: {error}") from error
        except Exception:
            # It answered, though not what was wished for.
            self._failures = 0
            raise
        else:
            self._failures = 0
            return done
        finally:
            self._inside -= 1
            if trial:
                self._trying = False

    def _enter(self) -> bool:
        """Whether this is the one question that tries a server that rested."""
        if self._inside >= self._most:
            raise Unreachable(f"{self.name}: {self._most} questions wait for it already")
        if self._failures < FAILURES:
            return False
        if self._trying or monotonic() < self._rests_until:
            raise Unreachable(f"{self.name} failed {self._failures} times in a row and is left alone for a moment")
        self._trying = True
        return True

    def _failed(self, text: str) -> Unreachable:
        self._failures += 1
        self._rests_until = monotonic() + REST
        log.warning("%s", text)
        return Unreachable(text)
