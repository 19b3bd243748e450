"""Backups of service instances, where their broker speaks OSMAPI: who may ask for what (osmapi-and-extensions.md 4)."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select

from cupola import clock, errors
from cupola.domain import access, last_operations, service_errors, service_events, service_instances, service_offers
from cupola.domain.service_instance_updates import begin
from cupola.roles import Actor
from cupola.store import jobs
from cupola.store.database import Tx

__all__ = ["require_supported", "start_backup", "start_restore"]

_OPERATIONS = ("service_instance.backup", "service_instance.restore")


def require_supported(tx: Tx, instance: Row[Any]) -> Row[Any]:
    """The offer of an instance whose broker makes backups. Raises 404, 422."""
    offer = service_offers.of_plan(tx, instance.service_plan_guid)
    if offer is None:
        raise errors.unprocessable("Backups are not supported for user-provided service instances.")
    if "backup" not in offer.osmapi_features:
        raise errors.unprocessable(f"The service offering '{offer.offering_name}' does not support backups.")
    if last_operations.create_failed(instance):
        raise errors.not_found("Service instance")
    return offer


def start_backup(tx: Tx, actor: Actor, instance: Row[Any], request_id: str) -> str:
    """Enqueue the job that makes a backup; gives its guid. Raises 404, 409, 422."""
    instance = service_instances.lock(tx, instance.guid) or instance
    offer = require_supported(tx, instance)
    _require_free(tx, instance)
    service_events.of_instance(tx, "start_backup", actor, instance, {"request": {}})
    return service_instances.enqueue(tx, "service_instance.backup", actor, instance, offer, request_id)


def start_restore(tx: Tx, actor: Actor, instance: Row[Any], body: Mapping[str, Any], request_id: str) -> str:
    """Enqueue the job that restores an instance; gives its guid. Raises 404, 409, 422."""
    instance = service_instances.lock(tx, instance.guid) or instance
    offer = require_supported(tx, instance)
    wanted = _wanted(tx, body)
    source = body.get("source_service_instance_guid")
    if source is not None:
        _require_source(tx, actor, source, offer)
    _require_free(tx, instance)
    begin(tx, instance)
    service_events.of_instance(tx, "start_restore", actor, instance, {"request": dict(body)})
    return service_instances.enqueue(tx, "service_instance.restore", actor, instance, offer, request_id, wanted)


def _wanted(tx: Tx, body: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {name: value for name, value in body.items() if value is not None}
    if "backup_id" not in wanted and "target_timestamp" not in wanted:
        raise errors.unprocessable("Restore requires 'backup_id' or 'target_timestamp'.")
    if "target_timestamp" in wanted:
        if clock.parse_api(wanted["target_timestamp"]) > tx.now:
            raise errors.unprocessable("Target timestamp must not be in the future")
        wanted.setdefault("restore_point", "pitr")
    return wanted


def _require_source(tx: Tx, actor: Actor, guid: str, offer: Row[Any]) -> None:
    source = service_instances.readable(tx, actor, guid)
    found = service_offers.of_plan(tx, source.service_plan_guid) if source is not None else None
    if (
        source is None
        or found is None
        or found.service_offering_guid != offer.service_offering_guid
        or not _reads_secrets(tx, actor, source.space_guid)
    ):
        raise errors.unprocessable(
            "Invalid source service instance. Ensure that it exists, belongs to the same service offering "
            "and you have access to it."
        )


def _reads_secrets(tx: Tx, actor: Actor, space_guid: str) -> bool:
    return actor.reads_secrets or access.has_in_space(tx, actor, space_guid, access.WRITE_IN_SPACE)


def _require_free(tx: Tx, instance: Row[Any]) -> None:
    service_instances.require_free(tx, instance)
    own = jobs.jobs.c
    running = select(own.guid).where(own.resource_guid == instance.guid, own.operation.in_(_OPERATIONS), jobs.is_open())
    if tx.scalar(running.limit(1)) is not None:
        raise service_errors.busy(instance.name)
