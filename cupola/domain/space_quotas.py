"""Space quotas: shares of an organization's quota (behaviours.md section 8). What they limit: quotas.py."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy import update as sql_update

from cupola import errors
from cupola.domain import access, audit, visibility
from cupola.domain.quotas import limits_in, listed, unlimited_logs_of, unlimited_logs_problem
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.orgs import organization_quotas, organizations, space_quotas, spaces

__all__ = ["apply", "create", "delete", "remove", "require_unused", "update"]


def create(
    tx: Tx, actor: Actor, organization_guid: str, body: Mapping[str, Any], space_guids: Sequence[str]
) -> Row[Any]:
    """Add a quota to an organization and apply it. Raises 403, 422."""
    if rows.by_guid(tx, organizations, organization_guid) is None:
        raise errors.unprocessable(
            f"Organization with guid '{organization_guid}' does not exist, or you do not have access to it."
        )
    access.require_in_org(tx, actor, organization_guid, ("organization_manager",))
    values = {"paid_services_allowed": True, **limits_in(body)}
    _require_ports(tx, organization_guid, values)
    _require_name(tx, organization_guid, body["name"])
    row = rows.add(tx, space_quotas, {"name": body["name"], "organization_guid": organization_guid, **values})
    found = rows.by_guids(tx, spaces, space_guids)
    missing = [guid for guid in space_guids if guid not in found or found[guid].organization_guid != organization_guid]
    if missing:
        raise errors.unprocessable(
            f"Spaces with guids {listed(missing)} do not exist within the organization specified, "
            "or you do not have access to them."
        )
    _assign(tx, row.guid, list(found))
    _record(tx, "create", actor, row, {"request": dict(body)})
    return row


def update(tx: Tx, actor: Actor, quota: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Rename or change limits. Raises 422; running apps are never stopped by a lower limit."""
    values = limits_in(body)
    values.pop("total_domains", None)
    if values.get("log_rate_limit_in_bytes_per_second") is not None:
        within = select(spaces.c.guid).where(spaces.c.quota_guid == quota.guid)
        names = unlimited_logs_of(tx, spaces, within)
        if names:
            raise errors.unprocessable(unlimited_logs_problem("space", names))
    _require_ports(tx, quota.organization_guid, {**quota._mapping, **values})
    if "name" in body:
        _require_name(tx, quota.organization_guid, body["name"], but=quota.guid)
        values["name"] = body["name"]
    changed = rows.change(tx, space_quotas, quota, values)
    _record(tx, "update", actor, changed, {"request": dict(body)})
    return changed


def apply(tx: Tx, actor: Actor, quota: Row[Any], space_guids: Sequence[str]) -> None:
    """Make it the quota of spaces of its organization. Raises 422."""
    found = rows.by_guids(tx, spaces, space_guids)
    readable = _readable(tx, actor, list(found))
    missing = [guid for guid in space_guids if guid not in readable]
    if missing:
        raise errors.unprocessable(
            f"Spaces with guids {listed(missing)} do not exist, or you do not have access to them."
        )
    if any(space.organization_guid != quota.organization_guid for space in found.values()):
        raise errors.unprocessable("Space quotas cannot be applied outside of their owning organization.")
    if quota.log_rate_limit_in_bytes_per_second is not None and unlimited_logs_of(tx, spaces, list(found)):
        raise errors.unprocessable(
            "Current usage exceeds new quota values. The space(s) being assigned this quota contain apps "
            "running with an unlimited log rate limit."
        )
    _assign(tx, quota.guid, list(found))
    for space in found.values():
        _record(tx, "apply", actor, quota, {"space_guid": space.guid, "space_name": space.name}, space.guid)


def _readable(tx: Tx, actor: Actor, space_guids: Sequence[str]) -> set[str]:
    if actor.reads_everything or not space_guids:
        return set(space_guids)
    statement = select(spaces.c.guid).where(
        spaces.c.guid.in_(space_guids), spaces.c.guid.in_(visibility.readable_spaces())
    )
    return set(tx.scalars(statement, {"actor": actor.guid}))


def remove(tx: Tx, actor: Actor, quota: Row[Any], space_guid: str) -> None:
    """Take the quota away from a space. Raises 422 when it is not the space's."""
    space = rows.by_guid(tx, spaces, space_guid)
    if space is None or space.quota_guid != quota.guid:
        raise errors.unprocessable(
            f"Unable to remove quota from space with guid '{space_guid}'. "
            "Ensure the space quota is applied to this space."
        )
    _assign(tx, None, [space.guid])
    _record(tx, "remove", actor, quota, {"space_guid": space.guid, "space_name": space.name}, space.guid)


def require_unused(tx: Tx, quota: Row[Any]) -> None:
    """Raises 422 while the quota is applied to a space."""
    if tx.scalar(select(spaces.c.guid).where(spaces.c.quota_guid == quota.guid).limit(1)) is not None:
        raise errors.unprocessable(
            "This quota is applied to one or more spaces. Remove this quota from all spaces before deleting."
        )


def delete(tx: Tx, actor: Actor, quota: Row[Any]) -> None:
    """Remove a quota. Raises 422 while it is applied."""
    require_unused(tx, quota)
    _record(tx, "delete", actor, quota, {})
    rows.remove(tx, space_quotas, [quota.guid])


def _assign(tx: Tx, quota_guid: str | None, space_guids: Sequence[str]) -> None:
    if space_guids:
        tx.run(
            sql_update(spaces).where(spaces.c.guid.in_(space_guids)).values(quota_guid=quota_guid, updated_at=tx.now)
        )


def _require_name(tx: Tx, organization_guid: str, name: str, *, but: str = "") -> None:
    taken = select(space_quotas.c.guid).where(
        space_quotas.c.organization_guid == organization_guid,
        space_quotas.c.name == name,
        space_quotas.c.guid != but,
    )
    if tx.scalar(taken) is not None:
        raise errors.unprocessable(f"Space Quota '{name}' already exists.")


def _require_ports(tx: Tx, organization_guid: str, values: Mapping[str, Any]) -> None:
    ports, routes = values.get("total_reserved_ports"), values.get("total_routes")
    if ports is None:
        return
    of_organization = tx.scalar(
        select(organization_quotas.c.total_reserved_ports)
        .join(organizations, organizations.c.quota_guid == organization_quotas.c.guid)
        .where(organizations.c.guid == organization_guid)
    )
    if (routes is not None and ports > routes) or (of_organization is not None and ports > of_organization):
        raise errors.unprocessable(
            "Total reserved ports must be -1, 0, or a positive integer, must be less than or equal to total routes, "
            "and must be less than or equal to total reserved ports for the organization quota."
        )


def _record(
    tx: Tx, what: str, actor: Actor, quota: Row[Any], data: Mapping[str, Any], space_guid: str | None = None
) -> None:
    kind = "space_quota"
    audit.record(
        tx,
        f"audit.{kind}.{what}",
        actor,
        quota.guid,
        kind,
        quota.name,
        data,
        space_guid=space_guid,
        organization_guid=quota.organization_guid,
    )
