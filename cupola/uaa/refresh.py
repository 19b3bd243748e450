"""Refresh tokens: used again and again by clients with a secret, replaced at each use for those without (RFC 9700)."""

from typing import Any

from sqlalchemy import Row, delete, select, update

from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa.issue import Client, Issuer, Login, user_scopes
from cupola.uaa.problems import Problem, bad_request, bad_token, invalid_scope

__all__ = ["end_session", "refresh"]

_GONE = "The token expired, was revoked, or the token ID is incorrect."


def refresh(
    tx: Tx, issuer: Issuer, client: Client, token: str, wanted: list[str] | None, lifetime: int
) -> dict[str, Any] | Problem:
    """The answer for a refresh token. Raises 400, 401.

    A Problem is returned, not raised, where something is to be committed with it: a replaced token that is used again
    was stolen, from its owner or by its owner from a thief, and ends the session.
    """
    if not token:
        raise bad_request("refresh_token parameter not provided")
    table = tables.refresh_tokens
    row = tx.one(select(table).where(table.c.digest == tables.digest(token)))
    if row is None or row.expires_at <= tx.now:
        raise bad_token(_GONE)
    if row.client_id != client.client_id:
        raise bad_request(f"Wrong client for this refresh token: {client.client_id}", "invalid_grant")
    if row.replaced_at is not None:
        end_session(tx, row.session, lifetime)
        return bad_token(_GONE)
    user = tx.one(select(tables.identities).where(tables.identities.c.guid == row.user_guid))
    if user is None or not user.active:
        raise bad_token(_GONE)
    scopes = _narrowed(tx, client, user, row.scope, wanted)
    details = row.details
    login = Login(
        row.grant_type,
        row.auth_time,
        tuple(details.get("amr", ())),
        details.get("nonce"),
        row.session,
        bool(details.get("opaque")),
        details.get("az_attr"),
    )
    if client.auth_method == "none":
        replaced = update(table).where(table.c.digest == row.digest, table.c.replaced_at.is_(None))
        if not tx.run(replaced.values(replaced_at=tx.now)).rowcount:
            end_session(tx, row.session, lifetime)
            return bad_token(_GONE)
        token = issuer.refresh_token(tx, client, user.guid, login, row.scope)
    return issuer.answer(tx, client, user, login, scopes, token)


def _narrowed(tx: Tx, client: Client, user: Row[Any], kept: list[str], wanted: list[str] | None) -> list[str]:
    if wanted is not None and not set(wanted) <= set(kept):
        shown = " ".join(wanted)
        raise invalid_scope(f"Unable to narrow the scope of the client authentication to [{shown}].", " ".join(kept))
    # What the user or the client lost since is not given again.
    allowed = user_scopes(tx, client, user, None)
    scopes = [scope for scope in (wanted or kept) if scope in allowed]
    if not scopes:
        raise invalid_scope(f"[{' '.join(wanted or kept)}] is invalid. This user is not allowed any of them", "")
    return scopes


def end_session(tx: Tx, session: str, lifetime: int) -> None:
    """End one login: its access tokens and its refresh tokens. `lifetime`: `Identity.lifetime`."""
    tables.revoke(tx, "session", session, expires_at=tx.now + lifetime)
    tx.run(delete(tables.refresh_tokens).where(tables.refresh_tokens.c.session == session))
