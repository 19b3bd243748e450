"""The identity server over HTTP: one visible list of routes. Database work and hashing happen on threads of its own."""

import logging
from collections.abc import Awaitable, Callable

from sqlalchemy.exc import DBAPIError, OperationalError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cupola.config import Settings
from cupola.uaa import (
    approvals,
    authorize,
    autologin,
    client_batches,
    client_secrets,
    clients,
    external_groups,
    groups,
    identity_providers,
    information,
    login_pages,
    oauth,
    pages,
    password_change,
    provider_login,
    users,
)
from cupola.uaa.problems import Problem, bad_request, json_response
from cupola.uaa.service import Identity

__all__ = ["application", "elsewhere"]

log = logging.getLogger(__name__)
Handler = Callable[[Identity, Request], Awaitable[Response]]

_MAPPING, _EXTERNAL = "/Groups/External", "/externalGroup/{external:path}"
"""Names of external groups may have slashes in them."""
ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/info", information.info),
    ("GET", "/login", login_pages.login),
    ("POST", "/login.do", login_pages.login_do),
    ("GET", "/login/start/{origin}", provider_login.start),
    ("GET", "/login/callback/{origin}", provider_login.callback),
    ("GET", "/logout.do", login_pages.logout),
    ("GET", "/", login_pages.home),
    ("POST", "/approvals.do", login_pages.forget_client),
    ("POST", "/autologin", autologin.get_code),
    ("GET", "/autologin", autologin.log_in),
    ("GET", "/passcode", login_pages.passcode),
    ("POST", "/force_password_change", login_pages.force_password_change),
    ("GET", "/resources/pages.css", pages.stylesheet),
    ("GET", "/healthz", information.health),
    ("GET", "/.well-known/openid-configuration", information.discovery),
    ("GET", "/oauth/token/.well-known/openid-configuration", information.discovery),
    ("GET", "/token_keys", information.token_keys),
    ("GET", "/token_key", information.token_key),
    ("GET", "/oauth/authorize", authorize.authorize),
    ("POST", "/oauth/authorize", authorize.answer),
    ("GET", "/oauth/token", oauth.token),
    ("POST", "/oauth/token", oauth.token),
    ("GET", "/check_token", oauth.check_token),
    ("POST", "/check_token", oauth.check_token),
    ("POST", "/introspect", oauth.introspect),
    ("GET", "/userinfo", oauth.userinfo),
    ("POST", "/userinfo", oauth.userinfo),
    ("DELETE", "/oauth/token/revoke/{jti}", oauth.revoke),
    ("GET", "/oauth/token/revoke/user/{guid}", oauth.revoke_sessions),
    ("GET", "/oauth/token/revoke/client/{client_id}", oauth.revoke_sessions),
    ("GET", "/oauth/token/revoke/user/{guid}/client/{client_id}", oauth.revoke_sessions),
    ("GET", "/oauth/token/list/user/{guid}", oauth.list_tokens),
    ("GET", "/oauth/token/list/client/{client_id}", oauth.list_tokens),
    ("GET", "/oauth/clients", clients.search),
    ("POST", "/oauth/clients", clients.create),
    ("GET", "/oauth/clients/meta", client_batches.list_meta),
    ("POST", "/oauth/clients/tx", client_batches.create_all),
    ("PUT", "/oauth/clients/tx", client_batches.update_all),
    ("POST", "/oauth/clients/tx/delete", client_batches.delete_all),
    ("POST", "/oauth/clients/tx/secret", client_batches.secrets_all),
    ("POST", "/oauth/clients/tx/modify", client_batches.modify_all),
    ("GET", "/oauth/clients/{client_id}/meta", client_batches.show_meta),
    ("PUT", "/oauth/clients/{client_id}/meta", client_batches.put_meta),
    ("PUT", "/oauth/clients/{client_id}/secret", client_secrets.change_secret),
    ("PUT", "/oauth/clients/{client_id}/clientjwt", client_secrets.change_keys),
    ("GET", "/oauth/clients/{client_id}", clients.show),
    ("PUT", "/oauth/clients/{client_id}", clients.update_client),
    ("DELETE", "/oauth/clients/{client_id}", clients.delete_client),
    ("GET", "/ids/Users", users.ids),
    ("GET", "/Users", users.search),
    ("POST", "/Users", users.create),
    ("GET", "/Users/{guid}", users.show),
    ("PUT", "/Users/{guid}", users.put),
    ("PATCH", "/Users/{guid}", users.patch),
    ("DELETE", "/Users/{guid}", users.delete),
    ("GET", "/Users/{guid}/verify", users.verify),
    ("PATCH", "/Users/{guid}/status", users.status),
    ("PUT", "/Users/{guid}/password", password_change.change_password),
    ("GET", "/Groups", groups.search),
    ("POST", "/Groups", groups.create),
    ("GET", "/Groups/External", external_groups.search),
    ("GET", "/Groups/External/list", external_groups.search),
    ("POST", "/Groups/External", external_groups.create),
    ("DELETE", f"{_MAPPING}/groupId/{{group}}{_EXTERNAL}/origin/{{origin}}", external_groups.delete_by_group),
    ("DELETE", f"{_MAPPING}/groupId/{{group}}{_EXTERNAL}", external_groups.delete_by_group),
    ("DELETE", f"{_MAPPING}/displayName/{{group}}{_EXTERNAL}/origin/{{origin}}", external_groups.delete_by_name),
    ("DELETE", f"{_MAPPING}/displayName/{{group}}{_EXTERNAL}", external_groups.delete_by_name),
    ("GET", "/Groups/{guid}", groups.show),
    ("PUT", "/Groups/{guid}", groups.put),
    ("PATCH", "/Groups/{guid}", groups.patch),
    ("DELETE", "/Groups/{guid}", groups.delete_group),
    ("GET", "/Groups/{guid}/members", groups.list_members),
    ("POST", "/Groups/{guid}/members", groups.add_member),
    ("GET", "/Groups/{guid}/members/{member}", groups.show_member),
    ("DELETE", "/Groups/{guid}/members/{member}", groups.remove_member),
    ("GET", "/approvals", approvals.search),
    ("PUT", "/approvals", approvals.put),
    ("DELETE", "/approvals", approvals.revoke),
    ("PUT", "/approvals/{client_id}", approvals.put_of_client),
    ("GET", "/identity-providers", identity_providers.search),
    ("POST", "/identity-providers", identity_providers.refuse_change),
    ("GET", "/identity-providers/{id}", identity_providers.show),
    ("PUT", "/identity-providers/{id}", identity_providers.refuse_change),
    ("DELETE", "/identity-providers/{id}", identity_providers.refuse_change),
]


