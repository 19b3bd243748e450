"""Logging in and out with a browser; the account page; passcodes; a new password where one is due."""

import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from joserfc.errors import JoseError
from sqlalchemy import Row, delete, select
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit, browser, codes, information
from cupola.uaa.bearer import bearer
from cupola.uaa.browser import Browser, local_path
from cupola.uaa.forms import form as read_form
from cupola.uaa.forms import parameters
from cupola.uaa.login import LOCKED, Checked, check_password, hinted_origin, logged_in
from cupola.uaa.pages import back_to_login, html, moved, page, wants_json
from cupola.uaa.password_change import set_password
from cupola.uaa.problems import Problem, json_response
from cupola.uaa.redirects import is_allowed, with_parameters
from cupola.uaa.service import Identity
from cupola.uaa.user_body import checked_password

__all__ = ["force_password_change", "forget_client", "home", "login", "login_do", "logout", "passcode"]

_ERRORS = {
    "login_failure": "The name or the password is wrong. Try again.",
    "account_locked": "This account is locked because of too many failed attempts. Wait a few minutes, then try again.",
    "account_not_verified": "This account is not verified yet. Ask an administrator.",
    "invalid_login_request": "This page was open for too long, or was not opened here. Try again.",
    "busy": "Too many people log in at the moment. Try again in a few seconds.",
    "provider_down": "That identity provider does not answer at the moment. Try again later.",
    "provider_denied": "You did not log in at the identity provider, or it did not let you in.",
    "provider_refused": "The login at the identity provider did not work. Ask an administrator: the log says why.",
}


async def login(identity: Identity, request: Request) -> Response:
    """The login page; for programs, what to ask their users for."""
    if wants_json(request):
        return await information.info(identity, request)
    visitor, query = await Browser.of(identity, request), parameters(request)
    following = local_path(visitor.place, query.get("next"))
    if visitor.user is not None and "error" not in query:
        return moved(visitor.place, following)
    wish = dict(parse_qsl(urlsplit(following).query))
    client = await _client(identity, wish.get("client_id", ""))
    hint = query.get("login_hint") or wish.get("login_hint")
    offer = _offer(identity, None if client is None else client.allowed_providers, hint)
    prompt = query.get("prompt", "")
    if offer.only is not None and "error" not in query:
        return moved(visitor.place, _start(offer.only, following, prompt))
    providers = [
        {
            "name": identity.providers.oidc[origin].settings.link_text or origin,
            "path": _start(origin, following, prompt),
        }
        for origin in offer.links
    ]
    return page(
        visitor,
        "login.html",
        error=_ERRORS.get(query.get("error", "")),
        next=following,
        client=None if client is None else client.name or client.client_id,
        form=offer.form,
        hint=hint if offer.hinted else "",
        providers=providers,
    )


@dataclass(frozen=True)
class _Offer:
    """Ways to log in: whether by the form, at which providers; `only` one of them, to which one goes at once."""

    form: bool
    links: list[str]
    only: str | None = None
    hinted: bool = False


def _offer(identity: Identity, allowed: list[str] | None, hint: str | None) -> _Offer:
    providers = identity.providers
    try:
        hinted = hinted_origin(identity, hint)
    except Problem:
        hinted = None
    form = any(allowed is None or origin in allowed for origin in ("uaa", *providers.ldap))
    links = [
        origin
        for origin, one in providers.oidc.items()
        if (allowed is None and one.settings.show_link) or origin in (allowed or ())
    ]
    if hinted is not None and hinted in providers.oidc and (allowed is None or hinted in allowed):
        return _Offer(form, links or [hinted], hinted)
    if not form and len(links) == 1:
        return _Offer(form, links, links[0])
    return _Offer(form, links, hinted=hinted is not None)


def _start(origin: str, following: str, prompt: str) -> str:
    query = {"next": following, **({"prompt": prompt} if prompt else {})}
    return f"/login/start/{origin}?{urlencode(query)}"


async def _client(identity: Identity, client_id: str) -> Row[Any] | None:
    """The client for which somebody logs in."""
    clients = tables.oauth_clients
    return await identity.read(lambda tx: tx.one(select(clients).where(clients.c.client_id == client_id)))


