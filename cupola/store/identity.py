"""Users and clients of the identity server."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Row, String, Table, Text, UniqueConstraint, insert, select

from cupola import guid
from cupola.store.database import Tx
from cupola.store.schema import Json, metadata

__all__ = ["client_exists", "create_user", "find_users", "identities", "names_of", "oauth_clients", "user_exists"]

BATCH = 500

identities = Table(
    "identities",
    metadata,
    Column("guid", String(255), primary_key=True),
    Column("username", String(255), nullable=False),
    Column("username_key", String(255), nullable=False),
    Column("origin", String(255), nullable=False),
    Column("email", String(255), nullable=False),
    Column("password_hash", Text),
    Column("active", Boolean, nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("username_key", "origin"),
)

oauth_clients = Table(
    "oauth_clients",
    metadata,
    Column("client_id", String(255), primary_key=True),
    Column("secret_hashes", Json, nullable=False),
    Column("scope", Json, nullable=False),
    Column("authorities", Json, nullable=False),
    Column("grant_types", Json, nullable=False),
    Column("redirect_uris", Json, nullable=False),
)


def names_of(tx: Tx, guids: Collection[str]) -> dict[str, tuple[str, str]]:
    """Username and origin of each known guid; unknown ones are absent."""
    found: dict[str, tuple[str, str]] = {}
    wanted = list(guids)
    table = identities.c
    for start in range(0, len(wanted), BATCH):
        batch = wanted[start : start + BATCH]
        rows = tx.all(select(table.guid, table.username, table.origin).where(table.guid.in_(batch)))
        found.update({row.guid: (row.username, row.origin) for row in rows})
    return found


def find_users(tx: Tx, username: str, origin: str | None = None) -> Sequence[Row[Any]]:
    """Users of that name regardless of case, of one origin or of all."""
    query = select(identities).where(identities.c.username_key == username.lower())
    return tx.all(query if origin is None else query.where(identities.c.origin == origin))


def create_user(
    tx: Tx, username: str, origin: str = "uaa", *, email: str = "", password_hash: str | None = None
) -> str:
    """The new user's guid. IntegrityError when the name is taken in that origin."""
    made = guid.new()
    row = {
        "guid": made,
        "username": username,
        "username_key": username.lower(),
        "origin": origin,
        "email": email or username,
        "password_hash": password_hash,
        "active": True,
        "verified": True,
        "created_at": tx.now,
    }
    tx.run(insert(identities), row)
    return made


def user_exists(tx: Tx, user: str) -> bool:
    return tx.scalar(select(identities.c.guid).where(identities.c.guid == user)) is not None


def client_exists(tx: Tx, client: str) -> bool:
    return tx.scalar(select(oauth_clients.c.client_id).where(oauth_clients.c.client_id == client)) is not None
