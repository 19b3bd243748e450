"""Groups and their members over SCIM 1.0: a group's name is the scope that its members may have."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from starlette.requests import Request
from starlette.responses import Response

from cupola import guid as guids
from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit
from cupola.uaa.bearer import bearer
from cupola.uaa.forms import document
from cupola.uaa.problems import Problem, conflict, json_response, scim
from cupola.uaa.scim import SCHEMAS, Page, millis, page, required_version
from cupola.uaa.scim_filter import Attribute, condition
from cupola.uaa.service import Identity
from cupola.uaa.user_body import shown as users_shown

__all__ = [
    "add_member",
    "create",
    "delete_group",
    "list_members",
    "patch",
    "put",
    "remove_member",
    "search",
    "show",
    "show_member",
]

groups, members = tables.identity_groups, tables.group_members
_LONGEST = 255
_ATTRIBUTES = {
    "id": Attribute(groups.c.guid, "folded"),
    "displayname": Attribute(groups.c.name_key, "folded"),
    "description": Attribute(groups.c.description),
    "meta.created": Attribute(groups.c.created_at, "time"),
    "meta.lastmodified": Attribute(groups.c.updated_at, "time"),
}
_ORDER = {"": groups.c.created_at, **{name: one.column for name, one in _ATTRIBUTES.items()}}


def _group(tx: Tx, guid: str, *, to_change: bool = False) -> Row[Any]:
    """A group; `to_change`: others who want to change it wait. Raises 404."""
    query = select(groups).where(groups.c.guid == guid)
    row = tx.one(query.with_for_update() if to_change else query)
    if row is None:
        raise scim(404, "scim_resource_not_found", f"Group {guid} does not exist")
    return row


def _member(row: Row[Any]) -> dict[str, Any]:
    return {"value": row.member_guid, "type": row.member_type, "origin": row.origin}


def shown(tx: Tx, rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    """Groups as they are shown, with their members."""
    found: dict[str, list[dict[str, Any]]] = {row.guid: [] for row in rows}
    wanted = members.c.group_guid.in_(list(found))
    for row in tx.all(select(members).where(wanted).order_by(members.c.created_at, members.c.member_guid)):
        found[row.group_guid].append(_member(row))
    return [_view(row, found[row.guid]) for row in rows]


def _view(row: Row[Any], listed: list[dict[str, Any]]) -> dict[str, Any]:
    body = {
        "id": row.guid,
        "displayName": row.name,
        "description": row.description,
        "members": listed,
        "meta": {"version": row.version, "created": millis(row.created_at), "lastModified": millis(row.updated_at)},
        "zoneId": "uaa",
        "schemas": SCHEMAS,
    }
    return {key: value for key, value in body.items() if value is not None}


def _answer(tx: Tx, row: Row[Any]) -> tuple[dict[str, Any], dict[str, str]]:
    (body,) = shown(tx, [row])
    return body, {"ETag": f'"{row.version}"'}


async def search(identity: Identity, request: Request) -> Response:
    """List groups, or find some by a filter such as `displayName eq "x"`."""
    await bearer(identity, request, "scim.read")
    asked = Page(request)
    where = [condition(asked.filter, _ATTRIBUTES)] if asked.filter else []
    return json_response(await identity.read(lambda tx: page(tx, asked, groups, where, _ORDER, shown)))


async def show(identity: Identity, request: Request) -> Response:
    """Get one group."""
    await bearer(identity, request, "scim.read")
    guid = request.path_params["guid"]
    body, headers = await identity.read(lambda tx: _answer(tx, _group(tx, guid)))
    return json_response(body, headers=headers)


def _invalid(text: str) -> Problem:
    return scim(400, "invalid_scim_resource", text)


def _named(body: Mapping[str, Any]) -> dict[str, Any]:
    name, description = body.get("displayName"), body.get("description")
    if not isinstance(name, str) or not name.strip() or len(name.lower()) > _LONGEST or len(name.split()) != 1:
        raise _invalid("A group needs a displayName without blanks.")
    if description is not None and (not isinstance(description, str) or len(description) > _LONGEST):
        raise _invalid(f"A description may have at most {_LONGEST} characters.")
    return {"name": name, "name_key": name.lower(), "description": description}


def _asked_members(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    given = body.get("members")
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise _invalid("members must be a list of objects.")
    return [{**_checked_member(one), "operation": one.get("operation")} for one in given]


def _checked_member(one: Mapping[str, Any]) -> dict[str, Any]:
    value, type_, origin = one.get("value"), one.get("type") or "USER", one.get("origin") or "uaa"
    if not isinstance(value, str) or not value:
        raise _invalid("A member needs a value: the id of a user or of a group.")
    if type_ not in {"USER", "GROUP"}:
        raise _invalid("A member's type is USER or GROUP.")
    if not isinstance(origin, str) or len(origin) > _LONGEST:
        raise _invalid("A member's origin must be a text.")
    return {"value": value, "type": type_, "origin": origin}


def _put_member(tx: Tx, group: Row[Any], member: Mapping[str, Any]) -> None:
    """Add a member. Raises 400 when there is no such user or group, or when a group would contain itself."""
    value = member["value"]
    if member["type"] == "USER":
        known = tables.user_exists(tx, value)
    else:
        known = tx.scalar(select(groups.c.guid).where(groups.c.guid == value)) is not None
        if known and (value == group.guid or group.guid in _all_members(tx, value)):
            raise _invalid(f"The group {value} cannot be a member of {group.guid}: it contains that group.")
    if not known:
        raise _invalid(f"Invalid group member: {value}")
    kind = {"member_type": member["type"], "origin": member["origin"], "by_provider": False}
    values = {**kind, "created_at": tx.now}
    tables.put(tx, members, {"group_guid": group.guid, "member_guid": value}, values)


def _all_members(tx: Tx, guid: str) -> set[str]:
    """Guids of the groups that are members of a group, or of its members."""
    found: set[str] = set()
    waiting = {guid}
    nested = select(members.c.member_guid).where(members.c.member_type == "GROUP")
    while waiting:
        waiting = set(tx.scalars(nested.where(members.c.group_guid.in_(waiting)))) - found
        found |= waiting
    return found


async def create(identity: Identity, request: Request) -> Response:
    """Create a group, with members."""
    caller = await bearer(identity, request, "scim.write", "groups.update")
    body = await document(request)
    values, listed, source = _named(body), _asked_members(body), audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> tuple[dict[str, Any], dict[str, str]]:
        guid = guids.new()
        tx.run(insert(groups).values(guid=guid, created_at=tx.now, updated_at=tx.now, **values))
        row = _group(tx, guid)
        for one in listed:
            _put_member(tx, row, one)
        audit.record(tx, "GroupCreated", source, None, {"group": row.name})
        return _answer(tx, row)

    try:
        answer, headers = await identity.write(work)
    except IntegrityError:
        raise _taken(values["name"]) from None
    return json_response(answer, 201, headers)


def _taken(name: str) -> Problem:
    return conflict(f"A group with displayName: {name} already exists.")


async def put(identity: Identity, request: Request) -> Response:
    """Replace a group's name, description and members."""
    caller = await bearer(identity, request, "scim.write", "groups.update")
    body, source = await document(request), audit.Source.of(request, caller=caller)
    values, listed = _named(body), _asked_members(body)

    def work(tx: Tx) -> tuple[dict[str, Any], dict[str, str]]:
        row = _versioned(tx, request, "PUT")
        tx.run(delete(members).where(members.c.group_guid == row.guid))
        for one in listed:
            _put_member(tx, row, one)
        audit.record(tx, "GroupModified", source, None, {"group": row.name})
        return _answer(tx, _touch(tx, row, values))

    return await _changed(identity, work, values["name"])


