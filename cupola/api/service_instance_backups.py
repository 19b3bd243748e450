"""Backups of service instances, and restoring from them, where the offering's broker supports it (OSMAPI)."""

from collections.abc import Iterator
from typing import Any, TypedDict

from sqlalchemy import Row
from starlette.responses import Response

from cupola import clock, errors
from cupola.api import access, outside
from cupola.api.service_instances import SERVICE_INSTANCES
from cupola.brokers.facts import Facts, of_instance
from cupola.brokers.osmapi import OsmapiClient
from cupola.domain import access as rights
from cupola.domain import service_backups as rules
from cupola.rest.message import Message, anything, string
from cupola.rest.operation import Accepted, Call, Operation, Parameter, StreamCall
from cupola.rest.query import Query
from cupola.rest.stream import json_response
from cupola.store.database import Tx

__all__ = ["OPERATIONS"]


def _moment(value: Any) -> Iterator[str]:
    try:
        clock.parse_api(value)
    except (TypeError, ValueError):
        yield (
            "Target timestamp has an invalid timestamp format. Timestamps should be formatted as 'YYYY-MM-DDThh:mm:ssZ'"
        )


class Restore(Message):
    """What to restore an instance from."""

    backup_id = string(nullable=True, min_length=1, max_length=1000)
    target_timestamp = anything(_moment, {"type": ["string", "null"], "format": "date-time"})
    restore_point = string(nullable=True, min_length=1, max_length=255)
    source_service_instance_guid = string(nullable=True, min_length=1, max_length=200)


class Backup(TypedDict):
    """One backup; `created_at` in seconds since 1970."""

    id: str
    created_at: int


class Backups(TypedDict):
    """The newest first."""

    backups: list[Backup]


def _limit(query: Query) -> int | None:
    text = query.get("limit")
    if text is None:
        return None
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= number <= 5000:
        raise query.bad("Limit must be between 1 and 5000")
    return number


async def list_backups(call: StreamCall) -> Response:
    """List the backups that the broker has of a service instance, the newest first."""
    limit = _limit(Query(call.request.scope["query_string"], ["limit"]))

    def find(tx: Tx) -> Facts:
        row = outside.target(call, tx, SERVICE_INSTANCES)
        if not rights.may_read_space(tx, outside.actor(call), row.space_guid):
            raise errors.not_authorized()
        rules.require_supported(tx, row)
        facts = of_instance(tx, row.guid)
        assert facts is not None, "a managed instance has a plan"
        return facts

    facts = await call.read(find)
    async with outside.slot(call, facts.broker.guid) as client:
        found = await OsmapiClient(client.transport).list_backups(
            facts.broker, outside.caller(call), facts.instance.guid, facts.ids, limit
        )
    shown = [{"id": one.id, "created_at": one.created_at} for one in found]
    return json_response(200, {"backups": shown if limit is None else shown[:limit]})


def create_backup(call: Call[Row[Any], None]) -> Accepted:
    """Have the broker make a backup of a service instance."""
    return Accepted(rules.start_backup(call.tx, call.actor, call.row, call.request_id))


def restore(call: Call[Row[Any], Restore]) -> Accepted:
    """Have the broker restore a service instance from a backup, or to what it was at some time."""
    return Accepted(rules.start_restore(call.tx, call.actor, call.row, call.body.given, call.request_id))


_BACKUPS = SERVICE_INSTANCES.path + "/{guid}/backups"
_WRITE = access.in_space(*access.DEVELOPER)

OPERATIONS: list[Operation] = [
    Operation(
        "GET",
        _BACKUPS,
        stream=list_backups,
        query=(Parameter("limit", "At most so many, from 1 to 5000."),),
        shape=Backups,
    ),
    Operation("POST", _BACKUPS, create_backup, target=SERVICE_INSTANCES, allow=_WRITE, status=202, job=True),
    Operation(
        "POST",
        SERVICE_INSTANCES.path + "/{guid}/actions/restore",
        restore,
        target=SERVICE_INSTANCES,
        body=Restore,
        allow=_WRITE,
        status=202,
        job=True,
    ),
]
