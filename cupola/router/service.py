"""What all connections of a router share: settings, table, counters, and whether it is draining."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from cupola.config import Router
from cupola.router.access_log import AccessLog, Lines
from cupola.router.backends import Backend
from cupola.router.balance import Pool
from cupola.router.edge import Edge
from cupola.router.messages import Route
from cupola.router.route_services import RouteServices
from cupola.router.table import Table
from cupola.router.tracing import Tracer

if TYPE_CHECKING:
    from cupola.router.client import Client
    from cupola.router.tunnel import Tunnel

__all__ = ["Service"]


class Service:
    """Made once per process, in its event loop. `controller` is the path of the socket that serves the system hosts.

    With `edge` these are served by https alone. Without `route_services` no request goes to one.
    """

    def __init__(
        self,
        settings: Router,
        system_hosts: frozenset[str],
        controller: str,
        lines: Lines,
        loop: asyncio.AbstractEventLoop,
        edge: Edge | None = None,
        route_services: RouteServices | None = None,
    ) -> None:
        self.settings = settings
        self.edge = edge
        self.route_services = route_services
        self.strict_signatures = route_services is not None and route_services.strict
        self.loop = loop
        # The controller limits itself, and long log streams of many users go there.
        self.controller = Backend(f"unix:{controller}", None, sys.maxsize)
        self.system = Pool(Route(guid="", host=""), [self.controller], "round-robin")
        self.table = Table(
            system_hosts,
            self.system,
            balancing=settings.balancing,
            limit=settings.max_connections_per_backend,
        )
        self.access_log = AccessLog(lines, loop, settings.redact_query_params)
        self.tracer = Tracer(b3=settings.trace_b3, w3c=settings.trace_w3c)
        self.sticky = frozenset(name.encode("latin-1") for name in settings.sticky_cookies)
        self.clients: set[Client] = set()
        self.tunnels: set[Tunnel] = set()
        self.draining = False

    @property
    def backends(self) -> list[Backend]:
        """All instances, the controller, and route services elsewhere."""
        elsewhere = self.route_services.backends if self.route_services is not None else []
        return [self.controller, *self.table.backends, *elsewhere]
