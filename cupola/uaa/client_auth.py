"""Which client is asking: HTTP basic, form fields, a signed assertion (RFC 7523), or none where a public client proves
itself by PKCE (RFC 7636)."""

import base64
import binascii
from typing import Any
from urllib.parse import unquote_plus

from sqlalchemy import Row, select
from starlette.requests import Request

from cupola.store import identity as tables
from cupola.uaa import audit
from cupola.uaa.assertions import CLIENT_ASSERTION, client_of, prove_client
from cupola.uaa.issue import Client
from cupola.uaa.problems import Problem, bad_client, bad_request
from cupola.uaa.service import Identity

__all__ = ["authenticate", "find_row"]


async def authenticate(identity: Identity, request: Request, form: dict[str, str], *, public: bool = False) -> Client:
    """The client of a request; `public`: one without a secret will do if it may. Raises 401."""
    if form.get("client_assertion"):
        return await _by_assertion(identity, request, form)
    client_id, secret = _credentials(request, form)
    row = await find_row(identity, client_id)
    if secret is None:
        if public and row is not None and row.allow_public:
            return identity.issuer.client(row, "none")
        # A client whose secret is empty need not send it.
        if row is None or "" not in row.secret_hashes:
            raise bad_client("Missing credentials")
        secret = ""
    kept = row.secret_hashes if row is not None else []
    given = secret
    if not await identity.hashing(lambda: identity.passwords.secret_matches(given, kept)) or row is None:
        if row is not None:
            source = audit.Source.of(request, row.client_id)
            await identity.write(lambda tx: audit.record(tx, "ClientAuthenticationFailure", source))
        raise bad_client()
    return identity.issuer.client(row, "empty" if not secret else "secret")


async def _by_assertion(identity: Identity, request: Request, form: dict[str, str]) -> Client:
    assertion = form["client_assertion"]
    if form.get("client_assertion_type") != CLIENT_ASSERTION:
        raise bad_client()
    if "client_secret" in form or "authorization" in request.headers:
        raise bad_request("A client proves itself in one way only.")
    client_id = client_of(assertion)
    if form.get("client_id", client_id) != client_id:
        raise Problem(401, "invalid_client", "Given client ID does not match authenticated client")
    row = await find_row(identity, client_id)
    if row is None:
        raise bad_client()
    await prove_client(identity, row, assertion)
    return identity.issuer.client(row, "private_key_jwt")


async def find_row(identity: Identity, client_id: str) -> Row[Any] | None:
    """A client by its id."""
    table = tables.oauth_clients
    return await identity.read(lambda tx: tx.one(select(table).where(table.c.client_id == client_id)))


def _credentials(request: Request, form: dict[str, str]) -> tuple[str, str | None]:
    header = request.headers.get("authorization", "")
    if header.lower().startswith("basic "):
        try:
            text = base64.b64decode(header[6:].strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise bad_client() from None
        client_id, _, secret = text.partition(":")
        if request.headers.get("x-cf-encoded-credentials", "").lower() == "true":
            client_id, secret = unquote_plus(client_id), unquote_plus(secret)
        if form.get("client_id", client_id) != client_id:
            raise Problem(401, "invalid_client", "Given client ID does not match authenticated client")
        if "\0" in client_id:
            raise bad_client()
        return client_id, secret
    if form.get("client_id"):
        return form["client_id"], form.get("client_secret")
    raise bad_client("Missing credentials")
