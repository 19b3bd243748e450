"""Users over SCIM 1.0, as UAA offers it: found, made, changed, deleted, verified, unlocked."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Row, select, update
from sqlalchemy.exc import IntegrityError
from starlette.requests import Request
from starlette.responses import Response

from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit
from cupola.uaa.bearer import Bearer, bearer
from cupola.uaa.forms import document
from cupola.uaa.login import unlock
from cupola.uaa.problems import Problem, bad_request, conflict, json_response, scim
from cupola.uaa.scim import Page, page, required_version
from cupola.uaa.scim_filter import Attribute, condition
from cupola.uaa.scopes import DEFAULT_GROUPS
from cupola.uaa.service import Identity
from cupola.uaa.user_body import checked_password, new_values, patched, shown

__all__ = ["create", "delete", "find", "ids", "patch", "put", "search", "show", "status", "user", "verify"]

users = tables.identities


def _in_group(name: str) -> ColumnElement[bool]:
    if name.lower() in DEFAULT_GROUPS:
        return users.c.guid.is_not(None)
    members, groups = tables.group_members.c, tables.identity_groups.c
    group = select(groups.guid).where(groups.name_key == name.lower())
    return users.c.guid.in_(select(members.member_guid).where(members.group_guid.in_(group)))


_IDS = {
    "id": Attribute(users.c.guid, "folded"),
    "username": Attribute(users.c.username_key, "folded"),
    "origin": Attribute(users.c.origin),
}
_ATTRIBUTES: Mapping[str, Attribute] = {
    **_IDS,
    "externalid": Attribute(users.c.external_id),
    "email": Attribute(users.c.email),
    "emails": Attribute(users.c.email),
    "emails.value": Attribute(users.c.email),
    "givenname": Attribute(users.c.given_name),
    "name.givenname": Attribute(users.c.given_name),
    "familyname": Attribute(users.c.family_name),
    "name.familyname": Attribute(users.c.family_name),
    "phonenumber": Attribute(users.c.phone_number),
    "phonenumbers.value": Attribute(users.c.phone_number),
    "active": Attribute(users.c.active, "flag"),
    "verified": Attribute(users.c.verified, "flag"),
    "meta.created": Attribute(users.c.created_at, "time"),
    "created": Attribute(users.c.created_at, "time"),
    "meta.lastmodified": Attribute(users.c.updated_at, "time"),
    "lastmodified": Attribute(users.c.updated_at, "time"),
    "groups": Attribute(_in_group, "function"),
    "groups.display": Attribute(_in_group, "function"),
}
_ORDER = {
    "": users.c.created_at,
    **{name: one.column for name, one in _ATTRIBUTES.items() if one.kind != "function"},
}


def find(tx: Tx, guid: str) -> Row[Any] | None:
    """A user by guid."""
    return tx.one(select(users).where(users.c.guid == guid))


def user(tx: Tx, guid: str, *, to_change: bool = False) -> Row[Any]:
    """A user by guid; `to_change`: others who want to change it wait. Raises 404."""
    query = select(users).where(users.c.guid == guid)
    row = tx.one(query.with_for_update() if to_change else query)
    if row is None:
        raise scim(404, "scim_resource_not_found", f"User {guid} does not exist")
    return row


async def search(identity: Identity, request: Request) -> Response:
    """Find users by a filter."""
    await bearer(identity, request, "scim.read")
    asked = Page(request)
    where = [condition(asked.filter, _ATTRIBUTES)] if asked.filter else []
    return json_response(await identity.read(lambda tx: page(tx, asked, users, where, _ORDER, shown)))


async def ids(identity: Identity, request: Request) -> Response:
    """Find ids and names of users by ids, names and origins; for everybody, and so a filter is required."""
    await bearer(identity, request, "scim.userids")
    asked = Page(request)
    if not asked.filter:
        raise scim(400, "scim", "a 'filter' parameter is required")
    named: set[str] = set()

    def check(attribute: str, operator: str) -> None:
        if attribute.lower() not in _IDS:
            raise scim(400, "scim", "Invalid filter attribute.")
        if operator in {"co", "sw", "pr"}:
            raise scim(400, "scim", "Wildcards are not allowed in filter.")
        if operator != "eq":
            raise scim(400, "scim", "Invalid operator.")
        named.add(attribute.lower())

    where = [condition(asked.filter, _IDS, check, "Invalid filter '{}'")]
    if named == {"origin"}:
        raise scim(400, "scim", "Invalid filter attribute.")
    if asked.query.get("includeInactive", "").lower() != "true":
        where.append(users.c.active.is_(True))

    def brief(tx: Tx, rows: Any) -> list[dict[str, Any]]:
        return [{"id": row.guid, "userName": row.username, "origin": row.origin} for row in rows]

    return json_response(await identity.read(lambda tx: page(tx, asked, users, where, _ORDER, brief)))


async def create(identity: Identity, request: Request) -> Response:
    """Create a user."""
    caller = await bearer(identity, request, "scim.write", "scim.create")
    body = await document(request)
    values = new_values(body)
    hashed = None
    if values["origin"] == "uaa" or body.get("password"):
        password = checked_password(body.get("password"))
        hashed = await identity.hashing(lambda: identity.passwords.hash(password))
    source = audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> Row[Any]:
        username, origin = values["username"], values["origin"]
        guid = tables.create_user(tx, username, origin, password_hash=hashed, more=values)
        row = user(tx, guid)
        audit.record(tx, "UserCreated", source, row)
        return row

    try:
        row = await identity.write(work)
    except IntegrityError:
        raise await identity.read(lambda tx: _taken(tx, values)) from None
    return await _answer(identity, row, 201)


def _taken(tx: Tx, values: Mapping[str, Any]) -> Problem:
    name, origin = values["username"], values["origin"]
    found = tables.find_users(tx, name, origin)
    more = {"user_id": found[0].guid, "active": found[0].active, "verified": found[0].verified} if found else {}
    return conflict(f"Username already in use: {name}", origin=origin, **more)


async def _answer(identity: Identity, row: Row[Any], status: int = 200) -> Response:
    (body,) = await identity.read(lambda tx: shown(tx, [row]))
    return json_response(body, status, {"ETag": f'"{row.version}"'})


async def show(identity: Identity, request: Request) -> Response:
    """Get one user: oneself, or any with scim.read."""
    caller, guid = await bearer(identity, request), request.path_params["guid"]
    if caller.user_guid != guid:
        caller.require("scim.read")
    return await _answer(identity, await identity.read(lambda tx: user(tx, guid)))


async def put(identity: Identity, request: Request) -> Response:
    """Replace a user's attributes."""
    return await _change(identity, request, whole=True)


