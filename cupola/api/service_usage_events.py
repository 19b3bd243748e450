"""Service usage events: which service instances there were, for billing."""

from typing import Any, TypedDict

from sqlalchemy import Row

from cupola.api import access
from cupola.api.usage_events import after_guid, good_query, visible
from cupola.clock import format_api
from cupola.domain import usage
from cupola.rest.operation import Call, Operation, Reply, list_, show
from cupola.rest.present import Links
from cupola.rest.resource import Filter, Resource, World
from cupola.store.service_usage_events import service_usage_events

__all__ = ["OPERATIONS"]


class ServiceUsageEvent(TypedDict):
    """A service usage event as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    state: str
    space: dict[str, str | None]
    organization: dict[str, str | None]
    service_instance: dict[str, str | None]
    service_plan: dict[str, str | None]
    service_offering: dict[str, str | None]
    service_broker: dict[str, str | None]
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    at = format_api(row.created_at)
    return {
        "guid": row.guid,
        "created_at": at,
        "updated_at": at,
        "state": row.state,
        "space": {"guid": row.space_guid, "name": row.space_name},
        "organization": {"guid": row.organization_guid},
        "service_instance": {
            "guid": row.service_instance_guid,
            "name": row.service_instance_name,
            "type": row.service_instance_type,
        },
        "service_plan": {"guid": row.service_plan_guid, "name": row.service_plan_name},
        "service_offering": {"guid": row.service_offering_guid, "name": row.service_offering_name},
        "service_broker": {"guid": row.service_broker_guid, "name": row.service_broker_name},
        "links": {"self": world.link(f"/v3/service_usage_events/{row.guid}")},
    }


EVENTS = Resource(
    name="service_usage_event",
    path="/v3/service_usage_events",
    table=service_usage_events,
    view=view,
    shape=ServiceUsageEvent,
    visible=visible(service_usage_events),
    filters=[
        after_guid(service_usage_events),
        Filter("service_instance_types", service_usage_events.c.service_instance_type),
        Filter("service_offering_guids", service_usage_events.c.service_offering_guid),
    ],
    order_by=["created_at"],
    order_columns={"updated_at": "created_at"},
    labels=False,
    query_status=422,
)


def purge_and_reseed(call: Call[None, None]) -> Reply:
    """Destroy all service usage events and write one for each service instance."""
    usage.purge_and_reseed_services(call.tx)
    return Reply(200, {})


OPERATIONS: list[Operation] = [
    list_(EVENTS, allow=good_query(service_usage_events, "service")),
    show(EVENTS),
    Operation(
        "POST", EVENTS.path + "/actions/destructively_purge_all_and_reseed", purge_and_reseed, allow=access.ADMIN
    ),
]
