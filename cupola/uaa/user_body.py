"""Users as JSON: what a request may say of one, and how one is shown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, select

from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa.passwords import MOST
from cupola.uaa.problems import scim
from cupola.uaa.scim import SCHEMAS, millis
from cupola.uaa.scopes import DEFAULT_GROUPS

__all__ = ["checked_password", "new_values", "patched", "shown"]

_USERNAME = re.compile(r"[\w+\-.@'!]+")
_LONGEST = 255


def checked_password(password: Any) -> str:
    """A password that the policy allows. Raises 400."""
    if not isinstance(password, str) or not password:
        raise scim(400, "invalid_password", "Password must be at least 1 characters in length.")
    if len(password) > MOST:
        raise scim(400, "invalid_password", f"Password must be no more than {MOST} characters in length.")
    return password


def _invalid(text: str) -> Exception:
    return scim(400, "invalid_scim_resource", text)


def _text(body: Mapping[str, Any], name: str, default: str | None = "") -> Any:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise _invalid(f"{name} must be a text of at most {_LONGEST} characters.")
    return value


def _flag(body: Mapping[str, Any], name: str, default: bool) -> bool:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _invalid(f"{name} must be true or false.")
    return value


def _username(body: Mapping[str, Any], origin: str) -> str:
    name = body.get("userName")
    if not isinstance(name, str) or not name.strip():
        raise _invalid("A username must be provided.")
    # Some letters become two in lower case.
    if len(name) > _LONGEST or len(name.lower()) > _LONGEST:
        raise _invalid(f"A username may have at most {_LONGEST} characters.")
    if origin == "uaa" and not _USERNAME.fullmatch(name):
        raise _invalid(r"Username must match pattern: [\p{L}+0-9+\-_.@'!]+")
    return name


def _email(body: Mapping[str, Any], username: str) -> str:
    emails = body.get("emails")
    if emails is None:
        return username
    if not isinstance(emails, list) or len(emails) != 1 or not isinstance(emails[0], dict):
        raise _invalid("Exactly one email must be provided.")
    value = emails[0].get("value")
    if not isinstance(value, str) or not value.strip():
        raise _invalid("An email must be provided.")
    if len(value) > _LONGEST:
        raise _invalid(f"An email may have at most {_LONGEST} characters.")
    return value


def _phone(body: Mapping[str, Any]) -> str | None:
    phones = body.get("phoneNumbers")
    if not phones:
        return None
    first = phones[0] if isinstance(phones, list) else None
    if not isinstance(first, dict):
        raise _invalid("phoneNumbers must be a list of objects with a value.")
    return _text(first, "value", None) or None


def new_values(body: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a user that a body describes wholly (POST, PUT); the password is not among them. Raises 400."""
    origin = _text(body, "origin") or "uaa"
    username = _username(body, origin)
    name = body.get("name")
    if name is not None and not isinstance(name, dict):
        raise _invalid("name must be an object.")
    name = name or {}
    return {
        "username": username,
        "username_key": username.lower(),
        "origin": origin,
        "email": _email(body, username),
        "external_id": _text(body, "externalId", None),
        "given_name": _text(name, "givenName"),
        "family_name": _text(name, "familyName"),
        "phone_number": _phone(body),
        "active": _flag(body, "active", True),
        "verified": _flag(body, "verified", True),
    }


_CLEARABLE: dict[str, dict[str, Any]] = {
    "externalid": {"externalId": None},
    "name": {"name": {}},
    "name.givenname": {"name.givenName": None},
    "name.familyname": {"name.familyName": None},
    "phonenumbers": {"phoneNumbers": []},
}


