"""Every table, imported in one place: what migrations and tests take as the whole schema."""

from cupola.store import apps, identity, instances, jobs, labels, leases, orgs, platform, routes, staging
from cupola.store.schema import metadata

__all__ = ["metadata"]

_ALL = (apps, identity, instances, jobs, labels, leases, orgs, platform, routes, staging)
