"""Removing at a broker what it may have and nobody here knows of: silent, and tried again for a day and a half."""

import logging

from cupola.brokers.client import BrokerClient, CatalogIds, Operated
from cupola.brokers.parties import Broker, Caller
from cupola.brokers.problems import BrokerError
from cupola.domain.service_orphans import ATTEMPTS
from cupola.jobs.outside import Done, Outcome, Outside, OutsideJob, Retry
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.service_brokers import service_brokers

__all__ = ["handlers"]

_log = logging.getLogger(__name__)


def handlers(client: BrokerClient) -> dict[str, Outside]:
    """Job operation to handler."""
    orphans = _Orphans(client)
    return {
        "service_instance.remove_orphan": Outside(orphans.remove),
        "service_binding.remove_orphan": Outside(orphans.remove),
    }


class _Orphans:
    def __init__(self, client: BrokerClient) -> None:
        self._client = client

    async def remove(self, job: OutsideJob) -> Outcome:
        """Ask the broker to remove it; whether it does so at once or later is its own business."""

        def find(tx: Tx) -> Broker | None:
            row = rows.by_guid(tx, service_brokers, job.payload["broker_guid"])
            return None if row is None else Broker.of(tx, row)

        broker = await job.read(find)
        if broker is None:
            return Done()
        try:
            await self._ask(job, broker)
        except BrokerError as error:
            what = job.payload.get("binding_guid") or job.payload["instance_guid"]
            _log.warning("broker %s did not remove the orphan %s: %s", broker.name, what, error.text)
            if job.attempts < ATTEMPTS:
                raise Retry(60.0 * 2**job.attempts, f"the orphan {what} is still there") from error
        return Done()

    async def _ask(self, job: OutsideJob, broker: Broker) -> Operated:
        caller = Caller.of_job(job)
        ids = CatalogIds(job.payload["service_id"], job.payload["plan_id"])
        instance, binding = job.payload["instance_guid"], job.payload.get("binding_guid")
        if binding is None:
            return await self._client.deprovision(broker, caller, instance, ids)
        return await self._client.unbind(broker, caller, instance, binding, ids)
