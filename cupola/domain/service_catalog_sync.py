"""A catalog becomes offerings and plans: they appear, change, become unavailable and go.

Offerings are known by (broker, id of the catalog), plans by (offering, id of the catalog); another name is a change.
What instances still use stays, unavailable. Order: reference/service-brokers.md section 4.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Table, select, update

from cupola.config import Settings
from cupola.domain import audit, dashboard_clients
from cupola.domain.dashboard_clients import Secrets
from cupola.domain.ruby import inspected
from cupola.domain.service_catalog import Catalog, CatalogPlan, CatalogService, Report, osmapi_features
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.service_brokers import (
    service_brokers,
    service_offerings,
    service_plan_visibilities,
    service_plans,
)
from cupola.store.service_instances import service_instances

__all__ = ["broker_actor", "failed", "invalid", "remove_offerings", "remove_plans", "require_storable", "synchronize"]

_MISSING = (
    "Warning: Service plans are missing from the broker's catalog ({url}/v2/catalog) but can not be removed from Cloud "
    "Foundry while instances exist. The plans have been deactivated to prevent users from attempting to provision new "
    "instances of these plans. The broker should continue to support bind, unbind, and delete for existing instances; "
    "if these operations fail contact your broker provider.\n"
)


def broker_actor(broker: Row[Any]) -> Actor:
    """The broker, as audit events of what its catalog does name it."""
    return Actor(guid=broker.guid, name=broker.name, scopes=frozenset(), type="service_broker")


def invalid(report: Report) -> CloudError:
    """The error of a job whose catalog cannot be used."""
    detail = f"Service broker catalog is invalid: \n{report.text}"
    return CloudError(270012, "CF-ServiceBrokerCatalogInvalid", 502, detail)


def failed(why: str) -> CloudError:
    """The error where a catalog is not what it should have become."""
    text = "Encountered an error while attempting to sync cloud controller with the service broker's catalog"
    return CloudError(270022, "CF-ServiceBrokerSyncFailed", 502, f"{text}: {why}")


def require_storable(tx: Tx, broker_guid: str, catalog: Catalog) -> None:
    """Raises 270012 when what is stored forbids this catalog."""
    report = Report(complaints=[*_taken_names(tx, broker_guid, catalog), *_moved_plans(tx, broker_guid, catalog)])
    dashboard_clients.require_available(tx, broker_guid, catalog, report)
    if report:
        raise invalid(report)


def _taken_names(tx: Tx, broker_guid: str, catalog: Catalog) -> Sequence[str]:
    """Names of new offerings that old ones, which go but have instances, keep."""
    known = {row.catalog_id: row for row in _offerings(tx, broker_guid)}
    gone = {row.name: row for id_, row in known.items() if id_ not in {service.id for service in catalog.services}}
    new = [service.name for service in catalog.services if service.id not in known and service.name in gone]
    used = _used(tx, [gone[name].guid for name in new])
    taken = [name for name in new if gone[name].guid in used]
    if not taken:
        return []
    return [f"Service names must be unique within a broker. Services with names {inspected(taken)} already exist"]


def _used(tx: Tx, offering_guids: Sequence[str]) -> set[str]:
    """Those of some offerings that have instances."""
    if not offering_guids:
        return set()
    found = (
        select(service_plans.c.service_offering_guid)
        .join(service_instances, service_instances.c.service_plan_guid == service_plans.c.guid)
        .where(service_plans.c.service_offering_guid.in_(list(offering_guids)))
    )
    return set(tx.scalars(found.distinct()))


def _moved_plans(tx: Tx, broker_guid: str, catalog: Catalog) -> Sequence[str]:
    """Plans whose id this broker has for a plan of another service."""
    found = select(
        service_plans.c.catalog_id,
        service_plans.c.name,
        service_offerings.c.name.label("offering"),
        service_offerings.c.catalog_id.label("service_id"),
    ).join(service_offerings, service_offerings.c.guid == service_plans.c.service_offering_guid)
    known = {row.catalog_id: row for row in tx.all(found.where(service_plans.c.service_broker_guid == broker_guid))}
    broker = tx.scalar(select(service_brokers.c.name).where(service_brokers.c.guid == broker_guid))
    complaints = []
    for service in catalog.services:
        for plan in service.plans:
            row = known.get(plan.id)
            if row is not None and row.service_id != service.id:
                complaints.append(
                    f"Plan ids must be unique. Unable to register plan with id '{plan.id}' (plan name '{plan.name}', "
                    f"service name '{service.name}') because it uses the same id as an existing plan (plan name "
                    f"'{row.name}', service name '{row.offering}', broker name '{broker}')"
                )
    return complaints


def synchronize(tx: Tx, settings: Settings, broker: Row[Any], catalog: Catalog, secrets: Secrets) -> list[str]:
    """Store a catalog that `require_storable` passes. Gives warnings for the job."""
    actor = broker_actor(broker)
    dashboard_clients.apply(tx, settings, actor, broker.guid, catalog, secrets)
    offerings = {row.catalog_id: row for row in _offerings(tx, broker.guid)}
    current = {
        service.id: _put_offering(tx, actor, broker, service, offerings.get(service.id)) for service in catalog.services
    }
    gone = [row for id_, row in offerings.items() if id_ not in current]
    for row in gone:
        _deactivate(tx, service_offerings, "service", actor, row)
    plans = {(row.service_offering_guid, row.catalog_id): row for row in _plans(tx, broker.guid)}
    kept = set()
    for service in catalog.services:
        offering = current[service.id]
        for plan in service.plans:
            kept.add((offering.guid, plan.id))
            _put_plan(tx, actor, broker, offering, plan, plans.get((offering.guid, plan.id)))
    missing = [row for key, row in plans.items() if key not in kept]
    for row in missing:
        _deactivate(tx, service_plans, "service_plan", actor, row)
    used = _remove_unused(tx, actor, missing)
    remaining = {row.service_offering_guid for row in used}
    remove_offerings(tx, actor, [row for row in gone if row.guid not in remaining])
    return [*_missing_warning(broker, {row.guid: row for row in _offerings(tx, broker.guid)}, used), *_osmapi(catalog)]


def _offerings(tx: Tx, broker_guid: str) -> Sequence[Row[Any]]:
    return tx.all(select(service_offerings).where(service_offerings.c.service_broker_guid == broker_guid))


def _plans(tx: Tx, broker_guid: str) -> Sequence[Row[Any]]:
    return tx.all(select(service_plans).where(service_plans.c.service_broker_guid == broker_guid))


def _put_offering(tx: Tx, actor: Actor, broker: Row[Any], service: CatalogService, row: Row[Any] | None) -> Row[Any]:
    documentation = service.metadata.get("documentationUrl")
    values = {
        "name": service.name,
        "name_key": service.name.lower(),
        "description": service.description,
        "available": True,
        "bindable": service.bindable,
        "plan_updateable": service.plan_updateable,
        "instances_retrievable": service.instances_retrievable,
        "bindings_retrievable": service.bindings_retrievable,
        "allow_context_updates": service.allow_context_updates,
        "shareable": service.metadata.get("shareable") is True,
        "tags": service.tags,
        "requires": service.requires,
        "documentation_url": documentation.replace("\0", "") if isinstance(documentation, str) else "",
        "catalog_metadata": service.metadata,
        "osmapi_features": osmapi_features(service.metadata)[0],
    }
    fixed = {"service_broker_guid": broker.guid, "catalog_id": service.id}
    return _put(tx, service_offerings, "service", actor, row, values, fixed)


def _put_plan(
    tx: Tx, actor: Actor, broker: Row[Any], offering: Row[Any], plan: CatalogPlan, row: Row[Any] | None
) -> Row[Any]:
    values = {
        "name": plan.name,
        "name_key": plan.name.lower(),
        "description": plan.description,
        "available": True,
        "free": plan.free,
        "bindable": plan.bindable,
        "plan_updateable": plan.plan_updateable,
        "maximum_polling_duration": plan.maximum_polling_duration,
        "maintenance_info": plan.maintenance_info,
        "catalog_metadata": plan.metadata,
        "schemas": plan.schemas,
    }
    fixed = {
        "service_offering_guid": offering.guid,
        "service_broker_guid": broker.guid,
        "space_guid": broker.space_guid,
        "catalog_id": plan.id,
        "visibility_type": "space" if broker.space_guid else "admin",
    }
    return _put(tx, service_plans, "service_plan", actor, row, values, fixed)


_TOLD = ("name", "description", "available", "free", "bindable", "catalog_id", "plan_updateable")
"""What events tell of a change; the rest of a catalog may be long."""


def _put(
    tx: Tx,
    table: Table,
    kind: str,
    actor: Actor,
    row: Row[Any] | None,
    values: Mapping[str, Any],
    fixed: Mapping[str, Any],
) -> Row[Any]:
    """Add a row, or change it where it differs; with its audit event."""
    if row is None:
        new = rows.add(tx, table, {**fixed, **values})
        told = {name: one for name, one in {**fixed, **values}.items() if name in _TOLD}
        audit.record(tx, f"audit.{kind}.create", actor, new.guid, kind, new.name, told)
        return new
    changed = {name: value for name, value in values.items() if row._mapping[name] != value}
    if not changed:
        return row
    now = rows.change(tx, table, row, changed)
    told = {name: one for name, one in changed.items() if name in _TOLD}
    audit.record(tx, f"audit.{kind}.update", actor, now.guid, kind, now.name, told)
    return now


def _deactivate(tx: Tx, table: Table, kind: str, actor: Actor, row: Row[Any]) -> None:
    if row.available:
        tx.run(update(table).where(table.c.guid == row.guid).values(available=False, updated_at=tx.now))
        audit.record(tx, f"audit.{kind}.update", actor, row.guid, kind, row.name, {"available": False})


def _remove_unused(tx: Tx, actor: Actor, plans: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Delete those that have no instances; gives the others."""
    if not plans:
        return []
    used = set(
        tx.scalars(
            select(service_instances.c.service_plan_guid)
            .where(service_instances.c.service_plan_guid.in_([plan.guid for plan in plans]))
            .distinct()
        )
    )
    remove_plans(tx, actor, [plan for plan in plans if plan.guid not in used])
    return [plan for plan in plans if plan.guid in used]


