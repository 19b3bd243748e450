"""One conversation with an LDAP server (RFC 4511): TLS, bind, search. sansldap has the protocol, this the connection.

Filters are trees, not texts: what a user typed becomes a value in one, and cannot be more than that.
"""

import asyncio
import dataclasses
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sansldap import (
    BindResponse,
    ExtendedOperations,
    ExtendedResponse,
    LDAPClient,
    LDAPError,
    LDAPFilter,
    LDAPMessage,
    LDAPResultCode,
    SearchResultDone,
    SearchResultEntry,
    SearchScope,
)

from cupola.uaa.outside import Unreachable

__all__ = ["Entry", "Ldap", "escaped", "filled", "parsed_filter"]

M = TypeVar("M", bound=LDAPMessage)
MOST = 8 * 1024 * 1024
"""Bytes that one conversation may bring."""
_WRONG = frozenset(
    {
        LDAPResultCode.INVALID_CREDENTIALS,
        LDAPResultCode.INAPPROPRIATE_AUTHENTICATION,
        LDAPResultCode.NO_SUCH_OBJECT,
        LDAPResultCode.INVALID_DN_SYNTAX,
        LDAPResultCode.CONSTRAINT_VIOLATION,
        LDAPResultCode.UNWILLING_TO_PERFORM,
        LDAPResultCode.INSUFFICIENT_ACCESS_RIGHTS,
    }
)
"""Answers to a bind that mean: not with this name and password."""
_PORTS = {"ldap": 389, "ldaps": 636}


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a search found; attribute names in lower case, values that are no UTF-8 left out."""

    dn: str
    attributes: Mapping[str, Sequence[str]]


class _Wire(asyncio.Protocol):
    """Bytes as they come. Ours, and no asyncio stream, so that it can be seen that nothing came too early."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.total = 0
        self.ended: Exception | None = None
        self._news = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.total += len(data)
        if self.total > MOST:
            self.ended = Unreachable(f"it sent more than {MOST} bytes")
        else:
            self.received += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.ended or Unreachable(f"the connection ended{f': {exc}' if exc else ''}")
        self._news.set()

    async def take(self) -> bytes:
        """What came since the last time, at least a byte. Raises Unreachable."""
        while not self.received:
            if self.ended is not None:
                raise self.ended
            self._news.clear()
            await self._news.wait()
        taken = bytes(self.received)
        self.received.clear()
        return taken


