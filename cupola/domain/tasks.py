"""Tasks: a command that runs once, from a droplet of an app, in a container of its own (behaviours.md section 11).

PENDING until a cell reports that it runs, then RUNNING; SUCCEEDED or FAILED as it ended. A cell is told of a task as
long as it is PENDING or RUNNING (runtime/desired.py), so one that is CANCELING is stopped because nobody wants it.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, and_, delete, insert, or_, select, update

from cupola import errors
from cupola.config import Settings
from cupola.domain import audit, feature_flags, processes, quotas, service_environment, usage
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.apps import processes as process_table
from cupola.store.database import Tx
from cupola.store.staging import droplets
from cupola.store.tasks import task_numbers, tasks

__all__ = ["cancel", "create", "delete_of_app", "finished", "lost", "prune", "started", "sweep", "wanted"]

_ENDED = ("SUCCEEDED", "FAILED")
_CANCELLED = "task was cancelled"
_GRACE = 30_000_000
"""Microseconds in which a cell that has just taken a task up reports it."""


def create(tx: Tx, settings: Settings, actor: Actor, app: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Add a task in state PENDING. `body` as POST /v3/apps/:guid/tasks takes it. Raises 403 (flag), 404, 422."""
    feature_flags.require(tx, actor, "task_creation")
    droplet = _droplet(tx, app, body.get("droplet_guid"))
    values = _sizes(settings, body, _template(tx, app, body.get("template")))
    if not values["command"]:
        raise errors.unprocessable("The task has no command: give it one, or a template process that has one.")
    service_environment.require_files(tx, app)
    quotas.require_task(tx, app.space_guid, memory_mb=values["memory_mb"], log_rate=values["log_rate"])
    name = body["name"] if body.get("name") is not None else secrets.token_hex(4)
    own = {"app_guid": app.guid, "sequence_id": _next_number(tx, app.guid), "name": name, "name_key": name.lower()}
    state = {"state": "PENDING", "droplet_guid": droplet.guid}
    row = rows.add(tx, tasks, {**own, **state, **values}, body.get("metadata"))
    _record(tx, "audit.app.task.create", actor, app, row)
    _ring(tx)
    return row


def _droplet(tx: Tx, app: Row[Any], wanted: str | None) -> Row[Any]:
    droplet = rows.by_guid(tx, droplets, wanted or app.droplet_guid)
    if wanted is not None and (droplet is None or droplet.app_guid != app.guid):
        raise errors.not_found("Droplet")
    if droplet is None:
        raise errors.unprocessable("Task must have a droplet. Specify droplet or assign current droplet to app.")
    if droplet.state != "STAGED":
        raise errors.unprocessable(
            f"Task must have a staged droplet: the state of droplet {droplet.guid} is {droplet.state}."
        )
    return droplet


def _template(tx: Tx, app: Row[Any], template: Mapping[str, Any] | None) -> dict[str, Any]:
    if template is None:
        return {}
    guid = template["process"]["guid"]
    process = rows.by_guid(tx, process_table, guid)
    if process is None or process.app_guid != app.guid:
        raise CloudError(350003, "CF-ProcessNotFound", 404, f"The process could not be found: {guid}")
    values = dict(process._mapping)
    if not process.command:
        values["command"] = processes.detected_commands(tx, [app.guid]).get((app.guid, process.type))
    return values


