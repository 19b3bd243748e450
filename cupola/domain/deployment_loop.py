"""Deployments: new instances replace old ones a few at a time (reference/behaviours.md section 11).

All state is in rows: `step` looks at one deployment and takes the next step, and may be called at any time.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.exc import SQLAlchemyError

from cupola import errors, guid
from cupola.config import Settings
from cupola.domain import audit, lifecycle, processes, revisions
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.apps import processes as process_table
from cupola.store.database import Database, Tx
from cupola.store.instances import instances
from cupola.store.staging import deployments, droplets

__all__ = ["DeploymentLoop", "cancel", "continue_", "create_deployment", "step"]

_log = logging.getLogger(__name__)
_KEPT = (
    "command",
    "user",
    "memory_mb",
    "disk_mb",
    "log_rate",
    "health_check_type",
    "health_check_endpoint",
    "health_check_timeout",
    "health_check_invocation_timeout",
    "health_check_interval",
    "readiness_type",
    "readiness_endpoint",
    "readiness_invocation_timeout",
    "readiness_interval",
)
_SCALES = {
    "memory_in_mb": "memory_mb",
    "disk_in_mb": "disk_mb",
    "log_rate_limit_in_bytes_per_second": "log_rate",
}


def create_deployment(
    tx: Tx,
    settings: Settings,
    actor: Actor,
    app: Row[Any],
    *,
    strategy: str = "rolling",
    options: Mapping[str, Any] | None = None,
    droplet_guid: str | None = None,
    revision: Row[Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Row[Any]:
    """Begin a deployment of a droplet, a revision, or the current droplet; one that is active is superseded.

    `options` as in the body, validated. Raises 422.
    """
    options = dict(options or {})
    previous = app.droplet_guid
    if revision is not None:
        app = revisions.restore(tx, app, revision)
    elif droplet_guid is not None:
        app = rows.change(tx, apps, app, {"droplet_guid": droplet_guid})
    droplet = rows.by_guid(tx, droplets, app.droplet_guid)
    if droplet is None or droplet.app_guid != app.guid or droplet.state != "STAGED":
        raise errors.unprocessable(
            "Invalid droplet. Please specify a droplet in the request or set a current droplet for the app."
        )
    lifecycle.create_processes_from_droplet(tx, settings, actor, app, droplet)
    wanted = _supersede(tx, app)
    web = processes.newest(tx, app.guid, "web")
    if web is None:
        raise errors.unprocessable("The app has no web process to deploy: add one, or restart the app instead.")
    new = revisions.create_if_changed(tx, actor, app, revision.version if revision is not None else None)
    target = options.get("web_instances") or wanted or web.instances
    values: dict[str, Any] = {
        "app_guid": app.guid,
        "status_value": "ACTIVE",
        "status_reason": "DEPLOYING",
        "strategy": strategy,
        "options": options,
        "droplet_guid": droplet.guid,
        "previous_droplet_guid": previous,
        "revision_guid": new.guid if new is not None else None,
        "revision_version": new.version if new is not None else None,
        "new_processes": [],
        "original_instances": target,
        "canary_step": 1 if strategy == "canary" else None,
        "status_changed_at": tx.now,
    }
    if app.state == "STOPPED":
        lifecycle.start_app(tx, app, actor)
        values |= {"status_value": "FINALIZED", "status_reason": "DEPLOYED", "finished": True}
    else:
        own = {name: web._mapping[name] for name in _KEPT}
        own |= {column: options[name] for name, column in _SCALES.items() if options.get(name) is not None}
        if revision is not None:
            own["command"] = revision.processes.get("web", web.command)
        own["instances"] = min(target, int(options.get("max_in_flight") or 1))
        own["revision_guid"] = values["revision_guid"]
        made = processes.add(tx, settings, actor, app, "web", own)
        values |= {
            "deploying_process_guid": made.guid,
            "new_processes": [{"guid": made.guid, "type": "web"}],
        }
    row = rows.add(tx, deployments, values, metadata)
    _record(tx, "audit.app.deployment.create", actor, app, row, {"droplet_guid": droplet.guid, "strategy": strategy})
    _ring(tx)
    return row


def _supersede(tx: Tx, app: Row[Any]) -> int | None:
    active = select(deployments).where(deployments.c.app_guid == app.guid, deployments.c.status_value == "ACTIVE")
    wanted = None
    for row in tx.all(active):
        wanted = row.original_instances
        _finish(tx, row, "SUPERSEDED")
    return wanted


def cancel(tx: Tx, actor: Actor, deployment: Row[Any]) -> Row[Any]:
    """Go back to what ran before. Raises 422 when the deployment has ended."""
    if deployment.status_value != "ACTIVE":
        raise errors.unprocessable(
            f"Cannot cancel a deployment with status: {deployment.status_value} and reason: {deployment.status_reason}"
        )
    app = rows.by_guid(tx, apps, deployment.app_guid)
    if app is not None and deployment.status_reason != "CANCELING":
        if deployment.previous_droplet_guid is not None:
            app = rows.change(tx, apps, app, {"droplet_guid": deployment.previous_droplet_guid})
        deployment = _status(tx, deployment, "CANCELING")
    if app is not None:
        _record(tx, "audit.app.deployment.cancel", actor, app, deployment, {})
    _ring(tx)
    return deployment


def continue_(tx: Tx, actor: Actor, deployment: Row[Any]) -> Row[Any]:
    """Take a paused canary to its next step, or to all instances after the last. Raises 422 unless PAUSED."""
    if deployment.status_reason != "PAUSED":
        raise errors.unprocessable(
            "Cannot continue a deployment with status: "
            f"{deployment.status_value} and reason: {deployment.status_reason}"
        )
    following = {"canary_step": (deployment.canary_step or 1) + 1}
    changed = rows.change(tx, deployments, _status(tx, deployment, "DEPLOYING"), following)
    app = rows.by_guid(tx, apps, deployment.app_guid)
    if app is not None:
        _record(tx, "audit.app.deployment.continue", actor, app, changed, {})
    _ring(tx)
    return changed


def step(tx: Tx, deployment: Row[Any]) -> bool:
    """Take the next step, if one is due; True when something changed."""
    if deployment.status_value != "ACTIVE" or deployment.status_reason == "PAUSED":
        return False
    webs = [row for row in processes.of_app(tx, deployment.app_guid) if row.type == "web"]
    new = next((row for row in webs if row.guid == deployment.deploying_process_guid), None)
    old = [row for row in webs if row.guid != deployment.deploying_process_guid]
    if new is None or not old:
        _finish(tx, deployment, "CANCELED" if new is None else "DEPLOYED")
        return True
    if deployment.status_reason == "CANCELING":
        return _back(tx, deployment, new, old)
    return _forward(tx, deployment, new, old)


def _forward(tx: Tx, deployment: Row[Any], new: Row[Any], old: list[Row[Any]]) -> bool:
    total = deployment.original_instances
    target = _target(deployment)
    healthy = _healthy(tx, new)
    if healthy and healthy >= new.instances:
        # Every instance of this step is healthy; the row is the clock of "last successful healthcheck".
        deployment = rows.change(tx, deployments, deployment, {"last_healthy_at": tx.now})
    changed = _shrink(tx, old, max(0, total - healthy))
    if healthy >= target and new.instances >= target:
        if target < total or _is_canary_step(deployment):
            _status(tx, deployment, "PAUSED")
        else:
            _finalize(tx, deployment, old)
        _ring(tx)
        return True
    in_flight = int(deployment.options.get("max_in_flight") or 1)
    wanted = min(target, healthy + in_flight)
    if wanted > new.instances and not _unhealthy(tx, new):
        rows.change(tx, process_table, new, {"instances": wanted})
        changed = True
    if changed:
        _ring(tx)
    return changed


def _steps(deployment: Row[Any]) -> list[Mapping[str, Any]]:
    return list((deployment.options.get("canary") or {}).get("steps") or [])


def _is_canary_step(deployment: Row[Any]) -> bool:
    current = deployment.canary_step
    return deployment.strategy == "canary" and current is not None and current <= max(1, len(_steps(deployment)))


def _target(deployment: Row[Any]) -> int:
    total = int(deployment.original_instances)
    if not _is_canary_step(deployment):
        return total
    steps = _steps(deployment)
    if not steps:
        return min(1, total)
    return int(min(total, max(1, round(total * steps[deployment.canary_step - 1]["instance_weight"] / 100))))


def _back(tx: Tx, deployment: Row[Any], new: Row[Any], old: list[Row[Any]]) -> bool:
    # The newest of the old processes takes over again.
    kept = old[-1]
    total = deployment.original_instances
    changed = False
    if kept.instances != total:
        kept = rows.change(tx, process_table, kept, {"instances": total})
        changed = True
    healthy = _healthy(tx, kept)
    if healthy >= total:
        rows.remove(tx, process_table, [new.guid, *[row.guid for row in old[:-1]]])
        _finish(tx, deployment, "CANCELED")
        changed = True
    else:
        changed = _shrink(tx, [new], max(0, total - healthy)) or changed
    if changed:
        _ring(tx)
    return changed


def _shrink(tx: Tx, old: list[Row[Any]], wanted: int) -> bool:
    surplus = sum(row.instances for row in old) - wanted
    changed = False
    for row in old:
        take = min(row.instances, surplus)
        if take > 0:
            rows.change(tx, process_table, row, {"instances": row.instances - take})
            surplus -= take
            changed = True
    return changed


def _finalize(tx: Tx, deployment: Row[Any], old: list[Row[Any]]) -> None:
    rows.remove(tx, process_table, [row.guid for row in old])
    for row in processes.of_app(tx, deployment.app_guid):
        if row.type != "web":
            values = {"version": guid.new(), "state": "STARTED", "revision_guid": deployment.revision_guid}
            rows.change(tx, process_table, row, values)
    _finish(tx, deployment, "DEPLOYED")


def _healthy(tx: Tx, process: Row[Any]) -> int:
    # Indexes that are about to go do not count.
    found = (
        select(func.count())
        .select_from(instances)
        .where(
            instances.c.process_guid == process.guid,
            instances.c.version == process.version,
            instances.c.index < process.instances,
            instances.c.state == "RUNNING",
            instances.c.routable.is_(True),
        )
    )
    return int(tx.scalar(found) or 0)


def _unhealthy(tx: Tx, process: Row[Any]) -> bool:
    bad = select(instances.c.index).where(
        instances.c.process_guid == process.guid,
        instances.c.version == process.version,
        instances.c.state.in_(["CRASHED", "DOWN"]),
    )
    return tx.one(bad.limit(1)) is not None


def _status(tx: Tx, deployment: Row[Any], reason: str) -> Row[Any]:
    return rows.change(tx, deployments, deployment, {"status_reason": reason, "status_changed_at": tx.now})


def _finish(tx: Tx, deployment: Row[Any], reason: str) -> None:
    values = {"status_value": "FINALIZED", "status_reason": reason, "status_changed_at": tx.now, "finished": True}
    rows.change(tx, deployments, deployment, values)


def _record(tx: Tx, type_: str, actor: Actor, app: Row[Any], deployment: Row[Any], data: Mapping[str, Any]) -> None:
    complete = {"deployment_guid": deployment.guid, **data}
    audit.record(tx, type_, actor, app.guid, "app", app.name, complete, space_guid=app.space_guid)


def _ring(tx: Tx) -> None:
    for bell in ("desired", "routes", "deployments"):
        tx.ring(bell)


class DeploymentLoop:
    """Runs `step` for every active deployment on the bells `instances` and `deployments`, and every second."""

    def __init__(self, database: Database, period: float = 1.0) -> None:
        self._database = database
        self._period = period

    async def run(self) -> None:
        """Until cancelled."""
        listener = self._database.bells.listen("instances", "deployments")
        try:
            while True:
                try:
                    await asyncio.to_thread(self._once)
                except SQLAlchemyError:
                    _log.exception("deployments could not be moved on; trying again in %s s", self._period)
                    await asyncio.sleep(self._period)
                await listener.wait(self._period)
        finally:
            listener.close()

    def _once(self) -> None:
        active = select(deployments.c.guid).where(deployments.c.status_value == "ACTIVE")
        with self._database.read() as tx:
            found = tx.scalars(active)
        for one in found:
            with self._database.write() as tx:
                row = rows.by_guid(tx, deployments, one)
                if row is not None:
                    step(tx, row)
