"""Domains: shared by all, private to an organization and those it shares with, or internal (behaviours.md section 13)."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, insert, or_, select

from cupola import errors
from cupola.config import Settings
from cupola.domain import access, feature_flags, quotas
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.orgs import organizations, spaces
from cupola.store.routes import domain_shares, domains, routes

__all__ = [
    "create",
    "default_of",
    "delete",
    "name_problems",
    "require_deletable",
    "share",
    "unshare",
    "usable_in",
]

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII | re.IGNORECASE)
_RESERVED = ("api", "uaa", "login", "log-cache", "log-stream", "console", "ssh")


def name_problems(name: str) -> list[str]:
    """What is wrong with the form of a domain name (RFC 1035, at least one dot)."""
    problems = []
    if not 3 <= len(name) <= 253:
        problems.append(
            "is too short (minimum is 3 characters)" if len(name) < 3 else "is too long (maximum is 253 characters)"
        )
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        problems.append("does not comply with RFC 1035 standards")
    if len(labels) < 2:
        problems.append('must contain at least one "."')
    return problems


def create(tx: Tx, settings: Settings, actor: Actor, body: Mapping[str, Any]) -> Row[Any]:
    """Add a domain. `body` as POST /v3/domains takes it. Raises 403, 422."""
    name = body["name"].lower()
    relationships = body.get("relationships") or {}
    owner = ((relationships.get("organization") or {}).get("data") or {}).get("guid")
    shared = [one["guid"] for one in (relationships.get("shared_organizations") or {}).get("data") or []]
    if owner is None:
        if not actor.is_admin:
            raise errors.not_authorized()
    else:
        _require_owner(tx, actor, owner)
        _require_public(settings, name)
    _require_free(tx, name, owner)
    if owner is not None:
        quotas.require_domain(tx, owner)
    values = {
        "name": name,
        "internal": bool(body.get("internal")),
        "organization_guid": owner,
        "router_group_guid": None,
    }
    row = rows.add(tx, domains, values, body.get("metadata"))
    if shared:
        share(tx, actor, row, shared)
    return row


def _require_owner(tx: Tx, actor: Actor, owner: str) -> None:
    organization = rows.by_guid(tx, organizations, owner)
    hidden = not actor.reads_everything and not access.roles_in_org(tx, actor, owner)
    if organization is None or hidden:
        raise errors.unprocessable(f"Organization with guid '{owner}' does not exist or you do not have access to it.")
    access.require_in_org(tx, actor, owner, ("organization_manager",))
    feature_flags.require(tx, actor, "private_domain_creation")


def _require_public(settings: Settings, name: str) -> None:
    system = settings.platform.system_domain.lower()
    if system and (name == system or name in {f"{host}.{system}" for host in _RESERVED}):
        raise errors.unprocessable(f'The "{name}" domain is reserved and cannot be used for org-scoped domains.')
    if name in {"localhost", "localdomain"}:
        raise errors.unprocessable(f'The "{name}" domain is reserved and cannot be used for org-scoped domains.')


def _require_free(tx: Tx, name: str, owner: str | None) -> None:
    if tx.scalar(select(domains.c.guid).where(domains.c.name == name)) is not None:
        raise errors.unprocessable(f'The domain name "{name}" is already in use')
    labels = name.split(".")
    parents = [".".join(labels[index:]) for index in range(1, len(labels))]
    blocked = select(domains.c.name).where(
        domains.c.name.in_(parents),
        domains.c.organization_guid.is_not(None),
        domains.c.organization_guid != (owner or ""),
    )
    children = select(domains.c.name).where(
        domains.c.name.like(f"%.{_escaped(name)}", escape="\\"),
        or_(domains.c.organization_guid.is_(None), domains.c.organization_guid != (owner or "")),
    )
    taken = tx.scalar(blocked.limit(1)) or (tx.scalar(children.limit(1)) if owner is not None else None)
    if taken:
        raise errors.unprocessable(
            f'The domain name "{name}" cannot be created because "{taken}" is already reserved by another domain'
        )
    for parent in parents[:-1]:
        host = name.removesuffix("." + parent)
        route = (
            select(routes.c.guid)
            .join(domains, domains.c.guid == routes.c.domain_guid)
            .where(domains.c.name == parent, routes.c.host == host)
        )
        if tx.scalar(route.limit(1)) is not None:
            raise errors.unprocessable(
                f'The domain name "{name}" cannot be created because "{name}" is already reserved by a route'
            )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def share(tx: Tx, actor: Actor, domain: Row[Any], guids: Sequence[str]) -> None:
    """Let more organizations use a private domain. Raises 422."""
    if domain.organization_guid is None:
        raise errors.unprocessable(
            "Domains can not be shared with other organizations unless they are scoped to an organization."
        )
    for guid in guids:
        organization = rows.by_guid(tx, organizations, guid)
        if organization is None:
            raise errors.unprocessable(
                f"Organization with guid '{guid}' does not exist, or you do not have access to it."
            )
        have = access.roles_in_org(tx, actor, guid)
        if not actor.is_admin and not actor.reads_everything and not have:
            raise errors.unprocessable(
                f"Organization with guid '{guid}' either does not exist, or you do not have access to it."
            )
        if not actor.is_admin and "organization_manager" not in have:
            raise errors.unprocessable(
                f"You do not have sufficient permissions for organization '{organization.name}' to share domain."
            )
        if guid == domain.organization_guid:
            raise errors.unprocessable("Domain cannot be shared with owning organization.")
    known = set(tx.scalars(select(domain_shares.c.organization_guid).where(domain_shares.c.domain_guid == domain.guid)))
    new = [
        {"domain_guid": domain.guid, "organization_guid": guid} for guid in dict.fromkeys(guids) if guid not in known
    ]
    if new:
        tx.run(insert(domain_shares), new)


def unshare(tx: Tx, actor: Actor, domain: Row[Any], guid: str) -> None:
    """Take a private domain away from an organization. Raises 422 while it has routes there."""
    shared = domain_shares.c.domain_guid == domain.guid, domain_shares.c.organization_guid == guid
    if tx.scalar(select(domain_shares.c.domain_guid).where(*shared)) is None:
        raise errors.unprocessable(
            f"Unable to unshare domain from organization with name or guid '{guid}'. Ensure the domain is shared to this organization."
        )
    managed = [
        one
        for one in (domain.organization_guid, guid)
        if actor.is_admin or "organization_manager" in access.roles_in_org(tx, actor, one)
    ]
    if not managed:
        raise errors.not_authorized()
    inside = select(spaces.c.guid).where(spaces.c.organization_guid == guid)
    if tx.scalar(select(routes.c.guid).where(routes.c.domain_guid == domain.guid, routes.c.space_guid.in_(inside))):
        raise errors.unprocessable(
            "This domain has associated routes in this organization. Delete the routes before unsharing."
        )
    tx.run(domain_shares.delete().where(*shared))


def require_deletable(tx: Tx, domain: Row[Any]) -> None:
    """Raises 422 while the domain is shared with other organizations."""
    if tx.scalar(select(domain_shares.c.domain_guid).where(domain_shares.c.domain_guid == domain.guid)) is not None:
        raise errors.unprocessable("This domain is shared with other organizations. Unshare before deleting.")


def delete(tx: Tx, domain: Row[Any], delete_routes: Any) -> None:
    """Remove a domain and its routes; `delete_routes(guids)` removes routes by the rules for routes."""
    require_deletable(tx, domain)
    delete_routes(tx.scalars(select(routes.c.guid).where(routes.c.domain_guid == domain.guid)))
    rows.remove(tx, domains, [domain.guid])


def usable_in(organization_guid: Any) -> Any:
    """Condition on the domains table: those that an organization may have routes on."""
    shares = select(domain_shares.c.domain_guid).where(domain_shares.c.organization_guid == organization_guid)
    return or_(
        domains.c.organization_guid.is_(None),
        domains.c.organization_guid == organization_guid,
        domains.c.guid.in_(shares),
    )


def default_of(tx: Tx, organization_guid: str) -> Row[Any] | None:
    """The oldest shared domain for HTTP routes from outside, else the organization's first private one."""
    first = select(domains).order_by(domains.c.id).limit(1)
    public = first.where(
        domains.c.organization_guid.is_(None), domains.c.internal.is_(False), domains.c.router_group_guid.is_(None)
    )
    return tx.one(public) or tx.one(first.where(domains.c.organization_guid == organization_guid))
