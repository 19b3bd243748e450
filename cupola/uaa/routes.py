"""The identity server over HTTP: one visible list of routes. Database work and hashing happen on worker threads."""

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from sqlalchemy import select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cupola import __version__, clock
from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import users
from cupola.uaa.bearer import Bearer, bearer
from cupola.uaa.issue import Client, require_grant
from cupola.uaa.login import log_in
from cupola.uaa.problems import Problem, bad_credentials, forbidden, json_response
from cupola.uaa.service import Identity

__all__ = ["application"]

UAA_VERSION = "77.20.0"
"""The UAA whose subset this is; the CLI wants at least 4.26.0 for `--origin`."""
Handler = Callable[[Identity, Request], Awaitable[Response]]


def application(identity: Identity) -> Starlette:
    """The ASGI application, at the root of the identity server's address."""
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/login", prompts),
        ("GET", "/info", prompts),
        ("GET", "/healthz", health),
        ("GET", "/.well-known/openid-configuration", discovery),
        ("GET", "/oauth/token/.well-known/openid-configuration", discovery),
        ("GET", "/token_keys", token_keys),
        ("GET", "/token_key", token_key),
        ("POST", "/oauth/token", token),
        ("DELETE", "/oauth/token/revoke/{jti}", revoke_token),
        ("GET", "/oauth/token/revoke/user/{guid}", revoke_user),
        ("POST", "/check_token", check_token),
        ("POST", "/introspect", introspect),
        ("GET", "/userinfo", userinfo),
        ("GET", "/oauth/clients/{client_id}", show_client),
        ("GET", "/Users", users.search),
        ("POST", "/Users", users.create),
        ("GET", "/Users/{guid}", users.show),
        ("DELETE", "/Users/{guid}", users.delete),
        ("PUT", "/Users/{guid}/password", users.change_password),
        ("GET", "/ids/Users", users.ids),
        ("GET", "/Groups", users.groups),
        ("POST", "/Groups/{name}/members", users.add_member),
    ]
    return Starlette(routes=[Route(path, _endpoint(identity, run), methods=[method]) for method, path, run in table])


