"""Roles of users in organizations and spaces."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict
from urllib.parse import quote_plus

from sqlalchemy import ColumnElement, Row, or_

from cupola.api import directory
from cupola.api.organizations import ORGANIZATIONS
from cupola.api.spaces import SPACES
from cupola.api.users import USERS
from cupola.domain import roles as rules
from cupola.domain import visibility
from cupola.rest.message import Message, anything, unknown_fields
from cupola.rest.operation import Accepted, Call, Operation, create, delete, list_, present, show
from cupola.rest.present import Links, common
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Include, Resource, World
from cupola.roles import ORGANIZATION_ROLES, SPACE_ROLES, Actor
from cupola.store import jobs, rows
from cupola.store.orgs import organizations, roles, spaces, users

__all__ = ["OPERATIONS", "ROLES"]

_TYPES = (*ORGANIZATION_ROLES, *SPACE_ROLES)


_TARGET = {
    "type": "object",
    "properties": {"data": {"type": "object", "properties": {"guid": {"type": "string"}}, "required": ["guid"]}},
    "required": ["data"],
}
_USER = {
    "type": "object",
    "properties": {
        "data": {
            "type": "object",
            "properties": {
                "guid": {"type": "string"},
                "username": {"type": "string"},
                "origin": {"type": ["string", "null"]},
            },
        }
    },
    "required": ["data"],
}
_RELATIONSHIPS = {
    "type": "object",
    "properties": {"user": _USER, "organization": _TARGET, "space": _TARGET},
    "required": ["user"],
    "additionalProperties": False,
}


def _data(relationships: Mapping[str, Any], name: str) -> Any:
    relationship = relationships.get(name)
    return relationship.get("data") if isinstance(relationship, dict) else None


def _user_problems(relationships: Mapping[str, Any]) -> Iterator[str]:
    if not relationships.get("user"):
        yield "User can't be blank"
    data = _data(relationships, "user")
    given = data if isinstance(data, dict) else {}
    if "guid" in given and "username" in given:
        yield "Username cannot be specified when identifying user by guid"
    if "guid" in given and "origin" in given:
        yield "User origin cannot be specified when identifying user by guid"
    if "origin" in given and "username" not in given:
        yield "User origin cannot be specified without specifying the username"
    if "guid" not in given and "username" not in given:
        yield "User must have a username or guid specified"


def _place_problems(relationships: Mapping[str, Any], type_: Any) -> Iterator[str]:
    space, organization = _data(relationships, "space"), _data(relationships, "organization")
    if space is None and organization is None:
        yield "must specify either a space or an organization."
    if space is not None and type_ in ORGANIZATION_ROLES:
        yield f"Space cannot be provided with the organization role type: '{type_}'."
    if organization is not None and type_ in SPACE_ROLES:
        yield f"Organization cannot be provided with the space role type: '{type_}'."
    if space is not None and organization is not None:
        yield "cannot specify both an organization and a space."


def _form_problems(relationships: Mapping[str, Any], name: str) -> Iterator[str]:
    relationship = relationships[name]
    form = f'{name.capitalize()} must be structured like this: "{name}: {{"data": {{"guid": "valid-guid"}}}}"'
    data = relationship.get("data") if isinstance(relationship, dict) and set(relationship) == {"data"} else None
    if not isinstance(data, dict) or set(data) != {"guid"}:
        yield form
        return
    if not isinstance(data["guid"], str):
        yield f"{name.capitalize()} guid must be a string"
    if not isinstance(data["guid"], str) or not 1 <= len(data["guid"]) <= 200:
        yield f"{name.capitalize()} guid must be between 1 and 200 characters"


def _relationship_problems(relationships: Any, type_: Any) -> Iterator[str]:
    if not isinstance(relationships, dict):
        yield "'relationships' is not an object"
        return
    if not relationships:
        yield "'relationships' must include one or more valid relationships"
        return
    unknown = [name for name in relationships if name not in {"user", "organization", "space"}]
    if unknown:
        yield unknown_fields(unknown)
    of_user = list(_user_problems(relationships))
    of_place = list(_place_problems(relationships, type_))
    yield from (*of_user, *of_place)
    if not of_place:
        yield from _form_problems(relationships, "organization" if _data(relationships, "space") is None else "space")
    if of_user:
        return
    user = _data(relationships, "user")
    if "guid" in user:
        yield from _form_problems(relationships, "user")
    elif not isinstance(user["username"], str):
        yield "Username must be a string"
    elif user.get("origin") is not None and not isinstance(user["origin"], str):
        yield "User origin must be a string"


class Create(Message):
    """A role of a user in an organization or a space."""

    type = anything(schema={"type": "string", "enum": list(_TYPES)}, required=True)
    relationships = anything(schema=_RELATIONSHIPS, required=True)

    def rules(self) -> Iterator[str]:
        type_ = self.given.get("type")
        for problem in _relationship_problems(self.given.get("relationships"), type_):
            yield f"Relationships {problem}"
        if type_ not in _TYPES:
            shown = ", ".join(f'"{one}"' for one in _TYPES)
            yield f"Type must be one of the allowed types [{shown}]"


class Role(TypedDict):
    """A role as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    type: str
    relationships: dict[str, Any]
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    links = {
        "self": world.link(f"/v3/roles/{row.guid}"),
        "user": world.link(f"/v3/users/{quote_plus(row.user_guid)}"),
    }
    if row.organization_guid:
        links["organization"] = world.link(f"/v3/organizations/{row.organization_guid}")
    if row.space_guid:
        links["space"] = world.link(f"/v3/spaces/{row.space_guid}")
    return {
        **common(row),
        "type": row.type,
        "relationships": {
            "user": one(row.user_guid),
            "organization": one(row.organization_guid),
            "space": one(row.space_guid),
        },
        "links": links,
    }


