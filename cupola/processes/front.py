"""What the controller serves on its socket: by host and path, the API, identity, log cache and the description of it.

The router sends only system hosts here; links never come from the Host header (design.md section 1).
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import cache, partial

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from cupola.api.apps import APPS
from cupola.config import Settings
from cupola.domain.access import has_in_space
from cupola.errors import CloudError, unknown_request
from cupola.logcache.routes import Authorize
from cupola.logcache.routes import routes as log_cache_routes
from cupola.logs.ring import Ring
from cupola.networking_api.routes import routes as network_policy_routes
from cupola.processes.challenges import Challenges
from cupola.rest import listing, openapi
from cupola.rest.cli_version import OldCli
from cupola.rest.cors import Cors
from cupola.rest.dispatch import App
from cupola.rest.operation import Services
from cupola.rest.rate_limits import RateLimited
from cupola.roles import Actor
from cupola.routing_api.routes import routes as router_group_routes
from cupola.tls.places import source

__all__ = ["application"]

_LOG_CACHE_VERSION = "3.0.0"
"""The log-cache version whose read face is served; clients want at least 2."""
ROUTING = frozenset({"routing.router_groups"})
NETWORKING = frozenset({"network"})
LOGS = frozenset({"cloud_controller", "doppler", "logs"})
"""Whom tokens for these faces must be meant for (`aud`), as their scopes say."""
_DEVELOPER = ("space_developer", "space_supporter", "space_auditor", "space_manager", "organization_manager")


Judge = Callable[[str | None, Collection[str]], Actor]
"""Authorization header, and for whom its token may be meant, to actor. Raises 401."""


def application(
    settings: Settings, api: App, identity: ASGIApp, ring: Ring, services: Services, judge: Judge | None = None
) -> ASGIApp:
    """One ASGI application for all system hosts. `judge` knows tokens that are not meant for the API; without it
    `services.authenticate` decides."""
    judge = judge or (lambda header, audiences: services.authenticate(header))
    log_cache = Starlette(routes=log_cache_routes(ring, _may_read_logs(services, judge), _LOG_CACHE_VERSION))
    # Below the API's own address in both modes, as clients are told by the root document.
    beside = Starlette(
        routes=[
            *router_group_routes(services.database, partial(_meant_for, judge, ROUTING)),
            *network_policy_routes(services.database, partial(_meant_for, judge, NETWORKING)),
        ]
    )
    # Made when it is first asked for: it takes longer than all the rest of a start.
    description = cache(lambda: msgspec.json.encode(openapi.document(api.operations, settings)))
    counted: ASGIApp = api
    if settings.rate_limits.enabled:
        counted = RateLimited(api, settings.rate_limits, services.authenticate)
    if settings.platform.min_cli_version:
        counted = OldCli(counted, settings.platform.min_cli_version)

    async def of_the_api(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith(("/routing/", "/networking/")):
            await beside(scope, receive, send)
        elif path == "/openapi.json" and scope["type"] == "http":
            await _send(send, await asyncio.to_thread(description))
        elif scope["type"] == "http":
            await counted(scope, receive, send)

    async def of_one_origin(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith("/api/v1/"):
            await log_cache(scope, receive, send)
        elif path == "/uaa" or path.startswith("/uaa/"):
            inner = {**scope, "path": path.removeprefix("/uaa") or "/", "raw_path": None}
            await identity(inner, receive, send)
        else:
            await of_the_api(scope, receive, send)

    domain = settings.platform.system_domain
    if not domain:
        chosen: ASGIApp = _served(of_one_origin)
    else:
        hosts: dict[str, ASGIApp] = {"api": of_the_api, "uaa": identity, "login": identity, "log-cache": log_cache}
        by_host = {f"{name}.{domain}": app for name, app in hosts.items()}
        chosen = _served(_by_host(by_host, Challenges(settings) if source(settings) == "acme" else None))
    origins = settings.platform.cors_origins
    return Cors(chosen, origins) if origins else chosen


def _served(app: ASGIApp) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            await app(scope, receive, send)

    return serve


def _by_host(hosts: Mapping[str, ASGIApp], challenges: Challenges | None) -> ASGIApp:
    """Virtual hosts. One that is reserved and serves nothing (yet) has nothing, rather than the API."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        app = hosts.get(_host(scope))
        if challenges is not None and challenges.is_one(scope):
            await challenges(scope, receive, send)
        elif app is not None:
            await app(scope, receive, send)
        elif scope["type"] == "http":
            await _send(send, msgspec.json.encode({"errors": unknown_request().entries}), 404)

    return serve


def _host(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"host":
            return str(value.decode("latin-1").rpartition(":")[0] or value.decode("latin-1")).lower()
    return ""


async def _send(send: Send, body: bytes, status: int = 200) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _meant_for(judge: Judge, audiences: Collection[str], header: str | None) -> Actor:
    return judge(header, audiences)


def _may_read_logs(services: Services, judge: Judge) -> Authorize:
    def may_read(header: str | None, source_id: str) -> bool:
        try:
            actor = judge(header, LOGS)
        except CloudError:
            return False
        if actor.reads_everything or "logs.admin" in actor.scopes or "doppler.firehose" in actor.scopes:
            return True
        with services.database.read() as tx:
            app = listing.find(APPS, actor, tx, source_id)
            return app is not None and has_in_space(tx, actor, app.space_guid, _DEVELOPER)

    async def authorize(headers: Headers, source_id: str) -> bool:
        return await asyncio.to_thread(may_read, headers.get("authorization"), source_id)

    return authorize