def patched(row: Row[Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """The body that a PATCH makes of a user: `meta.attributes` are cleared, then what it names replaces what there is."""
    whole = described(row)
    meta = body.get("meta")
    cleared = meta.get("attributes") if isinstance(meta, dict) else None
    for attribute in cleared if isinstance(cleared, list) else []:
        change = _CLEARABLE.get(str(attribute).lower())
        if change is None:
            raise _invalid(f"The attribute {str(attribute)[:100]} cannot be removed.")
        for key, value in change.items():
            outer, _, inner = key.partition(".")
            whole[outer] = {**whole[outer], inner: value} if inner else value
    given = {key: value for key, value in body.items() if key in whole and value is not None}
    if isinstance(given.get("name"), dict):
        given["name"] = {**whole["name"], **given["name"]}
    return {**whole, **given}


def described(row: Row[Any]) -> dict[str, Any]:
    """What may be changed of a user, as a body says it."""
    return {
        "userName": row.username,
        "origin": row.origin,
        "externalId": row.external_id,
        "name": {"familyName": row.family_name, "givenName": row.given_name},
        "emails": [{"value": row.email, "primary": True}],
        "phoneNumbers": [{"value": row.phone_number}] if row.phone_number else [],
        "active": row.active,
        "verified": row.verified,
    }


def shown(tx: Tx, rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    """Users as they are shown, with their groups and approvals."""
    default = _default_groups(tx)
    guids = [row.guid for row in rows]
    direct, nested, approved = _direct(tx, guids), _nested(tx), _approvals(tx, guids)
    return [_view(row, default, direct.get(row.guid, {}), nested, approved.get(row.guid, [])) for row in rows]


def _view(
    row: Row[Any],
    default: Mapping[str, str],
    direct: Mapping[str, str],
    nested: Mapping[str, list[tuple[str, str]]],
    approved: list[dict[str, Any]],
) -> dict[str, Any]:
    held = {**default, **direct}
    indirect = _reachable(held, nested)
    groups = [{"value": guid, "display": name, "type": "DIRECT"} for guid, name in held.items()]
    groups += [{"value": guid, "display": name, "type": "INDIRECT"} for guid, name in indirect.items()]
    body = {
        "id": row.guid,
        "meta": {"version": row.version, "created": millis(row.created_at), "lastModified": millis(row.updated_at)},
        **described(row),
        "groups": sorted(groups, key=lambda group: group["display"]),
        "approvals": approved,
        "zoneId": "uaa",
        "passwordLastModified": millis(row.password_changed_at),
        "lastLogonTime": None if row.last_login_at is None else row.last_login_at // 1000,
        "previousLogonTime": None if row.previous_login_at is None else row.previous_login_at // 1000,
        "schemas": SCHEMAS,
    }
    return {key: value for key, value in body.items() if value is not None}


def _default_groups(tx: Tx) -> dict[str, str]:
    groups = tables.identity_groups.c
    found = tx.all(select(groups.guid, groups.name).where(groups.name_key.in_(sorted(DEFAULT_GROUPS))))
    return {row.guid: row.name for row in found}


def _direct(tx: Tx, guids: Sequence[str]) -> dict[str, dict[str, str]]:
    members, groups = tables.group_members.c, tables.identity_groups.c
    query = select(members.member_guid, groups.guid, groups.name).join_from(
        tables.group_members, tables.identity_groups, groups.guid == members.group_guid
    )
    found: dict[str, dict[str, str]] = {}
    for row in tx.all(query.where(members.member_guid.in_(guids))):
        found.setdefault(row.member_guid, {})[row.guid] = row.name
    return found


def _nested(tx: Tx) -> dict[str, list[tuple[str, str]]]:
    """Groups that are members: guid to guids and names of the groups that they are in. There are few."""
    members, groups = tables.group_members.c, tables.identity_groups.c
    query = select(members.member_guid, groups.guid, groups.name).join_from(
        tables.group_members, tables.identity_groups, groups.guid == members.group_guid
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for row in tx.all(query.where(members.member_type == "GROUP")):
        found.setdefault(row.member_guid, []).append((row.guid, row.name))
    return found


def _reachable(held: Mapping[str, str], nested: Mapping[str, list[tuple[str, str]]]) -> dict[str, str]:
    found: dict[str, str] = {}
    waiting = list(held)
    while waiting:
        for guid, name in nested.get(waiting.pop(), ()):
            if guid not in held and guid not in found:
                found[guid] = name
                waiting.append(guid)
    return found


def _approvals(tx: Tx, guids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    table = tables.approvals
    found: dict[str, list[dict[str, Any]]] = {}
    for row in tx.all(select(table).where(table.c.user_guid.in_(guids)).order_by(table.c.client_id, table.c.scope)):
        entry = {
            "userId": row.user_guid,
            "clientId": row.client_id,
            "scope": row.scope,
            "status": "APPROVED" if row.approved else "DENIED",
            "expiresAt": millis(row.expires_at),
            "lastUpdatedAt": millis(row.updated_at),
        }
        found.setdefault(row.user_guid, []).append(entry)
    return found
