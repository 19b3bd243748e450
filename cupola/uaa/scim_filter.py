"""SCIM filters, `userName eq "a" or (origin eq "uaa" and id pr)`, to conditions of SQL. Values are always parameters.

The grammar is that of SCIM 1.0 as UAA reads it: names and operators in any case, strings in double quotes and compared
without case, `and` before `or`, parentheses.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, func, or_

from cupola.uaa.problems import scim

__all__ = ["Attribute", "condition"]

_TOKEN = re.compile(r'\s*(?:(\()|(\))|"((?:[^"\\]|\\.)*)"|([^\s()"]+))')
_MAX_CHARACTERS = 50_000
_MAX_DEPTH = 50
_MAX_COMPARISONS = 400
"""Comparisons that become one SQL expression each; `eq` of one attribute joined by `or` is a single one."""
OPERATORS = frozenset({"eq", "co", "sw", "pr", "gt", "ge", "lt", "le"})


@dataclass(frozen=True)
class Attribute:
    """What a name in a filter stands for. `kind`: text, folded (text stored in lower case), flag, time, or function
    (`column` makes the condition of `eq` itself)."""

    column: Any
    kind: str = "text"


@dataclass(frozen=True)
class Equal:
    """`eq` on a text, not yet SQL, so that many of them can become one IN."""

    attribute: Attribute
    value: str


class _FilterProblem(Exception):
    """A filter that cannot be parsed, before it is worded for the endpoint."""


Term = ColumnElement[bool] | Equal
Check = Callable[[str, str], None]


def condition(
    text: str,
    attributes: Mapping[str, Attribute],
    check: Check | None = None,
    wording: str = "Invalid filter expression: [{}]",
) -> ColumnElement[bool]:
    """Parse a filter on `attributes` (names in lower case). Raises 400 `scim`.

    `check(attribute, operator)` may refuse what an endpoint does not offer, by a Problem of its own.
    """
    try:
        return _sql(_Parser(text, attributes, check).parsed())
    except _FilterProblem:
        raise scim(400, "scim", wording.format(text[:200])) from None


def _sql(term: Term) -> ColumnElement[bool]:
    return _equal(term.attribute, [term.value]) if isinstance(term, Equal) else term


def _equal(attribute: Attribute, values: list[str]) -> ColumnElement[bool]:
    column: Any = attribute.column
    if attribute.kind == "folded":
        found: ColumnElement[bool] = column.in_([value.lower() for value in values])
        return found
    if len(values) == 1:
        return func.lower(column) == func.lower(values[0])
    # One IN, however many there are. Databases fold ASCII alike; what is beyond it is compared as it is written, too.
    return or_(func.lower(column).in_([value.lower() for value in values]), column.in_(values))


class _Parser:
    def __init__(self, text: str, attributes: Mapping[str, Attribute], check: Check | None) -> None:
        self._attributes = attributes
        self._check = check
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0
        self._comparisons = 0

    def parsed(self) -> Term:
        found = self._alternatives()
        if self._at < len(self._tokens):
            raise _FilterProblem
        return found

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise _FilterProblem
        self._at += 1
        return self._tokens[self._at - 1]

    def _accept(self, word: str) -> bool:
        if self._at < len(self._tokens):
            kind, value = self._tokens[self._at]
            if kind == "word" and value.lower() == word:
                self._at += 1
                return True
        return False

    def _alternatives(self) -> Term:
        found = [self._all()]
        while self._accept("or"):
            found.append(self._all())
        if len(found) == 1:
            return found[0]
        equal: dict[Attribute, list[str]] = {}
        others: list[ColumnElement[bool]] = []
        for term in found:
            if isinstance(term, Equal):
                equal.setdefault(term.attribute, []).append(term.value)
            else:
                others.append(term)
        return or_(*others, *(_equal(attribute, values) for attribute, values in equal.items()))

    def _all(self) -> Term:
        found = [self._one()]
        while self._accept("and"):
            found.append(self._one())
        return found[0] if len(found) == 1 else and_(*(_sql(term) for term in found))

    def _one(self) -> Term:
        kind, value = self._next()
        if kind == "(":
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise _FilterProblem
            inner = self._alternatives()
            if self._next()[0] != ")":
                raise _FilterProblem
            self._depth -= 1
            return inner
        operator_kind, operator = self._next()
        attribute, operator = self._attributes.get(value.lower()), operator.lower()
        if kind != "word" or operator_kind != "word" or operator not in OPERATORS:
            raise _FilterProblem
        if self._check is not None:
            self._check(value, operator)
        if attribute is None:
            raise _FilterProblem
        if operator == "pr":
            return self._counted(_present(attribute))
        return self._compared(attribute, operator, *self._next())

    def _counted(self, found: ColumnElement[bool]) -> ColumnElement[bool]:
        self._comparisons += 1
        if self._comparisons > _MAX_COMPARISONS:
            raise _FilterProblem
        return found

    def _compared(self, attribute: Attribute, operator: str, kind: str, value: str) -> Term:
        if kind not in {"word", "text"}:
            raise _FilterProblem
        if kind == "text":
            value = re.sub(r"\\(.)", r"\1", value)
        if attribute.kind == "flag":
            return self._counted(_flag(attribute, operator, value))
        if kind != "text":
            raise _FilterProblem
        if attribute.kind == "function":
            if operator != "eq":
                raise _FilterProblem
            made: ColumnElement[bool] = attribute.column(value)
            return self._counted(made)
        if attribute.kind == "time":
            return self._counted(_ordered(attribute.column, operator, _micros(value)))
        if operator == "eq":
            return Equal(attribute, value)
        return self._counted(_text(attribute, operator, value))


def _tokens(text: str) -> list[tuple[str, str]]:
    if len(text) > _MAX_CHARACTERS or "\0" in text:
        raise _FilterProblem
    found: list[tuple[str, str]] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise _FilterProblem
        at = match.end()
        opening, closing, quoted, word = match.groups()
        if opening or closing:
            found.append((opening or closing, ""))
        else:
            found.append(("text", quoted) if quoted is not None else ("word", word))
    return found


def _present(attribute: Attribute) -> ColumnElement[bool]:
    if attribute.kind == "function":
        raise _FilterProblem
    column: Column[Any] = attribute.column
    return and_(column.is_not(None), column != "") if attribute.kind in {"text", "folded"} else column.is_not(None)


def _flag(attribute: Attribute, operator: str, value: str) -> ColumnElement[bool]:
    if operator != "eq" or value.lower() not in {"true", "false"}:
        raise _FilterProblem
    found: ColumnElement[bool] = attribute.column.is_(value.lower() == "true")
    return found


def _text(attribute: Attribute, operator: str, value: str) -> ColumnElement[bool]:
    column, value = func.lower(attribute.column), value.lower()
    if operator == "co":
        return column.contains(value, autoescape=True)
    if operator == "sw":
        return column.startswith(value, autoescape=True)
    return _ordered(column, operator, value)


def _ordered(column: Any, operator: str, value: Any) -> ColumnElement[bool]:
    compare: dict[str, Callable[[], ColumnElement[bool]]] = {
        "eq": lambda: column == value,
        "gt": lambda: column > value,
        "ge": lambda: column >= value,
        "lt": lambda: column < value,
        "le": lambda: column <= value,
    }
    if operator not in compare:
        raise _FilterProblem
    return compare[operator]()


def _micros(value: str) -> int:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise _FilterProblem from None
    if moment.tzinfo is None:
        raise _FilterProblem
    return int(moment.timestamp() * 1_000_000)
