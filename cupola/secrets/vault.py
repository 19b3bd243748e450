"""Encryption at rest: AES-256-GCM with a ring of keys.

A sealed value is `v1:KEY-ID:BASE64(nonce + ciphertext)`. Its context is authenticated, so a value that was copied to
another column does not open.
"""

import base64
import binascii
import os
import secrets
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cupola.secrets.generated import create_private, write_private

__all__ = ["Vault", "VaultProblem"]

FILE = "vault.json"


class VaultProblem(Exception):
    """A value or the key file cannot be opened; the text says why and what to do."""


class _Ring(msgspec.Struct):
    active: str
    keys: dict[str, bytes]


class Vault:
    """Seals with the active key; opens with any key of the ring."""

    def __init__(self, path: Path, ring: _Ring) -> None:
        self._path = path
        self._ring = ring

    @classmethod
    def load_or_create(cls, directory: Path) -> "Vault":
        """The ring in `directory`, made at the first call (mode 0600). Raises VaultProblem."""
        path = directory / FILE
        first = secrets.token_hex(4)
        try:
            if path.exists():
                content = path.read_bytes()
            else:
                content = create_private(path, msgspec.json.encode(_Ring(first, {first: os.urandom(32)})))
            ring = msgspec.json.decode(content, type=_Ring)
        except (OSError, msgspec.DecodeError) as error:
            raise VaultProblem(f"cannot read the key file {path}: {error}; restore it from a backup") from error
        if ring.active not in ring.keys or any(len(key) != 32 for key in ring.keys.values()):
            raise VaultProblem(f"the key file {path} is damaged: restore it from a backup")
        return cls(path, ring)

    def seal(self, plain: bytes, context: str) -> str:
        """Encrypt for the place that `context` names."""
        nonce = os.urandom(12)
        key = self._ring.active
        sealed = nonce + AESGCM(self._ring.keys[key]).encrypt(nonce, plain, _bound(key, context))
        return f"v1:{key}:{base64.b64encode(sealed).decode()}"

    def open(self, sealed: str, context: str) -> bytes:
        """The plain value. Raises VaultProblem when it was altered, moved, or its key is gone."""
        version, _, rest = sealed.partition(":")
        key, _, text = rest.partition(":")
        if version != "v1":
            raise VaultProblem(f"a secret of {context} is not in a form that this version writes")
        if key not in self._ring.keys:
            raise VaultProblem(
                f"a secret of {context} needs the key {key}, which {self._path} lacks: restore that file"
            )
        try:
            raw = base64.b64decode(text, validate=True)
            return AESGCM(self._ring.keys[key]).decrypt(raw[:12], raw[12:], _bound(key, context))
        except (binascii.Error, ValueError, InvalidTag) as error:
            raise VaultProblem(f"a secret of {context} is damaged: restore the database from a backup") from error

    def rotate(self) -> str:
        """Add a key and make it the active one; returns its id. Old values still open."""
        key = secrets.token_hex(4)
        ring = _Ring(key, {**self._ring.keys, key: os.urandom(32)})
        write_private(self._path, msgspec.json.encode(ring))
        self._ring = ring
        return key

    def reseal(self, sealed: str, context: str) -> str:
        """The same value under the active key; unchanged when it is already."""
        if sealed.startswith(f"v1:{self._ring.active}:"):
            return sealed
        return self.seal(self.open(sealed, context), context)


def _bound(key: str, context: str) -> bytes:
    return f"v1:{key}:{context}".encode()
