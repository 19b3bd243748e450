"""The route table in memory: a host and a path give a pool of instances.

A change replaces the pools of the routes that it names and nothing else; requests under way keep what they have.
"""

import logging
import re
from collections.abc import Iterator

from cupola.router.backends import Backend, Backends
from cupola.router.balance import Pool
from cupola.router.messages import Route, RouteDelta, RouteTable

__all__ = ["Table", "host_name"]

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::[0-9]{0,5})?")
_CACHED_HOSTS = 10_000
_CACHED_BYTES = 300
"""Spellings of Host that are remembered between changes, and the longest of them."""
_MAX_PATH = 128
"""Characters of a route's path (behaviours.md, routes): no more of a request's is compared."""
_log = logging.getLogger(__name__)

Level = dict[str, Pool]
"""The routes of one host by path, in lower case: paths are compared without case, like hosts (behaviours.md, routes)."""


def host_name(value: bytes) -> str | None:
    """The host of a Host header or authority in lower case, without port; None when it is not one."""
    match = _HOST.fullmatch(value)
    return match[1].decode().lower() if match is not None else None


class Table:
    """`system` is the pool of the system hosts. `revision` is None until the first table came."""

    def __init__(self, system_hosts: frozenset[str], system: Pool, *, balancing: str, limit: int) -> None:
        self.revision: int | None = None
        self.keys: list[bytes] = []
        """What signs requests on their way to route services."""
        self.routes: dict[str, Route] = {}
        self.backends = Backends(limit)
        self._system_hosts = system_hosts
        self._system = system
        self._balancing = balancing
        self._pools: dict[str, Pool] = {}
        self._hosts: dict[str, Level] = {}
        self._found: dict[bytes, list[Level] | Pool] = {}

    def find(self, host: bytes, target: bytes) -> Pool | None:
        """The pool for a Host header (or authority) and a request target in origin form, or None."""
        found = self._found.get(host)
        if found is None:
            found = self._look_up(host)
        # A host with the one route that most have is answered without looking at the path.
        return found if type(found) is Pool else _by_path(found, target)

    def is_system(self, pool: Pool) -> bool:
        """Whether requests to `pool` go to the controller."""
        return pool is self._system

    def replace(self, table: RouteTable) -> None:
        """Take a whole table: what is the same stays as it is."""
        wanted = {route.guid: route for route in table.routes}
        changed = [route for guid, route in wanted.items() if self.routes.get(guid) != route]
        removed = [guid for guid in self.routes if guid not in wanted]
        self._change(changed, removed)
        self.revision = table.revision
        self.keys = table.keys

    def apply(self, delta: RouteDelta) -> bool:
        """Take a change; False when it does not follow on what is here, and the whole table has to be asked for."""
        if delta.base != self.revision:
            return False
        self._change(delta.set, delta.remove)
        self.revision = delta.revision
        return True

    def snapshot(self) -> RouteTable:
        """What `replace` would take to make this table."""
        return RouteTable(self.revision or 0, list(self.routes.values()), self.keys)

    def _change(self, changed: list[Route], removed: list[str]) -> None:
        self._found.clear()
        # First what comes, then what goes: an instance that stays keeps its connections.
        for route in changed:
            old = self._pools.get(route.guid)
            pool = Pool(route, list(self._backends_of(route)), self._balancing)
            if old is not None:
                pool.position = old.position
                self._take_out(old)
            self.routes[route.guid] = route
            self._pools[route.guid] = pool
            if not route.internal:
                self._hosts.setdefault(route.host, {})[route.path.lower().rstrip("/")] = pool
        for guid in removed:
            old = self._pools.pop(guid, None)
            self.routes.pop(guid, None)
            if old is not None:
                self._take_out(old)

    def _backends_of(self, route: Route) -> Iterator[Backend]:
        for endpoint in route.endpoints:
            try:
                yield self.backends.hold(endpoint)
            except ValueError as error:
                _log.error("route %s%s: %s", route.host, route.path, error)

    def _take_out(self, pool: Pool) -> None:
        level = self._hosts.get(pool.route.host, {})
        path = pool.route.path.lower().rstrip("/")
        if level.get(path) is pool:
            del level[path]
            if not level:
                del self._hosts[pool.route.host]
        for backend in pool.backends:
            self.backends.release(backend)

    def _look_up(self, value: bytes) -> list[Level] | Pool:
        host = host_name(value)
        levels = []
        if host is not None:
            if host in self._system_hosts:
                return self._remember(value, self._system)
            for name in _names(host):
                level = self._hosts.get(name)
                if level is not None:
                    levels.append(level)
        if levels and list(levels[0]) == [""]:
            return self._remember(value, levels[0][""])
        return self._remember(value, levels)

    def _remember(self, value: bytes, found: list[Level] | Pool) -> list[Level] | Pool:
        if len(self._found) >= _CACHED_HOSTS:
            self._found.clear()
        if len(value) <= _CACHED_BYTES:
            self._found[value] = found
        return found


def _names(host: str) -> Iterator[str]:
    """The host itself, then the wildcards that cover it, the narrowest first."""
    yield host
    _, dot, rest = host.partition(".")
    while dot:
        yield f"*.{rest}"
        _, dot, rest = rest.partition(".")


def _by_path(levels: list[Level], target: bytes) -> Pool | None:
    """The route with the longest path, in whole segments, that has instances; else the longest. Wildcards come after."""
    path = target[: _MAX_PATH + 1].partition(b"?")[0].decode("latin-1").lower()
    # A segment that is cut is no segment of a route; the one before it may be.
    whole = path.rpartition("/")[0] if len(path) > _MAX_PATH else path.rstrip("/")
    for level in levels:
        empty: Pool | None = None
        rest = whole if path != "*" else ""
        while True:
            pool = level.get(rest)
            if pool is not None:
                if pool.backends:
                    return pool
                empty = empty or pool
            if not rest:
                break
            rest = rest.rpartition("/")[0]
        if empty is not None:
            return empty
    return None
