"""What the database says should run, as a cell is told it. Controller side; a constant number of statements."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Row, select

from cupola.config import Settings
from cupola.domain import environments, service_environment, variable_groups
from cupola.domain import tasks as task_rules
from cupola.domain.buildpack_names import is_custom
from cupola.roles import ADMIN
from cupola.runtime.messages import (
    Desired,
    DesiredDelta,
    DesiredProcess,
    DesiredTask,
    Endpoint,
    HealthCheck,
    Sidecar,
    StagingInput,
    Volume,
)
from cupola.store import rows, sealed
from cupola.store.apps import apps, buildpack_caches, processes, revisions, sidecars
from cupola.store.database import Tx
from cupola.store.identity import groups_of
from cupola.store.instances import instances
from cupola.store.orgs import organizations, spaces
from cupola.store.platform import buildpacks
from cupola.store.staging import builds, droplets, packages

__all__ = ["compute", "difference"]


def compute(tx: Tx, settings: Settings, cell_id: str, revision: int) -> Desired:
    """Everything that this cell should have."""
    started = tx.all(select(processes).where(processes.c.state == "STARTED", processes.c.instances > 0))
    waiting = _builds(tx, settings)
    asked_to_run = task_rules.wanted(tx)
    owners = _Owners(tx, {row.app_guid for row in [*started, *waiting, *asked_to_run]})
    asked = select(instances.c.instance_guid).where(instances.c.terminate.is_(True))
    asked = asked.where(instances.c.cell_id == cell_id) if cell_id else asked
    return Desired(
        revision,
        _processes(tx, settings, owners, started),
        [*_stagings(tx, settings, owners, waiting), *_tasks(tx, settings, owners, asked_to_run)],
        sorted(one for one in tx.scalars(asked) if one),
    )


def difference(old: Desired, new: Desired) -> DesiredDelta | None:
    """The change from `old` to `new`, or None when there is none."""
    before = {one.process_guid: one for one in old.processes}
    after = {one.process_guid: one for one in new.processes}
    old_tasks = {one.guid: one for one in old.tasks}
    new_tasks = {one.guid: one for one in new.tasks}
    delta = DesiredDelta(
        base=old.revision,
        revision=new.revision,
        set_processes=[one for key, one in after.items() if before.get(key) != one],
        remove_processes=sorted(before.keys() - after.keys()),
        set_tasks=[one for key, one in new_tasks.items() if old_tasks.get(key) != one],
        remove_tasks=sorted(old_tasks.keys() - new_tasks.keys()),
        terminate=sorted(set(new.terminate) - set(old.terminate)),
    )
    changes = (delta.set_processes, delta.remove_processes, delta.set_tasks, delta.remove_tasks, delta.terminate)
    return delta if any(changes) else None


class _Owners:
    """Apps with their spaces, organizations and addresses, read at once."""

    def __init__(self, tx: Tx, app_guids: Iterable[str]) -> None:
        self.apps = rows.by_guids(tx, apps, list(app_guids))
        self.spaces = rows.by_guids(tx, spaces, [row.space_guid for row in self.apps.values()])
        self.organizations = rows.by_guids(tx, organizations, [row.organization_guid for row in self.spaces.values()])
        self.uris = environments.uris(tx, self.apps)
        self._services = service_environment.of_apps(tx, self.apps)

    def of(self, app_guid: str) -> tuple[Row[Any], Row[Any], Row[Any]]:
        app = self.apps[app_guid]
        space = self.spaces[app.space_guid]
        return app, space, self.organizations[space.organization_guid]

    def services(self, app_guid: str) -> service_environment.Services:
        return self._services.get(app_guid, service_environment.Services())


def _processes(tx: Tx, settings: Settings, owners: _Owners, started: Iterable[Row[Any]]) -> list[DesiredProcess]:
    started = list(started)
    # A process runs its revision, not whatever was assigned to the app since: a crash must not deploy anything.
    pinned = rows.by_guids(tx, revisions, [row.revision_guid for row in started])
    wanted = [row.droplet_guid for row in [*owners.apps.values(), *pinned.values(), *started]]
    found = rows.by_guids(tx, droplets, wanted)
    group = variable_groups.variables(tx, "running")
    extra: dict[str, list[Mapping[str, Any]]] = {}
    for row in tx.all(select(sidecars).where(sidecars.c.app_guid.in_(list(owners.apps))).order_by(sidecars.c.id)):
        extra.setdefault(row.app_guid, []).append(
            {
                "name": row.name,
                "command": row.command,
                "memory_in_mb": row.memory_mb,
                "process_types": row.process_types,
            }
        )
    answer = []
    for process in started:
        if process.app_guid not in owners.apps:
            continue
        app = owners.apps[process.app_guid]
        revision = pinned.get(process.revision_guid)
        own = process.droplet_guid or app.droplet_guid
        droplet = found.get(revision.droplet_guid if revision is not None else own)
        if droplet is None or droplet.digest is None or app.state != "STARTED":
            continue
        companions = revision.sidecars if revision is not None else extra.get(app.guid, [])
        answer.append(_process(tx, settings, owners, process, revision, droplet, group, companions))
    return answer


def _process(
    tx: Tx,
    settings: Settings,
    owners: _Owners,
    process: Row[Any],
    revision: Row[Any] | None,
    droplet: Row[Any],
    group: Mapping[str, str],
    companions: Iterable[Mapping[str, Any]],
) -> DesiredProcess:
    app, space, organization = owners.of(process.app_guid)
    own_sidecars = [
        Sidecar(one["name"], one["command"], one["memory_in_mb"] or 0)
        for one in companions
        if process.type in one["process_types"]
    ]
    if revision is not None:
        own = sealed.opened(tx, revisions.c.environment, revision.environment, {})
        command = revision.processes.get(process.type, process.command)
    else:
        own = sealed.opened(tx, apps.c.environment, app.environment, {})
        command = process.command
    memory = process.memory_mb - sum(one.memory_mb for one in own_sidecars)
    services = owners.services(app.guid)
    application = environments.vcap_application(
        settings,
        app,
        space,
        organization,
        owners.uris.get(app.guid, []),
        {"mem": memory, "disk": process.disk_mb},
        process.version,
        process,
    )
    return DesiredProcess(
        process_guid=process.guid,
        version=process.version,
        instances=process.instances,
        memory_mb=process.memory_mb,
        disk_mb=process.disk_mb,
        log_rate=process.log_rate,
        droplet=droplet.digest,
        command=command or droplet.process_types.get(process.type) or "",
        env=environments.for_process(group, own, application, memory, services.variables(app)),
        files=services.files(app),
        volumes=_volumes(services),
        endpoints=_endpoints(services),
        ports=[8080],
        health_check=_check(process, "health_check", settings.defaults.health_check_timeout_seconds),
        readiness=_check(process, "readiness"),
        sidecars=own_sidecars,
        user=process.user or "vcap",
        log_source=f"APP/PROC/{process.type.upper()}",
        app_guid=app.guid,
        tags=environments.log_tags(app, space, organization, process),
        stack_fingerprint=droplet.stack_fingerprint,
    )


def _volumes(services: service_environment.Services) -> list[Volume]:
    return [
        Volume(id=one["device"]["volume_id"], place=one["container_dir"], read_only=one["mode"] == "r")
        for one in services.volumes
    ]


def _endpoints(services: service_environment.Services) -> list[Endpoint]:
    return [Endpoint(**one) for one in services.endpoints]


def _check(process: Row[Any], prefix: str, timeout: int | None = None) -> HealthCheck:
    values = process._mapping
    kind = values[f"{prefix}_type"]
    return HealthCheck(
        type="process" if kind == "none" else kind,
        endpoint=values[f"{prefix}_endpoint"],
        timeout=values.get(f"{prefix}_timeout") or timeout,
        invocation_timeout=values[f"{prefix}_invocation_timeout"],
        interval=values[f"{prefix}_interval"],
    )


def _builds(tx: Tx, settings: Settings) -> list[Row[Any]]:
    # The oldest first, so that a later build never pushes out one that is running.
    return list(
        tx.all(
            select(builds)
            .where(builds.c.state == "STAGING", builds.c.lifecycle_type == "buildpack")
            .order_by(builds.c.id)
            .limit(settings.staging.concurrency)
        )
    )


def _stagings(tx: Tx, settings: Settings, owners: _Owners, waiting: list[Row[Any]]) -> list[DesiredTask]:
    if not waiting:
        return []
    sources = rows.by_guids(tx, packages, [row.package_guid for row in waiting])
    usable = (
        select(buildpacks)
        .where(buildpacks.c.lifecycle == "buildpack", buildpacks.c.state == "READY", buildpacks.c.enabled.is_(True))
        .order_by(buildpacks.c.position, buildpacks.c.id)
    )
    system = list(tx.all(usable))
    group = variable_groups.variables(tx, "staging")
    kept = select(buildpack_caches).where(buildpack_caches.c.app_guid.in_([row.app_guid for row in waiting]))
    caches = {(row.app_guid, row.stack): row.digest for row in tx.all(kept)}
    answer = []
    for build in waiting:
        package = sources.get(build.package_guid)
        if package is None or package.state != "READY" or not package.digest or build.app_guid not in owners.apps:
            continue
        stack = build.stack or settings.defaults.stack
        names = cast(list[str], sealed.opened(tx, builds.c.buildpacks, build.buildpacks, []))
        work = StagingInput(
            package=package.digest,
            buildpacks=_recipe(names, system, stack),
            skip_detect=bool(names),
            cache=caches.get((build.app_guid, stack), ""),
            stack=stack,
            anywhere=any(is_custom(name) for name in names) and ADMIN in groups_of(tx, build.created_by_guid or ""),
        )
        answer.append(_staging(tx, settings, owners, build, group, work))
    return answer


def _recipe(names: list[str], system: list[Row[Any]], stack: str) -> list[dict[str, str]]:
    fitting = [row for row in system if row.stack in {stack, None} and row.digest]
    if not names:
        return [_entry(row) for row in fitting]
    chosen = []
    for name in names:
        if is_custom(name):
            chosen.append({"key": name, "name": name, "url": name})
            continue
        same = sorted((row for row in fitting if row.name == name), key=lambda row: row.stack is None)
        if same:
            chosen.append(_entry(same[0]))
    return chosen


def _entry(row: Row[Any]) -> dict[str, str]:
    # The bits are part of the key: caches of another version of the buildpack are not offered to it.
    return {"key": f"{row.guid}_{row.digest.removeprefix('sha256:')[:16]}", "name": row.name, "digest": row.digest}


def _staging(
    tx: Tx, settings: Settings, owners: _Owners, build: Row[Any], group: Mapping[str, str], work: StagingInput
) -> DesiredTask:
    app, space, organization = owners.of(build.app_guid)
    services = owners.services(app.guid)
    application = environments.vcap_application(
        settings,
        app,
        space,
        organization,
        owners.uris.get(app.guid, []),
        {"mem": build.memory_mb, "disk": build.disk_mb},
        build.guid,
    )
    env = environments.for_staging(
        group,
        sealed.opened(tx, apps.c.environment, app.environment, {}),
        sealed.opened(tx, builds.c.environment, build.environment, {}),
        work.stack,
        application,
        build.memory_mb,
        services.variables(app),
    )
    return DesiredTask(
        guid=build.guid,
        kind="staging",
        app_guid=app.guid,
        memory_mb=build.memory_mb,
        disk_mb=build.disk_mb,
        log_rate=build.log_rate,
        env=env,
        files=services.files(app),
        endpoints=_endpoints(services),
        log_source="STG",
        tags=environments.log_tags(app, space, organization),
        timeout=settings.staging.timeout_seconds,
        staging=work,
    )


def _tasks(tx: Tx, settings: Settings, owners: _Owners, asked: Sequence[Row[Any]]) -> list[DesiredTask]:
    if not asked:
        return []
    found = rows.by_guids(tx, droplets, [row.droplet_guid for row in asked])
    group = variable_groups.variables(tx, "running")
    answer = []
    for task in asked:
        droplet = found.get(task.droplet_guid)
        if droplet is not None and droplet.digest is not None and task.app_guid in owners.apps:
            answer.append(_task(tx, settings, owners, task, droplet.digest, group))
    return answer


def _task(
    tx: Tx, settings: Settings, owners: _Owners, task: Row[Any], droplet: str, group: Mapping[str, str]
) -> DesiredTask:
    app, space, organization = owners.of(task.app_guid)
    # The disk shown is the platform's default, not the task's own (reference/app-runtime.md section 2).
    limits = {"mem": task.memory_mb, "disk": settings.defaults.app_disk_mb}
    addresses = owners.uris.get(app.guid, [])
    application = environments.vcap_application(settings, app, space, organization, addresses, limits, task.guid)
    own = sealed.opened(tx, apps.c.environment, app.environment, {})
    services = owners.services(app.guid)
    variables = services.variables(app)
    env = environments.for_process(group, own, application, task.memory_mb, variables)
    return DesiredTask(
        guid=task.guid,
        kind="task",
        app_guid=app.guid,
        memory_mb=task.memory_mb,
        disk_mb=task.disk_mb,
        log_rate=task.log_rate,
        droplet=droplet,
        command=task.command,
        env={**env, "LANG": "en_US.UTF-8"},
        files=services.files(app),
        volumes=_volumes(services),
        endpoints=_endpoints(services),
        user=task.user or "vcap",
        log_source=f"APP/TASK/{task.name}",
        tags=environments.log_tags(app, space, organization),
    )
