"""Random secrets, and files that only their owner may read."""

import os
import secrets
from pathlib import Path

__all__ = ["as_its_owner", "create_private", "password", "write_private"]


def password(characters: int = 32) -> str:
    """A random URL-safe password or client secret; 6 bits of entropy per character. No command takes it for an option."""
    made = ""
    while made.startswith(("-", "_")) or not made:
        made = secrets.token_urlsafe(characters)[:characters]
    return made


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` atomically and durably with a file of mode 0600."""
    temporary = _temporary(path, content)
    temporary.replace(path)
    _sync_directory(path.parent)


def create_private(path: Path, content: bytes) -> bytes:
    """As `write_private`, but the first of several writers wins; returns what the file holds."""
    temporary = _temporary(path, content)
    try:
        os.link(temporary, path)
        _sync_directory(path.parent)
    except FileExistsError:
        return path.read_bytes()
    finally:
        temporary.unlink()
    return content


def as_its_owner(directory: Path, made: int | Path) -> None:
    """What root makes in another user's directory is that user's: a descriptor, or a path that is no link."""
    if os.geteuid() == 0 and (owner := directory.stat()).st_uid != 0:
        os.chown(made, owner.st_uid, owner.st_gid)


def _temporary(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        as_its_owner(path.parent, descriptor)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
