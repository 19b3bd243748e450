"""SCIM filters on users: `userName eq "a" or (origin eq "uaa" and id pr)` to a condition on the identities table."""

import re
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_

from cupola.store.identity import identities
from cupola.uaa.problems import Problem, scim

__all__ = ["condition"]

_TOKEN = re.compile(r'\s*(?:(\()|(\))|"((?:[^"\\]|\\.)*)"|([^\s()"]+))')
_COLUMNS: dict[str, Any] = {
    "id": identities.c.guid,
    "username": identities.c.username,
    "origin": identities.c.origin,
    "email": identities.c.email,
    "emails.value": identities.c.email,
    "givenname": identities.c.given_name,
    "name.givenname": identities.c.given_name,
    "familyname": identities.c.family_name,
    "name.familyname": identities.c.family_name,
    "active": identities.c.active,
    "verified": identities.c.verified,
}
_MAX_TOKENS = 20_000


def condition(text: str) -> ColumnElement[bool]:
    """Parse a filter. Raises 400 `scim`."""
    parser = _Parser(text)
    found = parser.alternatives()
    if parser.peek() is not None:
        raise parser.bad()
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None or len(self._tokens) > _MAX_TOKENS:
                raise self.bad()
            at = match.end()
            opening, closing, quoted, word = match.groups()
            kind = "(" if opening else ")" if closing else "text" if quoted is not None else "word"
            self._tokens.append((kind, quoted if quoted is not None else word or ""))
        self._at = 0
        self._depth = 0

    def bad(self) -> Problem:
        return scim(400, "scim", f"Invalid filter expression: [{self._text[:200]}]")

    def peek(self) -> tuple[str, str] | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> tuple[str, str]:
        token = self.peek()
        if token is None:
            raise self.bad()
        self._at += 1
        return token

    def _accept(self, word: str) -> bool:
        token = self.peek()
        if token is not None and token[0] == "word" and token[1].lower() == word:
            self._at += 1
            return True
        return False

    def alternatives(self) -> ColumnElement[bool]:
        found = [self._all()]
        while self._accept("or"):
            found.append(self._all())
        return or_(*found)

    def _all(self) -> ColumnElement[bool]:
        found = [self._one()]
        while self._accept("and"):
            found.append(self._one())
        return and_(*found)

    def _one(self) -> ColumnElement[bool]:
        kind, value = self._next()
        if kind == "(":
            self._depth += 1
            if self._depth > 50:
                raise self.bad()
            inner = self.alternatives()
            if self._next()[0] != ")":
                raise self.bad()
            self._depth -= 1
            return inner
        column = _COLUMNS.get(value.lower())
        if kind != "word" or column is None:
            raise self.bad()
        operator = self._next()[1].lower()
        if operator == "pr":
            present: ColumnElement[bool] = column.is_not(None)
            return present
        return self._compared(column, operator, *self._next())

    def _compared(self, column: Any, operator: str, kind: str, value: str) -> ColumnElement[bool]:
        if kind == "word":
            if value.lower() not in {"true", "false"} or operator != "eq":
                raise self.bad()
            flag: ColumnElement[bool] = column.is_(value.lower() == "true")
            return flag
        value = re.sub(r"\\(.)", r"\1", value).lower()
        lowered = func.lower(column)
        if operator == "eq":
            return lowered == value
        if operator == "co":
            return lowered.contains(value, autoescape=True)
        if operator == "sw":
            return lowered.startswith(value, autoescape=True)
        raise self.bad()
