"""Tokens: issued with UAA's claims (reference/uaa.md section 3), refreshed, revoked."""

import hashlib
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select

from cupola.config import Settings
from cupola.store import identity
from cupola.store.database import Tx
from cupola.tokens.keys import SigningKeys
from cupola.uaa.problems import Problem, bad_credentials
from cupola.uaa.scopes import DEFAULT_GROUPS, audience

__all__ = ["Client", "Issuer"]

_MICRO = 1_000_000


@dataclass(frozen=True)
class Client:
    """An OAuth2 client that proved who it is."""

    client_id: str
    scope: list[str]
    authorities: list[str]
    grant_types: list[str]
    access_seconds: int
    refresh_seconds: int


class Issuer:
    """Makes tokens for one platform."""

    def __init__(self, settings: Settings, keys: SigningKeys) -> None:
        self._settings = settings
        self._keys = keys
        self._issuer = f"{settings.uaa_url}/oauth/token"
        self._jku = f"{settings.uaa_url}/token_keys"

    def client(self, row: Row[Any]) -> Client:
        """A client's row with the platform's defaults."""
        identity_settings = self._settings.identity
        return Client(
            row.client_id,
            row.scope,
            row.authorities,
            row.grant_types,
            row.access_token_seconds or identity_settings.access_token_seconds,
            row.refresh_token_seconds or identity_settings.refresh_token_seconds,
        )

    def for_user(
        self, tx: Tx, client: Client, user: Row[Any], grant_type: str, wanted: list[str] | None
    ) -> dict[str, Any]:
        """The answer of /oauth/token for a user, with a refresh token where the client may have one."""
        scopes = self._user_scopes(tx, client, user, wanted)
        jti = uuid.uuid4().hex
        refresh = None
        session = None
        if "refresh_token" in client.grant_types:
            refresh, session = self._refresh_token(tx, client, user, scopes, grant_type)
        claims = self._user_claims(tx, client, user, scopes, grant_type, jti, tx.now // _MICRO, session)
        return self._answer(client, claims, refresh)

    def refreshed(self, tx: Tx, client: Client, token: str, wanted: list[str] | None) -> dict[str, Any]:
        """The answer for a refresh token, which stays the same. Raises 401 when it is no longer good."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        row = tx.one(select(identity.refresh_tokens).where(identity.refresh_tokens.c.digest == digest))
        bad = Problem(401, "invalid_token", "The refresh token is invalid, expired or revoked: log in again.")
        if row is None or row.client_id != client.client_id or row.expires_at <= tx.now:
            raise bad
        user = tx.one(select(identity.identities).where(identity.identities.c.guid == row.user_guid))
        if user is None or not user.active:
            raise bad
        if wanted is not None and not set(wanted) <= set(row.scope):
            raise Problem(
                400, "invalid_scope", "Unable to narrow the scope of the user authentication to " + " ".join(wanted)
            )
        allowed = self._user_scopes(tx, client, user, None)
        scopes = [scope for scope in (wanted or row.scope) if scope in allowed]
        jti = uuid.uuid4().hex
        auth_time = row.auth_time // _MICRO
        claims = self._user_claims(tx, client, user, scopes, row.grant_type, jti, auth_time, row.jti)
        return self._answer(client, claims, token)

    def for_client(self, tx: Tx, client: Client, wanted: list[str] | None) -> dict[str, Any]:
        """The answer for client_credentials."""
        scopes = [scope for scope in client.authorities if scope != "uaa.none"]
        if wanted:
            _refuse_unknown(wanted, scopes)
            scopes = [scope for scope in scopes if scope in wanted]
        now = tx.now // _MICRO
        claims = {
            **self._common(client, "client_credentials", uuid.uuid4().hex, now, scopes),
            "sub": client.client_id,
            "authorities": scopes,
        }
        return self._answer(client, claims, None)

    def _user_scopes(self, tx: Tx, client: Client, user: Row[Any], wanted: list[str] | None) -> list[str]:
        groups = identity.groups_of(tx, user.guid) | DEFAULT_GROUPS
        if wanted:
            _refuse_unknown(wanted, client.scope)
        scopes = sorted(set(client.scope) & groups)
        if wanted:
            scopes = [scope for scope in scopes if scope in wanted]
        if not scopes:
            shown = " ".join(wanted or client.scope)
            raise Problem(
                400,
                "invalid_scope",
                f"[{shown}] is invalid. This user is not allowed any of the requested scopes",
                scope=shown,
            )
        return scopes

    def _refresh_token(
        self, tx: Tx, client: Client, user: Row[Any], scopes: list[str], grant_type: str
    ) -> tuple[str, str]:
        token, jti = f"{secrets.token_urlsafe(32)}-r", f"{uuid.uuid4().hex}-r"
        table = identity.refresh_tokens
        tx.run(delete(table).where(table.c.expires_at <= tx.now))
        tx.run(
            insert(table).values(
                digest=hashlib.sha256(token.encode()).hexdigest(),
                jti=jti,
                user_guid=user.guid,
                client_id=client.client_id,
                scope=scopes,
                grant_type=grant_type,
                auth_time=tx.now,
                expires_at=tx.now + client.refresh_seconds * _MICRO,
            )
        )
        return token, jti

    def _common(self, client: Client, grant_type: str, jti: str, now: int, scopes: list[str]) -> dict[str, Any]:
        return {
            "jti": jti,
            "iat": now,
            "exp": now + client.access_seconds,
            "iss": self._issuer,
            "zid": "uaa",
            "scope": scopes,
            "client_id": client.client_id,
            "cid": client.client_id,
            "azp": client.client_id,
            "grant_type": grant_type,
            "aud": audience(scopes, client.client_id),
            # Lets `cf logout` know that there is something to revoke.
            "revocable": True,
        }

    def _user_claims(
        self,
        tx: Tx,
        client: Client,
        user: Row[Any],
        scopes: list[str],
        grant_type: str,
        jti: str,
        auth_time: int,
        session: str | None,
    ) -> dict[str, Any]:
        seed = f"{user.guid}:{user.password_changed_at}:{user.email}:{client.client_id}"
        claims = {
            **self._common(client, grant_type, jti, tx.now // _MICRO, scopes),
            "sub": user.guid,
            "user_id": user.guid,
            "user_name": user.username,
            "email": user.email,
            "origin": user.origin,
            "auth_time": auth_time,
            "rev_sig": hashlib.sha256(seed.encode()).hexdigest()[:8],
        }
        if session is not None:
            claims["sid"] = session
        return claims

    def _answer(self, client: Client, claims: Mapping[str, Any], refresh: str | None) -> dict[str, Any]:
        answer = {
            "access_token": self._keys.sign(dict(claims), self._jku),
            "token_type": "bearer",
            "expires_in": client.access_seconds,
            "scope": " ".join(claims["scope"]),
            "jti": claims["jti"],
        }
        if refresh is not None:
            answer["refresh_token"] = refresh
        return answer


def _refuse_unknown(wanted: list[str], allowed: list[str]) -> None:
    unknown = [scope for scope in wanted if scope not in allowed]
    if unknown:
        raise Problem(400, "invalid_scope", f"Invalid scope: {' '.join(unknown)}", scope=" ".join(allowed))


def require_grant(client: Client, grant_type: str) -> None:
    """Raises 401 when the client may not use a grant type."""
    if grant_type not in client.grant_types:
        raise bad_credentials(f"Unauthorized grant type: {grant_type}", "invalid_client")
