"""Service bindings as earlier versions of the API had them: removed upstream in 2021, and still asked for by old clients.

They are the credential bindings of apps in another form. Every answer says so in a warning.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict
from urllib.parse import quote

from sqlalchemy import ColumnElement, Row, and_
from starlette.responses import Response

from cupola import errors
from cupola.api import outside
from cupola.api.service_credential_bindings import BINDINGS, details_of, space_of
from cupola.domain import access as rights
from cupola.domain import service_credential_bindings as rules
from cupola.errors import CloudError
from cupola.rest.message import Message, nested, object_, string, to_one
from cupola.rest.operation import Call, Operation, StreamCall, list_, show
from cupola.rest.present import Links, common
from cupola.rest.resource import Filter, Resource, World
from cupola.rest.stream import json_response, present_one
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.jobs import jobs
from cupola.store.service_bindings import service_credential_bindings

__all__ = ["OPERATIONS"]

_bindings = service_credential_bindings
_WARNING = "Service bindings are deprecated and were removed from the API in 2021. Use /v3/service_credential_bindings instead."
_HEADERS = {"X-Cf-Warnings": quote(_WARNING, safe="")}
_HIDDEN = {"redacted_message": "[PRIVATE DATA HIDDEN]"}
_HIDDEN_IN_LISTS = {"redacted_message": "[PRIVATE DATA HIDDEN IN LISTS]"}


class _Relationships(Message):
    app = to_one(required=True)
    service_instance = to_one(required=True)


class _Data(Message):
    parameters = object_(nullable=True)


class Create(Message):
    """A new binding of an app."""

    type = string(required=True, one_of=("app",), one_of_message="must be app")
    relationships = nested(_Relationships, required=True)
    data = nested(_Data, nullable=True)


class _DataShape(TypedDict):
    credentials: dict[str, Any]
    syslog_drain_url: str | None
    volume_mounts: list[dict[str, Any]]


class ServiceBinding(TypedDict):
    """A binding of an app with what it gives."""

    guid: str
    created_at: str
    updated_at: str
    type: str
    data: _DataShape
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/service_bindings/{row.guid}"
    return {
        **common(row),
        "type": row.type,
        "data": world.related["data"][row.guid],
        "links": {
            "self": world.link(path),
            "service_instance": world.link(f"/v3/service_instances/{row.service_instance_guid}"),
            "app": world.link(f"/v3/apps/{row.app_guid}"),
        },
    }


def _data(world: World, page: Sequence[Row[Any]]) -> dict[str, dict[str, Any]]:
    """What bindings give: of one, for those who may read secrets there; in lists for nobody."""
    if not world.single:
        return {row.guid: _shown({"credentials": _HIDDEN_IN_LISTS}) for row in page}
    return {
        row.guid: _shown(details_of(world.tx, row) if _reads_secrets(world, row) else {"credentials": _HIDDEN})
        for row in page
    }


def _shown(details: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "credentials": details["credentials"],
        "syslog_drain_url": details.get("syslog_drain_url"),
        "volume_mounts": details.get("volume_mounts", []),
    }


def _reads_secrets(world: World, row: Row[Any]) -> bool:
    actor = world.actor
    if actor is None:
        return False
    if actor.reads_secrets:
        return True
    return rights.has_in_space(world.tx, actor, space_of(world.tx, row), rights.WRITE_IN_SPACE)


def visible(actor: Actor) -> ColumnElement[bool]:
    """The bindings of apps that the caller sees."""
    of_apps = _bindings.c.type == "app"
    condition = BINDINGS.visible(actor)
    return of_apps if condition is None else and_(of_apps, condition)


SERVICE_BINDINGS = Resource(
    name="service_binding",
    path="/v3/service_bindings",
    table=_bindings,
    view=view,
    shape=ServiceBinding,
    visible=visible,
    filters=[
        Filter("app_guids", _bindings.c.app_guid),
        Filter("service_instance_guids", _bindings.c.service_instance_guid),
    ],
    labels=False,
    related={"data": _data},
)


def warn(call: Call[Any, Any]) -> None:
    """Everybody may, and is told that this way is old."""
    call.warnings.append(_WARNING)


async def create_binding(call: StreamCall) -> Response:
    """Bind an app to a service instance, and wait for the broker as long as it may take to answer."""
    message = await outside.body(call, Create)
    body = {
        "type": "app",
        "relationships": message.given["relationships"],
        **({"parameters": message.data.parameters} if message.data.parameters is not None else {}),
    }
    actor, request_id = outside.actor(call), outside.caller(call).request_id

    def bind(tx: Tx) -> tuple[str, Any]:
        related = message.relationships
        instance = rules.usable_instance(tx, actor, related.service_instance, body)
        app = rules.usable_app(tx, actor, related.app)
        found = rules.create_app_binding(tx, call.services.settings, actor, instance, app, body, request_id)
        if isinstance(found, str):
            return found, None
        return "", present_one(call, tx, SERVICE_BINDINGS, found)

    job, shown = await call.write(bind)
    if not job:
        return json_response(201, shown, _HEADERS)

    def show_bound(tx: Tx, guid: str) -> Response:
        row = rows.by_guid(tx, _bindings, guid)
        if row is None:
            raise errors.not_found(SERVICE_BINDINGS.shown)
        return json_response(201, present_one(call, tx, SERVICE_BINDINGS, row), _HEADERS)

    return await _waited(call, job, show_bound)


async def delete_binding(call: StreamCall) -> Response:
    """Unbind an app from a service instance, and wait for the broker as long as it may take to answer."""
    actor, request_id = outside.actor(call), outside.caller(call).request_id

    def unbind(tx: Tx) -> str | None:
        row = outside.target(call, tx, SERVICE_BINDINGS)
        rights.require_in_space(tx, actor, space_of(tx, row), rights.MANAGE_APPS)
        return rules.delete(tx, actor, row, request_id)

    job = await call.write(unbind)
    if job is None:
        return Response(status_code=204, headers=_HEADERS)
    return await _waited(call, job, lambda tx, guid: Response(status_code=204, headers=_HEADERS))


async def _waited(call: StreamCall, job_guid: str, then: Callable[[Tx, str], Response]) -> Response:
    """What became of a job that earlier versions of the API did not have; 202 and the job where it is not done."""
    await call.services.wait_for_job(job_guid, call.services.settings.brokers.timeout_seconds)

    def look(tx: Tx) -> Response:
        job = rows.by_guid(tx, jobs, job_guid)
        assert job is not None, "a job that was just enqueued is kept"
        if job.state == "COMPLETE":
            return then(tx, job.resource_guid)
        if job.state == "FAILED":
            raise CloudError(job.errors[0]["code"], job.errors[0]["title"], 502, job.errors[0]["detail"])
        location = f"{call.services.settings.api_url}/v3/jobs/{job_guid}"
        return Response(status_code=202, headers={**_HEADERS, "Location": location})

    return await call.read(look)


_ONE = SERVICE_BINDINGS.path + "/{guid}"

OPERATIONS: list[Operation] = [
    list_(SERVICE_BINDINGS, allow=warn),
    show(SERVICE_BINDINGS, allow=warn, deprecated=True),
    Operation(
        "POST",
        SERVICE_BINDINGS.path,
        stream=create_binding,
        returns=SERVICE_BINDINGS,
        bodies=(Create,),
        status=201,
        job=True,
        deprecated=True,
    ),
    Operation("DELETE", _ONE, stream=delete_binding, status=204, job=True, deprecated=True),
]
