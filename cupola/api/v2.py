"""The few questions of version 2 that the official CLI's own tests still ask; everything else below /v2 is unknown.

Errors below /v2 have the form of version 2 (rest/dispatch.py).
"""

from dataclasses import replace
from typing import Any
from urllib.parse import quote

from sqlalchemy import Row

from cupola import __version__, errors
from cupola.api.apps import APPS
from cupola.api.spaces import SPACES
from cupola.api.stacks import STACKS
from cupola.clock import format_api
from cupola.rest import listing
from cupola.rest.operation import Call, Listing, Operation, Parameter, Reply
from cupola.rest.query import Query
from cupola.rest.resource import Resource, World

__all__ = ["OPERATIONS"]

_REFERENCES = ("space_guid", "organization_guid")
_PARAMETERS = (
    Parameter("page", "Number of the page, from 1."),
    Parameter("results-per-page", "Resources of a page, at most 100."),
    Parameter("q", "`name:NAME`: only what has this name."),
)


def info(call: Call[None, None]) -> Reply:
    """What this platform is, and that version 2 of the API is not served."""
    settings = call.settings
    body = {
        "name": settings.platform.name,
        "build": f"cupola-{__version__}",
        "support": "CF API v2 is disabled",
        "version": 0,
        "description": settings.platform.description,
        "authorization_endpoint": settings.login_url,
        "token_endpoint": settings.uaa_url,
        "min_cli_version": settings.platform.min_cli_version or None,
        "min_recommended_cli_version": settings.platform.recommended_cli_version or None,
        "api_version": "",
        "osbapi_version": "2.17",
        "routing_endpoint": f"{settings.api_url}/routing",
    }
    return Reply(200, {**body, "user": call.actor.guid} if call.actor.guid else body)


def _view(row: Row[Any], world: World, kind: str) -> dict[str, Any]:
    fields = row._mapping
    about = {"guid": row.guid, "url": f"/v2/{kind}/{row.guid}"}
    times = {name: format_api(fields[name]) for name in ("created_at", "updated_at")}
    references = {name: fields[name] for name in _REFERENCES if name in fields}
    return {"metadata": {**about, **times}, "entity": {"name": row.name, **references}}


def _list(kind: str, resource: Resource) -> Operation:
    shown = replace(resource, view=lambda row, world: _view(row, world, kind), related={}, includes=[])
    known = Listing(shown, filters=["names"])

    def run(call: Call[Any, None]) -> Reply:
        number, size, name = _asked(call.query)
        names = "" if name is None else f"&names={quote(quote(name, safe=''), safe='')}"
        call.query = Query(f"page={number}&per_page={size}{names}".encode(), **listing.known(known))
        page = listing.page(call, known, "")
        pagination = page["pagination"]

        def link(to: int) -> str:
            asked = "" if name is None else f"q=name:{quote(name, safe='')}&"
            return f"/v2/{kind}?{asked}page={to}&results-per-page={size}"

        return Reply(
            200,
            {
                "total_results": pagination["total_results"],
                "total_pages": pagination["total_pages"],
                "prev_url": link(number - 1) if pagination["previous"] else None,
                "next_url": link(number + 1) if pagination["next"] else None,
                "resources": page["resources"],
            },
        )

    run.__doc__ = f"List {kind}, as version 2 shows them: guid and name."
    return Operation("GET", f"/v2/{kind}", run, query=_PARAMETERS, deprecated=True)


def _asked(query: Query) -> tuple[int, int, str | None]:
    """(page, resources of a page, name or None) of a query of version 2."""
    numbers = [query.get("page") or "1", query.get("results-per-page") or "50"]
    if not all(number.isascii() and number.isdigit() and int(number[:10]) > 0 for number in numbers):
        raise errors.bad_query("page and results-per-page must be positive integers")
    field, colon, name = (query.get("q") or "name:").partition(":")
    if field != "name" or not colon:
        raise errors.bad_query("q knows only name:NAME here")
    return int(numbers[0][:10]), min(int(numbers[1][:10]), 100), name or None


OPERATIONS: list[Operation] = [
    Operation("GET", "/v2/info", info, auth="optional", deprecated=True),
    *(_list(kind, resource) for kind, resource in (("apps", APPS), ("spaces", SPACES), ("stacks", STACKS))),
]
