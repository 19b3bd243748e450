"""Bells: "something changed, look again", rung after a commit so that loops are prompt.

A bell carries no data and may be lost; every loop also wakes up on a period, so a lost ring costs time, never truth.
Rings from any thread reach waiters on their own event loop. Across processes the same names travel over PostgreSQL's
LISTEN/NOTIFY (the store does that).
"""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable

__all__ = ["Bells"]


class Bells:
    """A set of named bells of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = defaultdict(set)
        self._hooks: list[Callable[[str], None]] = []

    def ring(self, name: str) -> None:
        """Wake everybody who waits for `name`. Callable from any thread."""
        with self._lock:
            waiting = list(self._waiting.get(name, ()))
            hooks = list(self._hooks)
        for loop, event in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)
        for hook in hooks:
            hook(name)

    def on_ring(self, hook: Callable[[str], None]) -> None:
        """Call `hook(name)` at every ring, on the ringing thread; it must not block."""
        with self._lock:
            self._hooks.append(hook)

    def listen(self, *names: str) -> "Listener":
        """A waiter for any of `names`; rings between two waits are remembered."""
        return Listener(self, names)

    def _add(self, name: str, entry: tuple[asyncio.AbstractEventLoop, asyncio.Event]) -> None:
        with self._lock:
            self._waiting[name].add(entry)

    def _remove(self, name: str, entry: tuple[asyncio.AbstractEventLoop, asyncio.Event]) -> None:
        with self._lock:
            self._waiting[name].discard(entry)


class Listener:
    """Made by `Bells.listen` on the event loop that will wait."""

    def __init__(self, bells: Bells, names: tuple[str, ...]) -> None:
        self._bells = bells
        self._names = names
        self._event = asyncio.Event()
        self._entry = (asyncio.get_running_loop(), self._event)
        for name in names:
            bells._add(name, self._entry)

    async def wait(self, seconds: float) -> bool:
        """Return True when rung, False after so many seconds."""
        try:
            # Not wait_for: in Python 3.11 it loses a cancellation that comes together with a ring.
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True

    def close(self) -> None:
        """Stop listening."""
        for name in self._names:
            self._bells._remove(name, self._entry)
