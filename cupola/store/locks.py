"""Locks: what keeps an app from being deleted."""

from sqlalchemy import Column, String, Table, Text, UniqueConstraint

from cupola.store.schema import guid_ref, metadata, metadata_columns, resource_columns

__all__ = ["locks"]

locks = Table(
    "locks",
    metadata,
    *resource_columns(),
    guid_ref("app_guid", "apps"),
    Column("title", String(250), nullable=False),
    Column("title_key", String(250), nullable=False),
    Column("detail", Text, nullable=False),
    *metadata_columns(),
    UniqueConstraint("app_guid", "title_key"),
)
"""`title_key` is the title in lower case: titles are unique in an app without regard to case."""
