"""Destinations: which process of which app answers at a route."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, delete, func, select

from cupola import errors
from cupola.domain import access, audit
from cupola.domain.routes import uri
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.routes import destinations, route_shares

__all__ = [
    "PROTOCOLS",
    "insert",
    "of_route",
    "of_routes",
    "problems",
    "remove",
    "replace",
    "set_protocol",
    "unknown",
    "warnings_of",
]

MAX_PER_ROUTE = 100
MAX_PORTS = 10
DEFAULT_PORT = 8080
PROTOCOLS = ("http1", "http2", "tcp")
NO_HTTP2 = "The protocol http2 is stored, not spoken by this router yet: it speaks HTTP/1.1 to apps."
_KEYS = {"app", "port", "protocol", "weight"}


def warnings_of(protocols: Iterable[str | None]) -> list[str]:
    """What is to be said to whoever asks for these protocols of routes or destinations; complete sentences."""
    return [NO_HTTP2] if "http2" in protocols else []


def problems(value: Any, *, least: int, weights: bool) -> Iterator[str]:
    """What is wrong with the form of a list of destinations; complete sentences."""
    if not isinstance(value, list) or not least <= len(value) <= MAX_PER_ROUTE:
        yield f"Destinations must be an array containing between {least} and {MAX_PER_ROUTE} destination objects."
        return
    found = [
        f"Destinations[{index}]: {problem}"
        for index, one in enumerate(value)
        for problem in _one_problems(one, weights=weights)
    ]
    found += _port_problems(value)
    yield from found or _weight_problems(value)


def _one_problems(one: Any, *, weights: bool) -> Iterator[str]:
    if not isinstance(one, dict):
        yield "must be an object."
        return
    if "app" not in one:
        yield 'must have an "app".'
        return
    if set(one) - _KEYS:
        yield 'must have only "app" and optionally "weight", "port" or "protocol".'
        return
    yield from _app_problems(one["app"])
    weight = one.get("weight")
    if weight is not None and not weights:
        yield "weighted destinations can only be used when replacing all destinations."
    elif weight is not None and not _is_between(weight, 1, 100):
        yield "weight must be a positive integer between 1 and 100."
    port = one.get("port")
    if port is not None and not _is_between(port, 1024, 65535):
        yield "port must be a positive integer between 1024 and 65535 inclusive."
    protocol = one.get("protocol")
    if protocol is not None and protocol not in PROTOCOLS:
        yield "protocol must be 'http1', 'http2' or 'tcp'."


def _app_problems(app: Any) -> Iterator[str]:
    guid = app.get("guid") if isinstance(app, dict) else None
    if not isinstance(guid, str) or not 1 <= len(guid) < 200:
        yield 'app must have the structure {"guid": "app_guid"}'
        return
    process = app.get("process")
    if process is None:
        return
    if not isinstance(process, dict) or set(process) != {"type"} or not _is_text(process["type"]):
        yield 'process must have the structure {"type": "process_type"}'


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_between(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _port_problems(value: Sequence[Any]) -> list[str]:
    """Ports are counted for each process of each app that is named as it should be."""
    named = [one["app"] for one in value if isinstance(one, dict) and isinstance(one.get("app"), dict)]
    counted = Counter(repr(sorted(app.items(), key=str)) for app in named)
    if any(count > MAX_PORTS for count in counted.values()):
        return [f"Process must have at most {MAX_PORTS} exposed ports."]
    return []


def _weight_problems(value: Sequence[Mapping[str, Any]]) -> list[str]:
    given = [one["weight"] for one in value if one.get("weight") is not None]
    if not given:
        return []
    if len(given) < len(value):
        return ["Destinations cannot contain both weighted and unweighted destinations."]
    return [] if sum(given) == 100 else ["Destinations must have weights that sum to 100."]


def _place(row: Any) -> tuple[Any, ...]:
    return (row.app_guid, row.process_type, row.port or DEFAULT_PORT)


def _key(row: Any) -> tuple[Any, ...]:
    return (*_place(row), row.protocol or "http1")


def of_routes(tx: Tx, guids: Sequence[str]) -> dict[str, list[Row[Any]]]:
    """Destinations by route guid, in order of creation. One statement."""
    found: dict[str, list[Row[Any]]] = {}
    statement = select(destinations).where(destinations.c.route_guid.in_(list(guids))).order_by(destinations.c.id)
    for row in tx.all(statement):
        found.setdefault(row.route_guid, []).append(row)
    return found


def of_route(tx: Tx, guid: str) -> list[Row[Any]]:
    """A route's destinations."""
    return of_routes(tx, [guid]).get(guid, [])


def insert(tx: Tx, actor: Actor, route: Row[Any], wanted: Sequence[Mapping[str, Any]]) -> None:
    """Add destinations; those that are there already stay as they are. Raises 422."""
    found = _apps(tx, actor, route, wanted)
    have = {_place(row): row for row in of_route(tx, route.guid)}
    values = _distinct(wanted)
    if any(row.weight is not None for row in have.values()):
        raise errors.unprocessable(
            "Destinations cannot be inserted when there are weighted destinations already configured."
        )
    new = [one for one in values if _place_of(one) not in have]
    if len(have) + len(new) > MAX_PER_ROUTE:
        raise errors.unprocessable(f"Routes can be mapped to at most {MAX_PER_ROUTE} destinations.")
    for one in values:
        _require_same_protocol(tx, route, have.get(_place_of(one)), one)
    for one in new:
        _add(tx, actor, route, found[one["app_guid"]], one)
    tx.ring("routes")


