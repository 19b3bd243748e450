"""/approvals: what a user allowed clients, for the user's own programs. The account page shows the same."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, delete, select
from starlette.requests import Request
from starlette.responses import Response

from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import audit
from cupola.uaa.bearer import Bearer, bearer
from cupola.uaa.forms import listed, parameters
from cupola.uaa.problems import Problem, bad_request, json_response
from cupola.uaa.scim import millis
from cupola.uaa.scopes import covers
from cupola.uaa.service import Identity

__all__ = ["put", "put_of_client", "revoke", "search"]

approvals, clients = tables.approvals, tables.oauth_clients
SCOPE = "oauth.approvals"
_USUAL_SECONDS = 30 * 86_400
"""Seconds for which an approval is good that does not say."""
_STATUS = {"APPROVED": True, "DENIED": False}


async def _user(identity: Identity, request: Request) -> tuple[Bearer, str]:
    caller = await bearer(identity, request, SCOPE)
    if caller.user_guid is None:
        raise Problem(403, "access_denied", "Approvals can only be managed by a user")
    return caller, caller.user_guid


async def search(identity: Identity, request: Request) -> Response:
    """The caller's approvals and denials, without those that an administrator gave for everybody."""
    _, guid = await _user(identity, request)
    return json_response(await identity.read(lambda tx: _shown(tx, guid)))


def _shown(tx: Tx, user: str, client_id: str | None = None) -> list[dict[str, Any]]:
    query = select(approvals, clients.c.autoapprove).join_from(
        approvals, clients, clients.c.client_id == approvals.c.client_id
    )
    where = [approvals.c.user_guid == user, approvals.c.expires_at > tx.now]
    if client_id is not None:
        where.append(approvals.c.client_id == client_id)
    rows = tx.all(query.where(*where).order_by(approvals.c.client_id, approvals.c.scope))
    return [_view(row) for row in rows if not _automatic(row.autoapprove, row.scope)]


def _automatic(patterns: Sequence[str], scope: str) -> bool:
    return "true" in patterns or any(covers(pattern, scope) for pattern in patterns)


def _view(row: Row[Any]) -> dict[str, Any]:
    return {
        "userId": row.user_guid,
        "clientId": row.client_id,
        "scope": row.scope,
        "status": "APPROVED" if row.approved else "DENIED",
        "expiresAt": millis(row.expires_at),
        "lastUpdatedAt": millis(row.updated_at),
    }


async def put(identity: Identity, request: Request) -> Response:
    """Replace all approvals of the caller."""
    return await _replace(identity, request, None)


async def put_of_client(identity: Identity, request: Request) -> Response:
    """Replace the caller's approvals for one client."""
    return await _replace(identity, request, request.path_params["client_id"])


async def _replace(identity: Identity, request: Request, client_id: str | None) -> Response:
    caller, guid = await _user(identity, request)
    wanted = await listed(request, "invalid_request")
    source = audit.Source.of(request, client_id, caller)

    def work(tx: Tx) -> list[dict[str, Any]]:
        if client_id is not None:
            _require_client(tx, client_id)
        given = [_checked(tx, guid, client_id, one) for one in wanted]
        kept = {(one["client_id"], one["scope"]) for one in given if one["approved"]}
        _forget(identity, tx, guid, client_id, kept)
        for one in given:
            key = {"user_guid": guid, "client_id": one["client_id"], "scope": one["scope"]}
            values = {"approved": one["approved"], "expires_at": one["expires_at"], "updated_at": tx.now}
            tables.put(tx, approvals, key, values)
        audit.record(tx, "ApprovalsModified", source, _row(tx, guid))
        return _shown(tx, guid, client_id)

    return json_response(await identity.write(work))


def _checked(tx: Tx, guid: str, client_id: str | None, one: Mapping[str, Any]) -> dict[str, Any]:
    """One approval of a body. Raises 400, 401, 404."""
    if one.get("userId") not in {None, "", guid}:
        text = "Cannot update approvals for another user. Set user_id to null to update for existing user."
        raise Problem(401, "unauthorized_operation", text)
    client, scope, status = one.get("clientId") or client_id, one.get("scope"), one.get("status", "APPROVED")
    if not isinstance(client, str) or not isinstance(scope, str) or not 0 < len(scope) <= 255:
        raise bad_request("An approval has a clientId and a scope.")
    if status not in _STATUS:
        raise bad_request("The status of an approval is APPROVED or DENIED.")
    if client_id is not None and client != client_id:
        raise bad_request(f"These are the approvals for {client_id}, not for {client[:100]}.")
    row = _require_client(tx, client)
    if not any(covers(pattern, scope) for pattern in row.scope):
        raise bad_request(f"The client {client} has no scope {scope}.", "invalid_scope")
    return {
        "client_id": client,
        "scope": scope,
        "approved": _STATUS[status],
        "expires_at": _until(tx, one.get("expiresAt")),
    }


def _until(tx: Tx, text: Any) -> int:
    usual = tx.now + _USUAL_SECONDS * 1_000_000
    if text is None:
        return usual
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise bad_request("expiresAt is no time such as 2026-11-24T10:00:00.000Z.") from None
    until = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    # No longer than what the consent page gives: what one forgot that one allowed comes to an end.
    return min(int(until * 1_000_000), usual)


def _require_client(tx: Tx, client_id: str) -> Row[Any]:
    row = tx.one(select(clients).where(clients.c.client_id == client_id))
    if row is None:
        raise Problem(404, "not_found", f"No client with requested id: {client_id[:255]}")
    return row


def _row(tx: Tx, guid: str) -> Row[Any] | None:
    return tx.one(select(tables.identities).where(tables.identities.c.guid == guid))


def _forget(identity: Identity, tx: Tx, guid: str, client_id: str | None, kept: set[tuple[str, str]]) -> None:
    """Delete approvals; clients that lose a scope by it have their sessions ended."""
    where = [approvals.c.user_guid == guid]
    if client_id is not None:
        where.append(approvals.c.client_id == client_id)
    held = tx.all(select(approvals).where(*where, approvals.c.approved.is_(True)))
    tx.run(delete(approvals).where(*where))
    for client in sorted({row.client_id for row in held if (row.client_id, row.scope) not in kept}):
        identity.revoke_pair(tx, guid, client)


async def revoke(identity: Identity, request: Request) -> Response:
    """No longer allow a client anything: it is asked again, and its sessions end."""
    caller, guid = await _user(identity, request)
    client_id = parameters(request).get("clientId", "")
    source = audit.Source.of(request, client_id, caller)

    def work(tx: Tx) -> None:
        _require_client(tx, client_id)
        _forget(identity, tx, guid, client_id, set())
        audit.record(tx, "ApprovalsDeleted", source, _row(tx, guid))

    await identity.write(work)
    return json_response({"status": "ok", "message": f"Approvals of user {guid} and client {client_id} revoked"})
