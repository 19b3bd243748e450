"""Errors that a client sees, as functions: each carries the code, title and status of Cloud Foundry's error tables.

    CloudError
    ├── one error (almost always)      {"errors": [{"code", "title", "detail"}]}
    └── Several                        manifests, failed recursive deletes

Raised anywhere, rendered in one place (rest/dispatch.py). The codes are those of the contract's errors.json.
"""

from collections.abc import Sequence

__all__ = [
    "CloudError",
    "Several",
    "bad_query",
    "bad_request",
    "being_deleted",
    "feature_disabled",
    "invalid_auth_token",
    "message_parse",
    "not_authenticated",
    "not_authorized",
    "not_found",
    "org_suspended",
    "server_error",
    "service_unavailable",
    "space_suspended",
    "uniqueness",
    "unknown_request",
    "unprocessable",
]


class CloudError(Exception):
    """One error of the V3 API."""

    def __init__(self, code: int, title: str, status: int, detail: str) -> None:
        super().__init__(f"{title} ({code}): {detail}")
        self.code = code
        self.title = title
        self.status = status
        self.detail = detail

    @property
    def entries(self) -> list[dict[str, object]]:
        """The elements of the body's `errors`."""
        return [{"code": self.code, "title": self.title, "detail": self.detail}]


class Several(CloudError):
    """Several errors in one answer; the status is that of the first."""

    def __init__(self, errors: Sequence[CloudError]) -> None:
        first = errors[0]
        super().__init__(first.code, first.title, first.status, first.detail)
        self.errors = list(errors)

    @property
    def entries(self) -> list[dict[str, object]]:
        return [entry for error in self.errors for entry in error.entries]


def invalid_auth_token() -> CloudError:
    return CloudError(1000, "CF-InvalidAuthToken", 401, "Invalid Auth Token")


def message_parse(what: str = "invalid request body") -> CloudError:
    return CloudError(1001, "CF-MessageParseError", 400, f"Request invalid due to parse error: {what}")


def bad_request(detail: str) -> CloudError:
    return CloudError(1004, "CF-BadRequest", 400, f"Bad request: {detail}")


def unknown_request() -> CloudError:
    return CloudError(10000, "CF-NotFound", 404, "Unknown request")


def server_error(detail: str = "An unknown error occurred.") -> CloudError:
    return CloudError(10001, "UnknownError", 500, detail)


def not_authenticated() -> CloudError:
    return CloudError(10002, "CF-NotAuthenticated", 401, "Authentication error")


def not_authorized() -> CloudError:
    return CloudError(10003, "CF-NotAuthorized", 403, "You are not authorized to perform the requested action")


def bad_query(detail: str) -> CloudError:
    return CloudError(10005, "CF-BadQueryParameter", 400, f"The query parameter is invalid: {detail}")


def unprocessable(detail: str) -> CloudError:
    return CloudError(10008, "CF-UnprocessableEntity", 422, detail)


def not_found(resource: str) -> CloudError:
    """`resource` as a sentence begins: `App`, `Service instance`."""
    return CloudError(10010, "CF-ResourceNotFound", 404, f"{resource} not found")


def service_unavailable(detail: str) -> CloudError:
    return CloudError(10015, "CF-ServiceUnavailable", 503, detail)


def uniqueness(detail: str) -> CloudError:
    return CloudError(10016, "CF-UniquenessError", 422, detail)


def org_suspended() -> CloudError:
    return CloudError(10017, "CF-OrgSuspended", 403, "The organization is suspended")


def space_suspended() -> CloudError:
    return CloudError(10019, "CF-SpaceSuspended", 403, "The space is suspended")


def being_deleted(what: str) -> CloudError:
    return CloudError(10020, "CF-ResourceBeingDeleted", 422, f"The {what} is being deleted")


def feature_disabled(message: str) -> CloudError:
    return CloudError(330002, "CF-FeatureDisabled", 403, f"Feature Disabled: {message}")
