"""What requests carry: forms, JSON documents, query parameters, and from where they come. Everything has a limit."""

from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

from cupola.uaa.problems import Problem, bad_request, scim

__all__ = ["MAX_FORM", "address", "document", "form", "listed", "parameters"]

MAX_FORM = 64 * 1024
"""Bytes of a form: names, passwords, tokens."""
MAX_DOCUMENT = 1024 * 1024
"""Bytes of a JSON document: a group with its members is the largest."""
MAX_FIELDS = 200


async def _body(request: Request, limit: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise bad_request(f"The request body is larger than {limit} bytes.", status=413)
        parts.append(part)
    return b"".join(parts)


async def form(request: Request) -> dict[str, str]:
    """Fields of a form; what the query string has besides is taken, too (Java clients send everything there)."""
    raw = await _body(request, MAX_FORM)
    try:
        found = _decoded(raw.decode("ascii"))
    except UnicodeDecodeError:
        raise bad_request("The form is not URL-encoded.") from None
    return {**parameters(request), **found}


def parameters(request: Request) -> dict[str, str]:
    """Parameters of the query string; of several with one name the first."""
    return _decoded(request.scope["query_string"].decode("latin-1"))


def _decoded(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except UnicodeDecodeError:
        raise bad_request("A parameter is not UTF-8.") from None
    except ValueError:
        raise bad_request(f"There are more than {MAX_FIELDS} parameters.") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if "\0" in value:
            raise bad_request("A parameter contains a NUL character.")
        found.setdefault(name, value)
    return found


async def document(request: Request, error: str = "invalid_scim_resource") -> dict[str, Any]:
    """The JSON object of a request. Raises 400."""
    found = _parsed(await _body(request, MAX_DOCUMENT), error)
    if not isinstance(found, dict):
        raise scim(400, error, "The request body is not a JSON object.")
    return found


async def listed(request: Request, error: str) -> list[dict[str, Any]]:
    """The JSON array of objects of a request. Raises 400."""
    found = _parsed(await _body(request, MAX_DOCUMENT), error)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise scim(400, error, "The request body is not a JSON array of objects.")
    return found


def _parsed(raw: bytes, error: str) -> Any:
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _unreadable(error) from None
    if b"\\u0000" in raw:
        raise scim(400, error, "A value contains a NUL character.")
    return found


def _unreadable(error: str) -> Problem:
    return scim(400, error, "The request body is not JSON.")


def address(request: Request) -> str | None:
    """The client's address: the connection's, or on the router's socket the last entry, which the router writes."""
    if request.client is not None and request.client.host:
        return request.client.host[:64]
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return forwarded[:64] or None
