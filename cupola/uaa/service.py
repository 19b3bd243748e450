"""The identity server's parts, connected: keys, clients, users, revocations; what the controller is given."""

import secrets
import threading
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import delete, insert, select, update

from cupola import clock
from cupola.config import Settings
from cupola.roles import Actor
from cupola.secrets.generated import create_private
from cupola.store import identity
from cupola.store.database import Database, Tx
from cupola.tokens.authenticate import Authenticator
from cupola.tokens.keys import SigningKeys
from cupola.uaa.issue import Issuer
from cupola.uaa.passwords import Passwords
from cupola.uaa.scopes import ADMIN_GROUPS, CLIENTS

__all__ = ["Identity"]

_YEAR = 366 * 86_400 * 1_000_000


class Identity:
    """One per controller. `ensure` before use."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        directory = settings.data_dir / "keys"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.keys = SigningKeys(directory / "signing.json")
        self.passwords = Passwords(settings.identity.shared_secret_argon2_memory_kib)
        self.issuer = Issuer(settings, self.keys)
        self._authenticator = Authenticator(self.keys, f"{settings.uaa_url}/oauth/token", self.is_revoked)
        self._revoked: dict[tuple[str, str], int] = {}
        self._guard = threading.Lock()
        database.bells.on_ring(self._rung)
        self._stale = True

    def authenticate(self, header: str | None) -> Actor:
        """The actor behind an Authorization header. Raises 401."""
        return self._authenticator.authenticate(header, clock.seconds())

    def _rung(self, bell: str) -> None:
        if bell == "revocations":
            self._stale = True

    def is_revoked(self, claims: Mapping[str, Any]) -> bool:
        """Whether a token is no longer good; from memory, read again after a change."""
        if self._stale:
            with self._guard:
                if self._stale:
                    self._stale = False
                    self._revoked = self._read()
        if not self._revoked:
            return False
        if ("jti", str(claims.get("jti"))) in self._revoked:
            return True
        issued = int(claims.get("iat", 0)) * 1_000_000
        for kind, claim in (("user", "user_id"), ("client", "client_id")):
            at = self._revoked.get((kind, str(claims.get(claim))))
            # A token of the same second was issued before the revocation, or right after it: it is refused either way.
            if at is not None and issued <= at:
                return True
        return False

    def _read(self) -> dict[tuple[str, str], int]:
        with self.database.read() as tx:
            found = tx.all(select(identity.revocations).where(identity.revocations.c.expires_at > tx.now))
        return {(row.kind, row.id): row.at for row in found}

    def revoke_token(self, tx: Tx, claims: Mapping[str, Any]) -> None:
        """End one session: the access token, and the refresh token that belongs to it."""
        identity.revoke(tx, "jti", str(claims["jti"]), int(claims["exp"]) * 1_000_000)
        session = claims.get("sid")
        if session is not None:
            tx.run(delete(identity.refresh_tokens).where(identity.refresh_tokens.c.jti == session))
        tx.run(delete(identity.revocations).where(identity.revocations.c.expires_at <= tx.now))

    def revoke_user(self, tx: Tx, guid: str) -> None:
        """End all sessions of a user."""
        identity.revoke(tx, "user", guid, tx.now + _YEAR)
        tx.run(delete(identity.refresh_tokens).where(identity.refresh_tokens.c.user_guid == guid))

    def ensure(self, tx: Tx) -> None:
        """The clients and the first user, with the credentials of the platform's files. Safe at every start."""
        self._ensure_clients(tx)
        self._ensure_admin(tx)

    def _ensure_clients(self, tx: Tx) -> None:
        made = {name: secrets.token_urlsafe(24) for name in CLIENTS if name != "cf"}
        file = self.settings.data_dir / "keys" / "clients.json"
        kept: dict[str, str] = msgspec.json.decode(create_private(file, msgspec.json.encode(made)))
        known = set(tx.scalars(select(identity.oauth_clients.c.client_id)))
        for name, described in CLIENTS.items():
            values = {"redirect_uris": [], "autoapprove": [], **described, "updated_at": tx.now}
            if name in known:
                tx.run(update(identity.oauth_clients).where(identity.oauth_clients.c.client_id == name).values(values))
                continue
            secret = "" if name == "cf" else kept[name]
            values["secret_hashes"] = [self.passwords.hash(secret)]
            tx.run(insert(identity.oauth_clients).values(client_id=name, **values))

    def _ensure_admin(self, tx: Tx) -> None:
        file = self.settings.data_dir / "credentials.json"
        if not file.exists():
            return
        admin = msgspec.json.decode(file.read_bytes())["admin"]
        found = identity.find_users(tx, admin["username"], "uaa")
        if found:
            return
        guid = identity.create_user(tx, admin["username"], password_hash=self.passwords.hash(admin["password"]))
        identity.add_to_groups(tx, guid, ADMIN_GROUPS)
