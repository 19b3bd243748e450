"""Plans of lists: what a regular user may see is found through indexes, never by reading a big table to its end.

Every list that is not the same for everybody is explained by both databases, as it is and with each of its filters. The
tables are empty: PostgreSQL is told to avoid full scans and the joins that need them, so that it shows one only where it
has no other way, and SQLite plans by its indexes alone.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from cupola.api.table import OPERATIONS
from cupola.rest import listing
from cupola.rest.operation import Call, Operation
from cupola.rest.query import Query
from cupola.rest.resource import Filter
from cupola.roles import READ_SCOPES, Actor
from cupola.store.database import Database

REGULAR = Actor(guid="somebody", name="somebody", scopes=frozenset({"cloud_controller.read"}))
SMALL = {"security_groups", "registry_credentials", "domains", "service_offerings", "service_plans"}
"""Tables of which a platform has some hundreds of rows, and most of them are everybody's."""
UNUSED = {"ix_service_plan_visibilities_organization_guid"}
"""Read by a part of a plan that is never executed: it is for callers with many roles (service_plan_visibility.py)."""
RESTRICTED = [
    operation
    for operation in OPERATIONS
    if operation.listing is not None and operation.listing.resource.visible(REGULAR) is not None
]
VALUES = {"bool": "true", "one": "2"}


def _queries(operation: Operation) -> Iterator[str]:
    """The list itself, and each of its parameters alone."""
    assert operation.listing is not None
    resource = operation.listing.resource
    yield ""
    yield "order_by=-created_at"
    for filter_ in resource.filters:
        if operation.listing.filters is None or filter_.name in operation.listing.filters:
            yield f"{filter_.name}={_value(filter_)}"
    for name in resource.timestamps:
        yield f"{name}[gt]=2026-01-01T00:00:00Z"
    if resource.labels:
        yield "label_selector=team=red"


def _value(filter_: Filter) -> str:
    if filter_.choices:
        return filter_.choices[0]
    return VALUES.get(filter_.kind, "2")


def _statement(operation: Operation, query: str) -> tuple[Any, dict[str, Any]]:
    """The statement that finds a page of the list and its length, with its values."""
    assert operation.listing is not None
    call: Any = Call(
        tx=None,  # type: ignore[arg-type]  # nothing is executed while a statement is built
        actor=REGULAR,
        row=SimpleNamespace(guid="parent"),
        body=None,
        query=Query(query.encode(), **listing.known(operation.listing)),
        path={},
        services=None,  # type: ignore[arg-type]  # as above
        operation=operation,
    )
    statements, values = listing._statements(call, operation.listing)
    assert statements.together is not None
    return statements.together.statement, {**values, "page_limit": 50, "page_offset": 0}


@contextmanager
def _explaining(database: Database, how: str) -> Iterator[Connection]:
    """A connection whose statements are explained rather than executed."""

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return how + statement, parameters

    with database.engine.connect() as connection:
        if not database.is_sqlite:
            for setting in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_material", "jit"):
                connection.execute(text(f"SET {setting} = off"))
        event.listen(connection, "before_cursor_execute", explain, retval=True)
        yield connection


def _read_through(nodes: list[dict[str, Any]]) -> Iterator[str]:
    """Tables that a plan of PostgreSQL reads from one end to the other."""
    for node in nodes:
        table = node.get("Relation Name")
        kind = node["Node Type"]
        if table is not None and (kind == "Seq Scan" or (kind.startswith("Index") and "Index Cond" not in node)):
            yield table
        if kind == "Bitmap Index Scan" and "Index Cond" not in node:
            yield node["Index Name"]
        yield from _read_through(node.get("Plans", []))


def _scanned(connection: Connection, statement: Any, values: dict[str, Any]) -> set[str]:
    plan = connection.execute(statement, values).all()
    if connection.dialect.name == "postgresql":
        (found,) = plan[0]
        return set(_read_through([one["Plan"] for one in (json.loads(found) if isinstance(found, str) else found)]))
    found = set()
    for row in plan:
        detail = row[-1]
        scan = re.match(r"SCAN (\w+)", detail)
        if scan and scan[1] not in {"seen", "CONSTANT"}:
            found.add(re.sub(r"_\d+$", "", scan[1]))
        assert "AUTOMATIC" not in detail, f"an index is made for each request: {detail}"
    return found


def test_no_list_of_a_regular_user_reads_a_big_table_through(fresh_database: Database) -> None:
    assert READ_SCOPES.issuperset(REGULAR.scopes)
    how = "EXPLAIN QUERY PLAN " if fresh_database.is_sqlite else "EXPLAIN (FORMAT JSON) "
    bad = []
    with _explaining(fresh_database, how) as connection:
        for operation in RESTRICTED:
            for query in _queries(operation):
                statement, values = _statement(operation, query)
                scanned = _scanned(connection, statement, values) - SMALL - UNUSED
                if scanned:
                    bad.append(f"{operation.path}?{query} reads {', '.join(sorted(scanned))}")
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("path", ["/v3/roles", "/v3/apps", "/v3/audit_events", "/v3/routes", "/v3/domains"])
def test_restricted_lists_are_among_those(path: str) -> None:
    assert path in {operation.path for operation in RESTRICTED}
