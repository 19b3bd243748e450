"""Password and secret hashes: argon2id for new ones, bcrypt for users imported from a UAA. Slow: never on the loop."""

import secrets

import argon2
import bcrypt
from argon2.exceptions import InvalidHashError, VerificationError

__all__ = ["Passwords"]


class Passwords:
    """Hashes with `memory_kib` KiB of memory each (RFC 9106)."""

    def __init__(self, memory_kib: int) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=2, memory_cost=memory_kib, parallelism=1)
        # Compared with when there is no such user, so that the answer takes as long and tells nothing.
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    def hash(self, password: str) -> str:
        """A new argon2id hash."""
        return self._hasher.hash(password)

    def matches(self, password: str, kept: str | None) -> bool:
        """Whether `password` is the one that was hashed; takes as long when there is none."""
        if kept is None:
            self._verify(password, self._nobody)
            return False
        if kept.startswith(("$2a$", "$2b$", "$2y$", "{bcrypt}")):
            return bcrypt.checkpw(password.encode()[:72], kept.removeprefix("{bcrypt}").encode())
        return self._verify(password, kept)

    def _verify(self, password: str, kept: str) -> bool:
        try:
            return self._hasher.verify(kept, password)
        except (VerificationError, InvalidHashError):
            return False
