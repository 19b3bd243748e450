"""What the controller tells the router (role `router` on the platform's socket, see wire.py).

Controller to router: `routes.full` (RouteTable) after `welcome`, then `routes.delta` (RouteDelta); a router that is not
at the delta's base sends `routes.request`. `logs.ack` answers `logs`, the access lines that the router spooled.
"""

import msgspec

__all__ = ["Endpoint", "Route", "RouteDelta", "RouteTable"]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One instance behind a route."""

    address: str
    """`tcp:ip:port`, or `unix:/path:port` for an instance with a network of its own (cupola/endpoints.py)."""
    app_guid: str
    process_guid: str
    instance_guid: str
    index: int
    shown: str = ""
    """IP:PORT named in the access log, where the address is a path."""
    protocol: str = "http1"
    tags: dict[str, str] = {}
    """Tags for the access lines that go to the app's log stream."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One route. A known route without endpoints answers 503, an unknown one 404."""

    guid: str
    host: str
    """Full host name in lower case, a leading `*.` for a wildcard: `x.apps.localhost`."""
    path: str = ""
    """Path prefix starting with `/`, or empty."""
    endpoints: list[Endpoint] = []
    balancing: str = ""
    """`round-robin`, `least-connection`, `hash`, or empty for the router's default."""
    hash_header: str = ""
    hash_balance: float = 0
    route_service: str = ""
    """The https address of the service that is asked before the instances, or empty."""
    route_service_anywhere: bool = False
    """An admin is behind the address, so it may be a private one (cupola/outbound.py)."""
    internal: bool = False
    """On an internal domain: not served from outside."""


class RouteTable(msgspec.Struct, frozen=True):
    """The whole table. `keys` (32 bytes each) sign what goes to route services: the first signs, all of them verify."""

    revision: int
    routes: list[Route]
    keys: list[bytes] = []


class RouteDelta(msgspec.Struct, frozen=True):
    """The change from `base` to `revision`; a route is set whole, by guid."""

    base: int
    revision: int
    set: list[Route] = []
    remove: list[str] = []
