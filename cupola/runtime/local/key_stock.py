"""Keys for instances, made ahead: an RSA key costs 40 ms and more, and after a restart of the machine many start at once.

The stock is a directory that only the cell's user may enter; a key leaves it before it is used, so none is used twice.
"""

import contextlib
import os
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

__all__ = ["KeyStock"]

_AT_ONCE = 8
"""Keys that are made without a pause."""
_PAUSE_SECONDS = 1.0
"""Between two keys of a fuller stock: a few hundredths of a processor, for some minutes after the first start."""


class KeyStock:
    """For threads. `size` keys are kept ready in `directory`."""

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        self._size = size
        self._guard = threading.Lock()
        self._ready: list[Path] = []
        self._taken = threading.Event()
        self._closing = threading.Event()
        self._maker: threading.Thread | None = None

    def open(self) -> None:
        """Begin to fill the stock, in a thread that yields to everything else. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._directory.glob(".*"):
            left.unlink()  # its writing was interrupted
        with self._guard:
            self._ready = list(self._directory.glob("*.key"))
        self._maker = threading.Thread(target=self._fill, name="identity-keys", daemon=True)
        self._maker.start()

    def close(self) -> None:
        """End the thread; what is there stays."""
        self._closing.set()
        self._taken.set()
        if self._maker is not None:
            self._maker.join(5)

    def take(self) -> "rsa.RSAPrivateKey":
        """A key that nobody else has; one that is made now when there is none in stock."""
        while (file := self._next()) is not None:
            with contextlib.suppress(OSError, ValueError, TypeError):
                pem = file.read_bytes()
                # Two cells of one directory, or a broken file: who removed it has it.
                file.unlink()
                return _loaded(pem)
        return _made()

    def __len__(self) -> int:
        """Keys in stock."""
        with self._guard:
            return len(self._ready)

    def _next(self) -> Path | None:
        self._taken.set()
        with self._guard:
            return self._ready.pop() if self._ready else None

    def _put(self, pem: bytes) -> Path:
        name = f"{uuid.uuid4().hex}.key"
        descriptor = os.open(self._directory / f".{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            target.write(pem)
        return (self._directory / f".{name}").rename(self._directory / name)

    def _fill(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 15)
        while not self._closing.is_set():
            self._taken.clear()
            if len(self) >= self._size:
                self._taken.wait()
                continue
            try:
                file = self._put(_pem(_made()))
            except OSError:
                # The disk is full: keys are made when they are needed.
                self._closing.wait(60)
                continue
            with self._guard:
                self._ready.append(file)
            if len(self) >= min(_AT_ONCE, self._size):
                self._closing.wait(_PAUSE_SECONDS)


def _made() -> "rsa.RSAPrivateKey":
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _pem(key: "rsa.RSAPrivateKey") -> bytes:
    from cryptography.hazmat.primitives import serialization

    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _loaded(pem: bytes) -> "rsa.RSAPrivateKey":
    """Raises ValueError, TypeError. The check of a key costs as much as a new one, and this one is of our making."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    found = serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(found, rsa.RSAPrivateKey):
        raise TypeError("no RSA key")
    return found
