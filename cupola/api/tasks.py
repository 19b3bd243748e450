"""Tasks: commands of an app that run once."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypedDict

from sqlalchemy import Row, select

from cupola.api import access
from cupola.api.apps import APPS
from cupola.api.organizations import printable
from cupola.domain import access as rules_of_access
from cupola.domain import tasks as rules
from cupola.domain import visibility
from cupola.rest.message import Message, MetadataOnly, anything, integer, metadata, string
from cupola.rest.operation import Call, Operation, create, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Resource, World
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.orgs import spaces
from cupola.store.tasks import tasks

__all__ = ["OPERATIONS", "TASKS"]

_STATES = ("CANCELING", "FAILED", "PENDING", "RUNNING", "SUCCEEDED")
_TEMPLATE_SCHEMA = {
    "type": "object",
    "properties": {
        "process": {"type": "object", "properties": {"guid": {"type": "string"}}, "required": ["guid"]},
    },
    "required": ["process"],
}


def _template_problems(value: Any) -> Iterator[str]:
    process = value.get("process") if isinstance(value, dict) else None
    guid = process.get("guid") if isinstance(process, dict) else None
    if not isinstance(guid, str):
        yield "Template process guid must be a string"
    if not isinstance(guid, str) or not 1 <= len(guid) <= 200:
        yield "Template process guid must be between 1 and 200 characters"


class Create(Message):
    """What to run: a command, or that of a process; and what it may use where that differs from the default."""

    name = string(nullable=True, min_length=1, max_length=255, checks=[printable])
    command = string(nullable=True, max_length=4096)
    disk_in_mb = integer(nullable=True, more_than=0, at_most=2_147_483_647)
    memory_in_mb = integer(nullable=True, more_than=0, at_most=2_147_483_647)
    log_rate_limit_in_bytes_per_second = integer(nullable=True, more_than=-2, at_most=9_223_372_036_854_775_807)
    droplet_guid = string(nullable=True, min_length=1, max_length=200)
    template = anything(_template_problems, _TEMPLATE_SCHEMA)
    user = string(nullable=True, min_length=1, max_length=255, range_at_once=True)
    metadata = metadata()

    def rules(self) -> Iterator[str]:
        if not self.given.get("command") and self.given.get("template") is None:
            yield "Command No command or template provided"


class Task(TypedDict, total=False):
    """A task as the API shows it; `command` only to those who may read the app's secrets."""

    guid: str
    created_at: str
    updated_at: str
    sequence_id: int
    name: str
    command: str
    user: str
    state: str
    memory_in_mb: int
    disk_in_mb: int
    log_rate_limit_in_bytes_per_second: int
    result: dict[str, str | None]
    droplet_guid: str
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/tasks/{row.guid}"
    secret = {"command": row.command} if row.app_guid in world.related["secrets"] else {}
    return {
        **common(row),
        "sequence_id": row.sequence_id,
        "name": row.name,
        **secret,
        "user": row.user or "vcap",
        "state": row.state,
        "memory_in_mb": row.memory_mb,
        "disk_in_mb": row.disk_mb,
        "log_rate_limit_in_bytes_per_second": row.log_rate,
        "result": {"failure_reason": row.failure_reason},
        "droplet_guid": row.droplet_guid,
        "relationships": {"app": one(row.app_guid)},
        "metadata": metadata_of(row),
        "links": {
            "self": world.link(path),
            "app": world.link(f"/v3/apps/{row.app_guid}"),
            "cancel": world.link(path + "/actions/cancel", "POST"),
            "droplet": world.link(f"/v3/droplets/{row.droplet_guid}"),
        },
    }


def _secrets(world: World, page: Any) -> set[str]:
    """Guids of the page's apps whose commands the caller may read."""
    guids = {row.app_guid for row in page}
    actor = world.actor
    if actor is None:
        return set()
    if actor.reads_secrets:
        return guids
    found = world.tx.all(select(apps.c.guid, apps.c.space_guid).where(apps.c.guid.in_(guids)))
    return {
        app.guid for app in found if rules_of_access.has_in_space(world.tx, actor, app.space_guid, access.DEVELOPER)
    }


def _secrets_of_one(world: World, page: Any) -> set[str]:
    # The list of everybody's tasks shows no command at all, not even to admins.
    return _secrets(world, page) if world.single else set()


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ValueError(text)
    return int(text)


TASKS = Resource(
    name="task",
    path="/v3/tasks",
    table=tasks,
    view=view,
    shape=Task,
    visible=visibility.by_app(tasks.c.app_guid),
    related={"secrets": _secrets_of_one},
    filters=[
        Filter("names", tasks.c.name_key, fold=True),
        Filter("states", tasks.c.state, choices=_STATES),
        Filter("app_guids", tasks.c.app_guid),
        Filter(
            "organization_guids",
            lambda guids: tasks.c.app_guid.in_(
                select(apps.c.guid)
                .join(spaces, spaces.c.guid == apps.c.space_guid)
                .where(spaces.c.organization_guid.in_(guids))
            ),
        ),
        Filter(
            "space_guids",
            lambda guids: tasks.c.app_guid.in_(select(apps.c.guid).where(apps.c.space_guid.in_(guids))),
        ),
        Filter("sequence_ids", tasks.c.sequence_id, convert=_number),
    ],
)
TASKS_OF_APP = replace(TASKS, related={"secrets": _secrets})
"""The list of one app's tasks, all of which are shown alike."""


def create_task(call: Call[Row[Any], Create]) -> Row[Any]:
    """Run a command once, in a container of its own."""
    return rules.create(call.tx, call.settings, call.actor, call.row, call.body.given)


def update_task(call: Call[Row[Any], MetadataOnly]) -> Row[Any]:
    """Relabel a task."""
    return rows.change(call.tx, tasks, call.row, {}, call.body.metadata)


def cancel_task(call: Call[Row[Any], None]) -> Row[Any]:
    """Cancel a task that has not ended; it becomes FAILED once it has stopped."""
    return rules.cancel(call.tx, call.actor, call.row)


def _cancel(method: str, path: str, *, deprecated: bool = False) -> Operation:
    return Operation(
        method,
        TASKS.path + path,
        cancel_task,
        target=TASKS,
        allow=access.in_space_of_app(*access.MANAGE_APPS),
        status=202,
        deprecated=deprecated,
    )


_OF_APP = APPS.path + "/{guid}/tasks"

OPERATIONS: list[Operation] = [
    list_(TASKS, filters=["names", "states", "app_guids", "organization_guids", "space_guids"]),
    list_(
        TASKS_OF_APP,
        path=_OF_APP,
        parent=APPS,
        within=lambda app: tasks.c.app_guid == app,
        filters=["names", "states", "sequence_ids"],
        doc="List the tasks of an app.",
    ),
    create(TASKS, Create, create_task, path=_OF_APP, target=APPS, allow=access.in_space(*access.DEVELOPER), status=202),
    show(TASKS),
    update(TASKS, MetadataOnly, update_task, allow=access.in_space_of_app(*access.DEVELOPER)),
    _cancel("POST", "/{guid}/actions/cancel"),
    _cancel("PUT", "/{guid}/actions/cancel"),
    _cancel("PUT", "/{guid}/cancel", deprecated=True),
]
