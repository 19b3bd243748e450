"""What applying a manifest would change: additions and replacements of the keys that it names, as JSON Patch entries."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from cupola.domain.manifests import generate
from cupola.domain.manifests.apply import find_app
from cupola.domain.manifests.parse import env_text
from cupola.domain.manifests.units import from_bytes_rate, from_mb, to_bytes_rate, to_mb
from cupola.store.database import Tx

__all__ = ["diff"]

_PROCESS_KEYS = frozenset(
    {
        "type",
        "command",
        "user",
        "instances",
        "memory",
        "disk_quota",
        "log-rate-limit-per-second",
        "timeout",
        "health-check-type",
        "health-check-http-endpoint",
        "health-check-invocation-timeout",
        "health-check-interval",
        "readiness-health-check-type",
        "readiness-health-check-http-endpoint",
        "readiness-health-check-invocation-timeout",
        "readiness-health-check-interval",
    }
)
_KNOWN = frozenset(
    {
        "name",
        "lifecycle",
        "stack",
        "buildpacks",
        "env",
        "features",
        "metadata",
        "processes",
        "routes",
        "services",
        "sidecars",
    }
    | {"no-route", "random-route", "default-route", "docker", "cnb-credentials"}
) | (_PROCESS_KEYS - {"type"})
_IDENTITY = {"processes": "type", "routes": "route", "sidecars": "name", "services": "name"}
_AMOUNTS = {
    "memory": (to_mb, from_mb),
    "disk_quota": (to_mb, from_mb),
    "log-rate-limit-per-second": (to_bytes_rate, from_bytes_rate),
}
_NEVER_REPORTED = frozenset({"memory", "disk_quota", "no-route", "random-route", "default-route"})


def diff(tx: Tx, space: Row[Any], applications: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Entries {op, path, was?, value?} for all applications."""
    found: list[dict[str, Any]] = []
    for index, given in enumerate(applications):
        app = find_app(tx, space.guid, str(given.get("name")))
        wanted = {key: value for key, value in given.items() if key in _KNOWN}
        path = f"/applications/{index}"
        if app is None:
            found.extend({"op": "add", "path": f"{path}/{key}", "value": value} for key, value in wanted.items())
            continue
        current = _flattened(generate.application(tx, app))
        found.extend(_application(path, wanted, current))
    return found


def _flattened(application: dict[str, Any]) -> dict[str, Any]:
    # Values of the web process also stand at the top: a manifest may name them in either place.
    web: dict[str, Any] = next((one for one in application.get("processes", ()) if one["type"] == "web"), {})
    return {**{key: value for key, value in web.items() if key != "type"}, **application}


def _application(path: str, wanted: Mapping[str, Any], current: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, value in wanted.items():
        if key in _NEVER_REPORTED:
            continue
        here = f"{path}/{key}"
        if key in _IDENTITY and isinstance(value, list):
            yield from _listed(here, key, value, current.get(key) or [])
        elif key in {"env", "features", "metadata"} and isinstance(value, Mapping):
            yield from _mapping(here, value, current.get(key) or {})
        else:
            yield from _value(here, key, value, current.get(key))


def _listed(path: str, key: str, wanted: Sequence[Any], current: Sequence[Any]) -> Iterator[dict[str, Any]]:
    identity = _IDENTITY[key]
    known = {one[identity] if isinstance(one, Mapping) else one: one for one in current}
    for index, value in enumerate(wanted):
        name = value.get(identity) if isinstance(value, Mapping) else value
        here = f"{path}/{index}"
        if name not in known:
            yield {"op": "add", "path": here, "value": value}
        elif isinstance(value, Mapping) and key != "services":
            for inner, one in value.items():
                if key != "processes" or inner in _PROCESS_KEYS:
                    yield from _value(f"{here}/{inner}", inner, one, known[name].get(inner))


def _mapping(path: str, wanted: Mapping[str, Any], current: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, value in wanted.items():
        here = f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}"
        if isinstance(value, Mapping):
            inner = current.get(key)
            yield from _mapping(here, value, inner if isinstance(inner, Mapping) else {})
        else:
            now = current.get(str(key))
            yield from _value(here, "", env_text(value) if isinstance(now, str) else value, now)


def _value(path: str, key: str, wanted: Any, current: Any) -> Iterator[dict[str, Any]]:
    wanted = _normal(key, wanted)
    if wanted == current or (wanted is None and current is None):
        return
    if current is None:
        yield {"op": "add", "path": path, "value": wanted}
    elif wanted is None:
        yield {"op": "remove", "path": path, "was": current}
    else:
        yield {"op": "replace", "path": path, "was": current, "value": wanted}


def _normal(key: str, value: Any) -> Any:
    if key in _AMOUNTS:
        read, write = _AMOUNTS[key]
        try:
            return write(read(value))
        except ValueError:
            return value
    return value
