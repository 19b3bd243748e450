"""Statements that are asked again and again, without SQLAlchemy's way from a statement to a row.

That way serves every statement anybody may write: it looks for the compiled text, makes a context, a result and its
description, each time. For a SELECT that was built once all of these are the same each time. `Prepared` keeps them, and
sends the text itself. Its rows are used as SQLAlchemy's are, and are named tuples: a view of the API reads a dozen values
of each row, and to read one of SQLAlchemy's takes ten times as long.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, Select
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

if TYPE_CHECKING:
    from cupola.store.database import Tx

__all__ = ["Prepared"]

_Change = Callable[[Any], Any]


class Prepared:
    """A SELECT that is asked often, for `Tx.all`, `Tx.one` and `Tx.scalar`.

    PostgreSQL plans each use for its values: one plan for everybody is a bad one for a user with thousands of roles. With
    `one_plan` it may keep one, which is right where a row is found by its key: to plan takes longer than to find it.
    """

    def __init__(self, statement: Select[Any], *, one_plan: bool = False) -> None:
        self.statement = statement
        self._one_plan = one_plan
        self._texts: dict[str, _Text | None] = {}

    def all(self, tx: "Tx", values: Mapping[str, Any]) -> Sequence[Row[Any]]:
        """All rows."""
        text = self._text(tx.connection)
        if text is None:
            return tx.run(self.statement, values).all()
        tx.statements += 1
        return text.rows(tx.connection, values, only_first=False)

    def one(self, tx: "Tx", values: Mapping[str, Any]) -> Row[Any] | None:
        """The first row, or None."""
        text = self._text(tx.connection)
        if text is None:
            return tx.run(self.statement, values).first()
        tx.statements += 1
        found = text.rows(tx.connection, values, only_first=True)
        return found[0] if found else None

    def _text(self, connection: Connection) -> "_Text | None":
        name = connection.dialect.name
        try:
            return self._texts[name]
        except KeyError:
            compiled = self.statement.compile(dialect=connection.dialect)
            text = self._texts[name] = self._made(compiled) if _is_fixed(compiled) else None
            return text

    def _made(self, compiled: Any) -> "_Text":
        # What psycopg does not prepare on the server is planned at each use.
        anew = compiled.dialect.name == "postgresql" and not self._one_plan
        return _Text(self.statement, compiled, {"prepare": False} if anew else {})


def _is_fixed(compiled: Any) -> bool:
    """Whether the text is the same for all values: the text of `IN (...)` depends on how many there are."""
    return not (
        compiled.post_compile_params
        or compiled.literal_execute_params
        or compiled.escaped_bind_names
        or any(bind.callable for bind in compiled.binds.values())
    )


class _Text:
    """What is known of a statement on one kind of database."""

    def __init__(self, statement: Select[Any], compiled: Any, how: Mapping[str, Any]) -> None:
        assert isinstance(compiled, SQLCompiler)
        self._how = how
        self._dialect = compiled.dialect
        self._errors = self._dialect.loaded_dbapi.Error
        self._select = statement
        self._statement = str(compiled)
        self._columns = list(statement.selected_columns)
        self._names = compiled.positiontup if compiled.positional else None
        changes = {name: self._to_database(bind.type) for bind, name in compiled.bind_names.items()}
        self._changes = {name: change for name, change in changes.items() if change is not None}
        self._constants = {
            name: self._changes[name](bind.value) if name in self._changes else bind.value
            for bind, name in compiled.bind_names.items()
            if not bind.required
        }
        self._make: _Maker | None = None

    def _to_database(self, kind: TypeEngine[Any]) -> _Change | None:
        return kind.dialect_impl(self._dialect).bind_processor(self._dialect)

    def rows(self, connection: Connection, values: Mapping[str, Any], *, only_first: bool) -> list[Row[Any]]:
        """Raises what SQLAlchemy raises."""
        statement, parameters = self._statement, self._parameters(values)
        cursor = connection.connection.cursor()
        try:
            for watcher in connection.dispatch.before_cursor_execute:
                statement, parameters = watcher(connection, cursor, statement, parameters, None, False)
            cursor.execute(statement, parameters, **self._how)
            if only_first:
                first = cursor.fetchone()
                found: Sequence[Any] = () if first is None else (first,)
            else:
                found = cursor.fetchall()
            make = self._make or self._described(cursor.description)
        except self._errors as error:
            raise self._told(connection, error, values) from error
        finally:
            cursor.close()
        return make.rows(found)

    def _parameters(self, values: Mapping[str, Any]) -> Any:
        given = {**self._constants, **values}
        for name, change in self._changes.items():
            if name in values:
                given[name] = change(values[name])
        return given if self._names is None else [given[name] for name in self._names]

    def _described(self, description: Any) -> "_Maker":
        """What makes rows of what the driver gives; kept for the next time."""
        assert len(description) == len(self._columns), self._statement
        changes = [
            column.type.dialect_impl(self._dialect).result_processor(self._dialect, one[1])
            for column, one in zip(self._columns, description, strict=True)
        ]
        kind = _kind_of_row([one[0] for one in description], self._columns)
        self._make = _Maker(kind, [(at, change) for at, change in enumerate(changes) if change is not None])
        return self._make

    def _told(self, connection: Connection, error: Any, values: Mapping[str, Any]) -> BaseException:
        if self._dialect.is_disconnect(error, connection.connection.dbapi_connection, None):
            # SQLAlchemy is to see for itself, and replaces this connection and those that are as old; this raises.
            connection.execute(self._select, values)
        told: BaseException = DBAPIError.instance(
            self._statement, dict(values), error, self._errors, dialect=self._dialect
        )
        return told


class _Maker:
    """Makes rows of a class, with some of their values changed from what the database holds to what they mean."""

    def __init__(self, kind: type[Any], changes: Sequence[tuple[int, _Change]]) -> None:
        self._kind = kind
        self._changes = changes

    def rows(self, found: Sequence[Any]) -> list[Any]:
        kind, new = self._kind, tuple.__new__
        if not self._changes:
            return [new(kind, one) for one in found]
        rows = []
        for one in found:
            values = list(one)
            for at, change in self._changes:
                values[at] = change(values[at])
            rows.append(new(kind, values))
        return rows


def _kind_of_row(names: Sequence[str], columns: Sequence[Any]) -> type[Any]:
    """A named tuple with the `_mapping` that SQLAlchemy's rows have; its keys are the names and the columns."""
    parent = SimpleResultMetaData(names, extra=[(one, *one.base_columns) for one in columns])
    # Not public, as little as the class of rows itself; tests/store/test_prepared.py compares with the real ones.
    index = parent._key_to_index

    def mapping(row: Any) -> Any:
        return Row(parent, None, index, tuple(row))._mapping

    plain = namedtuple("PreparedRow", names, rename=True)  # type: ignore[misc]  # the names are the statement's
    return type("PreparedRow", (plain,), {"__slots__": (), "_mapping": property(mapping)})
