"""Droplets: made by builds, uploaded, copied; what an app runs."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select

from cupola import errors
from cupola.domain import access, audit
from cupola.domain.packages import writable_app
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps, processes
from cupola.store.database import Tx
from cupola.store.staging import droplets

__all__ = ["app_for_upload", "copy", "create", "delete", "record", "require_not_current", "take_bits"]

_COPIED = (
    "lifecycle_type",
    "stack",
    "image",
    "digest",
    "sha1",
    "size",
    "buildpacks",
    "process_types",
    "sidecars",
    "execution_metadata",
    "stack_fingerprint",
)


def create(tx: Tx, actor: Actor, app_guid: str, process_types: Mapping[str, str] | None) -> Row[Any]:
    """Add a droplet that waits for its bits. Raises 403, 422."""
    hidden = f'App with guid "{app_guid}" does not exist, or you do not have access to it.'
    app = writable_app(tx, actor, app_guid, hidden)
    if app.lifecycle_type == "docker":
        raise errors.unprocessable("Droplet creation is not available for apps with docker lifecycles.")
    values = {
        "app_guid": app.guid,
        "state": "AWAITING_UPLOAD",
        "lifecycle_type": app.lifecycle_type,
        "stack": app.stack,
        "process_types": dict(process_types) if process_types is not None else {"web": ""},
        "sidecars": [],
    }
    row = rows.add(tx, droplets, values)
    record(tx, "audit.app.droplet.create", actor, app, row)
    return row


def copy(tx: Tx, actor: Actor, source_guid: str, app_guid: str) -> Row[Any]:
    """Copy a staged droplet to another app. Raises 404, 403, 422."""
    source = rows.by_guid(tx, droplets, source_guid)
    source_app = rows.by_guid(tx, apps, source.app_guid) if source is not None else None
    if source is None or source_app is None or not access.may_read_space(tx, actor, source_app.space_guid):
        raise errors.not_found("Droplet")
    app = rows.by_guid(tx, apps, app_guid)
    if app is None or not access.may_read_space(tx, actor, app.space_guid):
        raise errors.not_found("App")
    access.require_in_space(tx, actor, app.space_guid, access.WRITE_IN_SPACE)
    if source.state != "STAGED":
        raise errors.unprocessable("source droplet is not staged")
    if source.lifecycle_type != app.lifecycle_type:
        raise errors.unprocessable("source and destination lifecycle types do not match")
    values = {"app_guid": app.guid, "state": "STAGED", **{name: source._mapping[name] for name in _COPIED}}
    row = rows.add(tx, droplets, values)
    record(tx, "audit.app.droplet.create", actor, app, row)
    return row


def require_not_current(tx: Tx, droplet: Row[Any]) -> None:
    """Raises 422 while an app runs the droplet: as its current one, or still, because it was not restarted since."""
    used = tx.scalar(select(apps.c.guid).where(apps.c.droplet_guid == droplet.guid))
    if used is None:
        running = (processes.c.droplet_guid == droplet.guid) & (processes.c.state == "STARTED")
        used = tx.scalar(select(processes.c.app_guid).where(running).limit(1))
    if used is not None:
        raise errors.unprocessable(f'The droplet is currently used by app with guid "{used}".')


def delete(tx: Tx, actor: Actor, droplet: Row[Any]) -> None:
    """Remove a droplet; its bits go when nothing refers to them. Raises 422 while it is current."""
    require_not_current(tx, droplet)
    rows.remove(tx, droplets, [droplet.guid])
    app = rows.by_guid(tx, apps, droplet.app_guid)
    if app is not None:
        record(tx, "audit.app.droplet.delete", actor, app, droplet)


def app_for_upload(tx: Tx, actor: Actor, droplet: Row[Any]) -> Row[Any]:
    """The droplet's app. Raises 403 by role, 400 when there are bits already."""
    app = rows.by_guid(tx, apps, droplet.app_guid)
    if app is None:
        raise errors.not_found("Droplet")
    access.require_in_space(tx, actor, app.space_guid, access.WRITE_IN_SPACE)
    if droplet.state != "AWAITING_UPLOAD":
        raise errors.unprocessable("Droplet may be uploaded only once. Create a new droplet to upload bits.")
    return app


def take_bits(tx: Tx, actor: Actor, guid: str, digest: str, sha1: str, size: int) -> Row[Any]:
    """Take an upload as the droplet's bits."""
    droplet = rows.by_guid(tx, droplets, guid)
    if droplet is None:
        raise errors.not_found("Droplet")
    app = app_for_upload(tx, actor, droplet)
    changed = rows.change(tx, droplets, droplet, {"state": "STAGED", "digest": digest, "sha1": sha1, "size": size})
    record(tx, "audit.app.droplet.upload", actor, app, changed)
    return changed


def record(tx: Tx, type_: str, actor: Actor, app: Row[Any], droplet: Row[Any]) -> None:
    """Write an audit event about a droplet of an app."""
    audit.record(tx, type_, actor, app.guid, "app", app.name, {"droplet_guid": droplet.guid}, space_guid=app.space_guid)
