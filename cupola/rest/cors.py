"""Cross-origin requests of browsers (Fetch standard, CORS protocol), for the origins that the operator names.

Credentials of the browser itself (cookies) are not among what other origins may use: pages send tokens.
"""

import re
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Cors"]

_METHODS = "GET, HEAD, PUT, PATCH, POST, DELETE"
_ASKED = frozenset({"get", "head", "put", "patch", "post", "delete"})
_HEADERS = ("origin", "content-type", "authorization", "x-requested-with")
_EXPOSED = (
    "x-cf-warnings, x-vcap-request-id, location, range, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset"
)
_MAX_AGE = "900"
_HEADER_LIST = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{0,500}")


class Cors:
    """An ASGI application. `origins` are `scheme://host[:port]`; a `*` in one stands for one or more labels."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._allowed = [re.compile(_pattern(origin), re.IGNORECASE) for origin in origins]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else {}
        origin = headers.get("origin", "")
        if not origin or not any(pattern.fullmatch(origin) for pattern in self._allowed):
            await self._app(scope, receive, send)
            return
        asked = headers.get("access-control-request-method", "")
        if scope["method"] == "OPTIONS" and asked.lower() in _ASKED:
            await _preflight(send, origin, headers.get("access-control-request-headers", ""))
            return

        async def allow(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(raw=message["headers"])
                answer["Access-Control-Allow-Origin"] = origin
                answer["Access-Control-Expose-Headers"] = _EXPOSED
                answer.add_vary_header("Origin")
            await send(message)

        await self._app(scope, receive, allow)


def _pattern(origin: str) -> str:
    return ".+" if origin == "*" else re.escape(origin.rstrip("/")).replace(r"\*", r"[A-Za-z0-9.-]+")


async def _preflight(send: Send, origin: str, wanted: str) -> None:
    more = [name.strip().lower() for name in wanted.split(",") if _HEADER_LIST.fullmatch(name)]
    given = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": ", ".join(dict.fromkeys([*_HEADERS, *filter(None, more)])),
        "Access-Control-Max-Age": _MAX_AGE,
        "Vary": "Origin",
        "Content-Type": "text/plain",
        "Content-Length": "0",
    }
    raw = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    await send({"type": "http.response.body", "body": b""})
