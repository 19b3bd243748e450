"""Service instances: managed by a broker or described by a user, and the spaces that they are shared with."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Index, String, Table, Text, UniqueConstraint

from cupola.store.schema import Json, guid_ref, metadata, metadata_columns, resource_columns

__all__ = ["operation_columns", "service_instance_shares", "service_instances"]


def operation_columns() -> list[Column[Any]]:
    """The last operation of what a broker works on, as the API shows it. `broker_operation` is what the broker calls it."""
    return [
        Column("operation_type", String(8)),
        Column("operation_state", String(16)),
        Column("operation_description", Text),
        Column("operation_created_at", BigInteger),
        Column("operation_updated_at", BigInteger),
        Column("broker_operation", Text),
    ]


service_instances = Table(
    "service_instances",
    metadata,
    *resource_columns(),
    Column("name", String(255), nullable=False),
    Column("type", String(16), nullable=False),
    guid_ref("space_guid", "spaces", index=False),
    guid_ref("service_plan_guid", "service_plans", nullable=True),
    Column("tags", Json, nullable=False),
    Column("credentials", Text),
    Column("syslog_drain_url", Text),
    Column("syslog_drain_anywhere", Boolean, nullable=False, default=False),
    Column("route_service_url", Text),
    Column("route_service_anywhere", Boolean, nullable=False, default=False),
    Column("dashboard_url", Text),
    Column("maintenance_info", Json, nullable=False),
    Column("broker_provided_metadata", Json),
    *operation_columns(),
    *metadata_columns(),
    UniqueConstraint("space_guid", "name"),
    Index("ix_service_instances_name", "name"),
    Index("ix_service_instances_operation", "operation_state", "operation_updated_at"),
)
"""`type` managed or user-provided; only the latter has `credentials` (sealed JSON), a drain and a route service here.

`..._anywhere`: an admin gave the address, so it may be a private one (cupola/outbound.py).
"""

service_instance_shares = Table(
    "service_instance_shares",
    metadata,
    guid_ref("service_instance_guid", "service_instances", index=False),
    guid_ref("space_guid", "spaces"),
    UniqueConstraint("service_instance_guid", "space_guid"),
)
