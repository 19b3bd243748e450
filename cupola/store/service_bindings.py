"""Service bindings: credentials for an app or as a key, and services in front of routes."""

from sqlalchemy import Column, Index, String, Table, Text

from cupola.store.schema import Json, guid_ref, metadata, metadata_columns, resource_columns
from cupola.store.service_instances import operation_columns

__all__ = ["service_credential_bindings", "service_route_bindings"]

service_credential_bindings = Table(
    "service_credential_bindings",
    metadata,
    *resource_columns(),
    Column("type", String(8), nullable=False),
    Column("name", String(255)),
    guid_ref("service_instance_guid", "service_instances", index=False),
    guid_ref("app_guid", "apps", nullable=True),
    Column("credentials", Text),
    Column("syslog_drain_url", Text),
    Column("volume_mounts", Text),
    Column("endpoints", Json),
    *operation_columns(),
    *metadata_columns(),
    Index("ix_service_credential_bindings_instance", "service_instance_guid", "type", "app_guid"),
    Index("ix_service_credential_bindings_operation", "operation_state", "operation_updated_at"),
)
"""`type` app or key. Credentials, drain and mounts are sealed JSON: only those who may read secrets see them. `endpoints`:
[{host, ports, protocol}] that the broker says the app must reach; null for none."""

service_route_bindings = Table(
    "service_route_bindings",
    metadata,
    *resource_columns(),
    guid_ref("service_instance_guid", "service_instances"),
    guid_ref("route_guid", "routes"),
    Column("route_service_url", Text),
    *operation_columns(),
    *metadata_columns(),
    Index("ix_service_route_bindings_operation", "operation_state", "operation_updated_at"),
)
