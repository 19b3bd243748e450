"""Changes of managed service instances: what may be asked for, and whether the broker has to know (section 9).

Nothing is written until a broker that has to know has agreed: what it was asked for lies in the job.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select

from cupola import errors
from cupola.domain import (
    last_operations,
    quotas,
    service_errors,
    service_events,
    service_instances,
    service_offers,
    usage,
)
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.service_bindings import service_credential_bindings
from cupola.store.service_instances import service_instances as table

__all__ = ["apply", "begin", "plan_guid_of", "update", "version_of"]


def plan_guid_of(body: Mapping[str, Any]) -> str | None:
    """The plan that a PATCH asks for."""
    plan = (body.get("relationships") or {}).get("service_plan")
    return plan["data"]["guid"] if plan else None


def version_of(body: Mapping[str, Any]) -> str | None:
    """The version of maintenance that a PATCH asks for."""
    return (body.get("maintenance_info") or {}).get("version")


def update(tx: Tx, actor: Actor, instance: Row[Any], body: Mapping[str, Any], request_id: str) -> Row[Any] | str:
    """Change an instance at once, or enqueue the job that asks its broker and give its guid. Raises 400, 404, 409, 422."""
    instance = service_instances.lock(tx, instance.guid) or instance
    offer = service_offers.of_plan(tx, instance.service_plan_guid)
    assert offer is not None, "a managed instance has a plan"
    wanted = _wanted_plan(tx, actor, instance, offer, body)
    _require_possible(tx, instance, offer, wanted, body)
    if _broker_must_know(instance, offer, body):
        _require_free(tx, instance)
        begin(tx, instance)
        return service_instances.enqueue(tx, "service_instance.update", actor, instance, offer, request_id, body)
    only_metadata = set(body) == {"metadata"} and not last_operations.delete_in_progress(instance)
    operation: dict[str, Any] = {}
    if not only_metadata:
        _require_free(tx, instance)
        operation = {
            **last_operations.begun(tx, "update"),
            **last_operations.ended(tx, "update", "succeeded", None),
        }
    changed = apply(tx, instance, body, operation)
    service_events.of_instance(tx, "update", actor, instance, {"request": dict(body)})
    return changed


def begin(tx: Tx, instance: Row[Any]) -> Row[Any]:
    """An update runs from now on."""
    return rows.change(tx, table, instance, last_operations.begun(tx, "update"))


def apply(tx: Tx, instance: Row[Any], body: Mapping[str, Any], more: Mapping[str, Any]) -> Row[Any]:
    """Write what a PATCH asks for, and `more` columns. The audit event is the caller's."""
    values: dict[str, Any] = dict(more)
    if body.get("name") is not None:
        values["name"] = body["name"].strip()
    if "tags" in body:
        values["tags"] = body["tags"] or []
    plan_guid = plan_guid_of(body)
    if plan_guid is not None:
        values["service_plan_guid"] = plan_guid
    changed = rows.change(tx, table, instance, values, body.get("metadata"))
    if (changed.name, changed.service_plan_guid) != (instance.name, instance.service_plan_guid):
        usage.service_instance_changed(tx, changed, "UPDATED")
    return changed


def _wanted_plan(tx: Tx, actor: Actor, instance: Row[Any], offer: Row[Any], body: Mapping[str, Any]) -> Row[Any] | None:
    guid = plan_guid_of(body)
    if guid is None:
        return None
    wanted = service_offers.require_usable(tx, actor, guid, instance.space_guid)
    if wanted.service_offering_guid != offer.service_offering_guid:
        raise service_errors.invalid_relation("service plan relates to a different service offering")
    return wanted


def _broker_must_know(instance: Row[Any], offer: Row[Any], body: Mapping[str, Any]) -> bool:
    plan_guid, version = plan_guid_of(body), version_of(body)
    return (
        "parameters" in body
        or ("name" in body and offer.allow_context_updates)
        or (plan_guid is not None and plan_guid != offer.guid)
        or (version is not None and version != instance.maintenance_info.get("version"))
    )


def _require_possible(
    tx: Tx, instance: Row[Any], offer: Row[Any], wanted: Row[Any] | None, body: Mapping[str, Any]
) -> None:
    if last_operations.create_failed(instance):
        raise service_errors.no_such_instance(instance.name)
    name = body["name"].strip() if body.get("name") is not None else None
    if name is not None and service_instances.name_is_taken(tx, instance.space_guid, name, but=instance.guid):
        raise errors.unprocessable(f"The service instance name is taken: {name}")
    if wanted is not None and wanted.guid != offer.guid:
        quotas.require_service_plan(tx, instance.space_guid, free=wanted.free)
    if name is not None and len(service_instances.space_guids(tx, instance)) > 1:
        raise errors.unprocessable("Service instances that have been shared cannot be renamed")
    if wanted is not None:
        _require_plan_change(tx, instance, offer, wanted)
    _require_version(instance, offer, body)
    _require_active_plan(instance, offer, body, name)


def _require_plan_change(tx: Tx, instance: Row[Any], offer: Row[Any], wanted: Row[Any]) -> None:
    if not offer.plan_updateable:
        raise errors.unprocessable("The service does not support changing plans.")
    bindings = service_credential_bindings.c
    bound = select(bindings.guid).where(bindings.service_instance_guid == instance.guid, bindings.type == "app")
    if not wanted.bindable and tx.scalar(bound.limit(1)) is not None:
        raise errors.unprocessable(
            "The service plan is invalid: cannot switch to non-bindable plan when service bindings exist"
        )


def _require_version(instance: Row[Any], offer: Row[Any], body: Mapping[str, Any]) -> None:
    version = version_of(body)
    if version is None:
        return
    if plan_guid_of(body) not in {None, offer.guid}:
        raise errors.unprocessable("maintenance_info should not be changed when switching to different plan.")
    if not offer.maintenance_info:
        raise errors.unprocessable(
            "The service broker does not support upgrades for service instances created from this plan."
        )
    if version not in {offer.maintenance_info.get("version"), instance.maintenance_info.get("version")}:
        raise errors.unprocessable(
            "maintenance_info.version requested is invalid. Please ensure the catalog is up to date and you are "
            "providing a version supported by this service plan."
        )


def _require_active_plan(instance: Row[Any], offer: Row[Any], body: Mapping[str, Any], name: str | None) -> None:
    if offer.available:
        return
    what = None
    if body.get("parameters") is not None:
        what = "parameters"
    elif offer.allow_context_updates and name is not None:
        what = "name"
    elif version_of(body) not in {None, instance.maintenance_info.get("version")}:
        what = "maintenance_info"
    if what is not None:
        raise errors.unprocessable(f"Cannot update {what} of a service instance that belongs to inaccessible plan")


def _require_free(tx: Tx, instance: Row[Any]) -> None:
    """Nothing runs on the instance and its bindings of apps, or 409."""
    service_instances.require_free(tx, instance)
    bindings = service_credential_bindings
    busy = (
        select(apps.c.name)
        .join(bindings, bindings.c.app_guid == apps.c.guid)
        .where(
            bindings.c.service_instance_guid == instance.guid,
            bindings.c.operation_state.in_(("initial", "in progress")),
        )
    )
    app = tx.scalar(busy.order_by(bindings.c.id).limit(1))
    if app is not None:
        raise service_errors.binding_busy(app, instance.name)
