"""Apps: names unique in their space, a web process from the start, a lifecycle that says how they are built."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select

from cupola import errors
from cupola.config import Settings
from cupola.domain import access, audit, buildpack_names, feature_flags, processes
from cupola.roles import Actor
from cupola.store import rows, sealed
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.orgs import spaces
from cupola.store.platform import buildpacks
from cupola.store.staging import builds

__all__ = [
    "create",
    "environment",
    "forbidden_names",
    "lifecycle_data",
    "set_environment",
    "ssh_enabled",
    "update",
]


def forbidden_names(variables: Mapping[str, Any]) -> list[str]:
    """What is wrong with names of environment variables (behaviours.md section 9)."""
    problems = []
    for name in variables:
        upper = name.upper()
        if upper.startswith("VCAP_"):
            problems.append("cannot start with VCAP_")
        elif upper.startswith("VMC"):
            problems.append("cannot start with VMC_")
        elif upper == "PORT":
            problems.append("cannot set PORT")
        elif not name:
            problems.append("key must be a minimum length of 1")
    return list(dict.fromkeys(problems))


def create(tx: Tx, settings: Settings, actor: Actor, body: Mapping[str, Any], warnings: list[str]) -> Row[Any]:
    """Add an app and its web process. `body` as POST /v3/apps takes it. Raises 403, 422."""
    space_guid = body["relationships"]["space"]["data"]["guid"]
    if not access.may_read_space(tx, actor, space_guid) or not _space_exists(tx, space_guid):
        raise errors.unprocessable("Invalid space. Ensure that the space exists and you have access to it.")
    access.require_in_space(tx, actor, space_guid, access.WRITE_IN_SPACE)
    name = body["name"]
    lifecycle = _typed(body.get("lifecycle") or {"data": {}}, "buildpack")
    _require_lifecycle_flag(tx, actor, lifecycle["type"])
    if _taken(tx, space_guid, name):
        raise errors.uniqueness(f"App with the name '{name}' already exists.")
    values = {
        "name": name,
        "name_key": name.lower(),
        "space_guid": space_guid,
        "state": "STOPPED",
        "lifecycle_type": lifecycle["type"],
        "environment": sealed.seal(tx, apps.c.environment, body.get("environment_variables") or None),
        **_lifecycle_values(tx, settings, lifecycle, None, warnings),
    }
    _require_ready(tx, lifecycle)
    row = rows.add(tx, apps, values, body.get("metadata"))
    data = {"request": dict(body)}
    audit.record(tx, "audit.app.create", actor, row.guid, "app", name, data, space_guid=space_guid)
    processes.add(tx, settings, actor, row, "web")
    return row


def update(
    tx: Tx, settings: Settings, actor: Actor, app: Row[Any], body: Mapping[str, Any], warnings: list[str]
) -> Row[Any]:
    """Rename, change the lifecycle's data, relabel. Raises 422."""
    values: dict[str, Any] = {}
    if body.get("name") is not None:
        name = body["name"]
        if name.lower() != app.name_key and _taken(tx, app.space_guid, name):
            raise errors.unprocessable(f"App with the name '{name}' already exists.")
        values |= {"name": name, "name_key": name.lower()}
    if body.get("lifecycle") is not None:
        lifecycle = _typed(body["lifecycle"], app.lifecycle_type)
        if lifecycle["type"] != app.lifecycle_type:
            raise errors.unprocessable(
                f"Lifecycle type cannot be changed from {app.lifecycle_type} to {lifecycle['type']}"
            )
        values |= _lifecycle_values(tx, settings, lifecycle, app, warnings)
    changed = rows.change(tx, apps, app, values, body.get("metadata"))
    data = {"request": dict(body)}
    audit.record(tx, "audit.app.update", actor, app.guid, "app", changed.name, data, space_guid=app.space_guid)
    if "name" in values:
        tx.ring("routes")
    return changed


def _space_exists(tx: Tx, space_guid: str) -> bool:
    return rows.by_guid(tx, spaces, space_guid) is not None


def _taken(tx: Tx, space_guid: str, name: str) -> bool:
    found = select(apps.c.guid).where(apps.c.space_guid == space_guid, apps.c.name_key == name.lower())
    return tx.scalar(found) is not None


def _typed(lifecycle: Mapping[str, Any], usual: str) -> dict[str, Any]:
    """A lifecycle with its type, which a body need not name."""
    return {**lifecycle, "type": lifecycle.get("type") or usual}


