"""What the lists of users, groups and clients have in common: pages, order, chosen attributes, versions, times."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, func, select
from starlette.requests import Request

from cupola.store.database import Tx
from cupola.uaa.forms import parameters
from cupola.uaa.problems import scim

__all__ = ["MOST", "SCHEMAS", "Page", "millis", "page", "required_version"]

SCHEMAS = ["urn:scim:schemas:core:1.0"]
MOST = 500
"""Entries of one page."""
DEFAULT_COUNT = 100

Shown = Callable[[Tx, Sequence[Row[Any]]], list[dict[str, Any]]]


class Page:
    """Which page of a list is asked for."""

    def __init__(self, request: Request) -> None:
        query = parameters(request)
        self.filter = query.get("filter", "").strip()
        self.attributes = [name for name in query.get("attributes", "").split(",") if name]
        self.sort_by = query.get("sortBy", "")
        self.descending = query.get("sortOrder", "ascending").lower().startswith("desc")
        self.start = _number(query.get("startIndex"), 1, 1)
        self.count = min(_number(query.get("count"), DEFAULT_COUNT, 0), MOST)
        self.query = query


def _number(text: str | None, default: int, least: int) -> int:
    if text is None or not text.strip():
        return default
    plain = text.strip()
    if not (plain.lstrip("-").isascii() and plain.lstrip("-").isdigit() and len(plain) < 10):
        raise scim(400, "scim", f"Not a number: {text[:50]}")
    return max(int(plain), least)


def page(
    tx: Tx,
    asked: Page,
    table: Table,
    where: Sequence[ColumnElement[bool]],
    order: Mapping[str, Any],
    shown: Shown,
) -> dict[str, Any]:
    """One page of a list. `order`: names to sort by (in lower case) with their columns, the default under `""`."""
    column = order.get(asked.sort_by.lower())
    if column is None:
        raise scim(400, "scim", f"Invalid sort field: [{asked.sort_by[:100]}]")
    key = next(iter(table.primary_key.columns))
    ordered = select(table).where(*where).order_by(column.desc() if asked.descending else column.asc(), key.asc())
    total = tx.scalar(select(func.count()).select_from(table).where(*where))
    rows = tx.all(ordered.limit(asked.count).offset(asked.start - 1)) if asked.count else []
    resources = shown(tx, rows)
    if asked.attributes:
        resources = [chosen(one, asked.attributes) for one in resources]
    return {
        "resources": resources,
        "startIndex": asked.start,
        "itemsPerPage": asked.count,
        "totalResults": total,
        "schemas": SCHEMAS,
    }


def chosen(resource: dict[str, Any], attributes: Sequence[str]) -> dict[str, Any]:
    """A resource's wanted attributes; `emails.value` reaches into objects and lists. Unknown ones are left out."""
    found: dict[str, Any] = {}
    for name in attributes:
        value = _reached(resource, name.split("."))
        if value is not None:
            found[name] = value
    return found


def _reached(value: Any, path: Sequence[str]) -> Any:
    if not path:
        return value
    if isinstance(value, list):
        return [one for one in (_reached(entry, path) for entry in value) if one is not None]
    if not isinstance(value, dict):
        return None
    wanted = path[0].lower()
    name = next((key for key in value if key.lower() == wanted), None)
    return None if name is None else _reached(value[name], path[1:])


def required_version(request: Request, id_: str, current: int, noun: str, method: str) -> None:
    """Compare the If-Match header of a change with the version of what is changed. Raises 400, 409."""
    given = request.headers.get("if-match")
    if given is None:
        raise scim(400, "scim", f"Missing If-Match for {method}")
    plain = given.strip().removeprefix("W/").strip('"')
    if plain == "*":
        return
    if not (plain.isascii() and plain.isdigit() and len(plain) < 10):
        raise scim(400, "scim", f"Invalid version match header (should be a version number): {given[:50]}")
    if int(plain) != current:
        text = f"Attempt to update a {noun} ({id_}) with wrong version: expected={current} but found={int(plain)}"
        raise scim(409, "scim_resource_conflict", text)


def millis(value: int | None) -> str | None:
    """Microseconds since 1970 as UAA writes them: `2026-11-24T10:00:00.000Z`."""
    if value is None:
        return None
    moment = datetime.fromtimestamp(value // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{value // 1000 % 1000:03d}Z"
