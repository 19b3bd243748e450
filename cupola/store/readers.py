"""Connections for reading, kept open and at hand between pieces of work.

To take a connection out of SQLAlchemy's pool and to put it back costs as much as a small query: it is wrapped, told to
roll back, and asked what it was used for. A reader is in AUTOCOMMIT and leaves nothing behind, so that it can simply lie
in a stack, the last used on top. Whatever goes wrong sends it back to the pool, which replaces what is broken.
"""

import threading
import time

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

__all__ = ["Readers"]

IDLE_SECONDS = 5.0
"""Seconds after which a connection to a server is tried before it is used again: the server may have been restarted."""


class Readers:
    """At most `size` idle connections of `engine`."""

    def __init__(self, engine: Engine, size: int) -> None:
        self._engine = engine
        self._size = size
        self._is_file = engine.dialect.name == "sqlite"
        self._guard = threading.Lock()
        self._idle: list[tuple[Connection, float]] = []
        self._waiting = 0
        """How many may be waiting for the pool, which does not see what lies here."""

    def take(self) -> Connection:
        """A connection that works, as far as can be known."""
        while True:
            with self._guard:
                if not self._idle:
                    self._waiting += 1
                    break
                connection, used = self._idle.pop()
            if self._is_file or time.monotonic() - used < IDLE_SECONDS or _answers(connection):
                return connection
            self.drop(connection)
        try:
            return self._engine.connect()
        finally:
            with self._guard:
                self._waiting -= 1

    def give_back(self, connection: Connection) -> None:
        """Keep it for the next one who reads, unless somebody waits for it already."""
        if connection.in_transaction():
            connection.rollback()
        with self._guard:
            if not self._waiting and len(self._idle) < self._size:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()

    def drop(self, connection: Connection) -> None:
        """Give one back that something went wrong with; where it was lost, the others may be lost, too."""
        lost = connection.invalidated
        connection.close()
        if lost:
            self._clear()

    def close(self) -> None:
        """Close all that are idle, and the pool."""
        self._clear()
        self._engine.dispose()

    def _clear(self) -> None:
        with self._guard:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()


def _answers(connection: Connection) -> bool:
    try:
        connection.execute(text("SELECT 1"))
        connection.rollback()
    except DBAPIError:
        return False
    return True
