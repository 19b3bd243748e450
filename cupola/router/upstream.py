"""A connection to an instance: one exchange at a time, idle in between."""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from typing import TYPE_CHECKING, cast

import httptools

from cupola.endpoints import dial
from cupola.router.backends import Backend
from cupola.router.framing import ChunkedReader
from cupola.router.heads import CHUNKED, UNTIL_CLOSE, Malformed, Reader, Response

if TYPE_CHECKING:
    from cupola.router.exchange import Exchange

__all__ = ["WRITE_BUFFER", "NotAllowed", "Upstream", "cause_of", "connect"]

WRITE_BUFFER = 128 * 1024
"""Bytes that may wait for a peer before the other side is no longer read."""
_MAX_INFORMATIONAL = 64
"""1xx responses to one request."""


class NotAllowed(OSError):
    """The platform may not call this address for whoever gave it (cupola/outbound.py)."""


class Upstream(asyncio.Protocol):
    """The protocol of one connection. `exchange` is None while it is idle."""

    def __init__(self, backend: Backend, max_header_bytes: int) -> None:
        self.backend = backend
        self.exchange: Exchange | None = None
        """Set by the exchange that takes the connection; `informational` counts the 1xx responses to it."""
        self.informational = 0
        self.idle_since = 0.0
        self.transport: asyncio.Transport
        self._reader = Reader(httptools.HttpResponseParser, max_header_bytes, 502)
        self._response: Response | None = None
        self._remaining = 0
        self._chunks: ChunkedReader | None = None
        self._held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, not the ancestry.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)

    def hold(self, hold: bool) -> None:
        """Do not read, because the client does not, or do so again."""
        if hold != self._held and not self.transport.is_closing():
            self._held = hold
            if hold:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def close(self) -> None:
        """Close without telling the exchange."""
        self.exchange = None
        if self in self.backend.idle:
            self.backend.idle.remove(self)
        self.transport.abort()

    def detach(self) -> None:
        """Another protocol takes over the connection."""
        self.exchange = None

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            # Nobody asked: what follows could be taken for the answer to the next request.
            self.close()
            return
        try:
            if self._response is None:
                self._read_head(exchange, data)
            else:
                self._read_body(exchange, data)
        except Malformed as error:
            self.close()
            exchange.upstream_lost(error.reason, began=True)

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc)

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.client.hold_body(True)

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.client.hold_body(False)

    # Reading a response.

    def _read_head(self, exchange: Exchange, data: bytes) -> None:
        reader = self._reader
        while True:
            head = reader.read(data)
            if head is None:
                return
            response = Response(head, exchange.request.method, reader)
            reader.renew()
            rest = reader.rest
            if response.status >= 200:
                break
            if response.status == 101:
                exchange.switch(response, rest)
                return
            self.informational += 1
            if self.informational > _MAX_INFORMATIONAL:
                raise Malformed(502, "too many informational responses")
            exchange.inform(response)
            if not rest:
                return
            data = rest
        length = response.length
        if length >= 0:
            if len(rest) < length:
                self._response = response
                self._remaining = length - len(rest)
                exchange.respond(response, rest)
            else:
                exchange.respond(response, rest if len(rest) == length else rest[:length])
                self._complete(exchange, reusable=response.keep_alive and len(rest) == length)
            return
        self._response = response
        self._chunks = ChunkedReader() if length == CHUNKED else None
        exchange.respond(response, b"")
        if rest:
            self._read_body(exchange, rest)

    def _read_body(self, exchange: Exchange, data: bytes) -> None:
        response = self._response
        assert response is not None
        chunks = self._chunks
        if chunks is not None:
            piece = chunks.feed(data)
            if piece:
                exchange.relay(piece)
            if chunks.done:
                exchange.end_body(chunks.trailers)
                self._complete(exchange, reusable=response.keep_alive and not chunks.rest)
        elif response.length == UNTIL_CLOSE:
            exchange.relay(data)
        else:
            remaining = self._remaining - len(data)
            exchange.relay(data if remaining >= 0 else data[:remaining])
            self._remaining = remaining
            if remaining <= 0:
                self._complete(exchange, reusable=response.keep_alive and remaining == 0)

    def _complete(self, exchange: Exchange, *, reusable: bool) -> None:
        """The response is over: the connection is there for the next request before the client may send one."""
        self._response = None
        self._chunks = None
        self.exchange = None
        if self._held:
            self.hold(False)
        now = time.monotonic()
        if reusable and exchange.client.body_complete and not self.transport.is_closing():
            self.idle_since = now
            if not self.backend.give_back(self):
                self.transport.close()
        else:
            self.transport.abort()
        exchange.finished(now)

    def _ended(self, exc: Exception | None) -> None:
        exchange = self.exchange
        if exchange is None:
            if self in self.backend.idle:
                self.backend.idle.remove(self)
            return
        response = self._response
        if response is not None and response.length == UNTIL_CLOSE and exc is None:
            exchange.end_body([])
            self._complete(exchange, reusable=False)
            return
        self.close()
        began = response is not None or self._reader.begun or self.informational > 0
        exchange.upstream_lost(cause_of(exc), began=began)


async def connect(backend: Backend, loop: asyncio.AbstractEventLoop, max_header_bytes: int, seconds: float) -> Upstream:
    """A new connection to an instance. Raises OSError, TimeoutError among them."""
    kind, host, port = backend.address
    upstream = Upstream(backend, max_header_bytes)
    try:
        async with asyncio.timeout(seconds):
            if backend.dialler is not None:
                await backend.dialler(upstream)
            elif kind == "unix" and port:
                made = await dial(f"unix:{host}:{port}")
                await loop.create_connection(lambda: upstream, sock=made)
            elif kind == "unix":
                await loop.create_unix_connection(lambda: upstream, host)
            else:
                await loop.create_connection(lambda: upstream, host, port)
    except BaseException:
        # Too late or no longer wanted, but perhaps connected all the same.
        if hasattr(upstream, "transport"):
            upstream.transport.abort()
        raise
    return upstream


def cause_of(error: BaseException | None) -> str:
    """What happened to a connection, in a few words."""
    if error is None:
        return "EOF"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLError):
        return "x509" if isinstance(error, ssl.SSLCertVerificationError) else "tls handshake"
    if isinstance(error, NotAllowed):
        return "address not allowed"
    if isinstance(error, OSError) and error.errno is not None:
        return _WORDS.get(error.errno, errno.errorcode.get(error.errno, "connection lost"))
    return "connection lost"


_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset by peer",
    errno.EPIPE: "broken pipe",
    errno.ENOENT: "no such socket",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network is unreachable",
    errno.EACCES: "permission denied",
}
