"""Who may do what: the checks of a write, after the caller was found able to see the thing.

Order (reference/behaviours.md section 1): role (403), then suspended or being deleted. Admins pass everything.
Organization managers pass what a suspended or vanishing space forbids, never what its organization forbids.
"""

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Row, bindparam, or_, select

from cupola import errors
from cupola.roles import Actor
from cupola.store.database import Tx
from cupola.store.orgs import organizations, roles, spaces
from cupola.store.prepared import Prepared

__all__ = [
    "MANAGE_APPS",
    "WRITE_IN_SPACE",
    "has_in_space",
    "manages_any_organization",
    "may_read_space",
    "require_active",
    "require_admin",
    "require_in_org",
    "require_in_space",
    "roles_in_org",
    "roles_in_space",
]

WRITE_IN_SPACE = ("space_developer",)
MANAGE_APPS = ("space_developer", "space_supporter")
READ_SPACE = ("organization_manager", "space_auditor", "space_developer", "space_manager", "space_supporter")

# Nearly every write asks one of these.
_OF_ACTOR = select(roles.c.type).where(roles.c.user_guid == bindparam("actor"))
_ROLES_IN_ORG = Prepared(_OF_ACTOR.where(roles.c.organization_guid == bindparam("guid")), one_plan=True)
_ROLES_IN_SPACE = Prepared(
    _OF_ACTOR.where(
        or_(
            roles.c.space_guid == bindparam("guid"),
            roles.c.organization_guid
            == select(spaces.c.organization_guid).where(spaces.c.guid == bindparam("guid")).scalar_subquery(),
        )
    )
)
_MANAGED = Prepared(
    _OF_ACTOR.where(roles.c.organization_guid.is_not(None), roles.c.type == "organization_manager").limit(1)
)
_STATE_OF_ORG = Prepared(
    select(organizations.c.suspended, organizations.c.deleting).where(organizations.c.guid == bindparam("guid")),
    one_plan=True,
)
_STATE_OF_SPACE = Prepared(
    select(
        organizations.c.suspended,
        organizations.c.deleting,
        spaces.c.suspended.label("space_suspended"),
        spaces.c.deleting.label("space_deleting"),
    )
    .join(organizations, organizations.c.guid == spaces.c.organization_guid)
    .where(spaces.c.guid == bindparam("guid")),
    one_plan=True,
)


def require_admin(actor: Actor) -> None:
    """Raises 403 for anybody but an admin."""
    if not actor.is_admin:
        raise errors.not_authorized()


def roles_in_org(tx: Tx, actor: Actor, organization_guid: str) -> frozenset[str]:
    """Types of the actor's roles in an organization itself."""
    return frozenset(tx.scalars(_ROLES_IN_ORG, {"actor": actor.guid, "guid": organization_guid}))


def roles_in_space(tx: Tx, actor: Actor, space_guid: str) -> frozenset[str]:
    """Types of the actor's roles in a space and in its organization."""
    return frozenset(tx.scalars(_ROLES_IN_SPACE, {"actor": actor.guid, "guid": space_guid}))


def manages_any_organization(tx: Tx, actor: Actor) -> bool:
    """Whether the actor is manager of an organization, whichever."""
    return tx.scalar(_MANAGED, {"actor": actor.guid}) is not None


def has_in_space(tx: Tx, actor: Actor, space_guid: str, allowed: Collection[str]) -> bool:
    """Whether the actor is admin or has one of the roles in the space (or its organization)."""
    return actor.is_admin or not roles_in_space(tx, actor, space_guid).isdisjoint(allowed)


def may_read_space(tx: Tx, actor: Actor, space_guid: str) -> bool:
    """Whether the actor sees the space and what is in it."""
    return actor.reads_everything or not roles_in_space(tx, actor, space_guid).isdisjoint(READ_SPACE)


def require_in_space(
    tx: Tx, actor: Actor, space_guid: str, allowed: Collection[str], *, also_suspended: bool = False
) -> None:
    """Raises 403 unless the actor has one of the roles there and the space and organization are active."""
    if actor.is_admin:
        return
    have = roles_in_space(tx, actor, space_guid)
    if have.isdisjoint(allowed):
        raise errors.not_authorized()
    if not also_suspended:
        _require_space_active(tx, space_guid, have)


def require_in_org(tx: Tx, actor: Actor, organization_guid: str, allowed: Collection[str]) -> None:
    """Raises 403 unless the actor has one of the roles in the organization and it is active."""
    if actor.is_admin:
        return
    if roles_in_org(tx, actor, organization_guid).isdisjoint(allowed):
        raise errors.not_authorized()
    _require_org_active(tx.one(_STATE_OF_ORG, {"guid": organization_guid}))


def require_active(tx: Tx, actor: Actor, space_guid: str) -> None:
    """Raises when the space or its organization is suspended or being deleted, by the rules for this actor."""
    if not actor.is_admin:
        _require_space_active(tx, space_guid, roles_in_space(tx, actor, space_guid))


def _require_space_active(tx: Tx, space_guid: str, have: Iterable[str]) -> None:
    row = tx.one(_STATE_OF_SPACE, {"guid": space_guid})
    if row is None:
        return
    passes = "organization_manager" in have
    if row.space_deleting and not row.deleting and not passes:
        raise errors.being_deleted("space")
    _require_org_active(row)
    if row.space_suspended and not passes:
        raise errors.space_suspended()


def _require_org_active(row: Row[Any] | None) -> None:
    if row is None:
        return
    if row.deleting:
        raise errors.being_deleted("organization")
    if row.suspended:
        raise errors.org_suspended()
