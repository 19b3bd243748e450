"""Route policies: who may call a route on a domain that enforces them."""

from sqlalchemy import Column, String, Table, UniqueConstraint

from cupola.store.schema import guid_ref, metadata, metadata_columns, resource_columns

__all__ = ["route_policies"]

route_policies = Table(
    "route_policies",
    metadata,
    *resource_columns(),
    guid_ref("route_guid", "routes", index=False),
    Column("source", String(320), nullable=False),
    Column("source_guid", String(255), nullable=False, index=True),
    *metadata_columns(),
    UniqueConstraint("route_guid", "source"),
)
"""`source` is `cf:app:G`, `cf:space:G`, `cf:org:G` or `cf:any`; `source_guid` the guid in it, or empty. What it names
may be gone, so it is no reference."""
