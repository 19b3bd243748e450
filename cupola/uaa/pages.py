"""Pages for people: HTML without scripts, readable by screen readers, and the rules under which browsers show it."""

from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from cupola.config import Settings
from cupola.uaa.browser import CSRF, Browser, Place
from cupola.uaa.service import Identity

__all__ = ["back_to_login", "html", "moved", "page", "stylesheet", "wants_json"]

# No form-action: after our own form browsers follow redirects to the client's site, and some apply it to those.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@cache
def _environment() -> Environment:
    loader = PackageLoader("cupola.uaa", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, auto_reload=False)


def html(settings: Settings, template: str, status: int = 200, **values: Any) -> Response:
    """A page from a template."""
    base = Place(settings).path
    text = _environment().get_template(template).render(platform=settings.platform.name, base=base, **values)
    return Response(text, status, _HEADERS, media_type="text/html")


def page(browser: Browser, template: str, status: int = 200, **values: Any) -> Response:
    """A page with a form: it gets the proof that it is ours."""
    csrf = browser.csrf()
    response = html(browser.identity.settings, template, status, csrf=csrf, **values)
    browser.place.set_cookie(response, CSRF, csrf)
    return response


def moved(place: Place, path: str) -> Response:
    """To another page of the identity server, on the host that the browser is at."""
    return RedirectResponse(place.path + path, 302, {"Cache-Control": "no-store"})


def back_to_login(place: Place, error: str, following: str) -> Response:
    """To the login page, which tells of an error; `following` is where to go after a login."""
    query = {"error": error} if following == "/" else {"error": error, "next": following}
    return moved(place, f"/login?{urlencode(query)}")


def wants_json(request: Request) -> bool:
    """Whether a program asks, rather than a browser."""
    accept = request.headers.get("accept", "")
    return "application/json" in accept and "text/html" not in accept


async def stylesheet(identity: Identity, request: Request) -> Response:
    """How the pages look."""
    return Response(_css(), media_type="text/css", headers={"Cache-Control": "max-age=3600"})


@cache
def _css() -> str:
    return resources.files("cupola.uaa").joinpath("templates/pages.css").read_text()
