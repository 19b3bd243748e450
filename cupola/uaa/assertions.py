"""Signed statements that stand for a secret or a password: private_key_jwt of clients (RFC 7523 section 2.2), tokens of
ours in exchange for others (RFC 7523 section 2.1, RFC 8693)."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import Row, select
from sqlalchemy.exc import IntegrityError

from cupola import clock
from cupola.store import identity as tables
from cupola.store.database import Tx
from cupola.uaa import codes
from cupola.uaa.problems import Problem, bad_client, bad_request
from cupola.uaa.service import Identity

__all__ = ["CLIENT_ASSERTION", "client_of", "issuer_of", "prove_client", "subject"]

CLIENT_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST = 3600
"""Seconds for which a client's assertion may be good: that long its id is remembered."""


def client_of(assertion: str) -> str:
    """The client that an assertion says it is of; nothing is proven yet. Raises 401."""
    found = _said(assertion, "sub")
    if found is None or "\0" in found:
        raise bad_client()
    return found


def issuer_of(assertion: str) -> str | None:
    """The issuer that an assertion says it is of; nothing is proven yet."""
    return _said(assertion, "iss")


def _said(assertion: str, claim: str) -> str | None:
    try:
        part = assertion.split(".")[1]
        found = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))[claim]
    except (IndexError, binascii.Error, ValueError, TypeError, KeyError, msgspec.DecodeError):
        return None
    return found if isinstance(found, str) else None


async def prove_client(identity: Identity, row: Row[Any], assertion: str) -> None:
    """Check a client's assertion by its public keys. Each is good once. Raises 401."""
    if row.jwks is None:
        raise bad_client()
    try:
        # Which algorithms there are is our choice, not the assertion's: a public key is never taken for a shared one.
        claims = jwt.decode(assertion, KeySet.import_key_set(row.jwks), algorithms=["RS256"]).claims
    except (JoseError, ValueError, TypeError):
        raise bad_client() from None
    now = clock.seconds()
    exp, nbf = claims.get("exp"), claims.get("nbf", 0)
    audience = claims.get("aud")
    meant = identity.issuer_url in (audience if isinstance(audience, list) else [audience])
    in_time = isinstance(exp, int) and isinstance(nbf, int) and nbf <= now < exp <= now + LONGEST
    if claims.get("iss") != row.client_id or claims.get("sub") != row.client_id or not meant or not in_time:
        raise bad_client()
    name = f"{row.client_id} {claims.get('jti') or tables.digest(assertion)}"
    try:
        await identity.write(lambda tx: codes.new(tx, "assertion", None, None, {}, code=name, seconds=LONGEST))
    except IntegrityError:
        raise bad_client() from None


async def subject(identity: Identity, client_id: str, token: str, name: str) -> tuple[Mapping[str, Any], Row[Any]]:
    """Claims and user of a token of ours that `client_id` hands in as the parameter `name`. Raises 400.

    An access token must be able to act for the user (`uaa.user`) and be meant for the client, as an id token must.
    """
    if not token:
        raise bad_request(f"{name} parameter not provided")
    if token.count(".") != 2:
        raise bad_request(f"The {name} is not a signed token.", "invalid_grant")
    try:
        claims = await identity.thread(lambda: identity.signed_claims(token))
    except Problem as problem:
        raise bad_request(problem.description, "invalid_grant") from None
    if client_id not in claims.get("aud", ()):
        raise bad_request(f"The {name} is not meant for this client.", "invalid_grant")
    if "scope" in claims and "uaa.user" not in claims["scope"]:
        raise bad_request(f"The {name} lacks the scope uaa.user.", "invalid_grant")

    def work(tx: Tx) -> Row[Any] | None:
        users = tables.identities
        return tx.one(select(users).where(users.c.guid == claims.get("user_id", ""), users.c.active.is_(True)))

    user = await identity.read(work)
    if user is None:
        raise bad_request(f"The {name} is not of a user.", "invalid_grant")
    return claims, user
