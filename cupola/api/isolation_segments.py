"""Isolation segments: pools of machines that organizations are entitled to, and the segments of organizations and spaces."""

from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, Select, select

from cupola.api import access
from cupola.api.organizations import ORGANIZATIONS, managed
from cupola.api.relationships import ToMany, ToOne, show_many, show_one
from cupola.api.spaces import SPACES
from cupola.domain import isolation_segments as rules
from cupola.domain import visibility
from cupola.rest.message import Message, metadata, string
from cupola.rest.operation import Call, Operation, Parameter, Reply, create, delete, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.resource import Filter, Resource, World
from cupola.roles import Actor
from cupola.store.orgs import isolation_segment_entitlements as entitlements
from cupola.store.orgs import isolation_segments, organizations, spaces

__all__ = ["ISOLATION_SEGMENTS", "OPERATIONS"]


class Create(Message):
    """A new isolation segment."""

    name = string(required=True, blank="can't be blank", max_length=255)
    metadata = metadata()


class Update(Message):
    """Name, metadata."""

    name = string(max_length=255)
    metadata = metadata()


class IsolationSegment(TypedDict):
    """An isolation segment as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    name: str
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/isolation_segments/{row.guid}"
    return {
        **common(row),
        "name": row.name,
        "metadata": metadata_of(row),
        "links": {"self": world.link(path), "organizations": world.link(path + "/organizations")},
    }


def visible(actor: Actor) -> ColumnElement[bool] | None:
    """Segments that an organization of the actor is entitled to."""
    if actor.reads_everything:
        return None
    mine = entitlements.c.organization_guid.in_(visibility.readable_orgs())
    return isolation_segments.c.guid.in_(select(entitlements.c.isolation_segment_guid).where(mine))


ISOLATION_SEGMENTS = Resource(
    name="isolation_segment",
    path="/v3/isolation_segments",
    table=isolation_segments,
    view=view,
    shape=IsolationSegment,
    visible=visible,
    filters=[
        Filter("names", isolation_segments.c.name_key, fold=True),
        Filter(
            "organization_guids",
            lambda guids: isolation_segments.c.guid.in_(
                select(entitlements.c.isolation_segment_guid).where(entitlements.c.organization_guid.in_(guids))
            ),
        ),
    ],
    order_by=["created_at", "updated_at", "name"],
)


def _warn(call: Call[Any, Any]) -> None:
    call.warnings.append(rules.NOT_ENFORCED)


def create_segment(call: Call[None, Create]) -> Row[Any]:
    """Create an isolation segment."""
    _warn(call)
    return rules.create(call.tx, call.body.name, call.body.metadata)


def update_segment(call: Call[Row[Any], Update]) -> Row[Any]:
    """Rename or relabel an isolation segment that nobody uses."""
    return rules.update(call.tx, call.row, call.body.given)


def delete_segment(call: Call[Row[Any], None]) -> None:
    """Delete an isolation segment that no organization is entitled to."""
    rules.delete(call.tx, call.row)


def _entitled_to(segment: Any) -> Select[Any]:
    return select(entitlements.c.organization_guid).where(entitlements.c.isolation_segment_guid == segment)


def _visible_guids(call: Call[Any, Any], statement: Select[Any], column: Any, readable: Any) -> list[str]:
    if call.actor.reads_everything:
        return call.tx.scalars(statement)
    return call.tx.scalars(statement.where(column.in_(readable)), {"actor": call.actor.guid})


def _organizations(call: Call[Row[Any], Any]) -> Reply:
    statement = (
        select(organizations.c.guid)
        .where(organizations.c.guid.in_(_entitled_to(call.row.guid)))
        .order_by(organizations.c.id)
    )
    guids = _visible_guids(call, statement, organizations.c.guid, visibility.readable_orgs())
    path = f"/v3/isolation_segments/{call.row.guid}"
    return show_many(call, path + "/relationships/organizations", _page(call, guids), related=path + "/organizations")


def _page(call: Call[Any, Any], guids: list[str]) -> list[str]:
    """All of them, as upstream, unless a page is asked for."""
    if "page" not in call.query and "per_page" not in call.query:
        return guids
    number, size = call.query.page()
    return guids[(number - 1) * size : number * size]


def list_organizations(call: Call[Row[Any], None]) -> Reply:
    """List the guids of the organizations that are entitled to an isolation segment."""
    return _organizations(call)


def list_spaces(call: Call[Row[Any], None]) -> Reply:
    """List the guids of the spaces that an isolation segment is assigned to."""
    statement = select(spaces.c.guid).where(spaces.c.isolation_segment_guid == call.row.guid).order_by(spaces.c.id)
    guids = _visible_guids(call, statement, spaces.c.guid, visibility.readable_spaces())
    return show_many(call, f"/v3/isolation_segments/{call.row.guid}/relationships/spaces", _page(call, guids))


def entitle(call: Call[Row[Any], ToMany]) -> Reply:
    """Entitle organizations to an isolation segment."""
    _warn(call)
    rules.entitle(call.tx, call.row, call.body.guids)
    return _organizations(call)


def revoke(call: Call[Row[Any], None]) -> None:
    """Take an isolation segment away from an organization that does not use it."""
    rules.revoke(call.tx, call.row, call.path["org_guid"])


def _default(call: Call[Row[Any], Any], organization: Row[Any]) -> Reply:
    path = f"/v3/organizations/{organization.guid}/relationships/default_isolation_segment"
    return show_one(call, path, organization.default_isolation_segment_guid, ISOLATION_SEGMENTS.path)


def show_default(call: Call[Row[Any], None]) -> Reply:
    """Get the isolation segment of an organization's spaces that have none of their own."""
    return _default(call, call.row)


