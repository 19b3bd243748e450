"""Builds: a package and a lifecycle, taken up by the staging loop. One at a time per app."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select

from cupola import errors
from cupola.config import Settings
from cupola.domain import (
    access,
    audit,
    buildpack_names,
    feature_flags,
    processes,
    quotas,
    service_environment,
    usage,
)
from cupola.domain.apps import forbidden_names
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows, sealed
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.platform import buildpacks
from cupola.store.staging import builds, packages

__all__ = ["create"]

_HIDDEN = "Unable to use package. Ensure that the package exists and you have access to it."


def create(tx: Tx, settings: Settings, actor: Actor, body: Mapping[str, Any], warnings: list[str]) -> Row[Any]:
    """Add a build in state STAGING. Raises 400, 403, 422."""
    package = rows.by_guid(tx, packages, body["package"]["guid"])
    app = rows.by_guid(tx, apps, package.app_guid) if package is not None else None
    if package is None or app is None or not access.has_in_space(tx, actor, app.space_guid, access.MANAGE_APPS):
        raise errors.unprocessable(_HIDDEN)
    access.require_active(tx, actor, app.space_guid)
    if package.state != "READY":
        raise errors.bad_request("Cannot stage package whose state is not ready.")
    if tx.scalar(select(builds.c.guid).where(builds.c.app_guid == app.guid, builds.c.state == "STAGING")):
        raise CloudError(
            170017, "CF-StagingInProgress", 422, "Only one build can be STAGING at a time per application."
        )
    lifecycle = body.get("lifecycle") or {}
    kind = lifecycle.get("type") or app.lifecycle_type
    if kind != app.lifecycle_type:
        raise errors.unprocessable(f"Lifecycle type must be {app.lifecycle_type}, the type of the app's lifecycle")
    if kind in {"docker", "cnb"}:
        feature_flags.require(tx, actor, f"diego_{kind}")
    service_environment.require_files(tx, app)
    names, stack = _recipe(tx, settings, app, lifecycle.get("data") or {}, warnings)
    staging = settings.staging
    # A build may need what the app needs: `cf push -m` is for both.
    web = processes.newest(tx, app.guid, "web")
    memory_mb, disk_mb = (web.memory_mb, web.disk_mb) if web is not None else (0, 0)
    values: dict[str, Any] = {
        "app_guid": app.guid,
        "package_guid": package.guid,
        "state": "STAGING",
        "lifecycle_type": kind,
        "buildpacks": sealed.seal(tx, builds.c.buildpacks, names),
        "stack": stack,
        "environment": sealed.seal(tx, builds.c.environment, _environment(body)),
        "memory_mb": body.get("staging_memory_in_mb") or max(memory_mb, staging.memory_mb),
        "disk_mb": body.get("staging_disk_in_mb") or max(disk_mb, staging.disk_mb),
        "log_rate": _log_rate(settings, body),
        "created_by_guid": actor.guid,
        "created_by_name": actor.name,
        "created_by_email": actor.email or None,
    }
    if values["disk_mb"] > max(settings.defaults.app_disk_max_mb, staging.disk_mb, disk_mb):
        raise errors.unprocessable("disk limit exceeded")
    quotas.require_staging(tx, app.space_guid, memory_mb=values["memory_mb"], log_rate=values["log_rate"])
    row = rows.add(tx, builds, values, body.get("metadata"))
    usage.staging_started(tx, row)
    data = {"build_guid": row.guid, "package_guid": package.guid}
    audit.record(tx, "audit.app.build.create", actor, app.guid, "app", app.name, data, space_guid=app.space_guid)
    tx.ring("staging")
    tx.ring("desired")
    return row


def _log_rate(settings: Settings, body: Mapping[str, Any]) -> int:
    given = body.get("staging_log_rate_limit_bytes_per_second")
    return settings.defaults.app_log_rate_bytes if given is None else int(given)


def _environment(body: Mapping[str, Any]) -> dict[str, Any] | None:
    variables = body.get("environment_variables")
    if not variables:
        return None
    bad = forbidden_names(variables)
    if bad:
        raise errors.unprocessable(", ".join(f"Environment variables {problem}" for problem in bad))
    return {name: value for name, value in variables.items() if value is not None}


def _recipe(
    tx: Tx, settings: Settings, app: Row[Any], data: Mapping[str, Any], warnings: list[str]
) -> tuple[list[str], str | None]:
    stack = data.get("stack") or app.stack or settings.defaults.stack
    if app.lifecycle_type == "docker":
        return [], None
    found = buildpack_names.find_stack(tx, stack)
    if found is None:
        raise errors.unprocessable("Stack must be an existing stack")
    first = tx.scalar(select(builds.c.guid).where(builds.c.app_guid == app.guid).limit(1)) is None
    error, warning = buildpack_names.stack_warning(found, first=first)
    if error:
        raise CloudError(250004, "CF-StackValidationFailed", 422, error)
    if warning:
        warnings.append(warning)
    names = data.get("buildpacks")
    if names is None:
        names = sealed.opened(tx, apps.c.buildpacks, app.buildpacks, [])
    allowed = settings.defaults.custom_buildpacks
    bad = buildpack_names.problems(tx, names, stack, app.lifecycle_type, custom_allowed=allowed)
    if bad:
        raise errors.unprocessable(", ".join(bad))
    _require_enabled(tx, names, app.lifecycle_type)
    return names, stack


def _require_enabled(tx: Tx, names: list[str], lifecycle: str) -> None:
    disabled = []
    for name in names:
        of_name = (buildpacks.c.name == name) & (buildpacks.c.lifecycle == lifecycle)
        enabled = [] if buildpack_names.is_custom(name) else tx.scalars(select(buildpacks.c.enabled).where(of_name))
        if enabled and not any(enabled):
            disabled.append(f"'{name}'")
    if disabled:
        detail = f"Requested buildpack(s) {', '.join(disabled)} are disabled and cannot be used for staging"
        raise CloudError(290003, "CF-BuildpackInvalid", 400, f"Buildpack is invalid: {detail}")
