"""The front door: from an HTTP request to an operation and back, the same way for all of them.

who is it -> which operation -> is the body right -> which row -> may they -> do -> show -> commit

A plain operation costs one hop to a worker thread, where its transaction, its JSON and its error are made.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import msgspec
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send

from cupola import errors
from cupola.errors import CloudError
from cupola.rest import listing
from cupola.rest.document import decode
from cupola.rest.message import Message
from cupola.rest.operation import Accepted, Call, Early, Operation, Reply, Services, StreamCall, present
from cupola.rest.query import Query
from cupola.rest.threads import Threads
from cupola.rest.trie import Trie
from cupola.roles import READ_SCOPES, WRITE_SCOPES, Actor
from cupola.store.database import Tx

__all__ = ["ANONYMOUS", "App"]

log = logging.getLogger(__name__)
ANONYMOUS = Actor(guid="", name="", scopes=frozenset(), type="user")
MAX_BODY = 16 * 1024 * 1024
"""Bytes of a body that is held in memory; uploads are streams and have limits of their own."""
_ATTEMPTS = 4
_encoder = msgspec.json.Encoder()


class App:
    """An ASGI application that serves `operations`."""

    def __init__(self, operations: Sequence[Operation], services: Services) -> None:
        self.operations = list(operations)
        self._services = services
        self._trie: Trie[Operation] = Trie()
        for operation in operations:
            self._trie.add(operation.method, operation.path, operation)
        self._parameters = {operation: _parameters(operation) for operation in operations}
        self._threads = Threads(services.settings.database.threads, "api")

    def close(self) -> None:
        """Wait for work that runs and stop the threads."""
        self._threads.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        request_id = _request_id(headers)
        actor_guid: list[str] = []
        try:
            reply = await self._answer(scope, receive, send, headers, request_id, actor_guid)
        except CloudError as error:
            reply = _error(error, scope["path"])
        except ClientDisconnect:
            return
        except Exception:
            log.exception("request %s: %s %s failed", request_id, scope["method"], scope["path"])
            reply = _error(errors.server_error(), scope["path"])
        if reply is not None:
            await _respond(send, scope["method"], reply, request_id, actor_guid[0] if actor_guid else "")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": message["type"] + ".complete"})
        self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Mapping[str, str],
        request_id: str,
        actor_guid: list[str],
    ) -> Reply | None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        found = self._trie.match(method, scope["path"])
        if found is None:
            # Who is not logged in learns nothing about which paths there are, as upstream.
            if scope["path"].startswith("/v3/"):
                await self._in_thread(lambda: self._services.authenticate(headers.get("authorization")))
            raise errors.unknown_request()
        operation, path = found
        if "\0" in scope["path"]:
            raise errors.unknown_request()
        if operation.stream is not None:
            return await self._stream(operation, path, scope, receive, send, headers, request_id, actor_guid)
        body = await _read_body(receive)
        if operation.before is not None:
            await operation.before(await self._early(operation, headers, body))

        def work() -> tuple[Reply, str | None]:
            return self._plain(operation, path, scope, headers, body, request_id, actor_guid)

        if operation.bells and self._services.settings.platform.poll_seconds > 0:
            return await self._patient(operation, work)
        reply: Reply
        reply, job = await self._in_thread(work)
        if job is not None:
            await self._services.wait_for_job(job, 0.1)
        return reply

    async def _patient(self, operation: Operation, work: Callable[[], tuple[Reply, str | None]]) -> Reply:
        """The first answer that is not early, or after `platform.poll_seconds` the last that was. No thread waits."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._services.settings.platform.poll_seconds
        # Before the first look, so that nothing can ring unheard between a look and the wait.
        listener = self._services.database.bells.listen(*operation.bells)
        try:
            while True:
                reply: Reply
                reply, _job = await self._in_thread(work)
                left = deadline - loop.time()
                if not reply.early or left <= 0:
                    return reply
                await listener.wait(left)
                # Much may ring at once; a look each time would help nobody.
                await asyncio.sleep(0.02)
        finally:
            listener.close()

    async def _early(self, operation: Operation, headers: Mapping[str, str], body: bytes) -> Early:
        async def read(work: Callable[[Tx], Any]) -> Any:
            def in_transaction() -> Any:
                with self._services.database.read() as tx:
                    return work(tx)

            return await self._in_thread(in_transaction)

        try:
            document = decode(body)
        except CloudError:
            document = None
        actor = await self._in_thread(lambda: self._actor(operation, headers))
        return Early(actor, document, self._services, read)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await self._threads.run(work)

    def _actor(self, operation: Operation, headers: Mapping[str, str]) -> Actor:
        header = headers.get("authorization")
        if operation.auth == "none" or (operation.auth == "optional" and header is None):
            return ANONYMOUS
        actor = self._services.authenticate(header)
        scopes = operation.scopes
        if scopes is None:
            scopes = READ_SCOPES if operation.method in {"GET", "HEAD"} else WRITE_SCOPES
        if scopes.isdisjoint(actor.scopes):
            raise errors.not_authorized()
        return actor

    def _plain(
        self,
        operation: Operation,
        path: Mapping[str, str],
        scope: Scope,
        headers: Mapping[str, str],
        raw: bytes,
        request_id: str,
        actor_guid: list[str],
    ) -> tuple[Reply, str | None]:
        try:
            actor = self._actor(operation, headers)
            actor_guid.append(actor.guid)
            query = Query(scope["query_string"], status=operation.query_status, **self._parameters[operation])
            body = _parse(operation.body, raw)
            call: Call[Any, Any] = Call(
                tx=None,  # type: ignore[arg-type]  # set below, for each attempt
                actor=actor,
                row=None,
                body=body,
                query=query,
                path=path,
                services=self._services,
                operation=operation,
                request_id=request_id,
                raw_body=raw,
                headers=headers,
            )
            return self._attempts(call, scope["path"])
        except CloudError as error:
            return _error(error, scope["path"]), None

    def _attempts(self, call: Call[Any, Any], path: str) -> tuple[Reply, str | None]:
        database = self._services.database
        for attempt in range(1, _ATTEMPTS + 1):
            call.warnings = []
            try:
                with database.write() if call.operation.opens_write else database.read() as tx:
                    call.tx = tx
                    return _perform(call, path)
            except IntegrityError:
                # Another request won a race for a name; looking again finds its row and says so properly.
                if attempt == _ATTEMPTS:
                    raise
            except OperationalError as error:
                if attempt == _ATTEMPTS or not _is_conflict(error):
                    raise _database_trouble(error) from error
            except DBAPIError as error:
                raise _database_trouble(error) from error
        raise AssertionError("unreachable")

    async def _stream(
        self,
        operation: Operation,
        path: Mapping[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Mapping[str, str],
        request_id: str,
        actor_guid: list[str],
    ) -> Reply | None:
        assert operation.stream is not None
        actor = await self._in_thread(lambda: self._actor(operation, headers))
        actor_guid.append(actor.guid)
        request = Request(scope, receive, send)
        call = StreamCall(request, operation, actor, path, self._services, self._in_thread, request_id)
        response = await operation.stream(call)
        response.headers["X-VCAP-Request-ID"] = request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-USER-GUID"] = actor.guid
        location = response.headers.get("Location", "")
        if response.status_code == 202 and "/v3/jobs/" in location:
            await self._services.wait_for_job(location.rpartition("/")[2], 0.1)
        await response(scope, receive, send)
        return None


def _parameters(operation: Operation) -> dict[str, Any]:
    """What the query may hold: the arguments of Query."""
    if operation.listing is not None:
        return listing.known(operation.listing)
    names = [parameter.name for parameter in operation.query if not parameter.quiet]
    if operation.includes:
        names.append("include")
    if operation.fields:
        names.append("fields")
    return {"allowed": names, "quiet": [parameter.name for parameter in operation.query if parameter.quiet]}


def _parse(kind: type[Message] | None, raw: bytes) -> Message | None:
    return None if kind is None else kind.parse(decode(raw))


def _perform(call: Call[Any, Any], path: str) -> tuple[Reply, str | None]:
    operation = call.operation
    if operation.target is not None:
        call.row = listing.find(operation.target, call.actor, call.tx, call.path[operation.target_parameter])
        if call.row is None:
            raise errors.not_found(operation.target.shown)
    if operation.allow is not None:
        operation.allow(call)
    if operation.listing is not None:
        body = listing.page(call, operation.listing, call.settings.api_url + path)
        return _json(operation.status, body, call.warnings), None
    assert operation.run is not None
    return _presented(call, operation.run(call))


def _presented(call: Call[Any, Any], result: Any) -> tuple[Reply, str | None]:
    operation = call.operation
    if isinstance(result, Accepted):
        location = f"{call.settings.api_url}/v3/jobs/{result.job_guid}"
        return _with_warnings(Reply(202, None, {"Location": location}), call.warnings), result.job_guid
    if isinstance(result, Reply):
        if result.body is None or isinstance(result.body, bytes):
            return _with_warnings(result, call.warnings), _job_of(result)
        encoded = _json(result.status, result.body, call.warnings, result.headers)
        return replace(encoded, early=result.early), _job_of(result)
    if result is None:
        return _with_warnings(Reply(operation.status), call.warnings), None
    resource = operation.returns or operation.target
    assert resource is not None, f"{operation.method} {operation.path} returns a row of no resource"
    world = call.world()
    shown = present(world, resource, [result])[0]
    if operation.fields or (operation.includes and "include" in call.query):
        included = listing.included_for_one(
            resource, operation.includes or (), operation.fields, call.query, world, result
        )
        if included is not None:
            shown = {**shown, "included": included}
    return _json(operation.status, shown, call.warnings), None


def _job_of(reply: Reply) -> str | None:
    location = reply.headers.get("Location", "")
    return location.rpartition("/")[2] if reply.status == 202 and "/v3/jobs/" in location else None


def _json(status: int, body: Any, warnings: Sequence[str], headers: Mapping[str, str] | None = None) -> Reply:
    complete = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    return _with_warnings(Reply(status, _encoder.encode(body), complete), warnings)


def _with_warnings(reply: Reply, warnings: Sequence[str]) -> Reply:
    if not warnings:
        return reply
    escaped = ",".join(quote(warning, safe="") for warning in warnings)
    return Reply(reply.status, reply.body, {**reply.headers, "X-Cf-Warnings": escaped})


def _error(error: CloudError, path: str) -> Reply:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    if error.status == 503:
        headers["Retry-After"] = "5"
    if path.startswith("/v2/"):
        old = {"description": error.detail, "error_code": error.title, "code": error.code}
        return Reply(error.status, _encoder.encode(old), headers)
    return Reply(error.status, _encoder.encode({"errors": error.entries}), headers)


def _is_conflict(error: OperationalError) -> bool:
    state = getattr(error.orig, "sqlstate", "") or ""
    return state in {"40001", "40P01"}


def _database_trouble(error: DBAPIError) -> Exception:
    text = str(error.orig)
    if "interrupted" in text or getattr(error.orig, "sqlstate", "") == "57014":
        return errors.service_unavailable("The database took too long to answer. Ask for less, or try again later.")
    if "disk is full" in text:
        return errors.service_unavailable("The disk that holds the database is full. Free some space and try again.")
    if isinstance(error, DataError):
        # Messages refuse what does not fit; this is for a value that none of them looked at.
        return errors.unprocessable(f"A value cannot be stored: {text.strip().splitlines()[0]}")
    if "locked" in text:
        return errors.service_unavailable("The database is locked by another program. Close it and try again.")
    return error


def _request_id(headers: Mapping[str, str]) -> str:
    given = headers.get("x-vcap-request-id") or headers.get("x-request-id")
    own = str(uuid.uuid4())
    if not given:
        return own
    kept = "".join(character for character in given[:255] if character.isprintable() and character.isascii())
    return f"{kept}::{own}"


async def _read_body(receive: Callable[[], Awaitable[AsgiMessage]]) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            raise CloudError(1004, "CF-BadRequest", 413, f"Bad request: the body is larger than {MAX_BODY} bytes")
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _respond(send: Send, method: str, reply: Reply, request_id: str, actor_guid: str) -> None:
    body = reply.body if isinstance(reply.body, bytes) else b""
    headers = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in reply.headers.items()]
    headers.append((b"x-vcap-request-id", request_id.encode()))
    headers.append((b"x-content-type-options", b"nosniff"))
    if actor_guid:
        headers.append((b"x-user-guid", actor_guid.encode()))
    if reply.status != 204:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
