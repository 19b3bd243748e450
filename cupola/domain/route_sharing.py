"""Sharing a route with other spaces, and giving it to one of them (reference/behaviours.md section 12)."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, insert, select

from cupola import errors
from cupola.domain import access, audit
from cupola.domain import domains as domain_rules
from cupola.domain.routes import uri
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.orgs import spaces
from cupola.store.routes import domains, route_shares, routes

__all__ = ["share", "shared_with", "transfer", "unshare"]

_share = route_shares.c


def shared_with(tx: Tx, route: Row[Any]) -> list[str]:
    """Guids of the spaces that a route is shared with."""
    return tx.scalars(select(_share.space_guid).where(_share.route_guid == route.guid).order_by(_share.space_guid))


def share(tx: Tx, actor: Actor, route: Row[Any], guids: Sequence[str]) -> None:
    """Let apps of more spaces answer at a route. Raises 422."""
    _require_all_writable(tx, actor, route, guids)
    if route.space_guid in guids:
        raise errors.unprocessable(
            f"Unable to share route '{uri(tx, route)}' with space '{route.space_guid}'. "
            "Routes cannot be shared into the space where they were created."
        )
    known = set(shared_with(tx, route))
    new = [{"route_guid": route.guid, "space_guid": guid} for guid in guids if guid not in known]
    if new:
        tx.run(insert(route_shares), new)
    _record(tx, "audit.route.share", actor, route, {"target_space_guids": list(guids)})


def _require_all_writable(tx: Tx, actor: Actor, route: Row[Any], guids: Sequence[str]) -> None:
    found = rows.by_guids(tx, spaces, guids)
    readable = [guid for guid in guids if guid in found and access.may_read_space(tx, actor, guid)]
    hidden = [guid for guid in guids if guid not in readable]
    closed = [guid for guid in readable if _problem(tx, actor, guid, access.WRITE_IN_SPACE) is not None]
    said = []
    if hidden:
        said.append(
            f"Unable to share route {uri(tx, route)} with spaces [{_quoted(hidden)}]. "
            "Ensure the spaces exist and that you have access to them."
        )
    if closed:
        said.append(
            f"Unable to share route {uri(tx, route)} with spaces [{_quoted(closed)}]. "
            "Write permission is required in order to share a route with a space "
            "and the containing organization must not be suspended."
        )
    if said:
        raise errors.unprocessable("\n".join(said))


def unshare(tx: Tx, actor: Actor, route: Row[Any], space_guid: str) -> None:
    """End the sharing of a route with a space, whether it was shared or not. Raises 422."""
    problem = _problem(tx, actor, space_guid, access.MANAGE_APPS)
    if space_guid == route.space_guid:
        problem = "Routes cannot be removed from the space that owns them."
    if problem is not None:
        raise errors.unprocessable(f"Unable to unshare route '{uri(tx, route)}' from space '{space_guid}'. {problem}")
    tx.run(delete(route_shares).where(_share.route_guid == route.guid, _share.space_guid == space_guid))
    _record(tx, "audit.route.unshare", actor, route, {"target_space_guid": space_guid})


def transfer(tx: Tx, actor: Actor, route: Row[Any], space_guid: str) -> None:
    """Give a route to another space; the old one keeps it as a shared route. Raises 422."""
    problem = _problem(tx, actor, space_guid, access.MANAGE_APPS)
    if problem is None and not _is_usable_there(tx, route, space_guid):
        problem = "Target space does not have access to route's domain"
    if problem is not None:
        raise errors.unprocessable(
            f"Unable to transfer owner of route '{uri(tx, route)}' to space '{space_guid}'. {problem}"
        )
    if space_guid == route.space_guid:
        return
    both = [route.space_guid, space_guid]
    tx.run(delete(route_shares).where(_share.route_guid == route.guid, _share.space_guid.in_(both)))
    tx.run(insert(route_shares).values(route_guid=route.guid, space_guid=route.space_guid))
    rows.change(tx, routes, route, {"space_guid": space_guid})
    _record(tx, "audit.route.transfer-owner", actor, route, {"target_space_guid": space_guid})


def _is_usable_there(tx: Tx, route: Row[Any], space_guid: str) -> bool:
    organization = tx.scalar(select(spaces.c.organization_guid).where(spaces.c.guid == space_guid))
    usable = select(domains.c.guid).where(domains.c.guid == route.domain_guid, domain_rules.usable_in(organization))
    return tx.scalar(usable) is not None


def _problem(tx: Tx, actor: Actor, space_guid: str, allowed: Sequence[str]) -> str | None:
    """Why the actor may not do something with a route in this space."""
    if rows.by_guid(tx, spaces, space_guid) is None or not access.may_read_space(tx, actor, space_guid):
        return "Ensure the space exists and that you have access to it."
    if not access.has_in_space(tx, actor, space_guid, allowed):
        return "You don't have write permission for the target space."
    try:
        access.require_active(tx, actor, space_guid)
    except CloudError as error:
        deleting = error.code == errors.being_deleted("space").code
        return "The target space is being deleted." if deleting else "The target organization or space is suspended."
    return None


def _quoted(guids: Sequence[str]) -> str:
    return ", ".join(f"'{guid}'" for guid in guids)


def _record(tx: Tx, type_: str, actor: Actor, route: Row[Any], data: dict[str, Any]) -> None:
    audit.record(tx, type_, actor, route.guid, "route", route.host, data, space_guid=route.space_guid)
