"""What belongs to the whole platform: stacks, buildpacks, flags, variable groups, security groups, events."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text, UniqueConstraint

from cupola.store.schema import Json, big_id, guid_ref, metadata, metadata_columns, resource_columns

__all__ = [
    "audit_events",
    "buildpacks",
    "environment_variable_groups",
    "feature_flags",
    "platform_state",
    "security_group_spaces",
    "security_groups",
    "stacks",
]

stacks = Table(
    "stacks",
    metadata,
    *resource_columns(),
    Column("name", String(250), nullable=False, unique=True),
    Column("description", String(250)),
    Column("state", String(16), nullable=False, default="ACTIVE"),
    Column("state_reason", Text),
    Column("build_rootfs_image", String(255)),
    Column("run_rootfs_image", String(255)),
    *metadata_columns(),
)

buildpacks = Table(
    "buildpacks",
    metadata,
    *resource_columns(),
    Column("name", String(250), nullable=False),
    Column("stack", String(250)),
    Column("lifecycle", String(16), nullable=False, default="buildpack"),
    Column("position", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False, default=True),
    Column("locked", Boolean, nullable=False, default=False),
    Column("filename", String(255)),
    Column("digest", String(80)),
    Column("state", String(32), nullable=False, default="AWAITING_UPLOAD"),
    *metadata_columns(),
    Index("ix_buildpacks_order", "lifecycle", "position"),
)

feature_flags = Table(
    "feature_flags",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("enabled", Boolean, nullable=False),
    Column("custom_error_message", Text),
    Column("updated_at", BigInteger, nullable=False),
)
"""Only flags that somebody set; the others have upstream's defaults (domain/feature_flags.py)."""

environment_variable_groups = Table(
    "environment_variable_groups",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("variables", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
"""`variables` is a sealed JSON object."""

security_groups = Table(
    "security_groups",
    metadata,
    *resource_columns(),
    Column("name", String(250), nullable=False, unique=True),
    Column("rules", Json, nullable=False),
    Column("running_default", Boolean, nullable=False, default=False),
    Column("staging_default", Boolean, nullable=False, default=False),
)

security_group_spaces = Table(
    "security_group_spaces",
    metadata,
    guid_ref("security_group_guid", "security_groups"),
    guid_ref("space_guid", "spaces"),
    Column("phase", String(8), nullable=False),
    UniqueConstraint("security_group_guid", "space_guid", "phase"),
)
"""`phase` is running or staging."""

audit_events = Table(
    "audit_events",
    metadata,
    big_id(),
    Column("guid", String(255), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False, index=True),
    Column("type", String(255), nullable=False),
    Column("actor_guid", String(255), nullable=False),
    Column("actor_type", String(32), nullable=False),
    Column("actor_name", String(255)),
    Column("target_guid", String(255), nullable=False, index=True),
    Column("target_type", String(64), nullable=False),
    Column("target_name", String(255)),
    Column("data", Json, nullable=False),
    Column("space_guid", String(255)),
    Column("organization_guid", String(255)),
    Index("ix_audit_events_type", "type", "created_at", "guid", "id"),
    Index("ix_audit_events_space", "space_guid", "type", "created_at", "guid", "id"),
    Index("ix_audit_events_org", "organization_guid", "type", "created_at", "guid", "id"),
)
"""Events outlive what they tell of, so nothing here is a reference. The indexes hold all that is needed to find out which
rows a page has: the table is the largest one, and to look into each row that matches would take a hundred times longer."""

platform_state = Table(
    "platform_state",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
"""Facts of this installation, such as which defaults were made at the first start."""
