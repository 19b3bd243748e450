"""Catalogs are fetched, examined and stored: by the jobs of brokers, and when a plan was defined."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, select

from cupola.brokers import dashboards
from cupola.brokers.client import BrokerClient
from cupola.brokers.parties import Broker, Caller
from cupola.brokers.problems import BrokerError, reason
from cupola.config import Settings
from cupola.domain import dashboard_clients, service_brokers, service_catalog_sync
from cupola.domain.dashboard_clients import Secrets
from cupola.domain.service_catalog import Catalog, examine
from cupola.errors import CloudError
from cupola.jobs.outside import Done, Job, Outcome, Outside, OutsideJob
from cupola.store import rows, sealed
from cupola.store.database import Tx
from cupola.store.service_brokers import service_brokers as table

__all__ = ["fetch", "handlers", "store"]


async def fetch(client: BrokerClient, broker: Broker, caller: Caller) -> Catalog:
    """The catalog of a broker, in which nothing is wrong by itself. Raises 270012, 270020, 270021 and BrokerError."""
    try:
        document = await client.catalog(broker, caller)
    except BrokerError as error:
        raise _of_catalog(error) from error
    report = examine(document)
    if report:
        raise service_catalog_sync.invalid(report)
    return Catalog.of(document)


def _of_catalog(error: BrokerError) -> CloudError:
    if error.kind == "ServiceBrokerRequestRejected":
        return CloudError(
            270020,
            "CF-ServiceBrokerRequestRejected",
            502,
            f"The service broker rejected the request. Status Code: {reason(error.answered)}. "
            "Please check that the URL points to a valid service broker.",
        )
    if error.kind == "ServiceBrokerResponseMalformed":
        return CloudError(
            270021,
            "CF-ServiceBrokerRequestMalformed",
            502,
            "The service broker returned an invalid response: expected valid JSON object in body. "
            "Please check that the URL points to a valid service broker.",
        )
    return error


def store(tx: Tx, settings: Settings, broker: Row[Any], catalog: Catalog, secrets: Secrets) -> list[str]:
    """Make a fetched catalog that of its broker. Gives warnings. Raises 270012."""
    service_catalog_sync.require_storable(tx, broker.guid, catalog)
    return service_catalog_sync.synchronize(tx, settings, broker, catalog, secrets)


def _find(tx: Tx, guid: str) -> Row[Any]:
    """The broker, nobody else changing it until the commit. Raises 270011."""
    wanted = select(table).where(table.c.guid == guid)
    row = tx.one(wanted.with_for_update() if tx.writable else wanted)
    if row is None:
        raise service_brokers.gone()
    return row


def _changed(tx: Tx, row: Row[Any], changes: Mapping[str, Any]) -> Broker:
    """The broker as it is to become."""
    found = replace(
        Broker.of(tx, row), **{name: changes[name] for name in ("name", "url", "anywhere") if name in changes}
    )
    if "username" in changes:
        username = sealed.opened(tx, table.c.username, changes["username"])
        found = replace(found, username=username, password=sealed.opened(tx, table.c.password, changes["password"]))
    return found


def handlers(settings: Settings, client: BrokerClient, registries: dashboards.Registries) -> dict[str, Outside]:
    """Job operation to handler."""

    async def synchronize(job: OutsideJob) -> Outcome:
        """The first fetch, or one with new values (`changes` in the payload)."""
        guid, changes = job.payload["guid"], job.payload.get("changes", {})
        broker = await job.read(lambda tx: _changed(tx, _find(tx, guid), changes))
        if changes and set(changes) <= {"name"}:
            return Done(lambda tx: _renamed(tx, guid, changes))
        catalog = await fetch(client, broker, Caller.of_job(job))
        await dashboards.publish(registries(), job.read, settings.brokers.dashboard_scopes, guid, catalog)
        hashes = await job.read(lambda tx: dashboard_clients.hashes_of(tx, catalog))
        secrets: Secrets = await job.in_thread(lambda: dashboard_clients.prepare(settings, catalog, hashes))
        warnings: list[str] = []

        def then(tx: Tx) -> None:
            row = service_brokers.apply_change(tx, _find(tx, guid), changes)
            warnings[:] = store(tx, settings, row, catalog, secrets)

        return Done(then, warnings)

    async def remove(job: OutsideJob) -> Outcome:
        def then(tx: Tx) -> None:
            row = rows.by_guid(tx, table, job.payload["guid"])
            if row is not None:
                service_brokers.remove(tx, job.actor, row)

        return Done(then)

    return {
        "service_broker.catalog.synchronize": Outside(synchronize, _synchronization_failed),
        "service_broker.update": Outside(synchronize, _update_failed),
        "service_broker.delete": Outside(remove, _deletion_failed),
    }


def _renamed(tx: Tx, guid: str, changes: Mapping[str, Any]) -> None:
    service_brokers.apply_change(tx, _find(tx, guid), changes)


def _synchronization_failed(tx: Tx, job: Job, error: CloudError) -> None:
    service_brokers.set_state(tx, job.payload["guid"], service_brokers.SYNCHRONIZATION_FAILED)


def _update_failed(tx: Tx, job: Job, error: CloudError) -> None:
    service_brokers.set_state(tx, job.payload["guid"], job.payload["previous_state"])


def _deletion_failed(tx: Tx, job: Job, error: CloudError) -> None:
    service_brokers.set_state(tx, job.payload["guid"], service_brokers.DELETE_FAILED)
