"""What an operator does with shell access and without a token: users made, imported, let in again. Blocking."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.exc import IntegrityError

from cupola.secrets import generated
from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit
from cupola.uaa.password_change import set_password
from cupola.uaa.passwords import importable
from cupola.uaa.problems import Problem
from cupola.uaa.scopes import ADMIN_GROUPS
from cupola.uaa.service import Identity
from cupola.uaa.user_body import checked_password, new_values

__all__ = ["Imported", "OperatorProblem", "create_user", "import_users", "reset_password"]

PASSWORD_CHARACTERS = 24


class OperatorProblem(Exception):
    """What was asked cannot be done; the text says why and what to do."""


@dataclass
class Imported:
    """What became of an import."""

    made: list[str] = field(default_factory=list)
    already_there: list[str] = field(default_factory=list)


def create_user(
    identity: Identity,
    username: str,
    *,
    password: str | None = None,
    email: str | None = None,
    groups: Iterable[str] = (),
    admin: bool = False,
) -> str:
    """Make a user, with `admin` like the first one; returns the password, which is generated unless given."""
    secret = password or generated.password(PASSWORD_CHARACTERS)
    try:
        checked_password(secret)
        body = {"userName": username, "emails": [{"value": email}]} if email else {"userName": username}
        values = new_values(body)
    except Problem as problem:
        raise OperatorProblem(problem.description) from None
    hashed = identity.passwords.hash(secret)
    try:
        with identity.database.write() as tx:
            guid = tables.create_user(tx, username, password_hash=hashed, more=values)
            tables.add_to_groups(tx, guid, {*groups, *(ADMIN_GROUPS if admin else ())})
            _record(tx, "UserCreated", _row(tx, guid))
    except IntegrityError:
        raise OperatorProblem(
            f"there is a user {username} already: choose another name, or `cupola user reset-password {username}`"
        ) from None
    return secret


def reset_password(identity: Identity, username: str, password: str | None = None) -> str:
    """Give a user a new password, generated unless given, and let the user in again: unlocked, active, verified. All
    sessions end. Returns the password."""
    secret = password or generated.password(PASSWORD_CHARACTERS)
    try:
        checked_password(secret)
    except Problem as problem:
        raise OperatorProblem(problem.description) from None
    hashed = identity.passwords.hash(secret)
    with identity.database.write() as tx:
        found = tables.find_users(tx, username, "uaa")
        if not found:
            raise OperatorProblem(
                f"there is no user {username} whose password is kept here: `cupola user create {username}` makes one"
            )
        (row,) = found
        set_password(identity, tx, row.guid, hashed)
        table = tables.identities
        tx.run(update(table).where(table.c.guid == row.guid).values(active=True, verified=True))
        _record(tx, "PasswordChangeSuccess", row)
    return secret


def import_users(identity: Identity, entries: Iterable[Mapping[str, Any]]) -> Imported:
    """Make users as a UAA describes them: SCIM's attributes, and `passwordHash` (bcrypt or argon2id) where they log in
    here. `groups` are names, or objects with `display`. All or none; users who are there already are left alone.
    """
    done = Imported()
    with identity.database.write() as tx:
        for number, entry in enumerate(entries, start=1):
            _import(tx, number, entry, done)
    return done


def _import(tx: Tx, number: int, entry: Mapping[str, Any], done: Imported) -> None:
    try:
        values = new_values(entry)
    except Problem as problem:
        raise OperatorProblem(f"user {number}: {problem.description}") from None
    username, origin, hashed = values["username"], values["origin"], entry.get("passwordHash")
    if hashed is not None and (not isinstance(hashed, str) or not importable(hashed)):
        raise OperatorProblem(f"user {number} ({username}): passwordHash is neither a bcrypt nor an argon2id hash")
    if tables.find_users(tx, username, origin):
        done.already_there.append(username)
        return
    guid = tables.create_user(tx, username, origin, password_hash=hashed, more=values)
    tables.add_to_groups(tx, guid, _group_names(number, entry), origin=origin)
    _record(tx, "UserImported", _row(tx, guid))
    done.made.append(username)


def _group_names(number: int, entry: Mapping[str, Any]) -> list[str]:
    groups = entry.get("groups") or []
    names = (
        [one.get("display") if isinstance(one, dict) else one for one in groups] if isinstance(groups, list) else [None]
    )
    if not all(isinstance(name, str) and name and len(name) <= 255 for name in names):
        raise OperatorProblem(f"user {number}: groups must be names, or objects with display")
    return [str(name) for name in names]


def _row(tx: Tx, guid: str) -> Row[Any]:
    row = tx.one(select(tables.identities).where(tables.identities.c.guid == guid))
    assert row is not None
    return row


def _record(tx: Tx, type: str, row: Row[Any]) -> None:
    audit.record(tx, type, audit.OPERATOR, row)
