"""The manifest of an app as it is: what `cf create-app-manifest` saves; defaults are left out."""

from typing import Any

import msgspec
from sqlalchemy import Row, select

from cupola.domain import apps, processes, routes, sidecars
from cupola.domain.manifests.units import from_bytes_rate, from_mb
from cupola.store import sealed
from cupola.store.apps import apps as apps_table
from cupola.store.database import Tx
from cupola.store.routes import destinations, domains
from cupola.store.routes import routes as routes_table
from cupola.store.service_bindings import service_credential_bindings
from cupola.store.service_instances import service_instances

__all__ = ["application"]


def application(tx: Tx, app: Row[Any]) -> dict[str, Any]:
    """One element of `applications`."""
    found: dict[str, Any] = {"name": app.name, "lifecycle": app.lifecycle_type}
    if app.lifecycle_type != "docker":
        found["stack"] = app.stack
        names = sealed.opened(tx, apps_table.c.buildpacks, app.buildpacks, [])
        if names:
            found["buildpacks"] = names
    found["features"] = {
        "ssh": app.ssh_enabled,
        "revisions": app.revisions_enabled,
        "service-binding-k8s": app.service_binding_k8s,
        "file-based-vcap-services": app.file_based_vcap_services,
    }
    found["env"] = apps.environment(tx, app)
    found["services"] = _services(tx, app)
    found["routes"] = _routes(tx, app)
    found["metadata"] = {
        key: value
        for key, value in (
            ("labels", msgspec.json.decode(app.labels)),
            ("annotations", msgspec.json.decode(app.annotations)),
        )
        if value
    }
    found["processes"] = [_process(row) for row in processes.of_app(tx, app.guid)]
    found["sidecars"] = [_sidecar(row) for row in sidecars.of_app(tx, app.guid)]
    return {key: value for key, value in found.items() if value not in (None, {}, [])}


def _services(tx: Tx, app: Row[Any]) -> list[str]:
    bindings = service_credential_bindings.c
    names = (
        select(service_instances.c.name)
        .join(service_credential_bindings, bindings.service_instance_guid == service_instances.c.guid)
        .where(bindings.app_guid == app.guid)
        .distinct()
    )
    return sorted(tx.scalars(names), key=str.lower)


def _routes(tx: Tx, app: Row[Any]) -> list[dict[str, Any]]:
    statement = (
        select(routes_table, domains.c.name.label("domain_name"), destinations.c.protocol.label("destination_protocol"))
        .join(domains, domains.c.guid == routes_table.c.domain_guid)
        .join(destinations, destinations.c.route_guid == routes_table.c.guid)
        .where(destinations.c.app_guid == app.guid)
        .order_by(destinations.c.id)
    )
    found = []
    for row in tx.all(statement):
        entry: dict[str, Any] = {
            "route": routes.url(row, row.domain_name),
            "protocol": row.destination_protocol or "http1",
        }
        if row.options:
            entry["options"] = row.options
        if entry not in found:
            found.append(entry)
    return found


def _process(row: Row[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": row.type,
        "instances": row.instances,
        "memory": from_mb(row.memory_mb),
        "disk_quota": from_mb(row.disk_mb),
        "log-rate-limit-per-second": from_bytes_rate(row.log_rate),
        "command": row.command,
        "user": row.user,
        "health-check-type": row.health_check_type,
        "health-check-http-endpoint": row.health_check_endpoint,
        "health-check-invocation-timeout": row.health_check_invocation_timeout,
        "health-check-interval": row.health_check_interval,
        "timeout": row.health_check_timeout,
        "readiness-health-check-type": row.readiness_type,
        "readiness-health-check-http-endpoint": row.readiness_endpoint,
        "readiness-health-check-invocation-timeout": row.readiness_invocation_timeout,
        "readiness-health-check-interval": row.readiness_interval,
    }
    return {key: value for key, value in found.items() if value is not None}


def _sidecar(row: Row[Any]) -> dict[str, Any]:
    found = {"name": row.name, "command": row.command, "process_types": row.process_types}
    if row.memory_mb is not None:
        found["memory"] = from_mb(row.memory_mb)
    return found
