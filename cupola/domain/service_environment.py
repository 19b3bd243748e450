"""What the bindings of an app put into its containers: VCAP_SERVICES, or files in its place; a database's address; volumes.

Only bindings that were made and that nobody has tried to delete count, and of several to one instance the newest: so
credentials are changed without a moment in which there are none (reference/app-runtime.md section 3).
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import Row, select

from cupola import errors
from cupola.domain import last_operations
from cupola.outbound import is_loopback
from cupola.store import sealed
from cupola.store.database import Tx
from cupola.store.service_bindings import service_credential_bindings
from cupola.store.service_brokers import service_brokers, service_offerings, service_plans
from cupola.store.service_instances import service_instances

__all__ = ["ROOT", "Services", "of_app", "of_apps", "require_files"]

ROOT = "/etc/cf-service-bindings"
"""Where files of bindings are in a container."""
_FILE = "vcap_services"
_MAX_BYTES = 1_000_000
"""Of all files of an app, paths included."""
_BINDING_NAME = re.compile(r"[a-z0-9\-.]{1,253}", re.ASCII)
_FILE_NAME = re.compile(r"[a-z0-9\-._]{1,253}", re.ASCII)
_ADAPTERS = {"mysql": "mysql2", "mysql2": "mysql2", "postgres": "postgres", "postgresql": "postgres"}
_SHOWN = ("container_dir", "mode", "device_type")
"""What an app is told of its volumes."""

_bindings = service_credential_bindings


@dataclass(frozen=True)
class Services:
    """The services of one app: entries of VCAP_SERVICES in the order in which they were bound, volumes to mount, endpoints."""

    entries: Sequence[Mapping[str, Any]] = ()
    volumes: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    endpoints: Sequence[Mapping[str, Any]] = ()
    """{host, ports, protocol} that the app may reach because it is bound."""

    def vcap_services(self) -> dict[str, list[Mapping[str, Any]]]:
        """By label."""
        found: dict[str, list[Mapping[str, Any]]] = {}
        for entry in self.entries:
            found.setdefault(entry["label"], []).append(entry)
        return found

    def shown(self, app: Row[Any]) -> dict[str, Any]:
        """The system's part of an app's environment, as the API shows it."""
        if app.service_binding_k8s:
            return {"SERVICE_BINDING_ROOT": ROOT}
        if app.file_based_vcap_services:
            return {"VCAP_SERVICES_FILE_PATH": f"{ROOT}/{_FILE}"}
        return {"VCAP_SERVICES": self.vcap_services()}

    def variables(self, app: Row[Any]) -> dict[str, str]:
        """The same for a container, and the address of a database if one is bound."""
        found = {name: value if isinstance(value, str) else _json(value) for name, value in self.shown(app).items()}
        url = self.database_url()
        return {**found, "DATABASE_URL": url} if url else found

    def database_url(self) -> str | None:
        """The first address of a relational database, with the scheme that frameworks expect."""
        for entry in self.entries:
            credentials = entry["credentials"]
            uri = credentials.get("uri") if isinstance(credentials, dict) else None
            scheme, colon, rest = uri.partition(":") if isinstance(uri, str) else ("", "", "")
            if scheme in _ADAPTERS and colon and _is_uri(uri):
                return f"{_ADAPTERS[scheme]}:{rest}"
        return None

    def files(self, app: Row[Any]) -> dict[str, str]:
        """Path below ROOT to content. What cannot be a file is left out: `require_files` has said so before."""
        if app.file_based_vcap_services:
            return {_FILE: _json(self.vcap_services())}
        if not app.service_binding_k8s:
            return {}
        found: dict[str, str] = {}
        for entry in self.entries:
            if _BINDING_NAME.fullmatch(entry["name"]):
                for key, content in _attributes(entry):
                    if _FILE_NAME.fullmatch(key):
                        found.setdefault(f"{entry['name']}/{key}", content)
        return found

    def file_problem(self, app: Row[Any]) -> str | None:
        """Why the files of an app cannot be what its bindings say."""
        if app.service_binding_k8s:
            names: set[str] = set()
            for entry in self.entries:
                name = entry["name"]
                if not _BINDING_NAME.fullmatch(name):
                    return f"Invalid binding name: '{name}'. Name must match /^[a-z0-9\\-.]{{1,253}}$/"
                if name in names:
                    return f"Duplicate binding name: {name}"
                names.add(name)
                for key, _ in _attributes(entry):
                    if not _FILE_NAME.fullmatch(key):
                        return f"Invalid file name: {key}"
        size = sum(len(path.encode()) + len(content.encode()) for path, content in self.files(app).items())
        if size > _MAX_BYTES:
            return f"Bindings exceed the maximum allowed bytesize of {_MAX_BYTES}: {size}"
        return None


def _is_uri(text: Any) -> bool:
    try:
        return bool(urlsplit(text).scheme)
    except ValueError:
        return False


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _attributes(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Files of one binding: what it says of itself comes before credentials of the same name."""
    values = {**{key: value for key, value in entry.items() if key != "credentials"}}
    values |= {"type": entry["label"], "provider": entry["label"]}
    credentials = entry["credentials"] if isinstance(entry["credentials"], dict) else {}
    for key, value in {**credentials, **values}.items():
        if value is not None and value != [] and value != {}:
            yield key, value if isinstance(value, str) else _json(value)


