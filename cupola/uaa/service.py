"""The identity server's parts, connected: keys, clients, users, revocations; what the controller is given."""

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from joserfc.errors import JoseError
from sqlalchemy import select

from cupola import clock
from cupola.config import Settings
from cupola.roles import Actor
from cupola.secrets.generated import create_private, password
from cupola.store import identity
from cupola.store.database import Database, Tx
from cupola.tokens.authenticate import API, Authenticator
from cupola.tokens.keys import SigningKeys
from cupola.uaa import first_start
from cupola.uaa.issue import Issuer
from cupola.uaa.outside import Outside
from cupola.uaa.passwords import Passwords
from cupola.uaa.problems import bad_token, too_busy
from cupola.uaa.providers import Providers
from cupola.uaa.refresh import end_session
from cupola.uaa.revocations import Revocations, pair

__all__ = ["Identity"]

T = TypeVar("T")
_HASHERS = 2
"""Passwords that are hashed at the same time: more would only take the processor from everybody else."""
_WAITING = 100
"""Passwords that may wait for that; more are refused at once, so that a flood does not make everybody wait."""
_THREADS = 4


class Identity:
    """One per controller. `ensure` before use."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.issuer_url = f"{settings.uaa_url}/oauth/token"
        directory = settings.data_dir / "keys"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.keys = SigningKeys(directory / "signing.json")
        self.csrf_key = create_private(directory / "csrf.key", password(43).encode())
        self.passwords = Passwords(settings.identity.shared_secret_argon2_memory_kib)
        self.issuer = Issuer(settings, self.keys)
        self.revocations = Revocations(database)
        self.outside = Outside()
        self.providers = Providers(settings, self.outside)
        self._authenticator = Authenticator(self.keys, self.issuer_url, self.revocations.concern)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="identity")
        self._hashing = 0
        self._hashers = ThreadPoolExecutor(_HASHERS, thread_name_prefix="passwords")

    def ensure(self, tx: Tx) -> None:
        """The groups, the clients and the first user of a new platform. Safe at every start. Raises ConfigError."""
        self.providers.check()
        first_start.ensure(tx, self.settings, self.passwords)

    def close(self) -> None:
        """Stop the threads."""
        self.outside.close()
        self._threads.shutdown()
        self._hashers.shutdown()

    def authenticate(self, header: str | None, audiences: Collection[str] = API) -> Actor:
        """The actor behind an Authorization header whose token is meant for one of `audiences`. Raises 401."""
        return self._authenticator.authenticate(header, clock.seconds(), audiences)

    def claims(self, token: str) -> dict[str, Any]:
        """Claims of one of our access tokens, signed or opaque, that is good now. Raises 401. Blocking."""
        if token.count(".") == 2:
            claims = self.signed_claims(token)
        else:
            with self.database.read() as tx:
                claims = self.issuer.opaque_claims(tx, token)
        if not isinstance(claims.get("scope"), list) or str(claims.get("jti", "-r")).endswith("-r"):
            raise bad_token("The token is no access token.")
        return claims

    def signed_claims(self, token: str) -> dict[str, Any]:
        """Claims of any of our signed tokens that is good now: an access or an id token. Raises 401. Blocking."""
        try:
            claims = self.keys.verify(token)
        except (JoseError, ValueError, TypeError):
            raise bad_token("The token is malformed or was signed by somebody else.") from None
        now = clock.seconds()
        exp, nbf = claims.get("exp"), claims.get("nbf", 0)
        if claims.get("iss") != self.issuer_url:
            raise bad_token("The token was issued by another server.")
        if not isinstance(exp, int) or not isinstance(nbf, int) or exp <= now:
            raise bad_token("Token has expired")
        if nbf > now:
            raise bad_token("The token is not valid yet.")
        if self.revocations.concern(claims):
            raise bad_token()
        return claims

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Do `work` with a connection that reads, on a thread."""

        def run() -> T:
            with self.database.read() as tx:
                return work(tx)

        return await self.thread(run)

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Do `work` in one transaction, on a thread."""

        def run() -> T:
            with self.database.write() as tx:
                return work(tx)

        return await self.thread(run)

    async def thread(self, work: Callable[[], T]) -> T:
        """Do blocking `work` on a thread of the identity server."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def hashing(self, work: Callable[[], T]) -> T:
        """Do `work` that hashes a password: few at a time, and none in the way of other requests. Raises 503."""
        if self._hashing >= _WAITING:
            raise too_busy("logins")
        self._hashing += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._hashers, work)
        finally:
            self._hashing -= 1

    def lifetime(self, tx: Tx) -> int:
        """Microseconds for which any access token is good."""
        return identity.longest_access(tx, self.settings.identity.access_token_seconds)

    def rotate_keys(self) -> str:
        """Sign with a new key from now on; returns its id. Old keys verify until their last token has ended."""
        with self.database.read() as tx:
            return self.keys.rotate(self.lifetime(tx) / 1_000_000)

    def revoke_user(self, tx: Tx, guid: str) -> None:
        """End all sessions of a user: access tokens, refresh tokens, codes and browsers."""
        identity.new_generation(tx, "user", guid, self.lifetime(tx))
        identity.forget_sessions(tx, user_guid=guid)

    def revoke_client(self, tx: Tx, client_id: str) -> None:
        """End all sessions that a client has."""
        identity.new_generation(tx, "client", client_id, self.lifetime(tx))
        identity.forget_sessions(tx, client_id=client_id)

    def revoke_pair(self, tx: Tx, guid: str, client_id: str) -> None:
        """End the sessions that a client has for a user."""
        lifetime, table = self.lifetime(tx), identity.refresh_tokens
        both = table.c.user_guid == guid, table.c.client_id == client_id
        for session in set(tx.scalars(select(table.c.session).where(*both))):
            end_session(tx, session, lifetime)
        identity.forget_sessions(tx, user_guid=guid, client_id=client_id)
        until = tx.now // 1_000_000
        identity.revoke(tx, "pair", pair(guid, client_id), expires_at=tx.now + lifetime, generation=until)
