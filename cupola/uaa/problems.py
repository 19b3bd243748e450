"""Errors as UAA words them: `{error, error_description}`, with `message` for SCIM (reference: RFC 6749 section 5.2)."""

from typing import Any

import msgspec
from starlette.responses import Response

__all__ = [
    "Problem",
    "bad_client",
    "bad_request",
    "bad_token",
    "conflict",
    "forbidden",
    "invalid_scope",
    "json_response",
    "not_logged_in",
    "provider_down",
    "scim",
    "too_busy",
    "unauthorized",
]


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON that nobody caches."""
    complete = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return Response(msgspec.json.encode(body), status, complete, media_type="application/json")


class Problem(Exception):
    """An error answer."""

    def __init__(self, status: int, error: str, description: str, **more: Any) -> None:
        super().__init__(f"{error}: {description}")
        self.status = status
        self.error = error
        self.description = description
        self.body = {"error": error, "error_description": description, **more}
        self.headers: dict[str, str] = {}

    def response(self) -> Response:
        """The answer."""
        return json_response(self.body, self.status, self.headers)

    def challenged(self, scheme: str, error: str = "") -> "Problem":
        """The same with a WWW-Authenticate header; `scheme` includes the realm."""
        quoted = self.description.replace('"', "'").encode("ascii", "replace").decode()
        quoted = "".join(character for character in quoted if character.isprintable())
        self.headers["WWW-Authenticate"] = f'{scheme}, error="{error or self.error}", error_description="{quoted}"'
        return self


_BASIC, _BEARER = 'Basic realm="UAA/client"', 'Bearer realm="UAA/oauth"'


def bad_request(description: str, error: str = "invalid_request", status: int = 400, **more: Any) -> Problem:
    """A request that cannot be understood or granted as it is."""
    return Problem(status, error, description, **more)


def bad_client(description: str = "Bad credentials") -> Problem:
    """A wrong client, secret, user or password: which of them is not said."""
    return Problem(401, "invalid_client", description).challenged(_BASIC, "unauthorized")


def unauthorized(description: str) -> Problem:
    """A user who may not log in, and is told why."""
    return Problem(401, "unauthorized", description).challenged(_BASIC)


def not_logged_in() -> Problem:
    """A request without a bearer token where one is needed."""
    return Problem(401, "unauthorized", "Full authentication is required to access this resource").challenged(_BEARER)


def bad_token(description: str = "The token expired, was revoked, or the token ID is incorrect.") -> Problem:
    """A bearer or refresh token that is malformed, expired or revoked."""
    return Problem(401, "invalid_token", description).challenged(_BEARER)


def forbidden(*scopes: str) -> Problem:
    """A good token without any of the scopes."""
    needed = " ".join(scopes)
    problem = Problem(403, "insufficient_scope", "Insufficient scope for this resource", scope=needed)
    return problem.challenged(_BEARER)


def invalid_scope(description: str, scope: str) -> Problem:
    """Scopes that the client does not have or the user may not have."""
    return Problem(400, "invalid_scope", description, scope=scope)


def too_busy(what: str) -> Problem:
    """Work that would have to wait too long."""
    problem = Problem(503, "temporarily_unavailable", f"Too many {what} at the moment. Try again in a few seconds.")
    problem.headers["Retry-After"] = "5"
    return problem


def provider_down(origin: str) -> Problem:
    """An identity provider that does not answer, or rests after it did not."""
    text = f"The identity provider {origin} does not answer at the moment. Try again later."
    problem = Problem(503, "temporarily_unavailable", text)
    problem.headers["Retry-After"] = "10"
    return problem


def scim(status: int, error: str, description: str, **more: Any) -> Problem:
    """An error of the SCIM endpoints."""
    return Problem(status, error, description, message=description, **more)


def conflict(description: str, **more: Any) -> Problem:
    """A name that is taken."""
    return scim(409, "scim_resource_already_exists", description, **more)
