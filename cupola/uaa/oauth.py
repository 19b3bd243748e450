"""Tokens over HTTP: given, looked at, revoked (RFC 6749, RFC 7662, OpenID Connect Core 1.0)."""

from typing import Any

from sqlalchemy import Row, delete, or_, select
from starlette.requests import Request
from starlette.responses import Response

from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit
from cupola.uaa.autologin import USER_TOKEN, user_token
from cupola.uaa.bearer import Bearer, bearer
from cupola.uaa.client_auth import authenticate
from cupola.uaa.forms import form as read_form
from cupola.uaa.grants import Asked, grant
from cupola.uaa.problems import Problem, bad_request, forbidden, json_response, not_logged_in
from cupola.uaa.refresh import end_session
from cupola.uaa.scopes import DEFAULT_GROUPS
from cupola.uaa.service import Identity

__all__ = ["check_token", "introspect", "list_tokens", "revoke", "revoke_sessions", "token", "userinfo"]

_NO_SUCH_TOKEN = "Resource not found"  # noqa: S105  # an error text
_PUBLIC = {"authorization_code", "refresh_token"}


async def token(identity: Identity, request: Request) -> Response:
    """Give a token."""
    form = await read_form(request)
    grant_type = form.get("grant_type", "")
    if grant_type == USER_TOKEN:
        return json_response(await user_token(identity, request, form), headers={"Pragma": "no-cache"})
    give = grant(grant_type)
    client = await authenticate(identity, request, form, public=grant_type in _PUBLIC)
    if grant_type not in client.grant_types:
        raise Problem(401, "invalid_client", "Unauthorized grant type")
    answer = await give(identity, Asked(request, form, client))
    return json_response(answer, headers={"Pragma": "no-cache"})


async def check_token(identity: Identity, request: Request) -> Response:
    """Whether a token is good, for resource servers: its claims, or 400."""
    form = await read_form(request)
    client = await authenticate(identity, request, form)
    if "uaa.resource" not in client.authorities:
        raise forbidden("uaa.resource")
    if not form.get("token"):
        raise bad_request("Token parameter must be set")
    try:
        claims = await identity.thread(lambda: identity.claims(form["token"]))
    except Problem as problem:
        raise bad_request(problem.description, "invalid_token") from None
    missing = [scope for scope in form.get("scopes", "").split(",") if scope and scope not in claims["scope"]]
    if missing:
        raise bad_request(f"Some requested scopes are missing: {','.join(missing)}", "invalid_scope")
    return json_response(claims)


async def introspect(identity: Identity, request: Request) -> Response:
    """Whether a token is good (RFC 7662), for a client or a bearer with uaa.resource."""
    form = await read_form(request)
    if request.headers.get("authorization", "").lower().startswith("bearer "):
        await bearer(identity, request, "uaa.resource")
    elif "uaa.resource" not in (await authenticate(identity, request, form)).authorities:
        raise forbidden("uaa.resource")
    try:
        claims = await identity.thread(lambda: identity.claims(form.get("token", "")))
    except Problem:
        return json_response({"active": False})
    return json_response({**claims, "active": True})


async def userinfo(identity: Identity, request: Request) -> Response:
    """Who the bearer is (OpenID Connect Core 1.0 section 5.3)."""
    caller = await bearer(identity, request)
    if "openid" not in caller.scopes or caller.user_guid is None:
        raise forbidden("openid")

    def work(tx: Tx) -> tuple[Row[Any] | None, set[str]]:
        guid = caller.user_guid or ""
        row = tx.one(select(tables.identities).where(tables.identities.c.guid == guid))
        return row, tables.groups_of(tx, guid) if "roles" in caller.scopes else set()

    row, groups = await identity.read(work)
    if row is None:
        raise not_logged_in()
    body: dict[str, Any] = {
        "user_id": row.guid,
        "sub": row.guid,
        "user_name": row.username,
        "email": row.email,
        "email_verified": row.verified,
        "given_name": row.given_name,
        "family_name": row.family_name,
        "name": f"{row.given_name} {row.family_name}".strip(),
        "phone_number": row.phone_number,
        "previous_logon_time": None if row.previous_login_at is None else row.previous_login_at // 1000,
    }
    if "roles" in caller.scopes:
        body["roles"] = sorted(groups | DEFAULT_GROUPS)
    if "user_attributes" in caller.scopes:
        body["user_attributes"] = row.attributes
    return json_response(body)


async def revoke(identity: Identity, request: Request) -> Response:
    """End the session of a token: the caller's own, or any with tokens.revoke.

    An access token is named by its `jti`, an opaque token or a refresh token by itself.
    """
    caller = await bearer(identity, request)
    name = request.path_params["jti"]
    if caller.claims["jti"] == name:
        await identity.write(lambda tx: _end(identity, tx, caller.claims))
        return json_response({})

    def work(tx: Tx) -> bool:
        return _revoke_stored(identity, tx, caller, name) or _revoke_signed(identity, tx, caller, name)

    if not await identity.write(work):
        raise Problem(404, "invalid_token", _NO_SUCH_TOKEN)
    return json_response({})


