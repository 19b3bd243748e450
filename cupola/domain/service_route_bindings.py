"""Route services: an instance that is asked before the apps of a route (service-brokers.md section 10)."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select

from cupola import errors
from cupola.config import Settings
from cupola.domain import (
    access,
    last_operations,
    service_bindings,
    service_errors,
    service_events,
    service_instances,
    service_offers,
    service_orphans,
)
from cupola.domain.service_credential_bindings import enqueue_creation, require_parameters_known, require_ready
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.routes import domains, routes
from cupola.store.service_bindings import service_route_bindings

__all__ = ["create", "delete"]

_bindings = service_route_bindings


def create(tx: Tx, settings: Settings, actor: Actor, body: Mapping[str, Any], request_id: str) -> Row[Any] | str:
    """Put an instance in front of a route: the binding, or the guid of the job for a managed one. Raises 403, 422."""
    if not settings.services.route_services:
        raise errors.unprocessable("Support for route services is disabled")
    relationships = body["relationships"]
    instance = _usable_instance(tx, actor, relationships["service_instance"]["data"]["guid"])
    route = _usable_route(tx, actor, relationships["route"]["data"]["guid"])
    require_parameters_known(instance, body)
    instance = service_instances.lock(tx, instance.guid) or instance
    _require_bindable(tx, instance, route)
    managed = instance.type == "managed"
    operation = last_operations.begun(tx, "create", "initial")
    if not managed:
        operation |= last_operations.ended(tx, "create", "succeeded", None)
    values = {
        "service_instance_guid": instance.guid,
        "route_guid": route.guid,
        "route_service_url": None if managed else instance.route_service_url,
        **operation,
    }
    binding = rows.add(tx, _bindings, values, body.get("metadata"))
    if managed:
        return enqueue_creation(tx, service_bindings.ROUTE, actor, instance, binding, body, request_id)
    service_events.of_binding(tx, "create", actor, service_bindings.ROUTE.event, binding, body)
    service_bindings.ring(tx, service_bindings.ROUTE)
    return binding


def _usable_instance(tx: Tx, actor: Actor, guid: str) -> Row[Any]:
    instance = service_instances.readable(tx, actor, guid, also_shared=False)
    if instance is None:
        raise errors.unprocessable(f"The service instance could not be found: {guid}")
    access.require_in_space(tx, actor, instance.space_guid, access.MANAGE_APPS)
    return instance


def _usable_route(tx: Tx, actor: Actor, guid: str) -> Row[Any]:
    # What was locked first is locked by everybody first: two services at once must not both find the route free.
    route = tx.one(select(routes).where(routes.c.guid == guid).with_for_update())
    if route is None or not access.may_read_space(tx, actor, route.space_guid):
        raise errors.unprocessable(f"The route could not be found: {guid}")
    return route


def _require_bindable(tx: Tx, instance: Row[Any], route: Row[Any]) -> None:
    offer = service_offers.of_plan(tx, instance.service_plan_guid)
    routes_traffic = bool(instance.route_service_url) if offer is None else "route_forwarding" in offer.requires
    if not routes_traffic:
        raise errors.unprocessable("This service instance does not support route binding")
    if offer is not None and not offer.bindable:
        raise errors.unprocessable("This service instance does not support binding")
    domain = rows.by_guid(tx, domains, route.domain_guid)
    if domain is not None and domain.internal:
        raise errors.unprocessable("Route services cannot be bound to internal routes")
    if route.space_guid != instance.space_guid:
        raise errors.unprocessable("The service instance and the route are in different spaces")
    others = tx.all(select(_bindings).where(_bindings.c.route_guid == route.guid))
    if any(other.service_instance_guid != instance.guid for other in others):
        raise errors.unprocessable("A route may only be bound to a single service instance")
    if offer is not None:
        require_ready(instance)
    for other in others:
        _require_replaceable(other)
        service_orphans.of_binding(tx, other)
        rows.remove(tx, _bindings, [other.guid])


def _require_replaceable(binding: Row[Any]) -> None:
    if last_operations.create_succeeded(binding) or last_operations.create_in_progress(binding):
        raise service_errors.already_bound_to_route()
    if not last_operations.create_failed(binding):
        raise errors.unprocessable("The binding is getting deleted or its deletion failed")


def delete(tx: Tx, actor: Actor, binding: Row[Any], request_id: str) -> str | None:
    """Take a user-provided service away from a route, or enqueue the job for a managed one and give its guid."""
    instance = service_bindings.require_deletable(tx, binding)
    if instance.type == "user-provided":
        service_bindings.remove(tx, actor, service_bindings.ROUTE, binding)
        return None
    return service_bindings.enqueue_deletion(tx, actor, service_bindings.ROUTE, binding, request_id)
