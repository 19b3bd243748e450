"""Leases: who last took up a periodic piece of work, and when it is due again."""

from sqlalchemy import BigInteger, Column, String, Table, insert, select, update

from cupola.store.database import Tx
from cupola.store.schema import metadata

__all__ = ["leases", "take"]

leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("due_at", BigInteger, nullable=False),
)


def take(tx: Tx, name: str, period: int) -> bool:
    """Whether the work is due; if so, it is due again `period` microseconds from now. Of several callers one wins."""
    due = tx.scalar(select(leases.c.due_at).where(leases.c.name == name))
    if due is None:
        tx.run(insert(leases).values(name=name, due_at=tx.now + period))
        return True
    changed = tx.run(
        update(leases).where(leases.c.name == name, leases.c.due_at <= tx.now).values(due_at=tx.now + period)
    )
    return bool(changed.rowcount)
