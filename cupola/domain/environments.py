"""What an app finds in its environment: VCAP_APPLICATION, groups, its own variables (reference/app-runtime.md 1, 2)."""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from sqlalchemy import Row, select

from cupola.config import Settings
from cupola.domain import service_environment, variable_groups
from cupola.domain.apps import environment
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.orgs import organizations, spaces
from cupola.store.routes import destinations, domains, routes

__all__ = ["document", "for_process", "for_staging", "log_tags", "uris", "vcap_application"]


def uris(tx: Tx, app_guids: Collection[str]) -> dict[str, list[str]]:
    """App guid to the addresses of its routes, sorted, without scheme. One statement."""
    statement = (
        select(destinations.c.app_guid, routes.c.host, routes.c.path, routes.c.port, domains.c.name)
        .join(routes, routes.c.guid == destinations.c.route_guid)
        .join(domains, domains.c.guid == routes.c.domain_guid)
        .where(destinations.c.app_guid.in_(list(app_guids)))
    )
    found: dict[str, set[str]] = {}
    for row in tx.all(statement):
        app_guid, host, path, port, domain = tuple(row)
        name = f"{host}.{domain}" if host else domain
        found.setdefault(app_guid, set()).add(f"{name}:{port}" if port else name + path)
    return {app_guid: sorted(one) for app_guid, one in found.items()}


def vcap_application(
    settings: Settings,
    app: Row[Any],
    space: Row[Any],
    organization: Row[Any],
    addresses: list[str],
    limits: Mapping[str, int],
    version: str | None = None,
    process: Row[Any] | None = None,
) -> dict[str, Any]:
    """The value of VCAP_APPLICATION; `process` for a running instance, None for staging and tasks."""
    value: dict[str, Any] = {
        "cf_api": settings.api_url,
        "limits": {"fds": settings.defaults.instance_file_descriptors, **limits},
        "application_name": app.name,
        "application_uris": addresses,
        "name": app.name,
        "space_name": space.name,
        "space_id": space.guid,
        "organization_id": organization.guid,
        "organization_name": organization.name,
        "uris": addresses,
        "application_id": app.guid,
    }
    if version is not None:
        value |= {"version": version, "application_version": version}
    if process is None:
        value["users"] = None
    else:
        value |= {"process_id": process.guid, "process_type": process.type}
    return value


def for_process(
    group: Mapping[str, str],
    own: Mapping[str, Any],
    application: Mapping[str, Any],
    memory_mb: int,
    services: Mapping[str, str],
) -> dict[str, str]:
    """Variables of a running instance, but for what only the cell knows. `memory_mb` without that of sidecars."""
    return {
        "LANG": "en_US.UTF-8",
        **_texts(group),
        **_texts(own),
        "VCAP_APPLICATION": _json(application),
        "MEMORY_LIMIT": f"{memory_mb}m",
        **services,
    }


def for_staging(
    group: Mapping[str, str],
    own: Mapping[str, Any],
    build: Mapping[str, Any],
    stack: str,
    application: Mapping[str, Any],
    memory_mb: int,
    services: Mapping[str, str],
) -> dict[str, str]:
    """Variables of a build."""
    return {
        "LANG": "en_US.UTF-8",
        **_texts(group),
        **_texts(own),
        **_texts(build),
        "CF_STACK": stack,
        "VCAP_APPLICATION": _json(application),
        "MEMORY_LIMIT": f"{memory_mb}m",
        **services,
    }


def log_tags(app: Row[Any], space: Row[Any], organization: Row[Any], process: Row[Any] | None = None) -> dict[str, str]:
    """Tags of an app's logs and metrics; staging and tasks carry none of a process."""
    tags = {
        "source_id": app.guid,
        "app_id": app.guid,
        "app_name": app.name,
        "space_id": space.guid,
        "space_name": space.name,
        "organization_id": organization.guid,
        "organization_name": organization.name,
    }
    if process is not None:
        tags |= {"process_id": process.guid, "process_type": process.type}
    return tags


def document(tx: Tx, settings: Settings, app: Row[Any]) -> dict[str, Any]:
    """The body of GET /v3/apps/:guid/env: five parts."""
    space = rows.by_guid(tx, spaces, app.space_guid)
    organization = rows.by_guid(tx, organizations, space.organization_guid) if space is not None else None
    assert space is not None
    assert organization is not None
    addresses = uris(tx, [app.guid]).get(app.guid, [])
    return {
        "staging_env_json": variable_groups.variables(tx, "staging"),
        "running_env_json": variable_groups.variables(tx, "running"),
        "environment_variables": environment(tx, app),
        "system_env_json": service_environment.of_app(tx, app.guid).shown(app),
        "application_env_json": {
            "VCAP_APPLICATION": vcap_application(settings, app, space, organization, addresses, {})
        },
    }


def _texts(variables: Mapping[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else _json(value) for name, value in variables.items()}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
