"""/Groups/External: whose members, at another identity provider, are in a group of ours. Groups that the settings map are
not among them: those cannot be changed here."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, func, select
from starlette.requests import Request
from starlette.responses import Response

from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit
from cupola.uaa.bearer import bearer
from cupola.uaa.forms import document
from cupola.uaa.problems import Problem, json_response, scim
from cupola.uaa.scim import SCHEMAS, Page, millis
from cupola.uaa.scim_filter import Attribute, condition
from cupola.uaa.service import Identity

__all__ = ["create", "delete_by_group", "delete_by_name", "search"]

mappings, groups = tables.external_groups, tables.identity_groups
LDAP = "ldap"
"""The origin where none is named, as ever."""
_LONGEST = 255
_ATTRIBUTES = {
    "externalgroup": Attribute(mappings.c.external_group),
    "origin": Attribute(mappings.c.origin),
    "groupid": Attribute(mappings.c.group_guid),
    "displayname": Attribute(groups.c.name_key, "folded"),
}
_JOINED = mappings.join(groups, groups.c.guid == mappings.c.group_guid)
_COLUMNS = select(mappings, groups.c.name).select_from(_JOINED)


async def search(identity: Identity, request: Request) -> Response:
    """List mappings: all, or those of an origin or of an external group."""
    await bearer(identity, request, "scim.read")
    asked = Page(request)
    where: list[ColumnElement[bool]] = [condition(asked.filter, _ATTRIBUTES)] if asked.filter else []
    named = {"origin": mappings.c.origin, "externalGroup": mappings.c.external_group}
    where += [column == asked.query[name] for name, column in named.items() if asked.query.get(name)]

    def work(tx: Tx) -> dict[str, Any]:
        total = tx.scalar(select(func.count()).select_from(_JOINED).where(*where))
        order = (mappings.c.created_at, mappings.c.group_guid, mappings.c.external_group, mappings.c.origin)
        rows: Sequence[Row[Any]] = ()
        if asked.count:
            rows = tx.all(_COLUMNS.where(*where).order_by(*order).limit(asked.count).offset(asked.start - 1))
        return {
            "resources": [_brief(row) for row in rows],
            "startIndex": asked.start,
            "itemsPerPage": asked.count,
            "totalResults": total,
            "schemas": SCHEMAS,
        }

    return json_response(await identity.read(work))


def _brief(row: Row[Any]) -> dict[str, Any]:
    return {
        "groupId": row.group_guid,
        "displayName": row.name,
        "externalGroup": row.external_group,
        "origin": row.origin,
    }


def _view(row: Row[Any]) -> dict[str, Any]:
    made = millis(row.created_at)
    return {**_brief(row), "meta": {"version": 0, "created": made, "lastModified": made}, "schemas": SCHEMAS}


async def create(identity: Identity, request: Request) -> Response:
    """Map an external group to a group of ours; a mapping that is there already stays."""
    caller = await bearer(identity, request, "scim.write")
    body, source = await document(request), audit.Source.of(request, caller=caller)
    external, origin = _text(body, "externalGroup").strip(), _text(body, "origin") or LDAP
    if not external:
        raise _invalid("external group must not be null when mapping an external group")
    group_id, name = _text(body, "groupId"), _text(body, "displayName")

    def work(tx: Tx) -> dict[str, Any]:
        group = _group(tx, groups.c.guid == group_id if group_id else groups.c.name_key == name.lower())
        if group is None:
            raise _no_group(group_id or name)
        key = {"group_guid": group.guid, "external_group": external, "origin": origin}
        found = _found(tx, key)
        if found is None:
            tables.put(tx, mappings, key, {"created_at": tx.now})
            audit.record(tx, "ExternalGroupMapped", source, None, {**key, "group": group.name})
            found = _found(tx, key)
        assert found is not None
        return _view(found)

    return json_response(await identity.write(work), 201)


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise _invalid(f"{name} must be a text of at most {_LONGEST} characters.")
    return value


def _invalid(text: str) -> Problem:
    return scim(400, "invalid_scim_resource", text)


def _no_group(name: str) -> Problem:
    return scim(404, "scim_resource_not_found", f"Group {name} does not exist")


def _group(tx: Tx, where: ColumnElement[bool]) -> Row[Any] | None:
    return tx.one(select(groups).where(where))


def _found(tx: Tx, key: Mapping[str, str]) -> Row[Any] | None:
    return tx.one(_COLUMNS.where(*(mappings.c[name] == value for name, value in key.items())))


async def delete_by_group(identity: Identity, request: Request) -> Response:
    """Remove a mapping of the group with an id. Members keep the scope until their next login."""
    return await _delete(identity, request, groups.c.guid == request.path_params["group"])


async def delete_by_name(identity: Identity, request: Request) -> Response:
    """Remove a mapping of the group with a name."""
    return await _delete(identity, request, groups.c.name_key == request.path_params["group"].lower())


async def _delete(identity: Identity, request: Request, where: ColumnElement[bool]) -> Response:
    caller = await bearer(identity, request, "scim.write")
    source, path = audit.Source.of(request, caller=caller), request.path_params

    def work(tx: Tx) -> dict[str, Any]:
        group = _group(tx, where)
        if group is None:
            raise _no_group(path["group"])
        key = {
            "group_guid": group.guid,
            "external_group": path["external"].strip(),
            "origin": path.get("origin", LDAP),
        }
        row = _found(tx, key)
        if row is None:
            text = f"The mapping between groupId {group.guid} and external group {key['external_group']} does not exist"
            raise scim(404, "scim_resource_not_found", text)
        tx.run(delete(mappings).where(*(mappings.c[name] == value for name, value in key.items())))
        audit.record(tx, "ExternalGroupUnmapped", source, None, {**key, "group": group.name})
        return _view(row)

    return json_response(await identity.write(work))
