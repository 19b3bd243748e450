"""Network policies: which apps may reach which ports of other apps, container to container."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Integer, Row, String, Table, UniqueConstraint, and_, delete, insert, or_, select

from cupola.store.database import Tx
from cupola.store.schema import big_id, metadata

__all__ = ["Policy", "add", "found", "known", "network_policies", "policy_of", "remove", "remove_all_of"]

network_policies = Table(
    "network_policies",
    metadata,
    big_id(),
    Column("source_guid", String(255), nullable=False),
    Column("destination_guid", String(255), nullable=False, index=True),
    Column("protocol", String(8), nullable=False),
    Column("first_port", Integer, nullable=False),
    Column("last_port", Integer, nullable=False),
    UniqueConstraint(
        "source_guid", "destination_guid", "protocol", "first_port", "last_port", name="uq_network_policies_all"
    ),
)
"""Guids of apps; network administrators may name apps that do not exist, so they are no references."""

Policy = tuple[str, str, str, int, int]
"""Source, destination, protocol, first and last port."""
_columns = network_policies.c
_KEY = (
    _columns.source_guid,
    _columns.destination_guid,
    _columns.protocol,
    _columns.first_port,
    _columns.last_port,
)
_BATCH = 100


def add(tx: Tx, wanted: Sequence[Policy]) -> None:
    """Insert policies that are not there yet."""
    names = [column.name for column in _KEY]
    there = known(tx, wanted)
    new = [policy for policy in dict.fromkeys(wanted) if policy not in there]
    if new:
        tx.run(insert(network_policies), [dict(zip(names, policy, strict=True)) for policy in new])


def known(tx: Tx, wanted: Sequence[Policy]) -> set[Policy]:
    """All policies of the sources of these."""
    sources = sorted({policy[0] for policy in wanted})
    there: set[Policy] = set()
    for start in range(0, len(sources), _BATCH):
        own = _columns.source_guid.in_(sources[start : start + _BATCH])
        there.update(policy_of(row) for row in found(tx, own))
    return there


def policy_of(row: Row[Any]) -> Policy:
    """A row as a policy."""
    return (row.source_guid, row.destination_guid, row.protocol, row.first_port, row.last_port)


def remove(tx: Tx, unwanted: Sequence[Policy]) -> None:
    """Delete policies; those that are not there are no error."""
    for start in range(0, len(unwanted), _BATCH):
        batch = unwanted[start : start + _BATCH]
        same = [and_(*(column == value for column, value in zip(_KEY, policy, strict=True))) for policy in batch]
        tx.run(delete(network_policies).where(or_(*same)))


def remove_all_of(tx: Tx, app_guid: str) -> None:
    """Delete the policies from and to an app."""
    tx.run(delete(network_policies).where(or_(_columns.source_guid == app_guid, _columns.destination_guid == app_guid)))


def found(tx: Tx, condition: Any = None) -> Sequence[Row[Any]]:
    """Policies that meet a condition, or all of them, oldest first."""
    statement = select(network_policies).order_by(_columns.id)
    return tx.all(statement if condition is None else statement.where(condition))
