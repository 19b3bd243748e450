"""What was decided with `cupola services enable`: whether databases are offered, on which server, with which secrets.

    DATA/databases/choice.json    root's or the platform's user's, readable by the broker alone
    DATA/databases/postgres/      the database cluster, where it is our own (cluster.py)
    DATA/databases/socket/        where that listens

Imports little: the supervisor asks at every start.
"""

import hashlib
import os
import socket
from pathlib import Path

import msgspec

from cupola.config import Account
from cupola.secrets import generated

__all__ = ["Choice", "Unreadable", "digest", "directory", "free_port", "is_free", "made", "read", "share", "write"]

_FILE = "choice.json"
_PORTS = range(21_000, 30_000)
"""Below what systems give to outgoing connections, so that a port which is remembered stays free."""


class Unreadable(Exception):
    """The file is not what was written; the text names it."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """`server` is the URL of a named server with its administrator; empty: a cluster of our own at 127.0.0.1:`port`."""

    enabled: bool
    server: str = ""
    port: int
    broker_port: int
    """Where the broker listens on 127.0.0.1."""
    secret: str
    """What the passwords of bindings are derived from: with another one they would be others."""
    broker_password: str
    admin_password: str
    """Of the own cluster's superuser."""


def directory(data_dir: Path) -> Path:
    """Where everything of the databases lies."""
    return data_dir / "databases"


def made(before: Choice | None, server: str) -> Choice:
    """An enabled choice; what there was before of ports and secrets stays."""
    if before is not None:
        return msgspec.structs.replace(before, enabled=True, server=server)
    port = free_port()
    return Choice(
        enabled=True,
        server=server,
        port=port,
        broker_port=free_port(other_than=port),
        secret=generated.password(43),
        broker_password=generated.password(43),
        admin_password=generated.password(43),
    )


def read(data_dir: Path) -> Choice | None:
    """What was decided; None when nothing ever was. Raises Unreadable."""
    file = directory(data_dir) / _FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=Choice)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise Unreadable(f"{file} cannot be read ({error}): restore it from a backup") from error


def write(data_dir: Path, choice: Choice, account: Account | None = None) -> None:
    """Keep a decision. `account` is who the broker runs as, where that is another user. Raises OSError."""
    place = directory(data_dir)
    place.mkdir(mode=0o700, exist_ok=True)
    generated.write_private(place / _FILE, msgspec.json.encode(choice))
    if account is not None:
        share(data_dir, account)


def share(data_dir: Path, account: Account) -> None:
    """As root: let the broker's user read the decision and reach the socket, and change nothing."""
    place = directory(data_dir)
    for path, mode in ((place, 0o710), (place / _FILE, 0o640)):
        if path.exists():
            os.chown(path, 0, account.gid)
            path.chmod(mode)


def digest(choice: Choice) -> str:
    """Changes whenever the decision does."""
    return hashlib.sha256(msgspec.json.encode(choice)).hexdigest()[:16]


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        # As servers do: connections that ended a moment ago are nobody's.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(other_than: int = 0) -> int:
    """A port of 127.0.0.1 on which nobody listens now. Raises OSError."""
    start = int.from_bytes(os.urandom(4), "big") % len(_PORTS)
    for port in (*_PORTS[start:], *_PORTS[:start]):
        if port != other_than and is_free(port):
            return int(port)
    raise OSError(f"no port of 127.0.0.1 from {_PORTS[0]} to {_PORTS[-1]} is free")
