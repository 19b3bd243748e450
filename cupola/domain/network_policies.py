"""Network policies: who may open container-to-container ways between apps, and how many (app-runtime.md section 16).

Network administrators (scope network.admin) may do everything, and name apps that do not exist; everybody else needs
scope network.write and to develop in the spaces of all apps concerned. This engine does not enforce policies yet.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Row, and_, or_, select

from cupola.roles import Actor
from cupola.store import network_policies as store
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.network_policies import Policy, network_policies
from cupola.store.orgs import roles

__all__ = ["ADMIN", "WRITE", "Refused", "create", "delete", "delete_stale", "listed"]

ADMIN = "network.admin"
WRITE = "network.write"
MAX_PER_SOURCE = 150
"""Policies that an app may be the source of, unless an administrator makes them."""
_columns = network_policies.c


class Refused(Exception):
    """The actor may not do this; the text says why, in the words of the policy server."""


def create(tx: Tx, actor: Actor, wanted: Sequence[Policy]) -> None:
    """Add policies; those that exist already stay. Raises Refused."""
    _require_access(tx, actor, wanted)
    _require_quota(tx, actor, wanted)
    store.add(tx, wanted)


def delete(tx: Tx, actor: Actor, unwanted: Sequence[Policy]) -> None:
    """Remove policies; those that do not exist are no error. Raises Refused."""
    _require_access(tx, actor, unwanted)
    store.remove(tx, unwanted)


def delete_stale(tx: Tx) -> list[Row[Any]]:
    """Remove the policies of apps that do not exist; gives them."""
    existing = select(apps.c.guid)
    stale = or_(_columns.source_guid.not_in(existing), _columns.destination_guid.not_in(existing))
    found = list(store.found(tx, stale))
    store.remove(tx, [store.policy_of(row) for row in found])
    return found


def listed(
    tx: Tx, actor: Actor, *, either: Collection[str] = (), sources: Collection[str] = (), targets: Collection[str] = ()
) -> list[Row[Any]]:
    """Policies that name one of these apps and that the actor may see; `either` wins over the other two."""
    condition: Any = None
    if either:
        condition = or_(_columns.source_guid.in_(either), _columns.destination_guid.in_(either))
    elif sources and targets:
        condition = and_(_columns.source_guid.in_(sources), _columns.destination_guid.in_(targets))
    elif sources or targets:
        column = _columns.source_guid if sources else _columns.destination_guid
        condition = column.in_(sources or targets)
    if ADMIN not in actor.scopes:
        developed = select(roles.c.space_guid).where(roles.c.user_guid == actor.guid, roles.c.type == "space_developer")
        mine = select(apps.c.guid).where(apps.c.space_guid.in_(developed))
        own = and_(_columns.source_guid.in_(mine), _columns.destination_guid.in_(mine))
        condition = own if condition is None else and_(condition, own)
    return list(store.found(tx, condition))


def _require_access(tx: Tx, actor: Actor, policies: Sequence[Policy]) -> None:
    if ADMIN in actor.scopes:
        return
    named = sorted({guid for policy in policies for guid in policy[:2]})
    found = tx.all(select(apps.c.guid, apps.c.space_guid).where(apps.c.guid.in_(named)))
    places = {row.space_guid for row in found}
    developed = set(
        tx.scalars(
            select(roles.c.space_guid).where(
                roles.c.user_guid == actor.guid, roles.c.type == "space_developer", roles.c.space_guid.in_(places)
            )
        )
    )
    if len(found) < len(named) or places - developed:
        raise Refused("one or more applications cannot be found or accessed")


def _require_quota(tx: Tx, actor: Actor, wanted: Sequence[Policy]) -> None:
    if ADMIN in actor.scopes:
        return
    after = store.known(tx, wanted).union(wanted)
    if any(count > MAX_PER_SOURCE for count in Counter(policy[0] for policy in after).values()):
        raise Refused("policy quota exceeded")
