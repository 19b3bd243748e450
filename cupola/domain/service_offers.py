"""Plans with what their offering and broker say of them: all that rules on instances and bindings have to know."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, Select, select

from cupola import errors
from cupola.domain import access
from cupola.roles import Actor
from cupola.store.database import Tx
from cupola.store.orgs import organizations, roles, spaces
from cupola.store.service_brokers import (
    service_brokers,
    service_offerings,
    service_plan_visibilities,
    service_plans,
)

__all__ = ["is_visible_in", "of_plan", "of_plans", "require_usable"]

_NO_ACCESS = "Invalid service plan. Ensure that the service plan exists, is available, and you have access to it."


def _offers() -> Select[Any]:
    offering, broker = service_offerings.c, service_brokers.c
    return (
        select(
            service_plans,
            offering.name.label("offering_name"),
            offering.catalog_id.label("service_id"),
            offering.tags.label("offering_tags"),
            offering.requires,
            offering.shareable,
            offering.instances_retrievable,
            offering.bindings_retrievable,
            offering.allow_context_updates,
            offering.osmapi_features,
            broker.name.label("broker_name"),
            broker.state.label("broker_state"),
            broker.space_guid.label("broker_space_guid"),
        )
        .join(service_offerings, offering.guid == service_plans.c.service_offering_guid)
        .join(service_brokers, broker.guid == offering.service_broker_guid)
    )


def of_plan(tx: Tx, plan_guid: str | None) -> Row[Any] | None:
    """The plan's row with `service_id` (catalog_id is the plan's), `offering_*`, `broker_*` and what the offering can."""
    return None if plan_guid is None else tx.one(_offers().where(service_plans.c.guid == plan_guid))


def of_plans(tx: Tx, plan_guids: Collection[str | None]) -> dict[str, Row[Any]]:
    """The same of several plans, by guid. One statement."""
    wanted = sorted({guid for guid in plan_guids if guid})
    if not wanted:
        return {}
    return {row.guid: row for row in tx.all(_offers().where(service_plans.c.guid.in_(wanted)))}


def require_usable(tx: Tx, actor: Actor, plan_guid: str, space_guid: str) -> Row[Any]:
    """The plan that an instance in a space is to have. Raises 422 in the order of service-brokers.md section 5."""
    offer = of_plan(tx, plan_guid)
    if offer is None or not _is_visible_to(tx, actor, offer):
        raise errors.unprocessable(_NO_ACCESS)
    shown = f"'{offer.name}' with guid '{offer.guid}'"
    if not offer.available:
        raise errors.unprocessable(
            f"Invalid service plan. The service plan {shown} has been removed from the service broker's catalog. "
            "It is not possible to create new service instances using this plan."
        )
    if not is_visible_in(tx, offer, space_guid):
        name = tx.scalar(select(spaces.c.name).where(spaces.c.guid == space_guid))
        raise errors.unprocessable(
            "Invalid service plan. This could be due to a space-scoped broker which is offering the service plan "
            f"{shown} in another space or that the plan is not enabled in this organization. "
            f"Ensure that the service plan is visible in your current space '{name}' with guid '{space_guid}'."
        )
    return offer


def _is_visible_to(tx: Tx, actor: Actor, offer: Row[Any]) -> bool:
    if actor.reads_everything or offer.visibility_type == "public":
        return True
    if offer.visibility_type == "space":
        return access.may_read_space(tx, actor, offer.broker_space_guid)
    visible = service_plan_visibilities.c
    mine = select(visible.service_plan_guid).join(roles, roles.c.organization_guid == visible.organization_guid)
    wanted = mine.where(visible.service_plan_guid == offer.guid, roles.c.user_guid == actor.guid)
    return offer.visibility_type == "organization" and tx.scalar(wanted.limit(1)) is not None


def is_visible_in(tx: Tx, offer: Row[Any], space_guid: str) -> bool:
    """Whether instances in a space may have the plan, whoever asks."""
    if offer.visibility_type == "space":
        return bool(offer.broker_space_guid == space_guid)
    if offer.visibility_type != "organization":
        return bool(offer.visibility_type == "public")
    visible = service_plan_visibilities.c
    wanted = select(organizations.c.guid).join(spaces, spaces.c.organization_guid == organizations.c.guid)
    wanted = wanted.join(service_plan_visibilities, visible.organization_guid == organizations.c.guid)
    return tx.scalar(wanted.where(spaces.c.guid == space_guid, visible.service_plan_guid == offer.guid)) is not None
