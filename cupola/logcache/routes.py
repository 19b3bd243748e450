"""Log cache's HTTP face: `/api/v1/info`, `/api/v1/read/{source_id}` and `/api/v1/meta`.

The JSON is what grpc-gateway writes for log cache's messages (proto names, 64-bit numbers as strings, bytes in base64,
empty fields included); `meta` alone is in camel case without empty fields, as upstream. Rules of reading and texts of
errors: reference/cf-cli.md section (c). Who may not read a source is told 404, like who names no token.
PromQL (`/api/v1/query`) is not served.
"""

import base64
import math
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from cupola import clock
from cupola.logs.envelope import Envelope
from cupola.logs.ring import EnvelopeType, Meta, Ring

__all__ = ["Authorize", "envelope_json", "routes"]

Authorize = Callable[[Headers, str], Awaitable[bool]]
"""Whether the bearer of these request headers may read the source: an app's or a service instance's guid."""

_MAX_LIMIT = 1000
_DEFAULT_LIMIT = 100
_TYPES: dict[str, EnvelopeType | None] = {
    "ANY": None,
    "LOG": "LOG",
    "COUNTER": "COUNTER",
    "GAUGE": "GAUGE",
    "TIMER": "TIMER",
    "EVENT": None,
}
_NUMBERS = list(_TYPES)
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_INT = re.compile(r"[+-]?[0-9]+", re.ASCII)
_INVALID_ARGUMENT = 3
_UNKNOWN = 2
_MAX_FILTER = 500
_MAX_NAME = 64
_MAX_REPETITIONS = 4
_REPETITION = re.compile(r"[*+?{]")
_REPEATED_GROUP = re.compile(r"\)[*+?{]")
_ESCAPED = re.compile(r"\\.", re.DOTALL)


class _Failure(Exception):
    """A read that is refused, with the status and gRPC code that log cache answers."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class _Read(msgspec.Struct, frozen=True):
    """The parameters of a read, checked. Times in nanoseconds since 1970."""

    start: int
    end: int
    limit: int
    types: frozenset[EnvelopeType] | None
    descending: bool
    name_filter: re.Pattern[str] | None


def routes(ring: Ring, authorize: Authorize, version: str) -> list[BaseRoute]:
    """The routes, to be mounted at the root. `version` is log cache's, at least 2.0.0 and in the form of semver."""

    async def info(_request: Request) -> Response:
        uptime = int(time.clock_gettime(time.CLOCK_BOOTTIME))
        return _json({"version": version, "vm_uptime": str(uptime)})

    async def read(request: Request) -> Response:
        source_id = request.path_params["source_id"]
        if not await _allowed(authorize, request, source_id):
            return Response(status_code=404)
        try:
            return await run_in_threadpool(_answer, ring, source_id, _parse(request.query_params))
        except _Failure as failure:
            return _json({"code": failure.code, "message": str(failure), "details": []}, failure.status)

    async def meta(request: Request) -> Response:
        if "authorization" not in request.headers:
            return Response(status_code=404)
        allowed = [source for source in sorted(ring.sources()) if await _allowed(authorize, request, source)]
        found = await run_in_threadpool(ring.meta, allowed)
        return _json({"meta": {source: _meta_json(one) for source, one in found.items()}} if found else {})

    return [
        Route("/api/v1/info", info, methods=["GET"]),
        Route("/api/v1/read/{source_id}", read, methods=["GET"]),
        Route("/api/v1/meta", meta, methods=["GET"]),
    ]


def envelope_json(envelope: Envelope) -> dict[str, Any]:
    """An envelope as log cache's JSON has it."""
    body: dict[str, Any] = {
        "timestamp": str(envelope.timestamp),
        "source_id": envelope.source_id,
        "instance_id": envelope.instance_id,
        "deprecated_tags": {},
        "tags": envelope.tags,
    }
    if envelope.gauge is not None:
        metrics = {name: {"unit": unit, "value": _number(value)} for name, (value, unit) in envelope.gauge.items()}
        body["gauge"] = {"metrics": metrics}
    elif envelope.counter is not None:
        name, delta, total = envelope.counter
        body["counter"] = {"name": name, "delta": str(delta), "total": str(total)}
    elif envelope.timer is not None:
        name, start, stop = envelope.timer
        body["timer"] = {"name": name, "start": str(start), "stop": str(stop)}
    else:
        payload = base64.b64encode(envelope.payload or b"").decode("ascii")
        body["log"] = {"payload": payload, "type": envelope.stream}
    return body


async def _allowed(authorize: Authorize, request: Request, source_id: str) -> bool:
    return "authorization" in request.headers and await authorize(request.headers, source_id)


def _answer(ring: Ring, source_id: str, read: _Read) -> Response:
    if read.name_filter is None:
        envelopes = ring.query(source_id, read.start, read.end, read.limit, read.types, descending=read.descending)
    else:
        everything = ring.query(
            source_id, read.start, read.end, 1_000_000, _named(read.types), descending=read.descending
        )
        envelopes = _filtered(everything, read.name_filter, read.limit)
    return _json({"envelopes": {"batch": [envelope_json(envelope) for envelope in envelopes]}})


def _named(types: frozenset[EnvelopeType] | None) -> frozenset[EnvelopeType]:
    # Lines have no name, so a filter on names leaves none of them.
    metrics: frozenset[EnvelopeType] = frozenset({"COUNTER", "GAUGE", "TIMER"})
    return metrics if types is None else metrics & types


