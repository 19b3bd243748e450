"""Space quotas: what the spaces that they are applied to may use, each for itself."""

from collections.abc import Sequence
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, or_, select

from cupola.api.quotas import (
    Apps,
    AppsShape,
    Domains,
    Routes,
    RoutesShape,
    Services,
    ServicesShape,
    shown_limits,
)
from cupola.api.relationships import ToMany, show_many
from cupola.domain import access, visibility
from cupola.domain import space_quotas as rules
from cupola.rest.message import Message, nested, string, to_many, to_one
from cupola.rest.operation import Accepted, Call, Operation, create, delete, list_, show, update
from cupola.rest.present import Links, common
from cupola.rest.present import to_many as many
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Resource, World
from cupola.roles import Actor
from cupola.store import jobs
from cupola.store.orgs import space_quotas, spaces

__all__ = ["OPERATIONS", "SPACE_QUOTAS"]


class _Relationships(Message):
    rejects_unknown = False
    organization = to_one(required=True)
    spaces = to_many()


class Create(Message):
    """A new space quota of an organization, perhaps applied at once."""

    name = string(required=True, min_length=1, max_length=250, blank="can't be blank")
    apps = nested(Apps)
    services = nested(Services)
    routes = nested(Routes)
    relationships = nested(_Relationships, required=True)


class Update(Message):
    """Name and limits; what is not named stays. `domains` is accepted, as upstream: space quotas limit none."""

    name = string(min_length=1, max_length=250)
    apps = nested(Apps)
    services = nested(Services)
    routes = nested(Routes)
    domains = nested(Domains)


class SpaceQuota(TypedDict):
    """A space quota as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    name: str
    apps: AppsShape
    services: ServicesShape
    routes: RoutesShape
    relationships: dict[str, Any]
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    return {
        **common(row),
        "name": row.name,
        **shown_limits(row),
        "relationships": {
            "organization": one(row.organization_guid),
            "spaces": many(world.related["spaces"].get(row.guid, [])),
        },
        "links": {
            "self": world.link(f"/v3/space_quotas/{row.guid}"),
            "organization": world.link(f"/v3/organizations/{row.organization_guid}"),
        },
    }


def _spaces(world: World, page: Sequence[Row[Any]]) -> dict[str, list[str]]:
    """Guids of the spaces that quotas are applied to, as far as the caller may see them."""
    statement = (
        select(spaces.c.quota_guid, spaces.c.guid)
        .where(spaces.c.quota_guid.in_([row.guid for row in page]))
        .order_by(spaces.c.id)
    )
    values = {}
    if world.actor is not None and not world.actor.reads_everything:
        statement = statement.where(spaces.c.guid.in_(visibility.readable_spaces()))
        values["actor"] = world.actor.guid
    found: dict[str, list[str]] = {row.guid: [] for row in page}
    pairs: Sequence[Any] = world.tx.all(statement, values)
    for quota, space in pairs:
        found[quota].append(space)
    return found


def visible(actor: Actor) -> ColumnElement[bool] | None:
    """Managers see the quotas of their organizations, members of a space the one that is applied to it."""
    if actor.reads_everything:
        return None
    applied = select(spaces.c.quota_guid).where(
        spaces.c.guid.in_(visibility.spaces_with_role()), spaces.c.quota_guid.is_not(None)
    )
    return or_(
        space_quotas.c.organization_guid.in_(visibility.managed_orgs()),
        space_quotas.c.guid.in_(applied),
    )


SPACE_QUOTAS = Resource(
    name="space_quota",
    path="/v3/space_quotas",
    table=space_quotas,
    view=view,
    shape=SpaceQuota,
    visible=visible,
    related={"spaces": _spaces},
    labels=False,
    filters=[
        Filter("names", space_quotas.c.name),
        Filter("organization_guids", space_quotas.c.organization_guid),
        Filter(
            "space_guids",
            lambda guids: space_quotas.c.guid.in_(select(spaces.c.quota_guid).where(spaces.c.guid.in_(guids))),
        ),
    ],
    query_status=422,
)


def managed(call: Call[Row[Any], Any]) -> None:
    """Admins and managers of the quota's organization."""
    access.require_in_org(call.tx, call.actor, call.row.organization_guid, ("organization_manager",))


def create_quota(call: Call[None, Create]) -> Row[Any]:
    """Create a space quota in an organization."""
    relationships = call.body.relationships
    guids = relationships.spaces or []
    return rules.create(call.tx, call.actor, relationships.organization, call.body.given, guids)


def update_quota(call: Call[Row[Any], Update]) -> Row[Any]:
    """Change a space quota; null means unlimited."""
    return rules.update(call.tx, call.actor, call.row, call.body.given)


def delete_quota(call: Call[Row[Any], None]) -> Accepted:
    """Delete a space quota that is applied to no space."""
    rules.require_unused(call.tx, call.row)
    guid = jobs.enqueue(
        call.tx,
        "space_quota.delete",
        {"guid": call.row.guid},
        actor=call.actor,
        resource_guid=call.row.guid,
        resource_type="space_quotas",
    )
    return Accepted(guid)


def apply_quota(call: Call[Row[Any], ToMany]) -> Any:
    """Apply a space quota to spaces of its organization, in place of the quotas that they had."""
    rules.apply(call.tx, call.actor, call.row, call.body.guids)
    guids = call.tx.scalars(select(spaces.c.guid).where(spaces.c.quota_guid == call.row.guid).order_by(spaces.c.id))
    return show_many(call, f"/v3/space_quotas/{call.row.guid}/relationships/spaces", guids)


def remove_quota(call: Call[Row[Any], None]) -> None:
    """Take a space quota away from a space, which then has only its organization's quota."""
    rules.remove(call.tx, call.actor, call.row, call.path["space_guid"])


_SPACES = SPACE_QUOTAS.path + "/{guid}/relationships/spaces"

OPERATIONS: list[Operation] = [
    list_(SPACE_QUOTAS),
    show(SPACE_QUOTAS),
    create(SPACE_QUOTAS, Create, create_quota),
    update(SPACE_QUOTAS, Update, update_quota, allow=managed),
    delete(SPACE_QUOTAS, delete_quota, allow=managed),
    Operation("POST", _SPACES, apply_quota, target=SPACE_QUOTAS, body=ToMany, allow=managed),
    Operation("DELETE", _SPACES + "/{space_guid}", remove_quota, target=SPACE_QUOTAS, allow=managed, status=204),
]
