"""Several clients at once, all or none, as Cloud Controllers make the clients of service dashboards; and how clients
are shown on the account page."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Row, select, update
from sqlalchemy.exc import IntegrityError
from starlette.requests import Request
from starlette.responses import Response

from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit
from cupola.uaa.bearer import Bearer, bearer
from cupola.uaa.client_body import checked_jwks, invalid, new_values, view
from cupola.uaa.client_secrets import apply
from cupola.uaa.client_secrets import prepared as prepared_secret
from cupola.uaa.clients import Unknown, add, find, remove, replace
from cupola.uaa.clients import prepared as prepared_client
from cupola.uaa.forms import document, listed
from cupola.uaa.problems import Problem, json_response
from cupola.uaa.service import Identity

__all__ = ["create_all", "delete_all", "list_meta", "modify_all", "put_meta", "secrets_all", "show_meta", "update_all"]

clients = tables.oauth_clients
_MOST = 100
"""Clients in one request: each new secret is hashed."""
Step = Callable[[Tx], Row[Any]]


async def create_all(identity: Identity, request: Request) -> Response:
    """Create clients."""
    return await _together(identity, request, "add", 201)


async def update_all(identity: Identity, request: Request) -> Response:
    """Change clients."""
    return await _together(identity, request, "update")


async def delete_all(identity: Identity, request: Request) -> Response:
    """Delete clients."""
    return await _together(identity, request, "delete")


async def secrets_all(identity: Identity, request: Request) -> Response:
    """Replace secrets of clients."""
    return await _together(identity, request, "secret")


async def modify_all(identity: Identity, request: Request) -> Response:
    """Do to each client what its `action` says: add, update, delete, secret, or `update,secret`."""
    return await _together(identity, request, None)


async def _together(identity: Identity, request: Request, action: str | None, status: int = 200) -> Response:
    caller = await bearer(identity, request, "clients.admin")
    bodies = await listed(request, "invalid_client")
    if not 1 <= len(bodies) <= _MOST:
        raise invalid(f"A list of one to {_MOST} clients must be given.")
    source = audit.Source.of(request, caller=caller)
    done: list[str] = []
    try:
        steps = [await _step(identity, caller, body, action or str(body.get("action"))) for body in bodies]

        def work(tx: Tx) -> list[dict[str, Any]]:
            rows = [step(tx) for step in steps]
            done.extend(row.client_id for row in rows)
            audit.record(tx, "ClientsChanged", source, None, {"clients": done, "action": action or "modify"})
            return [view(row) for row in rows]

        return json_response(await identity.write(work), status)
    except Unknown:
        raise Problem(404, "invalid_client", "One of the clients does not exist: nothing was changed.") from None
    except IntegrityError:
        raise invalid("One of the clients exists already: nothing was changed.", 409) from None


async def _step(identity: Identity, caller: Bearer, body: Mapping[str, Any], action: str) -> Step:
    client_id = body.get("client_id", body.get("clientId"))
    if not isinstance(client_id, str):
        raise invalid("Each client needs a client_id.")
    if action == "add":
        values = await prepared_client(identity, caller, body)
        return lambda tx: add(tx, values)
    if action == "delete":

        def delete(tx: Tx) -> Row[Any]:
            row = find(tx, client_id, to_change=True)
            remove(identity, tx, row)
            return row

        return delete
    if action in {"update", "update,secret"}:
        values = {**new_values(client_id, body), "jwks": checked_jwks(body.get("jwks"))}
        if action == "update":
            return lambda tx: replace(tx, find(tx, client_id), values)
        change = await prepared_secret(identity, caller, client_id, {"secret": body.get("client_secret")})

        def both(tx: Tx) -> Row[Any]:
            apply(identity, tx, change)
            return replace(tx, find(tx, client_id), values)

        return both
    if action == "secret":
        wanted = {**body, "secret": body.get("secret", body.get("client_secret"))}
        only = await prepared_secret(identity, caller, client_id, wanted)
        return lambda tx: apply(identity, tx, only)
    raise invalid(f"Invalid action: {action[:50]}. It is one of: add, update, delete, secret, update,secret.")


def _meta(row: Row[Any]) -> dict[str, Any]:
    return {
        "clientId": row.client_id,
        "clientName": row.name,
        "showOnHomePage": row.show_on_home_page,
        "appLaunchUrl": row.app_launch_url,
        "appIcon": row.app_icon,
    }


async def list_meta(identity: Identity, request: Request) -> Response:
    """How all clients are shown, of those that are."""
    await _reader(identity, request)
    shown = select(clients).where(clients.c.show_on_home_page.is_(True)).order_by(clients.c.client_id)
    rows = await identity.read(lambda tx: tx.all(shown))
    return json_response([_meta(row) for row in rows])


async def show_meta(identity: Identity, request: Request) -> Response:
    """How a client is shown."""
    await _reader(identity, request)
    try:
        return json_response(_meta(await identity.read(lambda tx: find(tx, request.path_params["client_id"]))))
    except Unknown:
        return Response(status_code=404)


async def _reader(identity: Identity, request: Request) -> None:
    caller = await bearer(identity, request)
    if caller.user_guid is None:
        caller.require("clients.read", "clients.admin")


async def put_meta(identity: Identity, request: Request) -> Response:
    """Say how a client is shown."""
    caller = await bearer(identity, request, "clients.write", "clients.admin")
    client_id, body = request.path_params["client_id"], await document(request, "invalid_client")
    url, icon, name = body.get("appLaunchUrl"), body.get("appIcon"), body.get("clientName")
    if url is not None and (
        not isinstance(url, str) or len(url) > 1024 or urlsplit(url).scheme not in {"http", "https"}
    ):
        raise invalid("appLaunchUrl must be an http or https address.")
    if icon is not None and (not isinstance(icon, str) or len(icon) > 65_536):
        raise invalid("appIcon must be base64 of at most 65536 characters.")
    if name is not None and (not isinstance(name, str) or len(name) > 255):
        raise invalid("clientName must be a text of at most 255 characters.")
    values = {"show_on_home_page": body.get("showOnHomePage") is True, "app_launch_url": url, "app_icon": icon}
    if name is not None:
        values["name"] = name
    source = audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> dict[str, Any]:
        find(tx, client_id)
        tx.run(update(clients).where(clients.c.client_id == client_id).values(values))
        audit.record(tx, "ClientModified", source, None, {"client": client_id})
        return _meta(find(tx, client_id))

    try:
        return json_response(await identity.write(work))
    except Unknown:
        return Response(status_code=404)