async def login_do(identity: Identity, request: Request) -> Response:
    """Take the login form."""
    visitor, form = await Browser.of(identity, request), await read_form(request)
    following = local_path(visitor.place, form.get("next"))
    if not visitor.proves_form(form):
        return back_to_login(visitor.place, "invalid_login_request", following)
    source = audit.Source.of(request)
    try:
        origin = hinted_origin(identity, form.get("login_hint"))
        username, password = form.get("username", ""), form.get("password", "")
        checked = await check_password(identity, source, username, password, origin, change_required=True)
        return await _logged_in(identity, visitor, source, checked, following)
    except Problem as problem:
        reasons = {LOCKED: "account_locked", "Account not verified": "account_not_verified"}
        reason = "login_failure"
        if problem.status == 503:
            reason = "busy" if problem.description.startswith("Too many") else "provider_down"
        return back_to_login(visitor.place, reasons.get(problem.description, reason), following)


async def _logged_in(
    identity: Identity, visitor: Browser, source: audit.Source, checked: Checked, following: str
) -> Response:
    def work(tx: Tx) -> tuple[Row[Any], str]:
        user = logged_in(tx, identity.settings.identity, source, checked)
        if user.password_change_required:
            return user, codes.new(tx, "password", user.guid, None, {})
        if visitor.session is not None:
            browser.end_session(tx, visitor.session)
        return user, browser.start_session(tx, user)

    user, value = await identity.write(work)
    if user.password_change_required:
        return page(visitor, "new_password.html", error=None, code=value, next=following)
    return browser.with_session(visitor.place, moved(visitor.place, following), value, user)


async def force_password_change(identity: Identity, request: Request) -> Response:
    """Take the new password of a user who had to choose one."""
    visitor, form = await Browser.of(identity, request), await read_form(request)
    following = local_path(visitor.place, form.get("next"))
    if not visitor.proves_form(form):
        return back_to_login(visitor.place, "invalid_login_request", following)
    code, new = form.get("code", ""), form.get("password", "")
    row = await identity.read(lambda tx: _of_code(tx, code))
    if row is None:
        return back_to_login(visitor.place, "invalid_login_request", following)

    def refused(text: str) -> Response:
        return page(visitor, "new_password.html", 422, error=text, code=code, next=following)

    try:
        checked_password(new)
    except Problem as problem:
        return refused(problem.description)
    if new != form.get("password_confirmation"):
        return refused("The two passwords differ.")
    if await identity.hashing(lambda: identity.passwords.matches(new, row.password_hash)):
        return refused("Your new password cannot be the same as the old password.")
    hashed = await identity.hashing(lambda: identity.passwords.hash(new))
    source = audit.Source.of(request)

    def work(tx: Tx) -> str | None:
        found = codes.find(tx, "password", code)
        if found is None or not codes.take(tx, found) or not set_password(identity, tx, row.guid, hashed):
            return None
        audit.record(tx, "PasswordChangeSuccess", source, row)
        return browser.start_session(tx, row)

    value = await identity.write(work)
    if value is None:
        return back_to_login(visitor.place, "invalid_login_request", following)
    return browser.with_session(visitor.place, moved(visitor.place, following), value, row)


def _of_code(tx: Tx, code: str) -> Row[Any] | None:
    found = codes.find(tx, "password", code)
    if found is None or found.used_at is not None:
        return None
    users = tables.identities
    return tx.one(select(users).where(users.c.guid == found.user_guid, users.c.active.is_(True)))


async def home(identity: Identity, request: Request) -> Response:
    """The account page."""
    visitor = await Browser.of(identity, request)
    user = visitor.user
    if user is None:
        return moved(visitor.place, "/login")
    apps, clients = await identity.read(lambda tx: (_home_apps(tx), _allowed_clients(tx, user.guid)))
    return page(visitor, "home.html", user=user.username, apps=apps, clients=clients)


def _home_apps(tx: Tx) -> list[dict[str, str]]:
    clients = tables.oauth_clients
    shown = clients.c.show_on_home_page.is_(True), clients.c.app_launch_url.is_not(None)
    rows = tx.all(select(clients).where(*shown).order_by(clients.c.client_id))
    return [{"url": row.app_launch_url, "name": row.name or row.client_id} for row in rows]


