"""Deleting offerings and plans without asking their broker (reference/service-brokers.md section 4)."""

from typing import Any

from sqlalchemy import Row, select

from cupola import errors
from cupola.domain import audit, service_instances
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.service_brokers import service_offerings, service_plan_visibilities, service_plans
from cupola.store.service_instances import service_instances as instances

__all__ = ["delete_offering", "delete_plan", "purge_offering", "require_unused"]


def require_unused(tx: Tx, plan: Row[Any]) -> None:
    """Raises 422 while a plan has instances."""
    if tx.scalar(select(instances.c.guid).where(instances.c.service_plan_guid == plan.guid).limit(1)) is not None:
        raise errors.unprocessable("Please delete the service_instances associations for your service_plans.")


def delete_plan(tx: Tx, actor: Actor, plan: Row[Any]) -> None:
    """Forget a plan; it comes back with the next synchronization if the broker still offers it. Raises 422."""
    require_unused(tx, plan)
    _remove_plan(tx, plan)
    audit.record(tx, "audit.service_plan.delete", actor, plan.guid, "service_plan", plan.name, {})


def _remove_plan(tx: Tx, plan: Row[Any]) -> None:
    visible = service_plan_visibilities
    tx.run(visible.delete().where(visible.c.service_plan_guid == plan.guid))
    rows.remove(tx, service_plans, [plan.guid])


def delete_offering(tx: Tx, actor: Actor, offering: Row[Any]) -> None:
    """Forget an offering. Raises 422 while it has plans."""
    of_offering = service_plans.c.service_offering_guid == offering.guid
    if tx.scalar(select(service_plans.c.guid).where(of_offering).limit(1)) is not None:
        raise errors.unprocessable("Please delete the service_plans associations for your services.")
    _remove_offering(tx, actor, offering, {})


def purge_offering(tx: Tx, actor: Actor, offering: Row[Any]) -> None:
    """Forget an offering with its plans, their instances and bindings; the broker is told nothing."""
    for plan in tx.all(select(service_plans).where(service_plans.c.service_offering_guid == offering.guid)):
        for instance in tx.all(select(instances).where(instances.c.service_plan_guid == plan.guid)):
            service_instances.purge(tx, actor, instance)
        _remove_plan(tx, plan)
    _remove_offering(tx, actor, offering, {"request": {"purge": True}})


def _remove_offering(tx: Tx, actor: Actor, offering: Row[Any], data: dict[str, Any]) -> None:
    rows.remove(tx, service_offerings, [offering.guid])
    audit.record(tx, "audit.service.delete", actor, offering.guid, "service", offering.name, data)
