"""The answers to http-01 challenges of an ACME server (RFC 8555 section 8.3): files that the keeper of certificates puts."""

import asyncio
import re

from starlette.types import Receive, Scope, Send

from cupola.config import Settings
from cupola.tls.places import Places

__all__ = ["Challenges"]

_PATH = re.compile(r"/\.well-known/acme-challenge/([A-Za-z0-9_-]{1,200})", re.ASCII)


class Challenges:
    """An ASGI application."""

    def __init__(self, settings: Settings) -> None:
        self._directory = Places(settings).challenges

    def is_one(self, scope: Scope) -> bool:
        """Whether the request asks for an answer."""
        return scope["type"] == "http" and _PATH.fullmatch(scope["path"]) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _PATH.fullmatch(scope["path"])
        assert found is not None
        try:
            status, body = 200, await asyncio.to_thread((self._directory / found[1]).read_bytes)
        except OSError:
            status, body = 404, b"no such challenge\n"
        headers = [(b"content-type", b"application/octet-stream"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
