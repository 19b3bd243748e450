"""Finding the rows of a page, near the start of a list and far into it.

Pages have numbers, and a number alone means counting rows (OFFSET), which takes longer the deeper the page is. So deep
pages are found in two other ways: who walks through a list goes on from the row where the last page ended, and a page
in the second half is counted from the end. Near the start, where it costs nothing, a page is always counted.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import CTE, Column, ColumnElement, Row, Select, and_, asc, bindparam, desc, func, select, tuple_, union
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BinaryExpression, BindParameter
from sqlalchemy.sql.functions import FunctionElement

from cupola.rest.conditions import alternatives, as_exists, members
from cupola.store import counts
from cupola.store.database import Tx
from cupola.store.prepared import Prepared

__all__ = ["DEEP", "Statements", "rows"]

DEEP = 1000
"""Rows before a page from which on it is deep."""
_MANY = 2000
"""Rows from which on SQLite is not to sort all that match before it has looked for a page among the first of the table."""
_AMONG = 20
"""So many times the rows that a page needs are looked through: where one in twenty matches, the page is found."""
_TOTAL = "rows_in_list"
_BOOKMARK_SECONDS = 60.0
_MAX_BOOKMARKS = 10_000

Order = Sequence[tuple[Column[Any], bool]]
"""Columns and whether they descend."""


class Statements:
    """The statements of one list in one shape: by number, from the end, from a row on, and how many there are.

    `base` is the list without conditions, `where` what is asked for, `visible` what the caller may see (None: everything).
    To find out what somebody may see is most of the work, and so is to send a hundred guids: `together` does it once for
    the page and the count.
    """

    def __init__(
        self,
        base: Select[Any],
        where: Sequence[ColumnElement[bool]],
        visible: ColumnElement[bool] | None,
        order: Order,
        key: Column[Any],
    ) -> None:
        self.columns = [column for column, _ in order]
        self.together: Prepared | None = None
        self.known: Prepared | None = None
        self.after: Prepared | None = None
        # Without any condition, also one that is always true, SQLite counts pages rather than rows.
        statement = base.where(and_(*where)) if where else base
        if visible is not None or any(_names_rows(one) for one in where):
            seen = self._seen(statement, visible, key)
            self.count = Prepared(select(func.count()).select_from(seen))
            self.together = Prepared(_together(base, seen, order, key))
            return
        self.count = Prepared(_counted(statement, base, where, key))
        known = counts.known(key.table) if _is_whole(base, key) and not where else None
        self.known = None if known is None else Prepared(known)
        # To sort by what a condition's index does not give, a database reads all that match: of these the key alone.
        narrow = key if where else None
        self.among = Prepared(_among(base, where, order, key)) if where and _is_ordered(order[0][0]) else None
        self.forward = Prepared(_limited(statement, base, order, narrow))
        self.backward = Prepared(_limited(statement, base, [(column, not down) for column, down in order], narrow))
        # Rows are compared as a whole, which needs one direction and values that are never NULL.
        if len({down for _, down in order}) == 1 and not any(column.nullable for column in self.columns):
            ends = tuple_(*(bindparam(f"seek_{at}", type_=column.type) for at, column in enumerate(self.columns)))
            here = tuple_(*self.columns)
            limited = statement.limit(bindparam("page_limit")).order_by(*_sorted(order))
            self.after = Prepared(limited.where(here < ends if order[0][1] else here > ends))

    def _seen(self, statement: Select[Any], visible: ColumnElement[bool] | None, key: Column[Any]) -> CTE:
        needed = dict.fromkeys([key, *self.columns])
        keys = statement.with_only_columns(*needed, maintain_column_froms=True).order_by(None)
        parts = [keys] if visible is None else [keys.where(part) for part in alternatives(visible)]
        return (parts[0] if len(parts) == 1 else union(*parts)).cte("seen")


def _names_rows(condition: ColumnElement[bool]) -> bool:
    """Whether no more rows can match than values are given."""
    if not isinstance(condition, BinaryExpression) or condition.operator not in {operators.eq, operators.in_op}:
        return False
    column = condition.left
    is_key = isinstance(column, Column) and bool(column.unique or column.primary_key)
    return is_key and isinstance(condition.right, BindParameter)


def _together(base: Select[Any], seen: CTE, order: Order, key: Column[Any]) -> Select[Any]:
    sort = [desc(seen.c[column.name]) if down else asc(seen.c[column.name]) for column, down in order]
    keys = select(seen.c[key.name]).order_by(*sort)
    page = keys.limit(bindparam("page_limit")).offset(bindparam("page_offset"))
    total = select(func.count()).select_from(seen).scalar_subquery().label(_TOTAL)
    return base.add_columns(total).where(key.in_(page)).order_by(*_sorted(order))


def _limited(statement: Select[Any], base: Select[Any], order: Order, narrow: Column[Any] | None) -> Select[Any]:
    limit: BindParameter[int] = bindparam("page_limit")
    offset: BindParameter[int] = bindparam("page_offset")
    if narrow is None:
        return statement.limit(limit).offset(offset).order_by(*_sorted(order))
    keys = statement.with_only_columns(narrow, maintain_column_froms=True).order_by(None)
    found = keys.order_by(*_sorted([(_NotByIndex(column), down) for column, down in order])).limit(limit).offset(offset)
    return base.where(narrow.in_(found.correlate(None))).order_by(*_sorted(order))


def _counted(
    statement: Select[Any], base: Select[Any], where: Sequence[ColumnElement[bool]], key: Column[Any]
) -> Select[Any]:
    found = members(key.table, where) if _is_whole(base, key) else None
    if found is not None:
        return select(func.count()).select_from(found.subquery())
    # Without this, a statement that names its table in the result columns alone would count one row of nothing.
    return statement.with_only_columns(func.count(), maintain_column_froms=True).order_by(None)


def _is_whole(base: Select[Any], key: Column[Any]) -> bool:
    return base.whereclause is None and list(base.get_final_froms()) == [key.table]


def _is_ordered(column: Column[Any]) -> bool:
    """Whether the table can be read in the order of this column."""
    leads = any(next(iter(index.columns)) is column for index in column.table.indexes)
    return leads or bool(column.primary_key or column.unique)


def _among(base: Select[Any], where: Sequence[ColumnElement[bool]], order: Order, key: Column[Any]) -> Select[Any]:
    """The rows of a page that are among the first `page_among` of the table: a whole page of them is the page."""

    def plain(element: Any, **_: Any) -> Any:
        return _NotByIndex(element) if isinstance(element, Column) and element.table is key.table else None

    first = select(key).order_by(*_sorted(order)).limit(bindparam("page_among")).correlate(None)
    conditions = [visitors.replacement_traverse(as_exists(one), {}, plain) for one in where]
    limited = base.where(key.in_(first), *conditions).limit(bindparam("page_limit")).offset(bindparam("page_offset"))
    return limited.order_by(*_sorted(order))


class _NotByIndex(FunctionElement[Any]):
    """A column to sort by. SQLite, which keeps no statistics, would read through a whole table that has this order rather
    than use the index of a condition on a range."""

    inherit_cache = True


@compiles(_NotByIndex)
def _plainly(element: _NotByIndex, compiler: SQLCompiler, **more: Any) -> str:
    return compiler.process(element.clauses, **more)


@compiles(_NotByIndex, "sqlite")
def _on_sqlite(element: _NotByIndex, compiler: SQLCompiler, **more: Any) -> str:
    return "+" + compiler.process(element.clauses, **more)


def _sorted(order: Sequence[tuple[ColumnElement[Any], bool]]) -> list[ColumnElement[Any]]:
    return [desc(column) if down else asc(column) for column, down in order]


class _Bookmarks:
    """Where pages ended, for a minute; bounded. A lost one costs time only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[Any, tuple[float, dict[str, Any]]] = OrderedDict()

    def get(self, key: Any) -> dict[str, Any] | None:
        with self._lock:
            found = self._known.get(key)
        return found[1] if found is not None and found[0] > time.monotonic() else None

    def put(self, key: Any, end: dict[str, Any]) -> None:
        with self._lock:
            self._known[key] = (time.monotonic() + _BOOKMARK_SECONDS, end)
            self._known.move_to_end(key)
            if len(self._known) > _MAX_BOOKMARKS:
                self._known.popitem(last=False)


