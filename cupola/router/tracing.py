"""Request ids and trace headers: B3 and W3C (reference/app-runtime.md section 12).

A request's id is its trace id written as a UUID. A trace that the client began is continued. New ones are made by the
hundred: a request then costs three slices of ready text and no formatting.
"""

import os
import re

import msgspec

__all__ = ["Trace", "Tracer"]

_TRACE = re.compile(rb"(?:[0-9a-f]{16}){1,2}")
_SPAN = re.compile(rb"[0-9a-f]{16}")
_SINGLE = re.compile(rb"((?:[0-9a-f]{16}){1,2})-([0-9a-f]{16})(?:-[01d](?:-[0-9a-f]{16})?)?")
_PARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

_STOCK = 128
"""Ids made at once."""
_RAW = 24
"""Random bytes of one: a trace id of 16, a span id of 8."""
_VERSION = bytes(byte & 0x0F | 0x40 for byte in range(256))
_VARIANT = bytes(byte & 0x3F | 0x80 for byte in range(256))
"""What makes a trace id a random UUID (RFC 9562 version 4)."""

_T, _S = b"<trace>", b"<span>"
_ID = b"<uuid>"
_B3 = b"X-B3-TraceId: %b\r\nX-B3-SpanId: %b\r\nb3: %b-%b\r\n" % (_T, _S, _T, _S)
_B3_LOGGED = b' x_b3_traceid:"%b" x_b3_spanid:"%b" x_b3_parentspanid:"-" b3:"%b-%b"' % (_T, _S, _T, _S)
_W3C = b"traceparent: 00-%b-%b-01\r\ntracestate: gorouter=%b\r\n" % (_T, _S, _S)


class Trace(msgspec.Struct, frozen=True, gc=False):
    """`lines` are header lines with their line ends, the request id's among them; `logged` is what the access line
    says, a space before it."""

    request_id: bytes
    lines: bytes
    logged: bytes


class Tracer:
    """Makes ids. `b3` and `w3c` say which headers are added."""

    def __init__(self, *, b3: bool, w3c: bool) -> None:
        self._b3 = b3
        self._w3c = w3c
        lines = b"X-Vcap-Request-Id: " + _ID + b"\r\n" + (_B3 if b3 else b"") + (_W3C if w3c else b"")
        self._templates = (_Template(_ID), _Template(lines), _Template(_B3_LOGGED if b3 else b""))
        self._stock: list[Trace] = []

    def trace(self, special: dict[bytes, bytes]) -> Trace:
        """The id of a request with these headers, and what is added to it."""
        if b"b3" in special or b"x-b3-traceid" in special or b"traceparent" in special:
            return self._continued(special)
        if not self._stock:
            self._refill()
        return self._stock.pop()

    def _refill(self) -> None:
        raw = bytearray(os.urandom(_STOCK * _RAW))
        raw[6::_RAW] = raw[6::_RAW].translate(_VERSION)
        raw[8::_RAW] = raw[8::_RAW].translate(_VARIANT)
        digits = raw.hex().encode()
        columns = [bytearray(digits[digit :: 2 * _RAW]) for digit in range(2 * _RAW)]
        ids, lines, logged = (template.fill(columns) for template in self._templates)
        self._stock = [Trace(*parts) for parts in zip(ids, lines, logged, strict=True)]

    def _continued(self, special: dict[bytes, bytes]) -> Trace:
        """What the client gave, and new ids where that is not what it should be."""
        digits = os.urandom(_RAW).hex().encode()
        trace_id, span = digits[:32], digits[32:]
        parent, state = b"-", b"gorouter=" + span
        match = _PARENT.fullmatch(special.get(b"traceparent", b"")) if self._w3c else None
        flags = b"01"
        if match is not None:
            trace_id, flags = match[1], match[3]
            entries = [entry.strip() for entry in special.get(b"tracestate", b"").split(b",")]
            state = b",".join([state, *(one for one in entries if one and not one.startswith(b"gorouter="))][:32])
        lines = logged = b""
        if self._b3:
            trace_id, b3_span, single, parent = _b3(special, trace_id, span)
            lines = b"X-B3-TraceId: %b\r\nX-B3-SpanId: %b\r\nb3: %b\r\n" % (trace_id, b3_span, single)
            logged = b' x_b3_traceid:"%b" x_b3_spanid:"%b" x_b3_parentspanid:"%b" b3:"%b"' % (
                trace_id,
                b3_span,
                parent,
                single,
            )
        full = trace_id.rjust(32, b"0")
        if self._w3c:
            lines += b"traceparent: 00-%b-%b-%b\r\ntracestate: %b\r\n" % (full, span, flags, state)
        request_id = b"-".join((full[:8], full[8:12], full[12:16], full[16:20], full[20:]))
        return Trace(request_id, b"X-Vcap-Request-Id: " + request_id + b"\r\n" + lines, logged)


class _Template:
    """A text with ids in it, to be filled in for many at once: one digit of all of them after the other."""

    def __init__(self, text: bytes) -> None:
        uuid = b"-".join((b"T" * 8, b"T" * 4, b"T" * 4, b"T" * 4, b"T" * 12))
        self._text = bytearray()
        self._digits: list[tuple[int, int]] = []
        for part in re.split(rb"(<\w+>)", text):
            known = {_ID: uuid, _T: b"T" * 32, _S: b"S" * 16}.get(part)
            digit = 32 if part == _S else 0
            for byte in part if known is None else known:
                if known is not None and byte != ord("-"):
                    self._digits.append((len(self._text), digit))
                    digit += 1
                self._text.append(byte)

    def fill(self, columns: list[bytearray]) -> list[bytes]:
        """The texts for _STOCK ids, given as columns of hexadecimal digits."""
        size = len(self._text)
        filled = self._text * _STOCK
        for place, digit in self._digits:
            filled[place::size] = columns[digit]
        whole = bytes(filled)
        return [whole[start * size : (start + 1) * size] for start in range(_STOCK)]


def _b3(special: dict[bytes, bytes], trace_id: bytes, span: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Trace, span, single header and parent of a B3 trace."""
    single = special.get(b"b3", b"")
    match = _SINGLE.fullmatch(single)
    given_parent = special.get(b"x-b3-parentspanid", b"")
    parent = given_parent if _SPAN.fullmatch(given_parent) else b"-"
    if match is not None:
        return match[1], match[2], single, parent
    given, given_span = special.get(b"x-b3-traceid", b""), special.get(b"x-b3-spanid", b"")
    if _TRACE.fullmatch(given) and _SPAN.fullmatch(given_span):
        return given, given_span, given + b"-" + given_span, parent
    return trace_id, span, trace_id + b"-" + span, b"-"
