"""Host ports for instances, from `runtime.port_range`.

A port is claimed by an abstract Unix socket of that name, so several platforms of one machine never give the same one,
and a dead cell's claims are gone with it; the new cell claims those of the instances that it adopts.
"""

import contextlib
import errno
import socket

__all__ = ["NoPort", "Ports"]


class NoPort(Exception):
    """The range is used up."""


class Ports:
    """The claims of this cell. Raises ValueError for a range that is not `low-high`."""

    def __init__(self, port_range: str) -> None:
        low, _, high = port_range.partition("-")
        self.low, self.high = int(low), int(high)
        if not 1024 <= self.low <= self.high <= 65535:
            raise ValueError(f"runtime.port_range = {port_range}: write low-high, from 1024 to 65535")
        self._claims: dict[int, socket.socket] = {}
        self._next = self.low

    def claim(self) -> int:
        """A port that nobody has claimed and nobody listens on. Raises NoPort."""
        for _ in range(self.high - self.low + 1):
            port = self._next
            self._next = self.low if port == self.high else port + 1
            if port not in self._claims and self.adopt(port):
                if _is_free(port):
                    return port
                self.release(port)
        raise NoPort(f"every port of {self.low}-{self.high} is in use: widen runtime.port_range")

    def adopt(self, port: int) -> bool:
        """Claim this very port; False when another platform has it."""
        if port in self._claims:
            return True
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0cupola-port-{port}")
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        self._claims[port] = claim
        return True

    def release(self, port: int) -> None:
        """Give a port back."""
        claim = self._claims.pop(port, None)
        if claim is not None:
            claim.close()

    def close(self) -> None:
        """Give all back."""
        for port in list(self._claims):
            self.release(port)


def _is_free(port: int) -> bool:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as test:
        # As servers do; ports whose last connections linger are free for them as well.
        test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            test.bind(("0.0.0.0", port))  # noqa: S104 - the app will bind every address; only such a test finds all others
        except OSError:
            return False
    return True
