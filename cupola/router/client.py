"""A connection of a client: heads in, one exchange at a time, bodies streamed under back-pressure, every wait limited."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import httptools

from cupola.router import answers
from cupola.router.exchange import Exchange
from cupola.router.framing import ChunkedReader
from cupola.router.heads import CHUNKED, Malformed, Reader, Request
from cupola.router.service import Service
from cupola.router.upstream import WRITE_BUFFER

__all__ = ["Client"]

_LINGER_SECONDS = 5.0
"""For which a client that is still sending is listened to, unheard, so that it gets to read the answer."""

# Why a connection is not read.
_BACKLOG = 1
_WAITING = 2
_UPSTREAM = 4


class Client(asyncio.Protocol):
    """The protocol of one connection. `scheme` is `http` or `https`."""

    def __init__(self, service: Service, scheme: bytes) -> None:
        self.scheme = scheme
        self.peer = b""
        self.peer_port = b"-"
        self.forwarded = b""
        """The header lines that say where a request comes from when it does not say so itself."""
        self.body_complete = True
        self.close_after = False
        self.transport: asyncio.Transport
        self.deadline = 0.0
        """Monotonic seconds after which `expire` is called."""
        self._service = service
        self._reader = Reader(httptools.HttpRequestParser, service.settings.max_header_bytes, 400)
        self._exchange: Exchange | None = None
        self._backlog = b""
        self._streaming = False
        self._remaining = 0
        self._chunks: ChunkedReader | None = None
        self._holds = 0
        self._write_paused = False
        self.half_closed = False
        self._moved = 0
        self._unwritten = 0
        self._closing = False

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, not the ancestry.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self.peer = name[0].encode()
            self.peer_port = b"%b:%d" % (b"[%b]" % self.peer if b":" in self.peer else self.peer, name[1])
        self.forwarded = b"X-Forwarded-For: " + self.peer + b"\r\nX-Forwarded-Proto: " + self.scheme
        self.deadline = time.monotonic() + self._service.settings.header_timeout
        self._service.clients.add(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._exchange is None and not self._backlog:
            self._read_head(data)
        elif self._streaming and not self.body_complete:
            self._read_body(data)
        else:
            self._backlog += data
            self._hold(_BACKLOG)

    def eof_received(self) -> bool:
        exchange = self._exchange
        if self._closing or not self.body_complete or (exchange is None and not self._backlog):
            return False
        if not self.transport.can_write_eof():
            return False
        # Either it waits for the answer or it is gone: only writing to it would tell.
        self.half_closed = True
        self._moved = exchange.response_bytes if exchange is not None else 0
        self.deadline = min(self.deadline, time.monotonic() + self._service.settings.half_closed_timeout)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._service.clients.discard(self)
        self._closing = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._exchange is not None:
            self._exchange.hold_response(True)

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._exchange is not None:
            self._exchange.hold_response(False)
        elif self._backlog:
            self._service.loop.call_soon(self._continue)

    # Requests.

    def _read_head(self, data: bytes) -> None:
        reader = self._reader
        begun = reader.begun
        try:
            head = reader.read(data)
            if head is not None:
                reader.judge(head)
                request = Request(head)
        except Malformed as error:
            self._refuse(error)
            return
        if head is None:
            if self.half_closed:
                self._close(linger=False)
            elif not begun and reader.begun:
                self.deadline = time.monotonic() + self._service.settings.header_timeout
            return
        self._begin(request, reader.rest)

    def _begin(self, request: Request, rest: bytes) -> None:
        service = self._service
        now = time.monotonic()
        self.deadline = now + (
            service.settings.half_closed_timeout if self.half_closed else service.settings.request_timeout
        )
        self._moved = 0
        length = request.length
        if length:
            self._reader.renew()
            self.body_complete = False
            self._streaming = False
            self._remaining = length
            self._chunks = ChunkedReader() if length == CHUNKED else None
        exchange = self._exchange = Exchange(service, self, request, now)
        if rest:
            self._backlog = rest
            self._hold(_BACKLOG)
        exchange.start()
        if length and not self._streaming and self._exchange is not None:
            self._hold(_WAITING)

    def _refuse(self, error: Malformed) -> None:
        """Answer what cannot be read, and read nothing more."""
        answer = answers.malformed(error.status, error.reason, error.router_error)
        self.transport.write(answers.render(answer, b"", close=True, head_only=False))
        self._close(linger=True)

    def _continue(self) -> None:
        """Go on with what came while the last request was answered."""
        if self._exchange is None and self._backlog and not self._closing and not self._write_paused:
            data, self._backlog = self._backlog, b""
            self._unhold(_BACKLOG)
            self._read_head(data)

    # Bodies of requests.

    def stream_body(self) -> None:
        """There is an instance to take the body: read it."""
        if self._streaming:
            return
        self._streaming = True
        data, self._backlog = self._backlog, b""
        self._unhold(_WAITING | _BACKLOG)
        if data:
            self._read_body(data)

    def _read_body(self, data: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        chunks = self._chunks
        if chunks is None:
            remaining = self._remaining - len(data)
            piece, rest = (data, b"") if remaining >= 0 else (data[:remaining], data[remaining:])
            self._remaining = max(remaining, 0)
            done = remaining <= 0
        else:
            try:
                piece = chunks.feed(data)
            except Malformed as error:
                exchange.body_malformed(error.status, error.reason)
                return
            done = chunks.done
            rest = chunks.rest
        self.body_complete = done
        exchange.send_body(piece)
        if done:
            exchange.send_end(chunks.trailers if chunks is not None else [])
            if rest:
                self._backlog = rest
                self._hold(_BACKLOG)

    def hold_body(self, hold: bool) -> None:
        """The instance does not read as fast as the client writes, or does so again."""
        if hold:
            self._hold(_UPSTREAM)
        else:
            self._unhold(_UPSTREAM)

    # Ends.

    def exchange_ended(self, now: float) -> None:
        """The exchange has said its last word."""
        self._exchange = None
        self._streaming = False
        if self._holds:
            self._unhold(_WAITING | _UPSTREAM)
        over = self.close_after or self._service.draining or (self.half_closed and not self._backlog)
        if over or not self.body_complete:
            self._close(linger=not self.body_complete)
            return
        self.deadline = now + self._service.settings.idle_timeout
        if self._backlog:
            self._service.loop.call_soon(self._continue)

    def cut(self, *, hard: bool = False) -> None:
        """End the connection before the response is whole. `hard` where its end would look like the response's."""
        self._exchange = None
        if hard:
            self.transport.abort()
        self._close(linger=False)

    def detach(self) -> bytes:
        """Give the connection away; returns what the client sent after its request."""
        self._exchange = None
        self._closing = True
        self._service.clients.discard(self)
        early, self._backlog = self._backlog, b""
        self._unhold(_BACKLOG | _WAITING | _UPSTREAM)
        return early

    def drain(self) -> None:
        """End now if nothing is under way, else after the response."""
        self.close_after = True
        if self._exchange is None and not self._reader.begun and not self._backlog:
            self._close(linger=False)

    def expire(self, now: float) -> None:
        """`deadline` has passed."""
        exchange = self._exchange
        if self._closing:
            self._expire_closing(now)
        elif exchange is not None:
            if not self.half_closed:
                exchange.expired()
            elif exchange.response_bytes > self._moved:
                self._moved = exchange.response_bytes
                self.deadline = now + self._service.settings.half_closed_timeout
            else:
                self.transport.abort()
        elif self._reader.begun:
            self._refuse(Malformed(408, "The request's head did not come in time."))
        else:
            self._close(linger=False)

    def _expire_closing(self, now: float) -> None:
        """A client that reads slowly gets the rest of its answer as long as it reads."""
        waiting = self.transport.get_write_buffer_size()
        if 0 < waiting < self._unwritten:
            self._unwritten = waiting
            self.deadline = now + _LINGER_SECONDS
        else:
            self.transport.abort()

    def _close(self, *, linger: bool) -> None:
        """Close once what waits has been written. `linger` lets a client that is still sending read the answer."""
        self._closing = True
        self._backlog = b""
        self._unwritten = self.transport.get_write_buffer_size() + 1
        self.deadline = time.monotonic() + _LINGER_SECONDS
        if linger and self.transport.can_write_eof() and not self.transport.is_closing():
            self._unhold(_BACKLOG | _WAITING | _UPSTREAM)
            self.transport.write_eof()
        else:
            self.transport.close()

    def _hold(self, reason: int) -> None:
        if not self._holds and not self.transport.is_closing():
            self.transport.pause_reading()
        self._holds |= reason

    def _unhold(self, reason: int) -> None:
        if self._holds:
            self._holds &= ~reason
            if not self._holds and not self.transport.is_closing():
                self.transport.resume_reading()
