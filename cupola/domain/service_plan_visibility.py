"""Who may use a plan: everybody, nobody but admins, some organizations, or the space of its broker.

An offering is visible when one of its plans is. Conditions name the caller as bindparam("actor"); somebody without a
token sees what is public (reference/service-brokers.md section 5).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, case, delete, exists, func, insert, or_, select, update

from cupola import errors
from cupola.domain import access, audit, feature_flags, visibility
from cupola.roles import Actor
from cupola.store.database import Tx
from cupola.store.orgs import organizations, spaces
from cupola.store.service_brokers import service_brokers, service_offerings, service_plan_visibilities, service_plans

__all__ = [
    "change",
    "forget_organization",
    "in_organizations",
    "in_spaces",
    "offerings",
    "offerings_in",
    "organizations_of",
    "plans",
    "remove_organization",
    "require_marketplace",
    "require_writable",
]

_FEW = 500
"""Roles in organizations."""
_plans = service_plans.c
_visible = service_plan_visibilities.c


def plans(actor: Actor) -> ColumnElement[bool] | None:
    """The plans that an actor may use or sees for other reasons."""
    if actor.reads_everything:
        return None
    public = _plans.visibility_type == "public"
    if not actor.guid:
        return public
    return or_(
        public,
        and_(_plans.visibility_type == "organization", _of_my_organizations()),
        _plans.space_guid.in_(visibility.spaces_with_role()),
    )


def _of_my_organizations() -> ColumnElement[bool]:
    """Plans that one of the actor's organizations may use.

    Who has few roles is asked for what these organizations may use. For who has many, that is nearly everything: there
    each plan's organizations are looked through until one of the actor's is found, in 1/100 of the time.
    """
    mine = select(_visible.service_plan_guid).where(_visible.organization_guid.in_(visibility.readable_orgs()))
    # Written so that no index leads from the actor's organizations to the plan's.
    organization = _visible.organization_guid.concat("")
    some = exists().where(_visible.service_plan_guid == _plans.guid, organization.in_(visibility.readable_orgs()))
    number = visibility.readable_orgs().with_only_columns(func.count()).scalar_subquery()
    return case((number <= _FEW, _plans.guid.in_(mine)), else_=some)


def offerings(actor: Actor) -> ColumnElement[bool] | None:
    """The offerings of these plans, and those of brokers of the actor's spaces."""
    condition = plans(actor)
    if condition is None:
        return None
    if not actor.guid:
        return _with_plan(condition)
    own = select(service_brokers.c.guid).where(service_brokers.c.space_guid.in_(visibility.spaces_with_role()))
    return or_(_with_plan(condition), service_offerings.c.service_broker_guid.in_(own))


