"""Instances as the API shows them: from the rows that cells reported and the metrics kept in memory."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Row, select, update

from cupola import clock, errors
from cupola.domain import audit
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.instances import instances

__all__ = ["Metrics", "briefs", "is_starting", "stats", "terminate"]

JUST_NOW = 10_000_000
"""Microseconds for which a start is new."""


class Metrics(Protocol):
    """What one instance uses; times in nanoseconds, sizes in bytes (runtime messages)."""

    @property
    def at(self) -> int: ...
    @property
    def cpu(self) -> float: ...
    @property
    def cpu_entitlement(self) -> float: ...
    @property
    def memory(self) -> int: ...
    @property
    def memory_quota(self) -> int: ...
    @property
    def disk(self) -> int: ...
    @property
    def disk_quota(self) -> int: ...
    @property
    def log_rate(self) -> int: ...
    @property
    def log_rate_limit(self) -> int: ...


def _by_index(tx: Tx, process: Row[Any]) -> dict[int, Row[Any]]:
    # What is left of the version before a restart is no instance of the process: whoever waits for the new one to run
    # must not take the old one for it.
    current = (instances.c.process_guid == process.guid) & (instances.c.version == process.version)
    return {row._mapping["index"]: row for row in tx.all(select(instances).where(current))}


def stats(tx: Tx, process: Row[Any], metrics: Mapping[str, Metrics], file_descriptors: int) -> list[dict[str, Any]]:
    """`resources` of GET /v3/processes/:guid/stats: one entry per index. `metrics` by instance guid."""
    found = _by_index(tx, process)
    return [
        _stats(tx, process, index, found.get(index), metrics, file_descriptors) for index in range(process.instances)
    ]


def is_starting(tx: Tx, process: Row[Any], found: list[dict[str, Any]]) -> bool:
    """Whether, by its stats, a process was started a moment ago and has not come to run or crash yet."""
    states = {entry["state"] for entry in found}
    started = process.state == "STARTED" and tx.now - process.updated_at < JUST_NOW
    return started and bool(states) and states <= {"DOWN", "STARTING"}


def _stats(
    tx: Tx, process: Row[Any], index: int, row: Row[Any] | None, metrics: Mapping[str, Metrics], file_descriptors: int
) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": process.type, "index": index}
    if row is None or row.state in {"DOWN", "STOPPING"}:
        details = row.details if row is not None else ""
        return entry | {
            "state": "DOWN",
            "routable": False,
            "uptime": 0,
            "isolation_segment": None,
            "details": details or None,
        }
    crashed = row.state == "CRASHED"
    used = metrics.get(row.instance_guid) if row.instance_guid else None
    return entry | {
        "instance_guid": "" if crashed else row.instance_guid,
        "state": row.state,
        "routable": bool(row.routable),
        "host": "" if crashed else row.host,
        "instance_internal_ip": "" if crashed else row.internal_ip,
        "instance_ports": [] if crashed else [_port(one) for one in row.ports],
        "uptime": max(0, (tx.now - row.since) // 1_000_000),
        "mem_quota": used.memory_quota if used else process.memory_mb * 1024 * 1024,
        "disk_quota": used.disk_quota if used else process.disk_mb * 1024 * 1024,
        "log_rate_limit": used.log_rate_limit if used else process.log_rate,
        "fds_quota": file_descriptors,
        "isolation_segment": None,
        "details": row.details or None,
        "usage": _usage(tx, used),
    }


def _usage(tx: Tx, used: Metrics | None) -> dict[str, Any]:
    if used is None:
        zeros = {"cpu": 0.0, "cpu_entitlement": 0.0, "mem": 0, "disk": 0, "log_rate": 0}
        return {"time": clock.format_api(tx.now), **zeros}
    return {
        "time": clock.format_api(used.at),
        "cpu": used.cpu,
        "cpu_entitlement": used.cpu_entitlement,
        "mem": used.memory,
        "disk": used.disk,
        "log_rate": used.log_rate,
    }


def _port(one: Mapping[str, int]) -> dict[str, Any]:
    return {
        "external": one["external"],
        "internal": one["internal"],
        "external_tls_proxy_port": None,
        "internal_tls_proxy_port": None,
    }


def briefs(tx: Tx, processes: Sequence[Row[Any]]) -> dict[str, list[dict[str, Any]]]:
    """The instances of processes, by their guids: index, state, and the seconds it has been so. One statement."""
    found: dict[tuple[str, str, int], Row[Any]] = {}
    for row in tx.all(select(instances).where(instances.c.process_guid.in_([one.guid for one in processes]))):
        found[row.process_guid, row.version, row._mapping["index"]] = row
    return {
        process.guid: [
            _brief(tx, index, found.get((process.guid, process.version, index))) for index in range(process.instances)
        ]
        for process in processes
    }


def _brief(tx: Tx, index: int, row: Row[Any] | None) -> dict[str, Any]:
    since = 0 if row is None else max(0, (tx.now - row.since) // 1_000_000)
    state = "DOWN" if row is None or row.state in {"DOWN", "STOPPING"} else row.state
    return {"index": index, "state": state, "since": since}


def terminate(tx: Tx, actor: Actor, process: Row[Any], index: int) -> None:
    """Ask the cell to replace one instance. Raises 404 when the process has no such index."""
    if not 0 <= index < process.instances:
        raise errors.not_found("Instance")
    tx.run(
        update(instances)
        .where(instances.c.process_guid == process.guid, instances.c.index == index)
        .values(terminate=True)
    )
    app = rows.by_guid(tx, apps, process.app_guid)
    if app is not None:
        data = {"process_guid": process.guid, "process_type": process.type, "process_index": index}
        kind = "audit.app.process.terminate_instance"
        audit.record(tx, kind, actor, app.guid, "app", app.name, data, space_guid=app.space_guid)
    tx.ring("desired")
