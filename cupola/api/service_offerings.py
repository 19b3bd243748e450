"""Service offerings: what the brokers' catalogs have; the marketplace together with the plans."""

from collections.abc import Sequence
from typing import Any, TypedDict

from sqlalchemy import Row, select

from cupola.domain import service_plan_visibility as visibility
from cupola.domain import service_plans as rules
from cupola.rest.message import MetadataOnly
from cupola.rest.operation import Call, Operation, Parameter, delete, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of, to_one
from cupola.rest.resource import Fields, Filter, Resource, World
from cupola.store import rows
from cupola.store.service_brokers import service_brokers, service_offerings

__all__ = ["BROKER_KEYS", "OPERATIONS", "SERVICE_OFFERINGS", "brokers_of", "marketplace", "of_brokers", "writable"]

BROKER_KEYS = ("guid", "name")


class _Features(TypedDict):
    plan_updateable: bool
    bindable: bool
    instances_retrievable: bool
    bindings_retrievable: bool
    allow_context_updates: bool


class _Catalog(TypedDict):
    id: str
    metadata: dict[str, Any]
    features: _Features


class ServiceOffering(TypedDict):
    """A service offering as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    name: str
    description: str
    available: bool
    tags: list[str]
    requires: list[str]
    shareable: bool
    documentation_url: str
    broker_catalog: _Catalog
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    return {
        **common(row),
        "name": row.name,
        "description": row.description,
        "available": row.available,
        "tags": row.tags,
        "requires": row.requires,
        "shareable": row.shareable,
        "documentation_url": row.documentation_url,
        "broker_catalog": {
            "id": row.catalog_id,
            "metadata": row.catalog_metadata,
            "features": {
                "plan_updateable": row.plan_updateable,
                "bindable": row.bindable,
                "instances_retrievable": row.instances_retrievable,
                "bindings_retrievable": row.bindings_retrievable,
                "allow_context_updates": row.allow_context_updates,
            },
        },
        "relationships": {"service_broker": to_one(row.service_broker_guid)},
        "metadata": metadata_of(row),
        "links": {
            "self": world.link(f"/v3/service_offerings/{row.guid}"),
            "service_plans": world.link(f"/v3/service_plans?service_offering_guids={row.guid}"),
            "service_broker": world.link(f"/v3/service_brokers/{row.service_broker_guid}"),
        },
    }


def brokers_of(world: World, page: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    """The brokers of offerings or plans, for `fields`."""
    found = rows.by_guids(world.tx, service_brokers, [row.service_broker_guid for row in page])
    return [{"guid": row.guid, "name": row.name} for row in sorted(found.values(), key=lambda row: int(row.id))]


def of_brokers(column: Any) -> Any:
    """A filter by names of brokers; `column` holds the broker's guid."""
    return lambda names: column.in_(select(service_brokers.c.guid).where(service_brokers.c.name.in_(names)))


SERVICE_OFFERINGS = Resource(
    name="service_offering",
    path="/v3/service_offerings",
    table=service_offerings,
    view=view,
    shape=ServiceOffering,
    visible=visibility.offerings,
    parameter_order=[
        "available",
        "fields",
        "broker_catalog_ids",
        "service_broker_guids",
        "service_broker_names",
        "names",
        "space_guids",
        "organization_guids",
    ],
    filters=[
        Filter("available", service_offerings.c.available, kind="bool"),
        Filter("broker_catalog_ids", service_offerings.c.catalog_id),
        Filter("names", service_offerings.c.name_key, fold=True),
        Filter("service_broker_guids", service_offerings.c.service_broker_guid),
        Filter("service_broker_names", of_brokers(service_offerings.c.service_broker_guid)),
        Filter("organization_guids", visibility.offerings_in(visibility.in_organizations), by_actor=True),
        Filter("space_guids", visibility.offerings_in(visibility.in_spaces), by_actor=True),
    ],
    order_by=["created_at", "updated_at", "name"],
    fields=[Fields("service_broker", "service_brokers", BROKER_KEYS, brokers_of)],
)


def marketplace(call: Call[Any, Any]) -> None:
    """Everybody, unless the marketplace is hidden from those without a token."""
    visibility.require_marketplace(call.tx, call.actor)


def writable(call: Call[Row[Any], Any]) -> None:
    """Admins; developers of the space of a space-scoped broker."""
    broker = rows.by_guid(call.tx, service_brokers, call.row.service_broker_guid)
    assert broker is not None, "an offering never outlives its broker"
    visibility.require_writable(call.tx, call.actor, broker.space_guid)


def update_offering(call: Call[Row[Any], MetadataOnly]) -> Row[Any]:
    """Change labels and annotations of a service offering."""
    return rows.change(call.tx, service_offerings, call.row, {}, call.body.metadata)


def delete_offering(call: Call[Row[Any], None]) -> None:
    """Delete a service offering that has no plans; with `purge`, also its plans, their instances and bindings.

    The broker is told nothing.
    """
    if call.query.boolean("purge"):
        rules.purge_offering(call.tx, call.actor, call.row)
    else:
        rules.delete_offering(call.tx, call.actor, call.row)


OPERATIONS: list[Operation] = [
    list_(SERVICE_OFFERINGS, auth="optional", allow=marketplace),
    show(SERVICE_OFFERINGS, auth="optional", allow=marketplace, query_status=400),
    update(SERVICE_OFFERINGS, MetadataOnly, update_offering, allow=writable),
    delete(
        SERVICE_OFFERINGS,
        delete_offering,
        allow=writable,
        job=False,
        query=(Parameter("purge", "Delete plans, instances and bindings as well.", ("true", "false")),),
        query_status=400,
    ),
]
