"""The way out of instances with a network of their own: the cell's end of the sockets that network.py made inside.

Every connection that an app makes arrives here with the address it was meant for, is judged, and is relayed. The
sockets live in the instance's init as well, so a restarted cell gets them again and what waited meanwhile is served.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from cupola.endpoints import dial
from cupola.runtime.local.network import INGRESS
from cupola.runtime.local.resolver import Resolver

__all__ = ["Egress", "Outlet", "is_refused"]

_log = logging.getLogger(__name__)
_SO_ORIGINAL_DST = 80
_DIAL_SECONDS = 30.0
_HIGH_WATER = 256 * 1024
"""Bytes that wait for a slow reader before the other side is paused."""

# Ourselves and what only the machine itself may ask; instances' own addresses until network policies open them.
_REFUSED = [
    ipaddress.IPv4Network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "10.254.0.0/16")
]


def is_refused(address: str) -> bool:
    """Whether no app may go there: loopback, link-local (metadata services), multicast, other instances."""
    found = ipaddress.IPv4Address(address)
    return any(found in network for network in _REFUSED)


@dataclass
class Outlet:
    """What is served for one instance."""

    servers: list[asyncio.AbstractServer] = field(default_factory=list)
    transports: list[asyncio.BaseTransport] = field(default_factory=list)
    bound: dict[int, set[asyncio.Transport]] = field(default_factory=dict)
    """By port of a bound service: the connections to it."""
    allowed: Collection[int] | None = None
    """Those of them that are bound still; None: all."""

    def close(self) -> None:
        """Serve no more, and end what is under way."""
        for server in self.servers:
            server.close()
        for transport in self.transports:
            if isinstance(transport, asyncio.Transport):
                transport.abort()
            else:
                transport.close()


class Egress:
    """Serves all instances of a cell. For the event loop."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._outlets: dict[str, Outlet] = {}

    async def attach(self, guid: str, directory: str, own: str) -> None:
        """Begin to serve the instance of this record directory, whose own address is `own`. Raises OSError."""
        outlet = Outlet()
        self._outlets[guid] = outlet
        waiting = await asyncio.to_thread(_fetch, directory)
        try:
            while waiting and self._outlets.get(guid) is outlet:
                name, made = waiting.popitem()
                made.setblocking(False)
                try:
                    await self._serve(outlet, name, made, guid, own)
                except BaseException:
                    made.close()
                    raise
        finally:
            for left in waiting.values():
                left.close()
            if self._outlets.get(guid) is not outlet:
                outlet.close()  # the instance ended meanwhile, perhaps while something was just begun

    async def listen(self, guid: str, address: str, port: int, endpoint: str) -> None:
        """Let `address`:`port` of the host lead to an attached instance (`runtime.direct_ports`), if it is still there. Raises OSError."""
        outlet = self._outlets.get(guid)
        if outlet is None:
            return  # it has ended already
        made = await asyncio.get_running_loop().create_server(lambda: _Inner(outlet, lambda _: endpoint), address, port)
        outlet.servers.append(made)
        if self._outlets.get(guid) is not outlet:
            made.close()

    def reach(self, guid: str, ports: Collection[int]) -> None:
        """Only these ports of bound services are open to an instance from now on; connections to others end."""
        outlet = self._outlets.get(guid)
        if outlet is None:
            return
        outlet.allowed = ports
        for port in outlet.bound.keys() - set(ports):
            for transport in list(outlet.bound[port]):
                transport.abort()

    def detach(self, guid: str) -> None:
        """The instance ended."""
        outlet = self._outlets.pop(guid, None)
        if outlet is not None:
            outlet.close()

    def close(self) -> None:
        """Let go of all instances."""
        for guid in list(self._outlets):
            self.detach(guid)

    async def _serve(self, outlet: Outlet, name: str, made: socket.socket, guid: str, own: str) -> None:
        loop = asyncio.get_running_loop()
        if name == "dns-udp":
            transport, _protocol = await loop.create_datagram_endpoint(
                lambda: self._resolver.datagrams(guid, own), sock=made
            )
            outlet.transports.append(transport)
            return
        if name == "dns-tcp":

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self._resolver.stream(reader, writer, guid, own)

            outlet.servers.append(await asyncio.start_server(answer, sock=made))
            return
        if name.startswith("forward-"):
            fixed = f"tcp:127.0.0.1:{name.partition('-')[2]}"
            outlet.servers.append(await loop.create_server(lambda: _Inner(outlet, lambda _: fixed), sock=made))
            return
        if name.startswith("bound-"):
            port = int(name.partition("-")[2])
            outlet.bound[port] = set()
            outlet.servers.append(await loop.create_server(lambda: _Bound(outlet, port), sock=made))
            return
        outlet.servers.append(await loop.create_server(lambda: _Inner(outlet, _meant_for), sock=made))


