"""Users, as the API knows them: who has a role anywhere; names come from the identity tables."""

from collections.abc import Iterator
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, func, or_, select

from cupola import errors
from cupola.api import access
from cupola.api.organizations import ORGANIZATIONS
from cupola.api.spaces import SPACES
from cupola.domain import visibility
from cupola.rest.message import Message, MetadataOnly, metadata, string
from cupola.rest.operation import Accepted, Call, Operation, create, delete, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.resource import Filter, Resource, World
from cupola.roles import Actor
from cupola.store import identity, jobs, rows
from cupola.store.identity import identities
from cupola.store.orgs import roles, spaces, users

__all__ = ["OPERATIONS", "USERS"]


class Create(Message):
    """A user by guid, or by name and origin."""

    guid = string(min_length=1, max_length=200)
    username = string()
    origin = string()
    metadata = metadata()

    def rules(self) -> Iterator[str]:
        if self.has("guid") and (self.has("username") or self.has("origin")):
            yield "Guid cannot be given together with username or origin"
        if not self.has("guid"):
            if not self.has("username"):
                yield "Guid must be a string"
            elif not self.has("origin"):
                yield "Origin can't be blank"
            elif self.given.get("origin") == "uaa":
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
        "links": {"self": world.link(f"/v3/users/{row.guid}")},
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


def _partly_named(values: Any) -> ColumnElement[bool]:
    # One value: several would need a statement of another shape for each number of them.
    pattern = func.lower(identities.c.username).contains(values, autoescape=True)
    return users.c.guid.in_(select(identities.c.guid).where(pattern))


USERS = Resource(
    name="user",
    path="/v3/users",
    table=users,
    view=view,
    shape=User,
    visible=visible,
    related={"names": lambda world, page: identity.names_of(world.tx, [row.guid for row in page])},
    filters=[
        Filter("usernames", _named(func.lower(identities.c.username)), fold=True),
        Filter("partial_usernames", _partly_named, kind="one", convert=str.lower),
        Filter("origins", _named(identities.c.origin)),
    ],
    query_status=422,
)


def coherent(call: Call[Any, None]) -> None:
    """`origins` needs a name; the two kinds of name exclude each other."""
    query = call.query
    if "usernames" in query and "partial_usernames" in query:
        raise query.bad("Usernames cannot be given together with partial_usernames")
    if "origins" in query and "usernames" not in query and "partial_usernames" not in query:
        raise query.bad("Origins filter cannot be provided without usernames or partial_usernames filter.")


def create_user(call: Call[None, Create]) -> Row[Any]:
    """Make a user known to the API, so that roles can be given."""
    guid = call.body.guid
    if guid is None:
        assert call.body.username is not None
        guid = identity.create_user(call.tx, username=call.body.username, origin=call.body.origin or "uaa")
    if rows.by_guid(call.tx, users, guid) is not None:
        raise errors.unprocessable(f"User with guid '{guid}' already exists.")
    is_client = identity.client_exists(call.tx, guid)
    return rows.add(call.tx, users, {"guid": guid, "is_client": is_client}, call.body.metadata)


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
    inside = select(spaces.c.guid).where(spaces.c.organization_guid == org)
    held = select(roles.c.user_guid).where(or_(roles.c.organization_guid == org, roles.c.space_guid.in_(inside)))
    return users.c.guid.in_(held)


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
        doc="List the users with a role in an organization or its spaces.",
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
    create(USERS, Create, create_user, allow=access.ADMIN),
    update(USERS, MetadataOnly, update_user, allow=access.ADMIN),
    delete(USERS, delete_user, allow=access.ADMIN),
]
