"""Another UAA, asked with a client of ours: its keys, whom it knows, and users made known there by name."""

import base64
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec

from cupola.providers import Uaa, secret
from cupola.uaa.outside import Gate, Outside, Unreachable
from cupola.uaa.web import Answer, Web, require_safe

__all__ = ["Known", "Remote"]

BATCH = 100
"""Users of one question; the address of a question has a length that servers accept."""
_CONCURRENCY = 8


@dataclass(frozen=True)
class Known:
    """A user of that server."""

    guid: str
    username: str
    origin: str


class Remote:
    """All methods raise Unreachable. They may be awaited anywhere; the work is done on the loop of `outside`."""

    def __init__(self, settings: Uaa, outside: Outside) -> None:
        self.settings = settings
        self.url = settings.url.rstrip("/")
        self._outside = outside
        self._web = Web(outside, settings.ca_file, settings.skip_tls_verification)
        self._gate = Gate(f"the identity server {self.url}", _CONCURRENCY, settings.timeout_seconds)
        self._token = ""
        self._token_until = 0.0

    async def described(self) -> tuple[str, Mapping[str, Any]]:
        """The issuer that tokens name, and the JWK set. On the loop of `outside` only."""
        return await self._gate(self._described)

    async def _described(self) -> tuple[str, Mapping[str, Any]]:
        issuer, keys = self.settings.issuer, f"{self.url}/token_keys"
        if not issuer:
            document = (await self._web.get(f"{self.url}/.well-known/openid-configuration")).good()
            named = document.get("issuer")
            if not isinstance(named, str) or not named:
                raise Unreachable("it does not say which issuer its tokens name: set uaa.issuer")
            issuer, keys = named, require_safe("jwks_uri", document.get("jwks_uri", keys))
        return issuer, (await self._web.get(keys)).good()

    async def named(self, username: str, origin: str | None) -> list[Known]:
        """Users with a name, of one origin or of all."""
        condition = f"username eq {_quoted(username)}"
        if origin is not None:
            condition = f"({condition}) and origin eq {_quoted(origin)}"
        return await self._outside.run(self._gate(lambda: self._search(condition)))

    async def numbered(self, guids: Sequence[str]) -> list[Known]:
        """Those of at most `BATCH` users that there are."""
        condition = " or ".join(f"id eq {_quoted(guid)}" for guid in guids)
        return await self._outside.run(self._gate(lambda: self._search(condition)))

    async def make_known(self, username: str, origin: str) -> Known:
        """A user of another identity provider who was never there, as Cloud Foundry makes one for a role."""
        return await self._outside.run(self._gate(lambda: self._make_known(username, origin)))

    async def _search(self, condition: str) -> list[Known]:
        query = f"filter={quote(condition)}&includeInactive=true&count=500"
        body = (await self._asked("GET", f"/ids/Users?{query}")).good()
        return list(_users(body.get("resources")))

    async def _make_known(self, username: str, origin: str) -> Known:
        body = {"userName": username, "origin": origin, "emails": [{"value": username, "primary": True}]}
        answer = await self._asked("POST", "/Users", body)
        made = answer.body or {}
        guid = made.get("id") if answer.status == 201 else made.get("user_id") if answer.status == 409 else None
        if not isinstance(guid, str):
            raise Unreachable(f"it does not make the user {username} of {origin} known: its answer is {answer.status}")
        return Known(guid, username, origin)

    async def client_names(self, client_ids: Collection[str]) -> dict[str, str]:
        """Those of some clients that there are, with their names."""
        return await self._outside.run(self._gate(lambda: self._client_names(client_ids)))

    async def _client_names(self, client_ids: Collection[str]) -> dict[str, str]:
        found = {}
        for client_id in client_ids:
            answer = await self._asked("GET", f"/oauth/clients/{quote(client_id, safe='')}")
            if answer.status != 404:
                name = answer.good().get("name")
                found[client_id] = name if isinstance(name, str) else ""
        return found

    async def change_clients(self, changes: Sequence[Mapping[str, Any]]) -> None:
        """Make, change and remove clients, all or none: each change is a client with its `action`."""
        await self._outside.run(self._gate(lambda: self._change_clients(changes)))

    async def _change_clients(self, changes: Sequence[Mapping[str, Any]]) -> None:
        answer = await self._asked("POST", "/oauth/clients/tx/modify", changes)
        if answer.status not in {200, 201}:
            raise Unreachable(f"its answer is {answer.status}{answer.reason}")

    async def _asked(self, method: str, path: str, body: Any = None) -> Answer:
        """With our client's token; a token that it no longer takes is replaced once."""
        answer = await self._once(method, path, body)
        if answer.status == 401:
            self._token = ""
            answer = await self._once(method, path, body)
        return answer

    async def _once(self, method: str, path: str, body: Any) -> Answer:
        headers = {"Authorization": f"Bearer {await self._own_token()}"}
        if method == "GET":
            return await self._web.get(self.url + path, headers)
        return await self._web.post_json(self.url + path, body, headers)

    async def _own_token(self) -> str:
        if self._token and monotonic() < self._token_until:
            return self._token
        settings = self.settings
        try:
            own = secret(settings.client_secret_file, settings.client_secret_env) or ""
        except ValueError as error:
            raise Unreachable(str(error)) from error
        pair = f"{quote_plus(settings.client_id)}:{quote_plus(own)}".encode()
        # UAA decodes the credentials only when it is told that they are encoded.
        headers = {
            "Authorization": f"Basic {base64.b64encode(pair).decode()}",
            "X-CF-ENCODED-CREDENTIALS": "true",
        }
        form = {"grant_type": "client_credentials", "response_type": "token"}
        body = (await self._web.post_form(f"{self.url}/oauth/token", form, headers)).good()
        token, seconds = body.get("access_token"), body.get("expires_in", 0)
        if not isinstance(token, str) or not token.isascii() or not isinstance(seconds, int):
            raise Unreachable("it gives our client no token")
        self._token, self._token_until = token, monotonic() + max(seconds - 60, 10)
        return token


def _users(listed: Any) -> Iterator[Known]:
    for one in listed if isinstance(listed, list) else ():
        found = [one.get(name) for name in ("id", "userName", "origin")] if isinstance(one, dict) else []
        names = [text for text in found if isinstance(text, str) and 0 < len(text) <= 255]
        if len(names) == 3:
            yield Known(*names)


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
