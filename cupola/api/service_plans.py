"""Service plans: what one can have of an offering, at which price, and who may have it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

from sqlalchemy import Row, select

from cupola.api.service_offerings import BROKER_KEYS, SERVICE_OFFERINGS, brokers_of, marketplace, of_brokers
from cupola.api.spaces import SPACES, their_organizations
from cupola.domain import service_plan_visibility as visibility
from cupola.domain import service_plans as rules
from cupola.domain.service_schemas import PLACES
from cupola.rest.message import MetadataOnly
from cupola.rest.operation import Call, Operation, delete, list_, present, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of, to_one
from cupola.rest.resource import Fields, Filter, Include, Resource, World
from cupola.store import rows
from cupola.store.orgs import spaces
from cupola.store.service_brokers import service_offerings, service_plans
from cupola.store.service_instances import service_instances

__all__ = ["OPERATIONS", "SERVICE_PLANS", "writable"]


class _Cost(TypedDict):
    amount: float
    currency: str
    unit: str


class _Features(TypedDict):
    plan_updateable: bool
    bindable: bool


class _Catalog(TypedDict):
    id: str
    metadata: dict[str, Any]
    maximum_polling_duration: int | None
    features: _Features


class ServicePlan(TypedDict):
    """A service plan as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    name: str
    visibility_type: str
    available: bool
    free: bool
    costs: list[_Cost]
    description: str
    maintenance_info: dict[str, Any]
    broker_catalog: _Catalog
    schemas: dict[str, Any]
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/service_plans/{row.guid}"
    relationships = {"service_offering": to_one(row.service_offering_guid)}
    links = {
        "self": world.link(path),
        "service_offering": world.link(f"/v3/service_offerings/{row.service_offering_guid}"),
        "visibility": world.link(f"{path}/visibility"),
    }
    if row.space_guid:
        relationships["space"] = to_one(row.space_guid)
        links["space"] = world.link(f"/v3/spaces/{row.space_guid}")
    return {
        **common(row),
        "name": row.name,
        "visibility_type": row.visibility_type,
        "available": row.available,
        "free": row.free,
        "costs": list(_costs(row.catalog_metadata)),
        "description": row.description,
        "maintenance_info": row.maintenance_info,
        "broker_catalog": {
            "id": row.catalog_id,
            "metadata": row.catalog_metadata,
            "maximum_polling_duration": row.maximum_polling_duration,
            "features": {"plan_updateable": row.plan_updateable, "bindable": row.bindable},
        },
        "schemas": _schemas(row.schemas),
        "relationships": relationships,
        "metadata": metadata_of(row),
        "links": links,
    }


def _costs(metadata: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """`costs: [{amount: {usd: 99.0}, unit: MONTHLY}]` of the catalog, one entry for each currency."""
    costs = metadata.get("costs")
    for cost in costs if isinstance(costs, list) else ():
        amounts = cost.get("amount") if isinstance(cost, dict) else None
        for currency, amount in amounts.items() if isinstance(amounts, dict) else ():
            if isinstance(amount, (int, float)) and not isinstance(amount, bool):
                yield {"amount": amount, "currency": currency.upper(), "unit": str(cost.get("unit") or "")}


def _schemas(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """All of them, those that the catalog left out empty."""
    shown: dict[str, dict[str, Any]] = {}
    for kind, verb in PLACES:
        found = ((given.get(kind) or {}).get(verb) or {}).get("parameters") or {}
        shown.setdefault(kind, {})[verb] = {"parameters": found}
    return shown


def _offerings_of(world: World, page: Sequence[Row[Any]]) -> list[Any]:
    found = rows.by_guids(world.tx, service_offerings, [row.service_offering_guid for row in page])
    return present(world, SERVICE_OFFERINGS, sorted(found.values(), key=lambda row: int(row.id)))


def _spaces_of(world: World, page: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    found = rows.by_guids(world.tx, spaces, [row.space_guid for row in page if row.space_guid])
    return sorted(found.values(), key=lambda row: int(row.id))


SERVICE_PLANS = Resource(
    name="service_plan",
    path="/v3/service_plans",
    table=service_plans,
    view=view,
    shape=ServicePlan,
    visible=visibility.plans,
    parameter_order=["available", "fields"],
    filters=[
        Filter("available", service_plans.c.available, kind="bool"),
        Filter("broker_catalog_ids", service_plans.c.catalog_id),
        Filter("names", service_plans.c.name_key, fold=True),
        Filter("organization_guids", visibility.in_organizations),
        Filter("service_broker_guids", service_plans.c.service_broker_guid),
        Filter("service_broker_names", of_brokers(service_plans.c.service_broker_guid)),
        Filter(
            "service_instance_guids",
            lambda guids: service_plans.c.guid.in_(
                select(service_instances.c.service_plan_guid).where(service_instances.c.guid.in_(guids))
            ),
        ),
        Filter("service_offering_guids", service_plans.c.service_offering_guid),
        Filter(
            "service_offering_names",
            lambda names: service_plans.c.service_offering_guid.in_(
                select(service_offerings.c.guid).where(service_offerings.c.name_key.in_(names))
            ),
            fold=True,
        ),
        Filter("space_guids", visibility.in_spaces),
    ],
    order_by=["created_at", "updated_at", "name"],
    includes=[
        Include("space.organization", "spaces", lambda world, page: present(world, SPACES, _spaces_of(world, page))),
        Include(
            "space.organization",
            "organizations",
            lambda world, page: their_organizations(world, _spaces_of(world, page)),
        ),
        Include("service_offering", "service_offerings", _offerings_of),
    ],
    fields=[Fields("service_offering.service_broker", "service_brokers", BROKER_KEYS, brokers_of)],
)


def writable(call: Call[Row[Any], Any]) -> None:
    """Admins; developers of the space of a space-scoped broker."""
    visibility.require_writable(call.tx, call.actor, call.row.space_guid)


def update_plan(call: Call[Row[Any], MetadataOnly]) -> Row[Any]:
    """Change labels and annotations of a service plan."""
    return rows.change(call.tx, service_plans, call.row, {}, call.body.metadata)


def delete_plan(call: Call[Row[Any], None]) -> None:
    """Delete a service plan that has no instances; the broker is told nothing."""
    rules.delete_plan(call.tx, call.actor, call.row)


OPERATIONS: list[Operation] = [
    list_(SERVICE_PLANS, auth="optional", allow=marketplace),
    show(SERVICE_PLANS, auth="optional", allow=marketplace, query_status=400),
    update(SERVICE_PLANS, MetadataOnly, update_plan, allow=writable),
    delete(SERVICE_PLANS, delete_plan, allow=writable, job=False),
]
