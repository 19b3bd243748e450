"""`identity.mode = external`: another UAA has the users and gives the tokens; this platform believes its signatures.

Its keys are in memory and in a file, so that neither a restart nor a pause of that server ends anybody's work. Names of
users are kept in the table `identities` as they were last seen: in tokens, and in answers to questions that are asked
before a role is given by name, and now and then for those whose name is not known.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import delete, or_, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from cupola import clock
from cupola.config import ConfigError, Settings
from cupola.errors import CloudError
from cupola.providers import secret
from cupola.roles import Actor
from cupola.secrets.generated import write_private
from cupola.store import identity as tables
from cupola.store.database import Database, Tx
from cupola.store.orgs import users
from cupola.tokens.authenticate import API, Authenticator, KeysUnavailable
from cupola.uaa.foreign_keys import ForeignKeys, UnknownKey
from cupola.uaa.outside import Outside, Unreachable
from cupola.uaa.remote import BATCH, Known, Remote

__all__ = ["ExternalIdentity"]

log = logging.getLogger(__name__)
T = TypeVar("T")
WAITERS = 2
"""Requests that wait for keys at once: each holds a thread of the API."""
_PERIOD = 2.0
"""Seconds after which names from tokens are written down."""
_OLD = 86_400 * 1_000_000
"""Microseconds after which a name is looked up again."""
_ROUND = 20
"""Batches of names that are looked up at a time."""


class _Kept(msgspec.Struct):
    """The file with the keys; `at` in seconds since 1970."""

    url: str
    issuer: str
    jwks: dict[str, Any]
    at: float


class ExternalIdentity:
    """One per controller, in place of Identity."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.outside = Outside()
        self.remote = Remote(settings.uaa, self.outside)
        self.issuer = settings.uaa.issuer
        self._file = settings.data_dir / "keys" / "external.json"
        self._keys = ForeignKeys(self._fetch, settings.uaa.timeout_seconds, settings.uaa.refresh_seconds)
        self._authenticator = Authenticator(self, None, lambda claims: False, self._note)
        self._waiters = threading.Semaphore(WAITERS)
        self._guard = threading.Lock()
        self._seen: dict[str, Known] = {}
        self._told: dict[str, Known] = {}
        self._absent: dict[str, int] = {}
        self._last: Mapping[str, Any] = {}
        self._take_file()

    def ensure(self, tx: Tx) -> None:
        """Nothing is made: users, groups and clients are there. Raises ConfigError when the secret cannot be read."""
        uaa = self.settings.uaa
        try:
            secret(uaa.client_secret_file, uaa.client_secret_env)
        except ValueError as error:
            raise ConfigError(f"uaa: {error}") from error

    def close(self) -> None:
        """Stop the thread."""
        self.outside.close()

    def authenticate(self, header: str | None, audiences: Collection[str] = API) -> Actor:
        """The actor behind an Authorization header whose token is meant for one of `audiences`. Raises 401, 503.
        Blocking, for as long as uaa.timeout_seconds when the token's key is not known."""
        return self._authenticator.authenticate(header, clock.seconds(), audiences)

    # Keys

    def verify(self, token: str) -> dict[str, Any]:
        """Claims of a token that the server signed. Raises ValueError, JoseError, KeysUnavailable."""
        try:
            claims = self._keys.verify(token)
        except UnknownKey:
            self._wait_for_keys()
            claims = self._keys.verify(token)
        if claims.get("iss") != self.issuer:
            raise ValueError("the token is of another issuer")
        return claims

    def _wait_for_keys(self) -> None:
        if self._keys.just_asked and self._keys.known and not self._keys.is_stale:
            return
        if not self._waiters.acquire(blocking=False):
            raise KeysUnavailable("The keys of the identity server are being fetched. Try again in a few seconds.")
        try:
            # A bit longer than the fetch itself may take, which ends with the better error.
            self.outside.wait(self._keys.refresh(), self.settings.uaa.timeout_seconds + 1)
        except (Unreachable, TimeoutError) as error:
            if not self._keys.known or self._keys.is_stale:
                raise KeysUnavailable(
                    f"The identity server {self.remote.url} does not answer at the moment."
                ) from error
        finally:
            self._waiters.release()

    async def _fetch(self) -> Mapping[str, Any]:
        issuer, jwks = await self.remote.described()
        self._use(issuer, jwks)
        write_private(self._file, msgspec.json.encode(_Kept(self.remote.url, issuer, dict(jwks), clock.seconds())))
        return jwks

    def _use(self, issuer: str, jwks: Mapping[str, Any]) -> None:
        changed = bool(self._last) and jwks != self._last
        self.issuer, self._last = issuer, jwks
        if changed:
            # What a key signed that is gone must not live on in the cache.
            self._authenticator.forget()

    def _take_file(self) -> None:
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=_Kept)
            if kept.url == self.remote.url and self.settings.uaa.issuer in {"", kept.issuer}:
                self._keys.take(kept.jwks, max(clock.seconds() - kept.at, 0.0))
                self._use(kept.issuer, kept.jwks)
        except (OSError, msgspec.DecodeError, Unreachable):
            # There is none, or none that helps: the keys are fetched when they are needed.
            return

    # Names

    def _note(self, actor: Actor) -> None:
        """A token told of a user."""
        if actor.is_client or not actor.name:
            return
        known = Known(actor.guid, actor.name, actor.origin)
        with self._guard:
            if self._told.get(actor.guid) != known:
                self._seen[actor.guid] = known

    async def run(self) -> None:
        """Write down whom tokens told of, look at the keys and for missing names, for ever."""
        due = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.to_thread(self._flush)
            if loop.time() >= due:
                due = loop.time() + self.settings.uaa.refresh_seconds
                await self._look_again()
            await asyncio.sleep(_PERIOD)

    def _flush(self) -> None:
        with self._guard:
            seen, self._seen = self._seen, {}
        if not seen:
            return
        try:
            self._written(lambda tx: _learn(tx, seen.values()))
        except DBAPIError:
            with self._guard:
                self._seen = {**seen, **self._seen}
            raise
        with self._guard:
            self._told.update(seen)
            while len(self._told) > 10_000:
                self._told.pop(next(iter(self._told)))

    def _written(self, work: Callable[[Tx], T]) -> T:
        for attempt in (1, 2, 3):
            try:
                with self.database.write() as tx:
                    return work(tx)
            except IntegrityError:
                # Another controller learns the same at this moment.
                if attempt == 3:
                    raise
        raise AssertionError("unreachable")

    async def _look_again(self) -> None:
        try:
            await self.outside.run(self._keys.refresh())
            for _ in range(_ROUND):
                wanted = await asyncio.to_thread(self._nameless)
                if not wanted:
                    return
                found = await self.remote.numbered(wanted)
                await asyncio.to_thread(self._learn_numbered, wanted, found)
        except Unreachable as error:
            log.warning("names and keys are not up to date: %s", error)

    def _nameless(self) -> list[str]:
        """Users of the API whose name is not known, or was learnt long ago."""
        names, day = tables.identities.c, clock.micros() - _OLD
        query = select(users.c.guid).outerjoin(tables.identities, names.guid == users.c.guid)
        old = or_(names.guid.is_(None), names.updated_at < day)
        with self.database.read() as tx:
            found = tx.scalars(query.where(users.c.is_client.is_(False), old).order_by(users.c.guid))
        return [guid for guid in found if self._absent.get(guid, 0) < day][:BATCH]

    def _learn_numbered(self, wanted: Sequence[str], found: Sequence[Known]) -> None:
        missing = set(wanted) - {one.guid for one in found}

        def work(tx: Tx) -> None:
            _learn(tx, found)
            if missing:
                tx.run(delete(tables.identities).where(tables.identities.c.guid.in_(missing)))

        self._written(work)
        # Clients are not among the users: who is not there is not asked for again for a day.
        self._absent.update(dict.fromkeys(missing, clock.micros()))

    async def find(self, username: str, origin: str | None, *, make: bool = False) -> None:
        """Learn who has a name there, before something is done by that name. With `make` (and an origin other than uaa)
        who is not known is made known. Raises CF-UaaUnavailable."""
        if not 0 < len(username) <= 255:
            return
        try:
            found = await self.remote.named(username, origin)
            if make and not found and origin is not None and origin != "uaa":
                found = [await self.remote.make_known(username, origin)]
        except Unreachable as error:
            raise unavailable() from error

        def work(tx: Tx) -> None:
            tables.forget_named(tx, username, origin, {one.guid for one in found})
            _learn(tx, found)

        await asyncio.to_thread(self._written, work)

    async def identify(self, guid: str) -> None:
        """Learn the name of a user, if there is one. Raises CF-UaaUnavailable."""
        try:
            found = await self.remote.numbered([guid])
        except Unreachable as error:
            raise unavailable() from error
        await asyncio.to_thread(self._learn_numbered, [guid], found)

    # Clients of dashboards (cupola/brokers/dashboards.py)

    async def keep(self, clients: Collection[Mapping[str, Any]], own: Collection[str]) -> list[str]:
        """Make clients, or change them when they are in `own` or have the name that they are to have. Gives the ids
        that somebody else has; then nothing was done. Raises CF-ServiceBrokerDashboardClientFailure."""
        try:
            there = await self.remote.client_names([one["client_id"] for one in clients])
            ours = {one["client_id"] for one in clients if one["name"] == there.get(one["client_id"])} | set(own)
            taken = sorted(set(there) - ours)
            changes = [{**one, "action": "update,secret" if one["client_id"] in there else "add"} for one in clients]
            if not taken:
                await self.remote.change_clients(changes)
        except Unreachable as error:
            raise self._not_changed(error) from error
        return taken

    async def remove(self, client_id: str) -> None:
        """Remove a client, if it is there. Raises CF-ServiceBrokerDashboardClientFailure."""
        try:
            if await self.remote.client_names([client_id]):
                await self.remote.change_clients([{"client_id": client_id, "action": "delete"}])
        except Unreachable as error:
            raise self._not_changed(error) from error

    def _not_changed(self, error: Unreachable) -> CloudError:
        text = f"{error}. Clients there are changed by {self.settings.uaa.client_id}, which needs clients.admin"
        detail = f"Service broker dashboard clients could not be modified: {self.remote.url}: {text}"
        return CloudError(270013, "CF-ServiceBrokerDashboardClientFailure", 502, detail)


def _learn(tx: Tx, found: Iterable[Known]) -> None:
    for one in found:
        tables.learn(tx, one.guid, one.username, one.origin)


def unavailable() -> CloudError:
    """That server is down."""
    return CloudError(20004, "CF-UaaUnavailable", 503, "The UAA service is currently unavailable")