def _end(identity: Identity, tx: Tx, claims: dict[str, Any]) -> None:
    session = claims.get("sid")
    if session is not None:
        end_session(tx, session, identity.lifetime(tx))
    tables.revoke(tx, "jti", claims["jti"], expires_at=int(claims["exp"]) * 1_000_000)
    tx.run(delete(tables.opaque_tokens).where(tables.opaque_tokens.c.jti == claims["jti"]))


def _may_end(caller: Bearer, row: Row[Any]) -> bool:
    if caller.has("tokens.revoke"):
        return True
    if caller.user_guid is not None:
        return bool(row.user_guid == caller.user_guid)
    return bool(row.client_id == caller.client_id and row.user_guid is None)


def _revoke_stored(identity: Identity, tx: Tx, caller: Bearer, name: str) -> bool:
    digest = tables.digest(name)
    opaque, refresh = tables.opaque_tokens, tables.refresh_tokens
    found = tx.one(select(opaque).where(or_(opaque.c.digest == digest, opaque.c.jti == name)))
    if found is not None and _may_end(caller, found):
        _end(identity, tx, found.claims)
        return True
    found = tx.one(select(refresh).where(refresh.c.digest == digest))
    if found is not None and _may_end(caller, found):
        end_session(tx, found.session, identity.lifetime(tx))
        return True
    return False


def _revoke_signed(identity: Identity, tx: Tx, caller: Bearer, name: str) -> bool:
    # Signed tokens are not stored: with the right to, an id of the form that ours have is noted for as long as any
    # token lives, whether there is such a token or not.
    if not caller.has("tokens.revoke") or len(name) != 32 or not set(name) <= set("0123456789abcdef"):
        return False
    tables.revoke(tx, "jti", name, expires_at=tx.now + identity.lifetime(tx))
    return True


async def revoke_sessions(identity: Identity, request: Request) -> Response:
    """End all sessions of a user, of a client, or of a user with a client."""
    caller = await bearer(identity, request)
    guid, client_id = request.path_params.get("guid"), request.path_params.get("client_id")
    itself = caller.user_guid == guid and client_id in {None, caller.client_id} if guid is not None else False
    if not itself:
        caller.require("tokens.revoke")
    source = audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> bool:
        if (guid is not None and not tables.user_exists(tx, guid)) or (
            client_id is not None and not tables.client_exists(tx, client_id)
        ):
            return False
        _revoke_all(identity, tx, guid, client_id)
        audit.record(tx, "TokensRevoked", source, None, {"user": guid, "client": client_id})
        return True

    if not await identity.write(work):
        raise Problem(404, "not_found", f"There is no {'user ' + guid if guid else 'client ' + str(client_id)}.")
    return json_response({})


def _revoke_all(identity: Identity, tx: Tx, guid: str | None, client_id: str | None) -> None:
    if guid is not None and client_id is not None:
        identity.revoke_pair(tx, guid, client_id)
    elif guid is not None:
        identity.revoke_user(tx, guid)
    elif client_id is not None:
        identity.revoke_client(tx, client_id)


async def list_tokens(identity: Identity, request: Request) -> Response:
    """The refresh tokens and opaque tokens of a user or a client: what they are, never the tokens themselves."""
    await bearer(identity, request, "tokens.list")
    guid, client_id = request.path_params.get("guid"), request.path_params.get("client_id")

    def work(tx: Tx) -> list[dict[str, Any]]:
        listed = []
        for table, kind in ((tables.refresh_tokens, "REFRESH_TOKEN"), (tables.opaque_tokens, "ACCESS_TOKEN")):
            owner = table.c.user_guid == guid if guid is not None else table.c.client_id == client_id
            listed += [_listed(row, kind) for row in tx.all(select(table).where(owner, table.c.expires_at > tx.now))]
        return listed

    return json_response(await identity.read(work))


def _listed(row: Row[Any], kind: str) -> dict[str, Any]:
    is_access = kind == "ACCESS_TOKEN"
    issued = row.claims["iat"] * 1000 if is_access else row.created_at // 1000
    return {
        "tokenId": row.jti if is_access else row.session,
        "clientId": row.client_id,
        "userId": row.user_guid,
        "format": "OPAQUE",
        "responseType": kind,
        "issuedAt": issued,
        "expiresAt": row.expires_at // 1000,
        "scope": " ".join(row.claims["scope"] if is_access else row.scope),
        "value": None,
        "zoneId": "uaa",
    }
