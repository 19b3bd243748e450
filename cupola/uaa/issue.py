"""Tokens with UAA's claims: access tokens, id tokens and refresh tokens, as rows and as texts."""

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, insert, select

from cupola.config import Settings
from cupola.store import identity
from cupola.store.database import Tx
from cupola.tokens.keys import SigningKeys
from cupola.uaa.problems import bad_token, invalid_scope, unauthorized
from cupola.uaa.revocations import signature
from cupola.uaa.scopes import DEFAULT_GROUPS, audience, covers, granted

__all__ = ["Client", "Issuer", "Login", "user_scopes"]

MICRO = 1_000_000


@dataclass(frozen=True)
class Client:
    """An OAuth2 client that proved who it is. `auth_method`: secret, empty, none (public) or private_key_jwt."""

    client_id: str
    scope: list[str]
    authorities: list[str]
    grant_types: list[str]
    access_seconds: int
    refresh_seconds: int
    generation: int
    allowed_providers: list[str] | None
    required_user_groups: list[str]
    auth_method: str = "secret"


@dataclass(frozen=True)
class Login:
    """How a user came to a token: what stays the same over refreshes. `auth_time` in microseconds since 1970.

    `until` (seconds since 1970) is the end of a token that this one was given for: it does not outlive that.
    """

    grant_type: str
    auth_time: int
    amr: tuple[str, ...] = ()
    nonce: str | None = None
    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    opaque: bool = False
    az_attr: Mapping[str, Any] | None = None
    until: int | None = None


class Issuer:
    """Makes tokens for one platform."""

    def __init__(self, settings: Settings, keys: SigningKeys) -> None:
        self._settings = settings
        self._keys = keys
        self._issuer = f"{settings.uaa_url}/oauth/token"
        self._jku = f"{settings.uaa_url}/token_keys"

    def client(self, row: Row[Any], auth_method: str = "secret") -> Client:
        """A client's row with the platform's defaults."""
        defaults = self._settings.identity
        return Client(
            row.client_id,
            row.scope,
            row.authorities,
            row.grant_types,
            row.access_token_seconds or defaults.access_token_seconds,
            row.refresh_token_seconds or defaults.refresh_token_seconds,
            row.generation,
            row.allowed_providers,
            row.required_user_groups,
            auth_method,
        )

    def for_user(
        self, tx: Tx, client: Client, user: Row[Any], login: Login, scopes: list[str], *, refreshable: bool = True
    ) -> dict[str, Any]:
        """The answer of /oauth/token for a user, with a refresh token where the client may have one."""
        refresh = None
        if refreshable and "refresh_token" in client.grant_types:
            refresh = self.refresh_token(tx, client, user.guid, login, scopes)
        return self.answer(tx, client, user, login, scopes, refresh)

    def for_client(self, tx: Tx, client: Client, wanted: list[str] | None, *, opaque: bool = False) -> dict[str, Any]:
        """The answer for client_credentials. Raises 400 when a scope is wanted that is no authority of the client."""
        scopes = granted(client.authorities, client.authorities)
        if wanted:
            refuse_unknown(wanted, client.authorities)
            scopes = [scope for scope in scopes if scope in wanted]
        claims = {
            **self._common(tx, client, "client_credentials", scopes),
            "sub": client.client_id,
            "authorities": scopes,
            "rev_sig": signature(0, client.generation),
        }
        return _answer(claims, self._written(tx, claims, opaque))

    def answer(
        self, tx: Tx, client: Client, user: Row[Any], login: Login, scopes: list[str], refresh: str | None
    ) -> dict[str, Any]:
        """An access token (and with openid an id token) of a user; `refresh` is handed on."""
        common = self._common(tx, client, login.grant_type, scopes, login.until)
        claims = {**common, **_user_claims(client, user, login)}
        if login.az_attr:
            claims["az_attr"] = login.az_attr
        answer = _answer(claims, self._written(tx, claims, login.opaque))
        if refresh is not None:
            answer["refresh_token"] = refresh
        if "openid" in scopes:
            answer["id_token"] = self._keys.sign(self._id_claims(tx, client, user, login, scopes), self._jku)
        return answer

    def refresh_token(self, tx: Tx, client: Client, user_guid: str, login: Login, scopes: list[str]) -> str:
        """A new refresh token, opaque as UAA's are."""
        token = f"{secrets.token_urlsafe(32)}-r"
        details = {"amr": login.amr, "nonce": login.nonce, "opaque": login.opaque, "az_attr": login.az_attr}
        tx.run(
            insert(identity.refresh_tokens).values(
                digest=identity.digest(token),
                session=login.session,
                user_guid=user_guid,
                client_id=client.client_id,
                scope=scopes,
                grant_type=login.grant_type,
                details={key: value for key, value in details.items() if value},
                auth_time=login.auth_time,
                created_at=tx.now,
                expires_at=tx.now + client.refresh_seconds * MICRO,
            )
        )
        return token

    def opaque_claims(self, tx: Tx, token: str) -> dict[str, Any]:
        """Claims of an opaque access token. Raises 401."""
        table = identity.opaque_tokens
        row = tx.one(select(table).where(table.c.digest == identity.digest(token), table.c.expires_at > tx.now))
        if row is None:
            raise bad_token()
        claims: dict[str, Any] = row.claims
        return claims

    def _written(self, tx: Tx, claims: Mapping[str, Any], opaque: bool) -> str:
        if not opaque:
            return self._keys.sign(dict(claims), self._jku)
        token = secrets.token_urlsafe(32)
        tx.run(
            insert(identity.opaque_tokens).values(
                digest=identity.digest(token),
                jti=claims["jti"],
                user_guid=claims.get("user_id"),
                client_id=claims["client_id"],
                claims=claims,
                expires_at=claims["exp"] * MICRO,
            )
        )
        return token

    def _common(
        self, tx: Tx, client: Client, grant_type: str, scopes: list[str], until: int | None = None
    ) -> dict[str, Any]:
        now = tx.now // MICRO
        end = now + client.access_seconds
        claims = {
            "jti": uuid.uuid4().hex,
            "iat": now,
            "exp": end if until is None else min(end, until),
            "iss": self._issuer,
            "zid": "uaa",
            "scope": scopes,
            "client_id": client.client_id,
            "cid": client.client_id,
            "azp": client.client_id,
            "grant_type": grant_type,
            "aud": audience(scopes, client.client_id),
            # Every token of ours can be revoked; `cf logout` only does so when it reads this.
            "revocable": True,
        }
        if client.auth_method in {"none", "private_key_jwt"}:
            claims["client_auth_method"] = client.auth_method
        return claims

    def _id_claims(self, tx: Tx, client: Client, user: Row[Any], login: Login, scopes: list[str]) -> dict[str, Any]:
        now = tx.now // MICRO
        claims = {
            **_user_claims(client, user, login),
            "jti": uuid.uuid4().hex,
            "iat": now,
            "exp": min(now + client.access_seconds, login.until or now + client.access_seconds),
            "iss": self._issuer,
            "zid": "uaa",
            "aud": [client.client_id],
            "azp": client.client_id,
            "client_id": client.client_id,
            "given_name": user.given_name,
            "family_name": user.family_name,
            "email_verified": user.verified,
            "phone_number": user.phone_number,
            "previous_logon_time": None if user.previous_login_at is None else user.previous_login_at // 1000,
        }
        if "roles" in scopes:
            claims["roles"] = sorted(identity.groups_of(tx, user.guid) | DEFAULT_GROUPS)
        if "user_attributes" in scopes:
            claims["user_attributes"] = user.attributes
        return {key: value for key, value in claims.items() if value is not None}