async def patch(identity: Identity, request: Request) -> Response:
    """Change some of a group: members are added, or removed with `operation: delete`."""
    caller = await bearer(identity, request, "scim.write", "groups.update")
    body, source = await document(request), audit.Source.of(request, caller=caller)
    listed = _asked_members(body)

    def work(tx: Tx) -> tuple[dict[str, Any], dict[str, str]]:
        row = _versioned(tx, request, "PATCH")
        cleared = _cleared(body)
        if "members" in cleared:
            tx.run(delete(members).where(members.c.group_guid == row.guid))
        description = None if "description" in cleared else row.description
        name, given = body.get("displayName"), body.get("description")
        values = _named(
            {
                "displayName": row.name if name is None else name,
                "description": description if given is None else given,
            }
        )
        for one in listed:
            if one["operation"] == "delete":
                here = members.c.group_guid == row.guid, members.c.member_guid == one["value"]
                tx.run(delete(members).where(*here))
            else:
                _put_member(tx, row, one)
        audit.record(tx, "GroupModified", source, None, {"group": row.name})
        return _answer(tx, _touch(tx, row, values))

    return await _changed(identity, work, str(body.get("displayName")))


def _cleared(body: Mapping[str, Any]) -> set[str]:
    meta = body.get("meta")
    named = meta.get("attributes") if isinstance(meta, dict) else None
    return {str(one).lower() for one in named} if isinstance(named, list) else set()


