"""The router's end of the connection to the controller: the table comes in, access lines go out."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from cupola import wire
from cupola.logs.spool import Spool
from cupola.router.messages import RouteDelta, RouteTable
from cupola.router.table import Table

__all__ = ["Link"]

_BACK_OFF = (0.05, 0.1, 0.2, 0.5, 1.0)
_log = logging.getLogger(__name__)


class Link:
    """`changed` is called after each change of the table."""

    def __init__(self, run_dir: Path, table: Table, spool: Spool, changed: Callable[[], None]) -> None:
        self._run_dir = run_dir
        self._table = table
        self._spool = spool
        self._changed = changed

    async def run(self) -> None:
        """Stay connected until cancelled; the table that is here serves meanwhile."""
        attempt = 0
        while True:
            try:
                token = (self._run_dir / "router.token").read_text().strip()
                peer = await wire.connect(self._run_dir / "control.sock", "router", token)
            except (OSError, EOFError, wire.Refused) as error:
                if isinstance(error, wire.Refused):
                    _log.warning("the controller refuses this router: %s", error)
                await asyncio.sleep(_BACK_OFF[min(attempt, len(_BACK_OFF) - 1)])
                attempt += 1
                continue
            attempt = 0
            try:
                await self._converse(peer)
            finally:
                await peer.close()
            # A controller that breaks off at once is not asked in a circle.
            await asyncio.sleep(_BACK_OFF[0])

    async def _converse(self, peer: wire.Peer) -> None:
        """Speak until the connection ends."""
        speakers: list[Callable[[Any], Any]] = [self._listen, self._spool.run]
        work = [asyncio.create_task(speaker(peer)) for speaker in speakers]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is not None and not isinstance(error, OSError | EOFError):
                    _log.error("the conversation with the controller ended", exc_info=error)
        finally:
            for task in work:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*work, return_exceptions=True)

    async def _listen(self, peer: wire.Peer) -> None:
        while True:
            kind, body = await peer.receive()
            match kind:
                case "routes.full":
                    self._table.replace(msgspec.convert(body, RouteTable))
                    self._changed()
                case "routes.delta":
                    if self._table.apply(msgspec.convert(body, RouteDelta)):
                        self._changed()
                    else:
                        await peer.send("routes.request")
                case "logs.ack":
                    self._spool.ack(int(body))
                case _:
                    _log.warning("the controller sent %s, which this version does not know", kind)
