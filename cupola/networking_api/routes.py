"""`/networking/v1/external/policies`: list, create and delete network policies (reference/cf-cli.md section (e)).

Version v0, in which a policy has one port, is served as well. Errors are `{"error": "text"}`, in upstream's words.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from cupola.domain import network_policies as rules
from cupola.domain.network_policies import Refused
from cupola.domain.security_groups import not_enforced
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store.database import Database, Tx
from cupola.store.network_policies import Policy

__all__ = ["routes"]

T = TypeVar("T")
_MAX_BODY = 10 * 1024 * 1024
_ATTEMPTS = 3


class _Problem(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def routes(database: Database, authenticate: Callable[[str | None], Actor]) -> list[BaseRoute]:
    """The routes, to be mounted at the root. `authenticate` maps an Authorization header to an actor or raises 401."""
    face = _Face(database, authenticate)
    write, admin = (rules.ADMIN, rules.WRITE), (rules.ADMIN,)
    base = "/networking/{version}/external"
    return [
        Route(base + "/policies", face.answering(face.index, write), methods=["GET"]),
        Route(base + "/policies", face.answering(face.create, write), methods=["POST"]),
        Route(base + "/policies/delete", face.answering(face.delete, write), methods=["POST"]),
        Route(base + "/policies/cleanup", face.answering(face.cleanup, admin), methods=["POST"]),
        Route(base + "/whoami", face.answering(face.whoami, admin), methods=["GET"]),
    ]


class _Face:
    def __init__(self, database: Database, authenticate: Callable[[str | None], Actor]) -> None:
        self._database = database
        self._authenticate = authenticate

    def answering(
        self, verb: Callable[[Request, Actor, bytes], Response], scopes: Sequence[str]
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that does `verb` on a worker thread for whoever has one of the scopes."""

        async def answer(request: Request) -> Response:
            try:
                _require_version(request)
                header = request.headers.get("authorization")
                actor = await run_in_threadpool(_actor, self._authenticate, header, scopes)
                return await run_in_threadpool(verb, request, actor, await _body(request))
            except _Problem as problem:
                return _error(problem)

        return answer

    def index(self, request: Request, actor: Actor, _: bytes) -> Response:
        either, sources, targets = (_guids(request, name) for name in ("id", "source_id", "dest_id"))
        with self._database.read() as tx:
            found = rules.listed(tx, actor, either=either, sources=sources, targets=targets)
        return _shown(request, found)

    def create(self, request: Request, actor: Actor, body: bytes) -> Response:
        wanted = _policies(request, body)
        self._written(lambda tx: rules.create(tx, actor, wanted))
        return _json({}, warning=_warning(wanted))

    def delete(self, request: Request, actor: Actor, body: bytes) -> Response:
        unwanted = _policies(request, body)
        self._written(lambda tx: rules.delete(tx, actor, unwanted))
        return _json({})

    def cleanup(self, request: Request, actor: Actor, _: bytes) -> Response:
        return _shown(request, self._written(rules.delete_stale))

    def whoami(self, request: Request, actor: Actor, _: bytes) -> Response:
        return _json({"subject": actor.name})

    def _written(self, work: Callable[[Tx], T]) -> T:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._database.write() as tx:
                    return work(tx)
            except Refused as refused:
                raise _Problem(403, str(refused)) from None
            except IntegrityError:
                # Somebody else wrote the same policy at the same time; it is there the next time we look.
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")


def _warning(made: Sequence[Policy]) -> str:
    source, destination, *_ = made[0]
    first = f"network policy from app '{source}' to app '{destination}'"
    return not_enforced(first if len(made) == 1 else f"{first} (and {len(made) - 1} more)")


def _require_version(request: Request) -> None:
    version = request.path_params["version"]
    if version not in {"v0", "v1"}:
        raise _Problem(406, f"api version '{version}' not supported")


def _actor(authenticate: Callable[[str | None], Actor], header: str | None, scopes: Sequence[str]) -> Actor:
    if not header:
        raise _Problem(401, "missing authorization header")
    try:
        actor = authenticate(header)
    except CloudError:
        raise _Problem(401, "failed to verify token with uaa") from None
    if actor.scopes.isdisjoint(scopes):
        have = " ".join(sorted(actor.scopes))
        raise _Problem(403, f"provided scopes [{have}] do not include allowed scopes [{' '.join(scopes)}]")
    return actor


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _MAX_BODY:
            raise _Problem(400, f"failed reading request body: it is larger than {_MAX_BODY} bytes")
        parts.append(part)
    return b"".join(parts)


