"""Registry credentials: kept once for a platform, an organization, a space or an app, for the images that it pulls
(reference/osmapi-and-extensions.md section 2).

Passwords come in and never go out: sealed in the database, absent from answers, hidden in audit events.
"""

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select

from cupola import errors
from cupola.domain import access, audit
from cupola.roles import Actor
from cupola.store import rows, sealed
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.orgs import organizations, spaces
from cupola.store.registry_credentials import registry_credentials
from cupola.store.staging import droplets, packages

__all__ = [
    "SCOPES",
    "create",
    "location_problems",
    "normalized",
    "password_of",
    "remember_for_app",
    "remove",
    "remove_all_of",
    "require_writable",
    "update",
]

SCOPES = ("foundation", "organization", "space", "app")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?", re.ASCII)
_PART = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*", re.ASCII)
_columns = registry_credentials.c


def location_problems(location: str) -> list[str]:
    """What is wrong with the form of a location: a host, perhaps with a port, perhaps with a path."""
    if len(location) > 1024:
        return ["is too long (maximum is 1024 characters)"]
    if "://" in location:
        return ["must not have a scheme, as in 'registry.example.com/team'"]
    if "@" in location:
        return ["must not have a user or a digest, as in 'registry.example.com/team'"]
    host, *path = location.removesuffix("/").split("/")
    if path and ":" in path[-1]:
        return ["must not have a tag, as in 'registry.example.com/team'"]
    if not _HOST.fullmatch(host) or not all(_PART.fullmatch(part) for part in path):
        return ["must be a registry's host with an optional port and path, as in 'registry.example.com:5000/team'"]
    return []


def normalized(location: str) -> str:
    """A location as it is kept: the host in lower case, no slash at the end."""
    host, slash, path = location.removesuffix("/").partition("/")
    return host.lower() + slash + path


def create(tx: Tx, actor: Actor, body: Mapping[str, Any]) -> Row[Any]:
    """Keep credentials; `body` as POST /v3/registry_credentials takes it. Raises 403, 422."""
    scope, target = _target(tx, actor, body.get("relationships") or {})
    location = normalized(body["location"])
    if _find(tx, target, location) is not None:
        raise errors.uniqueness(f"Registry credential for location '{location}' already exists in this {scope}.")
    return _add(tx, actor, scope, target, location, body["username"], body["password"], body)


def _find(tx: Tx, target: str, location: str) -> Row[Any] | None:
    found = select(registry_credentials).where(_columns.target_guid == target, _columns.location == location)
    return tx.one(found)


def _target(tx: Tx, actor: Actor, relationships: Mapping[str, Any]) -> tuple[str, str]:
    """(scope, guid of its organization or space), the actor being allowed to keep credentials there."""
    named = {kind: one["data"]["guid"] for kind, one in relationships.items()}
    if "space" in named:
        space = named["space"]
        if rows.by_guid(tx, spaces, space) is None or not access.may_read_space(tx, actor, space):
            raise errors.unprocessable("Invalid space. Ensure that the space exists and you have access to it.")
        access.require_in_space(tx, actor, space, access.WRITE_IN_SPACE)
        return "space", space
    if "organization" in named:
        organization = named["organization"]
        hidden = not actor.reads_everything and not access.roles_in_org(tx, actor, organization)
        if rows.by_guid(tx, organizations, organization) is None or hidden:
            raise errors.unprocessable(
                "Invalid organization. Ensure that the organization exists and you have access to it."
            )
        access.require_in_org(tx, actor, organization, ("organization_manager",))
        return "organization", organization
    access.require_admin(actor)
    return "foundation", ""


def _add(
    tx: Tx,
    actor: Actor,
    scope: str,
    target: str,
    location: str,
    username: str,
    password: str,
    body: Mapping[str, Any],
) -> Row[Any]:
    values = {
        "location": location,
        "username": username,
        "password": sealed.seal(tx, _columns.password, password),
        "scope": scope,
        "target_guid": target,
        **({f"{scope}_guid": target} if target else {}),
    }
    row = rows.add(tx, registry_credentials, values, body.get("metadata"))
    _record(tx, "audit.registry_credential.create", actor, row, {"request": dict(body)})
    return row


