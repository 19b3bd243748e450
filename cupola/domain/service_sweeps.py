"""Creations of service instances and bindings that nobody works on any more (service-brokers.md section 7, last rows).

Jobs outlive the platform, so there should be none; should a job be lost all the same, its row does not wait for ever.
"""

from typing import Any

from sqlalchemy import Row, Table, exists, select

from cupola.config import Settings
from cupola.domain import last_operations, service_orphans
from cupola.store import jobs, rows
from cupola.store.database import Tx
from cupola.store.service_bindings import service_credential_bindings, service_route_bindings
from cupola.store.service_instances import service_instances

__all__ = ["fail_abandoned", "fail_stuck"]

_MOST = 10
"""Rows of a kind at once, so that a broker which is down is not overrun."""
_TABLES = (service_instances, service_credential_bindings, service_route_bindings)


def fail_stuck(tx: Tx, settings: Settings) -> int:
    """Fail what was never sent to its broker, and is older than any broker may take; gives how many."""
    before = tx.now - int(settings.brokers.timeout_seconds * 1.1 * 1_000_000)
    text = 'Operation was stuck in "initial" state. Set to "failed" by cleanup job.'
    return sum(_fail(tx, table, "initial", before, text) for table in _TABLES)


def fail_abandoned(tx: Tx) -> int:
    """Fail what a broker was making when its job was lost; gives how many."""
    text = 'Operation was stuck in "in progress" state. Set to "failed" by cleanup job.'
    return sum(_fail(tx, table, "in progress", tx.now, text) for table in _TABLES)


def _fail(tx: Tx, table: Table, state: str, before: int, text: str) -> int:
    worked_on = exists(select(jobs.jobs.c.guid).where(jobs.jobs.c.resource_guid == table.c.guid, jobs.is_open()))
    lost = (
        select(table)
        .where(
            table.c.operation_state == state,
            table.c.operation_updated_at < before,
            table.c.operation_type == "create",
            ~worked_on,
        )
        .order_by(table.c.id)
        .limit(_MOST)
        .with_for_update()
    )
    found = list(tx.all(lost))
    for row in found:
        rows.change(tx, table, row, last_operations.ended(tx, "create", "failed", text))
        _mitigate(tx, table, row, state)
    return len(found)


def _mitigate(tx: Tx, table: Table, row: Row[Any], state: str) -> None:
    if table is service_instances:
        service_orphans.of_instance(tx, row)
    elif table is service_credential_bindings or state == "in progress":
        service_orphans.of_binding(tx, row)
