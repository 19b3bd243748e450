"""App usage events: what started, stopped and grew, for billing."""

from typing import Any, TypedDict

from sqlalchemy import Row

from cupola.api import access
from cupola.api.usage_events import after_guid, good_query, visible
from cupola.clock import format_api
from cupola.domain import usage
from cupola.rest.operation import Call, Operation, Reply, list_, show
from cupola.rest.present import Links
from cupola.rest.resource import Resource, World
from cupola.store.app_usage_events import app_usage_events

__all__ = ["OPERATIONS"]


class AppUsageEvent(TypedDict):
    """An app usage event as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    state: dict[str, str | None]
    app: dict[str, str | None]
    process: dict[str, str | None]
    space: dict[str, str | None]
    organization: dict[str, str | None]
    buildpack: dict[str, str | None]
    task: dict[str, str | None]
    memory_in_mb_per_instance: dict[str, int | None]
    instance_count: dict[str, int | None]
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    at = format_api(row.created_at)
    return {
        "guid": row.guid,
        "created_at": at,
        "updated_at": at,
        "state": {"current": row.state, "previous": row.previous_state},
        "app": {"guid": row.app_guid, "name": row.app_name},
        "process": {"guid": row.process_guid, "type": row.process_type},
        "space": {"guid": row.space_guid, "name": row.space_name},
        "organization": {"guid": row.organization_guid},
        "buildpack": {"guid": row.buildpack_guid, "name": row.buildpack_name},
        "task": {"guid": row.task_guid, "name": row.task_name},
        "memory_in_mb_per_instance": {"current": row.memory_mb, "previous": row.previous_memory_mb},
        "instance_count": {"current": row.instances, "previous": row.previous_instances},
        "links": {"self": world.link(f"/v3/app_usage_events/{row.guid}")},
    }


EVENTS = Resource(
    name="app_usage_event",
    path="/v3/app_usage_events",
    table=app_usage_events,
    view=view,
    shape=AppUsageEvent,
    visible=visible(app_usage_events),
    filters=[after_guid(app_usage_events)],
    order_by=["created_at"],
    order_columns={"updated_at": "created_at"},
    labels=False,
    query_status=422,
)


def purge_and_reseed(call: Call[None, None]) -> Reply:
    """Destroy all app usage events and write one for each started process, whose guid is that of the process."""
    usage.purge_and_reseed_apps(call.tx)
    return Reply(200, {})


OPERATIONS: list[Operation] = [
    list_(EVENTS, allow=good_query(app_usage_events, "app")),
    show(EVENTS),
    Operation(
        "POST", EVENTS.path + "/actions/destructively_purge_all_and_reseed", purge_and_reseed, allow=access.ADMIN
    ),
]
