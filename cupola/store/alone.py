"""One controller at a time, where several share a PostgreSQL: the others wait until the transaction ends.

On SQLite writers are alone in any case.
"""

from sqlalchemy import text

from cupola.store.database import Tx

__all__ = ["FIRST_START", "alone"]

FIRST_START = 7_262_012
"""PostgreSQL advisory lock of what is made once; migrate.py has the one before it."""


def alone(tx: Tx, lock: int) -> None:
    """Wait for whoever holds `lock`, then hold it until this transaction ends."""
    if tx.connection.dialect.name == "postgresql":
        tx.run(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
