"""Names for instances: a forwarder to the host's resolvers that knows a few answers itself (RFC 1035).

Its own: an instance's host name (its address), `localhost` and everything below it, and the hosts of the apps domain on
a machine without a system domain (127.0.0.1, where the platform's port is). IPv6 addresses are never given out: the
instances' network is IPv4, and clients that got one would wait for it in vain.
"""

import asyncio
import logging
import os
import socket
import struct
from dataclasses import dataclass
from typing import cast

__all__ = ["Resolver", "answer_locally", "host_servers"]

_log = logging.getLogger(__name__)
_SECONDS = 5.0
_A, _AAAA, _ANY_CLASS, _IN = 1, 28, 255, 1
_SERVFAIL = 2
_MAX_WAITING = 512
"""Queries of one instance that wait at once; more are dropped, and asked again by the client."""


@dataclass(frozen=True)
class _Question:
    name: str
    kind: int
    end: int
    """Where the question ends in the message."""


def host_servers(path: str = "/etc/resolv.conf") -> list[str]:
    """Addresses of the host's name servers."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            words = [line.split() for line in file]
    except OSError:
        return []
    return [parts[1].partition("%")[0] for parts in words if len(parts) > 1 and parts[0] == "nameserver"]


def _question(message: bytes) -> _Question | None:
    """The first question, in lower case; None for what is no plain query."""
    if len(message) < 17 or message[2] & 0xF8 or struct.unpack_from(">H", message, 4)[0] != 1:
        return None
    labels, at = [], 12
    while at < len(message) and message[at]:
        length = message[at]
        if length > 63 or at + 1 + length > len(message):
            return None
        labels.append(message[at + 1 : at + 1 + length].decode("latin-1").lower())
        at += 1 + length
    if at + 5 > len(message):
        return None
    kind, _class = struct.unpack_from(">HH", message, at + 1)
    return _Question(".".join(labels), kind, at + 5)


def _reply(message: bytes, question: _Question, address: str | None, code: int = 0) -> bytes:
    """Header and question of the query, and at most one A record."""
    flags = 0x8180 | (struct.unpack_from(">H", message, 2)[0] & 0x0100) | code
    head = message[:2] + struct.pack(">HHHHH", flags, 1, 1 if address else 0, 0, 0)
    record = b""
    if address:
        record = struct.pack(">HHHIH", 0xC00C, _A, _IN, 5, 4) + socket.inet_aton(address)
    return head + message[12 : question.end] + record


def answer_locally(message: bytes, names: dict[str, str], domains: list[str]) -> bytes | None:
    """The answer to a query that needs nobody else: `names` have addresses, hosts below `domains` are 127.0.0.1."""
    question = _question(message)
    if question is None:
        return None
    known = names.get(question.name)
    if known is None and any(question.name == one or question.name.endswith(f".{one}") for one in domains):
        known = "127.0.0.1"
    if known is not None:
        return _reply(message, question, known if question.kind in (_A, _ANY_CLASS) else None)
    if question.kind == _AAAA:
        return _reply(message, question, None)
    return None


class Resolver:
    """`domains`: their hosts are the platform itself."""

    def __init__(self, domains: list[str], servers: list[str] | None = None, port: int = 53) -> None:
        self._domains = ["localhost", *domains]
        self._servers = servers
        self._port = port

    def datagrams(self, guid: str, own: str) -> asyncio.DatagramProtocol:
        """Serves one instance over UDP."""
        return _Datagrams(self, guid, own)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, guid: str, own: str) -> None:
        """Serves one TCP connection (RFC 7766: a length before each message)."""
        try:
            while True:
                (length,) = struct.unpack(">H", await asyncio.wait_for(reader.readexactly(2), 30))
                answer = await self.answer(await reader.readexactly(length), guid, own, tcp=True)
                writer.write(struct.pack(">H", len(answer)) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError, TimeoutError):
            pass
        finally:
            writer.close()

    async def answer(self, message: bytes, guid: str, own: str, *, tcp: bool = False) -> bytes:
        """The answer to one query; SERVFAIL when no server of the host gave one."""
        local = answer_locally(message, {guid[:63].lower(): own}, self._domains)
        if local is not None:
            return local
        servers = host_servers() if self._servers is None else self._servers
        for server in servers:
            try:
                async with asyncio.timeout(_SECONDS):
                    ask = _ask_stream if tcp else _ask
                    return await ask(message, server, self._port)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                continue
        question = _question(message)
        if question is None:
            return message[:2] + struct.pack(">HHHHH", 0x8180 | _SERVFAIL, 0, 0, 0, 0)
        return _reply(message, question, None, _SERVFAIL)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, resolver: Resolver, guid: str, own: str) -> None:
        self._resolver = resolver
        self._guid = guid
        self._own = own
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(self._waiting) < _MAX_WAITING:
            task = asyncio.create_task(self._answer(data, addr))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _answer(self, data: bytes, address: tuple[str, int]) -> None:
        found = await self._resolver.answer(data, self._guid, self._own)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(found, address)

    def connection_lost(self, exc: Exception | None) -> None:
        for task in self._waiting:
            task.cancel()


class _Pending(asyncio.DatagramProtocol):
    """Waits for the answer with the identifier that was sent."""

    def __init__(self, identifier: bytes) -> None:
        self._identifier = identifier
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data[:2] == self._identifier and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _ask(message: bytes, server: str, port: int) -> bytes:
    # An identifier of our own: what the app chose may be guessed by whoever knows the app.
    identifier = os.urandom(2)
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: _Pending(identifier), remote_addr=(server, port))
    try:
        transport.sendto(identifier + message[2:])
        return message[:2] + (await protocol.answer)[2:]
    finally:
        transport.close()


async def _ask_stream(message: bytes, server: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(server, port)
    try:
        writer.write(struct.pack(">H", len(message)) + message)
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        return await reader.readexactly(length)
    finally:
        writer.close()
