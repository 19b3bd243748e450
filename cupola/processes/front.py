"""What the controller serves on its socket: by host and path, the API, identity, log cache and the description of it.

The router sends only system hosts here; links never come from the Host header (design.md section 1).
"""

import asyncio

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from cupola.api.apps import APPS
from cupola.config import Settings
from cupola.domain.access import has_in_space
from cupola.errors import CloudError
from cupola.logcache.routes import Authorize
from cupola.logcache.routes import routes as log_cache_routes
from cupola.logs.ring import Ring
from cupola.networking_api.routes import routes as network_policy_routes
from cupola.rest import listing, openapi
from cupola.rest.dispatch import App
from cupola.rest.operation import Services
from cupola.routing_api.routes import routes as router_group_routes

__all__ = ["application"]

_LOG_CACHE_VERSION = "3.0.0"
"""The log-cache version whose read face is served; clients want at least 2."""
_DEVELOPER = ("space_developer", "space_supporter", "space_auditor", "space_manager", "organization_manager")


def application(settings: Settings, api: App, identity: ASGIApp, ring: Ring, services: Services) -> ASGIApp:
    """One ASGI application for all system hosts."""
    log_cache = Starlette(routes=log_cache_routes(ring, _may_read_logs(services), _LOG_CACHE_VERSION))
    # Below the API's own address in both modes, as clients are told by the root document.
    beside = Starlette(
        routes=[
            *router_group_routes(services.database, services.authenticate),
            *network_policy_routes(services.database, services.authenticate),
        ]
    )
    description = msgspec.json.encode(openapi.document(api.operations, settings))
    domain = settings.platform.system_domain.lower()
    by_host: dict[str, ASGIApp] = {}
    if domain:
        by_host = {f"uaa.{domain}": identity, f"login.{domain}": identity, f"log-cache.{domain}": log_cache}

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            return
        path: str = scope["path"]
        host = _host(scope)
        if host in by_host:
            await by_host[host](scope, receive, send)
        elif path.startswith("/api/v1/"):
            await log_cache(scope, receive, send)
        elif path.startswith(("/routing/", "/networking/")):
            await beside(scope, receive, send)
        elif not domain and (path == "/uaa" or path.startswith("/uaa/")):
            inner = {**scope, "path": path.removeprefix("/uaa") or "/", "raw_path": None}
            await identity(inner, receive, send)
        elif path == "/openapi.json" and scope["type"] == "http":
            await _send(send, description)
        elif scope["type"] == "http":
            await api(scope, receive, send)

    return serve


def _host(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"host":
            return str(value.decode("latin-1").rpartition(":")[0] or value.decode("latin-1")).lower()
    return ""


async def _send(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _may_read_logs(services: Services) -> Authorize:
    def judge(header: str | None, source_id: str) -> bool:
        try:
            actor = services.authenticate(header)
        except CloudError:
            return False
        if actor.reads_everything or "logs.admin" in actor.scopes or "doppler.firehose" in actor.scopes:
            return True
        with services.database.read() as tx:
            app = listing.find(APPS, actor, tx, source_id)
            return app is not None and has_in_space(tx, actor, app.space_guid, _DEVELOPER)

    async def authorize(headers: Headers, source_id: str) -> bool:
        return await asyncio.to_thread(judge, headers.get("authorization"), source_id)

    return authorize
