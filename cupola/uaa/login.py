"""Logging in with a name and a password: one answer for every wrong pair, and a lock after too many of them."""

from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Row, update

from cupola.store import identity as tables
from cupola.uaa.issue import Client
from cupola.uaa.problems import Problem, bad_credentials

if TYPE_CHECKING:
    from cupola.uaa.service import Identity

__all__ = ["log_in"]


def log_in(
    identity: "Identity", client: Client, form: dict[str, str], login_hint: str | None, wanted: list[str] | None
) -> dict[str, Any]:
    """The answer of /oauth/token for a password. Raises 401. Blocking: hashing takes tens of milliseconds."""
    username, password = form.get("username", ""), form.get("password", "")
    origin = _origin(login_hint or form.get("login_hint"))
    with identity.database.read() as tx:
        found = tables.find_users(tx, username, origin)
        now = tx.now
    user = next((row for row in found if row.origin == "uaa"), None)
    if user is not None and _locked(identity, user, now):
        raise Problem(401, "unauthorized", "Your account has been locked because of too many failed attempts to login.")
    good = identity.passwords.matches(password, user.password_hash if user is not None else None)
    if user is None or not good or not user.active:
        if user is not None:
            _count_failure(identity, user)
        raise bad_credentials()
    with identity.database.write() as tx:
        reset = {"failures": 0, "last_login_at": tx.now}
        tx.run(update(tables.identities).where(tables.identities.c.guid == user.guid).values(reset))
        return identity.issuer.for_user(tx, client, user, "password", wanted)


def _origin(hint: str | None) -> str | None:
    if not hint:
        return None
    try:
        found = msgspec.json.decode(hint)
    except msgspec.DecodeError:
        return None
    origin = found.get("origin") if isinstance(found, dict) else None
    if origin not in {None, "uaa"}:
        raise Problem(
            400,
            "invalid_login_hint",
            "The origin provided in the login_hint does not match an active Identity Provider",
        )
    return origin


def _locked(identity: "Identity", user: Row[Any], now: int) -> bool:
    settings = identity.settings.identity
    if user.failures < settings.lockout_failures:
        return False
    return bool(now - user.failed_at < settings.lockout_seconds * 1_000_000)


def _count_failure(identity: "Identity", user: Row[Any]) -> None:
    window = identity.settings.identity.lockout_window_seconds * 1_000_000
    table = tables.identities
    with identity.database.write() as tx:
        recent = tx.now - user.failed_at < window
        # The count is made by the database: two wrong passwords at once are two.
        failures = table.c.failures + 1 if recent else 1
        tx.run(update(table).where(table.c.guid == user.guid).values(failures=failures, failed_at=tx.now))
