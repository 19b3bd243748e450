"""Deleting apps, routes, spaces and organizations with what brokers know of inside (behaviours.md section 7).

First the brokers are asked, one thing after the other; what cannot be removed is named and stays, and so does what it is
in. When nothing of theirs is left, the rest goes in one transaction (domain/deletion.py). Asking again goes on from there.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Row, Table, select

from cupola import errors
from cupola.brokers import unbinding
from cupola.brokers.client import BrokerClient
from cupola.brokers.facts import of_instance
from cupola.brokers.instance_jobs import InstanceJobs
from cupola.brokers.parties import Caller
from cupola.config import Settings
from cupola.domain import (
    deletion,
    locks,
    routes,
    service_brokers,
    service_errors,
    service_instances,
)
from cupola.domain import service_instance_sharing as sharing
from cupola.domain.service_bindings import APP, ROUTE, Kind, of_app
from cupola.errors import CloudError, Several
from cupola.jobs.outside import Done, Outcome, Outside, OutsideJob, Retry
from cupola.store import rows
from cupola.store.apps import apps as apps_table
from cupola.store.database import Tx
from cupola.store.orgs import organizations as organizations_table
from cupola.store.orgs import spaces as spaces_table
from cupola.store.routes import domains as domains_table
from cupola.store.routes import routes as routes_table
from cupola.store.service_bindings import service_route_bindings
from cupola.store.service_brokers import service_brokers as brokers_table
from cupola.store.service_instances import service_instance_shares
from cupola.store.service_instances import service_instances as instances_table

__all__ = ["handlers"]

_MEANWHILE = "something was bound while its service instances and bindings were removed"


def handlers(settings: Settings, client: BrokerClient) -> dict[str, Outside]:
    """Job operation to handler."""
    cascades = _Cascades(settings, client)
    return {
        "app.delete": Outside(cascades.app),
        "route.delete": Outside(cascades.route),
        "domain.delete": Outside(cascades.domain),
        "space.delete": Outside(cascades.space),
        "space.delete_unmapped_routes": Outside(cascades.unmapped_routes),
        "organization.delete": Outside(cascades.organization),
    }


class _Cascades:
    def __init__(self, settings: Settings, client: BrokerClient) -> None:
        self._settings = settings
        self._client = client
        self._instances = InstanceJobs(settings, client)

    async def app(self, job: OutsideJob) -> Outcome:
        """Unbind an app from its services, then delete it."""
        app = await job.read(lambda tx: _row(tx, apps_table, job))
        if app is None:
            return Done()
        await job.read(lambda tx: locks.require_app_unlocked(tx, app))
        causes = await self._unbind(job, lambda tx: [(APP, row) for row in of_app(tx, app.guid)])
        if causes:
            raise _each(causes)

        def finish(tx: Tx) -> None:
            row = _row(tx, apps_table, job)
            if row is None:
                return
            if of_app(tx, row.guid):
                raise Retry(0.1, _MEANWHILE)
            deletion.delete_app(tx, job.actor, row)

        return Done(finish)

    async def route(self, job: OutsideJob) -> Outcome:
        """Take the service away from a route, then delete it."""
        await self._require_unbound(job, lambda tx: [job.payload["guid"]])
        return Done(lambda tx: routes.delete_routes(tx, job.actor, [job.payload["guid"]]))

    async def unmapped_routes(self, job: OutsideJob) -> Outcome:
        """Delete the routes of a space that lead nowhere; those with a service are wanted."""
        return Done(lambda tx: routes.delete_routes(tx, job.actor, routes.unmapped(tx, job.payload["guid"])))

    async def domain(self, job: OutsideJob) -> Outcome:
        """Take the services away from the routes of a domain, then delete it with them."""

        def of_domain(tx: Tx) -> list[str]:
            own = routes_table.c
            return tx.scalars(select(own.guid).where(own.domain_guid == job.payload["guid"]))

        await self._require_unbound(job, of_domain)

        def finish(tx: Tx) -> None:
            row = _row(tx, domains_table, job)
            if row is not None:
                deletion.delete_domain(tx, job.actor, row)

        return Done(finish)

    async def space(self, job: OutsideJob) -> Outcome:
        """Remove the services of a space, then delete it with its apps."""
        space = await job.read(lambda tx: _row(tx, spaces_table, job))
        if space is None:
            return Done()
        await job.read(lambda tx: locks.require_space_unlocked(tx, space))
        causes = await self._empty(job, space)
        if causes:
            raise _of_space(space, causes)

        def finish(tx: Tx) -> None:
            row = _row(tx, spaces_table, job)
            if row is not None:
                _require_empty(tx, row.guid)
                deletion.delete_space(tx, job.actor, row)

        return Done(finish)

    async def organization(self, job: OutsideJob) -> Outcome:
        """Remove the services of an organization's spaces, then delete it with them."""
        organization = await job.read(lambda tx: _row(tx, organizations_table, job))
        if organization is None:
            return Done()
        await job.read(lambda tx: deletion.require_deletable_organization(tx, organization))
        failed: list[str] = []
        for space in await job.read(lambda tx: _spaces(tx, organization.guid)):
            causes = await self._empty(job, space)
            if causes:
                failed.append(_of_space(space, causes).detail)
        if failed:
            raise deletion.organization_failed(organization, failed)

        def finish(tx: Tx) -> None:
            row = _row(tx, organizations_table, job)
            if row is None:
                return
            for space in _spaces(tx, row.guid):
                _require_empty(tx, space.guid)
            deletion.delete_organization(tx, job.actor, row)

        return Done(finish)

    # What containers have in common.

    async def _unbind(self, job: OutsideJob, bindings: Callable[[Tx], list[tuple[Kind, Row[Any]]]]) -> list[str]:
        return await unbinding.remove_all(
            job, self._client, Caller.of_job(job), job.actor, bindings, unbinding.words_of_binding
        )

    async def _require_unbound(self, job: OutsideJob, guids: Callable[[Tx], list[str]]) -> None:
        def of_routes(tx: Tx) -> list[tuple[Kind, Row[Any]]]:
            own = service_route_bindings
            return [(ROUTE, row) for row in tx.all(select(own).where(own.c.route_guid.in_(guids(tx))))]

        causes = await self._unbind(job, of_routes)
        if causes:
            raise _each(causes)

    async def _empty(self, job: OutsideJob, space: Row[Any]) -> list[str]:
        """Remove instances, brokers and shares of a space; why some of them are still there."""
        causes = []
        for instance in await job.read(lambda tx: _instances(tx, space.guid)):
            causes += await self._remove_instance(job, instance)
        causes += await job.write(lambda tx: self._remove_brokers(tx, job, space.guid))
        for instance in await job.read(lambda tx: _shared_into(tx, space.guid)):
            causes += await self._end_share(job, instance, space)
        return causes

    async def _remove_instance(self, job: OutsideJob, instance: Row[Any]) -> list[str]:
        facts = await job.read(lambda tx: of_instance(tx, instance.guid))
        if facts is None:
            await job.write(lambda tx: _delete_user_provided(tx, job, instance.guid))
            return []
        memos = job.payload.setdefault("instances", {})
        cause = await self._instances.remove_within(job, facts, memos.setdefault(instance.guid, {}))
        return [] if cause is None else [cause]

    def _remove_brokers(self, tx: Tx, job: OutsideJob, space_guid: str) -> list[str]:
        causes = []
        for broker in tx.all(select(brokers_table).where(brokers_table.c.space_guid == space_guid)):
            try:
                service_brokers.remove(tx, job.actor, broker)
            except CloudError as error:
                causes.append(error.detail)
        return causes

    async def _end_share(self, job: OutsideJob, instance: Row[Any], space: Row[Any]) -> list[str]:
        causes = await self._unbind(job, lambda tx: sharing.bindings_in(tx, instance, space.guid))
        if causes:
            told = "\n\n".join(f"\t{cause}" for cause in causes)
            return [f"Unshare of service instance failed because one or more bindings could not be deleted.\n\n {told}"]
        await job.write(lambda tx: sharing.end(tx, job.actor, instance, space.guid))
        return []