def of_app(tx: Tx, app_guid: str) -> Services:
    """The services of one app."""
    return of_apps(tx, [app_guid]).get(app_guid, Services())


def of_apps(tx: Tx, app_guids: Collection[str]) -> dict[str, Services]:
    """App guid to its services; those without any are left out. One statement."""
    if not app_guids:
        return {}
    statement = (
        select(
            _bindings,
            service_instances.c.name.label("instance_name"),
            service_instances.c.type.label("instance_type"),
            service_instances.c.tags.label("instance_tags"),
            service_plans.c.name.label("plan_name"),
            service_offerings.c.name.label("offering_name"),
            service_offerings.c.tags.label("offering_tags"),
            service_brokers.c.anywhere,
            service_brokers.c.space_guid.label("broker_space_guid"),
        )
        .join(service_instances, service_instances.c.guid == _bindings.c.service_instance_guid)
        .outerjoin(service_plans, service_plans.c.guid == service_instances.c.service_plan_guid)
        .outerjoin(service_offerings, service_offerings.c.guid == service_plans.c.service_offering_guid)
        .outerjoin(service_brokers, service_brokers.c.guid == service_offerings.c.service_broker_guid)
        .where(_bindings.c.app_guid.in_(list(app_guids)), last_operations.is_active(_bindings))
        .order_by(_bindings.c.created_at, _bindings.c.id)
    )
    newest = {(row.app_guid, row.service_instance_guid): row for row in tx.all(statement)}
    found: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]] = {}
    for row in sorted(newest.values(), key=lambda one: int(one.id)):
        entries, volumes, endpoints = found.setdefault(row.app_guid, ([], [], []))
        mounts: list[dict[str, Any]] = sealed.opened(tx, _bindings.c.volume_mounts, row.volume_mounts, [])
        entries.append(_entry(tx, row, mounts))
        volumes.extend(mounts)
        endpoints.extend(_endpoints(row))
    return {guid: Services(*one) for guid, one in found.items()}


def _entry(tx: Tx, row: Row[Any], mounts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    managed = row.instance_type == "managed"
    kind: dict[str, Any] = {"label": "user-provided"}
    if managed:
        kind = {"label": row.offering_name, "provider": None, "plan": row.plan_name}
    tags = [*(row.offering_tags or []), *row.instance_tags] if managed else row.instance_tags
    return {
        **kind,
        "name": row.name or row.instance_name,
        "tags": list(dict.fromkeys(tags)),
        "instance_guid": row.service_instance_guid,
        "instance_name": row.instance_name,
        "binding_guid": row.guid,
        "binding_name": row.name,
        "credentials": sealed.opened(tx, _bindings.c.credentials, row.credentials, {}),
        "syslog_drain_url": sealed.opened(tx, _bindings.c.syslog_drain_url, row.syslog_drain_url),
        "volume_mounts": [{name: mount[name] for name in _SHOWN if name in mount} for mount in mounts],
    }


def _endpoints(row: Row[Any]) -> list[dict[str, Any]]:
    """What a binding opens. Only brokers of the whole platform, whose address an admin gave, open ways into this machine."""
    trusted = row.anywhere and row.broker_space_guid is None
    return [one for one in row.endpoints or [] if trusted or not is_loopback(one["host"])]


def require_files(tx: Tx, app: Row[Any]) -> None:
    """The bindings of an app that wants files can be files. Raises 422."""
    if app.service_binding_k8s or app.file_based_vcap_services:
        problem = of_app(tx, app.guid).file_problem(app)
        if problem is not None:
            raise errors.unprocessable(f"Cannot build service binding files for app - {problem}")
