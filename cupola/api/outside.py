"""Requests that wait for a service broker: read and authorize in one transaction, call without any, write in another.

    async def show_parameters(call: StreamCall) -> Response:
        def find(tx: Tx) -> tuple[...]:
            row = outside.target(call, tx, SERVICE_INSTANCES)
            ...
        ... = await call.read(find)
        async with outside.slot(call, broker.guid) as client:
            found = await client.fetch_instance(broker, outside.caller(call), row.guid)
        return json_response(200, found.parameters)

A broker's trouble is a BrokerError, which is an answer as it is. One broker holds few requests at a time, so one that
hangs does not gather all clients of the platform.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import Row

from cupola import errors
from cupola.brokers.client import BrokerClient
from cupola.brokers.parties import Caller
from cupola.errors import CloudError
from cupola.rest import listing
from cupola.rest.dispatch import MAX_BODY
from cupola.rest.document import decode
from cupola.rest.message import Message
from cupola.rest.operation import StreamCall
from cupola.rest.resource import Resource
from cupola.roles import Actor
from cupola.store.database import Tx

__all__ = ["actor", "body", "caller", "slot", "target"]

M = TypeVar("M", bound=Message)
_waiting: Counter[str] = Counter()
"""Requests of this process that wait for a broker, by its guid; touched on the event loop only."""


def actor(call: StreamCall) -> Actor:
    """Who asks."""
    assert call.actor is not None
    return call.actor


def caller(call: StreamCall) -> Caller:
    """Whom the broker is told about."""
    return Caller.of(actor(call), call.request_id)


def target(call: StreamCall, tx: Tx, resource: Resource) -> Row[Any]:
    """The row that `{guid}` names and the actor may see, or 404."""
    row: Row[Any] | None = listing.find(resource, actor(call), tx, call.path["guid"])
    if row is None:
        raise errors.not_found(resource.shown)
    return row


async def body(call: StreamCall, kind: type[M]) -> M:
    """The checked body of the request."""
    parts: list[bytes] = []
    size = 0
    async for chunk in call.request.stream():
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_BODY:
            raise CloudError(1004, "CF-BadRequest", 413, f"Bad request: the body is larger than {MAX_BODY} bytes")
    return kind.parse(decode(b"".join(parts)))


@asynccontextmanager
async def slot(call: StreamCall, broker_guid: str) -> AsyncIterator[BrokerClient]:
    """The client, for the time of a call to this broker. Raises 429 when too many requests wait for it already."""
    client: BrokerClient = call.services.extra["brokers"]
    if _waiting[broker_guid] >= call.services.settings.brokers.max_requests:
        raise CloudError(
            10016, "CF-ServiceBrokerRateLimitExceeded", 429, "Service broker concurrent request limit exceeded"
        )
    _waiting[broker_guid] += 1
    try:
        yield client
    finally:
        _waiting[broker_guid] -= 1
        if not _waiting[broker_guid]:
            del _waiting[broker_guid]