def _guids(request: Request, name: str) -> list[str]:
    text = request.query_params.get(name)
    return text.split(",") if text is not None else []


def _policies(request: Request, body: bytes) -> list[Policy]:
    """The policies of a body. Raises 400."""
    read = _with_port if request.path_params["version"] == "v0" else _with_ports
    listed = _list(body)
    if not listed:
        raise _Problem(400, "mapper: validate policies: missing policies")
    try:
        return [read(one) for one in listed]
    except _Problem as problem:
        raise _Problem(400, f"mapper: validate policies: {problem}") from None


def _list(body: bytes) -> list[Any] | None:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = None
    listed = document.get("policies") if isinstance(document, dict) else document
    if not isinstance(document, dict) or not isinstance(listed, (list, type(None))):
        raise _Problem(400, 'mapper: unmarshal json: the body must be {"policies": [...]}')
    return listed


def _ends(one: Any) -> tuple[str, str, str, dict[str, Any]]:
    """(source, destination, protocol, the destination as it is)."""
    source, destination = (one.get(name) if isinstance(one, dict) else None for name in ("source", "destination"))
    source, destination = source or {}, destination or {}
    if not isinstance(source, dict) or not isinstance(destination, dict):
        raise _Problem(400, "source and destination must be objects")
    for end, what in ((source, "source"), (destination, "destination")):
        if not isinstance(end.get("id"), str) or not end["id"]:
            raise _Problem(400, f"missing {what} id")
        if len(end["id"]) > 255:
            raise _Problem(400, f"{what} id must have at most 255 characters")
    if destination.get("protocol") not in {"udp", "tcp"}:
        raise _Problem(400, "invalid destination protocol, specify either udp or tcp")
    return source["id"], destination["id"], destination["protocol"], {**destination, "source_tag": source.get("tag")}


def _with_ports(one: Any) -> Policy:
    source, target, protocol, destination = _ends(one)
    ports = destination.get("ports")
    first, last = (_number(ports.get(name) if isinstance(ports, dict) else None) for name in ("start", "end"))
    if first > last:
        raise _Problem(400, f"invalid port range {first}-{last}, start must be less than or equal to end")
    if first < 0:
        raise _Problem(400, f"invalid start port {first}, must be in range 1-65535")
    if first == 0:
        raise _Problem(400, "missing start port")
    if last > 65535:
        raise _Problem(400, f"invalid end port {last}, must be in range 1-65535")
    _require_no_tags(destination)
    return source, target, protocol, first, last


def _with_port(one: Any) -> Policy:
    source, target, protocol, destination = _ends(one)
    port = _number(destination.get("port"))
    if port == 0:
        raise _Problem(400, "missing port")
    if not 0 < port <= 65535:
        raise _Problem(400, f"invalid port {port}, must be in range 1-65535")
    _require_no_tags(destination)
    return source, target, protocol, port, port


def _number(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Problem(400, "ports must be whole numbers")
    return value


def _require_no_tags(destination: dict[str, Any]) -> None:
    if destination.get("tag") or destination.get("source_tag"):
        raise _Problem(400, "tags may not be specified")


def _shown(request: Request, found: Sequence[Row[Any]]) -> Response:
    one_port = request.path_params["version"] == "v0"
    policies = list(_views(found, one_port=one_port))
    return _json({"total_policies": len(policies), "policies": policies})


def _views(found: Sequence[Row[Any]], *, one_port: bool) -> Iterator[dict[str, Any]]:
    for row in found:
        destination: dict[str, Any] = {"id": row.destination_guid, "protocol": row.protocol}
        if not one_port:
            destination["ports"] = {"start": row.first_port, "end": row.last_port}
        elif row.first_port == row.last_port:
            destination["port"] = row.first_port
        else:
            # A range cannot be said in v0.
            continue
        yield {"source": {"id": row.source_guid}, "destination": destination}


def _json(body: Any, *, warning: str = "") -> Response:
    headers = {"X-Cf-Warnings": quote(warning, safe="")} if warning else None
    return Response(msgspec.json.encode(body), 200, headers, "application/json")


def _error(problem: _Problem) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else None
    return Response(msgspec.json.encode({"error": str(problem)}), problem.status, headers, "application/json")
