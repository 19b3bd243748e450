"""JSON in sealed columns: encrypted at rest, each value bound to its table and column."""

from typing import Any

import msgspec
from sqlalchemy import Column

from cupola.store.database import Tx

__all__ = ["opened", "seal"]


def seal(tx: Tx, column: Column[Any], value: Any) -> str | None:
    """`value` as it is stored in `column`; None stays None (SQL NULL)."""
    if value is None:
        return None
    return tx.vault.seal(msgspec.json.encode(value), _context(column))


def opened(tx: Tx, column: Column[Any], text: str | None, default: Any = None) -> Any:
    """The value that `seal` was given, or `default` for NULL."""
    return default if text is None else msgspec.json.decode(tx.vault.open(text, _context(column)))


def _context(column: Column[Any]) -> str:
    return f"{column.table.name}.{column.name}"
