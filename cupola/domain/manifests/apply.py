"""Applying manifests with the same verbs that the API uses: additive, one app after another."""

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from sqlalchemy import Row, select

from cupola import errors
from cupola.config import Settings
from cupola.domain import apps, audit, destinations, domains, feature_flags, processes, route_sharing, routes, sidecars
from cupola.domain.manifests.parse import AppManifest, ProcessManifest, RouteManifest
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps as apps_table
from cupola.store.database import Tx
from cupola.store.orgs import spaces
from cupola.store.routes import destinations as destinations_table
from cupola.store.routes import domains as domains_table
from cupola.store.routes import routes as routes_table

__all__ = ["about", "apply", "create_missing", "find_app", "split_route", "warnings_of"]

_ADJECTIVES = ("brave", "calm", "eager", "fancy", "gentle", "happy", "jolly", "kind", "lucky", "proud", "quick", "wise")
_NOUNS = ("badger", "crane", "dingo", "eagle", "fox", "gecko", "heron", "ibex", "koala", "lynx", "otter", "zebra")
_FEATURES = {
    "ssh": "ssh_enabled",
    "revisions": "revisions_enabled",
    "service-binding-k8s": "service_binding_k8s",
    "file-based-vcap-services": "file_based_vcap_services",
}


def find_app(tx: Tx, space_guid: str, name: str) -> Row[Any] | None:
    """The app of this name in a space, in any case."""
    return tx.one(
        select(apps_table).where(apps_table.c.space_guid == space_guid, apps_table.c.name_key == name.lower())
    )


def create_missing(
    tx: Tx, settings: Settings, actor: Actor, space: Row[Any], manifests: Sequence[AppManifest], warnings: list[str]
) -> list[Row[Any]]:
    """The apps of a manifest, those that do not exist made. Raises 422 naming the application."""
    found = []
    for manifest in manifests:
        app = find_app(tx, space.guid, manifest.name)
        if app is None:
            body: dict[str, Any] = {
                "name": manifest.name,
                "relationships": {"space": {"data": {"guid": space.guid}}},
            }
            if manifest.lifecycle is not None:
                body["lifecycle"] = {"type": manifest.lifecycle, "data": {}}
            try:
                app = apps.create(tx, settings, actor, body, warnings)
            except CloudError as error:
                # A lifecycle that is switched off is one of the things that are wrong with a manifest.
                wrong = errors.unprocessable(error.detail) if error.title == "CF-FeatureDisabled" else error
                raise about(manifest.name, wrong) from error
        found.append(app)
    return found


def warnings_of(manifests: Sequence[AppManifest]) -> list[str]:
    """What is to be said to whoever applies these, as the API's own operations would; complete sentences."""
    return destinations.warnings_of([route.protocol for manifest in manifests for route in manifest.routes])


def about(name: str, error: CloudError) -> CloudError:
    """The same error, naming the application."""
    return CloudError(error.code, error.title, error.status, f"For application '{name}': {error.detail}")


def apply(tx: Tx, settings: Settings, actor: Actor, app: Row[Any], manifest: AppManifest) -> None:
    """Make an app what its manifest says; nothing that it does not name is removed. Raises errors naming the app.

    Its services are bound afterwards, one by one (services.py).
    """
    try:
        _apply(tx, settings, actor, app, manifest)
    except CloudError as error:
        raise about(manifest.name, error) from error


def _apply(tx: Tx, settings: Settings, actor: Actor, app: Row[Any], manifest: AppManifest) -> None:
    if manifest.features:
        app = _features(tx, app, manifest.features)
    for process in manifest.processes:
        _process(tx, settings, actor, app, process)
    for sidecar in manifest.sidecars:
        sidecars.put(tx, app, sidecar.name, sidecar.command, sidecar.process_types, sidecar.memory_mb)
    app = _lifecycle(tx, settings, actor, app, manifest)
    _routes(tx, settings, actor, app, manifest)
    if manifest.environment:
        apps.set_environment(tx, actor, app, manifest.environment)
    data = {"request": {"manifest": _told(manifest.given)}}
    audit.record(tx, "audit.app.apply_manifest", actor, app.guid, "app", app.name, data, space_guid=app.space_guid)


