"""Route policies: who may call a route on a domain that enforces them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, select

from cupola.api.apps import APPS
from cupola.api.organizations import ORGANIZATIONS
from cupola.api.route_policy_view import KINDS, RoutePolicy, view
from cupola.api.routes import ROUTES
from cupola.api.spaces import SPACES
from cupola.domain import route_policies as rules
from cupola.domain import visibility
from cupola.domain.security_groups import not_enforced
from cupola.rest.message import Message, MetadataOnly, anything, metadata, nested, to_one
from cupola.rest.operation import Call, Operation, create, delete, list_, present, show, update
from cupola.rest.resource import Filter, Include, Resource, World
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.route_policies import route_policies
from cupola.store.routes import routes

__all__ = ["OPERATIONS", "ROUTE_POLICIES"]

_FORM = "must be in format 'cf:app:<uuid>', 'cf:space:<uuid>', 'cf:org:<uuid>', or 'cf:any'"


def _source_problems(value: Any) -> Iterator[str]:
    if value is None or value == "":
        yield "Source can't be blank"
    if not isinstance(value, str):
        yield "Source must be a string"
    elif not rules.is_source(value):
        yield f"Source {_FORM}"


class _Relationships(Message):
    route = to_one(required=True)


class Create(Message):
    """A new route policy."""

    relationships = nested(_Relationships, required=True)
    source = anything(_source_problems, {"type": "string"}, required=True, nullable=False)
    metadata = metadata()


def visible(actor: Actor) -> ColumnElement[bool] | None:
    """Those of routes in spaces that the actor reads; organization auditors as well."""
    if actor.reads_everything:
        return None
    readable = visibility.readable_spaces("organization_manager", "organization_auditor")
    return route_policies.c.route_guid.in_(select(routes.c.guid).where(routes.c.space_guid.in_(readable)))


def _their_routes(world: World, page: Sequence[Row[Any]]) -> list[Any]:
    found = rows.by_guids(world.tx, routes, [row.route_guid for row in page])
    return present(world, ROUTES, sorted(found.values(), key=lambda row: row.id))


def _their_sources(kind: str, resource: Resource) -> Callable[[World, Sequence[Row[Any]]], list[Any]]:
    """Sources of one kind, as far as they exist and the caller may see them."""

    def load(world: World, page: Sequence[Row[Any]]) -> list[Any]:
        guids = {row.source_guid for row in page if row.source.startswith(f"cf:{kind}:")}
        if not guids or world.actor is None:
            return []
        columns = resource.table.c
        statement = select(resource.table).where(columns.guid.in_(sorted(guids))).order_by(columns.id)
        condition = resource.visible(world.actor)
        if condition is None:
            return present(world, resource, world.tx.all(statement))
        return present(world, resource, world.tx.all(statement.where(condition), {"actor": world.actor.guid}))

    return load


ROUTE_POLICIES = Resource(
    name="route_policy",
    path="/v3/route_policies",
    table=route_policies,
    view=view,
    shape=RoutePolicy,
    visible=visible,
    filters=[
        Filter("route_guids", route_policies.c.route_guid),
        Filter(
            "space_guids",
            lambda guids: route_policies.c.route_guid.in_(select(routes.c.guid).where(routes.c.space_guid.in_(guids))),
        ),
        Filter("sources", route_policies.c.source),
        Filter("source_guids", route_policies.c.source_guid),
    ],
    includes=[
        *(
            Include("source", KINDS[kind][1], _their_sources(kind, resource))
            for kind, resource in (("app", APPS), ("space", SPACES), ("org", ORGANIZATIONS))
        ),
        Include("route", "routes", _their_routes),
    ],
)


def good_sources(call: Call[Any, Any]) -> None:
    """Raises 400 for a filter on sources that are none."""
    bad = [one for one in call.query.values("sources") or [] if not rules.is_source(one)]
    if bad:
        raise call.query.bad("Sources contains invalid source format: " + ", ".join(bad))


def create_policy(call: Call[None, Create]) -> Row[Any]:
    """Let an app, a space, an organization or everybody call a route."""
    call.warnings.append(not_enforced(f"route policy for source '{call.body.source}'"))
    return rules.create(call.tx, call.actor, call.body.given)


def update_policy(call: Call[Row[Any], MetadataOnly]) -> Row[Any]:
    """Relabel a route policy."""
    return rules.update(call.tx, call.actor, call.row, call.body.given)


def delete_policy(call: Call[Row[Any], None]) -> None:
    """Take a route policy away."""
    rules.remove(call.tx, call.actor, call.row)


def developers(call: Call[Row[Any], Any]) -> None:
    """Developers of the route's space."""
    rules.may_write(call.tx, call.actor, call.row)


OPERATIONS: list[Operation] = [
    list_(ROUTE_POLICIES, allow=good_sources),
    show(ROUTE_POLICIES, query_status=422),
    create(ROUTE_POLICIES, Create, create_policy),
    update(ROUTE_POLICIES, MetadataOnly, update_policy, allow=developers),
    delete(ROUTE_POLICIES, delete_policy, allow=developers, job=False),
]
