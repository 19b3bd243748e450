"""What /oauth/token gives for what: one function per grant type."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request

from cupola.store.database import Tx
from cupola.uaa import audit
from cupola.uaa.issue import Client, Login, user_scopes
from cupola.uaa.login import check_password, hinted_origin, logged_in
from cupola.uaa.problems import Problem, bad_request
from cupola.uaa.refresh import refresh
from cupola.uaa.service import Identity

__all__ = ["GRANTS", "Asked"]


@dataclass(frozen=True)
class Asked:
    """A request for a token, by a client that proved who it is."""

    request: Request
    form: dict[str, str]
    client: Client

    @property
    def wanted(self) -> list[str] | None:
        """Scopes asked for; None for all that may be had."""
        return self.form.get("scope", "").split() or None

    @property
    def opaque(self) -> bool:
        return self.form.get("token_format") == "opaque"

    @property
    def source(self) -> audit.Source:
        return audit.Source(self.request, self.client.client_id)

    @property
    def az_attr(self) -> dict[str, Any] | None:
        """Additional claims that the caller asks for, as JSON with strings in it."""
        given = self.form.get("authorities")
        if not given:
            return None
        try:
            found = msgspec.json.decode(given, type=dict[str, dict[str, str]])
        except (msgspec.DecodeError, msgspec.ValidationError):
            return None
        return found.get("az_attr")


async def by_password(identity: Identity, asked: Asked) -> dict[str, Any]:
    """Give a user's token for a name and a password (RFC 6749 section 4.3)."""
    form, source = asked.form, asked.source
    origin = hinted_origin(form.get("login_hint"))
    checked = await check_password(identity, source, form.get("username", ""), form.get("password", ""), origin)

    def work(tx: Tx) -> dict[str, Any]:
        user = logged_in(tx, identity.settings.identity, source, checked)
        scopes = user_scopes(tx, asked.client, user, asked.wanted)
        login = Login("password", tx.now, ("pwd",), opaque=asked.opaque, az_attr=asked.az_attr)
        return identity.issuer.for_user(tx, asked.client, user, login, scopes)

    return await identity.write(work)


async def by_refresh_token(identity: Identity, asked: Asked) -> dict[str, Any]:
    """Give a new access token for a refresh token (RFC 6749 section 6)."""
    token = asked.form.get("refresh_token", "")

    def work(tx: Tx) -> dict[str, Any] | Problem:
        return refresh(tx, identity.issuer, asked.client, token, asked.wanted, identity.lifetime(tx))

    answer = await identity.write(work)
    if isinstance(answer, Problem):
        raise answer
    return answer


async def by_client_credentials(identity: Identity, asked: Asked) -> dict[str, Any]:
    """Give a client a token of its own (RFC 6749 section 4.4)."""
    client = asked.client
    if client.auth_method in {"none", "empty"}:
        raise Problem(401, "invalid_client", "A client without a secret has no token of its own")
    if asked.opaque:
        return await identity.write(lambda tx: identity.issuer.for_client(tx, client, asked.wanted, opaque=True))
    return await identity.read(lambda tx: identity.issuer.for_client(tx, client, asked.wanted))


Grant = Callable[[Identity, Asked], Awaitable[dict[str, Any]]]
GRANTS: dict[str, Grant] = {
    "password": by_password,
    "refresh_token": by_refresh_token,
    "client_credentials": by_client_credentials,
}


def grant(name: str) -> Grant:
    """The function of a grant type. Raises 400."""
    if not name:
        raise bad_request("Missing grant type")
    if name == "implicit":
        raise bad_request("Implicit grant type not supported from token endpoint", "invalid_grant")
    found = GRANTS.get(name)
    if found is None:
        raise bad_request(f"Unsupported grant type: {name[:100]}", "unsupported_grant_type")
    return found
