"""Access lines: one for each request that got an instance, into the app's log stream, in Gorouter's format.

A quote in a value is written `%22`, so that no client can end the value and go on with a field of its choice. The lines of one turn of the event loop are spooled together, so that a busy router makes few system calls for them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from cupola.router.backends import Backend

if TYPE_CHECKING:
    from cupola.router.balance import Pool
    from cupola.router.exchange import Exchange

__all__ = ["AccessLog", "Lines"]

_MAX_LINE = 61_440
_MAX_TARGET = 20_000
_MAX_VALUE = 1_000
ROUTER_INDEX = "0"
_log = logging.getLogger(__name__)
_encoder = msgspec.msgpack.Encoder()


class Lines(Protocol):
    """What takes the lines: `cupola.logs.spool.Spool`."""

    def put_encoded(self, envelopes: list[tuple[str, bytes]]) -> None:
        """Spool envelopes that are encoded, each with its source id."""


class _Envelope(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The shape of cupola.logs.envelope.Envelope with tags that are encoded once per instance."""

    timestamp: int
    source_id: str
    instance_id: str
    tags: msgspec.Raw
    payload: bytes


class AccessLog:
    """Writes lines to a spool. `write` costs a few microseconds."""

    def __init__(self, lines: Lines, loop: asyncio.AbstractEventLoop, redact: str = "none") -> None:
        self._redact = redact
        self._lines = lines
        self._loop = loop
        self._waiting: list[tuple[str, bytes]] = []
        self._second = 0
        self._second_text = b""
        self._complained = False

    def write(self, exchange: Exchange, backend: Backend, seconds: float) -> None:
        """Put the line of a request that is over, after `seconds`, into the app's stream."""
        if exchange.detour is not None:
            self._write_guarded(exchange, exchange.detour.guarded, backend, seconds)
        endpoint = backend.endpoint
        if endpoint is not None:
            line = self._fitting(exchange, backend, seconds, backend.log_text)
            self._put(exchange, endpoint.app_guid, backend.log_tags, line, seconds)

    def _write_guarded(self, exchange: Exchange, guarded: Pool, backend: Backend, seconds: float) -> None:
        """The line of a request that went to the service in front of an app."""
        endpoint = guarded.backends[0].endpoint
        assert endpoint is not None
        of_instance = ("instance_id", "process_instance_id")
        own = {name: value for name, value in endpoint.tags.items() if name not in of_instance}
        tags = msgspec.Raw(_encoder.encode({**own, "source_type": "RTR", "app_id": endpoint.app_guid}))
        text = b' app_id:"%b" app_index:"-" instance_id:"-"' % endpoint.app_guid.encode()
        line = self._fitting(exchange, backend, seconds, text)
        self._put(exchange, endpoint.app_guid, tags, line, seconds)

    def _put(self, exchange: Exchange, app_guid: str, tags: msgspec.Raw, line: bytes, seconds: float) -> None:
        at = int((exchange.received + seconds) * 1e9)
        envelope = _Envelope(at, app_guid, ROUTER_INDEX, tags, line)
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append((app_guid, _encoder.encode(envelope)))

    def flush(self) -> None:
        """Spool what waits."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            self._lines.put_encoded(waiting)
        except Exception:
            # Serving goes on without access lines; one complaint is enough.
            if not self._complained:
                self._complained = True
                _log.exception("access lines cannot be spooled")

    def _fitting(self, exchange: Exchange, backend: Backend, seconds: float, of_app: bytes) -> bytes:
        line = self._line(exchange, backend, seconds, of_app)
        return line if len(line) <= _MAX_LINE else self._line(exchange, backend, seconds, of_app, shorten=True)

    def _line(
        self, exchange: Exchange, backend: Backend, seconds: float, of_app: bytes, *, shorten: bool = False
    ) -> bytes:
        request, client = exchange.request, exchange.client
        special = request.special
        received = exchange.received
        second = int(received)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        target, agent, referer = exchange.target, special.get(b"user-agent"), special.get(b"referer")
        forwarded, proto = special.get(b"x-forwarded-for"), special.get(b"x-forwarded-proto", client.scheme)
        router_error = exchange.router_error
        if self._redact != "none":
            target, referer = self._without_query(target), referer and self._without_query(referer)
        if shorten:
            target = target[:_MAX_TARGET]
            agent, referer, forwarded = agent and agent[:_MAX_VALUE], referer and referer[:_MAX_VALUE], b"-"
        if request.quoted or router_error:
            target, router_error, proto = _unquoted(target), _unquoted(router_error), _unquoted(proto)
            agent, referer, forwarded = _unquoted(agent), _unquoted(referer), _unquoted(forwarded)
        return _FORMAT % (
            exchange.host,
            self._second_text,
            int((received - second) * 1e9),
            request.method,
            target,
            request.minor,
            exchange.status,
            exchange.request_bytes,
            exchange.response_bytes,
            referer or b"-",
            agent or b"-",
            client.peer_port,
            backend.shown,
            forwarded + b", " + client.peer if forwarded else client.peer,
            proto,
            exchange.trace.request_id,
            seconds,
            exchange.sent - exchange.started if exchange.sent else seconds,
            of_app,
            router_error or b"-",
            exchange.trace.logged,
        )

    def _without_query(self, url: bytes) -> bytes:
        path, mark, query = url.partition(b"?")
        if not mark or self._redact == "all":
            return path
        return path + b"?hash=" + hashlib.sha256(query).hexdigest().encode()


_FORMAT = (
    b'%b - [%b.%09dZ] "%b %b HTTP/1.%d" %d %d %d "%b" "%b" "%b" "%b" x_forwarded_for:"%b" '
    b'x_forwarded_proto:"%b" vcap_request_id:"%b" response_time:%.6f gorouter_time:%.6f%b x_cf_routererror:"%b"%b'
)


def _unquoted(value: bytes | None) -> bytes:
    return value.replace(b'"', b"%22") if value else b""
