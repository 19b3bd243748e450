"""Users and clients of the identity server."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    delete,
    insert,
    select,
)

from cupola import guid
from cupola.store.database import Tx
from cupola.store.schema import Json, metadata

__all__ = [
    "add_to_groups",
    "client_exists",
    "create_user",
    "find_users",
    "group_members",
    "groups_of",
    "identities",
    "names_of",
    "oauth_clients",
    "refresh_tokens",
    "revocations",
    "revoke",
    "user_exists",
]

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
    Column("given_name", String(255), nullable=False, default=""),
    Column("family_name", String(255), nullable=False, default=""),
    Column("active", Boolean, nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("failures", Integer, nullable=False, default=0),
    Column("failed_at", BigInteger, nullable=False, default=0),
    Column("password_changed_at", BigInteger, nullable=False, default=0),
    Column("last_login_at", BigInteger),
    Column("version", Integer, nullable=False, default=0),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False, default=0),
    UniqueConstraint("username_key", "origin"),
)
"""Times in microseconds since 1970. `failures` counts wrong passwords since `failed_at`, for the lockout."""

oauth_clients = Table(
    "oauth_clients",
    metadata,
    Column("client_id", String(255), primary_key=True),
    Column("secret_hashes", Json, nullable=False),
    Column("scope", Json, nullable=False),
    Column("authorities", Json, nullable=False),
    Column("grant_types", Json, nullable=False),
    Column("redirect_uris", Json, nullable=False),
    Column("autoapprove", Json, nullable=False, default=list),
    Column("access_token_seconds", Integer),
    Column("refresh_token_seconds", Integer),
    Column("updated_at", BigInteger, nullable=False, default=0),
)

group_members = Table(
    "group_members",
    metadata,
    Column("group_name", String(255), primary_key=True),
    Column("member_guid", String(255), primary_key=True, index=True),
)
"""Groups are scopes: a group exists as long as it is known (uaa/scopes.py) or somebody is in it."""

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("jti", String(64), nullable=False, unique=True),
    Column("user_guid", String(255), nullable=False, index=True),
    Column("client_id", String(255), nullable=False),
    Column("scope", Json, nullable=False),
    Column("grant_type", String(64), nullable=False),
    Column("auth_time", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)
"""`digest` is the SHA-256 of the token: who reads the database cannot use it. Times in microseconds since 1970."""

revocations = Table(
    "revocations",
    metadata,
    Column("kind", String(8), primary_key=True),
    Column("id", String(255), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
"""`kind` jti: one access token. user, client: all of theirs that were issued before `at`."""


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
    tx: Tx,
    username: str,
    origin: str = "uaa",
    *,
    email: str = "",
    password_hash: str | None = None,
    given_name: str = "",
    family_name: str = "",
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
        "given_name": given_name,
        "family_name": family_name,
        "password_changed_at": tx.now,
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    tx.run(insert(identities).values(row))
    return made


def groups_of(tx: Tx, member: str) -> set[str]:
    """Names of the groups that a user was put in; everybody is in the default groups besides."""
    return set(tx.scalars(select(group_members.c.group_name).where(group_members.c.member_guid == member)))


def add_to_groups(tx: Tx, member: str, names: Collection[str]) -> None:
    """Put a user in groups."""
    new = sorted(set(names) - groups_of(tx, member))
    if new:
        tx.run(insert(group_members), [{"group_name": name, "member_guid": member} for name in new])


def revoke(tx: Tx, kind: str, id_: str, expires_at: int) -> None:
    """Note that tokens are no longer good; `expires_at` (microseconds) is when the note may be forgotten."""
    same = revocations.c.kind == kind, revocations.c.id == id_
    tx.run(delete(revocations).where(*same))
    tx.run(insert(revocations).values(kind=kind, id=id_, at=tx.now, expires_at=expires_at))
    tx.ring("revocations")


def user_exists(tx: Tx, user: str) -> bool:
    return tx.scalar(select(identities.c.guid).where(identities.c.guid == user)) is not None


def client_exists(tx: Tx, client: str) -> bool:
    return tx.scalar(select(oauth_clients.c.client_id).where(oauth_clients.c.client_id == client)) is not None
