"""TLS at the edge: which certificate a client gets, by the name that it asks for, and new files while connections are open.

CertificateError    a certificate cannot be used; the text names its file and says what to do

The files are looked at every second. Open connections keep what they began with; a broken file changes nothing.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Iterable
from pathlib import Path

from cupola.config import Settings
from cupola.tls.places import Pair, Places, source

__all__ = ["CertificateError", "Certificates"]

LOOK_SECONDS = 1.0
_PATIENCE = 5.0
"""Seconds after which a router that waits for its first certificate says so."""
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of 1.3 are good as they are (RFC 9325, 4.2)."""
_log = logging.getLogger(__name__)

Stamp = tuple[object, ...]


class CertificateError(Exception):
    """A certificate cannot be used."""


class Certificates:
    """`context` is for listeners; it stays the same while certificates come and go. `load` before use."""

    def __init__(self, settings: Settings) -> None:
        self._places = Places(settings)
        self._minimum = ssl.TLSVersion.TLSv1_3 if settings.tls.minimum_version == "1.3" else ssl.TLSVersion.TLSv1_2
        self._waits = source(settings) != "files"
        self._system_hosts = settings.system_hosts
        self._loaded: dict[Pair, tuple[Stamp, ssl.SSLContext]] = {}
        self._complained: dict[Pair, Stamp] = {}
        self._system: ssl.SSLContext | None = None
        self._apps: ssl.SSLContext | None = None
        self._domains: dict[str, ssl.SSLContext] = {}
        self.context = self._context()
        self.context.sni_callback = self._choose

    async def load(self) -> None:
        """Read every certificate; those that the controller makes are waited for. Raises CertificateError."""
        waited = 0.0
        files = {self._places.system.certificate, self._places.apps.certificate}
        while self._waits and not all(file.exists() for file in files):
            await asyncio.sleep(0.05)
            waited += 0.05
            if abs(waited - _PATIENCE) < 0.025:
                _log.warning("waiting for the controller, which makes the certificates in %s", self._places.directory)
        self._system, self._apps = self._read(self._places.system), self._read(self._places.apps)
        # OpenSSL wants a certificate in the listener's context, although every client is given another one.
        _load(self.context, self._places.system)
        self._look()

    async def run(self) -> None:
        """Take new files as they come, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        places = self._places
        self._system = self._renewed(places.system) or self._system
        self._apps = self._renewed(places.apps) or self._apps
        pairs = places.of_domains()
        found = {domain: self._renewed(pair) for domain, pair in pairs.items()}
        self._domains = {domain: context for domain, context in found.items() if context is not None}
        for pair in self._loaded.keys() - {places.system, places.apps, *pairs.values()}:
            del self._loaded[pair]

    def _renewed(self, pair: Pair) -> ssl.SSLContext | None:
        """The context for these files, the last good one while they are broken."""
        before = self._loaded.get(pair)
        stamp = _stamp((pair.certificate, pair.key))
        if before is not None and before[0] == stamp:
            return before[1]
        try:
            made = self._read(pair)
        except CertificateError as error:
            # Certificate and key may be just being replaced, one after the other.
            if self._complained.get(pair) != stamp:
                self._complained[pair] = stamp
                _log.error("%s%s", error, "; the one from before is used" if before else "")
            return before[1] if before is not None else None
        if before is not None:
            _log.info("the certificate %s is used from now on", pair.certificate)
        return made

    def _read(self, pair: Pair) -> ssl.SSLContext:
        stamp = _stamp((pair.certificate, pair.key))
        context = self._context()
        _load(context, pair)
        self._loaded[pair] = stamp, context
        return context

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self._minimum
        context.set_ciphers(_CIPHERS)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _choose(self, connection: ssl.SSLObject, name: str | None, _listening: ssl.SSLContext) -> None:
        """Called at every handshake, with the name that the client asks for."""
        chosen = self._system if name is None else self._of(name.lower().removesuffix("."))
        if chosen is not None:
            connection.context = chosen

    def _of(self, name: str) -> ssl.SSLContext | None:
        if name in self._system_hosts:
            return self._system
        return self._domains.get(name) or self._domains.get(name.partition(".")[2]) or self._apps


def _load(context: ssl.SSLContext, pair: Pair) -> None:
    try:
        context.load_cert_chain(pair.certificate, pair.key, password=_no_passphrase)
    except ssl.SSLError as error:
        raise CertificateError(
            f"the certificate {pair.certificate} cannot be used with the key {pair.key} "
            f"({error.reason or 'no PEM'}): they must be in PEM, belong together, and the key have no passphrase"
        ) from error
    except OSError as error:
        missing = pair.key if pair.certificate.exists() and error.errno == 2 else pair.certificate
        raise CertificateError(f"cannot read the certificate {missing}: {error.strerror}") from error


def _no_passphrase() -> bytes:
    """Instead of a question on the terminal."""
    return b""


def _stamp(files: Iterable[Path]) -> Stamp:
    found: list[object] = []
    for file in files:
        with contextlib.suppress(OSError):
            status = file.stat()
            found.append((status.st_mtime_ns, status.st_ino, status.st_size))
    return tuple(found)