def _row(tx: Tx, table: Table, job: OutsideJob) -> Row[Any] | None:
    return rows.by_guid(tx, table, job.payload["guid"])


def _spaces(tx: Tx, organization_guid: str) -> list[Row[Any]]:
    own = spaces_table
    return list(tx.all(select(own).where(own.c.organization_guid == organization_guid).order_by(own.c.id)))


def _instances(tx: Tx, space_guid: str) -> list[Row[Any]]:
    own = instances_table
    return list(tx.all(select(own).where(own.c.space_guid == space_guid).order_by(own.c.id)))


def _shared_into(tx: Tx, space_guid: str) -> list[Row[Any]]:
    shares, own = service_instance_shares.c, instances_table
    shared = select(shares.service_instance_guid).where(shares.space_guid == space_guid)
    return list(tx.all(select(own).where(own.c.guid.in_(shared)).order_by(own.c.id)))


def _require_empty(tx: Tx, space_guid: str) -> None:
    """What was made while the job asked brokers is asked for as well."""
    if _instances(tx, space_guid) or _shared_into(tx, space_guid):
        raise Retry(0.1, _MEANWHILE)


def _delete_user_provided(tx: Tx, job: OutsideJob, guid: str) -> None:
    instance = rows.by_guid(tx, instances_table, guid)
    if instance is not None:
        service_instances.delete_user_provided(tx, job.actor, instance)


def _each(causes: list[str]) -> CloudError:
    found: list[CloudError] = [errors.unprocessable(cause) for cause in causes]
    return found[0] if len(found) == 1 else Several(found)


def _of_space(space: Row[Any], causes: list[str]) -> CloudError:
    return service_errors.space_deletion_failed(space.name, "\n\n".join(f"\t{cause}" for cause in causes))
