"""A small client of the platform's public API, for commands that act on apps. It knows nothing but what any client may.

ApiProblem    the platform refused something or does not answer; the text is for the user
"""

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from cupola.cli.reach import address, trust
from cupola.config import Settings

__all__ = ["Api", "ApiProblem", "connected", "local_connector"]

_RETRY_SECONDS = 15.0
"""Seconds for which reads are repeated while the platform restarts."""
_JOB_PAUSE = 0.1
_AGAIN = frozenset({502, 503, 504})
_AS_CF = {"Authorization": "Basic Y2Y6"}
"""The client `cf`, whose secret is empty and known to all (reference/uaa.md)."""


class ApiProblem(Exception):
    """The platform refused something or does not answer."""

    def __init__(self, text: str, status: int = 0, title: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.title = title


class Api:
    """One logged-in user. Made by `connected`."""

    def __init__(self, session: aiohttp.ClientSession, url: str, user: str, password: str) -> None:
        self._session = session
        self._user = user
        self._password = password
        self._token = ""
        self.url = url
        self.links: dict[str, Any] = {}

    async def open(self) -> None:
        """Find the parts of the platform and log in. Raises ApiProblem."""
        root = await self._send("GET", self.url + "/", authorized=False)
        self.links = root["links"]
        await self._log_in()

    async def _log_in(self) -> None:
        form = {"grant_type": "password", "username": self._user, "password": self._password}
        url = self.links["login"]["href"] + "/oauth/token"
        try:
            async with self._session.post(url, data=form, headers=_AS_CF) as answer:
                body = await answer.json(content_type=None)
                if answer.status != 200:
                    said = body.get("error_description") or body.get("error") or f"status {answer.status}"
                    raise ApiProblem(f"cannot log in to {url} as {self._user}: {said}", answer.status)
                self._token = f"bearer {body['access_token']}"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ApiProblem(f"cannot log in to {url}: {error}") from error

    async def get(self, path: str, **query: str | int) -> Any:
        """The JSON at a path, or at an address that the platform named."""
        return await self._send("GET", self._at(path), params={name: str(value) for name, value in query.items()})

    async def one(self, path: str, what: str, **query: str | int) -> dict[str, Any]:
        """The first resource of a list; a problem that names `what` when there is none."""
        found = (await self.get(path, **query))["resources"]
        if not found:
            raise ApiProblem(f"{what} does not exist")
        return dict(found[0])

    async def post(self, path: str, body: Any = None) -> Any:
        """Send JSON; wait for the job when the platform starts one."""
        return await self._send("POST", self._at(path), json=body)

    async def patch(self, path: str, body: Any) -> Any:
        """Change something by JSON."""
        return await self._send("PATCH", self._at(path), json=body)

    async def delete(self, path: str) -> Any:
        """Delete something; wait for the job when the platform starts one."""
        return await self._send("DELETE", self._at(path))

    async def post_yaml(self, path: str, document: bytes) -> Any:
        """Send YAML; wait for the job when the platform starts one."""
        return await self._send("POST", self._at(path), data=document, headers={"Content-Type": "application/x-yaml"})

    async def upload(
        self, path: str, bits: Path | None, resources: list[dict[str, Any]], progress: Callable[[int], None]
    ) -> Any:
        """Send an archive and the resources that go with it; `progress` gets the bytes sent so far."""
        with aiohttp.MultipartWriter("form-data") as parts:
            if resources or bits is None:
                part = parts.append(json.dumps(resources))
                part.set_content_disposition("form-data", name="resources")
            if bits is None:
                return await self._send("POST", self._at(path), data=parts)
            with _Counted(bits, progress) as file:
                part = parts.append(file, {"Content-Type": "application/zip"})
                part.set_content_disposition("form-data", name="bits", filename="package.zip")
                return await self._send("POST", self._at(path), data=parts)

    async def log_lines(self, source: str, start: int) -> list[dict[str, Any]]:
        """Log envelopes of an app from `start` (nanoseconds since 1970) on, oldest first; 1000 at most."""
        url = f"{self.links['log_cache']['href']}/api/v1/read/{source}"
        query = {"start_time": str(start), "envelope_types": "LOG", "limit": "1000"}
        found = await self._send("GET", url, params=query)
        return list((found.get("envelopes") or {}).get("batch") or [])

    async def last_line(self, source: str) -> int:
        """The timestamp of the newest envelope of an app, 0 when there is none."""
        url = f"{self.links['log_cache']['href']}/api/v1/read/{source}"
        found = await self._send("GET", url, params={"descending": "true", "limit": "1"})
        batch = (found.get("envelopes") or {}).get("batch") or []
        return int(batch[0]["timestamp"]) if batch else 0

    def _at(self, path: str) -> str:
        return path if "://" in path else self.url + path

    async def _send(self, method: str, url: str, *, authorized: bool = True, **request: Any) -> Any:
        deadline = asyncio.get_running_loop().time() + _RETRY_SECONDS
        refreshed = False
        given = request.pop("headers", {})
        while True:
            headers = {**given, "Authorization": self._token} if authorized else given
            try:
                async with self._session.request(method, url, headers=headers, **request) as answer:
                    text = await answer.text()
                    if answer.status == 401 and authorized and not refreshed and "data" not in request:
                        refreshed = True
                        await self._log_in()
                        continue
                    is_late = asyncio.get_running_loop().time() > deadline
                    if method == "GET" and answer.status in _AGAIN and not is_late:
                        await asyncio.sleep(0.2)
                        continue
                    if answer.status >= 400:
                        raise _problem(method, url, answer.status, text)
                    if answer.status == 202 and "Location" in answer.headers:
                        return await self._job(answer.headers["Location"])
                    return json.loads(text) if text.strip() else {}
            except (aiohttp.ClientError, OSError) as error:
                if method == "GET" and asyncio.get_running_loop().time() < deadline and _may_restart(error):
                    await asyncio.sleep(0.2)
                    continue
                if isinstance(error, aiohttp.ClientConnectorError):
                    raise ApiProblem(
                        f"nothing answers at {self.url} ({error.strerror or error}): is the platform up?"
                    ) from error
                raise ApiProblem(f"{urlsplit(url).netloc} does not answer: {error}") from error

    async def _job(self, url: str) -> Any:
        while True:
            job = await self.get(url)
            if job["state"] == "COMPLETE":
                return job
            if job["state"] == "FAILED":
                details = "; ".join(str(one.get("detail")) for one in job.get("errors") or [])
                raise ApiProblem(details or f"the job {job['operation']} failed")
            await asyncio.sleep(_JOB_PAUSE)


def local_connector(settings: Settings) -> aiohttp.TCPConnector | None:
    """For aiohttp's client; None where nothing has to be known. Raises OSError. Belongs to a running loop."""
    if not settings.platform.system_domain:
        return None
    return aiohttp.TCPConnector(ssl=trust(settings), resolver=_Here(address(settings)), ttl_dns_cache=None)


class _Here(AbstractResolver):
    """Every name is the router's address: the names come from the platform itself."""

    def __init__(self, at: str) -> None:
        self._address = at

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        kind = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        return [
            ResolveResult(
                hostname=host, host=self._address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
            )
        ]

    async def close(self) -> None:
        """Nothing is held."""


class _Counted(io.BufferedReader):
    """A file that says how far it was read."""

    def __init__(self, path: Path, progress: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "r"))
        self._progress = progress

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._progress(self.tell())
        return data


def _may_restart(error: Exception) -> bool:
    # Nobody listening is final; a connection that broke may be a restart.
    return not isinstance(error, aiohttp.ClientConnectorError)


def _problem(method: str, url: str, status: int, text: str) -> ApiProblem:
    try:
        errors = json.loads(text)["errors"]
        details = "; ".join(str(error["detail"]) for error in errors)
        return ApiProblem(details, status, str(errors[0]["title"]))
    except (ValueError, KeyError, TypeError, IndexError):
        shown = " ".join(text.split())[:200]
        return ApiProblem(f"{method} {urlsplit(url).path} was answered with status {status}: {shown}", status)


@asynccontextmanager
async def connected(
    url: str,
    user: str,
    password: str,
    *,
    trust_proxies: bool = False,
    connector: aiohttp.BaseConnector | None = None,
) -> AsyncIterator[Api]:
    """An Api that is logged in. Raises ApiProblem."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=900)
    headers: Mapping[str, str] = {"Accept": "application/json", "User-Agent": "cupola"}
    async with aiohttp.ClientSession(
        timeout=timeout, headers=headers, trust_env=trust_proxies, connector=connector
    ) as session:
        api = Api(session, url.rstrip("/"), user, password)
        await api.open()
        yield api