class Ldap:
    """A connection. Not for two tasks. Everything raises Unreachable (or OSError) when the server does not do its part."""

    def __init__(self, transport: asyncio.Transport, wire: _Wire) -> None:
        self._transport = transport
        self._wire = wire
        self._session = LDAPClient()
        self._waiting: list[LDAPMessage] = []

    @classmethod
    async def connected(cls, url: str, tls: ssl.SSLContext | None) -> "Ldap":
        """To `ldap://` (with `tls`: StartTLS at once) or `ldaps://`."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        secure = tls if parts.scheme == "ldaps" else None
        loop = asyncio.get_running_loop()
        try:
            transport, wire = await loop.create_connection(
                _Wire, host, port, ssl=secure, server_hostname=host if secure else None
            )
        except ssl.SSLError as error:
            raise Unreachable(f"TLS with {host} failed: {error}") from error
        made = cls(transport, wire)
        try:
            if tls is not None and secure is None:
                await made._start_tls(host, tls)
        except BaseException:
            made.close()
            raise
        return made

    def close(self) -> None:
        """End the connection."""
        self._transport.abort()

    async def _start_tls(self, host: str, tls: ssl.SSLContext) -> None:
        name = ExtendedOperations.LDAP_START_TLS.value
        answer = await self._answer(self._session.extended_request(name), ExtendedResponse)
        if answer.result.result_code != LDAPResultCode.SUCCESS:
            raise Unreachable(f"{host} refuses StartTLS: {answer.result.result_code.name}")
        if self._wire.received or self._waiting:
            raise Unreachable(f"{host} sent something between its consent to TLS and TLS")
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(self._transport, self._wire, tls, server_hostname=host)
        except (ssl.SSLError, ConnectionError) as error:
            raise Unreachable(f"TLS with {host} failed: {error}") from error
        if secured is None:
            raise Unreachable(f"the connection to {host} ended")
        self._transport = secured
        # Nothing that was said without TLS is believed: a new conversation.
        self._session = LDAPClient()

    async def bind(self, dn: str, password: str) -> bool:
        """Whether the server takes us for `dn` now. An empty `dn` and `password` is nobody."""
        if dn and not password:
            return False
        answer = await self._answer(self._session.bind_simple(dn, password), BindResponse)
        code = answer.result.result_code
        if code == LDAPResultCode.SUCCESS:
            return True
        if code in _WRONG:
            return False
        raise Unreachable(f"it answers a bind with {code.name} {answer.result.diagnostics_message[:200]}".strip())

    async def search(
        self, base: str, what: LDAPFilter | None, attributes: Sequence[str], *, most: int, whole_tree: bool = True
    ) -> list[Entry]:
        """Entries below `base`, or `base` itself; one more than `most` at most, none where there is no `base`."""
        number = self._session.search_request(
            base,
            SearchScope.SUBTREE if whole_tree else SearchScope.BASE,
            size_limit=most + 1,
            filter=what,
            # No attributes at all is asked for by a name of its own.
            attributes=list(attributes) or ["1.1"],
        )
        found: list[Entry] = []
        while True:
            message = await self._message(number)
            if isinstance(message, SearchResultEntry):
                found.append(_entry(message))
                if len(found) > most + 1:
                    raise Unreachable("it sends more entries than were asked for")
            elif isinstance(message, SearchResultDone):
                code = message.result.result_code
                if code in {LDAPResultCode.SUCCESS, LDAPResultCode.NO_SUCH_OBJECT, LDAPResultCode.SIZE_LIMIT_EXCEEDED}:
                    return found
                raise Unreachable(f"it answers a search with {code.name} {message.result.diagnostics_message[:200]}")

    async def _answer(self, number: int, kind: type[M]) -> M:
        message = await self._message(number)
        if not isinstance(message, kind):
            raise Unreachable(f"it answers with {type(message).__name__}")
        return message

    async def _message(self, number: int) -> LDAPMessage:
        """The next message for a question."""
        self._transport.write(self._session.data_to_send())
        while not self._waiting:
            try:
                self._waiting = self._session.receive(await self._wire.take())
            except (LDAPError, ValueError, RecursionError) as error:
                raise Unreachable(f"it does not speak LDAP as it should: {error}") from error
        message = self._waiting.pop(0)
        if message.message_id != number:
            raise Unreachable("it answers what was not asked")
        return message


def _entry(message: SearchResultEntry) -> Entry:
    found: dict[str, list[str]] = {}
    for one in message.attributes:
        # `mail;lang-de` is a variant of `mail`.
        values = found.setdefault(one.name.partition(";")[0].lower(), [])
        for raw in one.values:
            try:
                values.append(raw.decode())
            except UnicodeDecodeError:
                continue
    return Entry(message.object_name, found)


def parsed_filter(text: str) -> LDAPFilter:
    """A filter of the configuration; `{username}` and `{dn}` stay in it as they are. Raises ValueError."""
    return LDAPFilter.from_string(text)


def filled(part: LDAPFilter, values: Mapping[str, str]) -> LDAPFilter:
    """The filter with `{name}` replaced in its values (never in its attributes or its form)."""
    changed: dict[str, Any] = {}
    for one in dataclasses.fields(part):
        if one.init:
            changed[one.name] = _filled(getattr(part, one.name), values)
    return dataclasses.replace(part, **changed)


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, LDAPFilter):
        return filled(value, values)
    if isinstance(value, list):
        return [_filled(one, values) for one in value]
    if isinstance(value, bytes):
        # All at once: what was put in is not looked at again.
        pieces = value.split(b"{")
        made = pieces[0]
        for piece in pieces[1:]:
            name, brace, rest = piece.partition(b"}")
            given = values.get(name.decode("utf-8", "replace")) if brace else None
            made += b"{" + piece if given is None else given.encode("utf-8", "surrogatepass") + rest
        return made
    return value


def escaped(text: str) -> str:
    """A text as a value in a DN (RFC 4514 section 2.4)."""
    made = "".join(f"\\{one}" if one in ',+"\\<>;=' else "\\00" if one == "\0" else one for one in text)
    if made.startswith((" ", "#")):
        made = "\\" + made
    if made.endswith(" ") and len(text) > 1:
        made = made[:-1] + "\\ "
    return made
