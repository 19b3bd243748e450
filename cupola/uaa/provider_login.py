"""The way of a browser to an OpenID Connect provider and back.

What is remembered meanwhile is in a cookie, signed: which provider, where to go afterwards, until when. Its name has the
beginning of `state`, so that two tabs do not disturb each other. Nonce and PKCE verifier are made from `state` and the
cookie, and so are good in this browser only.
"""

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
from sqlalchemy import Row
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from cupola import clock
from cupola.store.database import Tx
from cupola.uaa import audit, browser
from cupola.uaa.browser import Browser, local_path
from cupola.uaa.forms import parameters
from cupola.uaa.login import taken_in
from cupola.uaa.oidc import Oidc, Proof, Secrets
from cupola.uaa.outside import Unreachable
from cupola.uaa.pages import back_to_login, html, moved
from cupola.uaa.problems import Problem
from cupola.uaa.profiles import Refused
from cupola.uaa.service import Identity

__all__ = ["callback", "start"]

SECONDS = 600
"""For how long one may take to log in at the provider."""


class _Pending(msgspec.Struct):
    """A login on its way."""

    browser: str
    origin: str
    following: str
    until: float


async def start(identity: Identity, request: Request) -> Response:
    """Send a browser to a provider."""
    origin, query = request.path_params["origin"], parameters(request)
    provider = identity.providers.oidc.get(origin)
    if provider is None:
        return _unknown(identity)
    visitor = await Browser.of(identity, request)
    following = local_path(visitor.place, query.get("next"))
    again: dict[str, str] = {name: query[name] for name in ("next", "prompt") if name in query}
    home = identity.settings.login_url
    if "moved" not in query and request.headers.get("host", "").lower() != urlsplit(home).netloc:
        # The provider sends browsers to one address of ours: the cookie must be of that host.
        target = f"{home}/login/start/{origin}?{urlencode(again | {'moved': '1'})}"
        return RedirectResponse(target, 302, {"Cache-Control": "no-store"})
    state = secrets.token_urlsafe(24)
    pending = _Pending(secrets.token_urlsafe(24), origin, following, clock.seconds() + SECONDS)
    prompt = "login" if "login" in query.get("prompt", "").split() else ""
    try:
        ours = Secrets.of(identity.csrf_key, state, pending.browser)
        address = await provider.address(ours, _redirect_uri(identity, origin), prompt=prompt)
    except Unreachable:
        return back_to_login(visitor.place, "provider_down", following)
    response = RedirectResponse(address, 302, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
    visitor.place.set_cookie(response, _cookie(state), _sealed(identity, state, pending), seconds=SECONDS)
    return response


async def callback(identity: Identity, request: Request) -> Response:
    """Take a browser that comes back from a provider."""
    origin, query = request.path_params["origin"], parameters(request)
    provider = identity.providers.oidc.get(origin)
    if provider is None:
        return _unknown(identity)
    visitor, state = await Browser.of(identity, request), query.get("state", "")
    pending = _opened(identity, visitor, state)
    if pending is None or pending.origin != origin:
        return back_to_login(visitor.place, "invalid_login_request", "/")
    outcome = await _outcome(identity, request, provider, _Return(query, state, pending))
    if isinstance(outcome, str):
        response = back_to_login(visitor.place, outcome, pending.following)
    else:
        response = await _logged_in(identity, visitor, outcome, pending.following)
    visitor.place.drop_cookie(response, _cookie(state))
    return response


@dataclass(frozen=True)
class _Return:
    """What a browser brought, and what it had been sent with."""

    query: dict[str, str]
    state: str
    pending: _Pending


async def _outcome(identity: Identity, request: Request, provider: Oidc, back: _Return) -> Row[Any] | str:
    """The user, or the error that the login page tells of."""
    query, source = back.query, audit.Source.of(request)
    if query.get("iss", provider.settings.issuer) != provider.settings.issuer:
        audit.log.warning("an answer that says it is of the identity provider %s names another issuer", provider.origin)
        return "provider_refused"
    if "error" in query or not query.get("code"):
        error = query.get("error", "no code")
        audit.log.info("the identity provider %s did not log somebody in: %s", provider.origin, error[:200])
        return "provider_denied" if error == "access_denied" else "provider_refused"
    ours = Secrets.of(identity.csrf_key, back.state, back.pending.browser)
    proof = Proof(query["code"], ours, _redirect_uri(identity, provider.origin))
    try:
        return await taken_in(identity, source, await provider.by_code(proof))
    except Unreachable:
        return "provider_down"
    except Refused as error:
        audit.log.warning("a login by the identity provider %s was refused: %s", provider.origin, error)
        return "provider_refused"
    except Problem:
        return "provider_refused"


async def _logged_in(identity: Identity, visitor: Browser, user: Row[Any], following: str) -> Response:
    def work(tx: Tx) -> str:
        if visitor.session is not None:
            browser.end_session(tx, visitor.session)
        return browser.start_session(tx, user)

    value = await identity.write(work)
    return browser.with_session(visitor.place, moved(visitor.place, following), value, user)


def _unknown(identity: Identity) -> Response:
    return html(identity.settings, "problem.html", 404, text="There is no identity provider of this name.")


def _redirect_uri(identity: Identity, origin: str) -> str:
    return f"{identity.settings.login_url}/login/callback/{origin}"


def _cookie(state: str) -> str:
    return f"X-Uaa-Login-{state[:8]}"


def _sealed(identity: Identity, state: str, pending: _Pending) -> str:
    body = base64.urlsafe_b64encode(msgspec.json.encode(pending)).decode().rstrip("=")
    return f"{body}.{_mac(identity, state, body)}"


def _opened(identity: Identity, visitor: Browser, state: str) -> _Pending | None:
    if not state.isascii() or not state.replace("-", "").replace("_", "").isalnum():
        return None
    body, _, mac = visitor.request.cookies.get(visitor.place.cookie(_cookie(state)), "").partition(".")
    if not hmac.compare_digest(mac.encode(), _mac(identity, state, body).encode()):
        return None
    try:
        pending = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=_Pending)
    except (binascii.Error, msgspec.DecodeError):
        return None
    return pending if pending.until > clock.seconds() else None


def _mac(identity: Identity, state: str, body: str) -> str:
    text = f"login elsewhere:{state}:{body}"
    return hmac.new(identity.csrf_key, text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()
