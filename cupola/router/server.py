"""The listeners of a router and its clock: what waits too long is ended, what is idle too long is closed.

PortInUse       another program has an address that the router is to listen on; names it and says what to do
"""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cupola.config import Settings
from cupola.router.client import Client
from cupola.router.service import Service

__all__ = ["Listener", "PortInUse", "Server", "listeners"]

_BACKLOG = 2048
_HANDSHAKE_SECONDS = 10.0
_log = logging.getLogger(__name__)


class PortInUse(Exception):
    """The address cannot be had."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One address. With `tls` the connections are https. `optional` where the machine need not have the address.

    `setting` is what an operator changes for another port.
    """

    address: str
    port: int
    tls: ssl.SSLContext | None = None
    optional: bool = False
    setting: str = "platform.port"


def listeners(settings: Settings, tls: ssl.SSLContext | None = None) -> list[Listener]:
    """Where the router listens; with a system domain by https, which `tls` is for, and by http.

    A loopback address means IPv4 and IPv6, as browsers take either for `localhost`; so does the choice of none.
    """
    platform = settings.platform
    if not platform.system_domain:
        return _on(settings, platform.port, "platform.port")
    plain = _on(settings, platform.http_port, "platform.http_port") if platform.http_port else []
    return [*_on(settings, platform.https_port, "platform.https_port", tls), *plain]


def _on(settings: Settings, port: int, setting: str, tls: ssl.SSLContext | None = None) -> list[Listener]:
    first = "127.0.0.1" if settings.is_loopback else settings.listen
    second = "::1" if settings.is_loopback else "" if settings.platform.listen else "::"
    found = [Listener(first, port, tls, setting=setting)]
    return [*found, Listener(second, port, tls, optional=True, setting=setting)] if second else found


class Server:
    """Accepts connections from `open` to `drain`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._servers: list[asyncio.Server] = []
        self._sweeping: asyncio.Task[None] | None = None
        self.ports: list[int] = []
        """The ports listened on, where a listener's port was 0."""

    async def open(self, wanted: Sequence[Listener]) -> None:
        """Listen. Raises PortInUse."""
        loop = self._service.loop
        for listener in wanted:
            bound = _bind(listener)
            if bound is None:
                continue
            scheme = b"http" if listener.tls is None else b"https"
            server = await loop.create_server(
                lambda scheme=scheme: Client(self._service, scheme),
                sock=bound,
                ssl=listener.tls,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS if listener.tls is not None else None,
                backlog=_BACKLOG,
            )
            self._servers.append(server)
            self.ports.append(bound.getsockname()[1])
        self._sweeping = loop.create_task(self._sweep())

    async def drain(self, seconds: float) -> None:
        """Accept nothing more, finish what is under way for at most `seconds`, then end everything."""
        service = self._service
        service.draining = True
        for server in self._servers:
            server.close()
        for client in list(service.clients):
            client.drain()
        until = time.monotonic() + seconds
        while (service.clients or service.tunnels) and time.monotonic() < until:  # noqa: ASYNC110 - a second's wait at the end of a process
            await asyncio.sleep(0.02)
        if service.clients or service.tunnels:
            _log.warning("ending %d connections after %g seconds", len(service.clients) + len(service.tunnels), seconds)
        for tunnel in list(service.tunnels):
            tunnel.close()
        for client in list(service.clients):
            client.transport.abort()
        for backend in service.backends:
            backend.retire()
        if self._sweeping is not None:
            self._sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeping
        # What was aborted tells its protocol in the next turn of the loop.
        await asyncio.sleep(0)
        service.access_log.flush()

    async def _sweep(self) -> None:
        settings = self._service.settings
        shortest = min(
            settings.header_timeout, settings.request_timeout, settings.idle_timeout, settings.half_closed_timeout
        )
        pause = max(min(shortest / 10, 1.0), 0.01)
        while True:
            await asyncio.sleep(pause)
            now = time.monotonic()
            for client in list(self._service.clients):
                if client.deadline < now:
                    client.expire(now)
            for backend in self._service.backends:
                if backend.idle:
                    backend.close_idle(now - settings.backend_idle_timeout)


def _bind(listener: Listener) -> socket.socket | None:
    """A bound socket, or None where an optional address does not exist. Raises PortInUse."""
    family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
    try:
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        if listener.optional:
            return None
        raise
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((listener.address, listener.port))
        # Listening is what tells of another program on this port, and not only binding.
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"port {listener.port} of {listener.address} is in use by another program: "
                f"stop that one, or set {listener.setting} to a free port"
            ) from error
        if listener.optional:
            return None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise PortInUse(
                f"port {listener.port} of {listener.address} may not be used by this user: "
                f"set {listener.setting} to 1024 or more, or give the program CAP_NET_BIND_SERVICE"
            ) from error
        raise PortInUse(f"cannot listen on {listener.address} port {listener.port}: {error.strerror}") from error
    return bound
