"""`/routing/v1/router_groups`: list, make, change and delete router groups (reference/cf-cli.md section (e)).

TCP routes are not served by this engine, so the rest of the routing API is not either. Errors are `{name, message}`.
Upstream answers 401 also to a good token without the scope; clients know that.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import quote_plus

import msgspec
from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from cupola import clock
from cupola.domain import router_groups as rules
from cupola.domain.router_groups import InvalidGroup
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store.database import Database, Tx

__all__ = ["READ", "WRITE", "routes"]

READ = "routing.router_groups.read"
WRITE = "routing.router_groups.write"
T = TypeVar("T")
_MAX_BODY = 64 * 1024
_ATTEMPTS = 3
_PORTS_WARNING = (
    "Warning: if routes are registered for ports that are not in the new range, modifying your load balancer to "
    "remove these ports will result in backends for those routes becoming inaccessible."
)


class _Problem(Exception):
    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.name = name


def routes(database: Database, authenticate: Callable[[str | None], Actor]) -> list[BaseRoute]:
    """The routes, to be mounted at the root. `authenticate` maps an Authorization header to an actor or raises 401."""
    face = _Face(database, authenticate)
    base = "/routing/v1/router_groups"
    return [
        Route(base, face.answering(face.index, READ), methods=["GET"]),
        Route(base, face.answering(face.create, WRITE), methods=["POST"]),
        Route(base + "/{guid}", face.answering(face.show, READ), methods=["GET"]),
        Route(base + "/{guid}", face.answering(face.update, WRITE), methods=["PUT"]),
        Route(base + "/{guid}", face.answering(face.delete, WRITE), methods=["DELETE"]),
    ]


class _Face:
    def __init__(self, database: Database, authenticate: Callable[[str | None], Actor]) -> None:
        self._database = database
        self._authenticate = authenticate

    def answering(
        self, verb: Callable[[Request, bytes], Response], scope: str
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that does `verb` on a worker thread for whoever has the scope."""

        async def answer(request: Request) -> Response:
            try:
                header = request.headers.get("authorization")
                await run_in_threadpool(_require, self._authenticate, header, scope)
                return await run_in_threadpool(verb, request, await _body(request))
            except _Problem as problem:
                return _json({"name": problem.name, "message": str(problem)}, problem.status)

        return answer

    def index(self, request: Request, _: bytes) -> Response:
        name = request.query_params.get("name", "")
        with self._database.read() as tx:
            if not name:
                return _json([_view(row) for row in rules.all_groups(tx)])
            row = rules.by_name(tx, name)
        if row is None:
            raise _not_found(f"router group '{name}' not found")
        return _json([_view(row)])

    def show(self, request: Request, _: bytes) -> Response:
        with self._database.read() as tx:
            return _json(_view(_group(tx, request)))

    def create(self, request: Request, body: bytes) -> Response:
        document = _document(body)
        row, new = self._written(lambda tx: rules.create(tx, document))
        return _json(_view(row), 201 if new else 200)

    def update(self, request: Request, body: bytes) -> Response:
        document = _document(body)
        row = self._written(lambda tx: rules.set_ports(tx, _group(tx, request), document))
        return _json(_view(row), headers={"X-Cf-Warnings": quote_plus(_PORTS_WARNING)})

    def delete(self, request: Request, _: bytes) -> Response:
        gone = self._written(lambda tx: rules.remove(tx, request.path_params["guid"]))
        return Response(status_code=204 if gone else 404)

    def _written(self, work: Callable[[Tx], T]) -> T:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._database.write() as tx:
                    return work(tx)
            except InvalidGroup as problem:
                raise _bad(str(problem)) from None
            except IntegrityError:
                # Somebody else made a group of this name at the same time; it is there the next time we look.
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")


def _group(tx: Tx, request: Request) -> Row[Any]:
    guid = request.path_params["guid"]
    row = rules.find(tx, guid)
    if row is None:
        raise _not_found(f"router group '{guid}' does not exist")
    return row


def _require(authenticate: Callable[[str | None], Actor], header: str | None, scope: str) -> None:
    try:
        actor = authenticate(header)
    except CloudError:
        # The official client renews its token when it reads exactly this.
        message = "Token is expired" if _is_expired(header) else "Invalid token: log in again"
        raise _Problem(401, "UnauthorizedError", message) from None
    if scope not in actor.scopes:
        raise _Problem(401, "UnauthorizedError", "You are not authorized to perform the requested action")


def _is_expired(header: str | None) -> bool:
    """Whether a refused token says of itself that its time is over."""
    parts = (header or "").split(".")
    if len(parts) != 3:
        return False
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return False
    expires = claims.get("exp") if isinstance(claims, dict) else None
    return isinstance(expires, int) and expires <= clock.seconds()


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _MAX_BODY:
            raise _bad(f"the body is larger than {_MAX_BODY} bytes")
        parts.append(part)
    return b"".join(parts)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _bad("the body is not valid JSON") from None
    if not isinstance(document, dict):
        raise _bad("the body must be an object with name, type and reservable_ports")
    return document


def _bad(message: str) -> _Problem:
    return _Problem(400, "ProcessRequestError", f"Cannot process request: {message}")


def _not_found(message: str) -> _Problem:
    return _Problem(404, "ResourceNotFoundError", message)


def _view(row: Row[Any]) -> dict[str, str]:
    return {"guid": row.guid, "name": row.name, "type": row.type, "reservable_ports": row.reservable_ports}


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, headers, "application/json")