def _require_lifecycle_flag(tx: Tx, actor: Actor, lifecycle: str) -> None:
    if lifecycle in {"docker", "cnb"}:
        feature_flags.require(tx, actor, f"diego_{lifecycle}")


def _lifecycle_values(
    tx: Tx, settings: Settings, lifecycle: Mapping[str, Any], app: Row[Any] | None, warnings: list[str]
) -> dict[str, Any]:
    if lifecycle["type"] == "docker":
        return {}
    data = lifecycle.get("data") or {}
    values: dict[str, Any] = {}
    stack = app.stack if app is not None else settings.defaults.stack
    if "stack" in data and data["stack"] is not None:
        stack = data["stack"]
        _check_stack(tx, stack, first=app is None or not _was_built(tx, app), warnings=warnings)
    elif "stack" in data:
        stack = settings.defaults.stack
    values["stack"] = stack
    if "buildpacks" in data:
        names = data["buildpacks"] or []
        allowed = settings.defaults.custom_buildpacks
        bad = buildpack_names.problems(tx, names, stack, lifecycle["type"], custom_allowed=allowed)
        if bad:
            raise errors.unprocessable(", ".join(bad))
        values["buildpacks"] = sealed.seal(tx, apps.c.buildpacks, names or None)
    if "credentials" in data:
        values["cnb_credentials"] = sealed.seal(tx, apps.c.cnb_credentials, data["credentials"])
    return values


def _was_built(tx: Tx, app: Row[Any]) -> bool:
    return tx.scalar(select(builds.c.guid).where(builds.c.app_guid == app.guid).limit(1)) is not None


def _require_ready(tx: Tx, lifecycle: Mapping[str, Any]) -> None:
    """Raises 422 when a new app names a buildpack that still has no bits."""
    for name in (lifecycle.get("data") or {}).get("buildpacks") or ():
        of_name = (buildpacks.c.name == name) & (buildpacks.c.lifecycle == lifecycle["type"])
        states = tx.scalars(select(buildpacks.c.state).where(of_name))
        if states and "READY" not in states:
            raise errors.unprocessable(f'"{name}" must be in ready state')


def _check_stack(tx: Tx, name: str, *, first: bool, warnings: list[str]) -> None:
    stack = buildpack_names.find_stack(tx, name)
    if stack is None:
        raise errors.unprocessable("Stack must be an existing stack")
    error, warning = buildpack_names.stack_warning(stack, first=first)
    if error:
        raise errors.unprocessable(error)
    if warning:
        warnings.append(warning)


def lifecycle_data(tx: Tx, app: Row[Any]) -> dict[str, Any]:
    """`lifecycle` as the API shows it, without credentials."""
    if app.lifecycle_type == "docker":
        return {"type": "docker", "data": {}}
    # Looked at first: on a page of apps without buildpacks this is a good part of the work.
    names = sealed.opened(tx, apps.c.buildpacks, app.buildpacks) if app.buildpacks is not None else []
    data: dict[str, Any] = {"buildpacks": [buildpack_names.redacted(name) for name in names], "stack": app.stack}
    if app.lifecycle_type == "cnb" and app.cnb_credentials is not None:
        data["credentials"] = "***"
    return {"type": app.lifecycle_type, "data": data}


def environment(tx: Tx, app: Row[Any]) -> dict[str, Any]:
    """The app's own variables."""
    found: dict[str, Any] = sealed.opened(tx, apps.c.environment, app.environment, {})
    return found


def set_environment(tx: Tx, actor: Actor, app: Row[Any], change: Mapping[str, str | None]) -> dict[str, Any]:
    """Merge `change` into the app's variables, null removes. Takes effect at the next start."""
    variables = environment(tx, app)
    for name, value in change.items():
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = value
    changed = rows.change(tx, apps, app, {"environment": sealed.seal(tx, apps.c.environment, variables or None)})
    data = {"request": {"environment_variables": dict(change)}}
    audit.record(tx, "audit.app.update", actor, app.guid, "app", changed.name, data, space_guid=app.space_guid)
    return variables


def ssh_enabled(settings: Settings, app: Row[Any], space: Row[Any]) -> tuple[bool, str]:
    """Whether `cf ssh` is open, and the reason when it is not."""
    if not settings.ssh.enabled:
        return False, "ssh is disabled globally"
    if not space.ssh_enabled:
        return False, f"ssh is disabled for space '{space.name}'"
    if not app.ssh_enabled:
        return False, "ssh is disabled for app"
    return True, ""
