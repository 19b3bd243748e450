"""Users, as the API knows them: who has a role anywhere; names come from the identity tables."""

from collections.abc import Iterator
from typing import Any, TypedDict
from urllib.parse import quote_plus

from sqlalchemy import ColumnElement, Row, exists, or_, select

from cupola import errors
from cupola.api import access, directory
from cupola.api.organizations import ORGANIZATIONS
from cupola.api.spaces import SPACES
from cupola.domain import access as rules_of_access
from cupola.domain import roles as rules
from cupola.domain import visibility
from cupola.rest.message import Message, MetadataOnly, anything, metadata, string
from cupola.rest.operation import Accepted, Call, Operation, create, delete, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.resource import Filter, Resource, World
from cupola.roles import Actor
from cupola.store import identity, jobs, rows
from cupola.store.identity import identities
from cupola.store.orgs import roles, spaces, users

__all__ = ["OPERATIONS", "USERS"]


def _guid_problems(value: Any) -> Iterator[str]:
    if not isinstance(value, str):
        yield "Guid must be a string"
    if not isinstance(value, str) or not 1 <= len(value) <= 200:
        yield "Guid must be between 1 and 200 characters"


class Create(Message):
    """A user by guid, or by name and origin."""

    guid = anything(_guid_problems, {"type": "string", "minLength": 1, "maxLength": 200})
    username = string(nullable=True)
    origin = string(nullable=True)
    metadata = metadata()

    def rules(self) -> Iterator[str]:
        username, origin = self.given.get("username"), self.given.get("origin")
        if self.given.get("guid") is not None:
            if username is not None:
                yield "Username cannot be provided with 'guid'"
            if origin is not None:
                yield "Origin cannot be provided with 'guid'"
        elif username is None and origin is None:
            yield "Guid or 'username' and 'origin' must be provided"
        else:
            if username is None:
                yield "Origin can only be provided together with 'username'"
            if origin is None:
                yield "Username can only be provided together with 'origin'"
            if origin == "uaa":
                yield "Origin cannot be 'uaa' when creating a user by username"


class User(TypedDict):
    """A user as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    username: str | None
    presentation_name: str
    origin: str | None
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    name, origin = world.related["names"].get(row.guid, (None, None))
    return {
        **common(row),
        "username": name,
        "presentation_name": name or row.guid,
        "origin": origin,
        "metadata": metadata_of(row),
        "links": {"self": world.link(f"/v3/users/{quote_plus(row.guid)}")},
    }


def visible(actor: Actor) -> ColumnElement[bool] | None:
    if actor.reads_everything:
        return None
    mine = visibility.orgs_with_any_role()
    in_org = select(roles.c.user_guid).where(roles.c.organization_guid.in_(mine))
    inside = select(spaces.c.guid).where(spaces.c.organization_guid.in_(mine))
    in_space = select(roles.c.user_guid).where(roles.c.space_guid.in_(inside))
    return or_(users.c.guid == visibility.actor(), users.c.guid.in_(in_org), users.c.guid.in_(in_space))


def _named(column: Any) -> Any:
    return lambda values: users.c.guid.in_(select(identities.c.guid).where(column.in_(values)))


def _pattern(text: str) -> str:
    escaped = text.lower().replace("/", "//").replace("%", "/%").replace("_", "/_")
    return f"%{escaped}%"


def _partly_named(pattern: Any, actor: Actor) -> ColumnElement[bool]:
    like = identities.c.username_key.like(pattern, escape="/")
    if actor.reads_everything:
        return users.c.guid.in_(select(identities.c.guid).where(like))
    # No index finds a part of a name: the names of those that the actor sees are looked at, rather than all.
    return exists().where(identities.c.guid == users.c.guid, like)


def _of_origin(origins: Any) -> ColumnElement[bool]:
    # Goes together with a name, which is what finds the users.
    return exists().where(identities.c.guid == users.c.guid, identities.c.origin.in_(origins))


USERS = Resource(
    name="user",
    path="/v3/users",
    table=users,
    view=view,
    shape=User,
    visible=visible,
    related={"names": lambda world, page: identity.names_of(world.tx, [row.guid for row in page])},
    filters=[
        Filter("usernames", _named(identities.c.username_key), fold=True),
        Filter("partial_usernames", _partly_named, convert=_pattern, each=True, by_actor=True),
        Filter("origins", _of_origin),
    ],
    query_status=422,
)


def coherent(call: Call[Any, None]) -> None:
    """`origins` needs a name; the two kinds of name exclude each other."""
    query = call.query
    if "usernames" in query and "partial_usernames" in query:
        raise query.bad("Usernames filter cannot be provided with both usernames and partial_usernames filter.")
    if "origins" in query and "usernames" not in query and "partial_usernames" not in query:
        raise query.bad("Origins filter cannot be provided without usernames or partial_usernames filter.")


def may_create(call: Call[None, Create]) -> None:
    """Admins; organization managers by name and origin, where the operator allows it."""
    by_name = call.body.guid is None and call.settings.identity.allow_user_creation_by_org_manager
    if by_name and rules_of_access.manages_any_organization(call.tx, call.actor):
        return
    rules_of_access.require_admin(call.actor)


def create_user(call: Call[None, Create]) -> Row[Any]:
    """Make a user known to the API, so that roles can be given."""
    body = call.body
    guid, shown = body.guid, f"guid '{body.guid}'"
    if guid is None:
        assert body.username is not None
        assert body.origin is not None
        guid = rules.shadow_user(call.tx, call.settings, body.username, body.origin)
        shown = f"username '{body.username}' and origin '{body.origin}'"
    if rows.by_guid(call.tx, users, guid) is not None:
        raise errors.unprocessable(f"User with {shown} already exists.")
    is_client = identity.client_exists(call.tx, guid)
    return rows.add(call.tx, users, {"guid": guid, "is_client": is_client}, body.metadata)


def update_user(call: Call[Row[Any], MetadataOnly]) -> Row[Any]:
    """Relabel a user."""
    return rows.change(call.tx, users, call.row, {}, call.body.metadata)


def delete_user(call: Call[Row[Any], None]) -> Accepted:
    """Delete a user's roles and the API's knowledge of them; the identity stays."""
    guid = jobs.enqueue(
        call.tx,
        "user.delete",
        {"guid": call.row.guid},
        actor=call.actor,
        resource_guid=call.row.guid,
        resource_type="users",
    )
    return Accepted(guid)


def _of_org(org: Any) -> ColumnElement[bool]:
    return users.c.guid.in_(select(roles.c.user_guid).where(roles.c.organization_guid == org))


def _of_space(space: Any) -> ColumnElement[bool]:
    return users.c.guid.in_(select(roles.c.user_guid).where(roles.c.space_guid == space))


OPERATIONS: list[Operation] = [
    list_(USERS, allow=coherent),
    list_(
        USERS,
        path="/v3/organizations/{guid}/users",
        parent=ORGANIZATIONS,
        within=_of_org,
        allow=coherent,
        query_status=400,
        doc="List the users with a role in an organization.",
    ),
    list_(
        USERS,
        path="/v3/spaces/{guid}/users",
        parent=SPACES,
        within=_of_space,
        allow=coherent,
        query_status=400,
        doc="List the users with a role in a space.",
    ),
    show(USERS),
    create(USERS, Create, create_user, allow=may_create, before=directory.user_is_made),
    update(USERS, MetadataOnly, update_user, allow=access.ADMIN),
    delete(USERS, delete_user, allow=access.ADMIN),
]