def application(identity: Identity) -> Starlette:
    """The ASGI application, at the root of the identity server's address."""
    routes = [Route(path, _endpoint(identity, run), methods=[method]) for method, path, run in ROUTES]
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_such_route})


def elsewhere(settings: Settings) -> ASGIApp:
    """What is at the identity server's address when another one does its work."""
    text = f"There is no identity server here: it is at {settings.uaa_url}."

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await Problem(404, "not_found", text).response()(scope, receive, send)

    return serve


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        problem = Problem(405, "method_not_allowed", f"Request method '{request.method}' not supported")
    else:
        problem = Problem(error.status_code, "not_found", "There is no such resource here.")
    problem.headers.update(error.headers or {})
    return problem.response()


def _endpoint(identity: Identity, run: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            if "\0" in request.scope["path"]:
                raise bad_request("The path contains a NUL character.")
            return await run(identity, request)
        except Problem as problem:
            return problem.response()
        except ClientDisconnect:
            return Response(status_code=400)
        except DBAPIError as error:
            return _database_trouble(request, error)

    return endpoint


def _database_trouble(request: Request, error: DBAPIError) -> Response:
    # The text of the exception holds the statement's values, such as hashes: only the driver's own words are logged.
    log.error("%s %s failed: %s: %s", request.method, request.scope["path"], type(error).__name__, error.orig)
    if isinstance(error, OperationalError):
        text = "The database cannot be used at the moment. Try again later."
        return json_response({"error": "temporarily_unavailable", "error_description": text}, 503, {"Retry-After": "5"})
    return json_response({"error": "server_error", "error_description": "An unknown error occurred."}, 500)
