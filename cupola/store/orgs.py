"""Organizations, spaces, their quotas, roles and users."""

from sqlalchemy import BigInteger, Boolean, Column, Index, String, Table, UniqueConstraint

from cupola.store.schema import guid_ref, metadata, metadata_columns, resource_columns

__all__ = [
    "isolation_segment_entitlements",
    "isolation_segments",
    "organization_quotas",
    "organizations",
    "roles",
    "space_quotas",
    "spaces",
    "users",
]


def _limits() -> list[Column[int]]:
    # NULL is unlimited, as in the API.
    names = (
        "total_memory_in_mb",
        "per_process_memory_in_mb",
        "log_rate_limit_in_bytes_per_second",
        "total_instances",
        "per_app_tasks",
        "total_service_instances",
        "total_service_keys",
        "total_routes",
        "total_reserved_ports",
    )
    return [Column(name, BigInteger) for name in names]


organization_quotas = Table(
    "organization_quotas",
    metadata,
    *resource_columns(),
    Column("name", String(255), nullable=False),
    Column("name_key", String(255), nullable=False, unique=True),
    *_limits(),
    Column("total_domains", BigInteger),
    Column("paid_services_allowed", Boolean, nullable=False),
)
"""Names are unique without regard to case here, and with regard to it among the space quotas of an organization."""

isolation_segments = Table(
    "isolation_segments",
    metadata,
    *resource_columns(),
    Column("name", String(255), nullable=False),
    Column("name_key", String(255), nullable=False, unique=True),
    *metadata_columns(),
)

organizations = Table(
    "organizations",
    metadata,
    *resource_columns(),
    Column("name", String(255), nullable=False),
    Column("name_key", String(255), nullable=False, unique=True),
    Column("suspended", Boolean, nullable=False, default=False),
    Column("deleting", Boolean, nullable=False, default=False),
    guid_ref("quota_guid", "organization_quotas"),
    guid_ref("default_isolation_segment_guid", "isolation_segments", nullable=True),
    *metadata_columns(),
)
"""`name_key` is the name in lower case: names are unique without regard to case."""

space_quotas = Table(
    "space_quotas",
    metadata,
    *resource_columns(),
    Column("name", String(255), nullable=False),
    guid_ref("organization_guid", "organizations"),
    *_limits(),
    Column("paid_services_allowed", Boolean, nullable=False),
    UniqueConstraint("organization_guid", "name"),
)

spaces = Table(
    "spaces",
    metadata,
    *resource_columns(),
    Column("name", String(255), nullable=False),
    Column("name_key", String(255), nullable=False, index=True),
    Column("suspended", Boolean, nullable=False, default=False),
    Column("deleting", Boolean, nullable=False, default=False),
    Column("ssh_enabled", Boolean, nullable=False, default=True),
    guid_ref("organization_guid", "organizations"),
    guid_ref("quota_guid", "space_quotas", nullable=True),
    guid_ref("isolation_segment_guid", "isolation_segments", nullable=True),
    *metadata_columns(),
    UniqueConstraint("organization_guid", "name_key"),
)

isolation_segment_entitlements = Table(
    "isolation_segment_entitlements",
    metadata,
    guid_ref("isolation_segment_guid", "isolation_segments"),
    guid_ref("organization_guid", "organizations"),
    UniqueConstraint("isolation_segment_guid", "organization_guid", name="uq_isolation_segment_entitlements"),
)

users = Table(
    "users",
    metadata,
    *resource_columns(),
    Column("is_client", Boolean, nullable=False, default=False),
    *metadata_columns(),
)
"""Users as the API knows them; names and origins are in the identity tables (store/identity.py), joined by guid."""

roles = Table(
    "roles",
    metadata,
    *resource_columns(),
    Column("type", String(40), nullable=False),
    guid_ref("user_guid", "users", index=False),
    guid_ref("organization_guid", "organizations", nullable=True, index=False),
    guid_ref("space_guid", "spaces", nullable=True, index=False),
    # NULLs are all different to a unique constraint; this column holds whichever target there is.
    Column("target_guid", String(255), nullable=False),
    UniqueConstraint("user_guid", "type", "target_guid"),
    Index("ix_roles_user_org", "user_guid", "organization_guid", "type"),
    Index("ix_roles_user_space", "user_guid", "space_guid", "type"),
    Index("ix_roles_target", "target_guid", "type"),
    Index("ix_roles_org_user", "organization_guid", "user_guid"),
    Index("ix_roles_space_user", "space_guid", "user_guid"),
)
