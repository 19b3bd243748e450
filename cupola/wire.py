"""How the processes of one platform speak: msgpack messages over Unix sockets in a 0700 directory.

A message is a frame: four bytes of length (big endian), then a msgpack array `[kind, body]`. The client's first
message is `hello` (its role, its token, the protocol version), the server's first is `welcome`. The server refuses a
peer whose user is neither its own nor root (SO_PEERCRED), whose token is wrong or whose version differs.
"""

import asyncio
import contextlib
import hmac
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["MAX_FRAME", "VERSION", "Peer", "Refused", "connect", "serve"]

VERSION = 1
MAX_FRAME = 256 * 1024 * 1024
"""Bytes; the largest frame is a full table of a large platform."""

_decoder = msgspec.msgpack.Decoder()
_encoder = msgspec.msgpack.Encoder()


class Refused(Exception):
    """The other side is not who it should be, or speaks another version."""


class Peer:
    """One connection. `send` may be called from several tasks; `receive` from one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, role: str = "") -> None:
        self.role = role
        self._reader = reader
        self._writer = writer

    async def send(self, kind: str, body: Any = None) -> None:
        """Send one message; returns when the transport's buffer has room. Raises OSError when the peer is gone."""
        data = _encoder.encode([kind, body])
        self._writer.write(struct.pack(">I", len(data)) + data)
        await self._writer.drain()

    async def receive(self) -> tuple[str, Any]:
        """The next message. Raises EOFError when the peer is gone, ValueError for a malformed frame."""
        try:
            (length,) = struct.unpack(">I", await self._reader.readexactly(4))
            if length > MAX_FRAME:
                raise ValueError(f"a frame of {length} bytes is larger than {MAX_FRAME}")
            kind, body = _decoder.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise EOFError("the peer closed the connection") from error
        return kind, body

    async def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def connect(path: Path, role: str, token: str) -> Peer:
    """Connect to the platform's socket at `path` as `role`. Raises OSError, EOFError or Refused."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    peer = Peer(reader, writer, role)
    await peer.send("hello", {"role": role, "token": token, "version": VERSION})
    kind, body = await peer.receive()
    if kind != "welcome":
        await peer.close()
        raise Refused(str(body))
    return peer


async def serve(
    path: Path, tokens: Mapping[str, str], handler: Callable[[Peer], Awaitable[None]]
) -> asyncio.AbstractServer:
    """Listen at `path`. `tokens` maps a role to its token; `handler` owns a peer until it returns."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        try:
            peer.role = await asyncio.wait_for(_welcome(peer, writer, tokens), 5)
            await handler(peer)
        except (Refused, EOFError, OSError, ValueError, TimeoutError):
            pass
        finally:
            await peer.close()

    path.unlink(missing_ok=True)  # noqa: ASYNC240  # one look at a local directory, before anybody is served
    server = await asyncio.start_unix_server(accept, str(path))
    path.chmod(0o600)  # noqa: ASYNC240  # as above
    return server


async def _welcome(peer: Peer, writer: asyncio.StreamWriter, tokens: Mapping[str, str]) -> str:
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _pid, uid, _gid = struct.unpack("3i", credentials)
    kind, body = await peer.receive()
    reason = None
    role = ""
    if uid not in (0, os.getuid()):
        reason = f"user {uid} may not connect"
    elif kind != "hello" or not isinstance(body, dict):
        reason = "expected hello"
    elif body.get("version") != VERSION:
        reason = f"version {body.get('version')} is not {VERSION}: restart all processes of this platform"
    else:
        role = str(body.get("role"))
        if not hmac.compare_digest(str(body.get("token")), tokens.get(role, os.urandom(8).hex())):
            reason = f"wrong token for role {role}"
    if reason is not None:
        await peer.send("refused", reason)
        raise Refused(reason)
    await peer.send("welcome", {"version": VERSION})
    return role
