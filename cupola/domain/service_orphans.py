"""Orphans: what a broker may have made and nobody here knows of any more is removed there (service-brokers.md 7).

Whoever finds one enqueues its removal in the transaction in which it becomes one; users do not see that job's outcome.
"""

from typing import Any

from sqlalchemy import Row, select

from cupola.domain import service_offers
from cupola.roles import system_actor
from cupola.store import jobs
from cupola.store.database import Tx
from cupola.store.service_instances import service_instances

__all__ = ["ATTEMPTS", "of_binding", "of_instance"]

ATTEMPTS = 11
"""How often a removal is tried; the n-th retry comes 2^n minutes after the one before."""


def of_instance(tx: Tx, instance: Row[Any]) -> None:
    """Have the broker remove an instance, which may be deleted here in this very transaction."""
    _enqueue(tx, "service_instance.remove_orphan", instance.service_plan_guid, {"instance_guid": instance.guid})


def of_binding(tx: Tx, binding: Row[Any]) -> None:
    """Have the broker remove a binding of an app or route, or a key."""
    plan = select(service_instances.c.service_plan_guid).where(
        service_instances.c.guid == binding.service_instance_guid
    )
    payload = {"instance_guid": binding.service_instance_guid, "binding_guid": binding.guid}
    _enqueue(tx, "service_binding.remove_orphan", tx.scalar(plan), payload)


def _enqueue(tx: Tx, operation: str, plan_guid: str | None, payload: dict[str, str]) -> None:
    offer = service_offers.of_plan(tx, plan_guid)
    if offer is None:
        return
    ids = {
        "broker_guid": offer.service_broker_guid,
        "service_id": offer.service_id,
        "plan_id": offer.catalog_id,
    }
    jobs.enqueue(
        tx,
        operation,
        {**payload, **ids},
        actor=system_actor(),
        lane="broker",
        target=offer.service_broker_guid,
    )
