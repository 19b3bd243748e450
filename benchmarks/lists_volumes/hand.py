"""A list as somebody would ask for it by hand: SQL as text, the driver's own connection, the same JSON from plain functions."""

import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psycopg

from benchmarks.lists_volumes.views import VIEWS
from cupola.store.database import Database

__all__ = ["ByHand", "Question", "connect"]

_NAME = re.compile(r":([a-z_]+)")


@dataclass(frozen=True)
class Question:
    """A list: a condition on a table, an order, and what else is shown of the rows of a page."""

    table: str
    where: str = ""
    """Empty: all rows, without a condition, since SQLite counts these a hundred times as fast. May name :actor, and :a, :b, ... of `values`; {guids} and {more} stand for lists of them."""
    order: str = "id"
    values: dict[str, Any] = field(default_factory=dict)
    guids: Sequence[str] = ()
    more: Sequence[str] = ()
    shown: str = "*"
    related: str = ""
    """A further statement for a page; {page} stands for the guids of its rows, which its first column holds."""


@dataclass
class ByHand:
    """Asks one question again and again, on one connection."""

    cursor: Any
    named: bool
    """Whether the driver wants %(name)s rather than :name."""
    question: Question
    api: str
    actor: str
    per_page: int
    offset: int

    def __post_init__(self) -> None:
        question = self.question
        where = question.where.format(guids=self._listed(question.guids), more=self._listed(question.more))
        asked = f"{question.table} WHERE {where}" if where else question.table
        limit = f"LIMIT {self.per_page} OFFSET {self.offset}"
        self._page = self._sql(f"SELECT {question.shown} FROM {asked} ORDER BY {question.order} {limit}")
        self._count = self._sql(f"SELECT count(*) FROM {asked}")
        self._values = {"actor": self.actor, **question.values}

    def _sql(self, text: str) -> str:
        return _NAME.sub(r"%(\1)s", text) if self.named else text

    @staticmethod
    def _listed(guids: Sequence[str]) -> str:
        return ", ".join(f"'{guid}'" for guid in guids)

    def ask(self) -> tuple[int, bytes]:
        """How many there are, and the page as JSON."""
        self.cursor.execute(self._page, self._values)
        names = [column[0] for column in self.cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in self.cursor.fetchall()]
        self.cursor.execute(self._count, self._values)
        total = self.cursor.fetchone()[0]
        related = self._related(rows)
        view = VIEWS[self.question.table]
        shown = [view(row, self.api, related.get(row["guid"], ())) for row in rows]
        pages = max(1, -(-total // self.per_page))
        pagination = {"total_results": total, "total_pages": pages}
        return total, msgspec.json.encode({"pagination": pagination, "resources": shown})

    def _related(self, rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        if self.question.related and rows:
            page = self._listed([row["guid"] for row in rows])
            self.cursor.execute(self._sql(self.question.related.format(page=page)), self._values)
            for one in self.cursor.fetchall():
                found.setdefault(one[0], []).append(one)
        return found


def connect(database: Database) -> tuple[Callable[[], Any], bool]:
    """A function that opens the driver's own connection to this database, and whether it names values as psycopg."""
    if not database.is_sqlite:
        url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        return lambda: psycopg.connect(url, autocommit=True), True

    def sqlite() -> Any:
        connection = sqlite3.connect(str(database.url.database), isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA cache_size=-16384")
        return connection

    return sqlite, False
