"""HTTP to service brokers: who we are, how long we wait, how much we read, where redirects may lead.

Basic authentication on every call, TLS verified unless the operator says otherwise for a host, at most 3 redirects and
only within the same origin, so that credentials never reach another host. Judged by the policy of outbound.py is the
address that is dialled: an admin's brokers may be anywhere, others only at public addresses.
"""

import asyncio
import base64
import ipaddress
import logging
import socket
import ssl
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from cupola.brokers import problems
from cupola.brokers.parties import Broker, Caller
from cupola.config import Settings
from cupola.outbound import Policy, Refused, names

__all__ = ["API_VERSION", "Answer", "Transport"]

log = logging.getLogger(__name__)
API_VERSION = "2.15"
_MAX_REDIRECTS = 3
_MAX_RETRY_AFTER = 86_400.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Answer:
    """What a broker said. `retry_after` in seconds."""

    status: int
    body: bytes
    retry_after: float | None = None


class Transport:
    """Sessions of the HTTP client: one for admins' brokers, one for the others, so that they share no connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._verified: ssl.SSLContext | None = None

    async def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def send(
        self,
        broker: Broker,
        caller: Caller,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Call `path` below the broker's url. Raises BrokerError when there is no complete answer."""
        url = URL(broker.url.rstrip("/") + path, encoded=False).update_query(query or {})
        data = None if body is None else msgspec.json.encode(body)
        for _ in range(_MAX_REDIRECTS + 1):
            answer, location = await self._hop(broker, caller, method, url, data, headers or {})
            if location is None:
                return answer
            url = _followed(url, location)
            if answer.status == 303:
                method, data = "GET", None
        raise problems.unexpected(
            f"Service broker error: it redirects more than {_MAX_REDIRECTS} times. Register the url that it answers at."
        )

    async def _hop(
        self,
        broker: Broker,
        caller: Caller,
        method: str,
        url: URL,
        data: bytes | None,
        headers: Mapping[str, str],
    ) -> tuple[Answer, str | None]:
        complete = {**self._headers(broker, caller, data), **headers}
        try:
            await _judge_address(_policy(self._settings, broker.anywhere, url.host or "", url.port or 0), url)
            async with self._session(broker.anywhere).request(
                method, url, data=data, headers=complete, allow_redirects=False, ssl=self._ssl(url)
            ) as response:
                location = response.headers.get("Location")
                if response.status in _REDIRECTS and location is not None:
                    return Answer(response.status, b""), location
                body = await self._bounded(response)
                return Answer(response.status, body, _seconds(response.headers.get("Retry-After"))), None
        except Refused as refused:
            raise problems.unreachable(str(refused)) from refused
        except TimeoutError as error:
            raise problems.timeout() from error
        except aiohttp.ClientPayloadError as error:
            raise problems.unexpected("Service broker error: its answer ends before it is complete.") from error
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            log.info("service broker %s: %s", broker.name, error)
            raise problems.unreachable(_tls_trouble(error)) from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientResponseError) as error:
            log.info("service broker %s: %s", broker.name, type(error).__name__)
            raise problems.unreachable() from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            log.info("service broker %s: %s", broker.name, type(error).__name__)
            raise problems.unreachable() from error

    def _headers(self, broker: Broker, caller: Caller, data: bytes | None) -> dict[str, str]:
        credentials = base64.b64encode(f"{broker.username}:{broker.password}".encode()).decode()
        headers = {
            "Authorization": f"Basic {credentials}",
            "Accept": "application/json",
            "X-Broker-Api-Version": API_VERSION,
            "X-Broker-API-Request-Identity": str(uuid.uuid4()),
            "X-Api-Info-Location": urlsplit(self._settings.api_url).netloc + "/v2/info",
        }
        if caller.user_guid:
            identity = base64.b64encode(msgspec.json.encode({"user_id": caller.user_guid})).decode()
            headers["X-Broker-Api-Originating-Identity"] = f"cloudfoundry {identity}"
        if caller.request_id:
            headers["X-Vcap-Request-Id"] = caller.request_id
        if data is not None:
            headers["Content-Type"] = "application/json"
        return headers

    async def _bounded(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self._settings.brokers.max_answer_bytes
        body = bytearray()
        async for chunk in response.content.iter_chunked(65_536):
            body += chunk
            if len(body) > limit:
                raise problems.unexpected(
                    f"Service broker error: its answer is larger than {limit} bytes, "
                    "which an operator can raise with brokers.max_answer_bytes."
                )
        return bytes(body)

    def _session(self, anywhere: bool) -> aiohttp.ClientSession:
        known = self._sessions.get(anywhere)
        if known is not None:
            return known
        seconds = self._settings.brokers.timeout_seconds
        resolver = _Judging(self._settings, anywhere)
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, limit=0)
        made = self._sessions[anywhere] = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=2 * seconds, sock_connect=seconds, sock_read=seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "cupola"},
        )
        return made

    def _ssl(self, url: URL) -> ssl.SSLContext | bool:
        if url.scheme != "https":
            return True
        if names(self._settings.brokers.skip_tls_verification, url.host or "", url.port):
            return False
        if self._verified is None:
            context, file = ssl.create_default_context(), self._settings.brokers.ca_file
            if file:
                try:
                    context.load_verify_locations(file)
                except OSError as error:
                    raise problems.unreachable(f"brokers.ca_file {file} cannot be used ({error})") from error
            self._verified = context
        return self._verified


class _Judging(AbstractResolver):
    """Names become the addresses that the policy allows, and only those are dialled."""

    def __init__(self, settings: Settings, anywhere: bool) -> None:
        self._settings = settings
        self._anywhere = anywhere

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        policy = _policy(self._settings, self._anywhere, host, port)
        addresses = await asyncio.to_thread(policy.resolve, host, port)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        return None


def _policy(settings: Settings, anywhere: bool, host: str, port: int) -> Policy:
    """What may be dialled for this host. Brokers that are apps of this platform are behind our own router, as public as
    everything else there, although it may be on this very machine."""
    domain, platform = settings.apps_domain.lower(), settings.platform
    ports = {platform.port, 80, 443} if platform.system_domain else {platform.port}
    own = [f"{host}:{port}"] if host.lower().endswith(f".{domain}") and port in ports else []
    return Policy(anywhere, [*settings.outbound.allow, *own])


async def _judge_address(policy: Policy, url: URL) -> None:
    """The HTTP client asks no resolver for a host that is an address already. Raises Refused."""
    try:
        ipaddress.ip_address(url.host or "")
    except ValueError:
        return
    await asyncio.to_thread(policy.resolve, url.host or "", url.port or 0)


def _followed(url: URL, location: str) -> URL:
    """Where a redirect leads. Raises BrokerError when that is another origin."""
    try:
        target = URL(urljoin(str(url), location))
        same = target.origin() == url.origin()
    except ValueError:
        same = False
    if not same:
        raise problems.unexpected(
            f"Service broker error: it redirects to another server. Redirects are followed within {url.origin()} only: "
            "register the url that the broker answers at."
        )
    return target


def _seconds(text: str | None) -> float | None:
    if text is None or not text.strip().isascii() or not text.strip().isdigit():
        return None
    return min(_MAX_RETRY_AFTER, float(text.strip()[:12]))


def _tls_trouble(error: Exception) -> str:
    why = getattr(error, "certificate_error", None) or error
    message = getattr(why, "verify_message", "") or "the TLS connection failed"
    return (
        f"its certificate is not accepted ({message}); an operator can name its authority in brokers.ca_file "
        "or the broker in brokers.skip_tls_verification"
    )
