"""From an Authorization header to the actor of a request, as the Cloud Controller judges tokens."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from joserfc.errors import JoseError

from cupola import errors
from cupola.roles import Actor

__all__ = ["API", "Authenticator", "Keys", "KeysUnavailable"]

API = frozenset({"cloud_controller"})
"""Whom a token of the API must be meant for (`aud`)."""
CAPACITY = 10_000


class KeysUnavailable(Exception):
    """The keys of another identity server cannot be had at the moment; the text says why."""


class Keys(Protocol):
    """What tells good signatures from bad ones."""

    def verify(self, token: str) -> dict[str, Any]:
        """Claims of a token with a good signature; time and issuer are not judged.

        Raises ValueError, TypeError or JoseError for a bad token, KeysUnavailable.
        """


class Authenticator:
    """`is_revoked(claims)` is asked at every request and so must answer from memory. `issuer` is None where `keys` judge it,
    `seen` is told of the actor of each token that is new and good."""

    def __init__(
        self,
        keys: Keys,
        issuer: str | None,
        is_revoked: Callable[[Mapping[str, Any]], bool],
        seen: Callable[[Actor], None] | None = None,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._is_revoked = is_revoked
        self._seen = seen
        self._cache: OrderedDict[bytes, tuple[Mapping[str, Any], Actor]] = OrderedDict()
        self._guard = threading.Lock()

    def authenticate(self, authorization_header: str | None, now: float, audiences: Collection[str] = API) -> Actor:
        """The actor of a token that is meant for one of `audiences`; `now` in seconds since 1970.

        Raises CF-NotAuthenticated (no token), CF-InvalidAuthToken (a bad one), CF-ServiceUnavailable.
        """
        if not authorization_header:
            raise errors.not_authenticated()
        scheme, _, token = authorization_header.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise errors.invalid_auth_token()
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        with self._guard:
            found = self._cache.get(digest)
        if found is None:
            found = self._judged(token)
            if self._seen is not None and found[0]["exp"] > now:
                self._seen(found[1])
            with self._guard:
                self._cache[digest] = found
                while len(self._cache) > CAPACITY:
                    self._cache.popitem(last=False)
        claims, actor = found
        if claims["exp"] <= now or claims.get("nbf", 0) > now or self._is_revoked(claims):
            with self._guard:
                self._cache.pop(digest, None)
            raise errors.invalid_auth_token()
        if not any(one in claims["aud"] for one in audiences):
            raise errors.invalid_auth_token()
        return actor

    def forget(self) -> None:
        """Look at every token's signature anew: a key is no longer good."""
        with self._guard:
            self._cache.clear()

    def _judged(self, token: str) -> tuple[Mapping[str, Any], Actor]:
        try:
            claims = self._keys.verify(token)
        except KeysUnavailable as error:
            raise errors.service_unavailable(str(error)) from error
        except (JoseError, ValueError, TypeError) as error:
            raise errors.invalid_auth_token() from error
        audience = claims.get("aud")
        scopes = claims.get("scope")
        if (
            (self._issuer is not None and claims.get("iss") != self._issuer)
            or not isinstance(audience, list)
            or not _is_time(claims.get("exp"))
            or not _is_time(claims.get("nbf", 0))
            or not isinstance(scopes, list)
            or not isinstance(claims.get("jti"), str)
            or claims["jti"].endswith("-r")
        ):
            raise errors.invalid_auth_token()
        return claims, _actor(claims, frozenset(str(scope) for scope in scopes))


def _is_time(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _actor(claims: Mapping[str, Any], scopes: frozenset[str]) -> Actor:
    user = claims.get("user_id")
    if isinstance(user, str) and user:
        name, email = str(claims.get("user_name", "")), str(claims.get("email", ""))
        return Actor(user, name, scopes, email=email, origin=str(claims.get("origin", "uaa")))
    client = claims.get("client_id")
    if not isinstance(client, str) or not client:
        raise errors.invalid_auth_token()
    return Actor(client, client, scopes, is_client=True)
