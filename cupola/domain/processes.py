"""Processes: made with an app, its droplets and its manifests; scaled and configured by their owners."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, select

from cupola import errors, guid
from cupola.config import Settings
from cupola.domain import audit, feature_flags, quotas, usage
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps, processes, sidecars
from cupola.store.database import Tx
from cupola.store.deployments import deployments
from cupola.store.staging import droplets

__all__ = [
    "ENDPOINT",
    "add",
    "change",
    "detected_commands",
    "is_deploying",
    "newest",
    "of_app",
    "remove",
    "scale",
    "update",
]

ENDPOINT = re.compile(r"/(?:[^\s/]\S*)?")
"""What a health check may ask for."""

_SCALES = {
    "instances": "instances",
    "memory_in_mb": "memory_mb",
    "disk_in_mb": "disk_mb",
    "log_rate_limit_in_bytes_per_second": "log_rate",
}


def add(
    tx: Tx, settings: Settings, actor: Actor, app: Row[Any], type_: str, values: Mapping[str, Any] | None = None
) -> Row[Any]:
    """Make a process with the defaults of its type; the first web process has the app's own guid.

    Raises 422 when it is started and does not fit into a quota.
    """
    web = type_ == "web"
    defaults = settings.defaults
    own = {
        "guid": app.guid if web and rows.by_guid(tx, processes, app.guid) is None else guid.new(),
        "app_guid": app.guid,
        "type": type_,
        "command": None,
        "user": None,
        "state": app.state,
        "version": guid.new(),
        "instances": 1 if web else 0,
        "memory_mb": defaults.app_memory_mb,
        "disk_mb": defaults.app_disk_mb,
        "log_rate": defaults.app_log_rate_bytes,
        "health_check_type": "port" if web else "process",
        "readiness_type": "process",
        **(values or {}),
    }
    if own["state"] == "STARTED":
        size = quotas.Size(own["guid"], own["instances"], own["memory_mb"], own["log_rate"])
        quotas.require_processes(tx, app.space_guid, [size])
    row = rows.add(tx, processes, own)
    usage.process_changed(tx, None, row)
    audit.record(
        tx,
        "audit.app.process.create",
        actor,
        app.guid,
        "app",
        app.name,
        {"process_guid": row.guid, "process_type": type_},
        space_guid=app.space_guid,
    )
    return row


def change(tx: Tx, process: Row[Any], values: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> Row[Any]:
    """Change a process's row, and note what that means for its usage; gives the row as it is now."""
    changed = rows.change(tx, processes, process, values, metadata)
    usage.process_changed(tx, process, changed)
    return changed


def remove(tx: Tx, found: Sequence[Row[Any]]) -> None:
    """Delete processes, and note what that means for their usage."""
    for process in found:
        usage.process_changed(tx, process, None)
    rows.remove(tx, processes, [process.guid for process in found])


def of_app(tx: Tx, app_guid: str) -> list[Row[Any]]:
    """An app's processes, oldest first."""
    return list(tx.all(select(processes).where(processes.c.app_guid == app_guid).order_by(processes.c.id)))


def newest(tx: Tx, app_guid: str, type_: str) -> Row[Any] | None:
    """The newest process of a type: during a deployment there are several of type web."""
    found = select(processes).where(processes.c.app_guid == app_guid, processes.c.type == type_)
    return tx.one(found.order_by(processes.c.id.desc()).limit(1))


def detected_commands(tx: Tx, app_guids: Collection[str]) -> dict[tuple[str, str], str]:
    """(app guid, process type) to the start command that the app's current droplet names."""
    statement = (
        select(apps.c.guid, droplets.c.process_types)
        .join(droplets, droplets.c.guid == apps.c.droplet_guid)
        .where(apps.c.guid.in_(list(app_guids)))
    )
    found = {}
    for row in tx.all(statement):
        for type_, command in row.process_types.items():
            found[row.guid, type_] = command
    return found


def is_deploying(tx: Tx, app_guid: str) -> bool:
    """Whether a deployment of the app is in progress."""
    active = select(deployments.c.guid).where(
        deployments.c.app_guid == app_guid, deployments.c.status_value == "ACTIVE"
    )
    return tx.scalar(active.limit(1)) is not None


