"""What quotas refuse (behaviours.md section 8): one function per thing that is limited, called wherever it is made.

Only what starts or grows is refused; a lower limit never stops anything. The words are those of Cloud Controller, whose
clients look for them. Checks lock the organization's row, so that two requests at once cannot pass together what only
one of them may.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, Table, select

from cupola import errors
from cupola.domain import usage_summary
from cupola.errors import CloudError
from cupola.store.apps import apps, processes
from cupola.store.database import Tx
from cupola.store.orgs import organization_quotas, organizations, space_quotas, spaces

__all__ = [
    "Size",
    "explained_for_deployment",
    "limits_in",
    "listed",
    "process_problems",
    "require_domain",
    "require_processes",
    "require_route",
    "require_service_instance",
    "require_service_key",
    "require_service_plan",
    "require_staging",
    "require_task",
    "size_of",
    "unlimited_logs_of",
    "unlimited_logs_problem",
]

UNLIMITED_LOGS = -1
_GROUPS = {
    "apps": (
        "total_memory_in_mb",
        "per_process_memory_in_mb",
        "total_instances",
        "per_app_tasks",
        "log_rate_limit_in_bytes_per_second",
    ),
    "services": ("total_service_instances", "total_service_keys"),
    "routes": ("total_routes", "total_reserved_ports"),
    "domains": ("total_domains",),
}


def limits_in(body: Mapping[str, Any]) -> dict[str, Any]:
    """The limits that a body names, by column; null is unlimited."""
    values = {
        name: body[group][name] for group, names in _GROUPS.items() for name in names if name in body.get(group, {})
    }
    services = body.get("services", {})
    if "paid_services_allowed" in services:
        allowed = services["paid_services_allowed"]
        values["paid_services_allowed"] = True if allowed is None else allowed
    return values


def listed(guids: Sequence[str]) -> str:
    """Guids as messages list them: `["a", "b"]`."""
    return "[" + ", ".join(f'"{guid}"' for guid in guids) + "]"


@dataclass(frozen=True, slots=True)
class Size:
    """What one started process uses; memory in MiB, log rate in bytes per second.

    `log_rate` None: neither it nor the number of instances changes, and it is not checked.
    """

    guid: str
    instances: int
    memory_mb: int
    log_rate: int | None


def size_of(process: Row[Any], **changed: Any) -> Size:
    """The size of a process, with some of its columns changed."""
    values = {**process._mapping, **changed}
    return Size(process.guid, values["instances"], values["memory_mb"], values["log_rate"])


@dataclass(frozen=True, slots=True)
class _Limits:
    """The quota of an organization or a space; None is unlimited."""

    kind: str
    name: str
    total_memory_in_mb: int | None
    per_process_memory_in_mb: int | None
    total_instances: int | None
    per_app_tasks: int | None
    log_rate_limit_in_bytes_per_second: int | None
    total_routes: int | None
    total_reserved_ports: int | None
    total_service_instances: int | None
    total_service_keys: int | None
    paid_services_allowed: bool | None


_CHECKED = (*_GROUPS["apps"], *_GROUPS["routes"], *_GROUPS["services"], "paid_services_allowed")


def _limits(tx: Tx, space_guid: str) -> tuple[str, _Limits, _Limits]:
    """Guid of the space's organization, the organization's limits, the space's own."""
    of_organization = [organization_quotas.c[name].label(f"org_{name}") for name in _CHECKED]
    of_space = [space_quotas.c[name].label(f"space_{name}") for name in _CHECKED]
    statement = (
        select(organizations.c.guid, organizations.c.name, spaces.c.name.label("space"), *of_organization, *of_space)
        .select_from(spaces)
        .join(organizations, organizations.c.guid == spaces.c.organization_guid)
        .join(organization_quotas, organization_quotas.c.guid == organizations.c.quota_guid)
        .outerjoin(space_quotas, space_quotas.c.guid == spaces.c.quota_guid)
        .where(spaces.c.guid == space_guid)
        # References to the organization need not wait for this lock.
        .with_for_update(of=organizations, key_share=True)
    )
    row = tx.one(statement)
    assert row is not None, "the space is gone within its own transaction"
    found = row._mapping
    organization = _Limits("organization", row.name, *(found[f"org_{name}"] for name in _CHECKED))
    return row.guid, organization, _Limits("space", row.space, *(found[f"space_{name}"] for name in _CHECKED))


def _over(used: int, limit: int | None) -> bool:
    return limit is not None and used > limit


