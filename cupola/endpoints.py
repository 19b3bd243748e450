"""How an instance is reached: router, health checks and ssh all dial the endpoint that a cell reported.

    tcp:ADDRESS:PORT    a TCP connection to it
    unix:PATH:PORT      the socket PATH hands out connections to PORT of an instance that has a network of its own
                        (runtime/local/ingress.py is the other end)

Imports nothing heavy: the router uses it for every new connection.
"""

import asyncio
import errno
import os
import socket
import struct

__all__ = ["dial", "refusal"]


async def dial(endpoint: str) -> socket.socket:
    """A connected, non-blocking TCP socket. Raises OSError (ConnectionRefusedError when nobody listens).

    Takes as long as it takes: callers set their own time limit.
    """
    kind, _, rest = endpoint.partition(":")
    address, _, port = rest.rpartition(":")
    if not address or not port.isdigit():
        raise OSError(f"{endpoint!r} is no endpoint: expected tcp:ADDRESS:PORT or unix:PATH:PORT")
    if kind == "unix":
        return await _handed_out(address, int(port))
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, (address, int(port)))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        made.close()
        raise
    return made


def refusal(endpoint: str) -> ConnectionRefusedError:
    """What `dial` raises when nobody listens there."""
    return ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens at {endpoint}")


async def _handed_out(path: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    with await _open(path) as channel:
        await loop.sock_sendall(channel, struct.pack(">H", port))
        await _readable(loop, channel)
        answer, descriptors, _flags, _address = socket.recv_fds(channel, 1, 1)
        if answer != b"+" or not descriptors:
            for descriptor in descriptors:
                os.close(descriptor)
            raise refusal(f"unix:{path}:{port}")
    made = socket.socket(fileno=descriptors[0])
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


async def _open(path: str) -> socket.socket:
    loop = asyncio.get_running_loop()
    directory, _, name = path.rpartition("/")
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    channel.setblocking(False)
    # The name of a Unix socket has at most 107 bytes, that of a data directory may have more.
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        await loop.sock_connect(channel, f"/proc/self/fd/{handle}/{name}")
    except BaseException:
        channel.close()
        raise
    finally:
        os.close(handle)
    return channel


async def _readable(loop: asyncio.AbstractEventLoop, channel: socket.socket) -> None:
    ready = loop.create_future()
    loop.add_reader(channel, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(channel)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