def _features(tx: Tx, app: Row[Any], wanted: Mapping[str, bool]) -> Row[Any]:
    values = {_FEATURES[name]: on for name, on in wanted.items()}
    if all(values.get(column, app._mapping[column]) for column in ("file_based_vcap_services", "service_binding_k8s")):
        raise errors.unprocessable(
            "'file-based-vcap-services' and 'service-binding-k8s' features cannot be enabled at the same time."
        )
    return rows.change(tx, apps_table, app, values)


def _told(given: Mapping[str, Any]) -> str:
    """The application as the audit event has it: without what may be secret."""
    hidden: dict[str, Any] = {name: audit.HIDDEN for name in ("env", "cnb-credentials") if name in given}
    if isinstance(given.get("services"), list):
        hidden["services"] = [
            {**one, "parameters": audit.HIDDEN} if isinstance(one, dict) and "parameters" in one else one
            for one in given["services"]
        ]
    return str(yaml.safe_dump({"applications": [{**given, **hidden}]}, sort_keys=False, explicit_start=True))


def _process(tx: Tx, settings: Settings, actor: Actor, app: Row[Any], wanted: ProcessManifest) -> None:
    process = processes.newest(tx, app.guid, wanted.type)
    if process is None:
        process = processes.add(tx, settings, actor, app, wanted.type)
    update = {name: value for name, value in wanted.update.items() if not _is_so(process, name, value)}
    if update:
        process = processes.update(tx, settings, actor, process, update)
    current = {
        "instances": process.instances,
        "memory_in_mb": process.memory_mb,
        "disk_in_mb": process.disk_mb,
        "log_rate_limit_in_bytes_per_second": process.log_rate,
    }
    scale = {name: value for name, value in wanted.scale.items() if current[name] != value}
    if scale:
        processes.scale(tx, settings, actor, process, scale)


def _is_so(process: Row[Any], name: str, value: Any) -> bool:
    if name in {"command", "user"}:
        return bool(process._mapping[name] == value)
    prefix = "health_check" if name == "health_check" else "readiness"
    columns = process._mapping
    if "type" in value and columns[f"{prefix}_type"] != value["type"]:
        return False
    return all(columns[f"{prefix}_{key}"] == one for key, one in (value.get("data") or {}).items())


def _lifecycle(tx: Tx, settings: Settings, actor: Actor, app: Row[Any], manifest: AppManifest) -> Row[Any]:
    body: dict[str, Any] = {}
    if manifest.lifecycle is not None and manifest.lifecycle != app.lifecycle_type:
        if app.lifecycle_type == "docker":
            raise errors.unprocessable("Buildpacks cannot be configured for a docker lifecycle app.")
        if manifest.lifecycle == "docker":
            raise errors.unprocessable("Docker cannot be configured for a buildpack lifecycle app.")
    if manifest.buildpacks is not None or manifest.stack is not None:
        if app.lifecycle_type == "docker":
            raise errors.unprocessable("Buildpacks cannot be configured for a docker lifecycle app.")
        data: dict[str, Any] = {}
        if manifest.buildpacks is not None:
            data["buildpacks"] = manifest.buildpacks
        if manifest.stack is not None:
            data["stack"] = manifest.stack
        body["lifecycle"] = {"type": manifest.lifecycle or app.lifecycle_type, "data": data}
    if manifest.metadata:
        body["metadata"] = manifest.metadata
    return apps.update(tx, settings, actor, app, body, []) if body else app


