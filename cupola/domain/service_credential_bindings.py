"""New credential bindings: of an app to a service instance, or keys of an instance (service-brokers.md section 10).

An app may have several bindings of one instance where the operator allows it, to change credentials without a gap: the
newest that succeeded feeds the app.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, select

from cupola import errors
from cupola.config import Settings
from cupola.domain import (
    access,
    last_operations,
    quotas,
    service_bindings,
    service_events,
    service_instances,
    service_offers,
    service_orphans,
)
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import jobs, rows
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.service_bindings import service_credential_bindings

__all__ = [
    "create_app_binding",
    "create_key",
    "delete",
    "enqueue_creation",
    "insert_app_binding",
    "require_parameters_known",
    "require_ready",
    "usable_app",
    "usable_instance",
]

_bindings = service_credential_bindings
_BUSY = "There is an operation in progress for the service instance"


def usable_instance(tx: Tx, actor: Actor, guid: str, body: Mapping[str, Any]) -> Row[Any]:
    """The instance to be bound. Raises 422 when there is none, or it takes no parameters."""
    instance = service_instances.readable(tx, actor, guid)
    if instance is None:
        raise errors.unprocessable(f"The service instance could not be found: '{guid}'")
    require_parameters_known(instance, body)
    return instance


def require_parameters_known(instance: Row[Any], body: Mapping[str, Any]) -> None:
    """Only brokers know what to do with parameters, or 422."""
    if instance.type == "user-provided" and "parameters" in body:
        raise errors.unprocessable("Binding parameters are not supported for user-provided service instances")


def usable_app(tx: Tx, actor: Actor, guid: str) -> Row[Any]:
    """The app to be bound. Raises 422 when there is none, 403 by role."""
    app = rows.by_guid(tx, apps, guid)
    if app is None or not access.may_read_space(tx, actor, app.space_guid):
        raise errors.unprocessable(f"The app could not be found: '{guid}'")
    access.require_in_space(tx, actor, app.space_guid, access.MANAGE_APPS)
    return app


def create_app_binding(
    tx: Tx,
    settings: Settings,
    actor: Actor,
    instance: Row[Any],
    app: Row[Any],
    body: Mapping[str, Any],
    request_id: str,
) -> Row[Any] | str:
    """Bind an app: the binding of a user-provided instance, or the guid of the job for a managed one. Raises 422."""
    binding = insert_app_binding(tx, settings, actor, instance, app, body)
    if instance.type == "user-provided":
        service_events.of_binding(tx, "create", actor, "service_binding", binding, body)
        return binding
    return enqueue_creation(tx, service_bindings.APP, actor, instance, binding, body, request_id)


def insert_app_binding(
    tx: Tx, settings: Settings, actor: Actor, instance: Row[Any], app: Row[Any], body: Mapping[str, Any]
) -> Row[Any]:
    """Add the row of an app's binding: `create initial` where a broker is asked next, else done. Raises 422."""
    instance = _locked(tx, instance)
    _require_bindable_app(tx, settings, instance, app)
    name = body.get("name") or None
    others = _others(tx, settings, instance, app, name)
    limit = settings.services.max_bindings_per_app_and_instance
    if body.get("strategy") == "multiple":
        if others >= limit:
            raise errors.unprocessable(
                f"The app has too many bindings to this service instance (limit: {limit}). "
                "Consider deleting existing/orphaned bindings."
            )
    elif others:
        raise _already_bound()
    _require_name_free(tx, instance, app, name)
    values = {
        "type": "app",
        "name": name,
        "service_instance_guid": instance.guid,
        "app_guid": app.guid,
        **_first(tx, instance),
    }
    binding = rows.add(tx, _bindings, values, body.get("metadata"))
    service_bindings.ring(tx, service_bindings.APP)
    return binding


def _locked(tx: Tx, instance: Row[Any]) -> Row[Any]:
    """Two requests at once must not both find that the app is not bound yet."""
    found = service_instances.lock(tx, instance.guid)
    if found is None:
        raise errors.unprocessable(f"The service instance could not be found: '{instance.guid}'")
    return found


def _first(tx: Tx, instance: Row[Any]) -> dict[str, Any]:
    if instance.type == "managed":
        return last_operations.begun(tx, "create", "initial")
    operation = {
        **last_operations.begun(tx, "create"),
        **last_operations.ended(tx, "create", "succeeded", None),
    }
    return {**operation, **service_bindings.given_by(tx, instance)}


def _require_bindable_app(tx: Tx, settings: Settings, instance: Row[Any], app: Row[Any]) -> None:
    if app.space_guid not in service_instances.space_guids(tx, instance):
        raise errors.unprocessable("The service instance and the app are in different spaces")
    if instance.type != "managed":
        return
    offer = service_offers.of_plan(tx, instance.service_plan_guid)
    assert offer is not None, "a managed instance has a plan"
    if not offer.bindable:
        raise errors.unprocessable("Service plan does not allow bindings")
    if "volume_mount" in offer.requires and not settings.services.volume_services:
        raise errors.unprocessable("Support for volume mount services is disabled")
    require_ready(instance)


def require_ready(instance: Row[Any]) -> None:
    """A managed instance was made and nothing runs on it, or 422."""
    if last_operations.create_failed(instance):
        raise errors.unprocessable("Service instance not found")
    if last_operations.in_progress(instance):
        raise errors.unprocessable(_BUSY)