def visible(actor: Actor) -> ColumnElement[bool] | None:
    if actor.reads_everything:
        return None
    return or_(
        roles.c.organization_guid.in_(visibility.readable_orgs()),
        roles.c.space_guid.in_(visibility.readable_spaces()),
    )


def _users(world: World, page: Sequence[Row[Any]]) -> list[Any]:
    found = rows.by_guids(world.tx, users, [row.user_guid for row in page])
    return present(world, USERS, list(found.values()))


def _spaces(world: World, page: Sequence[Row[Any]]) -> list[Any]:
    found = rows.by_guids(world.tx, spaces, [row.space_guid for row in page])
    return present(world, SPACES, list(found.values()))


def _organizations(world: World, page: Sequence[Row[Any]]) -> list[Any]:
    found = rows.by_guids(world.tx, organizations, [row.organization_guid for row in page])
    return present(world, ORGANIZATIONS, list(found.values()))


ROLES = Resource(
    name="role",
    path="/v3/roles",
    table=roles,
    view=view,
    shape=Role,
    visible=visible,
    labels=False,
    filters=[
        Filter("organization_guids", roles.c.organization_guid),
        Filter("space_guids", roles.c.space_guid),
        Filter("user_guids", roles.c.user_guid),
        Filter("types", roles.c.type),
    ],
    includes=[
        Include("user", "users", _users),
        Include("organization", "organizations", _organizations),
        Include("space", "spaces", _spaces),
    ],
    query_status=422,
)


def create_role(call: Call[None, Create]) -> Row[Any]:
    """Give a user a role in an organization or a space."""
    relationships = call.body.relationships
    return rules.create(
        call.tx,
        call.settings,
        call.actor,
        call.body.given,
        user=relationships["user"]["data"],
        space_guid=(_data(relationships, "space") or {}).get("guid"),
        organization_guid=(_data(relationships, "organization") or {}).get("guid"),
    )


def may_delete(call: Call[Row[Any], Any]) -> None:
    """Managers of the place."""
    rules.may_delete(call.tx, call.actor, call.row)


def delete_role(call: Call[Row[Any], None]) -> Accepted:
    """Take a role away from a user."""
    rules.require_deletable(call.tx, call.row)
    guid = jobs.enqueue(
        call.tx,
        "role.delete",
        {"guid": call.row.guid},
        actor=call.actor,
        resource_guid=call.row.guid,
        resource_type="roles",
    )
    return Accepted(guid)


OPERATIONS: list[Operation] = [
    # Roles have no labels, but one may ask for those without.
    list_(ROLES, quiet=["label_selector"]),
    show(ROLES, query_status=422),
    create(ROLES, Create, create_role, before=directory.role_is_given),
    delete(ROLES, delete_role, allow=may_delete),
]
