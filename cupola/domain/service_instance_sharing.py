"""Sharing managed service instances with other spaces, whose apps may then be bound to them (service-brokers.md 9)."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, func, insert, select

from cupola import errors
from cupola.domain import access, last_operations, service_errors, service_events, service_offers
from cupola.domain.service_bindings import APP, Kind
from cupola.domain.service_instances import space_guids
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.orgs import organizations, spaces
from cupola.store.service_bindings import service_credential_bindings
from cupola.store.service_instances import service_instance_shares, service_instances

__all__ = ["bindings_in", "end", "end_all", "name_of", "share", "shared_with", "usage"]

_shares = service_instance_shares.c


def shared_with(tx: Tx, instance: Row[Any]) -> list[str]:
    """Guids of the spaces that an instance is shared with."""
    return space_guids(tx, instance)[1:]


def share(tx: Tx, actor: Actor, instance: Row[Any], guids: Sequence[str]) -> None:
    """Let apps of more spaces be bound to an instance. Raises 404, 422."""
    targets = _targets(tx, actor, instance, guids)
    _require_shareable(tx, instance, targets)
    new = [{"service_instance_guid": instance.guid, "space_guid": target.guid} for target in targets]
    if new:
        tx.run(insert(service_instance_shares), new)
    service_events.of_instance(
        tx, "share", actor, instance, {"target_space_guids": [target.guid for target in targets]}
    )


def _targets(tx: Tx, actor: Actor, instance: Row[Any], guids: Sequence[str]) -> list[Row[Any]]:
    found = rows.by_guids(tx, spaces, guids)
    hidden = [guid for guid in guids if guid not in found or not access.may_read_space(tx, actor, guid)]
    closed = [guid for guid in guids if guid not in hidden and not _may_write(tx, actor, guid)]
    lead = f"Unable to share service instance {instance.name} with spaces"
    said = []
    if hidden:
        said.append(f"{lead} [{_quoted(hidden)}]. Ensure the spaces exist and that you have access to them.")
    if closed:
        said.append(
            f"{lead} [{_quoted(closed)}]. "
            "Write permission is required in order to share a service instance with a space."
        )
    if said:
        raise errors.unprocessable("\n".join(said))
    return [found[guid] for guid in guids]


def _may_write(tx: Tx, actor: Actor, space_guid: str) -> bool:
    try:
        access.require_in_space(tx, actor, space_guid, access.WRITE_IN_SPACE)
    except CloudError:
        return False
    return True


def _quoted(guids: Sequence[str]) -> str:
    return ", ".join(f"'{guid}'" for guid in guids)


def _require_shareable(tx: Tx, instance: Row[Any], targets: Sequence[Row[Any]]) -> None:
    offer = service_offers.of_plan(tx, instance.service_plan_guid)
    if instance.route_service_url or (offer is not None and "route_forwarding" in offer.requires):
        raise errors.unprocessable("Route services cannot be shared.")
    if offer is None:
        raise errors.unprocessable("User-provided services cannot be shared.")
    if not offer.shareable:
        raise errors.unprocessable(f"The {offer.offering_name} service does not support service instance sharing.")
    if any(target.guid == instance.space_guid for target in targets):
        raise errors.unprocessable(
            f"Unable to share service instance '{instance.name}' with space '{instance.space_guid}'. "
            "Service instances cannot be shared into the space where they were created."
        )
    if not offer.available:
        raise errors.unprocessable(f"The service instance could not be shared as the {offer.name} plan is inactive.")
    for target in targets:
        _require_usable_in(tx, instance, offer, target)
    if last_operations.create_failed(instance):
        raise service_errors.no_such_instance(instance.name)
    if last_operations.create_in_progress(instance):
        raise errors.unprocessable(
            "Service instance is currently being created. It can be shared after its creation succeeded."
        )
    if last_operations.delete_in_progress(instance):
        raise errors.unprocessable("The service instance is getting deleted.")


def _require_usable_in(tx: Tx, instance: Row[Any], offer: Row[Any], target: Row[Any]) -> None:
    if not service_offers.is_visible_in(tx, offer, target.guid):
        organization = rows.by_guid(tx, organizations, target.organization_guid)
        name = organization.name if organization is not None else target.organization_guid
        raise errors.unprocessable(
            f"Access to service {offer.offering_name} and plan {offer.name} is not enabled in {name}/{target.name}."
        )
    own = service_instances.c
    same = select(own.guid).where(own.name == instance.name)
    if tx.scalar(same.where(own.space_guid == target.guid)) is not None:
        raise errors.unprocessable(f"A service instance called {instance.name} already exists in {target.name}.")
    there = select(_shares.service_instance_guid).where(_shares.space_guid == target.guid)
    if tx.scalar(same.where(own.guid.in_(there))) is not None:
        raise errors.unprocessable(
            f"A service instance called {instance.name} has already been shared with {target.name}."
        )


def bindings_in(tx: Tx, instance: Row[Any], space_guid: str) -> list[tuple[Kind, Row[Any]]]:
    """The bindings of apps of one space, which go when the instance is shared with it no longer."""
    own = service_credential_bindings
    in_space = select(apps.c.guid).where(apps.c.space_guid == space_guid)
    statement = select(own).where(own.c.service_instance_guid == instance.guid, own.c.app_guid.in_(in_space))
    return [(APP, row) for row in tx.all(statement.order_by(own.c.id))]


def end(tx: Tx, actor: Actor, instance: Row[Any], space_guid: str) -> None:
    """An instance is not shared with a space any more; its bindings there are gone already."""
    own = (_shares.service_instance_guid == instance.guid) & (_shares.space_guid == space_guid)
    tx.run(delete(service_instance_shares).where(own))
    service_events.of_instance(tx, "unshare", actor, instance, {"target_space_guid": space_guid})


def end_all(tx: Tx, actor: Actor, instance: Row[Any]) -> None:
    """An instance that is about to be deleted is shared with nobody."""
    for space_guid in shared_with(tx, instance):
        end(tx, actor, instance, space_guid)


def name_of(tx: Tx, guid: str) -> str:
    """The name of an instance."""
    return str(tx.scalar(select(service_instances.c.name).where(service_instances.c.guid == guid)))


def usage(tx: Tx, instance: Row[Any]) -> list[tuple[str, int]]:
    """Guids of the spaces that an instance is shared with, and how many bindings their apps have to it."""
    own = service_credential_bindings
    bound = func.count().label("bound")
    counted = (
        select(apps.c.space_guid, bound)
        .select_from(own)
        .join(apps, apps.c.guid == own.c.app_guid)
        .where(own.c.service_instance_guid == instance.guid)
        .group_by(apps.c.space_guid)
    )
    found = {row.space_guid: int(row.bound) for row in tx.all(counted)}
    return [(guid, found.get(guid, 0)) for guid in shared_with(tx, instance)]
