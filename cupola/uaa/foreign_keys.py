"""Public keys of another server (RFC 7517): fetched when they are needed, again when a token names one that is not known,
and every few minutes, so that a key which was taken back is no longer trusted."""

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry, extract_compact

from cupola.uaa.outside import Unreachable

__all__ = ["ALGORITHMS", "ForeignKeys", "UnknownKey"]

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"]
"""Signatures that are taken. Never `none`, and none with a shared secret: a public key is not taken for one."""
PAUSE = 10.0
"""Seconds between two fetches, however many tokens name unknown keys."""
STALE = 86_400.0
"""Seconds for which keys are good while their server does not answer."""
MOST = 100

Key = RSAKey | ECKey
Fetch = Callable[[], Awaitable[Mapping[str, Any]]]


class UnknownKey(ValueError):
    """A token is signed by a key that is not known (any more, or yet)."""


class ForeignKeys:
    """What `fetch` gives (a JWK set) within `seconds`, kept. `verify` works from memory, on any thread; `refresh` on one
    loop."""

    def __init__(self, fetch: Fetch, seconds: float, refresh_seconds: float = 300.0) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._refresh_seconds = refresh_seconds
        self._fetching: asyncio.Future[None] | None = None
        self._keys: Sequence[Key] = ()
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")

    def take(self, document: Mapping[str, Any], age: float = 0.0) -> None:
        """Use these keys, as fetched `age` seconds ago. Raises Unreachable when there are none."""
        keys = _usable(document)
        if not keys:
            raise Unreachable("it publishes no key that can verify a signature")
        self._keys = keys
        self._fetched_at = monotonic() - age

    @property
    def known(self) -> bool:
        """Whether there are any."""
        return bool(self._keys)

    @property
    def just_asked(self) -> bool:
        """Whether they were fetched, or could not be, a moment ago: `refresh` would do nothing."""
        return self._fetching is None and monotonic() - self._tried_at < PAUSE

    @property
    def is_due(self) -> bool:
        """Whether it is time to look whether they are still the same."""
        return monotonic() - self._fetched_at >= self._refresh_seconds

    @property
    def is_stale(self) -> bool:
        """Whether they are too old to be trusted."""
        return monotonic() - self._fetched_at >= STALE

    def verify(self, token: str) -> dict[str, Any]:
        """Claims of a token with a good signature, by the keys that are known. Raises UnknownKey, ValueError, JoseError."""
        header = extract_compact(token.encode("ascii"), registry=_REGISTRY).headers()
        kid, algorithm = header.get("kid"), header.get("alg")
        if algorithm not in ALGORITHMS:
            raise ValueError("the token is signed in a way that is not taken")
        if self.is_stale:
            raise UnknownKey("the keys are too old")
        candidates = [key for key in self._keys if _fits(key, kid, str(algorithm))]
        for key in candidates:
            try:
                return dict(jwt.decode(token, key, registry=_REGISTRY).claims)
            except BadSignatureError:
                continue
        if any(key.kid is not None and key.kid == kid for key in candidates):
            raise ValueError("the signature is wrong")
        raise UnknownKey("the token is signed by an unknown key")

    async def verified(self, token: str) -> dict[str, Any]:
        """The same, after a look at the server's keys where that is due. Raises Unreachable besides."""
        if self.is_due:
            await self._try_refresh()
        try:
            return self.verify(token)
        except UnknownKey:
            await self.refresh()
            return self.verify(token)

    async def _try_refresh(self) -> None:
        try:
            await self.refresh()
        except Unreachable:
            if self.is_stale:
                raise

    async def refresh(self) -> None:
        """Fetch them, unless that was just done; who comes meanwhile waits for the same answer. Raises Unreachable."""
        if self._fetching is None:
            if monotonic() - self._tried_at < PAUSE:
                if not self._keys:
                    raise Unreachable("its keys could not be fetched a moment ago")
                return
            self._tried_at = monotonic()
            self._fetching = asyncio.ensure_future(self._fetched())
            self._fetching.add_done_callback(self._ended)
        # Who gives up must not end it for the others.
        await asyncio.shield(self._fetching)

    async def _fetched(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                self.take(await self._fetch())
        except TimeoutError:
            raise Unreachable(f"its keys did not come within {self._seconds:g} seconds") from None

    def _ended(self, fetching: asyncio.Future[None]) -> None:
        self._fetching = None
        if not fetching.cancelled():
            # Looked at here, so that nobody complains when all who waited are gone.
            fetching.exception()


def _registry() -> JWSRegistry:
    # Servers put into the header what they like, such as certificates; what is marked as critical is still refused.
    registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    registry.max_header_length = 16_384
    return registry


_REGISTRY = _registry()
SHORTEST = 2048
"""Bits of an RSA key."""


def _usable(document: Mapping[str, Any]) -> list[Key]:
    listed = document.get("keys")
    found: list[Key] = []
    for one in listed[:MOST] if isinstance(listed, list) else ():
        if not isinstance(one, dict) or one.get("use", "sig") != "sig" or one.get("kty") not in {"RSA", "EC"}:
            continue
        try:
            parts = {name: value for name, value in one.items() if name in _PARTS}
            key = ECKey.import_key(parts) if one["kty"] == "EC" else _rsa(parts)
        except (JoseError, ValueError, TypeError, KeyError, binascii.Error):
            # One key that we cannot read does not make the others unusable.
            continue
        found.append(key)
    return found


def _rsa(parts: dict[str, Any]) -> RSAKey:
    # Looked at before the key is made: the library warns of short ones only.
    modulus = base64.urlsafe_b64decode(parts["n"] + "==")
    if len(modulus.lstrip(b"\0")) * 8 < SHORTEST:
        raise ValueError("the key is too short")
    return RSAKey.import_key(parts)


_PARTS = frozenset({"kty", "kid", "alg", "n", "e", "crv", "x", "y"})
"""Public parts; a server that publishes its private key by mistake is trusted by the public part alone."""


def _fits(key: Key, kid: Any, algorithm: str) -> bool:
    kind = ECKey if algorithm.startswith("ES") else RSAKey
    return isinstance(key, kind) and (kid is None or key.kid is None or key.kid == kid)
