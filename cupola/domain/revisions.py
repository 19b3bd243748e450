"""Revisions: what an app ran, so that it can run again (reference/behaviours.md section 11)."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select

from cupola import errors
from cupola.domain import audit, processes, sidecars
from cupola.domain.apps import environment
from cupola.roles import Actor
from cupola.store import rows, sealed
from cupola.store.apps import apps, revisions
from cupola.store.apps import processes as process_table
from cupola.store.apps import sidecars as sidecar_table
from cupola.store.database import Tx
from cupola.store.staging import droplets

__all__ = ["create_if_changed", "current", "deployable", "put_back", "restore"]

_MOST = 9999
"""After this version numbers start at 1 again."""


def current(tx: Tx, app_guid: str) -> Row[Any] | None:
    """The newest revision of an app."""
    found = select(revisions).where(revisions.c.app_guid == app_guid).order_by(revisions.c.id.desc()).limit(1)
    return tx.one(found)


def deployable(tx: Tx, revision: Row[Any]) -> bool:
    """Whether the revision's droplet is still there, and nobody has switched the revision off."""
    droplet = rows.by_guid(tx, droplets, revision.droplet_guid)
    return revision.enabled and droplet is not None and droplet.state == "STAGED"


def create_if_changed(tx: Tx, actor: Actor, app: Row[Any], rolled_back_to: int | None = None) -> Row[Any] | None:
    """The revision that the app's next start runs: a new one when something differs from the latest.

    None while revisions are off or the app has no droplet.
    """
    if not app.revisions_enabled or app.droplet_guid is None:
        return None
    latest = current(tx, app.guid)
    now = _content(tx, app)
    sentences = ["Initial revision."] if latest is None else _differences(tx, latest, now)
    if latest is not None and not sentences:
        return latest
    if rolled_back_to is not None:
        sentences.append(f"Rolled back to revision {rolled_back_to}.")
    version = 1 if latest is None else latest.version % _MOST + 1
    values = {
        "app_guid": app.guid,
        "version": version,
        "droplet_guid": app.droplet_guid,
        "environment": sealed.seal(tx, revisions.c.environment, now["environment"]),
        "description": " ".join(sorted(sentences)),
        "processes": now["processes"],
        "sidecars": now["sidecars"],
    }
    row = rows.add(tx, revisions, values)
    data = {"revision_guid": row.guid, "revision_version": version}
    audit.record(tx, "audit.app.revision.create", actor, app.guid, "app", app.name, data, space_guid=app.space_guid)
    return row


def _content(tx: Tx, app: Row[Any]) -> dict[str, Any]:
    droplet = rows.by_guid(tx, droplets, app.droplet_guid)
    commands: dict[str, str | None] = {} if droplet is None else dict.fromkeys(droplet.process_types)
    for process in processes.of_app(tx, app.guid):
        commands[process.type] = process.command
    return {
        "droplet_guid": app.droplet_guid,
        "environment": environment(tx, app),
        "processes": commands,
        "sidecars": [
            {
                "name": row.name,
                "command": row.command,
                "memory_in_mb": row.memory_mb,
                "process_types": sorted(row.process_types),
            }
            for row in sidecars.of_app(tx, app.guid)
        ],
    }


def _differences(tx: Tx, latest: Row[Any], now: Mapping[str, Any]) -> list[str]:
    sentences = []
    if latest.droplet_guid != now["droplet_guid"]:
        sentences.append("New droplet deployed.")
    if sealed.opened(tx, revisions.c.environment, latest.environment, {}) != now["environment"]:
        sentences.append("New environment variables deployed.")
    before, after = latest.processes, now["processes"]
    for type_ in sorted(before.keys() | after.keys()):
        if type_ not in before:
            sentences.append(f"New process type '{type_}' added.")
        elif type_ not in after:
            sentences.append(f"Process type '{type_}' removed.")
        elif before[type_] != after[type_]:
            verb = "added" if not before[type_] else "removed" if not after[type_] else "updated"
            sentences.append(f"Custom start command {verb} for '{type_}' process.")
    if latest.sidecars != now["sidecars"]:
        sentences.append("Sidecars updated.")
    return sentences


def restore(tx: Tx, app: Row[Any], revision: Row[Any]) -> Row[Any]:
    """Give the app the droplet, environment, commands and sidecars of `revision`. Raises 422; returns the app."""
    if not app.revisions_enabled:
        raise errors.unprocessable("Cannot create deployment from a revision for an app without revisions enabled")
    if not revision.enabled:
        raise errors.unprocessable("Unable to deploy this revision, it is disabled. Enable it first.")
    if not deployable(tx, revision):
        raise errors.unprocessable("Unable to deploy this revision, the droplet for this revision no longer exists.")
    same = revision.droplet_guid == app.droplet_guid and not _differences(tx, revision, _content(tx, app))
    if same:
        raise errors.unprocessable(
            "Unable to rollback. The code and configuration you are rolling back to is the same as the deployed revision."
        )
    return put_back(tx, app, revision)


def put_back(tx: Tx, app: Row[Any], revision: Row[Any]) -> Row[Any]:
    """`restore` without its questions."""
    variables = sealed.opened(tx, revisions.c.environment, revision.environment, {})
    changed = rows.change(
        tx,
        apps,
        app,
        {
            "droplet_guid": revision.droplet_guid,
            "environment": sealed.seal(tx, apps.c.environment, variables or None),
        },
    )
    for process in processes.of_app(tx, app.guid):
        if process.type in revision.processes and process.command != revision.processes[process.type]:
            rows.change(tx, process_table, process, {"command": revision.processes[process.type]})
    rows.remove(tx, sidecar_table, [row.guid for row in sidecars.of_app(tx, app.guid)])
    droplet = rows.by_guid(tx, droplets, revision.droplet_guid)
    of_droplet = {one["name"] for one in (droplet.sidecars if droplet is not None else None) or []}
    for one in revision.sidecars:
        values = {
            "app_guid": app.guid,
            "name": one["name"],
            "command": one["command"],
            "memory_mb": one["memory_in_mb"],
            "origin": "buildpack" if one["name"] in of_droplet else "user",
            "process_types": one["process_types"],
        }
        rows.add(tx, sidecar_table, values)
    return changed
