"""Deleting containers with what is in them (behaviours.md section 7); bits go when nothing refers to them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, select

from cupola.domain import (
    audit,
    destinations,
    locks,
    registry_credentials,
    routes,
    service_brokers,
    service_plan_visibility,
    tasks,
    usage,
)
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import network_policies, rows
from cupola.store.apps import apps, buildpack_caches, processes, revisions, sidecars
from cupola.store.database import Tx
from cupola.store.deployments import deployments
from cupola.store.orgs import (
    isolation_segment_entitlements,
    organizations,
    roles,
    space_quotas,
    spaces,
    users,
)
from cupola.store.platform import security_group_spaces
from cupola.store.routes import domain_shares, domains, route_shares
from cupola.store.routes import routes as routes_table
from cupola.store.staging import builds, droplets, packages

__all__ = [
    "clear_buildpack_caches",
    "delete_app",
    "delete_domain",
    "delete_organization",
    "delete_space",
    "delete_user",
    "organization_failed",
    "require_deletable_organization",
]

_OF_APP = (deployments, revisions, sidecars, builds, droplets, packages, processes)
"""Tables with an app_guid, in an order that respects their references."""


def delete_app(tx: Tx, actor: Actor, app: Row[Any]) -> None:
    """Remove an app with everything that is its own; its routes stay, without it. Raises 422 while it is locked.

    What brokers know of, such as its bindings, is removed before (cupola/brokers/cascades.py).
    """
    locks.require_app_unlocked(tx, app)
    audit.record(tx, "audit.app.delete-request", actor, app.guid, "app", app.name, {}, space_guid=app.space_guid)
    destinations.remove_all_of_app(tx, actor, app)
    tasks.delete_of_app(tx, actor, app)
    _end_usage(tx, app)
    for table in _OF_APP:
        rows.remove(tx, table, tx.scalars(select(table.c.guid).where(table.c.app_guid == app.guid)))
    clear_buildpack_caches(tx, app.guid)
    registry_credentials.remove_all_of(tx, app.guid)
    network_policies.remove_all_of(tx, app.guid)
    rows.remove(tx, apps, [app.guid])
    tx.ring("desired")
    tx.ring("routes")


def _end_usage(tx: Tx, app: Row[Any]) -> None:
    for build in tx.all(
        select(builds).where(builds.c.app_guid == app.guid, builds.c.state == "STAGING").order_by(builds.c.id)
    ):
        usage.staging_stopped(tx, build)
    for process in tx.all(select(processes).where(processes.c.app_guid == app.guid).order_by(processes.c.id)):
        usage.process_changed(tx, process, None)


def clear_buildpack_caches(tx: Tx, app_guid: str | None) -> None:
    """Forget what buildpacks kept between stagings, of one app or of all."""
    statement = delete(buildpack_caches)
    tx.run(statement if app_guid is None else statement.where(buildpack_caches.c.app_guid == app_guid))


def delete_space(tx: Tx, actor: Actor, space: Row[Any]) -> None:
    """Remove a space, its apps, routes and roles. Raises 422 while an app in it is locked.

    What brokers know of, such as service instances, is removed before.
    """
    locks.require_space_unlocked(tx, space)
    for app in tx.all(select(apps).where(apps.c.space_guid == space.guid).order_by(apps.c.id)):
        delete_app(tx, actor, app)
    routes.delete_routes(
        tx, actor, tx.scalars(select(routes_table.c.guid).where(routes_table.c.space_guid == space.guid))
    )
    tx.run(delete(route_shares).where(route_shares.c.space_guid == space.guid))
    tx.run(delete(security_group_spaces).where(security_group_spaces.c.space_guid == space.guid))
    tx.run(delete(roles).where(roles.c.space_guid == space.guid))
    service_brokers.remove_all_of_space(tx, actor, space.guid)
    registry_credentials.remove_all_of(tx, space.guid)
    rows.remove(tx, spaces, [space.guid])
    audit.record(
        tx,
        "audit.space.delete-request",
        actor,
        space.guid,
        "space",
        space.name,
        {"request": {"recursive": True}},
        space_guid=space.guid,
        organization_guid=space.organization_guid,
    )


def delete_organization(tx: Tx, actor: Actor, organization: Row[Any]) -> None:
    """Remove an organization, its spaces, private domains and roles. Raises 290010 while a domain is shared."""
    require_deletable_organization(tx, organization)
    own = tx.all(select(domains).where(domains.c.organization_guid == organization.guid))
    for space in tx.all(select(spaces).where(spaces.c.organization_guid == organization.guid)):
        delete_space(tx, actor, space)
    for domain in own:
        delete_domain(tx, actor, domain)
    tx.run(delete(domain_shares).where(domain_shares.c.organization_guid == organization.guid))
    tx.run(delete(roles).where(roles.c.organization_guid == organization.guid))
    service_plan_visibility.forget_organization(tx, organization.guid)
    registry_credentials.remove_all_of(tx, organization.guid)
    tx.run(delete(space_quotas).where(space_quotas.c.organization_guid == organization.guid))
    tx.run(
        delete(isolation_segment_entitlements).where(
            isolation_segment_entitlements.c.organization_guid == organization.guid
        )
    )
    rows.remove(tx, organizations, [organization.guid])
    audit.record(
        tx,
        "audit.organization.delete-request",
        actor,
        organization.guid,
        "organization",
        organization.name,
        {"request": {"recursive": True}},
        organization_guid=organization.guid,
    )


def require_deletable_organization(tx: Tx, organization: Row[Any]) -> None:
    """No app in an organization is locked, and none of its domains shared. Raises 422, 290010."""
    locks.require_organization_unlocked(tx, organization)
    own = tx.all(select(domains).where(domains.c.organization_guid == organization.guid))
    _require_unshared(tx, organization, own)


def organization_failed(organization: Row[Any], causes: Sequence[str]) -> CloudError:
    """Why an organization is still there."""
    told = "\n\n".join(causes)
    return CloudError(
        290010,
        "CF-OrganizationDeletionFailed",
        502,
        f"Deletion of organization {organization.name} failed because one or more resources within could not "
        f"be deleted.\n\n{told}",
    )


def _require_unshared(tx: Tx, organization: Row[Any], own: Sequence[Row[Any]]) -> None:
    shared = set(
        tx.scalars(
            select(domain_shares.c.domain_guid).where(domain_shares.c.domain_guid.in_([row.guid for row in own]))
        )
    )
    names = [row.name for row in own if row.guid in shared]
    if names:
        raise organization_failed(
            organization,
            [f"Domain '{name}' is shared with other organizations. Unshare before deleting." for name in names],
        )


def delete_domain(tx: Tx, actor: Actor, domain: Row[Any]) -> None:
    """Remove a domain, its shares and its routes."""
    routes.delete_routes(
        tx, actor, tx.scalars(select(routes_table.c.guid).where(routes_table.c.domain_guid == domain.guid))
    )
    tx.run(delete(domain_shares).where(domain_shares.c.domain_guid == domain.guid))
    rows.remove(tx, domains, [domain.guid])


def delete_user(tx: Tx, actor: Actor, user: Row[Any]) -> None:
    """Remove the API's knowledge of a user, and the user's roles; the identity stays."""
    tx.run(delete(roles).where(roles.c.user_guid == user.guid))
    rows.remove(tx, users, [user.guid])
