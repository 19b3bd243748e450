"""Registry credentials: what images are pulled with."""

from sqlalchemy import Column, String, Table, Text, UniqueConstraint

from cupola.store.schema import guid_ref, metadata, metadata_columns, resource_columns

__all__ = ["registry_credentials"]

registry_credentials = Table(
    "registry_credentials",
    metadata,
    *resource_columns(),
    Column("location", String(1024), nullable=False),
    Column("username", Text, nullable=False),
    Column("password", Text, nullable=False),
    Column("scope", String(16), nullable=False),
    guid_ref("organization_guid", "organizations", nullable=True),
    guid_ref("space_guid", "spaces", nullable=True),
    guid_ref("app_guid", "apps", nullable=True),
    # NULLs are all different to a unique constraint; this column holds whichever target there is, or nothing.
    Column("target_guid", String(255), nullable=False),
    *metadata_columns(),
    UniqueConstraint("target_guid", "location"),
)
"""`scope` foundation, organization, space or app; `password` is sealed JSON."""
