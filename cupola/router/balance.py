"""Which instance gets a request: round robin, least connections, or a hash of a header (Maglev table, reference section 12).

Plain functions over a Pool; an instance that failed a moment ago or has all the connections it may have is passed over.
"""

import random
from collections.abc import Callable, Collection
from typing import final

import xxhash

from cupola.router.backends import Backend
from cupola.router.messages import Route

__all__ = ["Pool", "choose", "find"]

_TABLE = 1801
"""Entries of a Maglev table; prime, and large beside the number of instances."""


@final
class Pool:
    """A route and its instances. `cookie_path` is what a sticky cookie's Path says."""

    __slots__ = ("_table", "algorithm", "backends", "cookie_path", "position", "route")

    def __init__(self, route: Route, backends: list[Backend], default: str) -> None:
        self.route = route
        self.backends = backends
        self.algorithm = route.balancing or default
        self.cookie_path = route.path or "/"
        self.position = random.randrange(len(backends)) if backends else 0  # noqa: S311 - spreads load, hides nothing
        self._table: list[int] | None = None

    def table(self) -> list[int]:
        """The Maglev table: indexes of `backends`. Made at the first use."""
        if self._table is None:
            self._table = _maglev([_identity(backend) for backend in self.backends])
        return self._table


def choose(pool: Pool, tried: Collection[Backend], hash_key: bytes | None, fallback: str) -> Backend | None:
    """The instance for the next attempt, or None when every one has all the connections it may have.

    `tried` are those that this request found dead; they come again only when there is nobody else. `hash_key` is the
    value of the route's hash header; without one the `fallback` algorithm decides.
    """
    backends = pool.backends
    if len(backends) == 1:
        backend = backends[0]
        return backend if backend.in_flight < backend.limit else None
    algorithm = pool.algorithm
    if algorithm == "hash" and hash_key is None:
        algorithm = fallback
    if algorithm == "round-robin" and backends and not tried:
        backend = backends[pool.position % len(backends)]
        if not backend.failed_until and backend.in_flight < backend.limit:
            pool.position += 1
            return backend
    found = _pick(pool, algorithm, hash_key, lambda one: one.usable and not one.full and one not in tried)
    if found is None:
        found = _pick(pool, algorithm, hash_key, lambda one: not one.full and one not in tried)
    return found or _pick(pool, algorithm, hash_key, lambda one: not one.full)


def find(pool: Pool, guid: str, index: int | None, *, process: bool) -> Backend | None:
    """The instance that a request names by app or process guid and index."""
    for backend in pool.backends:
        endpoint = backend.endpoint
        if endpoint is None:
            continue
        if guid == (endpoint.process_guid if process else endpoint.app_guid) and index in (None, endpoint.index):
            return backend
    return None


def _pick(pool: Pool, algorithm: str, hash_key: bytes | None, fits: Callable[[Backend], bool]) -> Backend | None:
    if algorithm == "hash" and hash_key is not None:
        return _hashed(pool, hash_key, fits)
    if algorithm == "least-connection":
        return _least(pool, fits)
    return _next(pool, fits)


def _next(pool: Pool, fits: Callable[[Backend], bool]) -> Backend | None:
    backends = pool.backends
    count = len(backends)
    start = pool.position % max(count, 1)
    for step in range(count):
        position = (start + step) % count
        if fits(backends[position]):
            pool.position = position + 1
            return backends[position]
    return None


def _least(pool: Pool, fits: Callable[[Backend], bool]) -> Backend | None:
    backends = pool.backends
    start = random.randrange(max(len(backends), 1))  # noqa: S311 - spreads load, hides nothing
    best: Backend | None = None
    for position in range(len(backends)):
        backend = backends[position - start]
        if (best is None or backend.in_flight < best.in_flight) and fits(backend):
            best = backend
    return best


def _hashed(pool: Pool, key: bytes, fits: Callable[[Backend], bool]) -> Backend | None:
    backends = pool.backends
    table = pool.table()
    start = xxhash.xxh3_64_intdigest(key) % len(table)
    bound = 0.0
    if pool.route.hash_balance:
        average = (sum(backend.in_flight for backend in backends) + 1) / len(backends)
        bound = pool.route.hash_balance * average
    seen: set[int] = set()
    spare: Backend | None = None
    for step in range(len(table)):
        number = table[(start + step) % len(table)]
        if number in seen:
            continue
        seen.add(number)
        backend = backends[number]
        if fits(backend):
            if not bound or backend.in_flight + 1 <= bound:
                return backend
            spare = spare or backend
        if len(seen) == len(backends):
            break
    return spare


def _identity(backend: Backend) -> str:
    return backend.endpoint.instance_guid if backend.endpoint is not None else ""


def _maglev(names: list[str]) -> list[int]:
    """Each name in turn takes its next wanted entry that is free (Eisenbud and others, NSDI 2016, section 3.4).

    Names are taken in order of their text, so that the table does not depend on the order of the instances.
    """
    order = sorted(range(len(names)), key=names.__getitem__)
    wants = []
    for number in order:
        name = names[number].encode()
        offset = xxhash.xxh3_64_intdigest(name, 1) % _TABLE
        skip = xxhash.xxh3_64_intdigest(name, 2) % (_TABLE - 1) + 1
        wants.append([offset, skip, number])
    table = [-1] * _TABLE
    filled = 0
    while True:
        for want in wants:
            position, skip, number = want
            while table[position] >= 0:
                position = (position + skip) % _TABLE
            table[position] = number
            want[0] = (position + skip) % _TABLE
            filled += 1
            if filled == _TABLE:
                return table
