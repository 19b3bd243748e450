"""/oauth/authorize: a code for a client that acts for a user, after the user agreed (RFC 6749 section 4.1, RFC 7636).

Nothing is ever redirected to an address that the client did not register: until that is known, problems are told here.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Row, select, update
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit, browser, codes
from cupola.uaa.bearer import bearer
from cupola.uaa.browser import Browser
from cupola.uaa.client_auth import find_row
from cupola.uaa.forms import form as read_form
from cupola.uaa.forms import parameters
from cupola.uaa.issue import Client, user_scopes
from cupola.uaa.pages import html, moved, page, wants_json
from cupola.uaa.problems import Problem, bad_request
from cupola.uaa.redirects import is_allowed, origin_of, with_parameters
from cupola.uaa.scopes import covers
from cupola.uaa.service import Identity

__all__ = ["answer", "authorize"]

_CONSENT_SECONDS = 30 * 86_400
_TEXTS = {
    "openid": "Know who you are",
    "profile": "Read your profile",
    "roles": "Know your groups",
    "user_attributes": "Read your attributes",
    "cloud_controller.read": "See your apps and services",
    "cloud_controller.write": "Change your apps and services",
    "cloud_controller.admin": "Administer the whole platform",
    "cloud_controller_service_permissions.read": "Know which services you may manage",
    "password.write": "Change your password",
    "scim.read": "See all users",
    "scim.write": "Change all users",
    "uaa.user": "Act as you everywhere",
}


@dataclass(frozen=True)
class Wish:
    """An authorization request whose client and redirect are known to be good."""

    client: Client
    row: Row[Any]
    redirect: str
    query: Mapping[str, str]

    @property
    def scopes(self) -> list[str] | None:
        return self.query.get("scope", "").split() or None

    def refused(self, error: str, description: str) -> Response:
        """Tell the client by way of the browser (RFC 6749 section 4.1.2.1)."""
        return self._back({"error": error, "error_description": description})

    def granted(self, code: str) -> Response:
        """Give the client its code by way of the browser."""
        return self._back({"code": code})

    def _back(self, result: dict[str, str]) -> Response:
        target = with_parameters(self.redirect, {**result, "state": self.query.get("state")})
        return RedirectResponse(target, 302, {"Cache-Control": "no-store"})


async def authorize(identity: Identity, request: Request) -> Response:
    """Ask the user, or give the code at once where nothing is to be asked."""
    return await _authorize(identity, request, parameters(request))


async def _authorize(identity: Identity, request: Request, form: dict[str, str]) -> Response:
    wants = "authorization" in request.headers or wants_json(request)
    try:
        wish = await _wish(identity, form)
    except Problem as problem:
        if wants:
            raise
        return html(identity.settings, "problem.html", problem.status, text=problem.description)
    fault = _fault(wish)
    if "authorization" in request.headers:
        return await _for_bearer(identity, request, wish, fault)
    return wish.refused(*fault) if fault is not None else await _for_browser(identity, request, wish)


async def _wish(identity: Identity, query: Mapping[str, str]) -> Wish:
    """Raises 400 when client or redirect are not known: then nobody may be redirected."""
    client_id = query.get("client_id", "")
    row = await find_row(identity, client_id) if client_id else None
    if row is None:
        raise bad_request("No client with the requested id." if client_id else "Missing client_id.")
    given, known = query.get("redirect_uri"), row.redirect_uris
    if given is None and len(known) == 1 and "*" not in known[0]:
        given = known[0]
    if given is None or not is_allowed(given, known):
        text = f"Invalid redirect {given[:200] if given else ''} did not match one of the registered values"
        raise bad_request(text, error="invalid_request", redirect_uri="redirect_uri mismatch")
    return Wish(identity.issuer.client(row), row, given, query)


def _fault(wish: Wish) -> tuple[str, str] | None:
    """What is wrong with a request, as error and description."""
    query = wish.query
    if query.get("response_type") != "code":
        return "unsupported_response_type", "The response_type must be code."
    if "authorization_code" not in wish.client.grant_types:
        return "unauthorized_client", "This client may not use the grant type authorization_code."
    challenge, method = query.get("code_challenge"), query.get("code_challenge_method", "plain")
    if method not in {"S256", "plain"}:
        return "invalid_request", "Unsupported code challenge method."
    if challenge is not None and not _is_challenge(challenge):
        return (
            "invalid_request",
            "Code challenge length must between 43 and 128 and use only [A-Z],[a-z],[0-9],_,.,-,~.",
        )
    if challenge is None and (wish.row.allow_public and not any(wish.row.secret_hashes)):
        return "invalid_request", "A public client needs a code_challenge."
    unknown = [one for one in wish.scopes or () if not any(covers(held, one) for held in wish.client.scope)]
    if unknown:
        return "invalid_scope", f"Invalid scope: {' '.join(unknown)}"
    return None


def _is_challenge(text: str) -> bool:
    return 43 <= len(text) <= 128 and text.isascii() and all(one.isalnum() or one in "-._~" for one in text)


async def _for_bearer(identity: Identity, request: Request, wish: Wish, fault: tuple[str, str] | None) -> Response:
    """A user's program asks: `uaa.user` stands for the user's consent. Faults are told to the program."""
    caller = await bearer(identity, request, "uaa.user")
    if fault is not None:
        raise bad_request(fault[1], fault[0])
    source = audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> str:
        users = tables.identities
        user = tx.one(select(users).where(users.c.guid == (caller.user_guid or ""), users.c.active.is_(True)))
        if user is None:
            raise Problem(403, "access_denied", "Only users can be acted for")
        scopes = user_scopes(tx, wish.client, user, wish.scopes)
        auth_time = int(caller.claims["auth_time"]) * 1_000_000
        return _code(tx, source, wish, user, scopes, auth_time, by_token=True)

    return wish.granted(await identity.write(work))


def _code(
    tx: Tx,
    source: audit.Source,
    wish: Wish,
    user: Row[Any],
    scopes: list[str],
    auth_time: int,
    *,
    by_token: bool = False,
) -> str:
    query = wish.query
    details = {
        "redirect_uri": query.get("redirect_uri"),
        "scopes": scopes,
        "challenge": query.get("code_challenge"),
        "challenge_method": query.get("code_challenge_method"),
        "nonce": query.get("nonce"),
        "auth_time": auth_time,
        "session": uuid.uuid4().hex,
        "by_token": by_token or None,
    }
    audit.record(tx, "AuthorizationCodeCreated", source, user, {"client": wish.client.client_id})
    kept = {key: value for key, value in details.items() if value is not None}
    return codes.new(tx, "code", user.guid, wish.client.client_id, kept)


async def _for_browser(identity: Identity, request: Request, wish: Wish) -> Response:
    visitor = await Browser.of(identity, request)
    prompts = wish.query.get("prompt", "").split()
    session, user = visitor.session, visitor.user
    if user is None or session is None or await _must_log_in(identity, visitor, wish, prompts):
        if "none" in prompts:
            return wish.refused("login_required", "Nobody is logged in.")
        again = {key: value for key, value in wish.query.items() if key != "prompt" or value != "login"}
        query = {"next": f"/oauth/authorize?{urlencode(again)}"}
        if "login" in prompts:
            # Another identity provider must not answer from a session that it still has.
            query["prompt"] = "login"
        return moved(visitor.place, f"/login?{urlencode(query)}")
    source = audit.Source.of(request, wish.client.client_id)

    def work(tx: Tx) -> str | Asking:
        scopes = user_scopes(tx, wish.client, user, wish.scopes)
        asking = _open_questions(tx, wish, user, scopes)
        if asking.questions:
            pending = {"id": uuid.uuid4().hex, "query": dict(wish.query), "scopes": asking.questions}
            if "none" not in prompts:
                _remember(tx, session, pending)
            return Asking(asking.questions, asking.settled, pending["id"])
        if not asking.settled:
            return Asking([], [], "")
        return _code(tx, source, wish, user, asking.settled, session.auth_time)

    try:
        result = await identity.write(work)
    except Problem as problem:
        return wish.refused(problem.error if problem.status == 400 else "access_denied", problem.description)
    if isinstance(result, str):
        return wish.granted(result)
    if not result.questions:
        return wish.refused("access_denied", "User denied access")
    if "none" in prompts:
        return wish.refused("interaction_required", "The user has to agree first.")
    return page(
        visitor,
        "consent.html",
        client=wish.row.name or wish.row.client_id,
        user=user.username,
        where=origin_of(wish.redirect),
        pending=result.pending,
        scopes=[{"name": scope, "text": _TEXTS.get(scope, "Use this permission")} for scope in result.questions],
    )


@dataclass(frozen=True)
class Asking:
    """Scopes that the user has to be asked about, and those that are settled."""

    questions: list[str]
    settled: list[str]
    pending: Any = ""


async def _must_log_in(identity: Identity, visitor: Browser, wish: Wish, prompts: list[str]) -> bool:
    """Whether the client wants a fresh login (OpenID Connect Core 1.0 section 3.1.2.1); the old session then ends."""
    session = visitor.session
    assert session is not None
    oldest = wish.query.get("max_age", "")

    def work(tx: Tx) -> bool:
        late = oldest.isdigit() and len(oldest) < 10 and tx.now - session.auth_time > int(oldest) * 1_000_000
        if "login" in prompts or late:
            if "none" not in prompts:
                browser.end_session(tx, session)
            return True
        return False

    return await identity.write(work) if oldest or "login" in prompts else False


def _remember(tx: Tx, session: Row[Any], pending: Any) -> None:
    table = tables.login_sessions
    tx.run(update(table).where(table.c.digest == session.digest).values(pending=pending))


def _open_questions(tx: Tx, wish: Wish, user: Row[Any], scopes: list[str]) -> Asking:
    automatic = wish.row.autoapprove
    if "true" in automatic:
        return Asking([], scopes)
    table = tables.approvals
    mine = table.c.user_guid == user.guid, table.c.client_id == wish.client.client_id, table.c.expires_at > tx.now
    known = {row.scope: row.approved for row in tx.all(select(table).where(*mine))}
    known.update({scope: True for scope in scopes if any(covers(pattern, scope) for pattern in automatic)})
    return Asking([one for one in scopes if one not in known], [one for one in scopes if known.get(one)])


async def answer(identity: Identity, request: Request) -> Response:
    """Take the user's answer to the consent page; without one, POST is like GET (OpenID Connect Core 1.0, 3.1.2.1)."""
    form = await read_form(request)
    if "user_oauth_approval" not in form:
        return await _authorize(identity, request, form)
    visitor = await Browser.of(identity, request)
    session, user = visitor.session, visitor.user
    if session is None or user is None or not visitor.proves_form(form):
        return moved(visitor.place, "/login?error=invalid_login_request")
    pending = session.pending
    if pending is None or form.get("pending", pending["id"]) != pending["id"]:
        text = "This page is no longer current: another one was opened after it. Go back to the app and try again."
        return html(identity.settings, "problem.html", 400, text=text)
    try:
        # The client may have changed since it was asked for.
        wish = await _wish(identity, pending["query"])
    except Problem as problem:
        return html(identity.settings, "problem.html", problem.status, text=problem.description)
    agreed = form["user_oauth_approval"] == "true"
    chosen = {value.removeprefix("scope.") for key, value in form.items() if key.startswith("scope.")}
    source = audit.Source.of(request, wish.client.client_id)

    def work(tx: Tx) -> str | None:
        _remember(tx, session, None)
        if not agreed:
            audit.record(tx, "ApprovalDenied", source, user)
            return None
        for scope in pending["scopes"]:
            key = {"user_guid": user.guid, "client_id": wish.client.client_id, "scope": scope}
            until = tx.now + _CONSENT_SECONDS * 1_000_000
            values = {"approved": scope in chosen, "expires_at": until, "updated_at": tx.now}
            tables.put(tx, tables.approvals, key, values)
        settled = _open_questions(tx, wish, user, user_scopes(tx, wish.client, user, wish.scopes)).settled
        return _code(tx, source, wish, user, settled, session.auth_time) if settled else None

    try:
        code = await identity.write(work)
    except Problem as problem:
        return wish.refused(problem.error if problem.status == 400 else "access_denied", problem.description)
    return wish.granted(code) if code is not None else wish.refused("access_denied", "User denied access")
