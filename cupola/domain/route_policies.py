"""Route policies: who may call a route on a domain that enforces them (behaviours.md section 12).

Stored for the day when the router identifies callers; until then nothing is enforced, and answers say so.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, select

from cupola import errors
from cupola.domain import access, audit
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.route_policies import route_policies
from cupola.store.routes import domains, routes

__all__ = ["ANY", "create", "is_source", "may_write", "of_routes", "remove", "update"]

ANY = "cf:any"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_SOURCE = re.compile(rf"cf:(app|space|org):{_UUID}|cf:any", re.ASCII)
_policy = route_policies.c


def is_source(text: Any) -> bool:
    """Whether it is `cf:app:UUID`, `cf:space:UUID`, `cf:org:UUID` or `cf:any`."""
    return isinstance(text, str) and _SOURCE.fullmatch(text) is not None


def create(tx: Tx, actor: Actor, body: Mapping[str, Any]) -> Row[Any]:
    """Let a source call a route. `body` as POST /v3/route_policies takes it. Raises 403, 404, 422."""
    source, route_guid = body["source"], body["relationships"]["route"]["data"]["guid"]
    route = rows.by_guid(tx, routes, route_guid)
    if route is None or not access.may_read_space(tx, actor, route.space_guid):
        raise errors.not_found("Route")
    access.require_in_space(tx, actor, route.space_guid, access.WRITE_IN_SPACE)
    _require_enforcing(tx, route, source)
    _require_compatible(tx, route, source)
    values = {
        "route_guid": route.guid,
        "source": source,
        "source_guid": source.split(":", 2)[2] if source != ANY else "",
    }
    row = rows.add(tx, route_policies, values, body.get("metadata"))
    request = {"source": source, "route_guid": route.guid}
    _record(tx, "audit.route_policy.create", actor, row, route, {"request": request})
    return row


def _require_enforcing(tx: Tx, route: Row[Any], source: str) -> None:
    domain = rows.by_guid(tx, domains, route.domain_guid)
    assert domain is not None, f"route {route.guid} outlived its domain"
    if domain.internal:
        raise errors.unprocessable(
            "Cannot create route policies for routes on internal domains. "
            "Internal routes use container-to-container networking and bypass GoRouter."
        )
    if not domain.enforce_route_policies:
        raise errors.unprocessable(
            f"Cannot create route policies for route '{route.guid}': "
            "the route's domain does not have enforce_route_policies enabled."
        )
    if domain.route_policies_scope == "space" and source.startswith("cf:org:"):
        raise errors.unprocessable(f"Source '{source}' is not allowed: domain's route_policies_scope is 'space'.")


def _require_compatible(tx: Tx, route: Row[Any], source: str) -> None:
    # Whoever else makes a policy of this route waits here: `cf:any` and others must not come at the same time.
    tx.run(select(routes.c.guid).where(routes.c.guid == route.guid).with_for_update())
    others = set(tx.scalars(select(_policy.source).where(_policy.route_guid == route.guid)))
    if source == ANY and others:
        raise errors.unprocessable("source 'cf:any' cannot coexist with other route policies on the same route")
    if ANY in others:
        raise errors.unprocessable("source cannot coexist with the existing 'cf:any' policy on this route")
    if source in others:
        raise errors.unprocessable(f"A route policy with source '{source}' already exists for this route.")


def may_write(tx: Tx, actor: Actor, policy: Row[Any]) -> None:
    """Raises 403 unless the actor develops in the space of the route."""
    access.require_in_space(tx, actor, _route_of(tx, policy).space_guid, access.WRITE_IN_SPACE)


def update(tx: Tx, actor: Actor, policy: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Relabel a policy."""
    changed = rows.change(tx, route_policies, policy, {}, body.get("metadata"))
    _record(tx, "audit.route_policy.update", actor, changed, _route_of(tx, policy), {"request": dict(body)})
    return changed


def remove(tx: Tx, actor: Actor, policy: Row[Any]) -> None:
    """Take a policy away."""
    rows.remove(tx, route_policies, [policy.guid])
    _record(tx, "audit.route_policy.delete", actor, policy, _route_of(tx, policy), {})


def of_routes(tx: Tx, guids: Sequence[str]) -> list[Row[Any]]:
    """The policies of routes, oldest first. One statement."""
    found = select(route_policies).where(_policy.route_guid.in_(list(guids)))
    return list(tx.all(found.order_by(_policy.created_at, _policy.guid)))


def _route_of(tx: Tx, policy: Row[Any]) -> Row[Any]:
    route = rows.by_guid(tx, routes, policy.route_guid)
    assert route is not None, f"route policy {policy.guid} outlived its route"
    return route


def _record(tx: Tx, type_: str, actor: Actor, policy: Row[Any], route: Row[Any], data: Mapping[str, Any]) -> None:
    audit.record(tx, type_, actor, policy.guid, "route_policy", policy.source, data, space_guid=route.space_guid)
