"""The last operation of a service instance or binding: its values, and what can be asked of it (service-brokers.md 8).

create initial ──> create in progress ──> create succeeded | create failed
update in progress ──> update succeeded | update failed
delete in progress ──> (gone) | delete failed
"""

from typing import Any

from sqlalchemy import Row

from cupola.store.database import Tx

__all__ = [
    "COLUMNS",
    "begun",
    "create_failed",
    "create_in_progress",
    "create_succeeded",
    "delete_failed",
    "delete_in_progress",
    "ended",
    "in_progress",
    "is_active",
    "kept",
]

COLUMNS = (
    "operation_type",
    "operation_state",
    "operation_description",
    "operation_created_at",
    "operation_updated_at",
    "broker_operation",
)
_RUNNING = ("initial", "in progress")


def begun(tx: Tx, type_: str, state: str = "in progress") -> dict[str, Any]:
    """Columns of an operation that begins now."""
    return {
        "operation_type": type_,
        "operation_state": state,
        "operation_description": None,
        "operation_created_at": tx.now,
        "operation_updated_at": tx.now,
        "broker_operation": None,
    }


def ended(tx: Tx, type_: str, state: str, description: str | None) -> dict[str, Any]:
    """Columns of an operation that ends now; when it began stays as it is."""
    return {
        "operation_type": type_,
        "operation_state": state,
        "operation_description": description,
        "operation_updated_at": tx.now,
        "broker_operation": None,
    }


def kept(row: Row[Any]) -> dict[str, Any]:
    """The columns as they are, to be brought back by whoever finds that nothing happened."""
    return {name: row._mapping[name] for name in COLUMNS}


def in_progress(row: Row[Any]) -> bool:
    """Whether anything runs."""
    return row.operation_state in _RUNNING


def create_in_progress(row: Row[Any]) -> bool:
    return row.operation_type == "create" and row.operation_state in _RUNNING


def create_failed(row: Row[Any]) -> bool:
    return bool(row.operation_type == "create" and row.operation_state == "failed")


def create_succeeded(row: Row[Any]) -> bool:
    """Whether the thing is there and nobody has tried to delete or change it since."""
    return bool(row.operation_type == "create" and row.operation_state == "succeeded")


def delete_in_progress(row: Row[Any]) -> bool:
    return row.operation_type == "delete" and row.operation_state in _RUNNING


def delete_failed(row: Row[Any]) -> bool:
    return bool(row.operation_type == "delete" and row.operation_state == "failed")


def is_active(table: Any) -> Any:
    """The condition that a binding feeds its app: it was made, and nobody has tried to delete it."""
    return (table.c.operation_type == "create") & (table.c.operation_state == "succeeded")
