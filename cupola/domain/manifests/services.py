"""The `services` of a manifest: the app is bound to those that it is not bound to yet (behaviours.md section 14)."""

from typing import Any

from sqlalchemy import Row, or_, select

from cupola import errors
from cupola.config import Settings
from cupola.domain import last_operations, service_bindings, service_errors, service_events, service_orphans
from cupola.domain import service_credential_bindings as rules
from cupola.domain.manifests.parse import ServiceManifest
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.service_bindings import service_credential_bindings
from cupola.store.service_instances import service_instance_shares, service_instances

__all__ = ["bind", "give_up", "outcome"]

_bindings = service_credential_bindings


def _about(name: str, why: str) -> CloudError:
    return errors.unprocessable(f"For service '{name}': {why}")


def bind(
    tx: Tx, settings: Settings, actor: Actor, app: Row[Any], wanted: ServiceManifest, request_id: str
) -> str | None:
    """Bind an app to a service. Gives the guid of the binding that a broker is now asked for. Raises 404, 422."""
    instance = _instance(tx, app, wanted.name)
    own = (_bindings.c.service_instance_guid == instance.guid) & (_bindings.c.app_guid == app.guid)
    binding = tx.one(select(_bindings).where(own).order_by(_bindings.c.id.desc()).limit(1))
    if binding is not None:
        if last_operations.create_succeeded(binding):
            return None
        if last_operations.in_progress(binding):
            raise _about(wanted.name, f"A binding is being {binding.operation_type}d. Retry this operation later.")
        if last_operations.delete_failed(binding):
            raise _about(
                wanted.name,
                "A binding failed to be deleted. Resolve the issue with this binding before retrying this operation.",
            )
    body = _body(app, instance, wanted)
    try:
        rules.require_parameters_known(instance, body)
        made = rules.insert_app_binding(tx, settings, actor, instance, app, body)
    except CloudError as error:
        raise _about(wanted.name, error.detail) from error
    if instance.type == "user-provided":
        service_events.of_binding(tx, "create", actor, service_bindings.APP.event, made, body, by_manifest=True)
        return None
    rules.enqueue_creation(tx, service_bindings.APP, actor, instance, made, body, request_id, by_manifest=True)
    return str(made.guid)


def _instance(tx: Tx, app: Row[Any], name: str) -> Row[Any]:
    own, shares = service_instances.c, service_instance_shares.c
    shared = select(shares.service_instance_guid).where(shares.space_guid == app.space_guid)
    here = or_(own.space_guid == app.space_guid, own.guid.in_(shared))
    found = tx.one(select(service_instances).where(own.name == name, here))
    if found is None:
        raise service_errors.not_found_with(f"Service instance '{name}' not found")
    return found


def _body(app: Row[Any], instance: Row[Any], wanted: ServiceManifest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": "app",
        "relationships": {
            "app": {"data": {"guid": app.guid}},
            "service_instance": {"data": {"guid": instance.guid}},
        },
    }
    if wanted.binding_name is not None:
        body["name"] = wanted.binding_name
    if wanted.parameters is not None:
        body["parameters"] = wanted.parameters
    return body


def outcome(tx: Tx, wanted: ServiceManifest, binding_guid: str) -> bool:
    """Whether the broker has made the binding. Raises 422 when it never will."""
    binding = rows.by_guid(tx, _bindings, binding_guid)
    if binding is None:
        raise _about(wanted.name, "The binding was removed meanwhile.")
    if last_operations.create_in_progress(binding):
        return False
    if last_operations.create_succeeded(binding):
        return True
    raise _about(wanted.name, binding.operation_description or "The service broker failed to create the binding.")


def give_up(tx: Tx, settings: Settings, wanted: ServiceManifest, binding_guid: str) -> CloudError:
    """The broker takes too long: the binding has failed, and what there may be of it goes. The error to be raised."""
    binding = rows.by_guid(tx, _bindings, binding_guid)
    if binding is not None:
        text = "Polling exceed the maximum polling duration"
        rows.change(tx, _bindings, binding, last_operations.ended(tx, "create", "failed", text))
        service_orphans.of_binding(tx, binding)
    seconds = f"{settings.services.manifest_binding_seconds:g}"
    return _about(wanted.name, f"Polling exceeded the maximum duration of {seconds} seconds")
