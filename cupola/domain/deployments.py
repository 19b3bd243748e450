"""Deployments: an app's web process is replaced by a new one, in steps that domain/deployment_loop.py takes.

Rules and words: reference/behaviours.md section 11. What is asked for is written here; nothing waits for an instance.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Row, select

from cupola import errors, guid
from cupola.config import Settings
from cupola.domain import access, audit, lifecycle, processes, quotas, revisions, service_environment
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.apps import revisions as revision_table
from cupola.store.database import Tx
from cupola.store.deployments import deployments
from cupola.store.instances import instances
from cupola.store.staging import droplets

__all__ = ["Plan", "active", "cancel", "continue_", "create", "finish", "plan", "web_processes"]

_HIDDEN = "Unable to use app. Ensure that the app exists and you have access to it."
_NO_DROPLET = "Invalid droplet. Please specify a droplet in the request or set a current droplet for the app."
_NOT_ITS_DROPLET = "Unable to assign current droplet. Ensure the droplet exists and belongs to this app."
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
"""Columns that a new web process has from the one before it."""
_SCALES = {
    "memory_in_mb": "memory_mb",
    "disk_in_mb": "disk_mb",
    "log_rate_limit_in_bytes_per_second": "log_rate",
}


@dataclass(frozen=True)
class Plan:
    """Where the present step of a deployment leads to."""

    new: int
    """Healthy instances of the new process with which the step is done."""
    total: int
    """Instances, new healthy ones and old ones together, below which it never goes."""
    in_flight: int
    """New instances that may be starting at a time."""
    pauses: bool
    """Whether a person is asked to continue then."""


def plan(deployment: Row[Any]) -> Plan:
    """The present step's plan: of a canary step, or of rolling out everything."""
    original = int(deployment.original_instances)
    options = deployment.options
    wanted = options.get("web_instances")
    desired = original if wanted is None else int(wanted)
    in_flight = int(options.get("max_in_flight") or 1)
    if deployment.canary_step is None or deployment.canary_step > deployment.canary_total:
        return Plan(desired, desired, in_flight, pauses=False)
    steps = (options.get("canary") or {}).get("steps")
    if not steps:
        return Plan(1, original + 1, in_flight, pauses=True)
    base = min(desired, original)
    weight = steps[deployment.canary_step - 1]["instance_weight"]
    canaries = max(1, _rounded(base * weight, 100))
    return Plan(canaries, canaries if weight == 100 else base + 1, in_flight, pauses=True)


def _rounded(value: int, divisor: int) -> int:
    # Halves go up, as in Cloud Foundry; Python's own rounding takes them to the even number.
    return (2 * value + divisor) // (2 * divisor)


def create(tx: Tx, settings: Settings, actor: Actor, body: Mapping[str, Any]) -> Row[Any]:
    """Begin a deployment of a droplet, a revision, or the current droplet; one that is active is superseded.

    `body` as POST /v3/deployments takes it. A stopped app is simply started. Raises 403, 422.
    """
    if not settings.defaults.deployments:
        raise CloudError(
            390014,
            "CF-DeploymentsDisabled",
            403,
            "Deployments cannot be created because the operator switched them off (defaults.deployments)",
        )
    app = _usable_app(tx, actor, body["relationships"]["app"]["data"]["guid"])
    service_environment.require_files(tx, app)
    options = {name: value for name, value in (body.get("options") or {}).items() if value is not None}
    steps = options.pop("canary", {}).get("steps")
    if steps:
        options["canary"] = {"steps": steps}
    _require_disk(settings, options)
    revision = _requested_revision(tx, app, body.get("revision"))
    previous = app.droplet_guid
    app, droplet = _take_target(tx, settings, actor, app, body.get("droplet"), revision)
    web = processes.newest(tx, app.guid, "web")
    if web is None:
        raise errors.unprocessable("The app has no web process to deploy: add one, or restart the app instead.")
    superseded = active(tx, app.guid)
    original = web.instances if superseded is None else superseded.original_instances
    made = revisions.create_if_changed(tx, actor, app, revision.version if revision is not None else None)
    is_canary = body.get("strategy") == "canary"
    values: dict[str, Any] = {
        "app_guid": app.guid,
        "status_value": "ACTIVE",
        "status_reason": "DEPLOYING",
        "strategy": body.get("strategy") or "rolling",
        "options": options,
        "droplet_guid": droplet.guid,
        "previous_droplet_guid": previous,
        "target_revision_guid": revision.guid if revision is not None else None,
        "revision_guid": made.guid if made is not None else None,
        "revision_version": made.version if made is not None else None,
        "new_processes": [],
        "original_instances": original,
        "canary_step": 1 if is_canary else None,
        "canary_total": (len(steps) if steps else 1) if is_canary else None,
        "status_changed_at": tx.now,
    }
    row = rows.add(tx, deployments, values, body.get("metadata"))
    if superseded is not None:
        finish(tx, superseded, "SUPERSEDED")
    if app.state == "STOPPED":
        row = _start_at_once(tx, actor, app, web, row)
    else:
        row = _begin(tx, settings, actor, app, web, row)
    data = {"type": "rollback" if revision is not None else None, "revision_guid": row.revision_guid}
    data |= {"strategy": row.strategy, "request": dict(body)}
    _record(tx, "audit.app.deployment.create", actor, app, row, data)
    _ring(tx)
    return row


