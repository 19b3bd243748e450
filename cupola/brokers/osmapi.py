"""OSMAPI: what a broker does beside the Open Service Broker API, if its catalog says so: backups and plan definitions.

The broker's side is specified in docs/osmapi.md; discovery is `metadata.osmapi` of a catalog's service. Errors are
BrokerErrors as in client.py; none of them leaves an orphan that we would remove.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from cupola.brokers import answers, problems
from cupola.brokers.client import CatalogIds, LastOperation
from cupola.brokers.parties import Broker, Caller
from cupola.brokers.transport import Answer, Transport

__all__ = ["BASE", "VERSION", "Backup", "DefinitionSchema", "OsmapiClient", "RestoreRequest", "Started"]

VERSION = "1"
BASE = "/osmapi/v1"


@dataclass(frozen=True)
class Backup:
    """A backup that the broker keeps; `created_at` in seconds since 1970."""

    id: str
    created_at: int


@dataclass(frozen=True)
class RestoreRequest:
    """What to restore an instance from: a backup, or a moment (`YYYY-MM-DDThh:mm:ssZ`) and the kind of restore point."""

    backup_id: str | None = None
    target_timestamp: str | None = None
    restore_point: str | None = None
    source_service_instance_id: str | None = None


@dataclass(frozen=True)
class Started:
    """A backup or a restore: done, or going on under the name `operation`."""

    state: Literal["succeeded", "in progress"]
    operation: str | None = None
    backup: Backup | None = None
    retry_after: float | None = None


@dataclass(frozen=True)
class DefinitionSchema:
    """How plans of an offering are defined, and how a form asks for it."""

    json_schema: dict[str, Any]
    ui_schema: dict[str, Any] = field(default_factory=dict)
    version: str = ""


class OsmapiClient:
    """Calls brokers that support OSMAPI, over the connections of the broker client (`OsmapiClient(client.transport)`)."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list_backups(
        self, broker: Broker, caller: Caller, instance: str, ids: CatalogIds, limit: int | None = None
    ) -> list[Backup]:
        """Backups of an instance, newest first."""
        query = {**_query(ids), **({} if limit is None else {"limit": str(limit)})}
        answer = await self._send(broker, caller, "GET", f"{_instance(instance)}/backups", query)
        found = _object(answer, 200).get("backups")
        if not isinstance(found, list):
            raise problems.malformed('expected "backups" to be an array')
        return [_backup(one) for one in found]

    async def create_backup(
        self, broker: Broker, caller: Caller, instance: str, ids: CatalogIds, context: Mapping[str, Any]
    ) -> Started:
        """Make a backup of an instance."""
        body = {**_query(ids), "context": dict(context)}
        answer = await self._send(broker, caller, "POST", f"{_instance(instance)}/backups", {}, body)
        found = _object(answer, 201, 202)
        if answer.status == 202:
            return Started("in progress", _operation(found), retry_after=answer.retry_after)
        return Started("succeeded", backup=_backup(found))

    async def restore(
        self,
        broker: Broker,
        caller: Caller,
        instance: str,
        ids: CatalogIds,
        context: Mapping[str, Any],
        request: RestoreRequest,
    ) -> Started:
        """Restore an instance. The broker keeps the credentials of its bindings valid."""
        given = {
            "backup_id": request.backup_id,
            "target_timestamp": request.target_timestamp,
            "restore_point": request.restore_point,
            "source_service_instance_id": request.source_service_instance_id,
        }
        body = {
            **_query(ids),
            "context": dict(context),
            **{name: one for name, one in given.items() if one is not None},
        }
        answer = await self._send(broker, caller, "POST", f"{_instance(instance)}/restore", {}, body)
        found = _object(answer, 200, 202)
        if answer.status == 202:
            return Started("in progress", _operation(found), retry_after=answer.retry_after)
        return Started("succeeded")

    async def last_operation(
        self, broker: Broker, caller: Caller, instance: str, ids: CatalogIds, operation: str | None
    ) -> LastOperation:
        """How far a backup or a restore is. An error says nothing about it: ask again."""
        query = {**_query(ids), **({} if operation is None else {"operation": operation})}
        answer = await self._send(broker, caller, "GET", f"{_instance(instance)}/osm_last_operation", query)
        return LastOperation(**answers.last_operation(answer, deleting=False))

    async def definition_schema(self, broker: Broker, caller: Caller, service_id: str) -> DefinitionSchema:
        """How plans of an offering are defined."""
        path = f"{_service(service_id)}/plan_definition_schema"
        found = _object(await self._send(broker, caller, "GET", path), 200)
        if not isinstance(found.get("json_schema"), dict):
            raise problems.malformed('expected "json_schema" to be a JSON object')
        ui_schema, version = found.get("ui_schema"), found.get("version")
        return DefinitionSchema(
            found["json_schema"],
            ui_schema if isinstance(ui_schema, dict) else {},
            version if isinstance(version, str) else "",
        )

    async def list_definitions(self, broker: Broker, caller: Caller, service_id: str) -> list[dict[str, Any]]:
        """All definitions of an offering."""
        path = f"{_service(service_id)}/plan_definitions"
        found = _object(await self._send(broker, caller, "GET", path), 200).get("plan_definitions")
        if not isinstance(found, list):
            raise problems.malformed('expected "plan_definitions" to be an array')
        return [_definition(one) for one in found]

    async def get_definition(self, broker: Broker, caller: Caller, ids: CatalogIds) -> dict[str, Any]:
        """The definition of a plan."""
        return _definition(_object(await self._send(broker, caller, "GET", _plan(ids)), 200))

    async def create_definition(
        self, broker: Broker, caller: Caller, service_id: str, definition: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Define a plan; the broker may choose its `plan_id`."""
        path = f"{_service(service_id)}/plan_definitions"
        return _definition(_object(await self._send(broker, caller, "POST", path, {}, dict(definition)), 201, 200))

    async def replace_definition(
        self, broker: Broker, caller: Caller, ids: CatalogIds, definition: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Define a plan anew."""
        return _definition(_object(await self._send(broker, caller, "PUT", _plan(ids), {}, dict(definition)), 200))

    async def delete_definition(self, broker: Broker, caller: Caller, ids: CatalogIds) -> None:
        """Remove the definition of a plan, and so the plan; one that is gone already is fine."""
        answer = await self._send(broker, caller, "DELETE", _plan(ids))
        if answer.status not in {200, 204, 404, 410}:
            answers.common(answer)
            raise answers.bad(answer)

    async def _send(
        self,
        broker: Broker,
        caller: Caller,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        headers = {"X-Osmapi-Version": VERSION}
        return await self._transport.send(broker, caller, method, BASE + path, query or {}, body, headers)


def _object(answer: Answer, *statuses: int) -> dict[str, Any]:
    answers.common(answer)
    if answer.status == 409:
        raise problems.conflict(answers.description(answer))
    if answer.status == 422:
        raise problems.rejected(422, answers.text(answer), answers.description(answer))
    if answer.status not in statuses:
        raise answers.bad(answer)
    return answers.json_object(answer)


def _backup(found: Any) -> Backup:
    good = isinstance(found, dict) and isinstance(found.get("id"), str) and found["id"]
    if not good or type(found.get("created_at")) is not int:
        raise problems.malformed('expected a backup to have a string "id" and an integer "created_at"')
    return Backup(found["id"].replace("\0", ""), found["created_at"])


def _operation(found: Mapping[str, Any]) -> str | None:
    why = list(answers.operation_problems(found))
    if why:
        raise problems.malformed("\n" + "\n".join(why))
    operation: str | None = found.get("operation")
    return operation


_READ_ONLY = ("created_at", "resource_version")


def _definition(found: Any) -> dict[str, Any]:
    """A definition with the fields that the API shows, in their order."""
    if not isinstance(found, dict):
        raise problems.malformed("expected a plan definition to be a JSON object")
    wrong = [name for name in ("plan_id", "name", "description") if not isinstance(found.get(name), str)]
    if wrong:
        raise problems.malformed("expected a plan definition to have the strings: " + ", ".join(wrong))
    kept: dict[str, Any] = {name: found[name] for name in ("plan_id", "name", "description")}
    for name in ("properties", "metadata"):
        kept[name] = found[name] if isinstance(found.get(name), dict) else {}
    return {**kept, **{name: found[name] for name in _READ_ONLY if isinstance(found.get(name), str)}}


def _query(ids: CatalogIds) -> dict[str, str]:
    return {"service_id": ids.service_id, "plan_id": ids.plan_id}


def _instance(guid: str) -> str:
    return f"/service_instances/{quote(guid, safe='')}"


def _service(service_id: str) -> str:
    return f"/services/{quote(service_id, safe='')}"


def _plan(ids: CatalogIds) -> str:
    return f"{_service(ids.service_id)}/plan_definitions/{quote(ids.plan_id, safe='')}"
