"""Encryption at rest: AES-256-GCM with a ring of keys.

A sealed value is `v1:KEY-ID:BASE64(nonce + ciphertext)`. Its context is authenticated, so a value that was copied to
another column does not open.
"""

import base64
import binascii
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cupola import clock
from cupola.secrets.generated import create_private, write_private

__all__ = ["Vault", "VaultProblem"]

FILE = "vault.json"
Stamp = tuple[int, int]


class VaultProblem(Exception):
    """A value or the key file cannot be opened; the text says why and what to do."""


class _Ring(msgspec.Struct):
    active: str
    keys: dict[str, bytes]
    since: dict[str, float] = {}
    """When a key became the active one, in seconds since 1970; nothing is said of the first."""


class Vault:
    """Seals with the active key; opens with any key of the ring. Another process may rotate it: the file is looked at
    again before sealing, and when a value names a key that is not known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Replaced as a whole, so that no thread sees half of a rotation.
        self._loaded = _read(path)

    @classmethod
    def load_or_create(cls, directory: Path) -> "Vault":
        """The ring in `directory`, made at the first call (mode 0600). Raises VaultProblem."""
        path = directory / FILE
        first = secrets.token_hex(4)
        try:
            if not path.exists():
                create_private(path, msgspec.json.encode(_Ring(first, {first: os.urandom(32)})))
        except OSError as error:
            raise VaultProblem(f"cannot make the key file {path}: {error}") from error
        return cls(path)

    @property
    def active(self) -> str:
        """The id of the key that seals."""
        return self._current().active

    @property
    def keys(self) -> dict[str, float]:
        """Key ids, the active one last, and since when they seal or sealed (0: since the beginning)."""
        ring = self._current()
        return {key: ring.since.get(key, 0.0) for key in sorted(ring.keys, key=lambda key: ring.since.get(key, 0.0))}

    def _current(self) -> _Ring:
        if _stamp(self._path) != self._loaded[0]:
            self._loaded = _read(self._path)
        return self._loaded[1]

    def seal(self, plain: bytes, context: str) -> str:
        """Encrypt for the place that `context` names."""
        nonce = os.urandom(12)
        ring = self._current()
        key = ring.active
        sealed = nonce + AESGCM(ring.keys[key]).encrypt(nonce, plain, _bound(key, context))
        return f"v1:{key}:{base64.b64encode(sealed).decode()}"

    def open(self, sealed: str, context: str) -> bytes:
        """The plain value. Raises VaultProblem when it was altered, moved, or its key is gone."""
        version, _, rest = sealed.partition(":")
        key, _, text = rest.partition(":")
        if version != "v1":
            raise VaultProblem(f"a secret of {context} is not in a form that this version writes")
        found = self._loaded[1].keys.get(key) or self._current().keys.get(key)
        if found is None:
            raise VaultProblem(
                f"a secret of {context} needs the key {key}, which {self._path} lacks: restore that file"
            )
        try:
            raw = base64.b64decode(text, validate=True)
            return AESGCM(found).decrypt(raw[:12], raw[12:], _bound(key, context))
        except (binascii.Error, ValueError, InvalidTag) as error:
            raise VaultProblem(f"a secret of {context} is damaged: restore the database from a backup") from error

    def derive(self, purpose: str) -> list[bytes]:
        """Keys of 32 bytes for another program, one of each key of the ring, that of the active key first."""
        ring = self._current()
        order = sorted(ring.keys, key=lambda key: key != ring.active)
        return [HKDF(SHA256(), 32, None, _bound(key, purpose)).derive(ring.keys[key]) for key in order]

    def rotate(self) -> str:
        """Add a key and make it the active one; returns its id. Old values still open."""
        with self._alone():
            ring, key = self._current(), secrets.token_hex(4)
            self._write(_Ring(key, {**ring.keys, key: os.urandom(32)}, {**ring.since, key: clock.seconds()}))
        return key

    def forget(self, key: str) -> None:
        """Take an old key out of the ring: what it sealed is lost. Raises ValueError for the active one."""
        with self._alone():
            ring = self._current()
            if key == ring.active:
                raise ValueError(f"{key} is the active key")
            kept = {name: value for name, value in ring.keys.items() if name != key}
            since = {name: value for name, value in ring.since.items() if name != key}
            self._write(_Ring(ring.active, kept, since))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the directory's lock, so that of two who change the ring at once neither loses a key."""
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, ring: _Ring) -> None:
        write_private(self._path, msgspec.json.encode(ring))
        self._loaded = _read(self._path)

    def reseal(self, sealed: str, context: str) -> str:
        """The same value under the active key; unchanged when it is already."""
        if sealed.startswith(f"v1:{self.active}:"):
            return sealed
        return self.seal(self.open(sealed, context), context)


def _read(path: Path) -> tuple[Stamp, _Ring]:
    try:
        stamp = _stamp(path)
        ring = msgspec.json.decode(path.read_bytes(), type=_Ring)
    except (OSError, msgspec.DecodeError) as error:
        raise VaultProblem(f"cannot read the key file {path}: {error}; restore it from a backup") from error
    if ring.active not in ring.keys or any(len(key) != 32 for key in ring.keys.values()):
        raise VaultProblem(f"the key file {path} is damaged: restore it from a backup")
    return stamp, ring


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_ino


def _bound(key: str, context: str) -> bytes:
    return f"v1:{key}:{context}".encode()