def _fetch(directory: str) -> dict[str, socket.socket]:
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(5)
            channel.connect(f"/proc/self/fd/{handle}/{INGRESS}")
            channel.sendall(struct.pack(">H", 0))
            answer, descriptors, _flags, _address = socket.recv_fds(channel, 4096, 128)
    finally:
        os.close(handle)
    names = answer[1:].decode().split(",")
    return {name: socket.socket(fileno=one) for name, one in zip(names, descriptors, strict=False)}


def _meant_for(transport: asyncio.BaseTransport) -> str | None:
    """The endpoint that the app wanted, or None where it may not go there."""
    data = transport.get_extra_info("socket").getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
    (port,) = struct.unpack_from(">H", data, 2)
    address = socket.inet_ntoa(data[4:8])
    return None if is_refused(address) else f"tcp:{address}:{port}"


class _Side(asyncio.Protocol):
    """One end of a relay. What it reads goes to `other`; the slower side sets the pace."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other is not None and self.other.transport is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self.other.transport.write_eof()
        return True  # the other direction goes on

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        other = self.other
        if other is not None and other.transport is not None and not other.transport.is_closing():
            other.transport.abort() if exc else other.transport.close()
        self.other = None


class _Inner(_Side):
    """The app's end: dials when it is accepted, reads when that succeeded. Refused is a reset, as of a firewall."""

    def __init__(self, outlet: Outlet, target: Callable[[asyncio.BaseTransport], str | None]) -> None:
        super().__init__()
        self._outlet = outlet
        self._target = target
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self._outlet.transports.append(transport)
        # Not at once: Python 3.11.2 starts to read after this call whatever was said in it.
        asyncio.get_running_loop().call_soon(self.transport.pause_reading)
        target = self._target(transport)
        if target is None:
            _reset(self.transport)
        else:
            self._dialling = asyncio.create_task(self._dial(target))

    async def _dial(self, endpoint: str) -> None:
        assert self.transport is not None
        outer = _Side()
        outer.other = self
        try:
            async with asyncio.timeout(_DIAL_SECONDS):
                made = await dial(endpoint)
                await asyncio.get_running_loop().create_connection(lambda: outer, sock=made)
        except (OSError, TimeoutError):
            _reset(self.transport)
            return
        assert outer.transport is not None
        if self.transport.is_closing():
            outer.transport.abort()
            return
        self.other = outer
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        with contextlib.suppress(ValueError):
            self._outlet.transports.remove(self.transport)  # type: ignore[arg-type]  # it was added when it was made
        if self._dialling is not None:
            self._dialling.cancel()


class _Bound(_Inner):
    """To a service that the app is bound to."""

    def __init__(self, outlet: Outlet, port: int) -> None:
        super().__init__(outlet, lambda _: f"tcp:127.0.0.1:{port}" if _is_open(outlet, port) else None)
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self._outlet.bound[self._port].add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.transport is not None:
            self._outlet.bound[self._port].discard(self.transport)
        super().connection_lost(exc)


def _is_open(outlet: Outlet, port: int) -> bool:
    return outlet.allowed is None or port in outlet.allowed


def _reset(transport: asyncio.Transport) -> None:
    made = transport.get_extra_info("socket")
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
