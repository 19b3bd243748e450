"""What a broker's answer means: the table of reference/service-brokers.md section 6, as pure functions.

Each gives the fields of a dataclass in client.py, or raises BrokerError.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from cupola.brokers import problems
from cupola.brokers.problems import HIDDEN, BrokerError
from cupola.brokers.transport import Answer

__all__ = [
    "bind",
    "catalog",
    "deprovision",
    "fetched_binding",
    "fetched_instance",
    "last_operation",
    "provision",
    "unbind",
    "update",
]

Fields = dict[str, Any]
_MAX_OPERATION = 10_000
_MAX_ENDPOINTS = 32
_MAX_HOST = 255
_PORTS = re.compile(r"[0-9]{1,5}(?:-[0-9]{1,5})?", re.ASCII)
"""A port, or a range of them."""
_STATES = ("succeeded", "failed", "in progress")
_PREFIX = "expected valid JSON object in body, broker returned "


def decoded(answer: Answer) -> Any:
    """The body as JSON; None where it is none."""
    try:
        return msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, RecursionError):
        return None


def text(answer: Answer) -> str:
    """The body as text, whatever it is."""
    return answer.body.decode(errors="replace")


def description(answer: Answer) -> str | None:
    """The broker's own words."""
    found = decoded(answer)
    words = found.get("description") if isinstance(found, dict) else None
    return words if isinstance(words, str) and words else None


def common(answer: Answer) -> None:
    """What holds for all calls. Raises BrokerError."""
    status = answer.status
    if status == 401:
        raise problems.authentication_failed()
    if status == 408:
        raise problems.api_timeout()
    if 400 <= status < 500 and status not in {409, 410, 422}:
        raise problems.rejected(status, text(answer), description(answer))
    if status >= 500:
        raise problems.bad_response(status, text(answer), description(answer))


def bad(answer: Answer, *, secret: bool = False, described: bool = True) -> BrokerError:
    """A status that the call does not know; `secret` where the body may hold credentials."""
    body = HIDDEN if secret and answer.status < 400 else text(answer)
    return problems.bad_response(answer.status, body, description(answer) if described else None)


def _unprocessable(
    answer: Answer, known: Mapping[str, Callable[[], BrokerError]], otherwise: BrokerError
) -> BrokerError:
    found = decoded(answer)
    error = found.get("error") if isinstance(found, dict) else None
    maker = known.get(error) if isinstance(error, str) else None
    return otherwise if maker is None else maker()


def json_object(answer: Answer, *, secret: bool = False) -> dict[str, Any]:
    """The body, a JSON object. Raises BrokerError."""
    found = decoded(answer)
    if isinstance(found, dict):
        return found
    shown = HIDDEN if secret else text(answer)
    raise problems.malformed(f"{_PREFIX}'{shown}'", orphan=_orphan(answer), status=answer.status)


def _orphan(answer: Answer) -> bool:
    """A bad body with 200 says at least that all is done; with 201 or 202 nothing is known (section 7)."""
    return answer.status in {201, 202}


_TYPES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def _type_name(value: Any) -> str:
    return "null" if value is None else _TYPES.get(type(value), "object")


def _mismatch(path: str, value: Any, *types: str) -> Iterable[str]:
    if _type_name(value) not in types:
        several = "one or more of the following types" if len(types) > 1 else "the following type"
        yield (f"The property '#/{path}' of type {_type_name(value)} did not match {several}: {', '.join(types)}")


def operation_problems(body: Mapping[str, Any]) -> Iterable[str]:
    """What is wrong with the `operation` of an answer that goes on."""
    if "operation" in body:
        yield from _mismatch("operation", body["operation"], "string", "null")
        if isinstance(body["operation"], str) and len(body["operation"]) > _MAX_OPERATION:
            yield f"The property '#/operation' was not of a maximum string length of {_MAX_OPERATION}"


def _instance_problems(body: Mapping[str, Any]) -> Iterable[str]:
    yield from operation_problems(body)
    if "dashboard_url" in body:
        yield from _mismatch("dashboard_url", body["dashboard_url"], "string", "null")
    if "metadata" in body:
        yield from _mismatch("metadata", body["metadata"], "object", "null")
        if isinstance(body["metadata"], dict):
            for name in ("labels", "attributes"):
                if name in body["metadata"]:
                    yield from _mismatch(f"metadata/{name}", body["metadata"][name], "object")


