"""Sessions and tokens that one client gets for another place: /autologin and the grant user_token, as in UAA.

autologin   a client with a secret knows a user's password and gets a code; a browser that brings it is logged in
user_token  a user's token becomes a refresh token of another client
"""

from typing import Any

from sqlalchemy import Row, select
from starlette.requests import Request
from starlette.responses import Response

from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit, browser, codes
from cupola.uaa.bearer import bearer
from cupola.uaa.browser import Browser
from cupola.uaa.client_auth import authenticate, find_row
from cupola.uaa.forms import document, form, parameters
from cupola.uaa.issue import Login, user_scopes
from cupola.uaa.login import check_password, logged_in
from cupola.uaa.pages import moved
from cupola.uaa.problems import Problem, bad_client, bad_request, forbidden, json_response
from cupola.uaa.service import Identity

__all__ = ["USER_TOKEN", "get_code", "log_in", "user_token"]

USER_TOKEN = "user_token"  # noqa: S105  # the name of a grant, not a secret
_KIND = "autologin"


async def get_code(identity: Identity, request: Request) -> Response:
    """A code for a user whose name and password a client sends."""
    is_json = "application/json" in request.headers.get("content-type", "")
    body: dict[str, Any] = await document(request, "invalid_request") if is_json else dict(await form(request))
    client = await authenticate(identity, request, {} if is_json else body)
    if client.auth_method in {"none", "empty"}:
        # Who needs no secret could be anybody, and would put others into sessions of its choice.
        raise bad_client("A client without a secret cannot log users in")
    username, password = body.get("username"), body.get("password")
    if not isinstance(username, str) or not isinstance(password, str) or not username or not password:
        raise bad_client("No username in request" if not username else "No password in request")
    source = audit.Source.of(request, client.client_id)
    checked = await check_password(identity, source, username, password, allowed=client.allowed_providers)

    def work(tx: Tx) -> str:
        user = logged_in(tx, identity.settings.identity, source, checked)
        return codes.new(tx, _KIND, user.guid, client.client_id, {})

    return json_response({"code": await identity.write(work), "path": "/oauth/authorize"})


async def log_in(identity: Identity, request: Request) -> Response:
    """Log a browser in that brings such a code."""
    visitor, query = await Browser.of(identity, request), parameters(request)
    source = audit.Source.of(request, query.get("client_id"))

    def work(tx: Tx) -> tuple[Row[Any], str] | None:
        found = codes.find(tx, _KIND, query.get("code", ""))
        if found is None or found.client_id != query.get("client_id") or not codes.take(tx, found):
            return None
        users = tables.identities
        user = tx.one(select(users).where(users.c.guid == found.user_guid, users.c.active.is_(True)))
        if user is None:
            return None
        if visitor.session is not None:
            browser.end_session(tx, visitor.session)
        audit.record(tx, "UserAuthenticationSuccess", source, user, {"method": "autologin"})
        return user, browser.start_session(tx, user)

    done = await identity.write(work)
    if done is None:
        raise Problem(422, "expired_code", "Expired code")
    user, value = done
    return browser.with_session(visitor.place, moved(visitor.place, "/"), value, user)


async def user_token(identity: Identity, request: Request, fields: dict[str, str]) -> dict[str, Any]:
    """Give a refresh token of the client `client_id` for the user whose token the request carries."""
    caller = await bearer(identity, request, "uaa.user")
    guid = caller.user_guid
    if guid is None:
        raise forbidden("uaa.user")
    requesting = await find_row(identity, caller.client_id)
    if requesting is None or USER_TOKEN not in requesting.grant_types:
        raise Problem(401, "invalid_client", "Unauthorized grant type")
    row = await find_row(identity, fields.get("client_id", ""))
    if row is None:
        raise bad_request("The parameter client_id names no client.")
    if "refresh_token" not in row.grant_types:
        raise Problem(401, "invalid_client", f"Unauthorized grant type: {row.client_id} has no refresh_token")
    client = identity.issuer.client(row)
    source = audit.Source.of(request, client.client_id, caller)

    def work(tx: Tx) -> dict[str, Any]:
        users = tables.identities
        user = tx.one(select(users).where(users.c.guid == guid, users.c.active.is_(True)))
        if user is None:
            raise forbidden("uaa.user")
        scopes = user_scopes(tx, client, user, fields.get("scope", "").split() or None)
        auth_time = int(caller.claims["auth_time"]) * 1_000_000
        login = Login(
            USER_TOKEN,
            auth_time,
            identity.providers.methods(user.origin),
            opaque=fields.get("token_format") == "opaque",
        )
        token = identity.issuer.refresh_token(tx, client, guid, login, scopes)
        audit.record(tx, "TokenIssued", source, user, {"for": client.client_id})
        return {
            "access_token": None,
            "token_type": "bearer",
            "refresh_token": token,
            "expires_in": client.access_seconds,
            "scope": " ".join(scopes),
            "jti": token,
        }

    return await identity.write(work)
