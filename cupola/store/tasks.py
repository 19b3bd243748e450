"""Tasks: commands that run once in a container of their own, and the numbers that they have within their app."""

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text, UniqueConstraint

from cupola.store.schema import guid_ref, metadata, metadata_columns, resource_columns

__all__ = ["task_numbers", "tasks"]

tasks = Table(
    "tasks",
    metadata,
    *resource_columns(),
    guid_ref("app_guid", "apps"),
    Column("sequence_id", Integer, nullable=False),
    Column("name", String(255), nullable=False),
    Column("name_key", String(255), nullable=False),
    Column("command", Text, nullable=False),
    Column("user", String(255)),
    Column("state", String(16), nullable=False),
    Column("memory_mb", BigInteger, nullable=False),
    Column("disk_mb", BigInteger, nullable=False),
    Column("log_rate", BigInteger, nullable=False),
    Column("droplet_guid", String(255), nullable=False, index=True),
    Column("failure_reason", Text),
    Column("cell_id", String(64)),
    Column("started_at", BigInteger),
    *metadata_columns(),
    UniqueConstraint("app_guid", "sequence_id"),
    Index("ix_tasks_state", "state", "updated_at"),
)
"""`cell_id` and `started_at` (microseconds since 1970) are set when a cell reports that it runs."""

task_numbers = Table(
    "task_numbers",
    metadata,
    Column("app_guid", String(255), primary_key=True),
    Column("last", Integer, nullable=False),
)
"""The highest `sequence_id` ever given in an app: numbers are not given again when old tasks are pruned."""