def checked(
    answer: Answer, problems_of: Callable[[Mapping[str, Any]], Iterable[str]], *, secret: bool = False
) -> Fields:
    """The body, an object without a problem. Raises BrokerError."""
    body = json_object(answer, secret=secret)
    found = list(problems_of(body))
    if found:
        why = "\n" + "\n".join(found)
        raise problems.malformed(why, orphan=_orphan(answer), status=answer.status)
    return body


def _operated(answer: Answer, body: Mapping[str, Any]) -> Fields:
    metadata = body.get("metadata")
    return {
        "state": "in progress" if answer.status == 202 else "succeeded",
        "operation": _plain(body.get("operation")),
        "dashboard_url": _plain(body.get("dashboard_url")),
        "metadata": metadata if isinstance(metadata, dict) else None,
        "retry_after": answer.retry_after,
    }


def _plain(value: Any) -> str | None:
    """Text that a database keeps: without NUL characters."""
    return value.replace("\0", "") if isinstance(value, str) else None


def catalog(answer: Answer) -> Fields:
    """The catalog, whatever is in the object. 270020 and 270021 are made of these errors where it is asked for."""
    common(answer)
    if answer.status != 200:
        raise bad(answer)
    return json_object(answer)


def provision(answer: Answer) -> Fields:
    common(answer)
    if answer.status in {200, 201, 202}:
        return _operated(answer, checked(answer, _instance_problems))
    if answer.status == 409:
        raise problems.conflict(description(answer))
    if answer.status == 422:
        raise _unprocessable(answer, {**_BUSY, **_maintenance(answer)}, bad(answer))
    raise bad(answer)


def update(answer: Answer) -> Fields:
    common(answer)
    if answer.status in {200, 202}:
        return _operated(answer, checked(answer, _instance_problems))
    if answer.status == 422:
        known = {"AsyncRequired": problems.async_required, **_maintenance(answer)}
        raise _unprocessable(answer, known, problems.rejected(422, text(answer), description(answer)))
    raise bad(answer, described=answer.status != 201)


def deprovision(answer: Answer) -> Fields:
    common(answer)
    return _removed(answer)


def unbind(answer: Answer) -> Fields:
    common(answer)
    return _removed(answer)


def _removed(answer: Answer) -> Fields:
    if answer.status == 410:
        return {"state": "succeeded"}
    if answer.status in {200, 202}:
        found = _operated(answer, checked(answer, operation_problems))
        return {key: found[key] for key in ("state", "operation", "retry_after")}
    if answer.status == 422:
        raise _unprocessable(answer, _BUSY, bad(answer))
    raise bad(answer, described=answer.status != 201)


_BUSY: dict[str, Callable[[], BrokerError]] = {
    "AsyncRequired": problems.async_required,
    "ConcurrencyError": problems.concurrency,
}


def _maintenance(answer: Answer) -> dict[str, Callable[[], BrokerError]]:
    return {"MaintenanceInfoConflict": lambda: problems.maintenance_info_conflict(description(answer))}


def last_operation(answer: Answer, *, deleting: bool) -> Fields:
    if answer.status == 400:
        return {"state": "failed", "description": _plain(description(answer)) or "Bad request"}
    common(answer)
    if answer.status == 410:
        return {"state": "succeeded" if deleting else "in progress", "retry_after": answer.retry_after}
    if answer.status != 200:
        raise bad(answer)
    body = json_object(answer)
    state = body.get("state")
    if state not in _STATES:
        raise problems.malformed(f"expected state was 'succeeded', broker returned '{state}'.", status=200)
    found = list(_mismatch("description", body.get("description"), "string", "null"))
    if found:
        raise problems.malformed("\n" + found[0], status=200)
    return {"state": state, "description": _plain(body.get("description")), "retry_after": answer.retry_after}


def fetched_instance(answer: Answer) -> Fields:
    common(answer)
    if answer.status != 200:
        raise bad(answer, secret=True)

    def problems_of(body: Mapping[str, Any]) -> Iterable[str]:
        yield from _instance_problems(body)
        if "parameters" in body:
            yield from _mismatch("parameters", body["parameters"], "object")

    body = checked(answer, problems_of, secret=True)
    return {
        "dashboard_url": _plain(body.get("dashboard_url")),
        "parameters": body.get("parameters") or {},
        "metadata": body.get("metadata"),
    }


