"""How much of an app's history is kept (behaviours.md section 20): its newest deployments, builds and revisions."""

from sqlalchemy import ColumnElement, Table, func, select

from cupola.domain import tasks
from cupola.store import rows
from cupola.store.apps import processes, revisions
from cupola.store.database import Tx
from cupola.store.deployments import deployments
from cupola.store.staging import builds

__all__ = ["MOST", "TASK_DAYS", "prune"]

MOST = 100
"""Deployments, builds and revisions that are kept of each app."""
TASK_DAYS = 31
"""Days for which a task is kept after its end."""
_DAY = 86_400 * 1_000_000


def prune(tx: Tx, most: int = MOST) -> None:
    """Delete what is too old or too much; never what is in progress or runs."""
    tasks.prune(tx, tx.now - TASK_DAYS * _DAY)
    _prune(tx, deployments, most, deployments.c.status_value == "FINALIZED")
    _prune(tx, builds, most, builds.c.state != "STAGING")
    running = select(processes.c.revision_guid).where(processes.c.revision_guid.is_not(None))
    _prune(tx, revisions, most, revisions.c.guid.not_in(running))


def _prune(tx: Tx, table: Table, most: int, ended: ColumnElement[bool]) -> None:
    place = func.row_number().over(partition_by=table.c.app_guid, order_by=table.c.id.desc()).label("place")
    ranked = select(table.c.guid, place).subquery()
    surplus = select(ranked.c.guid).where(ranked.c.place > most)
    rows.remove(tx, table, tx.scalars(select(table.c.guid).where(table.c.guid.in_(surplus), ended)))