def scale(tx: Tx, settings: Settings, actor: Actor, process: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Change instances, memory, disk or log rate. Raises 403 (flag), 422."""
    feature_flags.require(tx, actor, "app_scaling")
    if process.type == "web" and is_deploying(tx, process.app_guid):
        raise errors.unprocessable("Cannot scale this process while a deployment is in flight.")
    values = {column: body[name] for name, column in _SCALES.items() if body.get(name) is not None}
    if values.get("disk_mb", 0) > settings.defaults.app_disk_max_mb:
        most = settings.defaults.app_disk_max_mb
        raise errors.unprocessable(
            f"disk_quota too much disk requested (requested {values['disk_mb']} MB - must be less than {most} MB)"
        )
    _require_room_for_sidecars(tx, process, values.get("memory_mb", process.memory_mb))
    if process.state == "STARTED":
        quotas.require_processes(tx, _space_of(tx, process), [quotas.size_of(process, **values)])
    # Instances are replaced when what they were given changes; their number alone replaces none.
    if any(
        values.get(name, process._mapping[name]) != process._mapping[name]
        for name in ("memory_mb", "disk_mb", "log_rate")
    ):
        values["version"] = guid.new()
    changed = change(tx, process, values)
    _record(tx, "audit.app.process.scale", actor, changed, {"request": dict(body)})
    tx.ring("desired")
    return changed


def _space_of(tx: Tx, process: Row[Any]) -> str:
    return str(tx.scalar(select(apps.c.space_guid).where(apps.c.guid == process.app_guid)))


def _require_room_for_sidecars(tx: Tx, process: Row[Any], memory_mb: int) -> None:
    used = 0
    for row in tx.all(select(sidecars).where(sidecars.c.app_guid == process.app_guid)):
        if process.type in row.process_types:
            used += row.memory_mb or 0
    if used and used >= memory_mb:
        raise errors.unprocessable(
            "The requested memory allocation is not large enough to run all of your sidecar processes"
        )


def update(tx: Tx, settings: Settings, actor: Actor, process: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Change the command or the health checks; they take effect at the next start. Raises 422."""
    changes = {name for name in body if name != "metadata"}
    if changes and process.type == "web" and is_deploying(tx, process.app_guid):
        raise errors.unprocessable("Cannot update this process while a deployment is in flight.")
    values: dict[str, Any] = {}
    if "command" in body:
        values["command"] = body["command"]
    if "user" in body:
        if body["user"] not in {None, "vcap"}:
            raise errors.unprocessable(
                f"user invalid (requested user '{body['user']}' not allowed, permitted users are: 'vcap')"
            )
        values["user"] = body["user"]
    values |= _liveness(settings, process, body.get("health_check") or {})
    values |= _readiness(body.get("readiness_health_check") or {})
    if process.state == "STARTED":
        # As upstream: a started process over its quota cannot be changed at all.
        quotas.require_processes(tx, _space_of(tx, process), [quotas.size_of(process, log_rate=None)])
    changed = change(tx, process, values, body.get("metadata"))
    _record(tx, "audit.app.process.update", actor, changed, {"request": dict(body)})
    return changed


def _liveness(settings: Settings, process: Row[Any], check: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "type" in check:
        values["health_check_type"] = check["type"]
    data = check.get("data") or {}
    for name in ("timeout", "invocation_timeout", "interval", "endpoint"):
        if name in data:
            values[f"health_check_{name}"] = data[name]
    if values.get("health_check_type") in {"port", "process"}:
        values["health_check_endpoint"] = None
    most = settings.defaults.health_check_timeout_max_seconds
    if (values.get("health_check_timeout") or 0) > most:
        raise errors.unprocessable(f"health_check_timeout Maximum exceeded: max {most}s")
    return values


def _readiness(check: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "type" in check:
        values["readiness_type"] = check["type"]
    data = check.get("data") or {}
    for name in ("invocation_timeout", "interval", "endpoint"):
        if name in data:
            values[f"readiness_{name}"] = data[name]
    if values.get("readiness_type") in {"port", "process"}:
        values["readiness_endpoint"] = None
    return values


def _record(tx: Tx, type_: str, actor: Actor, process: Row[Any], data: Mapping[str, Any]) -> None:
    app = rows.by_guid(tx, apps, process.app_guid)
    if app is None:
        return
    complete = {"process_guid": process.guid, "process_type": process.type, **data}
    audit.record(tx, type_, actor, app.guid, "app", app.name, complete, space_guid=app.space_guid)