_bookmarks = _Bookmarks()


def rows(
    tx: Tx, statements: Statements, values: Mapping[str, Any], number: int, per_page: int, reader: str
) -> tuple[Sequence[Row[Any]], int]:
    """The rows of page `number` and how many there are in all. `reader` (a guid) goes on only from its own pages."""
    offset = (number - 1) * per_page
    values = {**values, "page_limit": per_page, "page_offset": offset}
    total: int | None
    if statements.together is not None:
        found = tx.all(statements.together, values)
        return found, found[0]._mapping[_TOTAL] if found else _none(tx, statements, values)
    if offset < DEEP:
        found, total = _near(tx, statements, values, offset, per_page)
    else:
        found, total = _deep(tx, statements, values, number, per_page, reader)
    if offset + per_page >= DEEP and len(found) == per_page and statements.after is not None:
        _bookmarks.put(_place(statements, values, number + 1, per_page, reader), _end(statements, found[-1]))
    return found, _total(tx, statements, values) if total is None else total


def _near(
    tx: Tx, statements: Statements, values: dict[str, Any], offset: int, per_page: int
) -> tuple[Sequence[Row[Any]], int | None]:
    """PostgreSQL knows how many rows match and chooses a way; for SQLite, which has no statistics, they are counted."""
    if statements.among is None or tx.connection.dialect.name != "sqlite":
        found = tx.all(statements.forward, values)
        return found, _told(found, offset, per_page)
    total: int = _total(tx, statements, values)
    if total <= offset:
        return [], total
    if total > _MANY:
        among = min(total, _AMONG * (offset + per_page))
        found = tx.all(statements.among, {**values, "page_among": among})
        if len(found) == per_page:
            return found, total
    return tx.all(statements.forward, values), total