def _usable_app(tx: Tx, actor: Actor, app_guid: str) -> Row[Any]:
    # Locked, so that two deployments of one app are made one after the other.
    app = tx.one(select(apps).where(apps.c.guid == app_guid).with_for_update())
    if app is None or not access.has_in_space(tx, actor, app.space_guid, access.MANAGE_APPS):
        raise errors.unprocessable(_HIDDEN)
    access.require_active(tx, actor, app.space_guid)
    return app


def _require_disk(settings: Settings, options: Mapping[str, Any]) -> None:
    most = settings.defaults.app_disk_max_mb
    if (options.get("disk_in_mb") or 0) > most:
        raise errors.unprocessable(
            f"disk_quota too much disk requested (requested {options['disk_in_mb']} MB - must be less than {most} MB)"
        )


def _requested_revision(tx: Tx, app: Row[Any], wanted: Mapping[str, Any] | None) -> Row[Any] | None:
    if wanted is None:
        return None
    if not app.revisions_enabled:
        raise errors.unprocessable("Cannot create deployment from a revision for an app without revisions enabled")
    revision = rows.by_guid(tx, revision_table, wanted["guid"])
    if revision is None or revision.app_guid != app.guid:
        raise errors.unprocessable("The revision does not exist")
    return revision


def _take_target(
    tx: Tx,
    settings: Settings,
    actor: Actor,
    app: Row[Any],
    wanted: Mapping[str, Any] | None,
    revision: Row[Any] | None,
) -> tuple[Row[Any], Row[Any]]:
    """The app as it is to be, and the droplet that it then has."""
    if revision is not None:
        app = revisions.restore(tx, app, revision)
    droplet_guid = wanted["guid"] if wanted is not None else app.droplet_guid
    if droplet_guid is None:
        raise errors.unprocessable(_NO_DROPLET)
    droplet = rows.by_guid(tx, droplets, droplet_guid)
    if droplet is None or droplet.app_guid != app.guid:
        raise errors.unprocessable(_NOT_ITS_DROPLET)
    if droplet.state != "STAGED":
        raise errors.unprocessable("droplet must be in staged state")
    app = _assign(tx, actor, app, droplet)
    lifecycle.create_processes_from_droplet(tx, settings, actor, app, droplet)
    return app, droplet


def _assign(tx: Tx, actor: Actor, app: Row[Any], droplet: Row[Any]) -> Row[Any]:
    changed = rows.change(tx, apps, app, {"droplet_guid": droplet.guid})
    data = {"request": {"droplet_guid": droplet.guid}}
    kind = "audit.app.droplet.mapped"
    audit.record(tx, kind, actor, app.guid, "app", app.name, data, space_guid=app.space_guid)
    return changed


def _scaled(deployment: Row[Any]) -> dict[str, Any]:
    options = deployment.options
    return {column: options[name] for name, column in _SCALES.items() if name in options}


def _start_at_once(tx: Tx, actor: Actor, app: Row[Any], web: Row[Any], deployment: Row[Any]) -> Row[Any]:
    # Nothing runs, so nothing has to be replaced in steps; also not what an unfinished deployment left.
    processes.remove(tx, [row for row in web_processes(tx, app.guid) if row.guid != web.guid])
    wanted = deployment.options.get("web_instances")
    values = {"instances": deployment.original_instances if wanted is None else wanted, **_scaled(deployment)}
    processes.change(tx, web, values)
    try:
        lifecycle.start_app(tx, app, actor)
    except CloudError as error:
        raise quotas.explained_for_deployment(tx, app, error) from error
    return finish(tx, deployment, "DEPLOYED")


def _begin(tx: Tx, settings: Settings, actor: Actor, app: Row[Any], web: Row[Any], deployment: Row[Any]) -> Row[Any]:
    values = {name: web._mapping[name] for name in _KEPT}
    values |= _scaled(deployment)
    first = plan(deployment)
    values |= {
        "guid": guid.new(),
        "instances": min(first.in_flight, first.new),
        "revision_guid": deployment.revision_guid,
        "droplet_guid": deployment.droplet_guid,
    }
    try:
        _require_quota(tx, app, web, deployment)
        made = processes.add(tx, settings, actor, app, "web", values)
    except CloudError as error:
        raise quotas.explained_for_deployment(tx, app, error) from error
    labels, annotations = msgspec.json.decode(web.labels), msgspec.json.decode(web.annotations)
    if labels or annotations:
        made = processes.change(tx, made, {}, {"labels": labels, "annotations": annotations})
    deploying = {"deploying_process_guid": made.guid, "new_processes": [{"guid": made.guid, "type": "web"}]}
    return rows.change(tx, deployments, deployment, deploying)