def _routes(tx: Tx, settings: Settings, actor: Actor, app: Row[Any], manifest: AppManifest) -> None:
    space = rows.by_guid(tx, spaces, app.space_guid)
    assert space is not None
    if manifest.no_route:
        destinations.remove_all_of_app(tx, actor, app)
        return
    for wanted in manifest.routes:
        _route(tx, settings, actor, app, space, wanted)
    if manifest.routes or not (manifest.random_route or manifest.default_route):
        return
    mapped = select(destinations_table.c.guid).where(destinations_table.c.app_guid == app.guid)
    if tx.scalar(mapped.limit(1)) is not None:
        return
    domain = domains.default_of(tx, space.organization_guid)
    if domain is None:
        raise errors.unprocessable("No default domains available")
    host = _host_of(app.name)
    if manifest.random_route:
        host = f"{host}-{random.choice(_ADJECTIVES)}-{random.choice(_NOUNS)}-{random.choice('abcdefghijkmnpqrstuvwxyz')}{random.choice('abcdefghijkmnpqrstuvwxyz')}"  # noqa: S311  # a name, not a secret
    _map(tx, settings, actor, app, space, domain, host, "", RouteManifest(f"{host}.{domain.name}"))


def _host_of(name: str) -> str:
    """The host that an app's name makes: the name itself where that is one."""
    if re.fullmatch(r"[\w-]{1,63}", name, re.ASCII):
        return name.lower()
    host = re.sub(r"[^a-z0-9-]", "", re.sub(r"[\s_.]+", "-", name.lower())).strip("-")
    # A name without a single usable character still needs an address of its own.
    return (host or f"app-{hashlib.sha256(name.encode()).hexdigest()[:8]}")[:63]


def split_route(tx: Tx, space: Row[Any], text: str) -> tuple[Row[Any], str, str]:
    """(domain, host, path) of a route as manifests write it; the longest existing domain wins. Raises 422."""
    bare = text.partition("://")[2] or text
    name, slash, path = bare.partition("/")
    name = name.lower()
    labels = name.split(".")
    candidates = [".".join(labels[index:]) for index in range(len(labels))]
    usable = domains.usable_in(space.organization_guid)
    found = {row.name: row for row in tx.all(select(domains_table).where(domains_table.c.name.in_(candidates), usable))}
    for candidate in candidates:
        if candidate in found:
            host = name.removesuffix(candidate).rstrip(".")
            return found[candidate], host, slash + path if path else ""
    raise errors.unprocessable(f"No domains exist for route {text}")


def _route(tx: Tx, settings: Settings, actor: Actor, app: Row[Any], space: Row[Any], wanted: RouteManifest) -> None:
    domain, host, path = split_route(tx, space, wanted.route)
    bad = [f"Host {problem}" for problem in routes.host_problems(host)]
    bad += [f"Path {problem}" for problem in routes.path_problems(path)]
    if bad:
        raise errors.unprocessable(f"Route '{wanted.route}': " + ", ".join(bad))
    _map(tx, settings, actor, app, space, domain, host, path, wanted)


def _map(
    tx: Tx,
    settings: Settings,
    actor: Actor,
    app: Row[Any],
    space: Row[Any],
    domain: Row[Any],
    host: str,
    path: str,
    wanted: RouteManifest,
) -> None:
    statement = select(routes_table).where(
        routes_table.c.domain_guid == domain.guid,
        routes_table.c.host == host.lower(),
        routes_table.c.path == path.lower(),
    )
    route = tx.one(statement)
    if route is None:
        feature_flags.require_of_everybody(tx, "route_creation")
        if host == "*" and domain.organization_guid is None:
            raise errors.not_authorized()
        route = routes.create(tx, settings, actor, space, domain, host=host, path=path, options=wanted.options)
    elif route.space_guid != space.guid and space.guid not in route_sharing.shared_with(tx, route):
        raise errors.unprocessable("Routes cannot be mapped to destinations in different spaces")
    elif wanted.options:
        route = routes.update_options(tx, actor, route, wanted.options, None)
    one: dict[str, Any] = {"app": {"guid": app.guid}}
    if wanted.protocol is not None:
        one["protocol"] = wanted.protocol
    mapped = select(destinations_table).where(
        destinations_table.c.route_guid == route.guid,
        destinations_table.c.app_guid == app.guid,
        destinations_table.c.process_type == "web",
    )
    known = tx.one(mapped.order_by(destinations_table.c.id).limit(1))
    if known is None:
        destinations.insert(tx, actor, route, [one])
    elif wanted.protocol is not None and wanted.protocol != (known.protocol or "http1"):
        destinations.set_protocol(tx, route, known, wanted.protocol)
