"""Where the logs of apps go: the drains of what the apps are bound to."""

import asyncio

from sqlalchemy import func, select

from cupola.logs.drains import Drains, Target
from cupola.store import sealed
from cupola.store.database import Database, Tx
from cupola.store.service_bindings import service_credential_bindings
from cupola.store.service_brokers import service_brokers, service_plans
from cupola.store.service_instances import service_instances

__all__ = ["run", "wanted"]

_PERIOD = 60.0
"""Seconds after which bindings are looked at again, should a bell have been lost."""


async def run(database: Database, drains: Drains) -> None:
    """Keep the drains as the bindings say, until cancelled."""

    def read() -> list[Target]:
        with database.read() as tx:
            return wanted(tx)

    listener = database.bells.listen("drains")
    try:
        while True:
            await drains.follow(await asyncio.to_thread(read))
            await listener.wait(_PERIOD)
    finally:
        listener.close()
        await drains.close()


def wanted(tx: Tx) -> list[Target]:
    """All drains; one address counts once for an app."""
    bindings = service_credential_bindings.c
    statement = (
        select(
            bindings.app_guid,
            bindings.syslog_drain_url,
            func.coalesce(service_brokers.c.anywhere, service_instances.c.syslog_drain_anywhere).label("anywhere"),
        )
        .join(service_instances, service_instances.c.guid == bindings.service_instance_guid)
        .outerjoin(service_plans, service_plans.c.guid == service_instances.c.service_plan_guid)
        .outerjoin(service_brokers, service_brokers.c.guid == service_plans.c.service_broker_guid)
        .where(bindings.app_guid.is_not(None), bindings.syslog_drain_url.is_not(None))
    )
    found: dict[tuple[str, str], bool] = {}
    for row in tx.all(statement):
        url = sealed.opened(tx, bindings.syslog_drain_url, row.syslog_drain_url)
        key = (row.app_guid, url)
        found[key] = found.get(key, False) or bool(row.anywhere)
    return [Target(app_guid, url, anywhere) for (app_guid, url), anywhere in found.items()]
