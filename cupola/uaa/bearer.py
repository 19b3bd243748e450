"""Bearer tokens at the identity server's own endpoints."""

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from cupola.uaa.problems import forbidden, not_logged_in
from cupola.uaa.service import Identity

__all__ = ["Bearer", "bearer"]

ADMIN = "uaa.admin"


@dataclass(frozen=True)
class Bearer:
    """A good token."""

    claims: dict[str, Any]

    @property
    def scopes(self) -> set[str]:
        return set(self.claims["scope"])

    @property
    def user_guid(self) -> str | None:
        """None for a client's token."""
        return self.claims.get("user_id")

    @property
    def client_id(self) -> str:
        return str(self.claims["client_id"])

    @property
    def is_admin(self) -> bool:
        """Whether the token may do anything here."""
        return ADMIN in self.claims["scope"]

    def has(self, *scopes: str) -> bool:
        """Whether the token has one of the scopes, or uaa.admin."""
        return not self.scopes.isdisjoint((*scopes, ADMIN))

    def require(self, *scopes: str) -> None:
        """Raises 403 unless the token has one of them, or uaa.admin."""
        if not self.has(*scopes):
            raise forbidden(*scopes)


async def bearer(identity: Identity, request: Request, *scopes: str) -> Bearer:
    """The token of a request, with one of `scopes` if there are any. Raises 401, 403."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise not_logged_in()
    found = Bearer(await identity.thread(lambda: identity.claims(token.strip())))
    if scopes:
        found.require(*scopes)
    return found
