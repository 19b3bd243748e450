"""The way into an instance: its init makes connections to the app and hands them out.

A client connects to the record directory's socket and sends two bytes: the port (big endian), or 0. The answer is one byte, and
descriptors by SCM_RIGHTS (unix(7)):

    b"+"    for a port: one connected TCP socket; for 0: the sockets that the cell serves, their names after the byte
    b"-"    nobody listens on that port

The init lives as long as the instance, so apps are reached while the cell is away. The other end is cupola/endpoints.py.
"""

import contextlib
import errno
import select
import socket
import struct

__all__ = ["Ingress"]

_SECONDS = 1.0
"""How long a client has to say what it wants, and an app's full backlog to take a connection."""


class Ingress:
    """Serves the socket; `ready` is called when it is readable. Never raises, never blocks longer than a second or two."""

    def __init__(self, listener: socket.socket, served: dict[str, socket.socket]) -> None:
        self.listener = listener
        self._served = served
        listener.setblocking(False)

    def descriptors(self) -> list[int]:
        """What must stay open."""
        return [self.listener.fileno(), *(one.fileno() for one in self._served.values())]

    def ready(self) -> None:
        """Answer whoever waits."""
        for _ in range(64):
            try:
                client, _address = self.listener.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError, struct.error):
                self._answer(client)

    def close(self) -> None:
        """Refuse from now on, at once; the cell keeps what it was handed."""
        self.listener.close()
        for one in self._served.values():
            one.close()

    def _answer(self, client: socket.socket) -> None:
        client.settimeout(_SECONDS)
        wanted = client.recv(2)
        (port,) = struct.unpack(">H", wanted)
        if port == 0:
            names = ",".join(self._served).encode()
            socket.send_fds(client, [b"+" + names], [one.fileno() for one in self._served.values()])
            return
        made = _connect(port)
        if made is None:
            client.send(b"-")
            return
        with made:
            socket.send_fds(client, [b"+"], [made.fileno()])


def _connect(port: int) -> socket.socket | None:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    number = made.connect_ex(("127.0.0.1", port))
    if number == errno.EINPROGRESS:
        poll = select.poll()
        poll.register(made, select.POLLOUT)
        poll.poll(_SECONDS * 1000)
        number = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if _is_connected(made) else errno.ETIMEDOUT
    if number:
        made.close()
        return None
    return made


def _is_connected(made: socket.socket) -> bool:
    try:
        made.getpeername()
    except OSError:
        return False
    return True
