"""After an upgrade: two connections whose bytes are carried as they come, each side closed when its other side is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cupola.router.upstream import WRITE_BUFFER

if TYPE_CHECKING:
    from cupola.router.exchange import Exchange
    from cupola.router.service import Service

__all__ = ["Tunnel"]

_HALF_OPEN_SECONDS = 60.0
"""For which a tunnel that one side has finished may be silent."""
_FLUSH_SECONDS = 10.0
"""For which the last bytes may wait for a peer that does not read."""


class _End(asyncio.Protocol):
    """One side of a tunnel: what it reads goes to `other`."""

    def __init__(self, tunnel: Tunnel, own: asyncio.Transport, other: asyncio.Transport) -> None:
        self.bytes = 0
        self.ended = False
        self._tunnel = tunnel
        self._own = own
        self._other = other

    def carry(self, data: bytes) -> None:
        if data:
            self.bytes += len(data)
            self._other.write(data)

    def data_received(self, data: bytes) -> None:
        self.carry(data)

    def eof_received(self) -> bool:
        self.ended = True
        return self._tunnel.half_closed(self._own, self._other)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tunnel.close()

    def pause_writing(self) -> None:
        if not self._other.is_closing():
            self._other.pause_reading()

    def resume_writing(self) -> None:
        if not self._other.is_closing():
            self._other.resume_reading()


class Tunnel:
    """Made by an exchange whose instance answered 101; tells it when all is over."""

    def __init__(
        self, exchange: Exchange, service: Service, client: asyncio.Transport, upstream: asyncio.Transport
    ) -> None:
        self._exchange: Exchange | None = exchange
        self._service = service
        self._transports = (client, upstream)
        self._from_client = _End(self, client, upstream)
        self._from_upstream = _End(self, upstream, client)
        self._timer: asyncio.TimerHandle | None = None
        self._watched = 0
        self._closing = False

    def begin(self, early: bytes, rest: bytes, *, client_ended: bool) -> None:
        """Take over; `early` came from the client, which may have closed its side, `rest` from the instance."""
        client, upstream = self._transports
        self._service.tunnels.add(self)
        for transport, end in ((client, self._from_client), (upstream, self._from_upstream)):
            transport.set_protocol(end)
            transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._from_client.carry(early)
        self._from_upstream.carry(rest)
        if client_ended:
            self._from_client.eof_received()

    def half_closed(self, own: asyncio.Transport, other: asyncio.Transport) -> bool:
        """`own` brings no more; whether its connection stays open for the answer. TLS cannot be half closed."""
        both = self._from_client.ended and self._from_upstream.ended
        if both or not own.can_write_eof() or not other.can_write_eof() or other.is_closing():
            self.close()
            return False
        other.write_eof()
        if self._timer is None:
            self._watch()
        return True

    def close(self) -> None:
        """Close both sides once what waits has been written."""
        if self._closing:
            return
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for transport in self._transports:
            transport.close()
        self._timer = self._service.loop.call_later(_FLUSH_SECONDS, self._abort)
        self._service.tunnels.discard(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.tunnel_ended(self._from_client.bytes, self._from_upstream.bytes)

    def _abort(self) -> None:
        for transport in self._transports:
            transport.abort()

    def _watch(self) -> None:
        """Close a half-closed tunnel in which nothing moves."""
        moved = self._from_client.bytes + self._from_upstream.bytes
        if self._timer is not None and moved == self._watched:
            self._timer = None
            self.close()
            return
        self._watched = moved
        self._timer = self._service.loop.call_later(_HALF_OPEN_SECONDS, self._watch)
