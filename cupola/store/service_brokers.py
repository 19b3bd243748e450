"""Service brokers and what their catalogs offer: offerings, plans, who may use a plan, clients of their dashboards.

What the catalog says is kept as it is to be shown and asked for; what inherits from the offering is resolved when the
catalog is stored. Ids of the broker are `catalog_id`, ours are `guid`.
"""

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from cupola.store.schema import Json, guid_ref, metadata, metadata_columns, resource_columns

__all__ = [
    "service_brokers",
    "service_dashboard_clients",
    "service_offerings",
    "service_plan_visibilities",
    "service_plans",
]

service_brokers = Table(
    "service_brokers",
    metadata,
    *resource_columns(),
    Column("name", String(255), nullable=False, unique=True),
    Column("url", Text, nullable=False),
    Column("username", Text, nullable=False),
    Column("password", Text, nullable=False),
    Column("anywhere", Boolean, nullable=False, default=False),
    Column("state", String(32), nullable=False),
    guid_ref("space_guid", "spaces", nullable=True),
    *metadata_columns(),
)
"""`username` and `password` are sealed JSON. `anywhere`: an admin gave the url, so it may be at a private address.
States SYNCHRONIZING, AVAILABLE, SYNCHRONIZATION_FAILED, DELETE_IN_PROGRESS, DELETE_FAILED."""

service_offerings = Table(
    "service_offerings",
    metadata,
    *resource_columns(),
    guid_ref("service_broker_guid", "service_brokers"),
    Column("catalog_id", Text, nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False, index=True),
    Column("description", Text, nullable=False),
    Column("available", Boolean, nullable=False),
    Column("bindable", Boolean, nullable=False),
    Column("plan_updateable", Boolean, nullable=False),
    Column("instances_retrievable", Boolean, nullable=False),
    Column("bindings_retrievable", Boolean, nullable=False),
    Column("allow_context_updates", Boolean, nullable=False),
    Column("shareable", Boolean, nullable=False),
    Column("tags", Json, nullable=False),
    Column("requires", Json, nullable=False),
    Column("documentation_url", Text, nullable=False, default=""),
    Column("catalog_metadata", Json, nullable=False),
    Column("osmapi_features", Json, nullable=False),
    *metadata_columns(),
    UniqueConstraint("service_broker_guid", "catalog_id"),
)
"""`name_key` is the name in lower case. `requires` holds syslog_drain, route_forwarding, volume_mount; `osmapi_features`
backup, plan_definitions, where the broker declares a version of OSMAPI that we speak."""

service_plans = Table(
    "service_plans",
    metadata,
    *resource_columns(),
    guid_ref("service_offering_guid", "service_offerings", index=False),
    guid_ref("service_broker_guid", "service_brokers"),
    guid_ref("space_guid", "spaces", nullable=True),
    Column("catalog_id", Text, nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False, index=True),
    Column("description", Text, nullable=False),
    Column("available", Boolean, nullable=False),
    Column("visibility_type", String(16), nullable=False, index=True),
    Column("free", Boolean, nullable=False),
    Column("bindable", Boolean, nullable=False),
    Column("plan_updateable", Boolean, nullable=False),
    Column("maximum_polling_duration", Integer),
    Column("maintenance_info", Json, nullable=False),
    Column("catalog_metadata", Json, nullable=False),
    Column("schemas", Json, nullable=False),
    *metadata_columns(),
    UniqueConstraint("service_offering_guid", "catalog_id"),
)
"""`visibility_type` public, admin, organization or space; `space_guid` is that of a space-scoped broker.
`maximum_polling_duration` in seconds. `maintenance_info` {version, description?} or empty. `schemas` as in the catalog:
{service_instance: {create: {parameters}, update: {parameters}}, service_binding: {create: {parameters}}}, parts that the
broker left out are missing."""

service_plan_visibilities = Table(
    "service_plan_visibilities",
    metadata,
    Column("service_plan_guid", String(255), ForeignKey("service_plans.guid"), primary_key=True),
    Column("organization_guid", String(255), ForeignKey("organizations.guid"), primary_key=True),
    # Of both columns, so that what an organization may use is found without a look at the rows.
    Index("ix_service_plan_visibilities_organization_guid", "organization_guid", "service_plan_guid"),
)
"""Organizations that may use a plan of visibility type `organization`."""

service_dashboard_clients = Table(
    "service_dashboard_clients",
    metadata,
    Column("client_id", String(255), primary_key=True),
    guid_ref("service_broker_guid", "service_brokers"),
    Column("offering_catalog_id", Text, nullable=False),
)
"""Clients of the identity server that were made for a catalog, and the broker that claims them."""
