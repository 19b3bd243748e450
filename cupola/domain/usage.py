"""Usage events, for billing: written in the transaction of the change that they tell of (behaviours.md section 18).

Started processes, running tasks and stagings use memory; each event says how much, and how much it was before.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Select, Table, delete, func, insert, select

from cupola import guid
from cupola.domain.buildpack_names import is_custom, redacted
from cupola.store import rows, sealed
from cupola.store.app_usage_events import app_usage_events
from cupola.store.apps import apps, processes
from cupola.store.database import Tx
from cupola.store.orgs import spaces
from cupola.store.platform import buildpacks
from cupola.store.service_brokers import service_brokers, service_offerings, service_plans
from cupola.store.service_instances import service_instances
from cupola.store.service_usage_events import service_usage_events
from cupola.store.staging import builds, droplets

__all__ = [
    "buildpack_set",
    "process_changed",
    "prune",
    "purge_and_reseed_apps",
    "purge_and_reseed_services",
    "service_instance_changed",
    "staging_started",
    "staging_stopped",
    "task_started",
    "task_stopped",
]

_BATCH = 500


def process_changed(tx: Tx, before: Row[Any] | None, after: Row[Any] | None) -> None:
    """Note that a process started, stopped or, being started, was scaled. `before` None: made; `after` None: deleted.

    Called for every change of a process's state, instances or memory; what changes no usage writes nothing.
    """
    was, now = _started(before), _started(after)
    if was == now and not (was and _footprint(before) != _footprint(after)):
        return
    process = after if after is not None else before
    assert process is not None
    app = _app(tx, process.app_guid)
    values = {
        "state": "STOPPED" if after is None else after.state,
        "previous_state": None if before is None else before.state,
        "process_guid": process.guid,
        "process_type": process.type,
        "memory_mb": process.memory_mb,
        "previous_memory_mb": None if before is None else before.memory_mb,
        "instances": process.instances,
        "previous_instances": None if before is None else before.instances,
        **_buildpack_of_app(tx, app),
    }
    _record(tx, app, values)


def _started(process: Row[Any] | None) -> bool:
    return process is not None and process.state == "STARTED"


def _footprint(process: Row[Any] | None) -> tuple[int, int] | None:
    return None if process is None else (process.instances, process.memory_mb)


def staging_started(tx: Tx, build: Row[Any]) -> None:
    """A build takes memory from now on."""
    _of_build(tx, build, "STAGING_STARTED", "STAGING")


def staging_stopped(tx: Tx, build: Row[Any], droplet: Row[Any] | None = None) -> None:
    """A build in state STAGING is about to end; `droplet` is what came of it."""
    _of_build(tx, build, "STAGING_STOPPED", "STAGING", droplet)


def buildpack_set(tx: Tx, build: Row[Any], droplet: Row[Any]) -> None:
    """It is known which buildpack a staged droplet was made with."""
    _of_build(tx, build, "BUILDPACK_SET", "STAGED", droplet)


def _of_build(tx: Tx, build: Row[Any], state: str, previous: str, droplet: Row[Any] | None = None) -> None:
    values: dict[str, Any] = {
        "state": state,
        "previous_state": previous,
        "memory_mb": build.memory_mb,
        "previous_memory_mb": build.memory_mb,
        "instances": 1,
        "previous_instances": 1,
    }
    if build.lifecycle_type != "docker":
        asked: Sequence[str] = sealed.opened(tx, builds.c.buildpacks, build.buildpacks, [])
        name = _last_buildpack(droplet) or (redacted(asked[0]) if asked else None)
        values |= _buildpack(tx, name)
    _record(tx, _app(tx, build.app_guid), values)


def task_started(tx: Tx, task: Row[Any]) -> None:
    """A task begins to run; `task` is its row before that (columns guid, name, app_guid, state, memory_mb)."""
    _of_task(tx, task, "TASK_STARTED")


def task_stopped(tx: Tx, task: Row[Any]) -> None:
    """A task is about to end or to be deleted, `task` being its row until then; written once, if it ever started."""
    told = select(app_usage_events.c.state).where(app_usage_events.c.task_guid == task.guid)
    states = set(tx.scalars(told))
    if "TASK_STARTED" in states and "TASK_STOPPED" not in states:
        _of_task(tx, task, "TASK_STOPPED")


def _of_task(tx: Tx, task: Row[Any], state: str) -> None:
    values = {
        "state": state,
        "previous_state": task.state,
        "task_guid": task.guid,
        "task_name": task.name,
        "memory_mb": task.memory_mb,
        "previous_memory_mb": task.memory_mb,
        "instances": 1,
        "previous_instances": 1,
    }
    _record(tx, _app(tx, task.app_guid), values)


def _app(tx: Tx, app_guid: str) -> Row[Any]:
    """The app with its space's name and its organization."""
    statement = select(apps, spaces.c.name.label("space_name"), spaces.c.organization_guid)
    row = tx.one(statement.join(spaces, spaces.c.guid == apps.c.space_guid).where(apps.c.guid == app_guid))
    assert row is not None, f"usage of {app_guid}, which is no app"
    return row


def _buildpack_of_app(tx: Tx, app: Row[Any]) -> dict[str, str | None]:
    asked: Sequence[str] = sealed.opened(tx, apps.c.buildpacks, app.buildpacks, [])
    detected = _buildpack(tx, _last_buildpack(rows.by_guid(tx, droplets, app.droplet_guid)))
    custom = next((redacted(name) for name in asked if is_custom(name)), None)
    return {**detected, "buildpack_name": custom} if custom else detected


def _last_buildpack(droplet: Row[Any] | None) -> str | None:
    """The name of the buildpack that made the start command, which is the last one."""
    used = droplet.buildpacks if droplet is not None else None
    return str(used[-1]["name"]) if used else None