def replace(tx: Tx, actor: Actor, route: Row[Any], wanted: Sequence[Mapping[str, Any]]) -> None:
    """Make the route's destinations those that are wanted. Raises 422."""
    found = _apps(tx, actor, route, wanted)
    want = {_value_key(values): values for values in _distinct(wanted)}
    have = {_key(row): row for row in of_route(tx, route.guid)}
    for key, row in have.items():
        if key not in want or want[key]["weight"] != row.weight:
            _drop(tx, actor, row)
    for key, values in want.items():
        if key not in have or have[key].weight != values["weight"]:
            _add(tx, actor, route, found[values["app_guid"]], values)
    tx.ring("routes")


def remove(tx: Tx, actor: Actor, route: Row[Any], guid: str) -> None:
    """Remove one destination. Raises 422 when the route does not have it."""
    row = rows.by_guid(tx, destinations, guid)
    if row is None or row.route_guid != route.guid:
        raise unknown()
    if row.weight is not None:
        raise errors.unprocessable("Weighted destinations cannot be deleted individually.")
    _drop(tx, actor, row)
    tx.ring("routes")


def set_protocol(tx: Tx, route: Row[Any], row: Row[Any], protocol: str | None) -> Row[Any]:
    """Change what a destination is spoken to with; None for the usual. Raises 422."""
    if protocol == "tcp":
        raise errors.unprocessable(
            "Destination protocol must be 'http1' or 'http2' if the parent route's protocol is 'http'"
        )
    tx.ring("routes")
    return rows.change(tx, destinations, row, {"protocol": protocol})


def remove_all_of_app(tx: Tx, actor: Actor, app: Row[Any]) -> None:
    """Unmap an app from all its routes."""
    found = tx.all(select(destinations).where(destinations.c.app_guid == app.guid))
    for row in found:
        _drop(tx, actor, row)
    if found:
        tx.ring("routes")


def unknown() -> CloudError:
    """The error for a destination that the route does not have."""
    return errors.unprocessable(
        "Unable to unmap route from destination. Ensure the route has a destination with this guid."
    )


def _distinct(wanted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    values = [_values(one) for one in wanted]
    if len({_place_of(one) for one in values}) < len(values):
        raise errors.unprocessable("Destinations cannot contain duplicate entries")
    return values


def _require_same_protocol(tx: Tx, route: Row[Any], row: Row[Any] | None, values: Mapping[str, Any]) -> None:
    """Raises 422 when a destination that is there already is spoken to with something else."""
    if row is None or _key(row) == _value_key(values):
        return
    raise errors.unprocessable(
        f"Cannot add destination with protocol: {values['protocol'] or 'http1'}. Destination already exists for "
        f"route: {uri(tx, route)}, app: {row.app_guid}, process: {row.process_type}, "
        f"and protocol: {row.protocol or 'http1'}."
    )


def _values(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "app_guid": one["app"]["guid"],
        "process_type": (one["app"].get("process") or {}).get("type", "web"),
        "port": one.get("port"),
        "protocol": one.get("protocol"),
        "weight": one.get("weight"),
    }


def _place_of(values: Mapping[str, Any]) -> tuple[Any, ...]:
    return (values["app_guid"], values["process_type"], values["port"] or DEFAULT_PORT)


def _value_key(values: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*_place_of(values), values["protocol"] or "http1")


def _apps(tx: Tx, actor: Actor, route: Row[Any], wanted: Sequence[Mapping[str, Any]]) -> dict[str, Row[Any]]:
    guids = list(dict.fromkeys(one["app"]["guid"] for one in wanted))
    found = rows.by_guids(tx, apps, guids)
    missing = [guid for guid in guids if guid not in found]
    if missing:
        shown = '", "'.join(missing)
        raise errors.unprocessable(f'App(s) with guid(s) "{shown}" do not exist.')
    hidden = [guid for guid, app in found.items() if not access.may_read_space(tx, actor, app.space_guid)]
    if hidden:
        shown = '", "'.join(hidden)
        raise errors.unprocessable(f'App(s) with guid(s) "{shown}" you do not have access.')
    shares = select(route_shares.c.space_guid).where(route_shares.c.route_guid == route.guid)
    allowed = {route.space_guid, *tx.scalars(shares)}
    if any(app.space_guid not in allowed for app in found.values()):
        raise errors.unprocessable(
            "Routes destinations must be in either the route's space or the route's shared spaces"
        )
    if any(one.get("protocol") == "tcp" for one in wanted):
        raise errors.unprocessable("Cannot use 'tcp' protocol for http routes; valid options are: [http1, http2].")
    return found


def _add(tx: Tx, actor: Actor, route: Row[Any], app: Row[Any], values: Mapping[str, Any]) -> None:
    ports = select(func.count(func.distinct(destinations.c.port))).where(destinations.c.app_guid == app.guid)
    if (tx.scalar(ports) or 0) >= MAX_PORTS and values["port"] is not None:
        raise errors.unprocessable(f"Process must have at most {MAX_PORTS} exposed ports.")
    _record(tx, "audit.app.map-route", actor, app, rows.add(tx, destinations, {**values, "route_guid": route.guid}))
    tx.ring("desired")


def _drop(tx: Tx, actor: Actor, row: Row[Any]) -> None:
    tx.run(delete(destinations).where(destinations.c.guid == row.guid))
    app = rows.by_guid(tx, apps, row.app_guid)
    if app is not None:
        _record(tx, "audit.app.unmap-route", actor, app, row)
    tx.ring("desired")


def _record(tx: Tx, type_: str, actor: Actor, app: Row[Any], row: Row[Any]) -> None:
    data = {
        "route_guid": row.route_guid,
        "app_port": row.port or DEFAULT_PORT,
        "destination_guid": row.guid,
        "process_type": row.process_type,
        "weight": row.weight,
    }
    audit.record(tx, type_, actor, app.guid, "app", app.name, data, space_guid=app.space_guid)
