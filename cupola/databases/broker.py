"""The broker over HTTP: the Open Service Broker API 2.17, all of it answered at once.

    app = application(server, "cupola", password)

It is a broker like any other, and knows nothing of the platform that calls it.
"""

import base64
import binascii
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cupola.databases.plans import PLANS, SERVICE_ID, Plan, catalog
from cupola.databases.server import Refused, Server, Unavailable

__all__ = ["USER", "application"]

USER = "cupola"
_MAX_BODY = 1024 * 1024
_log = logging.getLogger(__name__)
T = TypeVar("T")
Answer = tuple[int, Mapping[str, Any]]
Operation = Callable[["_Asked"], Answer]


class _Resource(msgspec.Struct):
    app_guid: str = ""
    credential_client_id: str = ""
    route: str = ""


class _Body(msgspec.Struct):
    """What requests have in common; what is not named here, such as `context`, is of no matter to databases."""

    service_id: str
    plan_id: str | None = None
    parameters: dict[str, Any] | None = None


class _Provision(_Body):
    organization_guid: str = ""
    space_guid: str = ""


class _Bind(_Body):
    app_guid: str = ""
    bind_resource: _Resource | None = None


class _Asked:
    """One request, read and authorized."""

    def __init__(self, path: Mapping[str, str], query: Mapping[str, str], body: bytes) -> None:
        self.instance = path.get("instance", "")
        self.binding = path.get("binding", "")
        self.query = query
        self._body = body

    def body(self, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(self._body, type=kind)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Refused(400, f"the body is not what the Open Service Broker API has here: {error}") from None


def application(server: Server, user: str, password: str) -> Starlette:
    """The broker. Who calls it must know user and password."""
    expected = f"{user}:{password}".encode()
    instance, binding = (
        "/v2/service_instances/{instance}",
        "/v2/service_instances/{instance}/service_bindings/{binding}",
    )
    table: dict[str, dict[str, Operation]] = {
        "/v2/catalog": {"GET": lambda _: (200, catalog())},
        instance: _of_instances(server),
        f"{instance}/last_operation": {"GET": lambda asked: _ended(lambda: server.instance(asked.instance))},
        binding: _of_bindings(server),
        f"{binding}/last_operation": {
            "GET": lambda asked: _ended(lambda: server.binding(asked.instance, asked.binding))
        },
    }
    routes = [
        Route(path, _endpoint(expected, operations), methods=list(operations)) for path, operations in table.items()
    ]
    return Starlette(routes=routes)


def _of_instances(server: Server) -> dict[str, Operation]:
    def provision(asked: _Asked) -> Answer:
        body = asked.body(_Provision)
        plan = _plan(body)
        request = {
            "service_id": body.service_id, "plan_id": plan.id,
            "organization_guid": body.organization_guid, "space_guid": body.space_guid,
        }  # fmt: skip
        return (201 if server.provision(asked.instance, request, plan.connections) else 200), {}

    def update(asked: _Asked) -> Answer:
        body = asked.body(_Body)
        if body.plan_id is None:
            _require_plain(body)
            _require_service(body.service_id)
            server.instance(asked.instance)
            return 200, {}
        plan = _plan(body)
        server.update(asked.instance, body.service_id, plan.id, plan.connections)
        return 200, {}

    def deprovision(asked: _Asked) -> Answer:
        _require_ids(asked)
        server.deprovision(asked.instance)
        return 200, {}

    def fetch(asked: _Asked) -> Answer:
        kept = server.instance(asked.instance)
        return 200, {"service_id": kept["service_id"], "plan_id": kept["plan_id"], "parameters": {}}

    return {"PUT": provision, "PATCH": update, "DELETE": deprovision, "GET": fetch}


def _of_bindings(server: Server) -> dict[str, Operation]:
    def bind(asked: _Asked) -> Answer:
        body = asked.body(_Bind)
        plan = _plan(body)
        resource = body.bind_resource or _Resource()
        if resource.route:
            raise Refused(400, "a database cannot be put in front of a route")
        request = {
            "service_id": body.service_id, "plan_id": plan.id,
            "app_guid": resource.app_guid or body.app_guid, "client_id": resource.credential_client_id,
        }  # fmt: skip
        made, credentials = server.bind(asked.instance, asked.binding, request)
        return (201 if made else 200), {"credentials": credentials, "endpoints": server.endpoints()}

    def unbind(asked: _Asked) -> Answer:
        _require_ids(asked)
        server.unbind(asked.instance, asked.binding)
        return 200, {}

    def fetch(asked: _Asked) -> Answer:
        credentials = server.binding(asked.instance, asked.binding)
        return 200, {"credentials": credentials, "endpoints": server.endpoints(), "parameters": {}}

    return {"PUT": bind, "DELETE": unbind, "GET": fetch}


def _ended(look: Callable[[], object]) -> Answer:
    """Every operation has ended when it was answered, so what is there succeeded."""
    try:
        look()
    except Refused as error:
        raise Refused(410, str(error)) if error.status == 404 else error from None
    return 200, {"state": "succeeded"}


def _plan(body: _Body) -> Plan:
    _require_service(body.service_id)
    plan = PLANS.get(body.plan_id or "")
    if plan is None:
        raise Refused(400, "plan_id is none of the catalog's")
    _require_plain(body)
    return plan


def _require_service(service_id: str | None) -> None:
    if service_id != SERVICE_ID:
        raise Refused(400, "service_id is none of the catalog's")


def _require_plain(body: _Body) -> None:
    if body.parameters:
        raise Refused(400, f"databases take no parameters: leave out {', '.join(sorted(body.parameters))}")


def _require_ids(asked: _Asked) -> None:
    if not asked.query.get("service_id") or not asked.query.get("plan_id"):
        raise Refused(400, "service_id and plan_id are needed in the query")
    _require_service(asked.query["service_id"])


def _endpoint(expected: bytes, operations: Mapping[str, Operation]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        operation = operations["GET" if request.method == "HEAD" else request.method]
        try:
            _authenticate(request, expected)
            asked = _Asked(request.path_params, request.query_params, await _read(request))
            status, body = await run_in_threadpool(operation, asked)
        except Refused as error:
            status, body = error.status, {"description": str(error), **({"error": error.error} if error.error else {})}
        except Unavailable as error:
            _log.error("%s %s: %s", request.method, request.url.path, error)
            status, body = 503, {"description": str(error)}
        headers = {"WWW-Authenticate": 'Basic realm="broker"'} if status == 401 else None
        return Response(msgspec.json.encode(body), status, headers, "application/json")

    return answer


def _authenticate(request: Request, expected: bytes) -> None:
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    try:
        decoded = base64.b64decode(given, validate=True) if kind.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        decoded = b""
    if not hmac.compare_digest(decoded, expected):
        raise Refused(401, "user and password are not those of the broker")
    version = request.headers.get("X-Broker-API-Version", "")
    if version.partition(".")[0] != "2":
        raise Refused(412, "X-Broker-API-Version must be 2.x")


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY:
            raise Refused(413, f"the body is larger than {_MAX_BODY} bytes")
    return bytes(body)
