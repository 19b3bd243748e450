"""Route services: a request goes to the service first, signed; what comes back with a good signature goes to the app.

    client ──> router ──> service ──> router ──> app         X-CF-Forwarded-Url says where the service sends it on to

A service that is an app of this platform is asked directly: it needs no certificate. Every other one is asked by https,
at an address that the policy of outbound.py allows to whoever bound it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cupola.config import Settings
from cupola.outbound import Policy, Refused, names
from cupola.router import answers, signatures
from cupola.router.answers import Answer
from cupola.router.backends import Backend
from cupola.router.balance import Pool
from cupola.router.messages import Route
from cupola.router.table import Table, host_name
from cupola.router.upstream import NotAllowed

if TYPE_CHECKING:
    from cupola.router.upstream import Upstream

__all__ = ["SIGNATURE", "Detour", "RouteServices"]

SIGNATURE = b"x-cf-proxy-signature"
_METADATA = b"x-cf-proxy-metadata"
_KNOWN = 1000
"""Services elsewhere whose connections are kept."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Detour:
    """The way to a service: its pool, host and target, the header lines for it, and the route that it guards."""

    pool: Pool
    host: bytes
    target: bytes
    lines: bytes
    guarded: Pool


class RouteServices:
    """Made once per router. `strict` where signatures are looked at on routes without a service as well."""

    def __init__(self, settings: Settings) -> None:
        self.strict = settings.services.strict_route_service_signatures
        self._settings = settings
        self._https = bool(settings.platform.system_domain)
        self._elsewhere: dict[tuple[str, int, bool], Pool] = {}
        self._verified: ssl.SSLContext | None = None

    @property
    def backends(self) -> list[Backend]:
        """The services elsewhere that were asked so far."""
        return [backend for pool in self._elsewhere.values() for backend in pool.backends]

    def way(self, table: Table, guarded: Pool, host: bytes, target: bytes) -> Detour | Answer:
        """The way of a request for `guarded` to its service, signed."""
        if not table.keys:
            return answers.no_table()
        url = urlsplit(guarded.route.route_service)
        name, port = url.hostname or "", url.port or 443
        if not name:
            return answers.route_service_unreachable(OSError(), "malformed route service address")
        shown = f"[{name}]" if ":" in name else name
        place = (shown if port == 443 else f"{shown}:{port}").encode()
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        pool = table.find(place, path.encode())
        if pool is None or table.is_system(pool):
            pool = self._pool(name, port, anywhere=guarded.route.route_service_anywhere)
        elif not pool.backends:
            return answers.no_endpoints(name)
        return Detour(pool, place, path.encode(), self._lines(table.keys[0], host, target), guarded)

    def _lines(self, key: bytes, host: bytes, target: bytes) -> bytes:
        url = self._forwarded_url(host, target.decode("latin-1"))
        signature, metadata = signatures.sign(key, url, time.time())
        return b"X-CF-Forwarded-Url: %b\r\nX-CF-Proxy-Signature: %b\r\nX-CF-Proxy-Metadata: %b" % (
            url.encode("latin-1"),
            signature,
            metadata,
        )

    def _forwarded_url(self, host: bytes, target: str) -> str:
        """Where the service is to send the request: by https where the platform has it."""
        if not self._https:
            return f"http://{host.decode('latin-1')}{target}"
        port = self._settings.platform.https_port
        return f"https://{host_name(host)}{'' if port == 443 else f':{port}'}{target}"

    def refusal(self, table: Table, pool: Pool, special: dict[bytes, bytes]) -> Answer | None:
        """Why a request with a signature does not go on to `pool`, or None."""
        refuse = answers.route_service_refused if pool.route.route_service else answers.signature_refused
        signature, metadata = special.get(SIGNATURE, b""), special.get(_METADATA, b"")
        try:
            url = signatures.forwarded_url(table.keys, signature, metadata, time.time())
        except signatures.Expired as expired:
            return refuse(str(expired), expired=True)
        except signatures.Invalid as invalid:
            return refuse(str(invalid), expired=False)
        place, slash, path = url.partition("://")[2].partition("/")
        if table.find(place.encode("latin-1"), (slash + path).encode("latin-1") or b"/") is not pool:
            return refuse("it was made for another route", expired=False)
        return None

    def _pool(self, name: str, port: int, *, anywhere: bool) -> Pool:
        key = (name, port, anywhere)
        known = self._elsewhere.get(key)
        if known is None:
            if len(self._elsewhere) >= _KNOWN:
                self._forget(list(self._elsewhere))
            limit = self._settings.router.max_connections_per_backend
            backend = Backend(f"tls:{name}:{port}", None, limit, lambda upstream: self._dial(key, upstream))
            known = self._elsewhere[key] = Pool(Route(guid="", host=name), [backend], "round-robin")
        return known

    def _forget(self, keys: Iterable[tuple[str, int, bool]]) -> None:
        for key in keys:
            for backend in self._elsewhere.pop(key).backends:
                backend.retire()

    async def _dial(self, key: tuple[str, int, bool], upstream: Upstream) -> None:
        """Connect to a service elsewhere. Raises OSError."""
        try:
            await self._dial_first(*key, upstream)
        except OSError:
            # Some of these are ValueErrors as well.
            raise
        except ValueError as error:
            raise NotAllowed(f"{key[0]!r} can be no host") from error

    async def _dial_first(self, name: str, port: int, anywhere: bool, upstream: Upstream) -> None:
        policy = Policy(anywhere, self._settings.outbound.allow)
        try:
            addresses = await asyncio.to_thread(policy.resolve, name, port)
        except Refused as refused:
            _log.warning("a route service is not called: %s", refused)
            raise NotAllowed(str(refused)) from refused
        context = self._context(name, port)
        for number, address in enumerate(addresses, 1):
            try:
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: upstream, address, port, ssl=context, server_hostname=name)
            except ssl.SSLError:
                raise
            except OSError:
                if number == len(addresses):
                    raise
            else:
                return

    def _context(self, name: str, port: int) -> ssl.SSLContext:
        services = self._settings.services
        if names(services.skip_tls_verification, name, port):
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        if self._verified is None:
            self._verified = ssl.create_default_context()
            if services.ca_file:
                try:
                    self._verified.load_verify_locations(services.ca_file)
                except OSError as error:
                    _log.error(
                        "services.ca_file %s cannot be used, route services must do without: %s",
                        services.ca_file,
                        error,
                    )
        return self._verified
