"""Secrets and public keys of clients: changed, and rotated without an interruption (two are good for a while)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, update
from starlette.requests import Request
from starlette.responses import Response

from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit
from cupola.uaa.bearer import Bearer, bearer
from cupola.uaa.client_body import checked_jwks, checked_secret, invalid
from cupola.uaa.clients import Unknown, find
from cupola.uaa.forms import document
from cupola.uaa.problems import forbidden, json_response
from cupola.uaa.service import Identity

__all__ = ["Change", "apply", "change_keys", "change_secret", "prepared"]

clients = tables.oauth_clients
_DONE = {"UPDATE": "updated", "ADD": "added", "DELETE": "deleted"}


@dataclass(frozen=True)
class Change:
    """A change of a client's secret, hashed already; `seen` are the hashes that the old secret was compared with."""

    client_id: str
    mode: str
    hashed: str | None
    seen: list[str] | None


def _may(caller: Bearer, client_id: str) -> bool:
    """Whether the caller is an administrator of clients. Raises 400, 403 for who may not change this one."""
    if caller.has("clients.admin"):
        return True
    caller.require("clients.secret")
    if caller.client_id != client_id or caller.user_guid is not None:
        raise invalid("Bad request. Not permitted to change another client's secret")
    return False


async def prepared(identity: Identity, caller: Bearer, client_id: str, body: Mapping[str, Any]) -> Change:
    """A change of a secret as a request wants it. Raises 400, 403, Unknown."""
    is_admin = _may(caller, client_id)
    mode = str(body.get("changeMode") or "UPDATE").upper()
    if mode not in _DONE:
        raise invalid(f"changeMode must be one of: {', '.join(_DONE)}")
    row = await identity.read(lambda tx: find(tx, client_id))
    if not is_admin:
        old = body.get("oldSecret")
        kept = row.secret_hashes
        if not isinstance(old, str) or not await identity.hashing(lambda: identity.passwords.secret_matches(old, kept)):
            raise invalid("Previous secret is required and must be valid")
    if mode == "DELETE":
        return Change(client_id, mode, None, None if is_admin else row.secret_hashes)
    secret = checked_secret(body.get("secret"))
    if not secret and ("client_credentials" in row.grant_types or mode == "ADD"):
        raise invalid("client secret is either empty or client already has two secrets.")
    hashed = await identity.hashing(lambda: identity.passwords.hash(secret)) if secret else ""
    return Change(client_id, mode, hashed, None if is_admin else row.secret_hashes)


def apply(identity: Identity, tx: Tx, change: Change) -> Row[Any]:
    """Do it. Raises 400, Unknown.

    A replaced secret takes its tokens along; one that is added or removed in a rotation leaves the sessions alone.
    """
    row = find(tx, change.client_id, to_change=True)
    kept = list(row.secret_hashes)
    if change.seen is not None and change.seen != kept:
        raise invalid("Previous secret is required and must be valid")
    if change.mode == "ADD":
        if len(kept) > 1:
            raise invalid("client secret is either empty or client already has two secrets.")
        kept = [*kept, str(change.hashed)]
    elif change.mode == "DELETE":
        if len(kept) < 2:
            raise invalid("client secret is either empty or client has only one secret.")
        kept = kept[1:]
    else:
        kept = [str(change.hashed)]
        identity.revoke_client(tx, row.client_id)
    statement = update(clients).where(clients.c.client_id == row.client_id)
    tx.run(statement.values(secret_hashes=kept, updated_at=tx.now))
    return find(tx, row.client_id)


async def change_secret(identity: Identity, request: Request) -> Response:
    """Replace the secret, add a second one, or remove the older of two."""
    caller, client_id = await bearer(identity, request), request.path_params["client_id"]
    body = await document(request, "invalid_client")
    if body.get("clientId", client_id) != client_id:
        raise invalid("The clientId in the body is not that of the path.")
    source = audit.Source.of(request, caller=caller)
    try:
        change = await prepared(identity, caller, client_id, body)

        def work(tx: Tx) -> None:
            apply(identity, tx, change)
            audit.record(tx, "SecretChangeSuccess", source, None, {"client": client_id, "mode": change.mode})

        await identity.write(work)
    except Unknown:
        return Response(status_code=404)
    return json_response({"status": "ok", "message": f"Secret is {_DONE[change.mode]}"})


async def change_keys(identity: Identity, request: Request) -> Response:
    """Replace, add or remove the public keys that a client signs its assertions with (private_key_jwt)."""
    caller, client_id = await bearer(identity, request), request.path_params["client_id"]
    itself = caller.user_guid is None and caller.client_id == client_id and caller.has("clients.trust")
    if not itself and not caller.has("clients.admin"):
        raise forbidden("clients.trust", "clients.admin")
    body = await document(request, "invalid_client")
    mode = str(body.get("changeMode") or "UPDATE").upper()
    if mode not in _DONE:
        raise invalid(f"changeMode must be one of: {', '.join(_DONE)}")
    if body.get("jwks_uri") is not None:
        raise invalid("jwks_uri is not supported: give the keys themselves as jwks.")
    given = None if mode == "DELETE" else checked_jwks(body.get("jwks"))
    if mode != "DELETE" and given is None:
        raise invalid("jwks must be given.")
    source = audit.Source.of(request, caller=caller)

    def work(tx: Tx) -> None:
        row = find(tx, client_id, to_change=True)
        kept = list((row.jwks or {}).get("keys", ()))
        if mode == "DELETE":
            kid = body.get("kid")
            kept = [] if kid is None else [key for key in kept if key["kid"] != kid]
        elif mode == "ADD":
            assert given is not None
            kept = [*(key for key in kept if key["kid"] not in {one["kid"] for one in given["keys"]}), *given["keys"]]
        else:
            assert given is not None
            kept = given["keys"]
        values = {"jwks": {"keys": kept} if kept else None, "updated_at": tx.now}
        tx.run(update(clients).where(clients.c.client_id == client_id).values(values))
        audit.record(tx, "ClientJwtChangeSuccess", source, None, {"client": client_id, "mode": mode})

    try:
        await identity.write(work)
    except Unknown:
        return Response(status_code=404)
    return json_response({"status": "ok", "message": f"Client jwt configuration is {_DONE[mode]}"})
