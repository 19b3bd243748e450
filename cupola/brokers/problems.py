"""What can go wrong with a service broker, in Cloud Foundry's words (reference/service-brokers.md section 6).

    BrokerError                       a CloudError; raised in a request it is an answer, in a job it ends it
    ├── kind                          the name below, as in the title `CF-<kind>`
    ├── text                          what the user reads
    └── orphan                        the broker may have made what we do not know of: tell it to remove that

Statuses are those of the error raised in a request; in jobs they are not shown.
"""

import http
from typing import Literal

from cupola.errors import CloudError

__all__ = [
    "HIDDEN",
    "BrokerError",
    "Kind",
    "async_required",
    "authentication_failed",
    "bad_response",
    "concurrency",
    "conflict",
    "maintenance_info_conflict",
    "malformed",
    "reason",
    "rejected",
    "requires_app",
    "timeout",
    "unable",
    "unexpected",
    "unreachable",
]

Kind = Literal[
    "HttpClientTimeout",
    "ServiceBrokerApiTimeout",
    "ServiceBrokerApiUnreachable",
    "ServiceBrokerApiAuthenticationFailed",
    "ServiceBrokerBadResponse",
    "ServiceBrokerRequestRejected",
    "ServiceBrokerResponseMalformed",
    "ServiceBrokerConflict",
    "AsyncRequired",
    "ConcurrencyError",
    "AppRequired",
    "MaintenanceInfoConflict",
]
HIDDEN = "[PRIVATE DATA HIDDEN]"
"""In place of bodies that may hold credentials."""
_LONG = 16 * 1024
_CUT = 8 * 1024
_TRUNCATED = "...This message has been truncated due to size. To read the full message, check the broker's logs"


class BrokerError(CloudError):
    """A call to a broker that did not succeed."""

    def __init__(self, kind: Kind, status: int, text: str, *, orphan: bool = False, answered: int = 0) -> None:
        text = _shortened(text.replace("\0", ""))
        super().__init__(10001, f"CF-{kind}", status, text)
        self.kind: Kind = kind
        self.text = text
        self.orphan = orphan
        self.answered = answered
        """The broker's HTTP status, 0 when there was none."""


def _shortened(text: str) -> str:
    if len(text.encode()) <= _LONG:
        return text
    return text.encode()[:_CUT].decode(errors="ignore") + _TRUNCATED


def unable(verb: str, error: BrokerError) -> CloudError:
    """The error of a job: `provision could not be completed: ...`; the broker's own is its cause."""
    problem = CloudError(10009, "CF-UnableToPerform", 400, f"{verb} could not be completed: {error.text}")
    problem.__cause__ = error
    return problem


def timeout() -> BrokerError:
    """The broker did not answer in time; it may still do what it was asked."""
    return BrokerError("HttpClientTimeout", 504, "The request to the service broker timed out", orphan=True)


def unreachable(why: str = "") -> BrokerError:
    """No connection, no name, no trust: nothing was asked. `why` adds what an operator can do."""
    text = "The service broker could not be reached"
    return BrokerError("ServiceBrokerApiUnreachable", 502, f"{text}: {why}" if why else text)


def reason(status: int) -> str:
    """A status with the standard's phrase for it: `404 Not Found`."""
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} "


def bad_response(status: int, body: str, description: str | None, *, orphan: bool = True) -> BrokerError:
    """A status that this call does not have, or a failure of the broker."""
    text = f"The service broker returned an invalid response. Status Code: {reason(status)}, Body: {body}"
    text = text if description is None else f"Service broker error: {description}"
    return BrokerError("ServiceBrokerBadResponse", 502, text, orphan=orphan, answered=status)


def unexpected(text: str, *, orphan: bool = True) -> BrokerError:
    """An answer that is bad in a way of its own."""
    return BrokerError("ServiceBrokerBadResponse", 502, text, orphan=orphan)


def rejected(status: int, body: str, description: str | None) -> BrokerError:
    """The broker refuses."""
    text = f"The service broker rejected the request. Status Code: {reason(status)}, Body: {body}"
    text = text if description is None else f"Service broker error: {description}"
    return BrokerError("ServiceBrokerRequestRejected", 502, text, answered=status)


def malformed(why: str, *, orphan: bool = False, status: int = 0) -> BrokerError:
    """The status is good, the body is not."""
    text = f"The service broker returned an invalid response: {why}"
    return BrokerError("ServiceBrokerResponseMalformed", 502, text, orphan=orphan, answered=status)


def authentication_failed() -> BrokerError:
    """401."""
    text = "Authentication with the service broker failed. Double-check that the username and password are correct."
    return BrokerError("ServiceBrokerApiAuthenticationFailed", 502, text, answered=401)


def api_timeout() -> BrokerError:
    """408: the broker itself waited too long for somebody."""
    return BrokerError("ServiceBrokerApiTimeout", 504, "The request to the service broker timed out", answered=408)


def conflict(description: str | None) -> BrokerError:
    """409: the broker has that already, and different."""
    text = "Resource conflict" if description is None else f"Service broker error: {description}"
    return BrokerError("ServiceBrokerConflict", 409, text, answered=409)


def async_required() -> BrokerError:
    """422 AsyncRequired."""
    text = "This service plan requires client support for asynchronous service operations."
    return BrokerError("AsyncRequired", 400, text, answered=422)


def concurrency() -> BrokerError:
    """422 ConcurrencyError."""
    text = "The service broker could not perform this operation in parallel with other running operations"
    return BrokerError("ConcurrencyError", 422, text, answered=422)


def requires_app() -> BrokerError:
    """422 RequiresApp."""
    text = "This service supports generation of credentials through binding an application only."
    return BrokerError("AppRequired", 400, text, answered=422)


def maintenance_info_conflict(description: str | None) -> BrokerError:
    """422 MaintenanceInfoConflict."""
    text = (
        "The service broker did not provide a reason for this conflict, please ensure the catalog is up to date "
        "and you are providing a version supported by this service plan"
    )
    text = text if description is None else f"Service broker error: {description}"
    return BrokerError("MaintenanceInfoConflict", 422, text, answered=422)