def remove_plans(tx: Tx, actor: Actor, plans: Sequence[Row[Any]]) -> None:
    """Delete plans that have no instances, and who might use them."""
    guids = [plan.guid for plan in plans]
    if not guids:
        return
    tx.run(service_plan_visibilities.delete().where(service_plan_visibilities.c.service_plan_guid.in_(guids)))
    rows.remove(tx, service_plans, guids)
    for plan in plans:
        audit.record(tx, "audit.service_plan.delete", actor, plan.guid, "service_plan", plan.name, {})


def remove_offerings(tx: Tx, actor: Actor, offerings: Sequence[Row[Any]]) -> None:
    """Delete offerings that have no plans."""
    rows.remove(tx, service_offerings, [row.guid for row in offerings])
    for row in offerings:
        audit.record(tx, "audit.service.delete", actor, row.guid, "service", row.name, {})


def _missing_warning(broker: Row[Any], offerings: Mapping[str, Row[Any]], used: Sequence[Row[Any]]) -> list[str]:
    by_offering: dict[str, list[str]] = {}
    for plan in used:
        by_offering.setdefault(offerings[plan.service_offering_guid].name, []).append(plan.name)
    if not by_offering:
        return []
    told = [
        f"\nService Offering: {name}\nPlans deactivated: {', '.join(plans)}\n" for name, plans in by_offering.items()
    ]
    return [_MISSING.format(url=broker.url.rstrip("/")) + "".join(told)]


def _osmapi(catalog: Catalog) -> list[str]:
    found = ((service.name, osmapi_features(service.metadata)[1]) for service in catalog.services)
    return [f"Service {name}: {why}. Its OSMAPI features are not used." for name, why in found if why is not None]
