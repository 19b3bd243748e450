"""Password and secret hashes: argon2id for new ones, bcrypt for users imported from a UAA. Slow: never on the loop."""

import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence

import argon2
import bcrypt
from argon2.exceptions import InvalidHashError, VerificationError

__all__ = ["MOST", "Passwords", "importable"]

MOST = 255
"""Characters of a password; the policy that a UAA has by default (0 to 255 of any kind), less the empty one."""
_BCRYPT = ("$2a$", "$2b$", "$2y$", "{bcrypt}")
_REMEMBERED = 1000


class Passwords:
    """Hashes with `memory_kib` KiB of memory each (RFC 9106)."""

    def __init__(self, memory_kib: int) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=2, memory_cost=memory_kib, parallelism=1)
        # Compared with when there is no such user, so that the answer takes as long and tells nothing.
        self._nobody = self._hasher.hash(secrets.token_hex(16))
        self._key = secrets.token_bytes(32)
        self._good: OrderedDict[bytes, None] = OrderedDict()
        self._guard = threading.Lock()

    def hash(self, password: str) -> str:
        """A new argon2id hash."""
        return self._hasher.hash(password)

    def matches(self, password: str, kept: str | None) -> bool:
        """Whether `password` is the one that was hashed; takes as long when there is none."""
        if kept is None:
            self._verify(password, self._nobody)
            return False
        if kept.startswith(_BCRYPT):
            return _bcrypt_matches(password, kept)
        return self._verify(password, kept)

    def is_old(self, kept: str) -> bool:
        """Whether a hash should be made anew, now that its password is known."""
        return kept.startswith(_BCRYPT) or self._hasher.check_needs_rehash(kept)

    def secret_matches(self, secret: str, kept: Sequence[str]) -> bool:
        """Whether a client's secret is one of those that were hashed; an empty text in `kept` stands for no secret.

        Clients come back with every request, so good ones are remembered (as a keyed digest) and answered at once.
        """
        if "" in kept and secret == "":
            return True
        hashes = [one for one in kept if one]
        for one in hashes:
            mark = hmac.digest(self._key, f"{one}\n{secret}".encode("utf-8", "surrogatepass"), hashlib.sha256)
            with self._guard:
                if mark in self._good:
                    self._good.move_to_end(mark)
                    return True
            if self.matches(secret, one):
                with self._guard:
                    self._good[mark] = None
                    while len(self._good) > _REMEMBERED:
                        self._good.popitem(last=False)
                return True
        if not hashes:
            self.matches(secret, None)
        return False

    def _verify(self, password: str, kept: str) -> bool:
        try:
            return self._hasher.verify(kept, password)
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False


def _bcrypt_matches(password: str, kept: str) -> bool:
    try:
        # UAA's hasher, too, looks at the first 72 bytes only.
        return bcrypt.checkpw(password.encode()[:72], kept.removeprefix("{bcrypt}").encode())
    except ValueError:
        return False


def importable(kept: str) -> bool:
    """Whether a hash of another system can be used here: bcrypt, with or without UAA's `{bcrypt}`, or argon2id."""
    if kept.startswith("$argon2id$"):
        try:
            argon2.extract_parameters(kept)
        except InvalidHashError:
            return False
        return True
    try:
        bcrypt.checkpw(b"", kept.removeprefix("{bcrypt}").encode())
    except ValueError:
        return False
    return kept.startswith(_BCRYPT)