def _endpoint(identity: Identity, run: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return await run(identity, request)
        except Problem as problem:
            return problem.response()

    return endpoint


async def prompts(identity: Identity, request: Request) -> Response:
    """What clients must ask of a user, and where the parts of the identity server are."""
    settings = identity.settings
    body = {
        "app": {"version": UAA_VERSION, "name": f"cupola {__version__}"},
        "links": {"uaa": settings.uaa_url, "login": settings.login_url},
        "zone_name": "uaa",
        "entityID": settings.login_url.partition("://")[2],
        "commit_id": __version__,
        "timestamp": clock.format_api(0),
        "idpDefinitions": {},
        "prompts": {"username": ["text", "Email"], "password": ["password", "Password"]},
    }
    return json_response(body)


async def health(identity: Identity, request: Request) -> Response:
    """`ok`."""
    return Response("ok", media_type="text/plain")


async def discovery(identity: Identity, request: Request) -> Response:
    """OpenID Connect discovery (OpenID Connect Discovery 1.0 section 3)."""
    uaa = identity.settings.uaa_url
    body = {
        "issuer": f"{uaa}/oauth/token",
        "token_endpoint": f"{uaa}/oauth/token",
        "userinfo_endpoint": f"{uaa}/userinfo",
        "jwks_uri": f"{uaa}/token_keys",
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "scopes_supported": ["openid", "profile", "email", "phone", "roles", "user_attributes"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["sub", "user_name", "origin", "iss", "auth_time", "aud", "exp", "iat", "email"],
    }
    return json_response(body)


async def token_keys(identity: Identity, request: Request) -> Response:
    """The public keys that tokens are signed with (RFC 7517)."""
    return json_response(identity.keys.jwks())


async def token_key(identity: Identity, request: Request) -> Response:
    """The key that signs now."""
    return json_response(identity.keys.active_jwk())


async def token(identity: Identity, request: Request) -> Response:
    """Give a token for a password, a refresh token or a client's own secret (RFC 6749 sections 4.3, 4.4, 6)."""
    form = await _form(request)
    grant_type = form.get("grant_type", "")
    if not grant_type:
        raise Problem(400, "invalid_request", "Missing grant type")
    answer = await asyncio.to_thread(_grant, identity, request, form, grant_type)
    return json_response(answer, headers={"Pragma": "no-cache"})


def _grant(identity: Identity, request: Request, form: dict[str, str], grant_type: str) -> dict[str, Any]:
    client = authenticate_client(identity, request, form)
    wanted = form["scope"].split() if form.get("scope") else None
    match grant_type:
        case "password":
            require_grant(client, grant_type)
            return log_in(identity, client, form, request.query_params.get("login_hint"), wanted)
        case "refresh_token":
            require_grant(client, grant_type)
            with identity.database.read() as tx:
                return identity.issuer.refreshed(tx, client, form.get("refresh_token", ""), wanted)
        case "client_credentials":
            require_grant(client, grant_type)
            with identity.database.read() as tx:
                return identity.issuer.for_client(tx, client, wanted)
    raise Problem(400, "unsupported_grant_type", f"Unsupported grant type: {grant_type}")


def authenticate_client(identity: Identity, request: Request, form: dict[str, str]) -> Client:
    """The client of a request, by HTTP basic or form fields. Raises 401. Blocking."""
    client_id, secret = _client_credentials(request, form)
    with identity.database.read() as tx:
        row = tx.one(select(tables.oauth_clients).where(tables.oauth_clients.c.client_id == client_id))
    if row is None:
        identity.passwords.matches(secret, None)
        raise bad_credentials()
    if not any(identity.passwords.matches(secret, kept) for kept in row.secret_hashes):
        raise bad_credentials()
    return identity.issuer.client(row)


def _client_credentials(request: Request, form: dict[str, str]) -> tuple[str, str]:
    header = request.headers.get("authorization", "")
    if header.lower().startswith("basic "):
        try:
            text = base64.b64decode(header[6:], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise bad_credentials() from None
        client_id, _, secret = text.partition(":")
        if request.headers.get("x-cf-encoded-credentials", "").lower() == "true":
            return unquote(client_id), unquote(secret)
        return client_id, secret
    if "client_id" in form:
        return form["client_id"], form.get("client_secret", "")
    raise bad_credentials("Missing credentials")


async def _form(request: Request) -> dict[str, str]:
    found = {key: value for key, value in (await request.form()).items() if isinstance(value, str)}
    for key, value in request.query_params.items():
        found.setdefault(key, value)
    return found


async def revoke_token(identity: Identity, request: Request) -> Response:
    """End a session: the caller's own, or any with tokens.revoke."""
    caller = await bearer(identity, request)
    jti = request.path_params["jti"]
    if caller.claims["jti"] != jti and caller.claims.get("sid") != jti:
        caller.require("tokens.revoke", "uaa.admin")
        await asyncio.to_thread(_revoke_other, identity, jti)
        return json_response({})
    await asyncio.to_thread(_in_write, identity, lambda tx: identity.revoke_token(tx, caller.claims))
    return json_response({})


def _in_write(identity: Identity, work: Callable[[Tx], None]) -> None:
    with identity.database.write() as tx:
        work(tx)


def _revoke_other(identity: Identity, jti: str) -> None:
    longest = identity.settings.identity.access_token_seconds * 1_000_000
    with identity.database.write() as tx:
        tables.revoke(tx, "jti", jti, tx.now + longest)


async def revoke_user(identity: Identity, request: Request) -> Response:
    """End all sessions of a user: one's own, or any with tokens.revoke or uaa.admin."""
    caller = await bearer(identity, request)
    guid = request.path_params["guid"]
    if caller.user_guid != guid:
        caller.require("tokens.revoke", "uaa.admin")
    await asyncio.to_thread(_in_write, identity, lambda tx: identity.revoke_user(tx, guid))
    return json_response({})


async def check_token(identity: Identity, request: Request) -> Response:
    """Whether a token is good, for resource servers: its claims, or 400."""
    form = await _form(request)
    client = await asyncio.to_thread(authenticate_client, identity, request, form)
    if "uaa.resource" not in client.authorities:
        raise forbidden("uaa.resource")
    if not form.get("token"):
        raise Problem(400, "invalid_request", "Token parameter must be set")
    try:
        claims = await asyncio.to_thread(_good_claims, identity, form["token"])
    except Problem as problem:
        raise Problem(400, "invalid_token", problem.body["error_description"]) from None
    missing = [scope for scope in (form.get("scopes") or "").split(",") if scope and scope not in claims["scope"]]
    if missing:
        raise Problem(400, "invalid_scope", f"Some requested scopes are missing: {','.join(missing)}")
    return json_response(claims)


async def introspect(identity: Identity, request: Request) -> Response:
    """Whether a token is good (RFC 7662)."""
    form = await _form(request)
    client = await asyncio.to_thread(authenticate_client, identity, request, form)
    if "uaa.resource" not in client.authorities:
        raise forbidden("uaa.resource")
    try:
        claims = await asyncio.to_thread(_good_claims, identity, form.get("token", ""))
    except Problem:
        return json_response({"active": False})
    return json_response({**claims, "active": True})


def _good_claims(identity: Identity, text: str) -> dict[str, Any]:
    return Bearer.judged(identity, text).claims


async def userinfo(identity: Identity, request: Request) -> Response:
    """Who the bearer is (OpenID Connect Core 1.0 section 5.3)."""
    caller = await bearer(identity, request)
    caller.require("openid")
    row = await asyncio.to_thread(users.find, identity, caller.user_guid or "")
    if row is None:
        raise forbidden("openid")
    body = {
        "user_id": row.guid,
        "sub": row.guid,
        "user_name": row.username,
        "email": row.email,
        "email_verified": row.verified,
        "given_name": row.given_name,
        "family_name": row.family_name,
        "name": f"{row.given_name} {row.family_name}".strip(),
        "phone_number": None,
        "previous_logon_time": None if row.last_login_at is None else row.last_login_at // 1000,
    }
    return json_response(body)


async def show_client(identity: Identity, request: Request) -> Response:
    """A client, without its secret; the CLI asks to tell clients from users."""
    caller = await bearer(identity, request)
    caller.require("clients.read", "clients.admin", "uaa.admin")

    def find() -> Any:
        table = tables.oauth_clients
        with identity.database.read() as tx:
            return tx.one(select(table).where(table.c.client_id == request.path_params["client_id"]))

    row = await asyncio.to_thread(find)
    if row is None:
        return Response(status_code=404)
    body = {
        "client_id": row.client_id,
        "name": row.client_id,
        "scope": row.scope,
        "resource_ids": ["none"],
        "authorized_grant_types": row.grant_types,
        "redirect_uri": row.redirect_uris,
        "autoapprove": row.autoapprove,
        "authorities": row.authorities,
        "lastModified": row.updated_at // 1000,
    }
    return json_response(body)
