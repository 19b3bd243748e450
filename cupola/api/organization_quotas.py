"""Organization quotas: what all spaces of an organization together may use."""

from collections.abc import Sequence
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, select

from cupola.api import access
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
from cupola.domain import organization_quotas as rules
from cupola.domain import visibility
from cupola.rest.message import Message, nested, string, to_many
from cupola.rest.operation import Accepted, Call, Operation, create, delete, list_, show, update
from cupola.rest.present import Links, common
from cupola.rest.present import to_many as many
from cupola.rest.resource import Filter, Resource, World
from cupola.roles import Actor
from cupola.store import jobs
from cupola.store.orgs import organization_quotas, organizations

__all__ = ["OPERATIONS", "ORGANIZATION_QUOTAS"]


class _Relationships(Message):
    rejects_unknown = False
    organizations = to_many()


class Create(Message):
    """A new organization quota, perhaps applied at once."""

    name = string(required=True, min_length=1, max_length=250, blank="can't be blank")
    apps = nested(Apps)
    services = nested(Services)
    routes = nested(Routes)
    domains = nested(Domains)
    relationships = nested(_Relationships)


class Update(Message):
    """Name and limits; what is not named stays."""

    name = string(min_length=1, max_length=250)
    apps = nested(Apps)
    services = nested(Services)
    routes = nested(Routes)
    domains = nested(Domains)


class DomainsShape(TypedDict):
    """Limit of private domains."""

    total_domains: int | None


class OrganizationQuota(TypedDict):
    """An organization quota as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    name: str
    apps: AppsShape
    services: ServicesShape
    routes: RoutesShape
    domains: DomainsShape
    relationships: dict[str, Any]
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    return {
        **common(row),
        "name": row.name,
        **shown_limits(row),
        "domains": {"total_domains": row.total_domains},
        "relationships": {"organizations": many(world.related["organizations"].get(row.guid, []))},
        "links": {"self": world.link(f"/v3/organization_quotas/{row.guid}")},
    }


def _organizations(world: World, page: Sequence[Row[Any]]) -> dict[str, list[str]]:
    """Guids of the organizations that quotas are applied to, as far as the caller may see them."""
    statement = (
        select(organizations.c.quota_guid, organizations.c.guid)
        .where(organizations.c.quota_guid.in_([row.guid for row in page]))
        .order_by(organizations.c.id)
    )
    values = {}
    if world.actor is not None and not world.actor.reads_everything:
        statement = statement.where(organizations.c.guid.in_(visibility.readable_orgs()))
        values["actor"] = world.actor.guid
    found: dict[str, list[str]] = {row.guid: [] for row in page}
    pairs: Sequence[Any] = world.tx.all(statement, values)
    for quota, organization in pairs:
        found[quota].append(organization)
    return found


def _applied_to(guids: Any, actor: Actor) -> ColumnElement[bool]:
    applied = select(organizations.c.quota_guid).where(organizations.c.guid.in_(guids))
    if not actor.reads_everything:
        # Whoever may not see an organization is not told its quota either.
        applied = applied.where(organizations.c.guid.in_(visibility.readable_orgs()))
    return organization_quotas.c.guid.in_(applied)


ORGANIZATION_QUOTAS = Resource(
    name="organization_quota",
    path="/v3/organization_quotas",
    table=organization_quotas,
    view=view,
    shape=OrganizationQuota,
    visible=visibility.everyone,
    related={"organizations": _organizations},
    labels=False,
    filters=[
        Filter("names", organization_quotas.c.name_key, fold=True),
        Filter("organization_guids", _applied_to, by_actor=True),
    ],
)


def create_quota(call: Call[None, Create]) -> Row[Any]:
    """Create an organization quota."""
    guids = call.body.relationships.organizations or []
    return rules.create(call.tx, call.actor, call.body.given, guids)


def update_quota(call: Call[Row[Any], Update]) -> Row[Any]:
    """Change an organization quota; null means unlimited."""
    return rules.update(call.tx, call.actor, call.row, call.body.given)


def delete_quota(call: Call[Row[Any], None]) -> Accepted:
    """Delete an organization quota that is applied to no organization."""
    rules.require_unused(call.tx, call.row)
    guid = jobs.enqueue(
        call.tx,
        "organization_quota.delete",
        {"guid": call.row.guid},
        actor=call.actor,
        resource_guid=call.row.guid,
        resource_type="organization_quotas",
    )
    return Accepted(guid)


def apply_quota(call: Call[Row[Any], ToMany]) -> Any:
    """Apply an organization quota to organizations, in place of the quotas that they had."""
    rules.apply(call.tx, call.actor, call.row, call.body.guids)
    statement = select(organizations.c.guid).where(organizations.c.quota_guid == call.row.guid)
    guids = call.tx.scalars(statement.order_by(organizations.c.id))
    return show_many(call, f"/v3/organization_quotas/{call.row.guid}/relationships/organizations", guids)


OPERATIONS: list[Operation] = [
    list_(ORGANIZATION_QUOTAS),
    show(ORGANIZATION_QUOTAS),
    create(ORGANIZATION_QUOTAS, Create, create_quota, allow=access.ADMIN),
    update(ORGANIZATION_QUOTAS, Update, update_quota, allow=access.ADMIN),
    delete(ORGANIZATION_QUOTAS, delete_quota, allow=access.ADMIN),
    Operation(
        "POST",
        ORGANIZATION_QUOTAS.path + "/{guid}/relationships/organizations",
        apply_quota,
        target=ORGANIZATION_QUOTAS,
        body=ToMany,
        allow=access.ADMIN,
    ),
]
