"""Instances as the router sees them: their address, their idle connections, how busy they are, whether they failed.

A Backend outlives changes of the table: it belongs to the instance and is shared by all routes to it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from cupola.router.messages import Endpoint

if TYPE_CHECKING:
    from cupola.router.exchange import Exchange
    from cupola.router.upstream import Upstream

__all__ = ["FAILED_SECONDS", "Backend", "Backends", "Dialler", "split_address"]

FAILED_SECONDS = 30.0
"""For which an instance that could not be reached is passed over while there are others."""
_MAX_IDLE = 100
_FRESH_SECONDS = 1.0
"""Idle time up to which a connection may carry a request that must not be sent twice: apps close theirs after seconds."""

_encoder = msgspec.msgpack.Encoder()

Dialler = Callable[["Upstream"], Awaitable[object]]
"""Connects a protocol to a place outside of the platform. Raises OSError."""


def split_address(address: str) -> tuple[str, str, int]:
    """`("tcp", ip, port)`, `("unix", path, port)`, or `("unix", path, 0)` for a plain socket. Raises ValueError.

    A route service is at `("tls", name, port)`.
    """
    kind, _, rest = address.partition(":")
    if kind == "unix" and rest.startswith("/"):
        path, _, port = rest.rpartition(":")
        return (kind, path, int(port)) if path and port.isdigit() else (kind, rest, 0)
    host, _, port = rest.rpartition(":")
    if kind in ("tcp", "tls") and host and port.isdigit():
        return kind, host.strip("[]"), int(port)
    raise ValueError(f"not an address of an instance: {address!r}")


class Backend:
    """One instance, or the controller or a route service (`endpoint` None); the latter is dialled by `dialler`."""

    __slots__ = (
        "address",
        "dialler",
        "endpoint",
        "failed_until",
        "idle",
        "in_flight",
        "limit",
        "lines",
        "log_tags",
        "log_text",
        "retired",
        "shown",
    )

    def __init__(self, address: str, endpoint: Endpoint | None, limit: int, dialler: Dialler | None = None) -> None:
        self.address = split_address(address)
        self.dialler = dialler
        self.endpoint = endpoint
        self.limit = limit
        self.in_flight = 0
        self.failed_until = 0.0
        self.retired = False
        self.idle: list[Upstream] = []
        self.lines = b"\r\n"
        """The end of a request's head: the headers that name the instance, and the empty line."""
        self.log_tags = msgspec.Raw()
        self.shown = b"-" if dialler is None else address.partition(":")[2].encode()
        self.log_text = b""
        if endpoint is not None:
            self._describe(endpoint)

    def _describe(self, endpoint: Endpoint) -> None:
        index = str(endpoint.index).encode()
        self.lines = b"X-CF-ApplicationID: %b\r\nX-CF-InstanceID: %b\r\nX-CF-InstanceIndex: %b\r\n\r\n" % (
            endpoint.app_guid.encode(),
            endpoint.instance_guid.encode(),
            index,
        )
        tags = {**endpoint.tags, "source_type": "RTR", "app_id": endpoint.app_guid, "origin": "gorouter"}
        self.log_tags = msgspec.Raw(_encoder.encode(tags))
        kind, host, port = self.address
        self.shown = (endpoint.shown or (f"{host}:{port}" if kind == "tcp" else "-")).encode()
        self.log_text = b' app_id:"%b" app_index:"%b" instance_id:"%b"' % (
            endpoint.app_guid.encode(),
            index,
            endpoint.instance_guid.encode(),
        )

    def __str__(self) -> str:
        if self.endpoint is None:
            return "the controller" if self.dialler is None else f"the route service at {self.address[1]}"
        return f"instance {self.endpoint.index} of app {self.endpoint.app_guid} at {self.endpoint.address}"

    @property
    def usable(self) -> bool:
        """Whether it is not known to be dead."""
        return not self.failed_until or self.failed_until <= time.monotonic()

    @property
    def full(self) -> bool:
        """Whether it has as many requests as it may have."""
        return self.in_flight >= self.limit

    def failed(self) -> None:
        """It could not be reached: it is passed over for a while."""
        self.failed_until = time.monotonic() + FAILED_SECONDS

    def take_idle(self, exchange: Exchange, now: float) -> Upstream | None:
        """The idle connection used last, if the request may rely on it; `now` is monotonic seconds."""
        idle = self.idle
        if not idle or (now - idle[-1].idle_since > _FRESH_SECONDS and not exchange.repeatable):
            return None
        return idle.pop()

    def give_back(self, upstream: Upstream) -> bool:
        """Keep a connection for the next request; False if it should be closed instead."""
        if self.retired or len(self.idle) >= _MAX_IDLE:
            return False
        self.idle.append(upstream)
        return True

    def close_idle(self, unused_since: float) -> None:
        """Close connections that were idle since before then (monotonic seconds)."""
        stale = 0
        for upstream in self.idle:
            if upstream.idle_since > unused_since:
                break
            stale += 1
        going, self.idle = self.idle[:stale], self.idle[stale:]
        for upstream in going:
            upstream.close()

    def retire(self) -> None:
        """It left the table: requests under way finish, no connection is kept."""
        self.retired = True
        going, self.idle = self.idle, []
        for upstream in going:
            upstream.close()


class Backends:
    """All instances of the table, by what makes them one: address and instance."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[tuple[str, str], Backend] = {}
        self._uses: dict[tuple[str, str], int] = {}

    def __iter__(self) -> Iterator[Backend]:
        return iter(list(self._known.values()))

    def hold(self, endpoint: Endpoint) -> Backend:
        """The backend of an endpoint, for one more route. Raises ValueError for an address that is none."""
        key = (endpoint.address, endpoint.instance_guid)
        backend = self._known.get(key)
        if backend is None:
            backend = self._known[key] = Backend(endpoint.address, endpoint, self._limit)
        elif backend.endpoint != endpoint:
            backend.endpoint = endpoint
            backend._describe(endpoint)
        self._uses[key] = self._uses.get(key, 0) + 1
        return backend

    def release(self, backend: Backend) -> None:
        """One route less; the last one retires it."""
        assert backend.endpoint is not None
        key = (backend.endpoint.address, backend.endpoint.instance_guid)
        self._uses[key] -= 1
        if not self._uses[key]:
            del self._uses[key]
            del self._known[key]
            backend.retire()
