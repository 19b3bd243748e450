"""What all tables share: the MetaData, column kinds, and the index of labels.

Guids are the keys that tables refer to each other by; `id` only gives the order of creation, which is the default order
of every list. Times are microseconds since 1970 (clock.py).
"""

from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.engine import Dialect

__all__ = ["Json", "guid_ref", "label_index", "metadata", "metadata_columns", "resource_columns"]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Json(TypeDecorator[Any]):
    """A JSON document in a text column: the same bytes on both databases, never compared by the database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else msgspec.json.decode(value)


def big_id() -> Column[int]:
    """An ascending key. SQLite only counts up by itself when the type is exactly INTEGER."""
    return Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


def resource_columns() -> list[Column[Any]]:
    """id, guid, created_at, updated_at: what every resource of the API has."""
    return [
        big_id(),
        Column("guid", String(255), nullable=False, unique=True),
        Column("created_at", BigInteger, nullable=False, index=True),
        Column("updated_at", BigInteger, nullable=False, index=True),
    ]


def metadata_columns() -> list[Column[Any]]:
    """Labels and annotations as JSON text, read with the row; `label_index` is for selectors only."""
    return [
        Column("labels", Text, nullable=False, server_default="{}"),
        Column("annotations", Text, nullable=False, server_default="{}"),
    ]


def guid_ref(name: str, target: str, *, nullable: bool = False, index: bool = True) -> Column[str]:
    """A reference to another table's guid. Rows are deleted by the rules in domain/, never by cascade."""
    return Column(name, String(255), ForeignKey(f"{target}.guid"), nullable=nullable, index=index)


label_index = Table(
    "label_index",
    metadata,
    Column("resource_type", String(64), primary_key=True),
    Column("resource_guid", String(255), primary_key=True),
    Column("key", String(320), primary_key=True),
    Column("value", String(63), nullable=False),
    Index("ix_label_index_lookup", "resource_type", "key", "value", "resource_guid"),
)
"""One row per label: (resource_type, resource_guid, key with prefix, value)."""
