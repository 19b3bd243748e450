"""Request ids and trace headers: B3 and W3C (reference/app-runtime.md section 12).

A request's id is its trace id written as a UUID. A trace that the client began is continued.
"""

import os
import re

import msgspec

__all__ = ["Trace", "Tracer"]

_TRACE = re.compile(rb"(?:[0-9a-f]{16}){1,2}")
_SPAN = re.compile(rb"[0-9a-f]{16}")
_SINGLE = re.compile(rb"((?:[0-9a-f]{16}){1,2})-([0-9a-f]{16})(?:-[01d](?:-[0-9a-f]{16})?)?")
_PARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_POOL = 4096
"""Random bytes that are fetched at once: a system call per request is saved."""


class Trace(msgspec.Struct, frozen=True, gc=False):
    """`lines` are header lines with their line ends; `logged` is what the access line says."""

    request_id: bytes
    lines: bytes
    logged: bytes


class Tracer:
    """Makes ids. `b3` and `w3c` say which headers are added."""

    def __init__(self, *, b3: bool, w3c: bool) -> None:
        self._b3 = b3
        self._w3c = w3c
        self._pool = b""
        self._next = 0

    def trace(self, special: dict[bytes, bytes]) -> Trace:
        """The id of a request with these headers, and what is added to it."""
        drawn = self._draw()
        trace_id, span = drawn[:32], drawn[32:]
        lines = logged = b""
        if self._b3:
            if b"b3" in special or b"x-b3-traceid" in special:
                trace_id, span, single = _continued(special, trace_id, span)
            else:
                single = trace_id + b"-" + span
            lines = b"X-B3-TraceId: %b\r\nX-B3-SpanId: %b\r\nb3: %b\r\n" % (trace_id, span, single)
            parent = special.get(b"x-b3-parentspanid", b"-")
            logged = b' x_b3_traceid:"%b" x_b3_spanid:"%b" x_b3_parentspanid:"%b" b3:"%b"' % (
                trace_id,
                span,
                parent if _SPAN.fullmatch(parent) else b"-",
                single,
            )
        if self._w3c:
            lines += _w3c(special, trace_id.rjust(32, b"0"), span)
        return Trace(_uuid(trace_id.rjust(32, b"0")), lines, logged)

    def _draw(self) -> bytes:
        """48 hexadecimal digits: a trace id with the version bits of a UUID, then a span id."""
        start = self._next
        if start + 48 > len(self._pool):
            self._pool = os.urandom(_POOL).hex().encode()
            start = 0
        self._next = start + 48
        drawn = self._pool[start : start + 48]
        return b"%b4%b%b%b" % (drawn[:12], drawn[13:16], b"89ab"[drawn[16] & 3 : (drawn[16] & 3) + 1], drawn[17:])


def _uuid(trace_id: bytes) -> bytes:
    return b"%b-%b-%b-%b-%b" % (trace_id[:8], trace_id[8:12], trace_id[12:16], trace_id[16:20], trace_id[20:])


def _continued(special: dict[bytes, bytes], trace_id: bytes, span: bytes) -> tuple[bytes, bytes, bytes]:
    """Trace, span and single header as the client gave them; new ones where they are not what they should be."""
    single = special.get(b"b3", b"").strip()
    match = _SINGLE.fullmatch(single)
    if match is not None:
        return match[1], match[2], single
    given, given_span = special.get(b"x-b3-traceid", b""), special.get(b"x-b3-spanid", b"")
    if _TRACE.fullmatch(given) and _SPAN.fullmatch(given_span):
        return given, given_span, given + b"-" + given_span
    return trace_id, span, trace_id + b"-" + span


def _w3c(special: dict[bytes, bytes], trace_id: bytes, span: bytes) -> bytes:
    match = _PARENT.fullmatch(special.get(b"traceparent", b"").strip())
    state = b"gorouter=" + span
    flags = b"01"
    if match is not None:
        trace_id, flags = match[1], match[3]
        others = [
            entry.strip()
            for entry in special.get(b"tracestate", b"").split(b",")
            if entry.strip() and not entry.strip().startswith(b"gorouter=")
        ]
        state = b",".join([state, *others][:32])
    return b"traceparent: 00-%b-%b-%b\r\ntracestate: %b\r\n" % (trace_id, span, flags, state)
