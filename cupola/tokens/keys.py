"""RS256 signing keys: one signs, all verify. A retired key stays until the last token that it signed has ended."""

import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey

from cupola import clock
from cupola.secrets.generated import create_private, write_private

__all__ = ["SigningKeys"]


class _Ring(msgspec.Struct):
    active: str
    keys: dict[str, str]
    until: dict[str, float] = {}
    """When the last token of a retired key ends, in seconds since 1970."""


@dataclass(frozen=True)
class _Loaded:
    """The file as it was at `stamp`. Replaced as a whole, so that no thread sees half of a rotation."""

    stamp: tuple[int, int]
    ring: _Ring
    keys: dict[str, RSAKey]

    def usable(self) -> dict[str, RSAKey]:
        """Keys by id, without those whose last token has ended."""
        if not self.ring.until:
            return self.keys
        now = clock.seconds()
        return {kid: key for kid, key in self.keys.items() if self.ring.until.get(kid, now + 1) > now}


class SigningKeys:
    """The key ring in `path` (mode 0600), made when it is absent. Another process may rotate it: the file is looked at
    again before signing, before the keys are shown, and when a token names a key that is not known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        kid = _new_id()
        if not path.exists():
            create_private(path, _encoded(_Ring(kid, {kid: _new_pem()})))
        self._loaded = self._read()

    def _read(self) -> _Loaded:
        stamp = self._stamp()
        ring = msgspec.json.decode(self._path.read_bytes(), type=_Ring)
        return _Loaded(stamp, ring, {kid: _key(pem) for kid, pem in ring.keys.items()})

    def _stamp(self) -> tuple[int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_ino

    def _current(self) -> _Loaded:
        if self._stamp() != self._loaded.stamp:
            with self._guard:
                if self._stamp() != self._loaded.stamp:
                    self._loaded = self._read()
        return self._loaded

    def rotate(self, keep_seconds: float = 86_400.0) -> str:
        """Sign with a new key from now on; returns its id. Tokens of the old key verify for `keep_seconds` more."""
        with self._guard:
            ring, now = self._read().ring, clock.seconds()
            kid = _new_id()
            until = {old: end for old, end in ring.until.items() if end > now}
            until[ring.active] = now + keep_seconds
            keys = {old: ring.keys[old] for old in until}
            write_private(self._path, _encoded(_Ring(kid, {**keys, kid: _new_pem()}, until)))
            self._loaded = self._read()
        return kid

    def sign(self, claims: dict[str, Any], jku: str) -> str:
        """A compact JWT; `jku` is the URL of /token_keys."""
        loaded = self._current()
        kid = loaded.ring.active
        return jwt.encode({"alg": "RS256", "jku": jku, "kid": kid, "typ": "JWT"}, claims, loaded.keys[kid])

    def verify(self, token: str) -> dict[str, Any]:
        """Claims of a token with a good signature; time and issuer are not judged. Raises ValueError or JoseError."""

        def key_of(found: Any) -> RSAKey:
            kid = str(found.headers().get("kid"))
            key = self._loaded.usable().get(kid) or self._current().usable().get(kid)
            if key is None:
                raise ValueError("the token is signed by an unknown key")
            return key

        return dict(jwt.decode(token, key_of, algorithms=["RS256"]).claims)

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """The body of /token_keys: public parts only, the signing key first."""
        loaded = self._current()
        usable = loaded.usable()
        order = sorted(usable, key=lambda kid: kid != loaded.ring.active)
        return {"keys": [_public(kid, usable[kid]) for kid in order]}

    def active_jwk(self) -> dict[str, Any]:
        """The body of /token_key."""
        loaded = self._current()
        return _public(loaded.ring.active, loaded.keys[loaded.ring.active])


def _public(kid: str, key: RSAKey) -> dict[str, Any]:
    parts = key.as_dict(private=False)
    pem = key.as_pem(private=False).decode()
    return {"kty": "RSA", "e": parts["e"], "n": parts["n"], "use": "sig", "kid": kid, "alg": "RS256", "value": pem}


def _key(pem: str) -> RSAKey:
    # We made the key; proving again that its primes are primes takes a tenth of a second at each start.
    key = serialization.load_pem_private_key(pem.encode(), None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, rsa.RSAPrivateKey)
    return RSAKey.import_key(key)


def _new_id() -> str:
    return f"key-{secrets.token_hex(4)}"


def _new_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _encoded(ring: _Ring) -> bytes:
    return msgspec.json.encode(ring)
