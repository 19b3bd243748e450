"""Routes: an address in a space, and the processes that answer at it (behaviours.md section 12)."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, delete, select

from cupola import errors
from cupola.config import Settings
from cupola.domain import access, audit, feature_flags, quotas
from cupola.domain import domains as domain_rules
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.orgs import organizations, spaces
from cupola.store.routes import destinations, domains, route_shares, routes

__all__ = [
    "create",
    "delete_routes",
    "host_problems",
    "options_problems",
    "path_problems",
    "unmapped",
    "update_options",
    "url",
]

_HOST = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_RESERVED = ("api", "uaa", "login", "log-cache", "log-stream", "console", "ssh")
_BALANCING = ("round-robin", "least-connection")


def host_problems(host: str) -> list[str]:
    """What is wrong with the form of a host."""
    problems = []
    if len(host) > 63:
        problems.append("is too long (maximum is 63 characters)")
    if host and host != "*" and not _HOST.fullmatch(host):
        problems.append('must be either "*" or contain only alphanumeric characters, "_", or "-"')
    return problems


def path_problems(path: str) -> list[str]:
    """What is wrong with the form of a path."""
    if not path:
        return []
    problems = []
    if not path.startswith("/"):
        problems.append("must begin with /")
    if path == "/":
        problems.append("cannot be exactly /")
    if "?" in path:
        problems.append("cannot contain ?")
    if len(path) > 128:
        problems.append("is too long (maximum is 128 characters)")
    return problems


def options_problems(options: Any) -> list[str]:
    """What is wrong with a route's options; complete sentences."""
    if not isinstance(options, dict):
        return ["Options must be an object"]
    problems = []
    unknown = [name for name in options if name not in {"loadbalancing", "hash_header", "hash_balance"}]
    if unknown:
        problems.append("Options has unsupported key(s): " + ", ".join(unknown))
    balancing = options.get("loadbalancing")
    if balancing is not None and balancing not in (*_BALANCING, "hash"):
        problems.append(f"Options Loadbalancing must be one of '{', '.join(_BALANCING)}' if present")
    return problems


def url(route: Row[Any], domain_name: str) -> str:
    """`host.domain/path`, as the API shows it."""
    if route.port:
        return f"{domain_name}:{route.port}"
    host = f"{route.host}.{domain_name}" if route.host else domain_name
    return f"{host}{route.path}"


