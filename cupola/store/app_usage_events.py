"""App usage events: what started, stopped and grew, for billing."""

from sqlalchemy import BigInteger, Column, Integer, String, Table

from cupola.store.schema import big_id, metadata

__all__ = ["app_usage_events"]

app_usage_events = Table(
    "app_usage_events",
    metadata,
    big_id(),
    Column("guid", String(255), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False, index=True),
    Column("state", String(32), nullable=False),
    Column("previous_state", String(32)),
    Column("app_guid", String(255), nullable=False),
    Column("app_name", String(255), nullable=False),
    Column("process_guid", String(255)),
    Column("process_type", String(255)),
    Column("space_guid", String(255), nullable=False),
    Column("space_name", String(255), nullable=False),
    Column("organization_guid", String(255), nullable=False),
    Column("buildpack_guid", String(255)),
    Column("buildpack_name", String(4096)),
    Column("task_guid", String(255), index=True),
    Column("task_name", String(255)),
    Column("memory_mb", BigInteger),
    Column("previous_memory_mb", BigInteger),
    Column("instances", Integer),
    Column("previous_instances", Integer),
)
"""Events outlive what they tell of, so nothing here is a reference. NULL in a previous value: there was none."""
