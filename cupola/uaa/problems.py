"""Errors as UAA words them: `{error, error_description}`, with `message` for SCIM (reference/uaa.md section 10)."""

from typing import Any

import msgspec
from starlette.responses import Response

__all__ = ["Problem", "bad_credentials", "bad_token", "forbidden", "json_response"]


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON that nobody caches."""
    complete = {"Cache-Control": "no-store", **(headers or {})}
    return Response(msgspec.json.encode(body), status, complete, media_type="application/json")


class Problem(Exception):
    """An error answer."""

    def __init__(self, status: int, error: str, description: str, **more: Any) -> None:
        super().__init__(f"{error}: {description}")
        self.status = status
        self.body = {"error": error, "error_description": description, **more}
        self.headers: dict[str, str] = {}

    def response(self) -> Response:
        """The answer."""
        return json_response(self.body, self.status, self.headers)


def bad_credentials(description: str = "Bad credentials", error: str = "invalid_client") -> Problem:
    """A wrong user, client, password or secret: which of them is not said."""
    problem = Problem(401, error, description)
    problem.headers["WWW-Authenticate"] = (
        f'Basic realm="UAA/client", error="unauthorized", error_description="{description}"'
    )
    return problem


def _bearer(problem: Problem) -> Problem:
    error, description = problem.body["error"], problem.body["error_description"]
    problem.headers["WWW-Authenticate"] = (
        f'Bearer realm="UAA/oauth", error="{error}", error_description="{description}"'
    )
    return problem


def bad_token(description: str) -> Problem:
    """A bearer token that is missing, malformed, expired or revoked."""
    return _bearer(Problem(401, "invalid_token", description))


def forbidden(*scopes: str) -> Problem:
    """A good token without any of the scopes."""
    return _bearer(Problem(403, "insufficient_scope", "Insufficient scope for this resource", scope=" ".join(scopes)))


def scim(status: int, error: str, description: str, **more: Any) -> Problem:
    """An error of the SCIM endpoints."""
    return Problem(status, error, description, message=description, **more)
