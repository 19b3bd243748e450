"""Limits on the number of requests, as the Cloud Controller counts them (reference/behaviours.md section 1).

A user has `rate_limits.general_limit` requests in each window, an address without a valid token
`rate_limits.unauthenticated_limit`. A window begins with the first request in it. Each controller counts for itself.
"""

from collections.abc import Callable

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cupola import clock
from cupola.config import RateLimits
from cupola.errors import CloudError
from cupola.roles import Actor

__all__ = ["RateLimited"]

_UNCOUNTED = frozenset({"/", "/v3", "/healthz"})
_ADMINS = frozenset({"cloud_controller.admin", "cloud_controller.admin_read_only"})
_CAPACITY = 100_000
"""Users and addresses that are remembered; beyond that the oldest windows are forgotten."""


class RateLimited:
    """An ASGI application that counts before it lets `app` answer."""

    def __init__(self, app: ASGIApp, limits: RateLimits, authenticate: Callable[[str | None], Actor]) -> None:
        self._app = app
        self._authenticate = authenticate
        self._limits = limits
        self._counts: dict[str, tuple[int, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _UNCOUNTED:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        authorization = headers.get("authorization", "")
        actor = self._actor(authorization)
        if authorization.lower().startswith("basic ") or (actor is not None and not _ADMINS.isdisjoint(actor.scopes)):
            await self._app(scope, receive, send)
            return
        limit = self._limits.unauthenticated_limit if actor is None else self._limits.general_limit
        count, until = self._count(_address(scope, headers) if actor is None else actor.guid)
        told = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Reset": str(int(until)),
            "X-RateLimit-Remaining": str(_remaining(limit, count)),
        }
        if count > limit:
            await _refuse(send, scope["method"], told, until, is_user=actor is not None)
            return

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(raw=message["headers"]).update(told)
            await send(message)

        await self._app(scope, receive, tell)

    def _actor(self, authorization: str) -> Actor | None:
        try:
            return self._authenticate(authorization or None)
        except CloudError:
            return None

    def _count(self, who: str) -> tuple[int, float]:
        """Requests of the window with this one, and when the window ends, in seconds since 1970."""
        now = clock.seconds()
        count, until = self._counts.get(who, (0, 0.0))
        if until <= now:
            # Put at the end again: the order of the table is that of the windows.
            self._counts.pop(who, None)
            count, until = 0, now + self._limits.reset_minutes * 60
            if len(self._counts) >= _CAPACITY:
                del self._counts[next(iter(self._counts))]
        self._counts[who] = count + 1, until
        return count + 1, until


def _remaining(limit: int, count: int) -> int:
    """What is left, in whole tenths of the limit: with several controllers nobody knows better."""
    if limit <= 0:
        return 0
    tenths = max(limit - count, 0) * 10 // limit
    return tenths * limit // 10


def _address(scope: Scope, headers: Headers) -> str:
    """The client's address: on the router's socket the last entry, which the router writes and no client."""
    forwarded = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    client = scope.get("client")
    return f"address {client[0] if client and client[0] else forwarded}"


async def _refuse(send: Send, method: str, told: dict[str, str], until: float, *, is_user: bool) -> None:
    seconds = max(int(until - clock.seconds()), 1)
    body = msgspec.json.encode({"errors": [_USER if is_user else _ADDRESS]})
    given = {
        **told,
        "Retry-After": str(seconds),
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
    }
    raw = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": 429, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


_USER = {"code": 10013, "title": "CF-RateLimitExceeded", "detail": "Rate Limit Exceeded"}
_ADDRESS = {
    "code": 10014,
    "title": "CF-IPBasedRateLimitExceeded",
    "detail": "Rate Limit Exceeded: Unauthenticated requests from this IP address have exceeded the limit. Please log in.",
}
