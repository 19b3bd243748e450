"""Users over SCIM, as the CLI and the API's clients use it (reference/uaa.md section 7)."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from sqlalchemy import Row, func, select, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.exc import IntegrityError
from starlette.requests import Request
from starlette.responses import Response

from cupola import clock
from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa.bearer import bearer
from cupola.uaa.problems import Problem, json_response, scim
from cupola.uaa.scim_filter import condition
from cupola.uaa.scopes import DEFAULT_GROUPS, KNOWN_GROUPS

if TYPE_CHECKING:
    from cupola.uaa.service import Identity

T = TypeVar("T")
_SCHEMAS = ["urn:scim:schemas:core:1.0"]
_MOST = 500


def find(identity: "Identity", guid: str) -> Row[Any] | None:
    """A user by guid. Blocking."""
    with identity.database.read() as tx:
        return tx.one(select(tables.identities).where(tables.identities.c.guid == guid))


async def _write(identity: "Identity", work: Callable[[Tx], T]) -> T:
    def run() -> T:
        with identity.database.write() as tx:
            return work(tx)

    return await asyncio.to_thread(run)


async def _read(identity: "Identity", work: Callable[[Tx], T]) -> T:
    def run() -> T:
        with identity.database.read() as tx:
            return work(tx)

    return await asyncio.to_thread(run)


def _shown(tx: Tx, row: Row[Any]) -> dict[str, Any]:
    groups = sorted(tables.groups_of(tx, row.guid) | DEFAULT_GROUPS)
    return {
        "id": row.guid,
        "meta": {
            "version": row.version,
            "created": clock.format_api(row.created_at),
            "lastModified": clock.format_api(row.updated_at),
        },
        "userName": row.username,
        "name": {"familyName": row.family_name, "givenName": row.given_name},
        "emails": [{"value": row.email, "primary": True}],
        "groups": [{"value": name, "display": name, "type": "DIRECT"} for name in groups],
        "approvals": [],
        "active": row.active,
        "verified": row.verified,
        "origin": row.origin,
        "zoneId": "uaa",
        "passwordLastModified": clock.format_api(row.password_changed_at),
        "schemas": _SCHEMAS,
    }


async def _body(request: Request) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise scim(400, "invalid_scim_resource", "The request body is not a JSON object.")
    return found


async def search(identity: "Identity", request: Request) -> Response:
    """Find users by a filter."""
    caller = await bearer(identity, request)
    caller.require("scim.read", "uaa.admin")
    return await _page(identity, request, _shown)


async def ids(identity: "Identity", request: Request) -> Response:
    """Find ids and names of users; a filter is required."""
    caller = await bearer(identity, request)
    caller.require("scim.userids", "scim.read", "uaa.admin")
    if not request.query_params.get("filter"):
        raise scim(400, "scim", "a 'filter' parameter is required")
    return await _page(
        identity, request, lambda tx, row: {"id": row.guid, "userName": row.username, "origin": row.origin}
    )


async def _page(identity: "Identity", request: Request, shown: Callable[[Tx, Row[Any]], dict[str, Any]]) -> Response:
    query = request.query_params
    start, count = _number(query.get("startIndex"), 1), min(_number(query.get("count"), 100), _MOST)

    def work(tx: Tx) -> dict[str, Any]:
        statement = select(tables.identities)
        if query.get("filter"):
            statement = statement.where(condition(query["filter"]))
        total = tx.scalar(select(func.count()).select_from(statement.subquery()))
        ordered = statement.order_by(tables.identities.c.created_at, tables.identities.c.guid)
        page = tx.all(ordered.limit(count).offset(start - 1))
        return {
            "resources": [shown(tx, row) for row in page],
            "startIndex": start,
            "itemsPerPage": count,
            "totalResults": total,
            "schemas": _SCHEMAS,
        }

    return json_response(await _read(identity, work))


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 and int(text) > 0 else default


async def create(identity: "Identity", request: Request) -> Response:
    """Create a user."""
    caller = await bearer(identity, request)
    caller.require("scim.write", "scim.create", "uaa.admin")
    body = await _body(request)
    username, origin = body.get("userName"), body.get("origin") or "uaa"
    if not isinstance(username, str) or not username.strip():
        raise scim(400, "invalid_scim_resource", "A username must be provided.")
    emails = body.get("emails") or [{"value": username}]
    if not isinstance(emails, list) or len(emails) != 1 or not isinstance(emails[0], dict):
        raise scim(400, "invalid_scim_resource", "Exactly one email must be provided.")
    email = emails[0].get("value")
    if not isinstance(email, str) or not email:
        raise scim(400, "invalid_scim_resource", "An email must be provided.")
    password = body.get("password")
    if origin == "uaa" and (not isinstance(password, str) or not 1 <= len(password) <= 255):
        raise scim(400, "invalid_password", "Password must be at least 1 and at most 255 characters in length.")
    name = body.get("name") if isinstance(body.get("name"), dict) else {}
    hashed = await asyncio.to_thread(identity.passwords.hash, password) if password else None

    def work(tx: Tx) -> dict[str, Any]:
        guid = tables.create_user(
            tx,
            username,
            str(origin),
            email=email,
            password_hash=hashed,
            given_name=str((name or {}).get("givenName") or ""),
            family_name=str((name or {}).get("familyName") or ""),
        )
        row = tx.one(select(tables.identities).where(tables.identities.c.guid == guid))
        assert row is not None
        return _shown(tx, row)

    try:
        return json_response(await _write(identity, work), 201)
    except IntegrityError:
        raise scim(409, "scim_resource_already_exists", f"Username already in use: {username}", origin=origin) from None


async def _user(identity: "Identity", guid: str) -> Row[Any]:
    row = await asyncio.to_thread(find, identity, guid)
    if row is None:
        raise scim(404, "scim_resource_not_found", f"User {guid} does not exist")
    return row


async def show(identity: "Identity", request: Request) -> Response:
    """Get one user: oneself, or any with scim.read."""
    caller = await bearer(identity, request)
    guid = request.path_params["guid"]
    if caller.user_guid != guid:
        caller.require("scim.read", "uaa.admin")
    row = await _user(identity, guid)
    body = await _read(identity, lambda tx: _shown(tx, row))
    return json_response(body, headers={"ETag": f'"{row.version}"'})


async def delete(identity: "Identity", request: Request) -> Response:
    """Delete a user; the sessions end."""
    caller = await bearer(identity, request)
    caller.require("scim.write", "uaa.admin")
    row = await _user(identity, request.path_params["guid"])

    def work(tx: Tx) -> dict[str, Any]:
        shown = _shown(tx, row)
        identity.revoke_user(tx, row.guid)
        tx.run(sql_delete(tables.group_members).where(tables.group_members.c.member_guid == row.guid))
        tx.run(sql_delete(tables.identities).where(tables.identities.c.guid == row.guid))
        return shown

    return json_response(await _write(identity, work))


async def change_password(identity: "Identity", request: Request) -> Response:
    """Set a new password: one's own with the old one, anybody's with uaa.admin. Older sessions end."""
    caller = await bearer(identity, request)
    guid, body = request.path_params["guid"], await _body(request)
    own = caller.user_guid == guid
    if not own and not caller.scopes & {"uaa.admin", "password.write"}:
        caller.require("uaa.admin", "password.write")
    if not own and "uaa.admin" not in caller.scopes:
        raise scim(400, "invalid_password", "Not permitted to change another user's password")
    row = await asyncio.to_thread(find, identity, guid)
    if row is None:
        raise scim(401, "unauthorized", "Invalid password change request")
    new, old = body.get("password"), body.get("oldPassword")
    if not isinstance(new, str) or not 1 <= len(new) <= 255:
        raise scim(400, "invalid_password", "Password must be at least 1 and at most 255 characters in length.")
    if own:
        if not isinstance(old, str) or not old:
            raise scim(400, "invalid_password", "Previous password is required")
        if not await asyncio.to_thread(identity.passwords.matches, old, row.password_hash):
            raise scim(401, "unauthorized", "Old password is incorrect")
    if await asyncio.to_thread(identity.passwords.matches, new, row.password_hash):
        raise scim(422, "invalid_password", "Your new password cannot be the same as the old password.")
    hashed = await asyncio.to_thread(identity.passwords.hash, new)

    def work(tx: Tx) -> None:
        identity.revoke_user(tx, guid)
        values = {"password_hash": hashed, "password_changed_at": tx.now, "updated_at": tx.now, "failures": 0}
        tx.run(update(tables.identities).where(tables.identities.c.guid == guid).values(values))

    await _write(identity, work)
    return json_response({"status": "ok", "message": "password updated"})


async def groups(identity: "Identity", request: Request) -> Response:
    """List groups, or find one by `displayName eq "x"`."""
    caller = await bearer(identity, request)
    caller.require("scim.read", "uaa.admin")
    wanted = request.query_params.get("filter", "")
    name = wanted.partition('"')[2].rpartition('"')[0] if wanted.lower().startswith("displayname eq ") else ""

    def work(tx: Tx) -> list[dict[str, Any]]:
        members = tables.group_members
        found: dict[str, list[str]] = {known: [] for known in sorted(KNOWN_GROUPS)}
        for row in tx.all(select(members).order_by(members.c.group_name)):
            found.setdefault(row.group_name, []).append(row.member_guid)
        if name:
            found = {key: value for key, value in found.items() if key.lower() == name.lower()}
        return [
            {
                "id": key,
                "displayName": key,
                "members": [{"value": guid, "type": "USER", "origin": "uaa"} for guid in value],
                "meta": {"version": 0},
                "zoneId": "uaa",
                "schemas": _SCHEMAS,
            }
            for key, value in found.items()
        ]

    listed = await _read(identity, work)
    return json_response(
        {
            "resources": listed,
            "startIndex": 1,
            "itemsPerPage": len(listed),
            "totalResults": len(listed),
            "schemas": _SCHEMAS,
        }
    )


async def add_member(identity: "Identity", request: Request) -> Response:
    """Put a user in a group."""
    caller = await bearer(identity, request)
    caller.require("scim.write", "groups.update", "uaa.admin")
    body, name = await _body(request), request.path_params["name"]
    guid = body.get("value")
    if not isinstance(guid, str) or await asyncio.to_thread(find, identity, guid) is None:
        raise scim(404, "scim_resource_not_found", f"User {guid} does not exist")

    def work(tx: Tx) -> bool:
        if name in tables.groups_of(tx, guid):
            return False
        tables.add_to_groups(tx, guid, [name])
        return True

    if not await _write(identity, work):
        raise Problem(409, "member_already_exists", f"{guid} is a member of the group {name} already")
    return json_response({"value": guid, "type": "USER", "origin": "uaa"}, 201)
