"""Packages: the source of an app, uploaded once, or the name of an image."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row

from cupola import errors
from cupola.domain import access, audit
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows, sealed
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.staging import packages

__all__ = ["copy", "create", "delete", "may_upload", "ready", "record", "writable_app"]


def writable_app(tx: Tx, actor: Actor, guid: str, hidden: str) -> Row[Any]:
    """The app that a new package or droplet is for. Raises 422 with `hidden` when it cannot be seen, 403 by role."""
    app = rows.by_guid(tx, apps, guid)
    if app is None or not access.may_read_space(tx, actor, app.space_guid):
        raise errors.unprocessable(hidden)
    access.require_in_space(tx, actor, app.space_guid, access.WRITE_IN_SPACE)
    return app


def create(tx: Tx, actor: Actor, body: Mapping[str, Any]) -> Row[Any]:
    """Add a package. `body` as POST /v3/packages takes it. Raises 403, 422."""
    guid = body["relationships"]["app"]["data"]["guid"]
    app = writable_app(tx, actor, guid, "App is invalid. Ensure it exists and you have access to it.")
    docker = body["type"] == "docker"
    if docker and app.lifecycle_type != "docker":
        raise errors.unprocessable("Cannot create Docker package for a buildpack app.")
    if not docker and app.lifecycle_type == "docker":
        raise errors.unprocessable("Cannot create bits package for a Docker app.")
    data = body.get("data") or {}
    values = {
        "app_guid": app.guid,
        "type": body["type"],
        "state": "READY" if docker else "AWAITING_UPLOAD",
        "image": data.get("image"),
        "username": data.get("username"),
        "password": sealed.seal(tx, packages.c.password, data.get("password")),
    }
    row = rows.add(tx, packages, values, body.get("metadata"))
    record(tx, "audit.app.package.create", actor, app, row, {"request": dict(body)})
    return row


def copy(tx: Tx, actor: Actor, source_guid: str, app_guid: str) -> Row[Any]:
    """Copy a package's bits to another app. Raises 403, 422."""
    app = writable_app(tx, actor, app_guid, "App is invalid. Ensure it exists and you have access to it.")
    source = rows.by_guid(tx, packages, source_guid)
    source_app = rows.by_guid(tx, apps, source.app_guid) if source is not None else None
    if source is None or source_app is None or not access.may_read_space(tx, actor, source_app.space_guid):
        raise errors.unprocessable("Source package is invalid. Ensure it exists and you have access to it.")
    access.require_in_space(tx, actor, source_app.space_guid, access.WRITE_IN_SPACE)
    if app.guid == source.app_guid:
        raise errors.unprocessable("Source and destination app cannot be the same")
    names = ("type", "state", "digest", "size", "image", "username", "password")
    row = rows.add(tx, packages, {"app_guid": app.guid, **{name: source._mapping[name] for name in names}})
    record(tx, "audit.app.package.create", actor, app, row, {"source_guid": source_guid})
    return row


def may_upload(tx: Tx, actor: Actor, package: Row[Any]) -> Row[Any]:
    """The package's app. Raises 403 without the role, 422 for an image, 400 when bits are there already."""
    app = rows.by_guid(tx, apps, package.app_guid)
    if app is None:
        raise errors.not_found("Package")
    access.require_in_space(tx, actor, app.space_guid, access.WRITE_IN_SPACE)
    if package.type != "bits":
        raise errors.unprocessable("Package type must be bits.")
    if package.state != "AWAITING_UPLOAD":
        raise CloudError(
            150004,
            "CF-PackageBitsAlreadyUploaded",
            400,
            "Bits may be uploaded only once. Create a new package to upload different bits.",
        )
    return app


def ready(tx: Tx, actor: Actor, guid: str, digest: str, size: int) -> Row[Any]:
    """Take an upload as the package's bits. Raises as `may_upload`, which may have changed meanwhile."""
    package = rows.by_guid(tx, packages, guid)
    if package is None:
        raise errors.not_found("Package")
    app = may_upload(tx, actor, package)
    changed = rows.change(tx, packages, package, {"state": "READY", "digest": digest, "size": size})
    record(tx, "audit.app.package.upload", actor, app, changed, {"package_guid": guid})
    return changed


def delete(tx: Tx, actor: Actor, package: Row[Any]) -> None:
    """Remove a package; its bits go when nothing refers to them."""
    app = rows.by_guid(tx, apps, package.app_guid)
    rows.remove(tx, packages, [package.guid])
    if app is not None:
        record(tx, "audit.app.package.delete", actor, app, package, {})


def record(
    tx: Tx, type_: str, actor: Actor, app: Row[Any], package: Row[Any], data: Mapping[str, Any] | None = None
) -> None:
    """Write an audit event about a package of an app."""
    complete = {"package_guid": package.guid, **(data or {})}
    audit.record(tx, type_, actor, app.guid, "app", app.name, complete, space_guid=app.space_guid)