def create(
    tx: Tx,
    settings: Settings,
    actor: Actor,
    space: Row[Any],
    domain: Row[Any],
    *,
    host: str = "",
    path: str = "",
    port: int | None = None,
    options: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Row[Any]:
    """Add a route. The caller has checked the role in the space. Raises 403 (flag), 422."""
    feature_flags.require(tx, actor, "route_creation")
    host, path = host.lower(), path.lower()
    usable = select(domains.c.guid).where(
        domains.c.guid == domain.guid, domain_rules.usable_in(space.organization_guid)
    )
    if tx.scalar(usable) is None:
        organization = rows.by_guid(tx, organizations, space.organization_guid)
        shown = organization.name if organization else space.organization_guid
        raise errors.unprocessable(
            f"Invalid domain. Domain '{domain.name}' is not available in organization '{shown}'."
        )
    quotas.require_route(tx, space.guid)
    _require_form(actor, domain, host, path, port)
    _require_no_conflict(tx, settings, space, domain, host, path)
    values = {
        "host": host,
        "path": path,
        "port": 0,
        "domain_guid": domain.guid,
        "space_guid": space.guid,
        "options": _options(tx, actor, {}, options or {}),
    }
    row = rows.add(tx, routes, values, metadata)
    data = {"request": {"host": host, "path": path, "domain": domain.name}}
    shown = url(row, domain.name)
    audit.record(tx, "audit.route.create", actor, row.guid, "route", shown, data, space_guid=space.guid)
    tx.ring("routes")
    return row


def _require_form(actor: Actor, domain: Row[Any], host: str, path: str, port: int | None) -> None:
    if port is not None:
        raise errors.unprocessable("Routes with protocol 'http' do not support ports.")
    if domain.internal:
        if host == "*":
            raise errors.unprocessable("Wildcard hosts are not supported for internal domains.")
        if path:
            raise errors.unprocessable("Paths are not supported for internal domains.")
    shared = domain.organization_guid is None
    if shared and not host:
        raise errors.unprocessable("Missing host. Routes in shared domains must have a host defined.")
    if shared and host == "*" and not actor.is_admin:
        raise errors.unprocessable(
            "You do not have sufficient permissions to create a route with a wildcard host "
            "on a domain not scoped to an organization."
        )
    if len(host) + 1 + len(domain.name) > 253:
        raise errors.unprocessable("Host combined with domain name must be no more than 253 characters")


def _require_no_conflict(tx: Tx, settings: Settings, space: Row[Any], domain: Row[Any], host: str, path: str) -> None:
    name = f"{host}.{domain.name}" if host else domain.name
    system = settings.platform.system_domain.lower()
    if name in settings.system_hosts or (system and domain.name == system and host in _RESERVED):
        raise errors.unprocessable("Route conflicts with a reserved system route.")
    if host and tx.scalar(select(domains.c.guid).where(domains.c.name == name)) is not None:
        raise errors.unprocessable(f"Route conflicts with domain '{name}'.")
    same = select(routes).where(routes.c.domain_guid == domain.guid, routes.c.host == host)
    found = tx.all(same)
    if any(route.path == path for route in found):
        where = f"host '{host}' and path '{path}'" if path else f"host '{host}'"
        if not host and not path:
            raise errors.unprocessable(f"Route already exists for domain '{domain.name}'.")
        raise errors.unprocessable(f"Route already exists with {where} for domain '{domain.name}'.")
    if domain.organization_guid is None and any(route.space_guid != space.guid for route in found):
        raise errors.unprocessable("domain_id and host host_and_domain_taken_different_space")


def _options(tx: Tx, actor: Actor, now: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**now, **change}
    merged = {name: value for name, value in merged.items() if value is not None}
    if merged.get("loadbalancing") == "hash":
        if not feature_flags.is_enabled(tx, "hash_based_routing"):
            raise errors.unprocessable(f"Options Loadbalancing must be one of '{', '.join(_BALANCING)}' if present")
        if not merged.get("hash_header"):
            raise errors.unprocessable("Options Hash header must be present when loadbalancing is set to hash")
        balance = merged.get("hash_balance")
        if balance is not None:
            merged["hash_balance"] = _balance(balance)
    elif "hash_header" in merged or "hash_balance" in merged:
        if any(change.get(name) is not None for name in ("hash_header", "hash_balance")):
            raise errors.unprocessable("Options Hash header can only be set when loadbalancing is hash")
        merged = {"loadbalancing": merged["loadbalancing"]} if "loadbalancing" in merged else {}
    return merged


def _balance(value: Any) -> str:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1
    if number != 0 and not 1.1 <= number <= 10:
        raise errors.unprocessable("Options Hash balance must be either 0 or between 1.1 and 10")
    return str(value)


def update_options(
    tx: Tx, actor: Actor, route: Row[Any], options: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None
) -> Row[Any]:
    """Change options and metadata."""
    values = {} if options is None else {"options": _options(tx, actor, route.options, options)}
    tx.ring("routes")
    return rows.change(tx, routes, route, values, metadata)


def delete_routes(tx: Tx, actor: Actor, guids: Sequence[str]) -> None:
    """Remove routes with their destinations, with an audit event each."""
    found = rows.by_guids(tx, routes, guids)
    names = rows.by_guids(tx, domains, [route.domain_guid for route in found.values()])
    for route in found.values():
        domain = names.get(route.domain_guid)
        shown = url(route, domain.name) if domain is not None else route.host
        audit.record(
            tx, "audit.route.delete-request", actor, route.guid, "route", shown, {}, space_guid=route.space_guid
        )
    if found:
        wanted = list(found)
        tx.run(delete(destinations).where(destinations.c.route_guid.in_(wanted)))
        tx.run(delete(route_shares).where(route_shares.c.route_guid.in_(wanted)))
        rows.remove(tx, routes, wanted)
        tx.ring("routes")


def unmapped(tx: Tx, space_guid: str) -> list[str]:
    """Guids of a space's routes without destinations."""
    mapped = select(destinations.c.route_guid)
    return tx.scalars(select(routes.c.guid).where(routes.c.space_guid == space_guid, routes.c.guid.not_in(mapped)))


def require_usable(tx: Tx, actor: Actor, space_guid: str) -> Row[Any]:
    """The space a new route is for. Raises 422 when it does not exist, 403 by role."""
    space = rows.by_guid(tx, spaces, space_guid)
    if space is None:
        raise errors.unprocessable("Invalid space. Ensure that the space exists and you have access to it.")
    access.require_in_space(tx, actor, space_guid, access.MANAGE_APPS)
    return space
