"""Roles of users in organizations and spaces."""

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, or_

from cupola.api.organizations import ORGANIZATIONS
from cupola.api.spaces import SPACES
from cupola.api.users import USERS
from cupola.domain import roles as rules
from cupola.domain import visibility
from cupola.rest.message import Message, anything, nested, string, to_one
from cupola.rest.operation import Accepted, Call, Operation, create, delete, list_, present, show
from cupola.rest.present import Links, common
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Include, Resource, World
from cupola.roles import ORGANIZATION_ROLES, SPACE_ROLES, Actor
from cupola.store import jobs, rows
from cupola.store.orgs import organizations, roles, spaces, users

__all__ = ["OPERATIONS", "ROLES"]

_TYPES = (*ORGANIZATION_ROLES, *SPACE_ROLES)


def _user_problems(value: Any) -> Iterator[str]:
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(data, dict) or not data:
        yield 'User must be structured like this: "user: {"data": {"guid": "valid-guid"}}"'
        return
    guid, username, origin = data.get("guid"), data.get("username"), data.get("origin")
    if guid is None and username is None:
        yield 'User must be structured like this: "user: {"data": {"guid": "valid-guid"}}"'
    if guid is not None and username is not None:
        yield "User cannot specify identifier other than guid"
    elif guid is not None and not (isinstance(guid, str) and 1 <= len(guid) <= 200):
        yield "User guid must be between 1 and 200 characters"
    if username is not None and (not isinstance(username, str) or not username):
        yield "User username must be a string"
    if origin is not None and (not isinstance(origin, str) or username is None):
        yield "User origin must be a string and needs a username"


class _Relationships(Message):
    user = anything(_user_problems, {"type": "object"}, required=True, nullable=False)
    organization = to_one()
    space = to_one()


class Create(Message):
    """A role of a user in an organization or a space."""

    type = string(required=True, one_of=_TYPES, one_of_message=f"must be one of the allowed types {list(_TYPES)}")
    relationships = nested(_Relationships, required=True)

    def rules(self) -> Iterator[str]:
        relationships, type_ = self.given.get("relationships"), self.given.get("type")
        if not isinstance(relationships, dict) or type_ not in _TYPES:
            return
        both = "organization" in relationships and "space" in relationships
        if both:
            yield "Role cannot be associated with both an organization and a space."
        elif type_ in SPACE_ROLES and "space" not in relationships:
            yield "Role with type " + f"'{type_}' must be associated with a space."
        elif type_ in ORGANIZATION_ROLES and "organization" not in relationships:
            yield "Role with type " + f"'{type_}' must be associated with an organization."


class Role(TypedDict):
    """A role as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    type: str
    relationships: dict[str, Any]
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    links = {"self": world.link(f"/v3/roles/{row.guid}"), "user": world.link(f"/v3/users/{row.user_guid}")}
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
        Filter("types", roles.c.type, choices=_TYPES),
        Filter("user_guids", roles.c.user_guid),
        Filter("organization_guids", roles.c.organization_guid),
        Filter("space_guids", roles.c.space_guid),
    ],
    includes=[
        Include("user", "users", _users),
        Include("space", "spaces", _spaces),
        Include("organization", "organizations", _organizations),
    ],
    query_status=422,
)


def create_role(call: Call[None, Create]) -> Row[Any]:
    """Give a user a role in an organization or a space."""
    relationships = call.body.relationships
    user = relationships.user["data"]
    return rules.create(
        call.tx,
        call.actor,
        call.body.type,
        user_guid=user.get("guid"),
        username=user.get("username"),
        origin=user.get("origin"),
        space_guid=relationships.space,
        organization_guid=relationships.organization,
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
    list_(ROLES),
    show(ROLES, query_status=422),
    create(ROLES, Create, create_role),
    delete(ROLES, delete_role, allow=may_delete),
]
