"""Threads for the short work of requests, asked for by an event loop.

`ThreadPoolExecutor` is made for everybody and costs more than a small query: two futures for each piece of work, with
locks around both, and it wakes whichever thread has slept longest. Here a piece of work has one future, and the thread
that worked last, whose memory is warm and which often has not fallen asleep yet, takes the next.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Threads"]

T = TypeVar("T")
_Item = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class Threads:
    """At most `size` threads, started as they are needed."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._guard = threading.Lock()
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._waiting: deque[_Item] = deque()
        self._closed = False

    def run(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Do `work` on a thread; to be called on an event loop. Raises RuntimeError once closed."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        item = (work, loop, future)
        with self._guard:
            if self._closed:
                raise RuntimeError("work was asked for after the threads were closed")
            if self._idle:
                self._idle.pop().give(item)
            elif len(self._workers) < self._size:
                worker = _Worker(f"{self._name}_{len(self._workers)}", self._is_free)
                self._workers.append(worker)
                worker.give(item)
                worker.start()
            else:
                self._waiting.append(item)
        return future

    def close(self) -> None:
        """Wait until all that was asked for is done, and end the threads."""
        with self._guard:
            self._closed = True
            while self._idle:
                self._idle.pop().give(None)
        for worker in self._workers:
            worker.join()

    def _is_free(self, worker: "_Worker") -> None:
        with self._guard:
            if self._waiting:
                worker.give(self._waiting.popleft())
            elif self._closed:
                worker.give(None)
            else:
                self._idle.append(worker)


class _Worker(threading.Thread):
    def __init__(self, name: str, is_free: Callable[["_Worker"], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._is_free = is_free
        self._given = threading.Lock()
        self._given.acquire()
        self._item: _Item | None = None

    def give(self, item: _Item | None) -> None:
        """What to do next, or None for the end. Only for a worker that is free."""
        self._item = item
        self._given.release()

    def run(self) -> None:
        while True:
            self._given.acquire()
            item, self._item = self._item, None
            if item is None:
                return
            self._do(*item)
            # A thread that sleeps holds on to nothing.
            del item

    def _do(self, work: Callable[[], Any], loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]") -> None:
        if future.cancelled():
            # Whoever asked gave up before its turn came.
            self._is_free(self)
            return
        result: Any = None
        error: BaseException | None = None
        try:
            result = work()
        except BaseException as caught:  # whoever waits gets it, whatever it is
            error = caught
        # Free first, so that the loop finds this thread for what it asks for next.
        self._is_free(self)
        # Once its loop is closed, nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, future, result, error)
        # Its traceback holds this frame.
        error = None


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
