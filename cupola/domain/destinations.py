"""Destinations: which process of which app answers at a route."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, delete, func, select

from cupola import errors
from cupola.domain import access, audit
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.routes import destinations, route_shares, routes

__all__ = ["insert", "of_route", "of_routes", "problems", "remove", "replace", "set_protocol"]

MAX_PER_ROUTE = 100
_KEYS = {"app", "port", "protocol", "weight"}


def problems(value: Any, *, least: int, weights: bool) -> list[str]:
    """What is wrong with the form of a list of destinations; complete sentences."""
    between = f"Destinations must be an array containing between {least} and 100 destination objects."
    if not isinstance(value, list) or not least <= len(value) <= 100:
        return [between]
    found: list[str] = []
    for index, one in enumerate(value):
        found.extend(f"Destinations[{index}]: {problem}" for problem in _one_problem(one, weights=weights))
    if not found and len({_identity(one) for one in value}) < len(value):
        found.append("Destinations cannot contain duplicate entries")
    if not found and weights:
        given = [one["weight"] for one in value if one.get("weight") is not None]
        if given and len(given) < len(value):
            found.append("Destinations cannot contain both weighted and unweighted destinations")
        elif given and sum(given) != 100:
            found.append("Destinations must have weights that add up to 100")
    return found


def _one_problem(one: Any, *, weights: bool) -> list[str]:
    if not isinstance(one, dict) or set(one) - _KEYS:
        return ['must be a hash with the keys "app", and optionally "port", "protocol" and "weight".']
    app = one.get("app")
    if not isinstance(app, dict) or set(app) - {"guid", "process"} or not isinstance(app.get("guid"), str):
        return ['app must have the structure {"guid": "app_guid"}']
    process = app.get("process")
    if process is not None and (
        not isinstance(process, dict) or not isinstance(process.get("type"), str) or not process["type"]
    ):
        return ['process must have the structure {"type": "process_type"}']
    port = one.get("port")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 1024 <= port <= 65535):
        return ["port must be a positive integer between 1024 and 65535 inclusive."]
    weight = one.get("weight")
    if weight is not None and not weights:
        return ["weighted destinations can only be used when replacing all destinations."]
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= 100):
        return ["weight must be a positive integer between 1 and 100."]
    if one.get("protocol") not in {None, "http1", "http2", "tcp"}:
        return ["protocol must be 'http1', 'http2' or 'tcp'."]
    return []


def _identity(one: Mapping[str, Any]) -> tuple[Any, ...]:
    process = one["app"].get("process") or {}
    return (one["app"]["guid"], process.get("type", "web"), one.get("port"), one.get("protocol"))


def _key(row: Any) -> tuple[Any, ...]:
    return (row.app_guid, row.process_type, row.port or 8080, row.protocol or "http1")


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
    have = {_key(row) for row in of_route(tx, route.guid)}
    new = [values for values in map(_values, wanted) if _value_key(values) not in have]
    if len(have) + len(new) > MAX_PER_ROUTE:
        raise errors.unprocessable(f"Routes can be mapped to at most {MAX_PER_ROUTE} destinations.")
    for values in new:
        _add(tx, actor, route, found[values["app_guid"]], values)
    tx.ring("routes")


def replace(tx: Tx, actor: Actor, route: Row[Any], wanted: Sequence[Mapping[str, Any]]) -> None:
    """Make the route's destinations those that are wanted. Raises 422."""
    found = _apps(tx, actor, route, wanted)
    want = {_value_key(values): values for values in map(_values, wanted)}
    have = {_key(row): row for row in of_route(tx, route.guid)}
    for key, row in have.items():
        if key not in want or want[key]["weight"] != row.weight:
            _drop(tx, actor, route, row)
    for key, values in want.items():
        if key not in have or have[key].weight != values["weight"]:
            _add(tx, actor, route, found[values["app_guid"]], values)
    tx.ring("routes")


def remove(tx: Tx, actor: Actor, route: Row[Any], guid: str) -> None:
    """Remove one destination. Raises 422 when the route does not have it."""
    row = rows.by_guid(tx, destinations, guid)
    if row is None or row.route_guid != route.guid:
        raise errors.unprocessable(
            "Unable to unmap route from destination. Ensure the route has a destination with this guid."
        )
    if row.weight is not None:
        raise errors.unprocessable("Weighted destinations cannot be deleted individually.")
    _drop(tx, actor, route, row)
    tx.ring("routes")


def set_protocol(tx: Tx, route: Row[Any], row: Row[Any], protocol: str | None) -> Row[Any]:
    """Change what a destination is spoken to with."""
    if protocol == "tcp":
        raise errors.unprocessable("Cannot use 'tcp' protocol for http routes; valid options are: [http1, http2].")
    tx.ring("routes")
    return rows.change(tx, destinations, row, {"protocol": protocol})


def remove_all_of_app(tx: Tx, actor: Actor, app: Row[Any]) -> None:
    """Unmap an app from all its routes."""
    found = tx.all(select(destinations).where(destinations.c.app_guid == app.guid))
    by_guid = rows.by_guids(tx, routes, [row.route_guid for row in found])
    for row in found:
        _drop(tx, actor, by_guid[row.route_guid], row)
    if found:
        tx.ring("routes")


def _values(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "app_guid": one["app"]["guid"],
        "process_type": (one["app"].get("process") or {}).get("type", "web"),
        "port": one.get("port"),
        "protocol": one.get("protocol"),
        "weight": one.get("weight"),
    }


def _value_key(values: Mapping[str, Any]) -> tuple[Any, ...]:
    return (values["app_guid"], values["process_type"], values["port"] or 8080, values["protocol"] or "http1")


def _apps(tx: Tx, actor: Actor, route: Row[Any], wanted: Sequence[Mapping[str, Any]]) -> dict[str, Row[Any]]:
    guids = list(dict.fromkeys(one["app"]["guid"] for one in wanted))
    found = rows.by_guids(tx, apps, guids)
    missing = [guid for guid in guids if guid not in found]
    if missing:
        shown = '", "'.join(missing)
        raise errors.unprocessable(f'App(s) with guid(s) "{shown}" do not exist.')
    hidden = [
        guid for guid, app in found.items() if not access.has_in_space(tx, actor, app.space_guid, access.MANAGE_APPS)
    ]
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
    if (tx.scalar(ports) or 0) >= 10 and values["port"] is not None:
        raise errors.unprocessable("Apps can have at most 10 exposed ports.")
    rows.add(tx, destinations, {**values, "route_guid": route.guid})
    _record(tx, "audit.app.map-route", actor, route, app, values["process_type"], values["weight"])
    tx.ring("desired")


def _drop(tx: Tx, actor: Actor, route: Row[Any], row: Row[Any]) -> None:
    tx.run(delete(destinations).where(destinations.c.guid == row.guid))
    app = rows.by_guid(tx, apps, row.app_guid)
    if app is not None:
        _record(tx, "audit.app.unmap-route", actor, route, app, row.process_type, row.weight)
    tx.ring("desired")


def _record(
    tx: Tx, type_: str, actor: Actor, route: Row[Any], app: Row[Any], process_type: str, weight: int | None
) -> None:
    data = {"route_guid": route.guid, "app_port": None, "process_type": process_type, "weight": weight}
    audit.record(tx, type_, actor, app.guid, "app", app.name, data, space_guid=app.space_guid)
