"""Router groups, as the routing API keeps them (reference/cf-cli.md section (e)).

`default-tcp` exists from the first start and has no ports: this engine serves no TCP routes yet.
"""

import itertools
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select

from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.router_groups import router_groups

__all__ = ["DEFAULT_TCP", "InvalidGroup", "all_groups", "by_name", "create", "find", "remove", "set_ports"]

DEFAULT_TCP = "default-tcp"
_NUMBER = re.compile(r"[0-9]{1,5}", re.ASCII)
_LEAST, _MOST = 1024, 65535
_columns = router_groups.c


class InvalidGroup(ValueError):
    """A router group is not what it may be; the text says why, in the words of the routing API."""


def all_groups(tx: Tx) -> list[Row[Any]]:
    """All router groups, oldest first."""
    return list(tx.all(select(router_groups).order_by(_columns.id)))


def by_name(tx: Tx, name: str) -> Row[Any] | None:
    """The router group with this name."""
    return tx.one(select(router_groups).where(_columns.name == name))


def find(tx: Tx, guid: str) -> Row[Any] | None:
    """The router group with this guid."""
    return rows.by_guid(tx, router_groups, guid)


def create(tx: Tx, body: Mapping[str, Any]) -> tuple[Row[Any], bool]:
    """(group, whether it is new): one of the same name and type is given back as it is. Raises InvalidGroup."""
    name, kind, ports = (_text(body, field) for field in ("name", "type", "reservable_ports"))
    known = by_name(tx, name)
    if known is not None and known.type == kind:
        return known, False
    _require_valid(name, kind, ports)
    if known is not None:
        raise InvalidGroup(f"a router group named {name} exists already, with type {known.type}")
    return rows.add(tx, router_groups, {"name": name, "type": kind, "reservable_ports": ports}), True


def set_ports(tx: Tx, group: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Replace the reservable ports; everything else of a group is fixed. Raises InvalidGroup."""
    ports = _text(body, "reservable_ports")
    if ports == group.reservable_ports:
        return group
    _require_valid(group.name, group.type, ports)
    return rows.change(tx, router_groups, group, {"reservable_ports": ports})


def remove(tx: Tx, guid: str) -> bool:
    """Delete a group; False when there is none. Domains keep naming it, and take no more routes."""
    group = find(tx, guid)
    if group is None:
        return False
    rows.remove(tx, router_groups, [group.guid])
    return True


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidGroup(f"{name} must be a string")
    return value or ""


def _require_valid(name: str, kind: str, ports: str) -> None:
    if not name:
        raise InvalidGroup("missing name in router group")
    if len(name) > 255:
        raise InvalidGroup("name of a router group must have at most 255 characters")
    if not kind:
        raise InvalidGroup("missing type in router group")
    if kind not in {"tcp", "http"}:
        raise InvalidGroup(f"type of router group {name} must be tcp or http")
    if kind == "tcp" and not ports:
        raise InvalidGroup(f"missing reservable_ports in router group: {name}")
    if kind == "http" and ports:
        raise InvalidGroup("reservable ports are not supported for router groups of type http")
    if ports:
        _require_apart([_range(text) for text in ports.split(",")])


def _range(text: str) -> tuple[int, int]:
    ends = text.split("-")
    if len(ends) > 2:
        raise InvalidGroup(f"range ({text}) has too many '-' separators")
    if len(ends) == 1:
        return _port(text), _port(text)
    for end, what in zip(ends, ("a starting", "an ending"), strict=True):
        if not _NUMBER.fullmatch(end):
            raise InvalidGroup(f"range ({text}) requires {what} port")
    first, last = (int(end) for end in ends)
    if first > last:
        raise InvalidGroup(f"range ({text}) must be in ascending numeric order")
    return _port(ends[0]), _port(ends[1])


def _port(text: str) -> int:
    number = int(text) if _NUMBER.fullmatch(text) else 0
    if not _LEAST <= number <= _MOST:
        raise InvalidGroup(f"port must be between {_LEAST} and {_MOST}")
    return number


def _require_apart(ranges: list[tuple[int, int]]) -> None:
    ordered = sorted(ranges)
    for one, following in itertools.pairwise(ordered):
        if following[0] <= one[1]:
            raise InvalidGroup(f"Overlapping values: {_shown(one)} and {_shown(following)}")


def _shown(ports: tuple[int, int]) -> str:
    return str(ports[0]) if ports[0] == ports[1] else f"[{ports[0]}-{ports[1]}]"