def require_writable(tx: Tx, actor: Actor, row: Row[Any]) -> None:
    """Raises 403 unless the actor may change or delete credentials of this scope."""
    if row.scope == "foundation":
        access.require_admin(actor)
    elif row.scope == "organization":
        access.require_in_org(tx, actor, row.organization_guid, ("organization_manager",))
    else:
        space = row.space_guid
        if row.scope == "app":
            space = tx.scalar(select(apps.c.space_guid).where(apps.c.guid == row.app_guid))
        access.require_in_space(tx, actor, space, access.WRITE_IN_SPACE)


def update(tx: Tx, actor: Actor, row: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Change username, password or metadata. Raises 422 for those of an app, which its pushes bring."""
    if row.scope == "app":
        raise errors.unprocessable(
            f"Registry credential for location '{row.location}' belongs to an app. "
            "Push the app with new credentials to change it."
        )
    values: dict[str, Any] = {}
    if "username" in body:
        values["username"] = body["username"]
    if "password" in body:
        values["password"] = sealed.seal(tx, _columns.password, body["password"])
    changed = rows.change(tx, registry_credentials, row, values, body.get("metadata"))
    _record(tx, "audit.registry_credential.update", actor, changed, {"request": dict(body)})
    return changed


def remove(tx: Tx, actor: Actor, row: Row[Any]) -> None:
    """Forget credentials; images that need them cannot be pulled any more."""
    rows.remove(tx, registry_credentials, [row.guid])
    _record(tx, "audit.registry_credential.delete", actor, row, {})


def remove_all_of(tx: Tx, guid: str) -> None:
    """Forget the credentials of an organization, a space or an app that is being deleted."""
    rows.remove(tx, registry_credentials, tx.scalars(select(_columns.guid).where(_columns.target_guid == guid)))


def remember_for_app(tx: Tx, actor: Actor, app: Row[Any]) -> None:
    """Keep the credentials of the package that a docker app is being started with, for that app."""
    package = _package_of(tx, app) if app.lifecycle_type == "docker" else None
    if package is None or package.username is None or package.password is None:
        return
    location = normalized(registry_of(package.image))
    password = sealed.opened(tx, packages.c.password, package.password)
    known = _find(tx, app.guid, location)
    if known is None:
        _add(tx, actor, "app", app.guid, location, package.username, password, {})
    elif (known.username, password_of(tx, known)) != (package.username, password):
        values = {"username": package.username, "password": sealed.seal(tx, _columns.password, password)}
        changed = rows.change(tx, registry_credentials, known, values)
        _record(tx, "audit.registry_credential.update", actor, changed, {})


def _package_of(tx: Tx, app: Row[Any]) -> Row[Any] | None:
    droplet = rows.by_guid(tx, droplets, app.droplet_guid)
    return None if droplet is None else rows.by_guid(tx, packages, droplet.package_guid)


def registry_of(image: str) -> str:
    """The host of an image reference; `docker.io` where it names none."""
    first, slash, _ = image.partition("/")
    return first if slash and (first == "localhost" or "." in first or ":" in first) else "docker.io"


def password_of(tx: Tx, row: Row[Any]) -> str:
    """The password, for whoever pulls an image."""
    return str(sealed.opened(tx, _columns.password, row.password))


def _record(tx: Tx, type_: str, actor: Actor, row: Row[Any], data: Mapping[str, Any]) -> None:
    space = row.space_guid
    if row.app_guid is not None:
        space = tx.scalar(select(apps.c.space_guid).where(apps.c.guid == row.app_guid))
    audit.record(
        tx,
        type_,
        actor,
        row.guid,
        "registry_credential",
        row.location,
        data,
        space_guid=space,
        organization_guid=row.organization_guid,
    )