def _answer(claims: Mapping[str, Any], token: str) -> dict[str, Any]:
    return {
        "access_token": token,
        "token_type": "bearer",
        "expires_in": claims["exp"] - claims["iat"],
        "scope": " ".join(claims["scope"]),
        "jti": claims["jti"],
    }


def _user_claims(client: Client, user: Row[Any], login: Login) -> dict[str, Any]:
    claims = {
        "sub": user.guid,
        "user_id": user.guid,
        "user_name": user.username,
        "email": user.email,
        "origin": user.origin,
        "auth_time": login.auth_time // MICRO,
        "rev_sig": signature(user.generation, client.generation),
        "sid": login.session,
    }
    if login.amr:
        claims["amr"] = list(login.amr)
    if login.nonce:
        claims["nonce"] = login.nonce
    return claims


def refuse_unknown(wanted: list[str], allowed: list[str]) -> None:
    """Raises 400 when a scope is asked for that a client does not have."""
    unknown = [scope for scope in wanted if not any(covers(pattern, scope) for pattern in allowed)]
    if unknown:
        raise invalid_scope(f"Invalid scope: {' '.join(unknown)}", " ".join(allowed))


def user_scopes(tx: Tx, client: Client, user: Row[Any], wanted: list[str] | None) -> list[str]:
    """Scopes that a user's token for a client has: what both may. Raises 400, 401."""
    if client.allowed_providers is not None and user.origin not in client.allowed_providers:
        raise unauthorized("Client is not authorized for specified user's identity provider.")
    groups = identity.groups_of(tx, user.guid) | DEFAULT_GROUPS
    if not groups.issuperset(client.required_user_groups):
        raise invalid_scope("User does not meet the client's required group criteria.", " ".join(client.scope))
    if wanted:
        refuse_unknown(wanted, client.scope)
    scopes = granted(client.scope, groups if not wanted else groups.intersection(wanted))
    if not scopes:
        shown = " ".join(wanted or client.scope)
        raise invalid_scope(f"[{shown}] is invalid. This user is not allowed any of the requested scopes", shown)
    return scopes
