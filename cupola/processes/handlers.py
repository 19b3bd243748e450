"""What each kind of job does: one visible table, given to the runner by the controller."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Row, Table

from cupola.brokers import (
    backup_jobs,
    binding_jobs,
    cascades,
    dashboards,
    instance_jobs,
    manifest_jobs,
    orphan_jobs,
    synchronize,
)
from cupola.brokers.client import BrokerClient
from cupola.config import Settings
from cupola.domain import (
    buildpacks,
    deletion,
    droplets,
    organization_quotas,
    packages,
    roles,
    security_groups,
    space_quotas,
)
from cupola.jobs.runner import Handler, Job
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.orgs import organization_quotas as organization_quotas_table
from cupola.store.orgs import roles as roles_table
from cupola.store.orgs import space_quotas as space_quotas_table
from cupola.store.orgs import users
from cupola.store.platform import buildpacks as buildpacks_table
from cupola.store.platform import security_groups as security_groups_table
from cupola.store.staging import droplets as droplets_table
from cupola.store.staging import packages as packages_table

__all__ = ["handlers"]


def _of_row(table: Table, verb: Callable[[Tx, Actor, Row[Any]], None]) -> Handler:
    """A handler for `payload["guid"]` of a table; a row that is gone already is a job well done."""

    def handle(tx: Tx, job: Job) -> None:
        row = rows.by_guid(tx, table, job.payload["guid"])
        if row is not None:
            verb(tx, job.actor, row)

    return handle


def _clear_app_cache(tx: Tx, actor: Actor, app: Row[Any]) -> None:
    deletion.clear_buildpack_caches(tx, app.guid)


def _clear_all_caches(tx: Tx, job: Job) -> None:
    deletion.clear_buildpack_caches(tx, None)


def handlers(
    settings: Settings,
    brokers: BrokerClient | None = None,
    registries: dashboards.Registries = dashboards.no_registry,
) -> dict[str, Handler]:
    """Job operation to handler. `brokers` calls service brokers; whoever runs jobs closes it in the end. `registries`
    gives the identity server of others, if there is one."""
    brokers = brokers or BrokerClient(settings)
    return {
        "admin.clear_buildpack_cache": _clear_all_caches,
        "app.clear_buildpack_cache": _of_row(apps, _clear_app_cache),
        "buildpack.delete": _of_row(buildpacks_table, buildpacks.delete),
        "droplet.delete": _of_row(droplets_table, droplets.delete),
        "organization_quota.delete": _of_row(organization_quotas_table, organization_quotas.delete),
        "package.delete": _of_row(packages_table, packages.delete),
        "role.delete": _of_row(roles_table, roles.delete),
        "security_group.delete": _of_row(security_groups_table, security_groups.remove),
        "space_quota.delete": _of_row(space_quotas_table, space_quotas.delete),
        "user.delete": _of_row(users, deletion.delete_user),
        **synchronize.handlers(settings, brokers, registries),
        **dashboards.handlers(registries),
        **instance_jobs.handlers(settings, brokers),
        **binding_jobs.handlers(settings, brokers),
        **backup_jobs.handlers(settings, brokers),
        **orphan_jobs.handlers(brokers),
        **cascades.handlers(settings, brokers),
        **manifest_jobs.handlers(settings),
    }
