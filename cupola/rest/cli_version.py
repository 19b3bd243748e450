"""A word to who uses a cf CLI that is older than the operator wants (reference/behaviours.md section 1)."""

import re
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["OldCli"]

_PLACES = ("/v3/spaces", "/v3/organizations", "/v2/spaces")
"""What is asked for by nearly every command."""
_AGENT = re.compile(r"cf[^/]*/(\d+)\.(\d+)\.(\d+)(?:[+\s]|$)", re.IGNORECASE)
_WARNING = (
    "\N{POLICE CARS REVOLVING LIGHT} [WARNING] Outdated CF CLI version - please upgrade: "
    "https://github.com/cloudfoundry/cli/releases/latest \N{POLICE CARS REVOLVING LIGHT}\n"
)


class OldCli:
    """An ASGI application that adds the warning to what `app` answers. `minimum` is a version such as `8.0.0`."""

    def __init__(self, app: ASGIApp, minimum: str) -> None:
        self._app = app
        self._minimum = tuple(int(part) for part in minimum.split("."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not any(place in scope["path"] for place in _PLACES) or not self._is_old(scope):
            await self._app(scope, receive, send)
            return

        async def warn(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                others = headers.get("x-cf-warnings")
                headers["X-Cf-Warnings"] = ",".join([*filter(None, [others]), quote(_WARNING, safe="")])
            await send(message)

        await self._app(scope, receive, warn)

    def _is_old(self, scope: Scope) -> bool:
        found = _AGENT.search(Headers(scope=scope).get("user-agent", ""))
        return found is not None and tuple(int(part) for part in found.groups()) < self._minimum
