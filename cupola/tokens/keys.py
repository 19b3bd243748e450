"""RS256 signing keys: one signs, all verify."""

import secrets
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey

from cupola.secrets.generated import create_private, write_private

__all__ = ["SigningKeys"]


class _Ring(msgspec.Struct):
    active: str
    keys: dict[str, str]


class SigningKeys:
    """The key ring in `path` (mode 0600), made when it is absent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        kid = f"key-{secrets.token_hex(4)}"
        content = path.read_bytes() if path.exists() else create_private(path, _encoded(_Ring(kid, {kid: _new_pem()})))
        self._use(msgspec.json.decode(content, type=_Ring))

    def _use(self, ring: _Ring) -> None:
        self._ring = ring
        self._keys = {kid: RSAKey.import_key(pem) for kid, pem in ring.keys.items()}

    def rotate(self) -> str:
        """Sign with a new key from now on; returns its id. Tokens of old keys still verify."""
        kid = f"key-{secrets.token_hex(4)}"
        ring = _Ring(kid, {**self._ring.keys, kid: _new_pem()})
        write_private(self._path, _encoded(ring))
        self._use(ring)
        return kid

    def sign(self, claims: dict[str, Any], jku: str) -> str:
        """A compact JWT; `jku` is the URL of /token_keys."""
        kid = self._ring.active
        return jwt.encode({"alg": "RS256", "jku": jku, "kid": kid, "typ": "JWT"}, claims, self._keys[kid])

    def verify(self, token: str) -> dict[str, Any]:
        """Claims of a token with a good signature; time and issuer are not judged. Raises ValueError or JoseError."""

        def key_of(found: Any) -> RSAKey:
            kid = found.headers().get("kid")
            if not isinstance(kid, str) or kid not in self._keys:
                raise ValueError("the token is signed by an unknown key")
            return self._keys[kid]

        return dict(jwt.decode(token, key_of, algorithms=["RS256"]).claims)

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """The body of /token_keys: public parts only."""
        return {"keys": [self._public(kid) for kid in self._keys]}

    def active_jwk(self) -> dict[str, Any]:
        """The body of /token_key."""
        return self._public(self._ring.active)

    def _public(self, kid: str) -> dict[str, Any]:
        key = self._keys[kid]
        parts = key.as_dict(private=False)
        pem = key.as_pem(private=False).decode()
        return {"kty": "RSA", "e": parts["e"], "n": parts["n"], "use": "sig", "kid": kid, "alg": "RS256", "value": pem}


def _new_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _encoded(ring: _Ring) -> bytes:
    return msgspec.json.encode(ring)
