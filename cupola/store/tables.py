"""Every table, imported in one place: what migrations and tests take as the whole schema."""

from cupola.store import (
    app_usage_events,
    apps,
    deployments,
    identity,
    instances,
    jobs,
    labels,
    leases,
    locks,
    network_policies,
    orgs,
    platform,
    registry_credentials,
    route_policies,
    router_groups,
    routes,
    service_bindings,
    service_brokers,
    service_instances,
    service_usage_events,
    staging,
    tasks,
)
from cupola.store.schema import metadata

__all__ = ["metadata"]

_ALL = (
    app_usage_events,
    apps,
    deployments,
    identity,
    instances,
    jobs,
    labels,
    leases,
    locks,
    network_policies,
    orgs,
    platform,
    registry_credentials,
    route_policies,
    router_groups,
    routes,
    service_bindings,
    service_brokers,
    service_instances,
    service_usage_events,
    staging,
    tasks,
)
