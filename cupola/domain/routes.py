"""Routes: an address in a space, and the processes that answer at it (behaviours.md section 12)."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, delete, select, union_all

from cupola import errors
from cupola.config import Settings
from cupola.domain import access, audit, feature_flags, quotas, route_options, router_groups
from cupola.domain import domains as domain_rules
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.orgs import organizations, spaces
from cupola.store.route_policies import route_policies
from cupola.store.routes import destinations, domains, route_shares, routes
from cupola.store.service_bindings import service_route_bindings

__all__ = [
    "create",
    "delete_routes",
    "host_problems",
    "path_problems",
    "protocol_of",
    "unmapped",
    "update_options",
    "uri",
    "url",
]

_HOST = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_RESERVED = ("api", "uaa", "login", "log-cache", "log-stream", "console", "ssh")
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/#-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_NO_TCP = "TCP routes are not served by this engine yet."


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
    problems = []
    if len(path) > 128:
        problems.append("is too long (maximum is 128 characters)")
    if path and not path.startswith("/"):
        problems.append("must begin with /")
    if "?" in path:
        problems.append("cannot contain ?")
    if path == "/":
        problems.append("cannot be exactly /")
    return problems


def protocol_of(domain: Row[Any]) -> str:
    """What routes of a domain speak: http or tcp."""
    return "tcp" if domain.router_group_type == "tcp" else "http"


def url(route: Row[Any], domain_name: str) -> str:
    """`host.domain/path`, as the API shows it."""
    if route.port:
        return f"{domain_name}:{route.port}"
    host = f"{route.host}.{domain_name}" if route.host else domain_name
    return f"{host}{route.path}"


def uri(tx: Tx, route: Row[Any]) -> str:
    """`host.domain/path`, as messages name a route."""
    domain = rows.by_guid(tx, domains, route.domain_guid)
    assert domain is not None, f"route {route.guid} outlived its domain"
    return url(route, domain.name)


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
    request: Mapping[str, Any] | None = None,
) -> Row[Any]:
    """Add a route. The caller has checked the role in the space. Raises 403 (flag), 422.

    `request` is what the audit event tells, where it is more than host, path and domain.
    """
    feature_flags.require(tx, actor, "route_creation")
    merged = route_options.merged(tx, {}, options or {})
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
    if domain.router_group_guid is not None:
        _require_router_group(tx, domain)
    if protocol_of(domain) == "tcp":
        raise _tcp_problem(host, path, port)
    _require_form(actor, domain, host, path, port)
    _require_no_conflict(tx, settings, space, domain, host, path)
    values = {
        "host": host,
        "path": path,
        "port": 0,
        "domain_guid": domain.guid,
        "space_guid": space.guid,
        "options": merged,
    }
    row = rows.add(tx, routes, values, metadata)
    data = {"request": dict(request or {"host": host, "path": path, "domain": domain.name})}
    audit.record(tx, "audit.route.create", actor, row.guid, "route", host, data, space_guid=space.guid)
    tx.ring("routes")
    return row


def _require_router_group(tx: Tx, domain: Row[Any]) -> None:
    if router_groups.find(tx, domain.router_group_guid) is None:
        raise errors.unprocessable(
            "Route could not be created because the specified domain does not have a valid router group."
        )


def _tcp_problem(host: str, path: str, port: int | None) -> CloudError:
    """Why a TCP route cannot be made: its form, or that no router group has ports that are served."""
    if host:
        return errors.unprocessable("Hosts are not supported for TCP routes.")
    if path:
        return errors.unprocessable("Paths are not supported for TCP routes.")
    if port:
        return errors.unprocessable(
            f"Port '{port}' is not available. Try a different port or use a different domain. {_NO_TCP}"
        )
    return errors.unprocessable(f"There are no more ports available for this domain. {_NO_TCP}")


def _require_form(actor: Actor, domain: Row[Any], host: str, path: str, port: int | None) -> None:
    if port is not None:
        raise errors.unprocessable("Routes with protocol 'http' do not support ports.")
    if domain.internal:
        if host == "*":
            raise errors.unprocessable("Wildcard hosts are not supported for internal domains.")
        if path:
            raise errors.unprocessable("Paths are not supported for internal domains.")
    if not _PATH.fullmatch(path):
        raise errors.unprocessable("Path is invalid.")
    shared = domain.organization_guid is None
    if shared and not host:
        raise errors.unprocessable("Missing host. Routes in shared domains must have a host defined.")
    if shared and host == "*" and not actor.is_admin:
        raise errors.unprocessable(
            "You do not have sufficient permissions to create a route with a wildcard host "
            "on a domain not scoped to an organization."
        )
    if len(f"{host}.{domain.name}" if host else domain.name) > 253:
        raise errors.unprocessable("Host combined with domain name must be no more than 253 characters.")


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
        named = [f"{name} '{value}'" for name, value in (("host", host), ("path", path)) if value]
        where = f" with {' and '.join(named)}" if named else ""
        raise errors.unprocessable(f"Route already exists{where} for domain '{domain.name}'.")
    if domain.organization_guid is None and any(route.space_guid != space.guid for route in found):
        raise errors.unprocessable("domain_id and host host_and_domain_taken_different_space")


def update_options(
    tx: Tx, actor: Actor, route: Row[Any], options: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None
) -> Row[Any]:
    """Change options and metadata. Raises 422."""
    values = {} if options is None else {"options": route_options.merged(tx, route.options, options)}
    tx.ring("routes")
    return rows.change(tx, routes, route, values, metadata)


def delete_routes(tx: Tx, actor: Actor, guids: Sequence[str]) -> None:
    """Remove routes with their destinations and policies, with an audit event each."""
    found = rows.by_guids(tx, routes, guids)
    data = {"request": {"recursive": True}}
    for route in found.values():
        audit.record(
            tx, "audit.route.delete-request", actor, route.guid, "route", route.host, data, space_guid=route.space_guid
        )
    if found:
        wanted = list(found)
        tx.run(delete(destinations).where(destinations.c.route_guid.in_(wanted)))
        tx.run(delete(route_shares).where(route_shares.c.route_guid.in_(wanted)))
        policies = select(route_policies.c.guid).where(route_policies.c.route_guid.in_(wanted))
        rows.remove(tx, route_policies, tx.scalars(policies))
        rows.remove(tx, routes, wanted)
        tx.ring("routes")


def unmapped(tx: Tx, space_guid: str) -> list[str]:
    """Guids of a space's routes without destinations and without a service."""
    used = union_all(select(destinations.c.route_guid), select(service_route_bindings.c.route_guid))
    return tx.scalars(select(routes.c.guid).where(routes.c.space_guid == space_guid, routes.c.guid.not_in(used)))


def require_usable(tx: Tx, actor: Actor, space_guid: str) -> Row[Any]:
    """The space a new route is for. Raises 422 when it does not exist, 403 by role."""
    space = rows.by_guid(tx, spaces, space_guid)
    if space is None:
        raise errors.unprocessable("Invalid space. Ensure that the space exists and you have access to it.")
    access.require_in_space(tx, actor, space_guid, access.MANAGE_APPS)
    return space