def _sizes(settings: Settings, body: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    """Command, user, and what the task may have: as asked for, else the template's, else the platform's defaults."""
    defaults = settings.defaults
    most = defaults.app_disk_max_mb
    if (body.get("disk_in_mb") or 0) > most:
        raise errors.unprocessable(f"Cannot request disk_in_mb greater than {most}")
    user = body["user"] if "user" in body else template.get("user")
    if user not in {None, "vcap"}:
        raise errors.unprocessable(f"user invalid (requested user '{user}' not allowed, permitted users are: 'vcap')")

    def first(*values: Any) -> Any:
        return next((value for value in values if value is not None), None)

    return {
        "command": first(body.get("command"), template.get("command")),
        "user": user,
        "memory_mb": first(body.get("memory_in_mb"), template.get("memory_mb"), defaults.app_memory_mb),
        "disk_mb": first(body.get("disk_in_mb"), template.get("disk_mb"), defaults.app_disk_mb),
        "log_rate": first(
            body.get("log_rate_limit_in_bytes_per_second"), template.get("log_rate"), defaults.app_log_rate_bytes
        ),
    }


def _next_number(tx: Tx, app_guid: str) -> int:
    own = task_numbers.c.app_guid == app_guid
    counted = update(task_numbers).where(own).values(last=task_numbers.c.last + 1).returning(task_numbers.c.last)
    number = tx.scalar(counted)
    if number is None:
        tx.run(insert(task_numbers).values(app_guid=app_guid, last=1))
        return 1
    return int(number)


def cancel(tx: Tx, actor: Actor, task: Row[Any]) -> Row[Any]:
    """Ask for a task's end; asking again changes nothing. Raises 422 when it has ended."""
    if task.state in _ENDED:
        raise errors.unprocessable(f"Task state is {task.state} and therefore cannot be canceled")
    app = rows.by_guid(tx, apps, task.app_guid)
    assert app is not None
    if task.state != "CANCELING":
        task = rows.change(tx, tasks, task, {"state": "CANCELING"})
    _record(tx, "audit.app.task.cancel", actor, app, task)
    _ring(tx)
    return task


def delete_of_app(tx: Tx, actor: Actor, app: Row[Any]) -> None:
    """Remove an app's tasks; cells stop those that run."""
    for task in tx.all(select(tasks).where(tasks.c.app_guid == app.guid, tasks.c.state.not_in(_ENDED))):
        if task.state == "RUNNING":
            _record(tx, "audit.app.task.cancel", actor, app, task)
        usage.task_stopped(tx, task)
    rows.remove(tx, tasks, tx.scalars(select(tasks.c.guid).where(tasks.c.app_guid == app.guid)))
    tx.run(delete(task_numbers).where(task_numbers.c.app_guid == app.guid))
    _ring(tx)


def wanted(tx: Tx) -> Sequence[Row[Any]]:
    """The tasks that cells should run, oldest first."""
    return tx.all(select(tasks).where(tasks.c.state.in_(("PENDING", "RUNNING"))).order_by(tasks.c.id))


def started(tx: Tx, guid: str, cell_id: str, at: int) -> bool:
    """A cell runs the task since `at` (microseconds since 1970). False when there is no such task."""
    task = rows.by_guid(tx, tasks, guid)
    if task is None:
        return False
    if task.state == "PENDING":
        usage.task_started(tx, task)
    if task.state not in _ENDED and task.started_at is None:
        state = "RUNNING" if task.state == "PENDING" else task.state
        rows.change(tx, tasks, task, {"state": state, "started_at": at, "cell_id": cell_id})
    return True


def finished(tx: Tx, guid: str, failure_reason: str) -> bool:
    """The task ended; `failure_reason` is empty for success. False when there is no such task."""
    task = rows.by_guid(tx, tasks, guid)
    if task is None:
        return False
    if task.state not in _ENDED:
        _end(tx, task, failure_reason)
    return True


def _end(tx: Tx, task: Row[Any], failure_reason: str) -> None:
    usage.task_stopped(tx, task)
    values = {"state": "FAILED" if failure_reason else "SUCCEEDED", "failure_reason": failure_reason or None}
    rows.change(tx, tasks, task, values)
    _ring(tx)


def lost(tx: Tx, cell_id: str, running: Sequence[str]) -> None:
    """A cell that knows nothing of earlier events runs only `running`: how its other tasks ended is not known."""
    theirs = select(tasks).where(tasks.c.cell_id == cell_id, tasks.c.state.in_(("RUNNING", "CANCELING")))
    for task in tx.all(theirs):
        if task.guid not in running:
            _end(tx, task, "Unable to determine completion status: the cell that ran the task lost it")


def sweep(tx: Tx) -> int:
    """End the tasks that no cell will end: cancelled before one took them up, or their droplet is gone."""
    never = tasks.c.started_at.is_(None)
    cancelled = and_(tasks.c.state == "CANCELING", never, tasks.c.updated_at < tx.now - _GRACE)
    usable = select(droplets.c.guid).where(droplets.c.state == "STAGED")
    homeless = and_(tasks.c.state == "PENDING", never, tasks.c.droplet_guid.not_in(usable))
    found = tx.all(select(tasks).where(or_(cancelled, homeless)))
    for task in found:
        is_cancelled = task.state == "CANCELING"
        _end(
            tx, task, _CANCELLED if is_cancelled else "The droplet of the task is gone: stage the app and run it again"
        )
    return len(found)


def prune(tx: Tx, before: int) -> int:
    """Delete tasks that ended before a time (microseconds since 1970); returns how many."""
    gone = tx.scalars(select(tasks.c.guid).where(tasks.c.state.in_(_ENDED), tasks.c.updated_at < before))
    rows.remove(tx, tasks, gone)
    return len(gone)


def _record(tx: Tx, type_: str, actor: Actor, app: Row[Any], task: Row[Any]) -> None:
    request = {"name": task.name, "memory_in_mb": task.memory_mb, "command": audit.HIDDEN}
    data = {"task_guid": task.guid, "request": request}
    audit.record(tx, type_, actor, app.guid, "app", app.name, data, space_guid=app.space_guid)


def _ring(tx: Tx) -> None:
    for bell in ("desired", "tasks"):
        tx.ring(bell)
