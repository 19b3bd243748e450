"""Bearer tokens at the identity server's own endpoints."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joserfc.errors import JoseError
from starlette.requests import Request

from cupola import clock
from cupola.uaa.problems import bad_token, forbidden

if TYPE_CHECKING:
    from cupola.uaa.service import Identity

__all__ = ["Bearer", "bearer"]


@dataclass(frozen=True)
class Bearer:
    """A good token."""

    claims: dict[str, Any]

    @property
    def scopes(self) -> set[str]:
        return set(self.claims.get("scope") or ())

    @property
    def user_guid(self) -> str | None:
        """None for a client's token."""
        return self.claims.get("user_id")

    def require(self, *scopes: str) -> None:
        """Raises 403 unless the token has one of them."""
        if self.scopes.isdisjoint(scopes):
            raise forbidden(*scopes)

    @staticmethod
    def judged(identity: "Identity", token: str) -> "Bearer":
        """Check signature, issuer, time and revocation. Raises 401. Blocking."""
        try:
            claims = identity.keys.verify(token)
        except (JoseError, ValueError, TypeError):
            raise bad_token("The token is malformed or was signed by somebody else") from None
        if claims.get("iss") != f"{identity.settings.uaa_url}/oauth/token":
            raise bad_token("The token was issued by another server")
        if not isinstance(claims.get("exp"), int) or claims["exp"] <= clock.seconds():
            raise bad_token("The token expired, was revoked, or the token ID is incorrect.")
        if identity.is_revoked(claims):
            raise bad_token("The token expired, was revoked, or the token ID is incorrect.")
        return Bearer(claims)


async def bearer(identity: "Identity", request: Request) -> Bearer:
    """The token of a request. Raises 401."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise bad_token("Full authentication is required to access this resource")
    return await asyncio.to_thread(Bearer.judged, identity, token.strip())
