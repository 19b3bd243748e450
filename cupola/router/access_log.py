"""Access lines: one for each request that got an instance, into the app's log stream, in Gorouter's format.

The lines of one turn of the event loop are spooled together, so that a busy router makes few system calls for them.
"""

import asyncio
import logging
import time
from typing import Protocol

import msgspec

from cupola import clock
from cupola.router.backends import Backend

__all__ = ["AccessLog", "Entry", "Lines"]

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


class Entry(msgspec.Struct, gc=False):
    """What a line says. Times in seconds; `received` is since 1970, the others are durations."""

    host: bytes
    received: float
    method: bytes
    target: bytes
    minor: int
    special: dict[bytes, bytes]
    peer: bytes
    forwarded_for: bytes
    forwarded_proto: bytes
    request_id: bytes
    traced: bytes
    status: int
    request_bytes: int
    response_bytes: int
    response_seconds: float
    router_seconds: float
    router_error: bytes


class _Envelope(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The shape of cupola.logs.envelope.Envelope with tags that are encoded once per instance."""

    timestamp: int
    source_id: str
    instance_id: str
    tags: msgspec.Raw
    payload: bytes


class AccessLog:
    """Writes lines to a spool. `write` costs a few microseconds."""

    def __init__(self, lines: Lines, loop: asyncio.AbstractEventLoop) -> None:
        self._lines = lines
        self._loop = loop
        self._waiting: list[tuple[str, bytes]] = []
        self._second = 0
        self._second_text = b""
        self._complained = False

    def write(self, entry: Entry, backend: Backend) -> None:
        """Put the line of a finished request into the app's stream."""
        endpoint = backend.endpoint
        if endpoint is None:
            return
        line = self.line(entry, backend)
        envelope = _Envelope(clock.nanos(), endpoint.app_guid, ROUTER_INDEX, backend.log_tags, line)
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append((endpoint.app_guid, _encoder.encode(envelope)))

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

    def line(self, entry: Entry, backend: Backend) -> bytes:
        """The text of a line."""
        special = entry.special
        target, agent, referer = entry.target, special.get(b"user-agent", b"-"), special.get(b"referer", b"-")
        forwarded = entry.forwarded_for
        if len(target) + len(agent) + len(referer) + len(forwarded) > _MAX_LINE - 4 * _MAX_VALUE:
            target, agent, referer = target[:_MAX_TARGET], agent[:_MAX_VALUE], referer[:_MAX_VALUE]
            forwarded = forwarded[:_MAX_VALUE]
        second = int(entry.received)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return (
            b'%b - [%b.%09dZ] "%b %b HTTP/1.%d" %d %d %d "%b" "%b" "%b" "%b" x_forwarded_for:"%b" '
            b'x_forwarded_proto:"%b" vcap_request_id:"%b" response_time:%.6f gorouter_time:%.6f app_id:"%b" '
            b'app_index:"%b" instance_id:"%b" x_cf_routererror:"%b"%b'
        ) % (
            entry.host,
            self._second_text,
            (entry.received - second) * 1e9,
            entry.method,
            quoted(target),
            entry.minor,
            entry.status,
            entry.request_bytes,
            entry.response_bytes,
            quoted(referer) or b"-",
            quoted(agent) or b"-",
            entry.peer,
            backend.shown,
            quoted(forwarded),
            quoted(entry.forwarded_proto),
            entry.request_id,
            entry.response_seconds,
            entry.router_seconds,
            (backend.endpoint.app_guid.encode() if backend.endpoint is not None else b"-"),
            backend.log_index,
            backend.log_instance,
            quoted(entry.router_error) or b"-",
            entry.traced,
        )


def quoted(value: bytes) -> bytes:
    """`value` for between quotes: it cannot end them."""
    if b'"' in value or b"\\" in value:
        return value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return value