def _total(tx: Tx, statements: Statements, values: Mapping[str, Any]) -> int:
    """How many rows the list has."""
    total: int
    if statements.known is not None and tx.connection.dialect.name == "postgresql":
        total = tx.scalar(statements.known)
    else:
        total = tx.scalar(statements.count, values)
    return total


def _none(tx: Tx, statements: Statements, values: Mapping[str, Any]) -> int:
    """How many there are, where a page has none of them."""
    return 0 if values["page_offset"] == 0 else _total(tx, statements, values)


def _told(found: Sequence[Row[Any]], offset: int, per_page: int) -> int | None:
    """The number of all rows, where the page itself tells it."""
    if 0 < len(found) < per_page:
        return offset + len(found)
    return 0 if not found and offset == 0 else None


def _deep(
    tx: Tx, statements: Statements, values: dict[str, Any], number: int, per_page: int, reader: str
) -> tuple[Sequence[Row[Any]], int]:
    total: int = _total(tx, statements, values)
    offset = values["page_offset"]
    if offset >= total:
        return [], total
    end = _bookmarks.get(_place(statements, values, number, per_page, reader))
    if end is not None and statements.after is not None:
        return tx.all(statements.after, {**values, **end}), total
    rest = total - offset
    if rest > offset:
        return tx.all(statements.forward, values), total
    from_end = {**values, "page_limit": min(rest, per_page), "page_offset": max(0, rest - per_page)}
    return list(reversed(tx.all(statements.backward, from_end))), total


def _place(statements: Statements, values: Mapping[str, Any], number: int, per_page: int, reader: str) -> Any:
    asked = tuple(
        (name, tuple(value) if isinstance(value, list) else value)
        for name, value in values.items()
        if name not in {"page_limit", "page_offset"}
    )
    return statements, reader, number, per_page, asked


def _end(statements: Statements, row: Row[Any]) -> dict[str, Any]:
    return {f"seek_{at}": row._mapping[column] for at, column in enumerate(statements.columns)}
