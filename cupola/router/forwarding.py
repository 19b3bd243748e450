"""Heads as they are sent on: hop-by-hop headers end here, X-Forwarded-* and the platform's own are added."""

import time

from cupola.router.backends import Backend
from cupola.router.heads import CHUNKED, NO_BODY, UNTIL_CLOSE, Request, Response
from cupola.router.tracing import Trace

__all__ = ["informational", "request_head", "response_head"]


def request_head(
    request: Request, host: bytes, target: bytes, peer: bytes, scheme: bytes, trace: Trace, backend: Backend
) -> bytes:
    """The head for an instance. `host` and `target` are in origin form; `peer` is the client's address."""
    special = request.special
    forwarded = special.get(b"x-forwarded-for")
    lines = [
        b"%b %b HTTP/1.1\r\nHost: %b" % (request.method, target, host),
        *request.lines,
        b"X-Forwarded-For: %b, %b" % (forwarded, peer) if forwarded else b"X-Forwarded-For: " + peer,
        b"X-Forwarded-Proto: " + special.get(b"x-forwarded-proto", scheme),
    ]
    if b"x-request-start" not in special:
        lines.append(b"X-Request-Start: %d" % (time.time() * 1000))
    if request.length:
        lines.append(
            b"Transfer-Encoding: chunked" if request.length == CHUNKED else b"Content-Length: %d" % request.length
        )
    elif b"content-length" in special:
        lines.append(b"Content-Length: 0")
    if b"te" in special and b"trailers" in special[b"te"].lower():
        lines.append(b"TE: trailers")
    if request.length and b"expect" in special and request.minor:
        lines.append(b"Expect: 100-continue")
    if request.upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: " + request.upgrade)
    return b"%b\r\nX-Vcap-Request-Id: %b\r\n%b%b\r\n" % (
        b"\r\n".join(lines),
        trace.request_id,
        trace.lines,
        backend.lines,
    )


def response_head(response: Response, request: Request, added: list[bytes], *, keep_alive: bool) -> bytes:
    """The head for the client. `added` are header lines; the framing is this router's own."""
    special = response.special
    lines = [response.line, *response.lines, *added]
    length = response.length
    if length > 0:
        lines.append(b"Content-Length: %d" % length)
    elif length == NO_BODY:
        if response.status != 204 and response.status >= 200:
            _describe_absent_body(special, request, lines)
    elif request.minor and length in (CHUNKED, UNTIL_CLOSE):
        lines.append(b"Transfer-Encoding: chunked")
    if not keep_alive:
        lines.append(b"Connection: close")
    elif not request.minor:
        lines.append(b"Connection: keep-alive")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def informational(response: Response) -> bytes:
    """A 1xx head; with 101 the protocol that was agreed on."""
    lines = [response.line, *response.lines]
    if response.status == 101:
        lines.append(b"Connection: Upgrade\r\nUpgrade: " + response.special.get(b"upgrade", b""))
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def _describe_absent_body(special: dict[bytes, bytes], request: Request, lines: list[bytes]) -> None:
    """HEAD and 304 say what a body would be; anything else says that there is none."""
    if b"content-length" in special:
        lines.append(b"Content-Length: %d" % int(special[b"content-length"]))
    elif b"transfer-encoding" in special and request.method == b"HEAD" and request.minor:
        lines.append(b"Transfer-Encoding: chunked")
