"""How commands reach a platform on this machine: at the address where its router listens, whatever the DNS says of its names,
and trusting the very certificate that lies in its files.
"""

import http.client
import socket
import ssl

from cupola.config import Settings
from cupola.tls.places import Places

__all__ = ["address", "connection", "trust"]


def address(settings: Settings) -> str:
    """Where the router can be dialled from here."""
    chosen = "127.0.0.1" if settings.is_loopback and settings.listen != "::1" else settings.listen
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(chosen, chosen)  # noqa: S104 - not bound: dialled instead


def trust(settings: Settings) -> ssl.SSLContext:
    """Trust in the platform's own certificate as well as in those that this machine trusts. Raises OSError."""
    context = ssl.create_default_context()
    # Not every authority of a company is known here, nor is that of a test server of ACME.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(Places(settings).system.certificate)
    return context


def connection(settings: Settings, host: str, timeout: float) -> http.client.HTTPConnection:
    """A connection to one of the system hosts, for the library's client. Raises OSError."""
    if not settings.platform.system_domain:
        return http.client.HTTPConnection(address(settings), settings.platform.port, timeout=timeout)
    return _Secure(settings, host, timeout)


class _Secure(http.client.HTTPSConnection):
    """To the router's address, for a name."""

    def __init__(self, settings: Settings, host: str, timeout: float) -> None:
        super().__init__(host, settings.platform.https_port, timeout=timeout, context=trust(settings))
        self._address = address(settings)
        self._trusted = trust(settings)

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        try:
            self.sock = self._trusted.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