def process_problems(tx: Tx, space_guid: str, sizes: Sequence[Size]) -> list[str]:
    """Why started processes of a space cannot be of these sizes. The first process that does not fit is told of."""
    organization_guid, organization, space = _limits(tx, space_guid)
    guids = [size.guid for size in sizes]
    in_organization, in_space = usage_summary.running(tx, organization_guid, space_guid, without=guids)
    instances = memory = log_rate = 0
    for size in sizes:
        instances += size.instances
        memory += size.instances * size.memory_mb
        log_rate += size.instances * max(0, size.log_rate or 0)
        problems = _memory_problems(
            size,
            organization,
            space,
            memory_in_organization=in_organization.memory_mb + memory,
            memory_in_space=in_space.memory_mb + memory,
        )
        if _over(in_organization.instances + instances, organization.total_instances):
            problems.append("app_instance_limit app_instance_limit_exceeded")
        if _over(in_space.instances + instances, space.total_instances):
            problems.append("app_instance_limit space_app_instance_limit_exceeded")
        if size.log_rate is not None:
            problems += _log_problems(space, size.log_rate, in_space.log_rate + log_rate)
            problems += _log_problems(organization, size.log_rate, in_organization.log_rate + log_rate)
        if problems:
            return problems
    return []


def _memory_problems(
    size: Size, organization: _Limits, space: _Limits, *, memory_in_organization: int, memory_in_space: int
) -> list[str]:
    problems = []
    if _over(memory_in_space, space.total_memory_in_mb):
        problems.append("memory space_quota_exceeded")
    if _over(memory_in_organization, organization.total_memory_in_mb):
        problems.append("memory quota_exceeded")
    if _over(size.memory_mb, organization.per_process_memory_in_mb):
        problems.append("memory instance_memory_limit_exceeded")
    if _over(size.memory_mb, space.per_process_memory_in_mb):
        problems.append("memory space_instance_memory_limit_exceeded")
    return problems


def _log_problems(limits: _Limits, log_rate: int, used: int) -> list[str]:
    problems = []
    limit = limits.log_rate_limit_in_bytes_per_second
    if log_rate == UNLIMITED_LOGS and limit is not None:
        problems.append(f"log_rate_limit cannot be unlimited in {limits.kind} '{limits.name}'.")
    if _over(used, limit):
        problems.append(f"log_rate_limit exceeds {limits.kind} log rate quota")
    return problems


def require_processes(tx: Tx, space_guid: str, sizes: Sequence[Size]) -> None:
    """Started processes of a space may be of these sizes, or 422."""
    problems = process_problems(tx, space_guid, sizes) if sizes else []
    if problems:
        raise errors.unprocessable(", ".join(problems))


def explained_for_deployment(tx: Tx, app: Row[Any], error: CloudError) -> CloudError:
    """The error of a process that does not fit, with a hint that a deployment needs room for old and new instances."""
    hint = "may not be large enough to support rolling deployments or your configured max-in-flight."
    names = tx.one(
        select(spaces.c.name.label("space"), organizations.c.name.label("organization"))
        .join(organizations, organizations.c.guid == spaces.c.organization_guid)
        .where(spaces.c.guid == app.space_guid)
    )
    assert names is not None, "the app's space is gone within its own transaction"
    if "space_quota_exceeded" in error.detail or "space_app_instance_limit_exceeded" in error.detail:
        return errors.unprocessable(f"{error.detail} for space {names.space}. This space's quota {hint}")
    if "quota_exceeded" in error.detail or "app_instance_limit_exceeded" in error.detail:
        return errors.unprocessable(
            f"{error.detail} for organization {names.organization}. This organization's quota {hint}"
        )
    return error


def require_task(tx: Tx, space_guid: str, *, memory_mb: int, log_rate: int) -> None:
    """One more task fits into a space, or 422."""
    organization_guid, organization, space = _limits(tx, space_guid)
    in_organization, in_space = usage_summary.running(tx, organization_guid, space_guid)
    # Messages are grouped by what they are about, in the order in which each was first complained of.
    problems: dict[str, list[str]] = {}
    for limits, load in ((organization, in_organization), (space, in_space)):
        if _over(load.memory_mb + memory_mb, limits.total_memory_in_mb):
            problems.setdefault("memory", []).append(f"memory_in_mb exceeds {limits.kind} memory quota")
        if _over(memory_mb, limits.per_process_memory_in_mb):
            problems.setdefault("memory", []).append(f"memory_in_mb exceeds {limits.kind} instance memory quota")
        logs = _log_problems(limits, log_rate, load.log_rate + max(0, log_rate))
        if logs:
            problems.setdefault("logs", []).extend(logs)
        if _over(load.tasks + 1, limits.per_app_tasks):
            problems.setdefault("tasks", []).append("app_task_limit quota exceeded")
    if problems:
        raise errors.unprocessable(", ".join(one for found in problems.values() for one in found))


