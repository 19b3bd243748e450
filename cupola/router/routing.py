"""From a request to where it goes: its pool and what it says about the instance, or the router's own answer."""

import re

import msgspec

from cupola.router import answers, sticky
from cupola.router.answers import Answer
from cupola.router.backends import Backend
from cupola.router.balance import Pool, find
from cupola.router.heads import Request
from cupola.router.route_services import SIGNATURE, Detour
from cupola.router.service import Service
from cupola.router.table import host_name

__all__ = ["Destination", "resolve"]

_ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)
_INSTANCE = re.compile(r"([0-9a-f-]{36}):([0-9]{1,9})")
_PROCESS_INSTANCE = re.compile(r"([0-9a-f-]{36})(?::([0-9]{1,9}))?")
_SLASH = ord("/")
_MONITOR = b"HTTP-Monitor/1.1"


class Destination(msgspec.Struct, gc=False):
    """Where a request goes. `host` and `target` as they are sent on; `pinned` is the instance that it
    names, in which case it may insist on it; `wanted` is the instance of its sticky cookie. With `detour` it goes to a
    route service first."""

    pool: Pool
    host: bytes
    target: bytes
    system: bool = False
    pinned: Backend | None = None
    insists: bool = False
    wanted: str = ""
    hash_key: bytes | None = None
    detour: Detour | None = None


def resolve(service: Service, request: Request, scheme: bytes) -> Destination | Answer:
    """Find where `request` goes, which came over `http` or `https`."""
    special = request.special
    target = request.target
    if special.get(b"user-agent") == _MONITOR:
        return _health(service)
    host = special.get(b"host", b"")
    if target[0] != _SLASH:
        form = _origin_form(request, host)
        if isinstance(form, Answer):
            return form
        host, target = form
    if service.edge is not None and scheme == b"http" and service.edge.is_challenge(host, target):
        return Destination(service.system, host, target, system=True)
    pool = service.table.find(host, target)
    if pool is None:
        return _nowhere(service, host)
    if b"expect" in special and special[b"expect"].lower() != b"100-continue":
        return answers.malformed(417, "The router knows no expectation but 100-continue.")
    if pool is service.system:
        if service.edge is not None and scheme == b"http":
            return service.edge.to_https(request, host, target)
        return Destination(pool, host, target, system=True)
    if not pool.backends:
        return answers.no_endpoints(_shown(host))
    found = Destination(pool, host, target)
    if pool.route.route_service or (service.strict_signatures and SIGNATURE in special):
        elsewhere = _guarded(service, request, found)
        if elsewhere is not None:
            return elsewhere
    if (
        b"cookie" in special
        or pool.route.hash_header
        or b"x-cf-app-instance" in special
        or b"x-cf-process-instance" in special
    ):
        return _with_instance(service, request, found)
    return found


def _guarded(service: Service, request: Request, found: Destination) -> Destination | Answer | None:
    """Where a request for a route with a service in front goes; None when it comes from there and goes on to the app."""
    services = service.route_services
    if services is None:
        # To pass by a service that guards the app is worse than not to serve it.
        return answers.route_service_unsupported()
    pool, special = found.pool, request.special
    if not pool.route.route_service:
        return services.refusal(service.table, pool, special)
    if request.upgrade.lower() == b"websocket":
        return answers.route_service_without_websockets()
    if SIGNATURE in special:
        return services.refusal(service.table, pool, special)
    way = services.way(service.table, pool, found.host, found.target)
    if isinstance(way, Answer):
        return way
    return Destination(way.pool, found.host, found.target, detour=way)


def _health(service: Service) -> Answer:
    if service.draining:
        return Answer(503, "", "The router is draining.")
    return Answer(200, headers=b"Cache-Control: private, max-age=0\r\n", body=b"ok\n")


def _origin_form(request: Request, host: bytes) -> tuple[bytes, bytes] | Answer:
    """Host and target of a request that is not in origin form."""
    if request.method == b"CONNECT":
        allowed = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
        return Answer(405, "", "The router is no tunnel: CONNECT is not allowed.", allowed, close=True)
    if request.target == b"*" and request.method == b"OPTIONS":
        return host, b"*"
    match = _ABSOLUTE.fullmatch(request.target)
    if match is None or b"@" in match[1]:
        return answers.malformed(400, "malformed request target")
    target = match[2]
    return match[1], target if target.startswith(b"/") else b"/" + target


def _nowhere(service: Service, host: bytes) -> Answer:
    if not host:
        return answers.empty_host()
    name = host_name(host)
    if name is None:
        return answers.malformed(400, "malformed Host header")
    return answers.no_table() if service.table.revision is None else answers.unknown_route(name)


def _shown(host: bytes) -> str:
    return host_name(host) or ""


def _with_instance(service: Service, request: Request, found: Destination) -> Destination | Answer:
    special = request.special
    for name, process in ((b"x-cf-app-instance", False), (b"x-cf-process-instance", True)):
        if name in special:
            answer = _pin(special[name], found, process=process)
            if answer is not None:
                return answer
    if b"cookie" in special and special[b"cookie"].find(sticky.VCAP_ID) >= 0:
        found.wanted = sticky.wanted_instance(special[b"cookie"], service.sticky)
        if found.wanted and found.pinned is None:
            found.pinned = _sticky_backend(found.pool, found.wanted)
    if found.pool.route.hash_header:
        found.hash_key = request.value_of(found.pool.route.hash_header)
    return found


def _pin(value: bytes, found: Destination, *, process: bool) -> Answer | None:
    match = (_PROCESS_INSTANCE if process else _INSTANCE).fullmatch(value.decode("latin-1").strip())
    if match is None:
        return answers.invalid_instance_header(process=process)
    guid, index = match[1], match[2]
    found.pinned = find(found.pool, guid, int(index) if index else None, process=process)
    found.insists = True
    if found.pinned is None:
        return answers.unknown_instance(_shown(found.host), guid, index or "", process=process)
    return None


def _sticky_backend(pool: Pool, wanted: str) -> Backend | None:
    for backend in pool.backends:
        if backend.endpoint is not None and backend.endpoint.instance_guid == wanted:
            return backend if backend.usable else None
    return None