def _buildpack(tx: Tx, name: str | None) -> dict[str, str | None]:
    known = None
    if name is not None:
        known = tx.scalar(select(buildpacks.c.guid).where(buildpacks.c.name == name).order_by(buildpacks.c.id).limit(1))
    return {"buildpack_guid": known, "buildpack_name": name}


def _record(tx: Tx, app: Row[Any], values: Mapping[str, Any]) -> None:
    tx.run(insert(app_usage_events).values({"guid": guid.new(), "created_at": tx.now, **_place(app), **values}))


def _place(app: Row[Any]) -> dict[str, Any]:
    return {
        "app_guid": app.guid,
        "app_name": app.name,
        "space_guid": app.space_guid,
        "space_name": app.space_name,
        "organization_guid": app.organization_guid,
    }


def purge_and_reseed_apps(tx: Tx) -> None:
    """Forget all events, and write one for each started process, whose guid is that of the process."""
    tx.run(delete(app_usage_events))
    own = [column.label(f"process_{column.name}") for column in processes.c]
    statement = (
        select(apps, spaces.c.name.label("space_name"), spaces.c.organization_guid, *own)
        .join(apps, apps.c.guid == processes.c.app_guid)
        .join(spaces, spaces.c.guid == apps.c.space_guid)
        .where(processes.c.state == "STARTED")
        .order_by(processes.c.id)
        .limit(_BATCH)
    )
    last = 0
    while found := tx.all(statement.where(processes.c.id > last)):
        tx.run(insert(app_usage_events), list(_seeds(tx, found)))
        last = found[-1].process_id


def _seeds(tx: Tx, found: Sequence[Row[Any]]) -> Iterable[dict[str, Any]]:
    used = rows.by_guids(tx, droplets, [row.droplet_guid for row in found])
    names = {app: _last_buildpack(droplet) for app, droplet in used.items()}
    known = select(buildpacks.c.name, buildpacks.c.guid).where(buildpacks.c.name.in_([*filter(None, names.values())]))
    guids = {row.name: row.guid for row in tx.all(known.order_by(buildpacks.c.id.desc()))}
    for row in found:
        name = names.get(row.droplet_guid)
        yield {
            "guid": row.process_guid,
            "created_at": tx.now,
            **_place(row),
            "state": row.process_state,
            "previous_state": row.process_state,
            "process_guid": row.process_guid,
            "process_type": row.process_type,
            "buildpack_guid": guids.get(name),
            "buildpack_name": name,
            "memory_mb": row.process_memory_mb,
            "previous_memory_mb": row.process_memory_mb,
            "instances": row.process_instances,
            "previous_instances": row.process_instances,
        }


def service_instance_changed(tx: Tx, instance: Row[Any], state: str) -> None:
    """A service instance is CREATED, UPDATED (another name or plan) or about to be DELETED; `instance` is as it is then."""
    row = tx.one(_service_instances().where(service_instances.c.guid == instance.guid))
    assert row is not None, f"usage of {instance.guid}, which is no service instance"
    tx.run(insert(service_usage_events).values(**_of_instance(tx, row, state), guid=guid.new()))


def _service_instances() -> Select[Any]:
    """Service instances with what their events tell of them."""
    plans, offerings, brokers = service_plans.c, service_offerings.c, service_brokers.c
    return (
        select(
            service_instances.c.id,
            service_instances.c.guid,
            service_instances.c.name,
            service_instances.c.type,
            service_instances.c.space_guid,
            spaces.c.name.label("space_name"),
            spaces.c.organization_guid,
            plans.guid.label("service_plan_guid"),
            plans.name.label("service_plan_name"),
            offerings.guid.label("service_offering_guid"),
            offerings.name.label("service_offering_name"),
            brokers.guid.label("service_broker_guid"),
            brokers.name.label("service_broker_name"),
        )
        .join(spaces, spaces.c.guid == service_instances.c.space_guid)
        .outerjoin(service_plans, plans.guid == service_instances.c.service_plan_guid)
        .outerjoin(service_offerings, offerings.guid == plans.service_offering_guid)
        .outerjoin(service_brokers, brokers.guid == offerings.service_broker_guid)
    )


def _of_instance(tx: Tx, row: Row[Any], state: str) -> dict[str, Any]:
    own = {name: value for name, value in row._mapping.items() if name not in {"id", "guid", "name", "type"}}
    kind = "managed_service_instance" if row.type == "managed" else "user_provided_service_instance"
    return {
        **own,
        "created_at": tx.now,
        "state": state,
        "service_instance_guid": row.guid,
        "service_instance_name": row.name,
        "service_instance_type": kind,
    }


def purge_and_reseed_services(tx: Tx) -> None:
    """Forget all events, and write one for each service instance, whose guid is that of the instance."""
    tx.run(delete(service_usage_events))
    statement = _service_instances().order_by(service_instances.c.id).limit(_BATCH)
    last = 0
    while found := tx.all(statement.where(service_instances.c.id > last)):
        tx.run(insert(service_usage_events), [{**_of_instance(tx, row, "CREATED"), "guid": row.guid} for row in found])
        last = found[-1].id


def prune(tx: Tx, before: int) -> None:
    """Delete events made before a time (microseconds since 1970), but for the newest: readers go on from there."""
    for table in (app_usage_events, service_usage_events):
        _prune(tx, table, before)


def _prune(tx: Tx, table: Table, before: int) -> None:
    newest = tx.scalar(select(func.max(table.c.id)))
    if newest is not None:
        tx.run(delete(table).where(table.c.created_at < before, table.c.id < newest))
