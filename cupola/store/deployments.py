"""Deployments: one row for each replacement of an app's web process by a newer one."""

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from cupola.store.schema import Json, guid_ref, metadata, metadata_columns, resource_columns

__all__ = ["deployments"]

deployments = Table(
    "deployments",
    metadata,
    *resource_columns(),
    guid_ref("app_guid", "apps"),
    Column("status_value", String(16), nullable=False),
    Column("status_reason", String(16), nullable=False),
    Column("strategy", String(16), nullable=False),
    Column("options", Json, nullable=False),
    Column("droplet_guid", String(255)),
    Column("previous_droplet_guid", String(255)),
    Column("target_revision_guid", String(255)),
    Column("revision_guid", String(255)),
    Column("revision_version", Integer),
    Column("deploying_process_guid", String(255), index=True),
    Column("kept_process_guid", String(255)),
    Column("new_processes", Json, nullable=False),
    Column("original_instances", Integer, nullable=False),
    Column("canary_step", Integer),
    Column("canary_total", Integer),
    Column("last_healthy_at", BigInteger),
    Column("status_changed_at", BigInteger),
    Column("error", Text),
    *metadata_columns(),
    Index("ix_deployments_active", "status_value", "app_guid"),
)
"""`options` as in the request, without nulls. `target_revision_guid`: the one asked for, where it is a rollback;
`revision_guid`: the one that came of it. `kept_process_guid` is set by cancelling: the process that takes over again.
`canary_step` counts from 1 and is beyond `canary_total` once everything is rolled out; both NULL unless a canary."""