def _versioned(tx: Tx, request: Request, method: str) -> Row[Any]:
    row = _group(tx, request.path_params["guid"], to_change=True)
    required_version(request, row.guid, row.version, "group", method)
    return row


def _touch(tx: Tx, row: Row[Any], values: Mapping[str, Any]) -> Row[Any]:
    complete = {**values, "version": row.version + 1, "updated_at": tx.now}
    changed = tx.one(update(groups).where(groups.c.guid == row.guid).values(complete).returning(groups))
    assert changed is not None
    return changed


async def _changed(identity: Identity, work: Any, name: str) -> Response:
    try:
        answer, headers = await identity.write(work)
    except IntegrityError:
        raise _taken(name) from None
    return json_response(answer, headers=headers)


async def delete_group(identity: Identity, request: Request) -> Response:
    """Delete a group; its members lose the scope at their next token."""
    caller = await bearer(identity, request, "scim.write")
    guid, source = request.path_params["guid"], audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> tuple[dict[str, Any], dict[str, str]]:
        row = _group(tx, guid, to_change=True)
        if "if-match" in request.headers:
            required_version(request, guid, row.version, "group", "DELETE")
        answer = _answer(tx, row)
        tx.run(delete(members).where((members.c.group_guid == guid) | (members.c.member_guid == guid)))
        tx.run(delete(tables.external_groups).where(tables.external_groups.c.group_guid == guid))
        tx.run(delete(groups).where(groups.c.guid == guid))
        audit.record(tx, "GroupDeleted", source, None, {"group": row.name})
        return answer

    answer, headers = await identity.write(work)
    return json_response(answer, headers=headers)


async def list_members(identity: Identity, request: Request) -> Response:
    """The members of a group; with `returnEntities=true` as whole users and groups."""
    await bearer(identity, request, "scim.read")
    guid, asked = request.path_params["guid"], Page(request)
    entities = asked.query.get("returnEntities", "").lower() == "true"

    def work(tx: Tx) -> list[dict[str, Any]]:
        row = _group(tx, guid)
        listed: list[dict[str, Any]] = shown(tx, [row])[0]["members"]
        return _with_entities(tx, listed) if entities else listed

    return json_response(await identity.read(work))


def _with_entities(tx: Tx, listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    wanted = [one["value"] for one in listed]
    people = tx.all(select(tables.identities).where(tables.identities.c.guid.in_(wanted)))
    nested = tx.all(select(groups).where(groups.c.guid.in_(wanted)))
    found = {one["id"]: one for one in [*users_shown(tx, people), *shown(tx, nested)]}
    return [{**one, "entity": found.get(one["value"])} for one in listed]


async def show_member(identity: Identity, request: Request) -> Response:
    """One member of a group."""
    await bearer(identity, request, "scim.read")
    return json_response(await identity.read(lambda tx: _member(_found(tx, request))))


def _found(tx: Tx, request: Request) -> Row[Any]:
    guid, member = request.path_params["guid"], request.path_params["member"]
    _group(tx, guid)
    row = tx.one(select(members).where(members.c.group_guid == guid, members.c.member_guid == member))
    if row is None:
        raise scim(404, "member_not_found", f"Member {member} does not exist in group {guid}")
    return row


async def add_member(identity: Identity, request: Request) -> Response:
    """Put a user or a group in a group."""
    caller = await bearer(identity, request, "scim.write", "groups.update")
    guid, member = request.path_params["guid"], _checked_member(await document(request))
    source = audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> None:
        row = _group(tx, guid, to_change=True)
        here = members.c.group_guid == guid, members.c.member_guid == member["value"]
        if tx.scalar(select(members.c.member_guid).where(*here)) is not None:
            text = f"Member {member['value']} is already in group {guid}"
            raise scim(409, "member_already_exists", text)
        _put_member(tx, row, member)
        _touch(tx, row, {})
        audit.record(tx, "GroupMemberAdded", source, None, {"group": row.name, "member": member["value"]})

    await identity.write(work)
    return json_response(member, 201)


async def remove_member(identity: Identity, request: Request) -> Response:
    """Take a user or a group out of a group."""
    caller = await bearer(identity, request, "scim.write")
    source = audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> dict[str, Any]:
        group = _group(tx, request.path_params["guid"], to_change=True)
        row = _found(tx, request)
        here = members.c.group_guid == row.group_guid, members.c.member_guid == row.member_guid
        tx.run(delete(members).where(*here))
        _touch(tx, group, {})
        audit.record(tx, "GroupMemberRemoved", source, None, {"group": group.name, "member": row.member_guid})
        return _member(row)

    return json_response(await identity.write(work))