def bind(answer: Answer, requires: Sequence[str]) -> Fields:
    common(answer)
    if answer.status in {200, 201}:
        return {"state": "succeeded", "details": _details(answer, requires, orphan=True)}
    if answer.status == 202:
        body = checked(answer, operation_problems, secret=True)
        return {
            "state": "in progress",
            "details": None,
            "operation": _plain(body.get("operation")),
            "retry_after": answer.retry_after,
        }
    if answer.status == 409:
        raise problems.conflict(description(answer))
    if answer.status == 422:
        raise _unprocessable(answer, {**_BUSY, "RequiresApp": problems.requires_app}, bad(answer))
    raise bad(answer, secret=True)


def fetched_binding(answer: Answer, requires: Sequence[str]) -> Fields:
    common(answer)
    if answer.status != 200:
        raise bad(answer, secret=True)
    return _details(answer, requires, orphan=False)


def _details(answer: Answer, requires: Sequence[str], *, orphan: bool) -> Fields:
    body = json_object(answer, secret=True)
    credentials = body.get("credentials")
    if credentials is not None and not isinstance(credentials, dict):
        raise problems.malformed(
            "expected credentials to be a valid JSON object", orphan=_orphan(answer), status=answer.status
        )
    parameters = body.get("parameters")
    return {
        "credentials": credentials or {},
        "syslog_drain_url": _syslog_drain(body, requires, orphan),
        "route_service_url": _route_service(body, orphan),
        "volume_mounts": _volume_mounts(body, requires, orphan),
        "endpoints": _endpoints(body),
        "parameters": parameters if isinstance(parameters, dict) else {},
    }


def _syslog_drain(body: Mapping[str, Any], requires: Sequence[str], orphan: bool) -> str | None:
    url = body.get("syslog_drain_url")
    if not url:
        return None
    if "syslog_drain" not in requires:
        raise problems.unexpected(
            "The service is attempting to stream logs from your application, but is not registered as a logging service."
            " Please contact the service provider.",
            orphan=orphan,
        )
    if not isinstance(url, str):
        (why,) = _mismatch("syslog_drain_url", url, "string", "null")
        raise problems.malformed("\n" + why, orphan=orphan)
    return _plain(url)


def _route_service(body: Mapping[str, Any], orphan: bool) -> str | None:
    url = body.get("route_service_url")
    if not url:
        return None
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        good = parts is not None and parts.scheme == "https" and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise problems.unexpected(
            "The service broker returned an invalid response: expected 'route_service_url' to be an https url with a host",
            orphan=orphan,
        )
    return _plain(url)


def _volume_mounts(body: Mapping[str, Any], requires: Sequence[str], orphan: bool) -> list[dict[str, Any]]:
    mounts = body.get("volume_mounts")
    if not mounts:
        return []
    why = _volume_problem(mounts)
    if why is None and "volume_mount" not in requires:
        why = (
            "The service is attempting to supply volume mounts from your application, but is not registered as a volume "
            "mount service. Please contact the service provider."
        )
    if why is not None:
        raise problems.malformed(why, orphan=orphan)
    return list(mounts)


def _endpoints(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is well-formed of `endpoints`. Cloud Foundry looks at none of it, so nothing in it is an error."""
    given = body.get("endpoints")
    found = []
    for one in given if isinstance(given, list) else []:
        host, ports = (one.get("host"), one.get("ports")) if isinstance(one, dict) else (None, None)
        if not isinstance(host, str) or not host or len(host) > _MAX_HOST or not isinstance(ports, list):
            continue
        good = [port for port in ports if isinstance(port, str) and _PORTS.fullmatch(port)]
        protocol = one.get("protocol", "tcp")
        if good and protocol in ("tcp", "udp", "all"):
            found.append({"host": _plain(host), "ports": good[:_MAX_ENDPOINTS], "protocol": protocol})
    return found[:_MAX_ENDPOINTS]


def _volume_problem(mounts: Any) -> str | None:
    if not isinstance(mounts, list) or not all(isinstance(mount, dict) for mount in mounts):
        return f"expected \"volume_mounts\" key to contain an array of JSON objects in body, broker returned '{HIDDEN}'"
    for mount in mounts:
        for name in ("device_type", "mode", "container_dir", "driver"):
            if not isinstance(mount.get(name), str) or not mount[name]:
                return f"missing required field '{name}'"
        device = mount.get("device")
        if device is None:
            return "missing required field 'device'"
        if not isinstance(device, dict):
            return f"required field 'device' must be an object but is {_type_name(device)}"
        if not isinstance(device.get("volume_id"), str) or not device["volume_id"]:
            return "required field 'device.volume_id' must be a non-empty string"
        if device.get("mount_config") is not None and not isinstance(device["mount_config"], dict):
            return "field 'device.mount_config' must be an object if it is defined"
    return None
