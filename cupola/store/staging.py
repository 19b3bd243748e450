"""From source to something that runs: packages, builds, droplets."""

from sqlalchemy import BigInteger, Column, Index, String, Table, Text

from cupola.store.schema import Json, guid_ref, metadata, metadata_columns, resource_columns

__all__ = ["builds", "droplets", "packages"]

packages = Table(
    "packages",
    metadata,
    *resource_columns(),
    guid_ref("app_guid", "apps"),
    Column("type", String(16), nullable=False),
    Column("state", String(32), nullable=False),
    Column("error", Text),
    Column("digest", String(80)),
    Column("size", BigInteger),
    Column("image", Text),
    Column("username", Text),
    Column("password", Text),
    *metadata_columns(),
)
"""`digest` is `sha256:...` of the bits; `password` is sealed."""

droplets = Table(
    "droplets",
    metadata,
    *resource_columns(),
    guid_ref("app_guid", "apps"),
    Column("package_guid", String(255), index=True),
    Column("build_guid", String(255)),
    Column("state", String(32), nullable=False),
    Column("error", Text),
    Column("lifecycle_type", String(16), nullable=False),
    Column("stack", String(255)),
    Column("image", Text),
    Column("digest", String(80)),
    Column("sha1", String(40)),
    Column("size", BigInteger),
    Column("buildpacks", Json),
    Column("process_types", Json, nullable=False),
    Column("sidecars", Json, nullable=False),
    Column("execution_metadata", Text, nullable=False, default=""),
    Column("stack_fingerprint", String(255), nullable=False, default=""),
    *metadata_columns(),
)
"""`buildpacks`: list of {name, detect_output, buildpack_name, version}; `sidecars` as of the builder's result."""

builds = Table(
    "builds",
    metadata,
    *resource_columns(),
    guid_ref("app_guid", "apps"),
    # No foreign key: a build is remembered when its package is deleted.
    Column("package_guid", String(255), nullable=False, index=True),
    Column("droplet_guid", String(255), index=True),
    Column("state", String(16), nullable=False),
    Column("error_id", String(64)),
    Column("error_description", Text),
    Column("lifecycle_type", String(16), nullable=False),
    Column("buildpacks", Text),
    Column("stack", String(255)),
    Column("environment", Text),
    Column("memory_mb", BigInteger, nullable=False),
    Column("disk_mb", BigInteger, nullable=False),
    Column("log_rate", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("created_by_guid", String(255)),
    Column("created_by_name", String(255)),
    Column("created_by_email", String(255)),
    *metadata_columns(),
    Index("ix_builds_state", "state"),
)
"""`buildpacks` and `environment` are sealed JSON; `started_at` is set when the cell takes it."""
