"""How messages reach a syslog drain: a stream of TCP or TLS, or requests over https.

    syslog://host:port        syslog-tls://host:port        https://host/path         https-batch://host/path

    Undelivered   a message may not have arrived; the text says why in words for the owner of the app

Judged by the policy of outbound.py is the address that is dialled.
"""

import asyncio
import base64
import contextlib
import logging
import ssl
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from cupola.config import Settings
from cupola.logs.syslog import framed
from cupola.outbound import Policy, Refused, names

__all__ = ["SCHEMES", "Connection", "Dialler", "Undelivered", "connection", "shown"]

SCHEMES = {"syslog": 514, "syslog-tls": 6514, "https": 443, "https-batch": 443}
"""With the port that is taken where an address names none."""
_MOST_OF_ANSWER = 65_536
_log = logging.getLogger(__name__)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Undelivered(Exception):
    """The drain does not take messages now."""


class Connection(Protocol):
    """A way to one drain, opened when it is needed. Not for two tasks at once."""

    async def send(self, messages: Sequence[bytes]) -> None:
        """Deliver messages in order. Raises Undelivered, whereupon all of them should be sent again."""

    def close(self) -> None:
        """Close what is open."""


def connection(dialler: "Dialler", url: str, *, anywhere: bool) -> Connection:
    """The way to `url`. Raises ValueError for an address that is none."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{parts.scheme or 'an address without a scheme'} is not supported: use {', '.join(SCHEMES)}")
    if not parts.hostname or parts.port == 0:
        raise ValueError("the address names no host")
    if parts.scheme.startswith("https"):
        return _Requests(dialler, parts, anywhere, batches=parts.scheme == "https-batch")
    return _Stream(dialler, parts, anywhere)


def shown(url: str) -> str:
    """An address as it may be shown: without what might be secret in it."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path}"
    return "an address that is none"


class Dialler:
    """Opens connections. `seconds` for each step: connecting, writing, an answer."""

    def __init__(self, settings: Settings) -> None:
        self.seconds = settings.services.drain_timeout_seconds
        self._settings = settings
        self._verified: ssl.SSLContext | None = None

    async def open(self, host: str, port: int, *, tls: bool, anywhere: bool) -> Streams:
        """Connect. Raises Undelivered."""
        policy = Policy(anywhere, self._settings.outbound.allow)
        try:
            async with asyncio.timeout(self.seconds):
                addresses = await asyncio.to_thread(policy.resolve, host, port)
                return await self._first(addresses, host, port, self._context(host, port) if tls else None)
        except Refused as refused:
            raise Undelivered(str(refused)) from refused
        except (OSError, TimeoutError) as error:
            raise Undelivered(_why(error)) from error
        except ValueError as error:
            raise Undelivered("its name can be no host's") from error

    async def _first(self, addresses: Sequence[str], host: str, port: int, context: ssl.SSLContext | None) -> Streams:
        name = host if context is not None else None
        for address in addresses[:-1]:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(address, port, ssl=context, server_hostname=name)
        return await asyncio.open_connection(addresses[-1], port, ssl=context, server_hostname=name)

    def _context(self, host: str, port: int) -> ssl.SSLContext:
        services = self._settings.services
        if names(services.skip_tls_verification, host, port):
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
                        "services.ca_file %s cannot be used, drains must do without: %s", services.ca_file, error
                    )
        return self._verified


class _Way:
    """What both kinds of connection have in common: streams that are opened when there are none."""

    def __init__(self, dialler: Dialler, parts: SplitResult, anywhere: bool) -> None:
        self._dialler = dialler
        self._host = parts.hostname or ""
        self._port = parts.port or SCHEMES[parts.scheme]
        self._tls = parts.scheme != "syslog"
        self._anywhere = anywhere
        self._streams: Streams | None = None

    def close(self) -> None:
        """Close what is open."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()

    async def _opened(self) -> Streams:
        if self._streams is not None and (self._streams[0].at_eof() or self._streams[1].is_closing()):
            self.close()
        if self._streams is None:
            self._streams = await self._dialler.open(self._host, self._port, tls=self._tls, anywhere=self._anywhere)
        return self._streams


class _Stream(_Way):
    """Syslog over TCP or TLS: messages one after the other, each after its length."""

    async def send(self, messages: Sequence[bytes]) -> None:
        _, writer = await self._opened()
        try:
            async with asyncio.timeout(self._dialler.seconds):
                writer.write(b"".join(map(framed, messages)))
                await writer.drain()
        except (OSError, TimeoutError) as error:
            self.close()
            raise Undelivered(_why(error)) from error


class _Requests(_Way):
    """Each message is the body of a request, or many together are with `batches`."""

    def __init__(self, dialler: Dialler, parts: SplitResult, anywhere: bool, *, batches: bool) -> None:
        super().__init__(dialler, parts, anywhere)
        self._batches = batches
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        lines = [f"POST {target} HTTP/1.1", f"Host: {host}", "Content-Type: text/plain", "User-Agent: cupola"]
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            lines.append(f"Authorization: Basic {base64.b64encode(pair.encode()).decode()}")
        self._head = "\r\n".join(lines).encode()

    async def send(self, messages: Sequence[bytes]) -> None:
        for body in [b"".join(messages)] if self._batches else messages:
            streams = await self._opened()
            try:
                async with asyncio.timeout(self._dialler.seconds):
                    status, reusable = await self._ask(streams, body)
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, OSError, TimeoutError) as error:
                self.close()
                raise Undelivered(_why(error)) from error
            if not reusable:
                self.close()
            if not 200 <= status < 300:
                raise Undelivered(f"it answers with status {status}")

    async def _ask(self, streams: Streams, body: bytes) -> tuple[int, bool]:
        """The status of the answer, and whether the connection can be used again."""
        reader, writer = streams
        writer.write(b"%b\r\nContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body))
        await writer.drain()
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            status = int(lines[0].partition(b" ")[2][:3])
            if status >= 200:
                break
        fields = dict(line.split(b":", 1) for line in lines[1:] if b":" in line)
        length = 0 if status == 204 else int(fields.get(b"content-length", b"-1"))
        if not 0 <= length <= _MOST_OF_ANSWER:
            return status, False
        await reader.readexactly(length)
        return status, b"close" not in fields.get(b"connection", b"") and lines[0].startswith(b"http/1.1")


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS as it must"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "the connection was lost"
