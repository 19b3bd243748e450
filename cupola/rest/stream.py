"""Answers of stream operations: JSON, files, and one row presented as any other operation would."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, BinaryIO

import msgspec
from sqlalchemy import Row
from starlette.responses import Response, StreamingResponse

from cupola.rest.operation import StreamCall, present
from cupola.rest.resource import Resource, World
from cupola.store.database import Tx

__all__ = ["file_response", "json_response", "present_one"]

_CHUNK = 256 * 1024


def json_response(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    content = msgspec.json.encode(body)
    return Response(content, status, dict(headers or {}), media_type="application/json; charset=utf-8")


def present_one(call: StreamCall, tx: Tx, resource: Resource, row: Row[Any]) -> Any:
    """One row as the API shows it."""
    world = World(tx, call.actor, call.services.settings.api_url, single=True, extra=call.services)
    return present(world, resource, [row])[0]


def file_response(call: StreamCall, file: BinaryIO, size: int, filename: str, media_type: str) -> Response:
    """A file as an attachment, streamed with constant memory; `file` is closed at the end."""

    async def chunks() -> AsyncIterator[bytes]:
        try:
            while chunk := await call.in_thread(file.read, _CHUNK):
                yield chunk
        finally:
            file.close()

    headers = {"Content-Length": str(size), "Content-Disposition": f'attachment; filename="{filename}"'}
    return StreamingResponse(chunks(), 200, headers, media_type=media_type)
