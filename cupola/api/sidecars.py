"""Sidecars: extra processes in an app's containers."""

from collections.abc import Iterator
from typing import Any, TypedDict

from sqlalchemy import Row, select

from cupola import errors
from cupola.api import access
from cupola.api.apps import APPS
from cupola.api.processes import PROCESSES
from cupola.domain import sidecars as rules
from cupola.domain import visibility
from cupola.rest.message import Message, array, integer, string
from cupola.rest.operation import Call, Operation, create, delete, list_, show, update
from cupola.rest.present import common, to_one
from cupola.rest.resource import Resource, World
from cupola.store import rows
from cupola.store.apps import apps, processes, sidecars

__all__ = ["OPERATIONS"]


def _types(value: list[Any]) -> Iterator[str]:
    if not value:
        yield "must have at least one process_type"
    elif not all(isinstance(one, str) and one for one in value):
        yield "must be an array of strings"


class Create(Message):
    """A new sidecar."""

    name = string(required=True, min_length=1, max_length=255)
    command = string(required=True, min_length=1, max_length=4096)
    process_types = array(required=True, items={"type": "string"}, checks=[_types])
    memory_in_mb = integer(nullable=True, more_than=0)


class Update(Message):
    """What shall change of a sidecar."""

    name = string(min_length=1, max_length=255)
    command = string(min_length=1, max_length=4096)
    process_types = array(items={"type": "string"}, checks=[_types])
    memory_in_mb = integer(nullable=True, more_than=0)


class Sidecar(TypedDict):
    """A sidecar as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    name: str
    command: str
    process_types: list[str]
    memory_in_mb: int | None
    origin: str
    relationships: dict[str, Any]


def view(row: Row[Any], world: World) -> dict[str, Any]:
    return {
        **common(row),
        "name": row.name,
        "command": row.command,
        "process_types": row.process_types,
        "memory_in_mb": row.memory_mb,
        "origin": row.origin,
        "relationships": {"app": to_one(row.app_guid)},
    }


SIDECARS = Resource(
    name="sidecar",
    path="/v3/sidecars",
    table=sidecars,
    view=view,
    shape=Sidecar,
    visible=visibility.by_app(sidecars.c.app_guid),
    labels=False,
)


def create_sidecar(call: Call[Row[Any], Create]) -> Row[Any]:
    """Add a sidecar to an app; it runs from the next start on."""
    body = call.body
    if any(row.name == body.name for row in rules.of_app(call.tx, call.row.guid)):
        raise errors.unprocessable(f"Sidecar with name '{body.name}' already exists for given app")
    return rules.put(call.tx, call.row, body.name, body.command, body.process_types or [], body.memory_in_mb)


def update_sidecar(call: Call[Row[Any], Update]) -> Row[Any]:
    """Change a sidecar; the change is in force from the next start on."""
    app = rows.by_guid(call.tx, apps, call.row.app_guid)
    assert app is not None
    body, row = call.body, call.row
    if body.name is not None and body.name != row.name:
        if any(other.name == body.name for other in rules.of_app(call.tx, app.guid)):
            raise errors.unprocessable(f"Sidecar with name '{body.name}' already exists for given app")
        row = rows.change(call.tx, sidecars, row, {"name": body.name})
    memory = body.memory_in_mb if body.has("memory_in_mb") else row.memory_mb
    return rules.put(
        call.tx, app, row.name, body.command or row.command, body.process_types or row.process_types, memory
    )


def delete_sidecar(call: Call[Row[Any], None]) -> None:
    """Remove a sidecar; it is gone from the next start on."""
    rows.remove(call.tx, sidecars, [call.row.guid])


def _of_process(process: Any) -> Any:
    # A sidecar lists its process types as JSON; which of an app's sidecars run in a process is a match on that text.
    types = select(processes.c.type).where(processes.c.guid == process).scalar_subquery()
    owner = select(processes.c.app_guid).where(processes.c.guid == process).scalar_subquery()
    return (sidecars.c.app_guid == owner) & rules.names_type(types)


_WRITE = access.in_space_of_app(*access.DEVELOPER)

OPERATIONS: list[Operation] = [
    list_(
        SIDECARS,
        path="/v3/apps/{guid}/sidecars",
        parent=APPS,
        within=lambda app: sidecars.c.app_guid == app,
        doc="List the sidecars of an app.",
    ),
    list_(
        SIDECARS,
        path="/v3/processes/{guid}/sidecars",
        parent=PROCESSES,
        within=_of_process,
        doc="List the sidecars of a process.",
    ),
    create(
        SIDECARS,
        Create,
        create_sidecar,
        path="/v3/apps/{guid}/sidecars",
        target=APPS,
        allow=access.in_space(*access.DEVELOPER),
    ),
    show(SIDECARS),
    update(SIDECARS, Update, update_sidecar, allow=_WRITE),
    delete(SIDECARS, delete_sidecar, allow=_WRITE, job=False),
]