def _require_quota(tx: Tx, app: Row[Any], web: Row[Any], deployment: Row[Any]) -> None:
    # What it is to be in the end must fit as well, in place of what it is now.
    scaled = _scaled(deployment)
    if "web_instances" in deployment.options:
        scaled["instances"] = deployment.options["web_instances"]
    if scaled:
        quotas.require_processes(tx, app.space_guid, [quotas.size_of(web, **scaled)])


def cancel(tx: Tx, actor: Actor, deployment: Row[Any]) -> Row[Any]:
    """Begin to go back to what ran before. Raises 422 when the deployment has ended."""
    if deployment.status_value != "ACTIVE":
        raise _not_now("cancel", deployment)
    app = rows.by_guid(tx, apps, deployment.app_guid)
    assert app is not None
    if deployment.status_reason != "CANCELING":
        kept = _take_over(tx, actor, app, deployment)
        values = {"status_reason": "CANCELING", "status_changed_at": tx.now, "error": None}
        deployment = rows.change(tx, deployments, deployment, {**values, "kept_process_guid": kept})
    _record(tx, "audit.app.deployment.cancel", actor, app, deployment, {})
    _ring(tx)
    return deployment


def _take_over(tx: Tx, actor: Actor, app: Row[Any], deployment: Row[Any]) -> str | None:
    """Make the app what it was for the process that is to run alone again; that process's guid."""
    old = [row for row in web_processes(tx, app.guid) if row.guid != deployment.deploying_process_guid]
    if not old:
        return None
    # The newest one that works: after several deployments, the last of them may never have.
    kept = next((row for row in reversed(old) if _runs(tx, row)), old[0])
    pinned = rows.by_guid(tx, revision_table, kept.revision_guid)
    own = pinned.droplet_guid if pinned is not None else kept.droplet_guid
    was_restarted = own == deployment.droplet_guid != deployment.previous_droplet_guid
    if own is None or was_restarted:
        own = deployment.previous_droplet_guid
    droplet = rows.by_guid(tx, droplets, own)
    if droplet is None or droplet.state != "STAGED":
        raise errors.unprocessable(
            "Cannot cancel the deployment: the droplet that ran before it is gone. Deploy another droplet instead."
        )
    if deployment.target_revision_guid is not None and pinned is not None and not was_restarted:
        app = revisions.put_back(tx, app, pinned)
    app = _assign(tx, actor, app, droplet)
    if was_restarted:
        # The app was restarted meanwhile, and all its processes with the new droplet.
        revision = revisions.create_if_changed(tx, actor, app)
        values = {"version": guid.new(), "droplet_guid": droplet.guid}
        values["revision_guid"] = revision.guid if revision is not None else None
        processes.change(tx, kept, values)
    return str(kept.guid)


def _runs(tx: Tx, process: Row[Any]) -> bool:
    running = select(instances.c.index).where(instances.c.process_guid == process.guid, instances.c.state == "RUNNING")
    return tx.one(running.limit(1)) is not None


def continue_(tx: Tx, actor: Actor, deployment: Row[Any]) -> Row[Any]:
    """Take a paused canary to its next step, or to all instances after the last. Raises 422 unless PAUSED."""
    if deployment.status_reason != "PAUSED":
        raise _not_now("continue", deployment)
    values = {"status_reason": "DEPLOYING", "status_changed_at": tx.now, "canary_step": deployment.canary_step + 1}
    changed = rows.change(tx, deployments, deployment, values)
    app = rows.by_guid(tx, apps, deployment.app_guid)
    assert app is not None
    _record(tx, "audit.app.deployment.continue", actor, app, changed, {})
    _ring(tx)
    return changed


def _not_now(verb: str, deployment: Row[Any]) -> CloudError:
    status = f"status: {deployment.status_value} and reason: {deployment.status_reason}"
    return errors.unprocessable(f"Cannot {verb} a deployment with {status}")


def active(tx: Tx, app_guid: str) -> Row[Any] | None:
    """The deployment of an app that has not ended; there is at most one."""
    found = select(deployments).where(deployments.c.app_guid == app_guid, deployments.c.status_value == "ACTIVE")
    return tx.one(found.order_by(deployments.c.id.desc()).limit(1))


def web_processes(tx: Tx, app_guid: str) -> list[Row[Any]]:
    """An app's processes of type web, oldest first."""
    return [row for row in processes.of_app(tx, app_guid) if row.type == "web"]


def finish(tx: Tx, deployment: Row[Any], reason: str) -> Row[Any]:
    """End a deployment: DEPLOYED, CANCELED or SUPERSEDED."""
    values = {"status_value": "FINALIZED", "status_reason": reason, "status_changed_at": tx.now, "error": None}
    return rows.change(tx, deployments, deployment, values)


def _record(tx: Tx, type_: str, actor: Actor, app: Row[Any], deployment: Row[Any], data: Mapping[str, Any]) -> None:
    complete = {"deployment_guid": deployment.guid, "droplet_guid": deployment.droplet_guid, **data}
    audit.record(tx, type_, actor, app.guid, "app", app.name, complete, space_guid=app.space_guid)


def _ring(tx: Tx) -> None:
    for bell in ("desired", "routes", "deployments"):
        tx.ring(bell)
