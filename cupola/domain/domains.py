"""Domains: shared by all, private to an organization and those it shares with, or internal (behaviours.md section 13)."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, insert, or_, select

from cupola import errors
from cupola.config import Settings
from cupola.domain import access, feature_flags, public_suffixes, quotas, router_groups
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.orgs import organizations, spaces
from cupola.store.routes import domain_shares, domains, routes

__all__ = [
    "POLICY_SCOPES",
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
POLICY_SCOPES = ("any", "org", "space")
"""Who may be named by the route policies of a domain that enforces them."""
_MANAGER = ("organization_manager",)
_RESERVED = ("api", "uaa", "login", "log-cache", "log-stream", "console", "ssh")


def name_problems(name: str) -> list[str]:
    """What is wrong with the form of a domain name (RFC 1035, at least one dot)."""
    problems = []
    if len(name) < 3:
        problems.append("is too short (minimum is 3 characters)")
    if len(name) > 253:
        problems.append("is too long (maximum is 253 characters)")
    labels = name.split(".")
    if len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        problems.append("does not comply with RFC 1035 standards")
    if len(labels) < 2:
        problems.append('must contain at least one "."')
    if any(len(label) > 63 for label in labels):
        problems.append("subdomains must each be at most 63 characters")
    if re.search(r"[^A-Za-z0-9.-]", name):
        problems.append("must consist of alphanumeric characters and hyphens")
    return problems


def create(tx: Tx, settings: Settings, actor: Actor, body: Mapping[str, Any]) -> Row[Any]:
    """Add a domain. `body` as POST /v3/domains takes it; with relationships it is private. Raises 403, 422."""
    name = body["name"].lower()
    owner, shared = None, []
    if "relationships" in body:
        relationships = body["relationships"]
        owner = ((relationships.get("organization") or {}).get("data") or {}).get("guid") or ""
        shared = [one["guid"] for one in (relationships.get("shared_organizations") or {}).get("data") or []]
        _require_owner(tx, actor, owner)
        _require_sharable(tx, actor, owner, shared)
    else:
        access.require_admin(actor)
    group = _router_group(tx, body)
    if owner is not None:
        _require_public(settings, name)
    _require_free(tx, name, owner)
    if owner is not None:
        quotas.require_domain(tx, owner)
    enforced = bool(body.get("enforce_route_policies"))
    values = {
        "name": name,
        "internal": bool(body.get("internal")),
        "organization_guid": owner,
        "router_group_guid": group.guid if group is not None else None,
        "router_group_type": group.type if group is not None else None,
        "enforce_route_policies": enforced,
        "route_policies_scope": body.get("route_policies_scope") if enforced else None,
    }
    row = rows.add(tx, domains, values, body.get("metadata"))
    _add_shares(tx, row, shared)
    return row


def _router_group(tx: Tx, body: Mapping[str, Any]) -> Row[Any] | None:
    wanted = (body.get("router_group") or {}).get("guid")
    if not wanted:
        return None
    group = router_groups.find(tx, wanted)
    if group is None:
        raise errors.unprocessable(f"Router group with guid '{wanted}' not found.")
    return group


def _require_owner(tx: Tx, actor: Actor, owner: str) -> None:
    if rows.by_guid(tx, organizations, owner) is None:
        raise _unknown_organization(owner)
    access.require_in_org(tx, actor, owner, _MANAGER)
    feature_flags.require(tx, actor, "private_domain_creation")


def _unknown_organization(guid: str) -> CloudError:
    return errors.unprocessable(f"Organization with guid '{guid}' does not exist or you do not have access to it.")


def _require_public(settings: Settings, name: str) -> None:
    if public_suffixes.is_reserved(settings.platform.reserved_domains_file, name):
        raise errors.unprocessable(f'The "{name}" domain is reserved and cannot be used for org-scoped domains.')
    system = settings.platform.system_domain.lower()
    if system and (name == system or name in {f"{host}.{system}" for host in _RESERVED}):
        raise errors.unprocessable(
            f'The domain name "{name}" cannot be created because "{name}" is already reserved by the system'
        )


def _require_free(tx: Tx, name: str, owner: str | None) -> None:
    if tx.scalar(select(domains.c.guid).where(domains.c.name == name)) is not None:
        raise errors.unprocessable(f'The domain name "{name}" is already in use')
    labels = name.split(".")
    # The name itself and what it is below of, but for the top level.
    above = [".".join(labels[index:]) for index in range(len(labels) - 1)]
    foreign = domains.c.organization_guid != (owner or "")
    blocked = select(domains.c.name).where(domains.c.name.in_(above), domains.c.organization_guid.is_not(None), foreign)
    below = domains.c.name.like(f"%.{_escaped(name)}", escape="\\")
    children = select(domains.c.name).where(below, or_(domains.c.organization_guid.is_(None), foreign))
    taken = tx.scalar(blocked.limit(1)) or (tx.scalar(children.limit(1)) if owner is not None else None)
    if taken:
        raise errors.unprocessable(
            f'The domain name "{name}" cannot be created because "{taken}" is already reserved by another domain'
        )
    at_routes = select(routes.c.host, domains.c.name).join(domains, domains.c.guid == routes.c.domain_guid)
    parents = [one.partition(".")[2] for one in above]
    hosts = [one.partition(".")[0] for one in above]
    found = tx.all(at_routes.where(domains.c.name.in_(parents), routes.c.host.in_(hosts)))
    reserved = {f"{row.host}.{row.name}" for row in found}.intersection(above)
    if reserved:
        raise errors.unprocessable(
            f'The domain name "{name}" cannot be created because "{min(reserved, key=len)}" '
            "is already reserved by a route"
        )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def share(tx: Tx, actor: Actor, domain: Row[Any], guids: Sequence[str]) -> None:
    """Let more organizations use a private domain; those that do stay. Raises 422."""
    _require_sharable(tx, actor, domain.organization_guid, guids)
    if domain.organization_guid is None:
        raise errors.unprocessable(
            "Domains cannot be shared with other organizations unless they are scoped to an organization."
        )
    _add_shares(tx, domain, guids)


def _require_sharable(tx: Tx, actor: Actor, owner: str | None, guids: Sequence[str]) -> None:
    """Raises 422 unless the actor manages each of the organizations, and none of them is the owner."""
    found = rows.by_guids(tx, organizations, guids)
    missing = next((guid for guid in guids if guid not in found), None)
    if missing is not None:
        raise errors.unprocessable(
            f"Organization with guid '{missing}' does not exist, or you do not have access to it."
        )
    for guid in guids:
        organization = found[guid]
        have = access.roles_in_org(tx, actor, guid)
        if not actor.reads_everything and not have:
            raise errors.unprocessable(
                f"Organization with guid '{guid}' either does not exist, or you do not have access to it."
            )
        if not actor.is_admin and have.isdisjoint(_MANAGER):
            raise errors.unprocessable(
                f"You do not have sufficient permissions for organization '{organization.name}' to share domain."
            )
        if not actor.is_admin and organization.suspended:
            raise errors.unprocessable(f"Organization '{organization.name}' is suspended.")
    if owner in guids:
        raise errors.unprocessable("Domain cannot be shared with owning organization.")


def _add_shares(tx: Tx, domain: Row[Any], guids: Sequence[str]) -> None:
    known = set(tx.scalars(select(domain_shares.c.organization_guid).where(domain_shares.c.domain_guid == domain.guid)))
    new = [
        {"domain_guid": domain.guid, "organization_guid": guid} for guid in dict.fromkeys(guids) if guid not in known
    ]
    if new:
        tx.run(insert(domain_shares), new)


def unshare(tx: Tx, actor: Actor, domain: Row[Any], guid: str) -> None:
    """Take a private domain away from an organization: its managers may, and the owner's.

    Raises 403, and 422 when it is not shared there or has routes there.
    """
    organization = rows.by_guid(tx, organizations, guid)
    if organization is None:
        raise _unknown_organization(guid)
    _require_either_managed(tx, actor, domain.organization_guid, guid)
    if not actor.reads_everything and not access.roles_in_org(tx, actor, guid):
        raise _unknown_organization(guid)
    shared = domain_shares.c.domain_guid == domain.guid, domain_shares.c.organization_guid == guid
    if tx.scalar(select(domain_shares.c.domain_guid).where(*shared)) is None:
        raise errors.unprocessable(
            f"Unable to unshare domain from organization with name '{organization.name}'. "
            "Ensure the domain is shared to this organization."
        )
    inside = select(spaces.c.guid).where(spaces.c.organization_guid == guid)
    if tx.scalar(select(routes.c.guid).where(routes.c.domain_guid == domain.guid, routes.c.space_guid.in_(inside))):
        raise errors.unprocessable(
            "This domain has associated routes in this organization. Delete the routes before unsharing."
        )
    tx.run(domain_shares.delete().where(*shared))


def _require_either_managed(tx: Tx, actor: Actor, owner: str | None, receiver: str) -> None:
    refused: CloudError | None = None
    for guid in (owner, receiver):
        try:
            if guid is None:
                access.require_admin(actor)
            else:
                access.require_in_org(tx, actor, guid, _MANAGER)
        except CloudError as error:
            # A suspended organization that the actor manages says more than one that is not the actor's.
            refused = error if refused is None or error.code != errors.not_authorized().code else refused
        else:
            return
    assert refused is not None
    raise refused


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
    """The oldest shared domain for HTTP routes from outside, else the first private one that is its own or shared with it."""
    first = select(domains).order_by(domains.c.id).limit(1)
    public = first.where(
        domains.c.organization_guid.is_(None), domains.c.internal.is_(False), domains.c.router_group_guid.is_(None)
    )
    private = domains.c.organization_guid.is_not(None)
    return tx.one(public) or tx.one(first.where(private, usable_in(organization_guid)))
