"""Heads as they are sent on: hop-by-hop headers end here, X-Forwarded-* and the platform's own are added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cupola.router.backends import Backend
from cupola.router.heads import CHUNKED, NO_BODY, UNTIL_CLOSE, Request, Response

if TYPE_CHECKING:
    from cupola.router.exchange import Exchange

__all__ = ["informational", "request_head", "response_head"]


def request_head(exchange: Exchange, backend: Backend) -> bytes:
    """The head for an instance."""
    request, client = exchange.request, exchange.client
    special = request.special
    detour = exchange.detour
    host, target = (exchange.host, exchange.target) if detour is None else (detour.host, detour.target)
    lines = [request.method + b" " + target + b" HTTP/1.1\r\nHost: " + host, *request.lines]
    if detour is not None:
        lines.append(detour.lines)
    if b"x-forwarded-for" in special or b"x-forwarded-proto" in special:
        before = special.get(b"x-forwarded-for")
        lines.append(b"X-Forwarded-For: " + (before + b", " + client.peer if before else client.peer))
        lines.append(b"X-Forwarded-Proto: " + special.get(b"x-forwarded-proto", client.scheme))
    else:
        lines.append(client.forwarded)
    if b"x-request-start" not in special:
        lines.append(b"X-Request-Start: %d" % int(exchange.received * 1000))
    length = request.length
    if length:
        lines.append(b"Transfer-Encoding: chunked" if length == CHUNKED else b"Content-Length: %d" % length)
        if b"expect" in special and request.minor:
            lines.append(b"Expect: 100-continue")
    elif b"content-length" in special:
        lines.append(b"Content-Length: 0")
    if b"te" in special and b"trailers" in special[b"te"].lower():
        lines.append(b"TE: trailers")
    if request.upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: " + request.upgrade)
    lines.append(exchange.trace.lines + backend.lines)
    return b"\r\n".join(lines)


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
