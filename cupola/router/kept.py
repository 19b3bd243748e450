"""The table on disk, so that a router that starts while the controller is away serves what it served before."""

import asyncio
import contextlib
import logging
import os
import time
from pathlib import Path

import msgspec

from cupola.router.messages import RouteTable
from cupola.router.table import Table

__all__ = ["Keeper", "read"]

_REST = 10
"""Times as long as a write took, the next one waits: a large table that changes often must not keep the disk busy."""
_log = logging.getLogger(__name__)


def read(path: Path) -> RouteTable | None:
    """The table that was kept, or None. A damaged file is as none: the controller sends the table anyway."""
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=RouteTable)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("the kept table %s cannot be used: %s", path, error)
        return None


class Keeper:
    """Writes the table after changes. Only `run` touches the file."""

    def __init__(self, table: Table, path: Path) -> None:
        self._table = table
        self._path = path
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """The table has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Write after each change until cancelled, then once more what is not written yet."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                start = time.monotonic()
                await asyncio.to_thread(self._write, self._table.snapshot())
                await asyncio.sleep((time.monotonic() - start) * _REST)
        finally:
            if self._changed.is_set():
                self._write(self._table.snapshot())

    def _write(self, table: RouteTable) -> None:
        temporary = self._path.with_suffix(".new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.msgpack.encode(table))
            temporary.replace(self._path)
        except OSError as error:
            _log.error("cannot keep the route table in %s: %s", self._path, error.strerror)
            with contextlib.suppress(OSError):
                temporary.unlink()
