"""Service usage events: which service instances there were, for billing."""

from sqlalchemy import BigInteger, Column, String, Table

from cupola.store.schema import big_id, metadata

__all__ = ["service_usage_events"]

service_usage_events = Table(
    "service_usage_events",
    metadata,
    big_id(),
    Column("guid", String(255), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("space_guid", String(255), nullable=False),
    Column("space_name", String(255), nullable=False),
    Column("organization_guid", String(255), nullable=False),
    Column("service_instance_guid", String(255), nullable=False),
    Column("service_instance_name", String(255), nullable=False),
    Column("service_instance_type", String(40), nullable=False),
    Column("service_plan_guid", String(255)),
    Column("service_plan_name", String(255)),
    Column("service_offering_guid", String(255), index=True),
    Column("service_offering_name", String(255)),
    Column("service_broker_guid", String(255)),
    Column("service_broker_name", String(255)),
)
"""`state` CREATED, UPDATED or DELETED; `service_instance_type` managed_service_instance or
user_provided_service_instance, which has no plan, offering and broker."""
