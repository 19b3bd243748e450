"""Router groups: which routers serve the routes of a domain, and which ports they have for TCP routes."""

from sqlalchemy import Column, String, Table, Text

from cupola.store.schema import metadata, resource_columns

__all__ = ["router_groups"]

router_groups = Table(
    "router_groups",
    metadata,
    *resource_columns(),
    Column("name", String(255), nullable=False, unique=True),
    Column("type", String(8), nullable=False),
    Column("reservable_ports", Text, nullable=False),
)
"""`type` tcp or http; `reservable_ports` a comma list of ports and ranges, or empty."""
