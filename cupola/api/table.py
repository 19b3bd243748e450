"""The complete API on one screen: every resource's operations, joined."""

from cupola.api import (
    app_features,
    apps,
    audit_events,
    buildpacks,
    builds,
    domains,
    droplets,
    environment_variable_groups,
    feature_flags,
    jobs,
    manifests,
    organizations,
    packages,
    processes,
    roles,
    root,
    routes,
    spaces,
    stacks,
    users,
)
from cupola.rest.operation import Operation

__all__ = ["OPERATIONS"]

OPERATIONS: list[Operation] = [
    *root.OPERATIONS,
    *organizations.OPERATIONS,
    *spaces.OPERATIONS,
    *users.OPERATIONS,
    *roles.OPERATIONS,
    *stacks.OPERATIONS,
    *buildpacks.OPERATIONS,
    *domains.OPERATIONS,
    *routes.OPERATIONS,
    *apps.OPERATIONS,
    *app_features.OPERATIONS,
    *processes.OPERATIONS,
    *packages.OPERATIONS,
    *builds.OPERATIONS,
    *droplets.OPERATIONS,
    *manifests.OPERATIONS,
    *jobs.OPERATIONS,
    *feature_flags.OPERATIONS,
    *environment_variable_groups.OPERATIONS,
    *audit_events.OPERATIONS,
]