def _filtered(envelopes: list[Envelope], pattern: re.Pattern[str], limit: int) -> list[Envelope]:
    # Names are few and envelopes many, so each name is matched once.
    verdicts: dict[str, bool] = {}
    found: list[Envelope] = []
    for envelope in envelopes:
        for name in _names(envelope):
            if name not in verdicts:
                verdicts[name] = pattern.search(name[:_MAX_NAME]) is not None
        if (kept := _keep(envelope, verdicts)) is not None:
            found.append(kept)
            if len(found) == limit:
                break
    return found


def _names(envelope: Envelope) -> list[str]:
    if envelope.gauge is not None:
        return list(envelope.gauge)
    named = envelope.counter or envelope.timer
    return [named[0]] if named else []


def _keep(envelope: Envelope, verdicts: dict[str, bool]) -> Envelope | None:
    if envelope.gauge is None:
        return envelope if any(verdicts[name] for name in _names(envelope)) else None
    gauge = {name: value for name, value in envelope.gauge.items() if verdicts[name]}
    return msgspec.structs.replace(envelope, gauge=gauge) if gauge else None


def _parse(query: QueryParams) -> _Read:
    start = _integer(query, "start_time")
    end = _integer(query, "end_time")
    limit = _integer(query, "limit")
    types = _envelope_types(query)
    descending = _boolean(query, "descending")
    name_filter = _single(query, "name_filter")
    if end != 0 and start > end:
        raise _Failure(500, _UNKNOWN, f"StartTime ({start}) must be before EndTime ({end})")
    if limit > _MAX_LIMIT:
        raise _Failure(500, _UNKNOWN, f"limit ({limit}) must be {_MAX_LIMIT} or less")
    if limit < 0:
        raise _Failure(500, _UNKNOWN, f"limit ({limit}) must be greater than zero")
    # The ring gives no timestamp in the future but right after a burst, and a line just written must be seen.
    return _Read(
        start, end or clock.nanos() + 1_000_000_000, limit or _DEFAULT_LIMIT, types, descending, _pattern(name_filter)
    )


def _integer(query: QueryParams, name: str) -> int:
    text = _single(query, name)
    if text == "":
        if name in query:
            raise _bad_number(name, text, "invalid syntax")
        return 0
    # The length guards int(), which is quadratic.
    if not _INT.fullmatch(text):
        raise _bad_number(name, text, "invalid syntax")
    value = int(text) if len(text) < 30 else 2**64
    if not -(2**63) <= value < 2**63:
        raise _bad_number(name, text, "value out of range")
    return value


def _bad_number(name: str, text: str, why: str) -> _Failure:
    quoted = msgspec.json.encode(text).decode()
    return _Failure(400, _INVALID_ARGUMENT, f'parsing field "{name}": strconv.ParseInt: parsing {quoted}: {why}')


def _boolean(query: QueryParams, name: str) -> bool:
    text = _single(query, name)
    if text in _TRUE:
        return True
    if text in _FALSE or name not in query:
        return False
    quoted = msgspec.json.encode(text).decode()
    raise _Failure(
        400, _INVALID_ARGUMENT, f'parsing field "{name}": strconv.ParseBool: parsing {quoted}: invalid syntax'
    )


def _single(query: QueryParams, name: str) -> str:
    values = query.getlist(name)
    if len(values) > 1:
        raise _Failure(400, _INVALID_ARGUMENT, f'too many values for field "{name}": {", ".join(values)}')
    return values[0] if values else ""


def _envelope_types(query: QueryParams) -> frozenset[EnvelopeType] | None:
    wanted = set()
    asked = False
    for text in query.getlist("envelope_types"):
        name = _NUMBERS[int(text)] if text in {"0", "1", "2", "3", "4", "5"} else text
        if name not in _TYPES:
            quoted = msgspec.json.encode(text).decode()
            raise _Failure(400, _INVALID_ARGUMENT, f'parsing list "envelope_types": {quoted} is not a valid value')
        asked = asked or name != "ANY"
        if (kind := _TYPES[name]) is not None:
            wanted.add(kind)
    return frozenset(wanted) if asked else None


def _pattern(text: str) -> re.Pattern[str] | None:
    if not text:
        return None
    if len(text) > _MAX_FILTER:
        raise _Failure(500, _UNKNOWN, f"name filter must have at most {_MAX_FILTER} characters")
    # Python's matcher may take exponential time for repeated groups and many repetitions; log cache's never does.
    bare = _ESCAPED.sub("x", text)
    if _REPEATED_GROUP.search(bare) or len(_REPETITION.findall(bare)) > _MAX_REPETITIONS:
        raise _Failure(
            500, _UNKNOWN, f"name filter may repeat no group and have at most {_MAX_REPETITIONS} repetitions"
        )
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise _Failure(500, _UNKNOWN, f"name filter must be a valid regular expression: {error}") from None


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _meta_json(meta: Meta) -> dict[str, str]:
    fields = {
        "count": meta.count,
        "expired": meta.expired,
        "oldestTimestamp": meta.oldest,
        "newestTimestamp": meta.newest,
    }
    return {name: str(value) for name, value in fields.items() if value}


def _json(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body) + b"\n", status, media_type="application/json")