def _allowed_clients(tx: Tx, user: str) -> list[dict[str, Any]]:
    approvals, clients = tables.approvals, tables.oauth_clients
    query = select(approvals.c.client_id, approvals.c.scope, clients.c.name).join_from(
        approvals, clients, clients.c.client_id == approvals.c.client_id
    )
    mine = approvals.c.user_guid == user, approvals.c.approved.is_(True), approvals.c.expires_at > tx.now
    found: dict[str, dict[str, Any]] = {}
    for row in tx.all(query.where(*mine).order_by(approvals.c.client_id, approvals.c.scope)):
        entry = found.setdefault(row.client_id, {"id": row.client_id, "name": row.name or row.client_id, "scopes": []})
        entry["scopes"].append(row.scope)
    return list(found.values())


async def forget_client(identity: Identity, request: Request) -> Response:
    """A user no longer allows a client: it is asked again, and the sessions that it has end."""
    visitor, form = await Browser.of(identity, request), await read_form(request)
    user, client_id = visitor.user, form.get("client_id", "")
    if user is None or not visitor.proves_form(form):
        return back_to_login(visitor.place, "invalid_login_request", "/")
    source = audit.Source.of(request, client_id)

    def work(tx: Tx) -> None:
        approvals = tables.approvals
        mine = approvals.c.user_guid == user.guid, approvals.c.client_id == client_id
        if tx.run(delete(approvals).where(*mine)).rowcount:
            identity.revoke_pair(tx, user.guid, client_id)
            audit.record(tx, "ApprovalsDeleted", source, user)

    await identity.write(work)
    return moved(visitor.place, "/")


async def logout(identity: Identity, request: Request) -> Response:
    """End the browser's session, and go where the client that is named may send browsers (or to the login page)."""
    visitor, query = await Browser.of(identity, request), parameters(request)
    session, user = visitor.session, visitor.user
    client_id = query.get("client_id") or await _hinted_client(identity, query.get("id_token_hint"))
    wanted = query.get("redirect") or query.get("post_logout_redirect_uri")
    source = audit.Source.of(request)

    def work(tx: Tx) -> list[str]:
        if session is not None:
            browser.end_session(tx, session)
            audit.record(tx, "LogoutSuccess", source, user)
        clients = tables.oauth_clients
        row = tx.one(select(clients.c.redirect_uris).where(clients.c.client_id == (client_id or "")))
        return [] if row is None else list(row.redirect_uris)

    allowed = await identity.write(work)
    if wanted is not None and is_allowed(wanted, allowed):
        target = with_parameters(wanted, {"state": query.get("state")})
        response: Response = RedirectResponse(target, 302, {"Cache-Control": "no-store"})
    else:
        response = moved(visitor.place, "/login")
    return browser.without_session(visitor.place, response)


async def _hinted_client(identity: Identity, hint: str | None) -> str | None:
    """The client that an id token was for; an expired one will do, it only chooses among registered addresses."""
    if not hint:
        return None
    try:
        claims = await identity.thread(lambda: identity.keys.verify(hint))
    except (JoseError, ValueError, TypeError):
        return None
    return str(claims.get("client_id"))


async def passcode(identity: Identity, request: Request) -> Response:
    """A code that logs its owner in at the command line, once."""
    source = audit.Source.of(request)
    if request.headers.get("authorization"):
        caller = await bearer(identity, request, "uaa.user")
        guid = caller.user_guid
        if guid is None:
            raise Problem(403, "access_denied", "A client has no passcode")
        auth_time, login = int(caller.claims["auth_time"]) * 1_000_000, str(caller.claims["sid"])
    else:
        visitor = await Browser.of(identity, request)
        if visitor.user is None or visitor.session is None:
            return moved(visitor.place, f"/login?next={quote('/passcode')}")
        guid, auth_time, login = visitor.user.guid, visitor.session.auth_time, uuid.uuid4().hex

    def work(tx: Tx) -> tuple[Row[Any] | None, str]:
        users = tables.identities
        user = tx.one(select(users).where(users.c.guid == guid))
        # A code that a program asked for belongs to the program's login, and ends with it.
        code = codes.new(tx, "passcode", guid, None, {"auth_time": auth_time, "session": login})
        audit.record(tx, "PasscodeCreated", source, user)
        return user, code

    user, code = await identity.write(work)
    if user is None:
        raise Problem(403, "access_denied", "There is no such user any more")
    if wants_json(request):
        return json_response(code)
    return html(identity.settings, "passcode.html", code=code, user=user.username, minutes=codes.SECONDS // 60)
