"""Conditions in the form in which a database answers them quickly; what they mean stays as it was.

Nouns say naturally who sees what: `space_guid IN (SELECT ...) OR guid IN (SELECT ...)`. Two things make that slow. An OR
over several tables is answered by reading the whole table: `alternatives` and `as_union` make it sets of keys, each found
through an index. And for a single row the set that it might be in is made first: `as_exists` looks for that row alone.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, Table, and_, exists, literal_column, or_, select, union, union_all
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList
from sqlalchemy.sql.selectable import CompoundSelect, SelectBase, SelectStatementGrouping
from sqlalchemy.sql.util import ClauseAdapter

__all__ = ["alternatives", "as_exists", "as_union", "key_of", "members"]

_ONE: ColumnElement[Any] = literal_column("1")
_UNIONS = tuple(union_(select(_ONE)).keyword for union_ in (union, union_all))


def key_of(table: Table) -> Column[Any]:
    """The column of the primary key, which is always a single one."""
    (column,) = table.primary_key.columns
    return column


def alternatives(condition: ColumnElement[bool]) -> list[ColumnElement[bool]]:
    """The parts of an OR that looks into other tables; any other condition alone."""
    if not isinstance(condition, BooleanClauseList) or condition.operator is not operators.or_:
        return [condition]
    if not any(isinstance(element, SelectBase) for element in visitors.iterate(condition)):
        return [condition]
    return list(condition.clauses)


def as_union(table: Table, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """An OR that looks into other tables, as a set of keys of `table`; any other condition as it is."""
    parts = alternatives(condition)
    if len(parts) == 1:
        return condition
    key = key_of(table)
    return key.in_(union(*(select(key).where(part).correlate(None) for part in parts)))


def members(table: Table, conditions: Sequence[ColumnElement[bool]]) -> Select[Any] | None:
    """The references to rows of `table` that are all of `conditions`, each once: to count these needs no `table`.

    None where a condition is anything else than a set of references, which the database keeps to rows that exist.
    """
    if len(conditions) != 1:
        return None
    (condition,) = conditions
    if not isinstance(condition, BinaryExpression) or condition.operator is not operators.in_op:
        return None
    inside = getattr(condition.right, "element", None)
    if not isinstance(inside, Select) or not _is_plain(inside):
        return None
    column, (reference,) = condition.left, inside.selected_columns
    if not isinstance(column, Column) or column.table is not table or not isinstance(reference, Column):
        return None
    return inside.where(reference.is_not(None)).distinct() if reference.references(column) else None


def as_exists(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Every `column IN (SELECT ...)` as an EXISTS about the row that is asked about."""

    def replace(element: Any, **_: Any) -> Any:
        if isinstance(element, BinaryExpression) and element.operator is operators.in_op:
            inside = getattr(element.right, "element", None)
            if isinstance(inside, SelectBase):
                return _found(element.left, inside)
        return None

    replaced: ColumnElement[bool] = visitors.replacement_traverse(condition, {}, replace)
    return replaced


def _found(column: ColumnElement[Any], inside: Any) -> ColumnElement[bool] | None:
    if isinstance(inside, SelectStatementGrouping):
        return _found(column, inside.element)
    if isinstance(inside, CompoundSelect) and inside.keyword in _UNIONS:
        parts = [_found(column, part) for part in inside.selects]
        known = [part for part in parts if part is not None]
        return or_(*known) if len(known) == len(parts) else None
    if not isinstance(inside, Select) or not _is_plain(inside):
        return None
    where = and_(True, *(as_exists(one) for one in inside._where_criteria))
    (wanted,) = inside.selected_columns
    # The same table may be asked further out: each level has a name of its own for it.
    for table in inside.get_final_froms():
        adapter = ClauseAdapter(table.alias())
        where, wanted = adapter.traverse(where), adapter.traverse(wanted)
    return exists(select(_ONE).where(where, wanted == column))


def _is_plain(inside: Select[Any]) -> bool:
    """Columns of tables and conditions, nothing else that would have to be kept."""
    extras = (inside._limit_clause, inside._offset_clause, inside._group_by_clauses, inside._having_criteria)
    return (
        len(inside.selected_columns) == 1
        and all(isinstance(one, Table) for one in inside.get_final_froms())
        and not any(extra is not None and extra != () for extra in extras)
        and not inside._distinct
    )
