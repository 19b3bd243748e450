"""HTTP to other identity servers: verified TLS, no redirects, JSON of limited size. On the loop of outside.py."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from cupola.providers import is_local
from cupola.uaa.outside import Outside, Unreachable

__all__ = ["Answer", "Web", "require_safe"]

LONGEST = 1024 * 1024
"""Bytes of an answer."""


@dataclass(frozen=True)
class Answer:
    """What a server said; `body` is None where it is no JSON object."""

    status: int
    body: dict[str, Any] | None
    headers: Mapping[str, str]

    def good(self) -> dict[str, Any]:
        """The body of an answer that is 200. Raises Unreachable."""
        if self.status != 200:
            raise Unreachable(f"its answer is {self.status}{self.reason}")
        if self.body is None:
            raise Unreachable("its answer is no JSON object")
        return self.body

    @property
    def reason(self) -> str:
        """The error code that it names, in parentheses after a space; else nothing."""
        error = (self.body or {}).get("error")
        return f" ({error[:100]})" if isinstance(error, str) else ""


class Web:
    """The HTTP client for one server."""

    def __init__(self, outside: Outside, ca_file: str, skip_tls_verification: bool) -> None:
        self._ca_file = ca_file
        self._verify = not skip_tls_verification
        self._session: aiohttp.ClientSession | None = None
        outside.at_close(self._close)

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Raises Unreachable."""
        return await self._send("GET", url, None, headers or {})

    async def post_form(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        """Raises Unreachable."""
        return await self._send("POST", url, dict(form), headers or {})

    async def post_json(self, url: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """Raises Unreachable."""
        complete = {"Content-Type": "application/json", **(headers or {})}
        return await self._send("POST", url, msgspec.json.encode(body), complete)

    async def _send(self, method: str, url: str, data: Any, headers: Mapping[str, str]) -> Answer:
        complete = {"Accept": "application/json", "User-Agent": "cupola", **headers}
        try:
            async with self._client().request(
                method, url, data=data, headers=complete, allow_redirects=False
            ) as answer:
                return Answer(answer.status, _object(await _bounded(answer)), answer.headers)
        except (aiohttp.ClientError, ssl.SSLError, ValueError) as error:
            raise Unreachable(f"{urlsplit(url).netloc}: {error or type(error).__name__}") from error

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The time limit is the gate's; here is only what it cannot see.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls(), limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session

    def _tls(self) -> ssl.SSLContext | bool:
        if not self._verify:
            return False
        if not self._ca_file:
            return True
        try:
            return ssl.create_default_context(cafile=Path(self._ca_file).expanduser())
        except OSError as error:
            raise Unreachable(f"cannot read the certificates in {self._ca_file}: {error}") from error

    async def _close(self) -> None:
        if self._session is not None:
            await self._session.close()


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(65_536):
        body += chunk
        if len(body) > LONGEST:
            raise Unreachable(f"its answer is larger than {LONGEST} bytes")
    return bytes(body)


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def require_safe(name: str, url: Any) -> str:
    """An address that a server told us, if it is one and has TLS (or is on this machine). Raises Unreachable."""
    parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
    if parts.scheme == "https" and parts.hostname:
        return str(url)
    if parts.scheme == "http" and parts.hostname and is_local(str(url)):
        return str(url)
    raise Unreachable(f"its {name} is no https address: {str(url)[:200]}")
