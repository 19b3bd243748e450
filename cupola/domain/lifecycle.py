"""Start, stop and restart of apps, and the processes that a droplet asks for (reference/behaviours.md section 9)."""

from typing import Any

from sqlalchemy import Row

from cupola import errors, guid
from cupola.config import Settings
from cupola.domain import audit, processes, quotas, registry_credentials, revisions, service_environment, sidecars
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.apps import sidecars as sidecar_table
from cupola.store.database import Tx
from cupola.store.staging import droplets

__all__ = ["create_processes_from_droplet", "restart_app", "set_current_droplet", "start_app", "stop_app"]


def start_app(tx: Tx, app: Row[Any], actor: Actor) -> Row[Any]:
    """Start all processes. Nothing changes when the app is started already. Raises 422 without droplet or quota."""
    _require_droplet(app)
    if app.state == "STARTED":
        return app
    return _started(tx, app, actor, "audit.app.start")


def restart_app(tx: Tx, app: Row[Any], actor: Actor) -> Row[Any]:
    """Replace all instances; also starts a stopped app. Raises 422 without droplet or quota."""
    _require_droplet(app)
    return _started(tx, app, actor, "audit.app.restart")


def stop_app(tx: Tx, app: Row[Any], actor: Actor) -> Row[Any]:
    """Stop all processes."""
    if app.state != "STOPPED":
        app = rows.change(tx, apps, app, {"state": "STOPPED"})
    for process in processes.of_app(tx, app.guid):
        if process.state != "STOPPED":
            processes.change(tx, process, {"state": "STOPPED"})
    _record(tx, "audit.app.stop", actor, app)
    _ring(tx)
    return app


def _require_droplet(app: Row[Any]) -> None:
    if app.droplet_guid is None:
        raise errors.unprocessable("Assign a droplet before starting this app.")


def _started(tx: Tx, app: Row[Any], actor: Actor, event: str) -> Row[Any]:
    own = processes.of_app(tx, app.guid)
    service_environment.require_files(tx, app)
    quotas.require_processes(tx, app.space_guid, [quotas.size_of(process) for process in own])
    if app.state != "STARTED":
        app = rows.change(tx, apps, app, {"state": "STARTED"})
    revision = revisions.create_if_changed(tx, actor, app)
    values: dict[str, Any] = {
        "state": "STARTED",
        "revision_guid": revision.guid if revision is not None else None,
        "droplet_guid": app.droplet_guid,
    }
    for process in own:
        processes.change(tx, process, {**values, "version": guid.new()})
    registry_credentials.remember_for_app(tx, actor, app)
    _record(tx, event, actor, app)
    _ring(tx)
    return app


def set_current_droplet(tx: Tx, settings: Settings, actor: Actor, app: Row[Any], droplet: Row[Any]) -> Row[Any]:
    """Make `droplet` the app's; takes effect at the next start. Raises 422; returns the app."""
    if droplet.app_guid != app.guid:
        raise errors.unprocessable(
            "Unable to assign current droplet. Ensure the droplet exists and belongs to this app."
        )
    if droplet.state != "STAGED":
        raise errors.unprocessable("droplet must be in staged state")
    if processes.is_deploying(tx, app.guid):
        raise errors.unprocessable(
            "Unable to assign current droplet while the app has a deployment in progress. "
            "Wait for the deployment to complete or cancel it."
        )
    changed = rows.change(tx, apps, app, {"droplet_guid": droplet.guid})
    data = {"request": {"droplet_guid": droplet.guid}}
    kind = "audit.app.droplet.mapped"
    audit.record(tx, kind, actor, app.guid, "app", app.name, data, space_guid=app.space_guid)
    create_processes_from_droplet(tx, settings, actor, changed, droplet)
    return changed


def create_processes_from_droplet(tx: Tx, settings: Settings, actor: Actor, app: Row[Any], droplet: Row[Any]) -> None:
    """Add the processes that the droplet names and the app lacks, and sync the buildpack's sidecars. Raises 422."""
    if not droplet.process_types:
        raise errors.unprocessable(
            "Unable to create process types for this app's droplet. Please provide a droplet with valid process types."
        )
    have = {row.type for row in processes.of_app(tx, app.guid)}
    for type_ in droplet.process_types:
        if type_ not in have:
            processes.add(tx, settings, actor, app, type_)
    existing = sidecars.of_app(tx, app.guid)
    rows.remove(tx, sidecar_table, [row.guid for row in existing if row.origin == "buildpack"])
    users = {row.name for row in existing if row.origin != "buildpack"}
    for one in droplet.sidecars or []:
        if one["name"] in users:
            raise errors.unprocessable(
                f"Buildpack defined sidecar '{one['name']}' conflicts with an existing user-defined sidecar. "
                f"Consider renaming '{one['name']}'."
            )
        values = {
            "app_guid": app.guid,
            "name": one["name"],
            "command": one["command"],
            "memory_mb": one.get("memory"),
            "origin": "buildpack",
            "process_types": list(one.get("process_types") or []),
        }
        rows.add(tx, sidecar_table, values)


def droplet_of(tx: Tx, app: Row[Any]) -> Row[Any] | None:
    """The app's current droplet."""
    return rows.by_guid(tx, droplets, app.droplet_guid)


def _record(tx: Tx, type_: str, actor: Actor, app: Row[Any]) -> None:
    audit.record(tx, type_, actor, app.guid, "app", app.name, {}, space_guid=app.space_guid)


def _ring(tx: Tx) -> None:
    tx.ring("desired")
    tx.ring("routes")
    tx.ring("instances")
