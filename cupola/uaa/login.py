"""Logging in with a name and a password: one answer for every wrong pair, and a lock after too many of them.

Names of nobody are hashed, counted and locked like those of users, so that nothing here tells who exists. Who does not
say where the password is kept is looked for here first, then in the directories that are configured.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgspec
from sqlalchemy import Row, delete, select, update
from sqlalchemy.exc import IntegrityError

from cupola.config import Identity as Settings
from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit, shadow
from cupola.uaa.outside import Unreachable
from cupola.uaa.passwords import MOST
from cupola.uaa.problems import Problem, bad_client, provider_down, unauthorized
from cupola.uaa.profiles import Profile, Refused
from cupola.uaa.service import Identity

__all__ = [
    "LOCKED",
    "Checked",
    "check_password",
    "count_failure",
    "hinted_origin",
    "logged_in",
    "refuse_locked",
    "refused",
    "taken_in",
    "unlock",
]

MICRO = 1_000_000
LOCKED = "Your account has been locked because of too many failed attempts to login."
"""The CLI compares this sentence."""
CHANGE_REQUIRED = "password change required"
_ATTEMPTS = 3


@dataclass(frozen=True)
class Checked:
    """A user whose password was right; `rehashed` replaces a hash of an older kind. `origins` are those that were asked:
    the wrong passwords that they counted for `name` are forgotten."""

    user: Row[Any]
    name: str
    rehashed: str | None = None
    origins: Sequence[str] = ("uaa",)


async def check_password(
    identity: Identity,
    source: audit.Source,
    username: str,
    password: str,
    origin: str | None = None,
    *,
    allowed: Sequence[str] | None = None,
    change_required: bool = False,
) -> Checked:
    """The user with this name and password. Raises 401 (wrong, locked), 403 (not verified), 503 (the provider does not
    answer), and 401 when the user must choose a new password first, unless `change_required` says that this is what will
    happen. `allowed` are the origins that the client takes users of."""
    if len(username) > MOST or len(password) > MOST:
        raise bad_client()
    origins = _origins(identity, origin, allowed)
    open_origins = await identity.read(lambda tx: _not_locked(tx, identity.settings.identity, username, origins))
    if not open_origins:
        raise unauthorized(LOCKED)
    known: Row[Any] | None = None
    down: Problem | None = None
    wrong: list[str] = []
    for one in open_origins:
        if one == "uaa":
            known, checked = await _compared(identity, username, password)
            if checked is not None:
                _require_usable(checked.user, change_required)
                return Checked(checked.user, username, checked.rehashed, origins)
            wrong.append(one)
            continue
        try:
            user = await _asked(identity, source, one, username, password)
        except Problem as problem:
            if problem.status != 503:
                raise
            down = problem
            continue
        if user is not None:
            return Checked(user, username, None, origins)
        wrong.append(one)
    settings = identity.settings.identity

    def count(tx: Tx) -> bool:
        locked = [count_failure(tx, settings, source, username, known, one) for one in wrong]
        return bool(locked) and all(locked)

    if await identity.write(count):
        # Others guessed at the same time, and enough of them: whether this guess was right is not said any more.
        raise unauthorized(LOCKED)
    raise down or bad_client()


def _origins(identity: Identity, origin: str | None, allowed: Sequence[str] | None) -> Sequence[str]:
    """Where the password may be kept, in the order in which it is tried. Raises 401."""
    providers = identity.providers
    if origin is not None:
        if allowed is not None and origin not in allowed:
            raise unauthorized("Client is not authorized for specified user's identity provider.")
        if not providers.takes_passwords(origin):
            raise unauthorized(
                "The origin provided in the login_hint does not match an active Identity Provider, "
                "that supports password grant."
            )
        return [origin]
    found = [one for one in ("uaa", *providers.ldap) if allowed is None or one in allowed]
    if not found:
        found = [one for one in providers.oidc if providers.takes_passwords(one) and one in (allowed or ())]
    if not found:
        raise unauthorized("The client is not authorized for any identity provider that supports password grant.")
    return found


def _not_locked(tx: Tx, settings: Settings, username: str, origins: Sequence[str]) -> list[str]:
    return [one for one in origins if not is_locked(tx, settings, username, one)]


async def _compared(identity: Identity, username: str, password: str) -> tuple[Row[Any] | None, Checked | None]:
    """The user of this name whose password is kept here, and the same again if it is right and the user active."""
    found = await identity.read(lambda tx: tables.find_users(tx, username, "uaa"))
    user = found[0] if found else None
    kept = None if user is None else user.password_hash

    def compare() -> tuple[bool, str | None]:
        good = identity.passwords.matches(password, kept)
        rehash = good and kept is not None and identity.passwords.is_old(kept)
        return good, identity.passwords.hash(password) if rehash else None

    good, rehashed = await identity.hashing(compare)
    return user, Checked(user, username, rehashed) if user is not None and good and user.active else None


def _require_usable(user: Row[Any], change_required: bool) -> None:
    if not user.verified:
        raise Problem(403, "access_denied", "Account not verified")
    if user.password_change_required and not change_required:
        raise unauthorized(CHANGE_REQUIRED)


async def _asked(
    identity: Identity, source: audit.Source, origin: str, username: str, password: str
) -> Row[Any] | None:
    """The user whom another provider knows by this name and password. Raises 401, 503."""
    if not username or not password:
        # A directory takes an empty password for a login as nobody, and says that it is good (RFC 4513 section 5.1.2).
        return None
    providers = identity.providers
    kept = providers.ldap.get(origin) or providers.oidc[origin]
    try:
        profile = await kept.by_password(username, password)
    except Unreachable as error:
        raise provider_down(origin) from error
    except Refused as error:
        raise refused(origin, error) from error
    return None if profile is None else await taken_in(identity, source, profile)


async def taken_in(identity: Identity, source: audit.Source, profile: Profile) -> Row[Any]:
    """The row of a user who logged in at another provider, made at the first time. Raises 401."""
    settings = identity.providers.settings[profile.origin]
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return await identity.write(lambda tx: shadow.logged_in(tx, source, settings, profile))
        except Refused as error:
            raise refused(profile.origin, error) from error
        except IntegrityError:
            # The same user logs in for the first time elsewhere at this moment.
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def refused(origin: str, error: Refused) -> Problem:
    """What somebody is told who did not get in by way of another provider; the reason is for the log."""
    audit.log.warning("a login by the identity provider %s was refused: %s", origin, error)
    return unauthorized(
        f"The login by the identity provider {origin} was refused. Ask an administrator: the log says why."
    )


def logged_in(tx: Tx, settings: Settings, source: audit.Source, checked: Checked) -> Row[Any]:
    """Note that a user logged in; the row as it is now. Raises 401 when the account was locked in the meantime."""
    user = checked.user
    refuse_locked(tx, settings, checked.name, user.origin)
    for origin in checked.origins:
        unlock(tx, checked.name, origin)
    table = tables.identities
    values: dict[str, Any] = {}
    if user.origin == "uaa":
        values = {"previous_login_at": table.c.last_login_at, "last_login_at": tx.now}
    if checked.rehashed is not None:
        values["password_hash"] = checked.rehashed
    # A password that was changed since it was compared is no longer the right one.
    same = table.c.guid == user.guid, table.c.generation == user.generation, table.c.active.is_(True)
    row = tx.one(update(table).where(*same).values(values).returning(table) if values else select(table).where(*same))
    if row is None:
        raise bad_client()
    if user.origin == "uaa":
        audit.record(tx, "UserAuthenticationSuccess", source, row)
    return row


def hinted_origin(identity: Identity, hint: str | None) -> str | None:
    """The origin of a `login_hint`, which is JSON. Raises 401 for one that nobody can log in with."""
    if not hint:
        return None
    try:
        # Some clients encode it for the URL themselves, and then once more with the other parameters.
        found = msgspec.json.decode(unquote(hint))
    except msgspec.DecodeError:
        return None
    origin = found.get("origin") if isinstance(found, dict) else None
    if origin is None:
        return None
    if not isinstance(origin, str) or (origin != "uaa" and origin not in identity.providers.settings):
        raise unauthorized("The origin provided in the login hint is invalid.")
    return origin


def _key(username: str, origin: str) -> str:
    name = username.lower()
    if origin != "uaa":
        # Directories do not tell case, width or blanks: none of them makes another name to guess with.
        name = " ".join(unicodedata.normalize("NFKC", username).casefold().split())
    return tables.digest(f"{origin}:{name}")


def is_locked(tx: Tx, settings: Settings, username: str, origin: str = "uaa") -> bool:
    """Whether there were too many wrong passwords for this name."""
    table = tables.login_failures
    return _locks(tx, settings, tx.one(select(table).where(table.c.key == _key(username, origin))))


def _locks(tx: Tx, settings: Settings, row: Row[Any] | None) -> bool:
    if row is None or row.failures < settings.lockout_failures:
        return False
    return bool(tx.now - row.failed_at < settings.lockout_seconds * MICRO)


def refuse_locked(tx: Tx, settings: Settings, username: str, origin: str = "uaa") -> None:
    """Raises 401 while there were too many wrong passwords."""
    if is_locked(tx, settings, username, origin):
        raise unauthorized(LOCKED)


def count_failure(
    tx: Tx, settings: Settings, source: audit.Source, username: str, user: Row[Any] | None, origin: str = "uaa"
) -> bool:
    """One more wrong password for this name; `user` is None when nobody has it. Whether the name was locked already."""
    table, key = tables.login_failures, _key(username, origin)
    row = tx.one(select(table).where(table.c.key == key).with_for_update())
    window = settings.lockout_window_seconds * MICRO
    failures = 1 if row is None or tx.now - row.failed_at >= window else row.failures + 1
    if row is not None and row.failures >= settings.lockout_failures and failures > settings.lockout_failures:
        # The lock is over: counting starts again, rather than one more mistake locking again.
        over = tx.now - row.failed_at >= settings.lockout_seconds * MICRO
        failures = 1 if over else failures
    tables.put(tx, table, {"key": key}, {"failures": failures, "failed_at": tx.now})
    if origin != "uaa":
        audit.record(tx, "IdentityProviderAuthenticationFailure", source, None, {"origin": origin})
    else:
        audit.record(tx, "UserNotFound" if user is None else "UserAuthenticationFailure", source, user)
    return _locks(tx, settings, row)


def unlock(tx: Tx, username: str, origin: str = "uaa") -> None:
    """Forget the wrong passwords of a name."""
    tx.run(delete(tables.login_failures).where(tables.login_failures.c.key == _key(username, origin)))