def _already_bound() -> CloudError:
    return errors.unprocessable("The app is already bound to the service instance")


def _others(tx: Tx, settings: Settings, instance: Row[Any], app: Row[Any], name: str | None) -> int:
    """How many bindings of the app to the instance count; those that could never be made are replaced. Raises 422."""
    wanted = select(_bindings).where(
        _bindings.c.service_instance_guid == instance.guid, _bindings.c.app_guid == app.guid
    )
    found = tx.all(wanted.order_by(_bindings.c.id))
    failed = [row for row in found if last_operations.create_failed(row)]
    others = [row for row in found if row not in failed]
    single = settings.services.max_bindings_per_app_and_instance == 1
    for row in others:
        _require_compatible(row, name, single=single)
    _replace(tx, failed)
    return len(others)


def _require_compatible(binding: Row[Any], name: str | None, *, single: bool) -> None:
    is_there = last_operations.create_succeeded(binding) or last_operations.create_in_progress(binding)
    if single and is_there:
        raise _already_bound()
    if last_operations.create_in_progress(binding):
        raise errors.unprocessable(
            f"There is already a binding in progress for this service instance and app (binding guid: {binding.guid})"
        )
    if not is_there and single:
        raise errors.unprocessable("The binding is getting deleted or its deletion failed")
    if not is_there:
        raise errors.unprocessable(
            "A binding for this service instance and app is getting deleted or its deletion failed"
        )
    if binding.name != name:
        raise errors.unprocessable("The binding name cannot be changed for the same app and service instance")


def _replace(tx: Tx, failed: Sequence[Row[Any]]) -> None:
    for row in failed:
        service_orphans.of_binding(tx, row)
    rows.remove(tx, _bindings, [row.guid for row in failed])


def _require_name_free(tx: Tx, instance: Row[Any], app: Row[Any], name: str | None) -> None:
    if name is None:
        return
    same = select(_bindings.c.guid).where(
        _bindings.c.app_guid == app.guid,
        _bindings.c.name == name,
        _bindings.c.service_instance_guid != instance.guid,
    )
    if tx.scalar(same.limit(1)) is not None:
        raise errors.unprocessable(
            "The binding name is invalid. Binding names must be unique for a given service instance and app. "
            f"The app already has a binding with name '{name}'."
        )


def create_key(tx: Tx, actor: Actor, instance: Row[Any], body: Mapping[str, Any], request_id: str) -> str:
    """Add a key of a managed instance, and the job that makes it; gives the job's guid. Raises 422."""
    instance = _locked(tx, instance)
    offer = service_offers.of_plan(tx, instance.service_plan_guid)
    if offer is None:
        raise errors.unprocessable(
            "Service credential bindings of type 'key' are not supported for user-provided service instances."
        )
    if not offer.bindable:
        raise errors.unprocessable("Service plan does not allow bindings.")
    require_ready(instance)
    name = body["name"]
    own = _bindings.c.service_instance_guid == instance.guid
    same = tx.one(select(_bindings).where(own, _bindings.c.type == "key", _bindings.c.name == name))
    if same is not None:
        _require_replaceable(same)
        _replace(tx, [same])
    quotas.require_service_key(tx, instance.space_guid)
    values = {
        "type": "key",
        "name": name,
        "service_instance_guid": instance.guid,
        **last_operations.begun(tx, "create", "initial"),
    }
    key = rows.add(tx, _bindings, values, body.get("metadata"))
    return enqueue_creation(tx, service_bindings.KEY, actor, instance, key, body, request_id)


def _require_replaceable(key: Row[Any]) -> None:
    if last_operations.create_failed(key):
        return
    lead = (
        "The binding name is invalid. Key binding names must be unique. The service instance already has a key binding"
    )
    if last_operations.delete_in_progress(key) or last_operations.delete_failed(key):
        raise errors.unprocessable(f"{lead} with the name '{key.name}' that is getting deleted or its deletion failed.")
    raise errors.unprocessable(f"{lead} with name '{key.name}'.")


def enqueue_creation(
    tx: Tx,
    kind: service_bindings.Kind,
    actor: Actor,
    instance: Row[Any],
    binding: Row[Any],
    body: Mapping[str, Any],
    request_id: str,
    *,
    by_manifest: bool = False,
) -> str:
    """Enqueue the job that has a broker make a binding; gives its guid."""
    offer = service_offers.of_plan(tx, instance.service_plan_guid)
    assert offer is not None, "a managed instance has a plan"
    payload = {
        "guid": binding.guid,
        "request": service_instances.seal_request(tx, body),
        "request_id": request_id,
        "by_manifest": by_manifest,
    }
    return jobs.enqueue(
        tx,
        f"{kind.jobs}.create",
        payload,
        actor=actor,
        lane=service_instances.LANE,
        target=offer.service_broker_guid,
        resource_guid=binding.guid,
        resource_type=kind.resource_type,
    )


def delete(tx: Tx, actor: Actor, binding: Row[Any], request_id: str) -> str | None:
    """Remove a binding of a user-provided instance, or enqueue the job for a managed one and give its guid."""
    instance = service_bindings.require_deletable(tx, binding)
    kind = service_bindings.KINDS[binding.type]
    if instance.type == "user-provided":
        service_bindings.remove(tx, actor, kind, binding)
        return None
    return service_bindings.enqueue_deletion(tx, actor, kind, binding, request_id)