def _with_plan(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(_plans.service_offering_guid == service_offerings.c.guid, condition)


def in_organizations(guids: Any) -> ColumnElement[bool]:
    """Plans that can be used in one of some organizations."""
    allowed = select(_visible.service_plan_guid).where(_visible.organization_guid.in_(guids))
    own = select(spaces.c.guid).where(spaces.c.organization_guid.in_(guids))
    return or_(_plans.visibility_type == "public", _plans.guid.in_(allowed), _plans.space_guid.in_(own))


def in_spaces(guids: Any) -> ColumnElement[bool]:
    """Plans that can be used in one of some spaces."""
    theirs = select(spaces.c.organization_guid).where(spaces.c.guid.in_(guids))
    allowed = select(_visible.service_plan_guid).where(_visible.organization_guid.in_(theirs))
    return or_(_plans.visibility_type == "public", _plans.guid.in_(allowed), _plans.space_guid.in_(guids))


def offerings_in(where: Any) -> Any:
    """A filter of offerings: those with a plan that is visible to the actor and where `where` says."""

    def match(guids: Any, actor: Actor) -> ColumnElement[bool]:
        visible = plans(actor)
        return _with_plan(where(guids) if visible is None else and_(where(guids), visible))

    return match


def require_marketplace(tx: Tx, actor: Actor) -> None:
    """Raises 401 for somebody without a token where the marketplace is hidden from them."""
    if not actor.guid and feature_flags.is_enabled(tx, "hide_marketplace_from_unauthenticated_users"):
        raise errors.not_authenticated()


def require_writable(tx: Tx, actor: Actor, space_guid: str | None) -> None:
    """Raises 403 for others than admins and developers of the space of a space-scoped broker."""
    if space_guid is None:
        access.require_admin(actor)
    else:
        access.require_in_space(tx, actor, space_guid, access.WRITE_IN_SPACE)


def organizations_of(tx: Tx, actor: Actor, plan: Row[Any]) -> Sequence[Row[Any]]:
    """Guid and name of the organizations that may use a plan, those that the actor may read."""
    found = (
        select(organizations.c.guid, organizations.c.name)
        .join(service_plan_visibilities, _visible.organization_guid == organizations.c.guid)
        .where(_visible.service_plan_guid == plan.guid)
        .order_by(organizations.c.id)
    )
    readable = visibility.organizations(actor)
    return tx.all(found) if readable is None else tx.all(found.where(readable), {"actor": actor.guid})


def change(
    tx: Tx, actor: Actor, plan: Row[Any], type_: str, organization_guids: Sequence[str], *, append: bool
) -> Row[Any]:
    """Set who may use a plan; with `append`, organizations are added to those that may already. Raises 422."""
    if plan.visibility_type == "space":
        raise errors.unprocessable("cannot update plans with visibility type 'space'")
    if type_ == "organization":
        _require_known(tx, organization_guids)
    if not (append and type_ == "organization"):
        tx.run(delete(service_plan_visibilities).where(_visible.service_plan_guid == plan.guid))
    if type_ == "organization":
        _add(tx, plan, organization_guids)
    changed = tx.one(
        update(service_plans)
        .where(_plans.guid == plan.guid)
        .values(visibility_type=type_, updated_at=tx.now)
        .returning(service_plans)
    )
    assert changed is not None, "a plan vanished within its transaction"
    request: dict[str, Any] = {"type": type_}
    if type_ == "organization":
        request["organizations"] = [{"guid": guid} for guid in organization_guids]
    _record(tx, "update", actor, plan, {"request": request})
    return changed


def _require_known(tx: Tx, guids: Sequence[str]) -> None:
    known = set(tx.scalars(select(organizations.c.guid).where(organizations.c.guid.in_(list(guids)))))
    unknown = [guid for guid in guids if guid not in known]
    if unknown:
        raise errors.unprocessable(f"Could not find Organizations with guids: {', '.join(unknown)}")


def _add(tx: Tx, plan: Row[Any], guids: Sequence[str]) -> None:
    have = set(tx.scalars(select(_visible.organization_guid).where(_visible.service_plan_guid == plan.guid)))
    new = [{"service_plan_guid": plan.guid, "organization_guid": guid} for guid in guids if guid not in have]
    if new:
        tx.run(insert(service_plan_visibilities), new)


def remove_organization(tx: Tx, actor: Actor, plan: Row[Any], organization_guid: str) -> None:
    """Take a plan from an organization. Raises 404, 422."""
    if plan.visibility_type != "organization":
        raise errors.unprocessable("Cannot delete visibilities from non-org-restricted plans")
    removed = tx.run(
        delete(service_plan_visibilities).where(
            _visible.service_plan_guid == plan.guid, _visible.organization_guid == organization_guid
        )
    )
    if not removed.rowcount:
        raise errors.not_found("Organization")
    _close_unused(tx, [plan.guid])
    _record(tx, "delete", actor, plan, {"organization_guid": organization_guid})


def _close_unused(tx: Tx, plan_guids: Sequence[str]) -> None:
    """What no organization may use any more is the admins' again."""
    left = exists().where(_visible.service_plan_guid == _plans.guid)
    tx.run(
        update(service_plans)
        .where(_plans.guid.in_(list(plan_guids)), _plans.visibility_type == "organization", ~left)
        .values(visibility_type="admin", updated_at=tx.now)
    )


def forget_organization(tx: Tx, organization_guid: str) -> None:
    """Take all plans from an organization that is being deleted."""
    of_org = _visible.organization_guid == organization_guid
    plan_guids = tx.scalars(select(_visible.service_plan_guid).where(of_org))
    tx.run(delete(service_plan_visibilities).where(of_org))
    _close_unused(tx, plan_guids)


def _record(tx: Tx, verb: str, actor: Actor, plan: Row[Any], data: Mapping[str, Any]) -> None:
    type_ = f"audit.service_plan_visibility.{verb}"
    audit.record(tx, type_, actor, plan.guid, "service_plan_visibility", plan.name, data)
