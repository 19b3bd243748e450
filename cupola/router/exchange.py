"""One request and its response: choosing an instance, trying again, passing both bodies on, and the access line.

start ──> (dial) ──> head sent ──> response head ──> finished
   │         │           │              └─ upstream lost: the client's connection is cut, so that it sees it
   │         │           └─ upstream lost: the next attempt if nothing can have happened twice, else 502
   │         └─ not reachable: the next attempt, another instance if there is one
   └─ the router's own answer
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from typing import TYPE_CHECKING

from cupola.router import answers, forwarding, sticky
from cupola.router.answers import Answer
from cupola.router.backends import Backend
from cupola.router.balance import choose
from cupola.router.framing import LAST_CHUNK, chunk, last_chunk
from cupola.router.heads import CHUNKED, NO_BODY, Request, Response
from cupola.router.routing import Destination, resolve
from cupola.router.table import host_name
from cupola.router.tunnel import Tunnel
from cupola.router.upstream import NotAllowed, Upstream, cause_of, connect

if TYPE_CHECKING:
    from cupola.router.client import Client
    from cupola.router.route_services import Detour
    from cupola.router.service import Service

__all__ = ["Exchange"]

_log = logging.getLogger(__name__)
_ATTEMPTS = 3
_HOLD_PAUSE = 0.025
"""Seconds between two looks for a controller that is not there."""
_REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
_GONE = 499
"""What the access line says of a client that did not wait for the answer."""


class Exchange:
    """Lives from the request's head to the last byte of the response. Either side may end it at any time.

    `host` and `target` as they are sent on; `received` in seconds since 1970, `started` and `sent` monotonic, 0 for not.
    """

    __slots__ = (
        "_attempts",
        "_backend",
        "_chunked_out",
        "_destination",
        "_dialling",
        "_done",
        "_service",
        "_tried",
        "_upstream",
        "client",
        "detour",
        "host",
        "received",
        "request",
        "request_bytes",
        "response_bytes",
        "router_error",
        "sent",
        "started",
        "status",
        "target",
        "trace",
    )

    def __init__(self, service: Service, client: Client, request: Request, now: float) -> None:
        self._service = service
        self.client = client
        self.request = request
        self.received = time.time()
        self.started = now
        self.sent = 0.0
        self.request_bytes = 0
        self.response_bytes = 0
        self.status = 0
        """Of the response whose head the client has been sent; 0 before."""
        self.router_error = b""
        self.trace = service.tracer.trace(request.special)
        self.detour: Detour | None = None
        self._destination: Destination | None = None
        self._backend: Backend | None = None
        self._upstream: Upstream | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._tried: tuple[Backend, ...] = ()
        self._attempts = 0
        self._chunked_out = False
        self._done = False

    @property
    def repeatable(self) -> bool:
        """Whether the request may be sent again although an instance may have seen it."""
        request = self.request
        return request.length == NO_BODY and (
            request.method in _REPEATABLE
            or b"idempotency-key" in request.special
            or b"x-idempotency-key" in request.special
        )

    def start(self) -> None:
        """Route the request and send it, or answer it."""
        found = resolve(self._service, self.request, self.client.scheme)
        if isinstance(found, Answer):
            self.answer(found)
            return
        self._destination = found
        self.host = found.host
        self.target = found.target
        self.detour = found.detour
        self._attempt(found, fresh=False)

    # Towards the instance.

    def _attempt(self, to: Destination, *, fresh: bool) -> None:
        """Choose an instance and send the request, on an idle connection unless `fresh`."""
        self._attempts += 1
        if self._backend is not None:
            self._backend.in_flight -= 1
            self._backend = None
        backend = to.pinned
        if backend is None or (backend in self._tried and not to.insists):
            backend = choose(to.pool, self._tried, to.hash_key, self._service.settings.balancing)
        if backend is None or backend.in_flight >= backend.limit:
            self.answer(answers.connection_limit(host_name(to.host) or ""))
            return
        backend.in_flight += 1
        self._backend = backend
        upstream = None if fresh else backend.take_idle(self, self.started)
        if upstream is None:
            self._dialling = self._service.loop.create_task(self._dial(to, backend))
        else:
            self._send(to, backend, upstream)

    async def _dial(self, to: Destination, backend: Backend) -> None:
        settings = self._service.settings
        patience = time.monotonic() + settings.controller_hold_seconds if to.system else 0.0
        while True:
            try:
                upstream = await connect(backend, self._service.loop, settings.max_header_bytes, settings.dial_timeout)
            except OSError as error:
                if time.monotonic() < patience:
                    await asyncio.sleep(_HOLD_PAUSE)
                    continue
                self._dialling = None
                self._not_reached(to, backend, error)
                return
            self._dialling = None
            self._send(to, backend, upstream)
            return

    def _not_reached(self, to: Destination, backend: Backend, error: OSError) -> None:
        if to.system:
            self.answer(answers.controller_away(to.target.decode("latin-1")))
            return
        if backend.usable:
            _log.warning("%s cannot be reached: %s", backend, cause_of(error))
        backend.failed()
        self._tried = (*self._tried, backend)
        if self._attempts < _ATTEMPTS and not isinstance(error, ssl.SSLError | NotAllowed):
            self._attempt(to, fresh=False)
        elif backend.dialler is not None:
            self.answer(answers.route_service_unreachable(error, cause_of(error)))
        else:
            self.answer(answers.endpoint_failure(cause_of(error)))

    def _send(self, to: Destination, backend: Backend, upstream: Upstream) -> None:
        self._upstream = upstream
        self.sent = time.monotonic()
        upstream.exchange = self
        upstream.informational = 0
        upstream.transport.write(forwarding.request_head(self, backend))
        if not self.client.body_complete:
            self.client.stream_body()

    def send_body(self, data: bytes) -> None:
        """Pass on a piece of the request's body."""
        self.request_bytes += len(data)
        upstream = self._upstream
        if upstream is not None and data:
            upstream.transport.write(chunk(data) if self.request.length == CHUNKED else data)

    def send_end(self, trailers: list[bytes]) -> None:
        """The request's body is over."""
        if self._upstream is not None and self.request.length == CHUNKED:
            self._upstream.transport.write(last_chunk(trailers))

    def hold_response(self, hold: bool) -> None:
        """The client does not read as fast as the instance writes, or does so again."""
        if self._upstream is not None:
            self._upstream.hold(hold)

    # From the instance.

    def inform(self, response: Response) -> None:
        """Pass on a 1xx response; clients of HTTP/1.0 do not know them."""
        if self.request.minor:
            self.client.transport.write(forwarding.informational(response))

    def respond(self, response: Response, piece: bytes) -> None:
        """Pass on the head of the response and the first piece of its body."""
        client, request = self.client, self.request
        self.status = response.status
        length = response.length
        keep_alive = request.keep_alive and not self._service.draining and not client.close_after
        if length < 0:
            self._chunked_out = request.minor == 1
            if not self._chunked_out:
                keep_alive = False
        if not keep_alive:
            client.close_after = True
        head = forwarding.response_head(response, request, self._added(response), keep_alive=keep_alive)
        self.response_bytes = len(piece)
        if len(piece) < 16384:
            client.transport.write(head + piece)
        else:
            client.transport.writelines((head, piece))

    def _added(self, response: Response) -> list[bytes]:
        """Header lines of the router itself."""
        special = response.special
        to, backend = self._destination, self._backend
        assert to is not None
        assert backend is not None
        edge = self._service.edge
        added = [edge.hsts] if to.system and edge is not None and edge.hsts and self.client.scheme == b"https" else []
        if to.system and b"x-vcap-request-id" in special:
            added.append(b"X-Vcap-Request-Id: " + special[b"x-vcap-request-id"])
            return added
        added.append(b"X-Vcap-Request-Id: " + self.trace.request_id)
        if b"x-cf-routererror" in special:
            self.router_error = special[b"x-cf-routererror"]
            added.append(b"X-Cf-RouterError: " + self.router_error)
        if to.target.find(b";") >= 0:
            added.append(b"X-Cf-RouterError: deprecated-semicolon-params")
        if backend.endpoint is not None and to.detour is None and (b"set-cookie" in special or to.wanted):
            cookie = sticky.cookie_to_set(
                special.get(b"set-cookie", b""),
                self._service.sticky,
                backend.endpoint.instance_guid,
                to.pool.cookie_path,
                wanted=to.wanted,
            )
            if cookie is not None:
                added.append(cookie)
        return added

    def relay(self, piece: bytes) -> None:
        """Pass on a piece of the response's body."""
        self.response_bytes += len(piece)
        self.client.transport.write(chunk(piece) if self._chunked_out else piece)

    def end_body(self, trailers: list[bytes]) -> None:
        """The response's body, which had no length, is over."""
        if self._chunked_out:
            self.client.transport.write(last_chunk(trailers) if trailers else LAST_CHUNK)

    def finished(self, now: float) -> None:
        """The response has been passed on whole; the connection to the instance has been given back."""
        self._upstream = None
        self._done = True
        backend = self._backend
        assert backend is not None
        backend.in_flight -= 1
        self._service.access_log.write(self, backend, now - self.started)
        self.client.exchange_ended(now)

    def switch(self, response: Response, rest: bytes) -> None:
        """The instance agreed to another protocol: from here on bytes are carried as they come."""
        upstream = self._upstream
        assert upstream is not None
        if not self.request.upgrade:
            upstream.close()
            self.upstream_lost("switched protocols unasked", began=True)
            return
        self.status = 101
        client = self.client
        client.transport.write(forwarding.informational(response))
        early = client.detach()
        upstream.detach()
        tunnel = Tunnel(self, self._service, client.transport, upstream.transport)
        tunnel.begin(early, rest, client_ended=client.half_closed)

    def tunnel_ended(self, sent: int, received: int) -> None:
        """The connection that `switch` made is over; bytes from and to the client."""
        self.request_bytes = sent
        self.response_bytes = received
        self._upstream = None
        self._end(time.monotonic())

    def upstream_lost(self, cause: str, *, began: bool) -> None:
        """The connection to the instance ended before the response did."""
        self._upstream = None
        to = self._destination
        assert to is not None
        if self.status:
            # An early end of the connection is the only way to tell the client that the rest is missing.
            self.router_error = f"endpoint_failure ({cause})".encode()
            self._cut()
        elif not began and self._attempts < _ATTEMPTS and self.repeatable:
            self._attempt(to, fresh=True)
        elif to.system:
            self.answer(answers.controller_failed(to.target.decode("latin-1")))
        else:
            self.answer(answers.endpoint_failure(cause))

    # Ends that neither a response nor the instance brought.

    def answer(self, answer: Answer) -> None:
        """Answer in the router's own words."""
        request, client = self.request, self.client
        self.status = answer.status
        self.router_error = answer.router_error.encode("latin-1", "replace")
        close = answer.close or not request.keep_alive or not client.body_complete or self._service.draining
        client.close_after = client.close_after or close
        head_only = request.method == b"HEAD"
        data = answers.render(answer, self.trace.request_id, close=client.close_after, head_only=head_only)
        client.transport.write(data)
        self.response_bytes = 0 if head_only else len(data) - data.index(b"\r\n\r\n") - 4
        self._drop_upstream()
        now = time.monotonic()
        self._end(now)
        client.exchange_ended(now)

    def client_gone(self) -> None:
        """The client's connection is no more."""
        if not self._done:
            self.status = self.status or _GONE
            self._drop_upstream()
            self._end(time.monotonic())

    def expired(self) -> None:
        """The time for the whole request is over."""
        if self.status:
            self._drop_upstream()
            self._cut()
        elif not self.client.body_complete:
            self.answer(answers.request_timeout("The request's body did not come in time."))
        else:
            self.answer(answers.endpoint_failure("context deadline exceeded"))

    def body_malformed(self, status: int, reason: str) -> None:
        """The request's body is not framed as it must be: whoever has it must not take it for whole."""
        self._drop_upstream()
        if self.status:
            self._cut()
        else:
            self.answer(answers.malformed(status, reason))

    def _cut(self) -> None:
        self._end(time.monotonic())
        # HTTP/1.0 without a length: only a reset tells a broken response from a whole one.
        self.client.cut(hard=self.request.minor == 0)

    def _drop_upstream(self) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None

    def _end(self, now: float) -> None:
        """Count the request as over and write its line, once."""
        if self._done:
            return
        self._done = True
        backend = self._backend
        if backend is not None:
            backend.in_flight -= 1
            self._service.access_log.write(self, backend, now - self.started)
