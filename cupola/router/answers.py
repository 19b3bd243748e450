"""What the router itself answers: the error pages of Cloud Foundry's router, and those for an absent controller.

Answer      status, value of X-Cf-RouterError (empty: none), and what the body says after `STATUS TEXT: `
"""

import json
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from ssl import SSLCertVerificationError, SSLError

from cupola import clock, errors

__all__ = [
    "Answer",
    "connection_limit",
    "controller_away",
    "controller_failed",
    "empty_host",
    "endpoint_failure",
    "invalid_instance_header",
    "malformed",
    "no_endpoints",
    "no_table",
    "render",
    "request_timeout",
    "route_service_refused",
    "route_service_unreachable",
    "route_service_unsupported",
    "route_service_without_websockets",
    "signature_refused",
    "unknown_instance",
    "unknown_route",
]

_RETRY_SECONDS = 1
"""After which a client may ask again when the controller or the table is not there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `body` replaces the usual page; `headers` are lines with their line ends.

    With `close` the connection ends: what follows on it cannot be trusted to be a request.
    """

    status: int
    router_error: str = ""
    message: str = ""
    headers: bytes = b""
    body: bytes | None = None
    content_type: str = "text/plain; charset=utf-8"
    close: bool = False


def render(answer: Answer, request_id: bytes, *, close: bool, head_only: bool) -> bytes:
    """The whole response."""
    reason = _reason(answer.status)
    body = answer.body
    if body is None:
        body = f"{answer.status} {reason}: {answer.message}\n".encode() if answer.message else b""
    date = formatdate(clock.seconds(), usegmt=True)
    head = [f"HTTP/1.1 {answer.status} {reason}\r\nDate: {date}\r\n".encode(), answer.headers]
    if body:
        head.append(f"Content-Type: {answer.content_type}\r\n".encode())
    head.append(b"X-Content-Type-Options: nosniff\r\n")
    if answer.router_error:
        head.append(b"X-Cf-RouterError: " + answer.router_error.encode("latin-1", "replace") + b"\r\n")
    if request_id:
        head.append(b"X-Vcap-Request-Id: " + request_id + b"\r\n")
    if close:
        head.append(b"Connection: close\r\n")
    head.append(b"Content-Length: %d\r\n\r\n" % len(body))
    if not head_only:
        head.append(body)
    return b"".join(head)


_REASONS = {499: "Request Cancelled", 525: "SSL Handshake Failed", 526: "Invalid SSL Certificate"}


def _reason(status: int) -> str:
    return _REASONS.get(status) or HTTPStatus(status).phrase


def unknown_route(host: str) -> Answer:
    return Answer(
        404,
        "unknown_route",
        f"Requested route ('{host}') does not exist.",
        b"Cache-Control: no-cache, no-store\r\n",
    )


def unknown_instance(host: str, guid: str, index: str, *, process: bool) -> Answer:
    named = f" ('{index}')" if index else ""
    kind = "process guid" if process else "guid"
    message = f"Requested instance{named} with {kind} ('{guid}') does not exist for route ('{host}')"
    return Answer(400, "unknown_route", message)


def invalid_instance_header(*, process: bool) -> Answer:
    if process:
        return Answer(400, "invalid_cf_process_instance_header", "Invalid X-CF-Process-Instance Header")
    return Answer(400, "invalid_cf_app_instance_header", "Invalid X-CF-App-Instance Header")


def empty_host() -> Answer:
    return Answer(400, "empty_host", "Request had empty Host header")


def no_endpoints(host: str) -> Answer:
    message = f"Requested route ('{host}') has no available endpoints."
    return Answer(503, "no_endpoints", message, b"Cache-Control: public,max-age=2\r\n")


def connection_limit(host: str) -> Answer:
    return Answer(503, "Connection Limit Reached", f"Requested route ('{host}') has reached the connection limit.")


def endpoint_failure(cause: str) -> Answer:
    return Answer(502, f"endpoint_failure ({cause})", "Registered endpoint failed to handle the request.")


def route_service_unsupported() -> Answer:
    return Answer(502, "route_service_unsupported", "Support for route services is disabled.")


def route_service_without_websockets() -> Answer:
    message = "Websocket requests are not supported for routes bound to Route Services."
    return Answer(503, "route_service_unsupported", message)


def route_service_refused(why: str, *, expired: bool) -> Answer:
    """For what comes back from a route service with a signature that is not ours, too old, or for another route."""
    return Answer(504 if expired else 502, "", f"Failed to validate Route Service Signature: {why}")


def signature_refused(why: str, *, expired: bool) -> Answer:
    """For a signature on the way to a route without a route service, where an operator wants them to be looked at."""
    if expired:
        return Answer(504, "expired_route_service_signature", f"Failed to validate Route Service Signature: {why}")
    return Answer(400, "invalid_route_service_signature", f"Failed to validate Route Service Signature: {why}")


def route_service_unreachable(error: OSError, cause: str) -> Answer:
    """For a route service that cannot be spoken to."""
    if isinstance(error, SSLCertVerificationError):
        return Answer(526, f"endpoint_failure ({cause})", "The certificate of the route service is not accepted.")
    if isinstance(error, SSLError):
        return Answer(525, f"endpoint_failure ({cause})", "The route service does not speak TLS as it must.")
    return Answer(502, f"endpoint_failure ({cause})", "The route service failed to handle the request.")


def malformed(status: int, reason: str, router_error: str = "") -> Answer:
    """For a request that cannot be read; `reason` may be empty."""
    return Answer(status, router_error, reason, close=True)


def request_timeout(message: str) -> Answer:
    return Answer(408, "", message)


def no_table() -> Answer:
    """The router has just been started and does not know its routes yet."""
    message = "The router does not know its routes yet: it waits for the controller. Try again in a moment."
    return Answer(503, "no_endpoints", message, _retry_after())


def controller_away(path: str) -> Answer:
    """For the API, identity and log cache while the controller is not there."""
    detail = "The controller is not running, or is just starting: try again in a moment; `cupola status` shows it."
    return _of_the_platform(path, 503, errors.service_unavailable(detail), _retry_after())


def controller_failed(path: str) -> Answer:
    """The controller ended while it handled the request, which must not be repeated blindly."""
    detail = "The controller ended before it answered: look whether the request took effect before you repeat it."
    error = errors.CloudError(10001, "UnknownError", 502, detail)
    return _of_the_platform(path, 502, error, b"")


def _of_the_platform(path: str, status: int, error: errors.CloudError, headers: bytes) -> Answer:
    """In the form that clients of this path read."""
    if path.startswith(("/uaa", "/oauth", "/login")):
        body: object = {"error": "temporarily_unavailable", "error_description": error.detail}
    else:
        body = {"errors": error.entries}
    text = json.dumps(body).encode()
    return Answer(status, "", "", headers, text, "application/json; charset=utf-8")


def _retry_after() -> bytes:
    return b"Retry-After: %d\r\n" % _RETRY_SECONDS
