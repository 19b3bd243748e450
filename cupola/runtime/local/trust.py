"""Certificates that instances trust besides the stack's own: the operator's, the platform's and the cell's authorities.

They lie as `*.crt` in one directory (`CF_SYSTEM_CERT_PATH`), and are added to the bundle of the instances' own /etc.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["PLACE", "Trust"]

PLACE = "/etc/cf-system-certificates"
_BUNDLES = ("ssl/certs/ca-certificates.crt", "pki/tls/certs/ca-bundle.crt")


class Trust:
    """`directory` is where the certificates lie, `etc` the instances' shared /etc or None; `sources` name to file."""

    def __init__(self, directory: Path, etc: Path | None, sources: Mapping[str, Path]) -> None:
        self._directory = directory
        self._etc = etc
        self._sources = sources
        self._bundles: dict[str, bytes] = {}

    def begin(self) -> None:
        """Note what the stack trusts by itself. Call when the instances' /etc has just been made."""
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name in _BUNDLES if self._etc is not None else ():
            with contextlib.suppress(OSError):
                assert self._etc is not None
                self._bundles[name] = (self._etc / name).read_bytes()
        self.sync()

    def sync(self) -> None:
        """Bring what instances see to what the files hold now; running instances see it as well."""
        found = {f"{name}.crt": content for name, file in self._sources.items() if (content := _read(file))}
        for present in self._directory.glob("*.crt"):
            if present.name not in found:
                present.unlink()
        for name, content in found.items():
            _replace(self._directory / name, content)
        added = b"".join(content.rstrip() + b"\n" for content in found.values())
        for name, content in self._bundles.items():
            assert self._etc is not None
            _replace(self._etc / name, content.rstrip() + b"\n" + added)


def _read(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError:
        return b""
    return content if b"-----BEGIN CERTIFICATE-----" in content and b"PRIVATE KEY" not in content else b""


def _replace(file: Path, content: bytes) -> None:
    with contextlib.suppress(OSError):
        if file.read_bytes() == content:
            return
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "wb") as target:
        target.write(content)
    temporary.replace(file)
