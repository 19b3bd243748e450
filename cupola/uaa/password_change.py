"""New passwords: one's own with the old one, anybody's for an administrator or a client of theirs."""

from typing import Any

from sqlalchemy import Row, update
from starlette.requests import Request
from starlette.responses import Response

from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit
from cupola.uaa.bearer import Bearer, bearer
from cupola.uaa.forms import document
from cupola.uaa.login import count_failure, refuse_locked, unlock
from cupola.uaa.problems import json_response, scim
from cupola.uaa.service import Identity
from cupola.uaa.user_body import checked_password
from cupola.uaa.users import find

__all__ = ["change_password", "set_password"]

_SAME = "Your new password cannot be the same as the old password."


async def change_password(identity: Identity, request: Request) -> Response:
    """Set a new password. All sessions end, the caller's too."""
    caller = await bearer(identity, request, "password.write")
    guid, body = request.path_params["guid"], await document(request, "invalid_password")
    old = _old_password(caller, guid, body.get("oldPassword"))
    row = await identity.read(lambda tx: find(tx, guid))
    if row is None:
        raise scim(401, "unauthorized", "Invalid password change request")
    if row.origin != "uaa":
        raise scim(400, "invalid_password", f"The password of this user is kept by the identity provider {row.origin}.")
    new = checked_password(body.get("password"))
    source = audit.Source.of(request, caller=caller)
    if old is not None:
        await _require_old(identity, source, row, old)
    if row.password_hash is not None and await _matches(identity, new, row):
        raise scim(422, "invalid_password", _SAME)
    hashed = await identity.hashing(lambda: identity.passwords.hash(new))

    def work(tx: Tx) -> bool:
        # Compared with this row's hash: what somebody else changed since is not overwritten.
        changed = set_password(identity, tx, guid, hashed, unless_changed=row.generation)
        audit.record(tx, "PasswordChangeSuccess" if changed else "PasswordChangeFailure", source, row)
        return changed

    if not await identity.write(work):
        raise scim(409, "scim_resource_conflict", "The password was changed by somebody else in the meantime.")
    return json_response({"status": "ok", "message": "password updated"})


def _old_password(caller: Bearer, guid: str, given: Any) -> str | None:
    """The old password where one is needed; None for administrators and clients. Raises 400."""
    if caller.user_guid is None:
        return None
    own = caller.user_guid == guid
    if not own and not caller.is_admin:
        raise scim(400, "invalid_password", "Not permitted to change another user's password")
    if own and (not isinstance(given, str) or not given):
        admin = " even for admin" if caller.is_admin else ""
        raise scim(400, "invalid_password", f"Previous password is required{admin}")
    return given if own else None


async def _matches(identity: Identity, password: str, row: Row[Any]) -> bool:
    return await identity.hashing(lambda: identity.passwords.matches(password, row.password_hash))


async def _require_old(identity: Identity, source: audit.Source, row: Row[Any], old: str) -> None:
    settings = identity.settings.identity
    await identity.read(lambda tx: refuse_locked(tx, settings, row.username))
    if not await _matches(identity, old, row):
        # A stolen token is no way to guess the password.
        await identity.write(lambda tx: count_failure(tx, settings, source, row.username, row))
        raise scim(401, "unauthorized", "Old password is incorrect")


def set_password(identity: Identity, tx: Tx, guid: str, hashed: str, *, unless_changed: int | None = None) -> bool:
    """Give a user a password (its hash) and end all sessions; for `cupola user reset-password` too.

    False when the user is gone, or is of another generation than `unless_changed`.
    """
    table = tables.identities
    where = [table.c.guid == guid]
    if unless_changed is not None:
        where.append(table.c.generation == unless_changed)
    values = {
        "password_hash": hashed,
        "password_changed_at": tx.now,
        "password_change_required": False,
        "updated_at": tx.now,
        "version": table.c.version + 1,
    }
    row = tx.one(update(table).where(*where).values(values).returning(table))
    if row is None:
        return False
    unlock(tx, row.username)
    identity.revoke_user(tx, guid)
    return True
