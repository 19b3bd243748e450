"""Domains, routes, destinations."""

from sqlalchemy import Boolean, Column, Index, Integer, String, Table, UniqueConstraint, select

from cupola.store.database import Tx
from cupola.store.schema import Json, guid_ref, metadata, metadata_columns, resource_columns

__all__ = ["destinations", "domain_shares", "domains", "route_shares", "routes", "shared_domain_names"]

domains = Table(
    "domains",
    metadata,
    *resource_columns(),
    Column("name", String(255), nullable=False, unique=True),
    Column("internal", Boolean, nullable=False, default=False),
    Column("router_group_guid", String(255)),
    Column("router_group_type", String(8)),
    Column("enforce_route_policies", Boolean, nullable=False, default=False),
    Column("route_policies_scope", String(8)),
    guid_ref("organization_guid", "organizations", nullable=True),
    *metadata_columns(),
)
"""`organization_guid` NULL: a shared domain. The type of a router group never changes, and outlives it here."""

domain_shares = Table(
    "domain_shares",
    metadata,
    guid_ref("domain_guid", "domains"),
    guid_ref("organization_guid", "organizations"),
    UniqueConstraint("domain_guid", "organization_guid"),
)

routes = Table(
    "routes",
    metadata,
    *resource_columns(),
    Column("host", String(63), nullable=False, index=True),
    Column("path", String(128), nullable=False),
    Column("port", Integer, nullable=False, default=0),
    guid_ref("domain_guid", "domains", index=False),
    guid_ref("space_guid", "spaces"),
    Column("options", Json, nullable=False),
    *metadata_columns(),
    UniqueConstraint("domain_guid", "host", "path", "port"),
)
"""`host` and `path` in lower case; `port` 0 for HTTP routes."""

route_shares = Table(
    "route_shares",
    metadata,
    guid_ref("route_guid", "routes"),
    guid_ref("space_guid", "spaces"),
    UniqueConstraint("route_guid", "space_guid"),
)

destinations = Table(
    "destinations",
    metadata,
    *resource_columns(),
    guid_ref("route_guid", "routes", index=False),
    guid_ref("app_guid", "apps", index=False),
    Column("process_type", String(255), nullable=False, default="web"),
    Column("port", Integer),
    Column("protocol", String(8)),
    Column("weight", Integer),
    Index("ix_destinations_route", "route_guid"),
    Index("ix_destinations_app_type", "app_guid", "process_type"),
)
"""`port` NULL: the app's first port (8080)."""


def shared_domain_names(tx: Tx) -> list[str]:
    """Names of the shared domains on which apps answer by http."""
    shared = domains.c.organization_guid.is_(None), domains.c.internal.is_(False), domains.c.router_group_guid.is_(None)
    return tx.scalars(select(domains.c.name).where(*shared).order_by(domains.c.name))
