"""Clients over HTTP: made, changed, deleted, one by one or several at once."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from starlette.requests import Request
from starlette.responses import Response

from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit
from cupola.uaa.bearer import Bearer, bearer
from cupola.uaa.client_body import checked_jwks, checked_secret, invalid, new_values, view
from cupola.uaa.forms import document
from cupola.uaa.problems import json_response
from cupola.uaa.scim import Page, page
from cupola.uaa.scim_filter import Attribute, condition
from cupola.uaa.service import Identity

__all__ = [
    "Unknown",
    "add",
    "create",
    "delete_client",
    "find",
    "prepared",
    "remove",
    "replace",
    "search",
    "show",
    "update_client",
]

clients = tables.oauth_clients
_ATTRIBUTES = {"client_id": Attribute(clients.c.client_id), "name": Attribute(clients.c.name)}
_ORDER = {"": clients.c.client_id, "client_id": clients.c.client_id, "lastmodified": clients.c.updated_at}


class Unknown(Exception):
    """There is no such client: UAA answers 404 with an empty body."""


def find(tx: Tx, client_id: str, *, to_change: bool = False) -> Row[Any]:
    """A client; `to_change`: others who want to change it wait. Raises Unknown."""
    query = select(clients).where(clients.c.client_id == client_id)
    row = tx.one(query.with_for_update() if to_change else query)
    if row is None:
        raise Unknown
    return row


async def search(identity: Identity, request: Request) -> Response:
    """List clients."""
    await bearer(identity, request, "clients.read", "clients.admin")
    asked = Page(request)
    where = [condition(asked.filter, _ATTRIBUTES)] if asked.filter else []

    def work(tx: Tx) -> dict[str, Any]:
        return page(tx, asked, clients, where, _ORDER, lambda tx, rows: [view(row) for row in rows])

    return json_response(await identity.read(work))


async def show(identity: Identity, request: Request) -> Response:
    """A client, without its secret; the CLI asks to tell clients from users."""
    caller, client_id = await bearer(identity, request), request.path_params["client_id"]
    if not (caller.user_guid is None and caller.client_id == client_id):
        caller.require("clients.read", "clients.admin")
    try:
        return json_response(view(await identity.read(lambda tx: find(tx, client_id))))
    except Unknown:
        return Response(status_code=404)


async def prepared(identity: Identity, caller: Bearer, body: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a new client, its secret hashed. Raises 400."""
    client_id = body.get("client_id")
    if client_id in {"meta", "tx"}:
        raise invalid(f"{client_id} is no name for a client: it is part of this address.")
    values = new_values(client_id if isinstance(client_id, str) else "", body)
    values["jwks"] = checked_jwks(body.get("jwks"))
    _refuse_foreign_scopes(caller, values)
    secret = body.get("client_secret", body.get("secret"))
    proves_itself = secret is not None or values["jwks"] is not None
    if not proves_itself and not values["allow_public"]:
        raise invalid(f"Client secret is required for grant type(s): {', '.join(values['grant_types'])}")
    if secret is None:
        values["secret_hashes"] = []
    else:
        plain = checked_secret(secret)
        if plain == "" and "client_credentials" in values["grant_types"]:
            raise invalid("Client secret cannot be empty for grant type client_credentials.")
        values["secret_hashes"] = [await identity.hashing(lambda: identity.passwords.hash(plain)) if plain else ""]
    return {"client_id": client_id, **values}


def _refuse_foreign_scopes(caller: Bearer, values: Mapping[str, Any]) -> None:
    """Who is no administrator of clients gives only what they have, and never `uaa.admin`. Raises 400."""
    if caller.has("clients.admin"):
        return
    own = caller.scopes | {"uaa.none", "openid"}
    for name in ("scope", "authorities"):
        foreign = [one for one in values[name] if one not in own and not one.startswith(f"{caller.client_id}.")]
        if foreign:
            raise invalid(f"{', '.join(foreign)} is not an allowed {name}. Must be one of: {', '.join(sorted(own))}")


def add(tx: Tx, values: Mapping[str, Any]) -> Row[Any]:
    """Insert a client. Raises 409."""
    client_id = values["client_id"]
    if tables.client_exists(tx, client_id):
        raise invalid(f"Client already exists: {client_id}", 409)
    generation = tables.first_generation(tx, client_id)
    tx.run(insert(clients).values({**values, "generation": generation, "created_at": tx.now, "updated_at": tx.now}))
    return find(tx, client_id)


def replace(tx: Tx, row: Row[Any], values: Mapping[str, Any]) -> Row[Any]:
    """Change a client; what only a creator or the secret's own call may set stays."""
    kept = {"client_id", "secret_hashes"}
    changes = {key: value for key, value in values.items() if key not in kept}
    if "jwks" in changes and changes["jwks"] is None:
        del changes["jwks"]
    statement = update(clients).where(clients.c.client_id == row.client_id)
    tx.run(statement.values({**changes, "updated_at": tx.now}))
    return find(tx, row.client_id)


def remove(identity: Identity, tx: Tx, row: Row[Any]) -> None:
    """Delete a client; its tokens are no longer good."""
    identity.revoke_client(tx, row.client_id)
    tx.run(delete(tables.approvals).where(tables.approvals.c.client_id == row.client_id))
    tx.run(delete(clients).where(clients.c.client_id == row.client_id))


async def create(identity: Identity, request: Request) -> Response:
    """Create a client."""
    caller = await bearer(identity, request, "clients.write", "clients.admin")
    values = await prepared(identity, caller, await document(request, "invalid_client"))
    source = audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> Row[Any]:
        row = add(tx, values)
        audit.record(tx, "ClientCreated", source, None, {"client": row.client_id})
        return row

    try:
        return json_response(view(await identity.write(work)), 201)
    except IntegrityError:
        raise invalid(f"Client already exists: {values['client_id']}", 409) from None


async def update_client(identity: Identity, request: Request) -> Response:
    """Replace what a client may do; its secret has a call of its own."""
    caller = await bearer(identity, request, "clients.write", "clients.admin")
    client_id, body = request.path_params["client_id"], await document(request, "invalid_client")
    if body.get("client_id", client_id) != client_id:
        raise invalid(f"The client id {client_id} cannot be changed.")
    values = new_values(client_id, body)
    values["jwks"] = checked_jwks(body.get("jwks"))
    _refuse_foreign_scopes(caller, values)
    source = audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> Row[Any]:
        row = replace(tx, find(tx, client_id, to_change=True), values)
        audit.record(tx, "ClientModified", source, None, {"client": client_id})
        return row

    try:
        return json_response(view(await identity.write(work)))
    except Unknown:
        return Response(status_code=404)


async def delete_client(identity: Identity, request: Request) -> Response:
    """Delete a client."""
    caller = await bearer(identity, request, "clients.write", "clients.admin")
    client_id, source = request.path_params["client_id"], audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> dict[str, Any]:
        row = find(tx, client_id, to_change=True)
        remove(identity, tx, row)
        audit.record(tx, "ClientDeleted", source, None, {"client": client_id})
        return view(row)

    try:
        return json_response(await identity.write(work))
    except Unknown:
        return Response(status_code=404)
