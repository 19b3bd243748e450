"""How much organizations and spaces use of what quotas limit, in a constant number of statements.

Started processes count with all their instances, tasks as long as they are pending or running. A log rate of -1 is
unlimited and adds nothing to a sum.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, select

from cupola.store.apps import apps, processes
from cupola.store.database import Tx
from cupola.store.orgs import spaces
from cupola.store.routes import domains, routes
from cupola.store.service_bindings import service_credential_bindings
from cupola.store.service_instances import service_instances
from cupola.store.tasks import tasks

__all__ = [
    "Load",
    "of_organization",
    "of_platform",
    "of_space",
    "private_domains",
    "routes_of",
    "running",
    "services_of",
]

_RUNNING_TASKS = ("PENDING", "RUNNING")


@dataclass(frozen=True, slots=True)
class Load:
    """What runs: memory in MiB, log rate in bytes per second."""

    instances: int
    memory_mb: int
    log_rate: int
    tasks: int


def running(tx: Tx, organization_guid: str, space_guid: str, *, without: Collection[str] = ()) -> tuple[Load, Load]:
    """What runs in an organization, and in one of its spaces. `without`: guids of processes that are not counted."""
    inside = spaces.c.organization_guid == organization_guid
    started = _started(without).where(inside)
    tasked = _tasked().where(inside)
    of_processes = tx.one(started.with_only_columns(*_twice(_process_sums(), space_guid)))
    of_tasks = tx.one(tasked.with_only_columns(*_twice(_task_sums(), space_guid)))
    assert of_processes is not None, "sums always give a row"
    assert of_tasks is not None, "sums always give a row"
    return _load(of_processes[:3], of_tasks[:3]), _load(of_processes[3:], of_tasks[3:])


def _started(without: Collection[str] = ()) -> Select[Any]:
    statement = (
        select(processes.c.id)
        .join(apps, apps.c.guid == processes.c.app_guid)
        .join(spaces, spaces.c.guid == apps.c.space_guid)
        .where(processes.c.state == "STARTED")
    )
    return statement.where(processes.c.guid.not_in(list(without))) if without else statement


def _tasked() -> Select[Any]:
    return (
        select(tasks.c.id)
        .join(apps, apps.c.guid == tasks.c.app_guid)
        .join(spaces, spaces.c.guid == apps.c.space_guid)
        .where(tasks.c.state.in_(_RUNNING_TASKS))
    )


def _process_sums() -> list[ColumnElement[int]]:
    instances = processes.c.instances
    return [
        instances,
        processes.c.memory_mb * instances,
        case((processes.c.log_rate > 0, processes.c.log_rate * instances), else_=0),
    ]


def _task_sums() -> list[ColumnElement[int]]:
    one: ColumnElement[int] = case((tasks.c.id.is_not(None), 1), else_=0)
    return [one, tasks.c.memory_mb, case((tasks.c.log_rate > 0, tasks.c.log_rate), else_=0)]


def _twice(values: Sequence[ColumnElement[int]], space_guid: str) -> list[ColumnElement[Any]]:
    """Sums of everything, then of what is in one space."""
    here = spaces.c.guid == space_guid
    of_all: list[ColumnElement[Any]] = [func.sum(one) for one in values]
    return [*of_all, *(func.sum(case((here, one), else_=0)) for one in values)]


def _load(of_processes: Any, of_tasks: Any) -> Load:
    instances, memory, log_rate = (int(one or 0) for one in of_processes)
    count, task_memory, task_log_rate = (int(one or 0) for one in of_tasks)
    return Load(instances, memory + task_memory, log_rate + task_log_rate, count)


def routes_of(tx: Tx, organization_guid: str, space_guid: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """(routes, reserved ports) of an organization, and of one of its spaces."""
    here = spaces.c.guid == space_guid
    port = routes.c.port > 0
    row = tx.one(
        select(
            func.count().label("routes"),
            func.count(case((port, 1))).label("ports"),
            func.count(case((here, 1))).label("routes_here"),
            func.count(case((here & port, 1))).label("ports_here"),
        )
        .select_from(routes)
        .join(spaces, spaces.c.guid == routes.c.space_guid)
        .where(spaces.c.organization_guid == organization_guid)
    )
    assert row is not None, "counts always give a row"
    return (row.routes, row.ports), (row.routes_here, row.ports_here)


def services_of(tx: Tx, organization_guid: str, space_guid: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """(managed service instances, keys) of an organization, and of one of its spaces."""
    inside = spaces.c.organization_guid == organization_guid
    managed = tx.one(_managed(space_guid).where(inside))
    keys = tx.one(_keys(space_guid).where(inside))
    assert managed is not None, "counts always give a row"
    assert keys is not None, "counts always give a row"
    return (managed.total, keys.total), (managed.here, keys.here)


def _managed(space_guid: str) -> Select[Any]:
    return (
        select(*_counts(space_guid))
        .select_from(service_instances)
        .join(spaces, spaces.c.guid == service_instances.c.space_guid)
        .where(service_instances.c.type == "managed")
    )


def _keys(space_guid: str) -> Select[Any]:
    bindings = service_credential_bindings
    return (
        select(*_counts(space_guid))
        .select_from(bindings)
        .join(service_instances, service_instances.c.guid == bindings.c.service_instance_guid)
        .join(spaces, spaces.c.guid == service_instances.c.space_guid)
        .where(bindings.c.type == "key")
    )


def _counts(space_guid: str) -> list[ColumnElement[Any]]:
    return [func.count().label("total"), func.count(case((spaces.c.guid == space_guid, 1))).label("here")]


def private_domains(tx: Tx, organization_guid: str) -> int:
    """How many private domains an organization owns."""
    own = domains.c.organization_guid == organization_guid
    return int(tx.scalar(select(func.count()).select_from(domains).where(own)))


def of_organization(tx: Tx, organization_guid: str) -> dict[str, int]:
    """`usage_summary` of an organization, as the API shows it."""
    load, _ = running(tx, organization_guid, "")
    counted, _ = routes_of(tx, organization_guid, "")
    services, _ = services_of(tx, organization_guid, "")
    return _shown(load, counted, private_domains(tx, organization_guid), services)


def of_space(tx: Tx, organization_guid: str, space_guid: str) -> dict[str, int]:
    """`usage_summary` of a space; domains are those of its organization."""
    _, load = running(tx, organization_guid, space_guid)
    _, counted = routes_of(tx, organization_guid, space_guid)
    _, services = services_of(tx, organization_guid, space_guid)
    return _shown(load, counted, private_domains(tx, organization_guid), services)


def of_platform(tx: Tx) -> dict[str, int]:
    """`usage_summary` of everything."""
    of_processes = tx.one(_started().with_only_columns(*(func.sum(one) for one in _process_sums())))
    of_tasks = tx.one(_tasked().with_only_columns(*(func.sum(one) for one in _task_sums())))
    ports = func.count(case((routes.c.port > 0, 1))).label("ports")
    counted = tx.one(select(func.count().label("routes"), ports).select_from(routes))
    owned = tx.scalar(select(func.count()).select_from(domains).where(domains.c.organization_guid.is_not(None)))
    assert counted is not None, "counts always give a row"
    services = (int(tx.scalar(_managed(""))), int(tx.scalar(_keys(""))))
    return _shown(_load(of_processes, of_tasks), (counted.routes, counted.ports), int(owned), services)


def _shown(load: Load, counted: tuple[int, int], owned_domains: int, services: tuple[int, int]) -> dict[str, int]:
    return {
        "started_instances": load.instances,
        "memory_in_mb": load.memory_mb,
        "routes": counted[0],
        "service_instances": services[0],
        "reserved_ports": counted[1],
        "domains": owned_domains,
        "per_app_tasks": load.tasks,
        "service_keys": services[1],
    }