async def patch(identity: Identity, request: Request) -> Response:
    """Change some of a user's attributes."""
    return await _change(identity, request, whole=False)


async def _change(identity: Identity, request: Request, *, whole: bool) -> Response:
    caller, guid = await bearer(identity, request), request.path_params["guid"]
    if caller.user_guid != guid:
        caller.require("scim.write")
    body = await document(request)
    source = audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> Row[Any]:
        row = user(tx, guid, to_change=True)
        required_version(request, guid, row.version, "user", "PUT")
        if whole:
            # UAA's own clients leave out the origin, which cannot change.
            values = new_values({"origin": row.origin, **{key: one for key, one in body.items() if one is not None}})
        else:
            values = new_values(patched(row, body))
        _refuse_foreign(caller, row, values)
        if values["email"] != row.email or not values["active"]:
            identity.revoke_user(tx, guid)
        values = {**values, "version": row.version + 1, "updated_at": tx.now}
        changed = tx.one(update(users).where(users.c.guid == guid).values(values).returning(users))
        assert changed is not None
        audit.record(tx, "UserModified", source, changed)
        return changed

    try:
        return await _answer(identity, await identity.write(work))
    except IntegrityError:
        raise conflict(f"Username already in use: {body.get('userName')}") from None


def _refuse_foreign(caller: Bearer, row: Row[Any], values: Mapping[str, Any]) -> None:
    """Origins never change; oneself one may change names and the email only. Raises 400, 403."""
    if values["origin"] != row.origin:
        raise scim(
            400, "invalid_scim_resource", f"Cannot change user's origin from {row.origin} to {values['origin']}."
        )
    if caller.has("scim.write"):
        return
    own = {"given_name", "family_name", "email", "phone_number"}
    now = row._mapping
    changed = sorted(name for name, value in values.items() if name not in own and now[name] != value)
    if changed:
        raise scim(403, "invalid_self_edit", f"Users may not change their own {', '.join(changed)}.")


async def delete(identity: Identity, request: Request) -> Response:
    """Delete a user; the sessions end."""
    caller = await bearer(identity, request, "scim.write")
    guid, source = request.path_params["guid"], audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> tuple[int, dict[str, Any]]:
        row = user(tx, guid, to_change=True)
        if "if-match" in request.headers:
            required_version(request, guid, row.version, "user", "DELETE")
        (body,) = shown(tx, [row])
        tables.delete_user(tx, guid, identity.lifetime(tx))
        unlock(tx, row.username, row.origin)
        audit.record(tx, "UserDeleted", source, row)
        return row.version, body

    version, body = await identity.write(work)
    return json_response(body, headers={"ETag": f'"{version}"'})


async def verify(identity: Identity, request: Request) -> Response:
    """Mark a user's email as verified."""
    caller = await bearer(identity, request, "scim.write", "scim.create")
    guid, source = request.path_params["guid"], audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> Row[Any]:
        row = user(tx, guid, to_change=True)
        if "if-match" in request.headers:
            required_version(request, guid, row.version, "user", "GET")
        if row.verified:
            return row
        values = {"verified": True, "version": row.version + 1, "updated_at": tx.now}
        changed = tx.one(update(users).where(users.c.guid == guid).values(values).returning(users))
        assert changed is not None
        audit.record(tx, "UserVerified", source, changed)
        return changed

    return await _answer(identity, await identity.write(work))


async def status(identity: Identity, request: Request) -> Response:
    """Unlock a user, or make the user choose a new password at the next login."""
    caller = await bearer(identity, request, "scim.write", "uaa.account_status.write")
    guid, body = request.path_params["guid"], await document(request)
    wanted = {name: body[name] for name in ("locked", "passwordChangeRequired") if body.get(name) is not None}
    if wanted.get("locked") not in {None, False}:
        raise bad_request(
            "Cannot set user account to locked. User accounts only become locked through exceeding the "
            "allowed failed login attempts.",
            "scim",
        )
    if wanted.get("passwordChangeRequired") not in {None, True}:
        raise bad_request("The requirement that this user change their password cannot be removed via API.", "scim")
    source = audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> None:
        row = user(tx, guid)
        if "locked" in wanted:
            unlock(tx, row.username, row.origin)
        if "passwordChangeRequired" in wanted:
            if row.origin != "uaa":
                raise bad_request("Can only require password change for internal users.", "scim")
            tx.run(update(users).where(users.c.guid == guid).values(password_change_required=True))
        audit.record(tx, "UserAccountStatusChanged", source, row, wanted)

    await identity.write(work)
    return json_response(wanted)
