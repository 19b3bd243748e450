"""Organization quotas: made, changed, applied to organizations (behaviours.md section 8). What they limit: quotas.py."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy import update as sql_update

from cupola import errors
from cupola.domain import audit
from cupola.domain.quotas import limits_in, listed, unlimited_logs_of, unlimited_logs_problem
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.orgs import organization_quotas, organizations

__all__ = ["apply", "create", "delete", "require_unused", "update"]


def create(tx: Tx, actor: Actor, body: Mapping[str, Any], organization_guids: Sequence[str]) -> Row[Any]:
    """Add a quota and apply it. Raises 422."""
    values = {"paid_services_allowed": True, **limits_in(body)}
    _require_ports(values)
    _require_name(tx, body["name"])
    row = rows.add(tx, organization_quotas, {"name": body["name"], "name_key": body["name"].lower(), **values})
    found = rows.by_guids(tx, organizations, organization_guids)
    missing = [guid for guid in organization_guids if guid not in found]
    if missing:
        raise errors.unprocessable(
            f"Organizations with guids {listed(missing)} do not exist, or you do not have access to them."
        )
    _assign(tx, row, list(found))
    _record(tx, "create", actor, row, {"request": dict(body)})
    return row


def update(tx: Tx, actor: Actor, quota: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Rename or change limits. Raises 422; running apps are never stopped by a lower limit."""
    values = limits_in(body)
    if values.get("log_rate_limit_in_bytes_per_second") is not None:
        within = select(organizations.c.guid).where(organizations.c.quota_guid == quota.guid)
        names = unlimited_logs_of(tx, organizations, within)
        if names:
            raise errors.unprocessable(unlimited_logs_problem("org", names))
    _require_ports({**quota._mapping, **values})
    if "name" in body:
        _require_name(tx, body["name"], but=quota.guid)
        values |= {"name": body["name"], "name_key": body["name"].lower()}
    changed = rows.change(tx, organization_quotas, quota, values)
    _record(tx, "update", actor, changed, {"request": dict(body)})
    return changed


def apply(tx: Tx, actor: Actor, quota: Row[Any], organization_guids: Sequence[str]) -> None:
    """Make it the quota of organizations. Raises 422."""
    found = rows.by_guids(tx, organizations, organization_guids)
    missing = [guid for guid in organization_guids if guid not in found]
    if missing:
        raise errors.unprocessable(f"Organizations with guids {listed(missing)} do not exist")
    if quota.log_rate_limit_in_bytes_per_second is not None and unlimited_logs_of(tx, organizations, list(found)):
        raise errors.unprocessable(
            "Current usage exceeds new quota values. The org(s) being assigned this quota contain apps "
            "running with an unlimited log rate limit."
        )
    _assign(tx, quota, list(found))
    for organization in found.values():
        data = {"organization_guid": organization.guid, "organization_name": organization.name}
        _record(tx, "apply", actor, quota, data, organization.guid)


def require_unused(tx: Tx, quota: Row[Any]) -> None:
    """Raises 422 while the quota is applied to an organization."""
    used = select(organizations.c.guid).where(organizations.c.quota_guid == quota.guid).limit(1)
    if tx.scalar(used) is not None:
        raise errors.unprocessable(
            "This quota is applied to one or more organizations. "
            "Apply different quotas to those organizations before deleting."
        )


def delete(tx: Tx, actor: Actor, quota: Row[Any]) -> None:
    """Remove a quota. Raises 422 while it is applied."""
    require_unused(tx, quota)
    _record(tx, "delete", actor, quota, {})
    rows.remove(tx, organization_quotas, [quota.guid])


def _assign(tx: Tx, quota: Row[Any], organization_guids: Sequence[str]) -> None:
    if organization_guids:
        tx.run(
            sql_update(organizations)
            .where(organizations.c.guid.in_(organization_guids))
            .values(quota_guid=quota.guid, updated_at=tx.now)
        )


def _require_name(tx: Tx, name: str, *, but: str = "") -> None:
    taken = select(organization_quotas.c.guid).where(
        organization_quotas.c.name_key == name.lower(), organization_quotas.c.guid != but
    )
    if tx.scalar(taken) is not None:
        raise errors.unprocessable(f"Organization Quota '{name}' already exists.")


def _require_ports(values: Mapping[str, Any]) -> None:
    ports, routes = values.get("total_reserved_ports"), values.get("total_routes")
    if ports is not None and routes is not None and ports > routes:
        raise errors.unprocessable(
            "Total reserved ports must be -1, 0, or a positive integer, and must be less than or equal to total routes."
        )


def _record(
    tx: Tx, what: str, actor: Actor, quota: Row[Any], data: Mapping[str, Any], organization_guid: str | None = None
) -> None:
    kind = "organization_quota"
    audit.record(
        tx,
        f"audit.{kind}.{what}",
        actor,
        quota.guid,
        kind,
        quota.name,
        data,
        organization_guid=organization_guid,
    )