def require_staging(tx: Tx, space_guid: str, *, memory_mb: int, log_rate: int) -> None:
    """A build fits beside what runs in a space, or 422. Other builds are not counted, as upstream."""
    organization_guid, organization, space = _limits(tx, space_guid)
    in_organization, in_space = usage_summary.running(tx, organization_guid, space_guid)
    both = ((space, in_space), (organization, in_organization))
    for limits, load in both:
        if _over(load.memory_mb + memory_mb, limits.total_memory_in_mb):
            raise errors.unprocessable(f"{limits.kind}'s memory limit exceeded: staging requires {memory_mb}M memory")
    for limits, load in both:
        if _over(load.log_rate + max(0, log_rate), limits.log_rate_limit_in_bytes_per_second):
            raise errors.unprocessable(
                f"{limits.kind}'s log rate limit exceeded: staging requires {log_rate} bytes per second"
            )


def require_route(tx: Tx, space_guid: str, *, with_port: bool = False) -> None:
    """One more route fits into a space, or 422. `with_port`: it reserves a port (a TCP route)."""
    organization_guid, organization, space = _limits(tx, space_guid)
    in_organization, in_space = usage_summary.routes_of(tx, organization_guid, space_guid)
    for limits, (count, ports) in ((space, in_space), (organization, in_organization)):
        if _over(count + 1, limits.total_routes):
            raise errors.unprocessable(f"Routes quota exceeded for {limits.kind} '{limits.name}'.")
        # Where ports have no limit of their own, that of the routes is theirs.
        most = limits.total_routes if limits.total_reserved_ports is None else limits.total_reserved_ports
        if with_port and _over(ports + 1, most):
            raise errors.unprocessable(f"Reserved route ports quota exceeded for {limits.kind} '{limits.name}'.")


def require_service_instance(tx: Tx, space_guid: str, *, free: bool) -> None:
    """One more managed service instance fits into a space, or 422; `free`: of a plan that costs nothing."""
    organization_guid, organization, space = _limits(tx, space_guid)
    in_organization, in_space = usage_summary.services_of(tx, organization_guid, space_guid)
    for limits, (instances, _) in ((space, in_space), (organization, in_organization)):
        if _over(instances + 1, limits.total_service_instances):
            raise errors.unprocessable(f"You have exceeded your {limits.kind}'s services limit.")
    _require_paid(space, organization, free=free)


def require_service_plan(tx: Tx, space_guid: str, *, free: bool) -> None:
    """An instance of a space may have a plan, or 422."""
    _, organization, space = _limits(tx, space_guid)
    _require_paid(space, organization, free=free)


def _require_paid(space: _Limits, organization: _Limits, *, free: bool) -> None:
    for limits, where in ((space, " for your space"), (organization, "")):
        if not free and limits.paid_services_allowed is False:
            raise errors.unprocessable(
                f"The service instance cannot be created because paid service plans are not allowed{where}."
            )


def require_service_key(tx: Tx, space_guid: str) -> None:
    """One more key of a service instance fits into its space, or 422."""
    organization_guid, organization, space = _limits(tx, space_guid)
    in_organization, in_space = usage_summary.services_of(tx, organization_guid, space_guid)
    for limits, (_, keys) in ((space, in_space), (organization, in_organization)):
        if _over(keys + 1, limits.total_service_keys):
            raise errors.unprocessable(f"You have exceeded your {limits.kind}'s limit for service binding of type key.")


def require_domain(tx: Tx, organization_guid: str) -> None:
    """One more private domain fits into an organization, or 422."""
    statement = (
        select(organizations.c.name, organization_quotas.c.total_domains)
        .join(organization_quotas, organization_quotas.c.guid == organizations.c.quota_guid)
        .where(organizations.c.guid == organization_guid)
        .with_for_update(of=organizations, key_share=True)
    )
    row = tx.one(statement)
    assert row is not None, "the organization is gone within its own transaction"
    if row.total_domains is not None and usage_summary.private_domains(tx, organization_guid) >= row.total_domains:
        raise errors.unprocessable(f'The number of private domains exceeds the quota for organization "{row.name}"')


def unlimited_logs_of(tx: Tx, table: Table, within: Select[Any] | Sequence[str]) -> list[str]:
    """Names of the organizations or spaces (`table`) among `within` that have processes with unlimited logs."""
    place = spaces.c.organization_guid if table is organizations else spaces.c.guid
    statement = select(place).join(apps, apps.c.space_guid == spaces.c.guid)
    statement = statement.join(processes, processes.c.app_guid == apps.c.guid)
    found = statement.where(processes.c.log_rate == UNLIMITED_LOGS, place.in_(within))
    return tx.scalars(select(table.c.name).where(table.c.guid.in_(found)).order_by(table.c.name))


def unlimited_logs_problem(kind: str, names: Sequence[str]) -> str:
    """Why a quota cannot be given a log rate limit. `kind` is org or space."""
    shown = "', '".join(names[:2])
    if len(names) == 1:
        where = f"{kind} '{shown}' which contains"
    elif len(names) == 2:
        where = f"{kind}s '{shown}' which contain"
    else:
        where = f"{kind}s '{shown}' and {len(names) - 2} other {kind}s which contain"
    return (
        f"Current usage exceeds new quota values. This quota is applied to {where} apps running with an unlimited "
        "log rate limit."
    )