def set_default(call: Call[Row[Any], ToOne]) -> Reply:
    """Choose or clear the isolation segment of an organization's spaces that have none of their own."""
    if not call.body.has("data"):
        return _default(call, call.row)
    if call.body.guid is not None:
        _warn(call)
    return _default(call, rules.set_default(call.tx, call.row, call.body.guid))


def _of_space(call: Call[Row[Any], Any], space: Row[Any]) -> Reply:
    path = f"/v3/spaces/{space.guid}/relationships/isolation_segment"
    return show_one(call, path, space.isolation_segment_guid, ISOLATION_SEGMENTS.path)


def show_of_space(call: Call[Row[Any], None]) -> Reply:
    """Get the isolation segment that a space is assigned to."""
    return _of_space(call, call.row)


def set_of_space(call: Call[Row[Any], ToOne]) -> Reply:
    """Assign a space to an isolation segment, or to none of its own."""
    if not call.body.has("data"):
        return _of_space(call, call.row)
    if call.body.guid is not None:
        _warn(call)
    return _of_space(call, rules.set_of_space(call.tx, call.actor, call.row, call.body.guid, call.body.given))


_PAGE = (Parameter("page", quiet=True), Parameter("per_page", quiet=True))
_ONE = ISOLATION_SEGMENTS.path + "/{guid}"
_ENTITLED = _ONE + "/relationships/organizations"
_DEFAULT = ORGANIZATIONS.path + "/{guid}/relationships/default_isolation_segment"
_SPACE = SPACES.path + "/{guid}/relationships/isolation_segment"

OPERATIONS: list[Operation] = [
    list_(ISOLATION_SEGMENTS),
    show(ISOLATION_SEGMENTS),
    create(ISOLATION_SEGMENTS, Create, create_segment, allow=access.ADMIN),
    update(ISOLATION_SEGMENTS, Update, update_segment, allow=access.ADMIN),
    delete(ISOLATION_SEGMENTS, delete_segment, allow=access.ADMIN, job=False),
    Operation("GET", _ENTITLED, list_organizations, target=ISOLATION_SEGMENTS, query=_PAGE),
    Operation("POST", _ENTITLED, entitle, target=ISOLATION_SEGMENTS, body=ToMany, allow=access.ADMIN),
    Operation("DELETE", _ENTITLED + "/{org_guid}", revoke, target=ISOLATION_SEGMENTS, allow=access.ADMIN, status=204),
    Operation("GET", _ONE + "/relationships/spaces", list_spaces, target=ISOLATION_SEGMENTS, query=_PAGE),
    list_(
        ORGANIZATIONS,
        path=_ONE + "/organizations",
        parent=ISOLATION_SEGMENTS,
        within=lambda segment: organizations.c.guid.in_(_entitled_to(segment)),
        doc="List the organizations that are entitled to an isolation segment.",
    ),
    Operation("GET", _DEFAULT, show_default, target=ORGANIZATIONS),
    Operation("PATCH", _DEFAULT, set_default, target=ORGANIZATIONS, body=ToOne, allow=managed),
    Operation("GET", _SPACE, show_of_space, target=SPACES),
    Operation("PATCH", _SPACE, set_of_space, target=SPACES, body=ToOne, allow=access.in_space("organization_manager")),
]
