"""Logging in with a name and a password: one answer for every wrong pair, and a lock after too many of them.

Names of nobody are hashed, counted and locked like those of users, so that nothing here tells who exists.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgspec
from sqlalchemy import Row, delete, select, update

from cupola.config import Identity as Settings
from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit
from cupola.uaa.passwords import MOST
from cupola.uaa.problems import Problem, bad_client, unauthorized
from cupola.uaa.service import Identity

__all__ = [
    "LOCKED",
    "Checked",
    "check_password",
    "count_failure",
    "hinted_origin",
    "logged_in",
    "refuse_locked",
    "unlock",
]

MICRO = 1_000_000
LOCKED = "Your account has been locked because of too many failed attempts to login."
"""The CLI compares this sentence."""
CHANGE_REQUIRED = "password change required"


@dataclass(frozen=True)
class Checked:
    """A user whose password was right; `rehashed` replaces a hash of an older kind."""

    user: Row[Any]
    rehashed: str | None = None


async def check_password(
    identity: Identity,
    source: audit.Source,
    username: str,
    password: str,
    origin: str | None = None,
    *,
    change_required: bool = False,
) -> Checked:
    """The user with this name and password. Raises 401 (wrong, locked), 403 (not verified), and 401 when the user must
    choose a new password first, unless `change_required` says that this is what will happen."""
    settings = identity.settings.identity
    if len(username) > MOST or len(password) > MOST:
        raise bad_client()

    def look(tx: Tx) -> Row[Any] | None:
        refuse_locked(tx, settings, username)
        found = tables.find_users(tx, username, origin)
        return next((row for row in found if row.origin == "uaa"), None)

    user = await identity.read(look)
    kept = None if user is None else user.password_hash

    def compare() -> tuple[bool, str | None]:
        good = identity.passwords.matches(password, kept)
        rehash = good and kept is not None and identity.passwords.is_old(kept)
        return good, identity.passwords.hash(password) if rehash else None

    good, rehashed = await identity.hashing(compare)
    if user is None or not good or not user.active:
        await identity.write(lambda tx: count_failure(tx, settings, source, username, user))
        raise bad_client()
    if not user.verified:
        raise Problem(403, "access_denied", "Account not verified")
    if user.password_change_required and not change_required:
        raise unauthorized(CHANGE_REQUIRED)
    return Checked(user, rehashed)


def logged_in(tx: Tx, settings: Settings, source: audit.Source, checked: Checked) -> Row[Any]:
    """Note that a user logged in; the row as it is now. Raises 401 when the account was locked in the meantime."""
    user = checked.user
    refuse_locked(tx, settings, user.username)
    unlock(tx, user.username)
    table = tables.identities
    values: dict[str, Any] = {"previous_login_at": table.c.last_login_at, "last_login_at": tx.now}
    if checked.rehashed is not None:
        values["password_hash"] = checked.rehashed
    # A password that was changed since it was compared is no longer the right one.
    same = table.c.guid == user.guid, table.c.generation == user.generation, table.c.active.is_(True)
    row = tx.one(update(table).where(*same).values(values).returning(table))
    if row is None:
        raise bad_client()
    audit.record(tx, "UserAuthenticationSuccess", source, row)
    return row


def hinted_origin(hint: str | None) -> str | None:
    """The origin of a `login_hint`, which is JSON. Raises 401 for one that nobody can log in with."""
    if not hint:
        return None
    try:
        # Some clients encode it for the URL themselves, and then once more with the other parameters.
        found = msgspec.json.decode(unquote(hint))
    except msgspec.DecodeError:
        return None
    origin = found.get("origin") if isinstance(found, dict) else None
    if origin not in {None, "uaa"}:
        raise unauthorized("The origin provided in the login hint is invalid.")
    return origin


def _key(username: str) -> str:
    return tables.digest(f"uaa:{username.lower()}")


def refuse_locked(tx: Tx, settings: Settings, username: str) -> None:
    """Raises 401 while there were too many wrong passwords."""
    table = tables.login_failures
    row = tx.one(select(table).where(table.c.key == _key(username)))
    if row is None or row.failures < settings.lockout_failures:
        return
    if tx.now - row.failed_at < settings.lockout_seconds * MICRO:
        raise unauthorized(LOCKED)


def count_failure(tx: Tx, settings: Settings, source: audit.Source, username: str, user: Row[Any] | None) -> None:
    """One more wrong password for this name; `user` is None when nobody has it."""
    table, key = tables.login_failures, _key(username)
    row = tx.one(select(table).where(table.c.key == key).with_for_update())
    window = settings.lockout_window_seconds * MICRO
    failures = 1 if row is None or tx.now - row.failed_at >= window else row.failures + 1
    if row is not None and row.failures >= settings.lockout_failures and failures > settings.lockout_failures:
        # The lock is over: counting starts again, rather than one more mistake locking again.
        over = tx.now - row.failed_at >= settings.lockout_seconds * MICRO
        failures = 1 if over else failures
    tables.put(tx, table, {"key": key}, {"failures": failures, "failed_at": tx.now})
    audit.record(tx, "UserNotFound" if user is None else "UserAuthenticationFailure", source, user)


def unlock(tx: Tx, username: str) -> None:
    """Forget the wrong passwords of a name."""
    tx.run(delete(tables.login_failures).where(tables.login_failures.c.key == _key(username)))
