"""Users, groups and clients of the identity server, their sessions and tokens, and what was revoked.

Times are microseconds since 1970. Tokens, codes and cookies are kept as SHA-256 digests: who reads the database cannot
use them. `generation` counts in users and clients: tokens carry it, and those of an earlier one are no longer good.
"""

import hashlib
import importlib
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    Row,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)

from cupola import guid
from cupola.store.database import Tx
from cupola.store.schema import Json, big_id, metadata

__all__ = [
    "GENERATIONS",
    "add_to_groups",
    "approvals",
    "client_exists",
    "create_user",
    "delete_user",
    "digest",
    "external_groups",
    "find_users",
    "first_generation",
    "forget_named",
    "forget_sessions",
    "group_members",
    "groups_of",
    "identities",
    "identity_events",
    "identity_groups",
    "learn",
    "login_failures",
    "login_sessions",
    "longest_access",
    "names_of",
    "new_generation",
    "oauth_clients",
    "one_time_codes",
    "opaque_tokens",
    "prune",
    "put",
    "refresh_tokens",
    "revocations",
    "revoke",
    "user_exists",
]

BATCH = 500
GENERATIONS = 1 << 16
"""Generations are counted modulo this, so that one fits into four hexadecimal digits."""
_EVENTS_KEPT = 31 * 86_400 * 1_000_000

identities = Table(
    "identities",
    metadata,
    Column("guid", String(255), primary_key=True),
    Column("username", String(255), nullable=False),
    Column("username_key", String(255), nullable=False),
    Column("origin", String(255), nullable=False),
    Column("external_id", String(255), index=True),
    Column("email", String(255), nullable=False),
    Column("phone_number", String(255)),
    Column("password_hash", Text),
    Column("given_name", String(255), nullable=False, default=""),
    Column("family_name", String(255), nullable=False, default=""),
    Column("active", Boolean, nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("password_changed_at", BigInteger, nullable=False, default=0),
    Column("password_change_required", Boolean, nullable=False, default=False),
    Column("last_login_at", BigInteger),
    Column("previous_login_at", BigInteger),
    Column("attributes", Json, nullable=False, default=dict),
    Column("generation", Integer, nullable=False, default=0),
    Column("version", Integer, nullable=False, default=0),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False, default=0),
    UniqueConstraint("username_key", "origin"),
)
"""`username_key` is the name in lower case: names are unique per origin regardless of case. `external_id` is what another
identity provider calls the user; `attributes` are what it says besides, lists of texts by name."""

login_failures = Table(
    "login_failures",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("failed_at", BigInteger, nullable=False, index=True),
)
"""Wrong passwords until `failed_at`, by digest of origin and name; names of nobody count, so that the lock tells nothing."""

oauth_clients = Table(
    "oauth_clients",
    metadata,
    Column("client_id", String(255), primary_key=True),
    Column("name", String(255)),
    Column("secret_hashes", Json, nullable=False),
    Column("jwks", Json),
    Column("scope", Json, nullable=False),
    Column("authorities", Json, nullable=False),
    Column("grant_types", Json, nullable=False),
    Column("resource_ids", Json, nullable=False, default=list),
    Column("redirect_uris", Json, nullable=False),
    Column("autoapprove", Json, nullable=False, default=list),
    Column("allowed_providers", Json),
    Column("required_user_groups", Json, nullable=False, default=list),
    Column("allow_public", Boolean, nullable=False, default=False),
    Column("access_token_seconds", Integer),
    Column("refresh_token_seconds", Integer),
    Column("show_on_home_page", Boolean, nullable=False, default=False),
    Column("app_launch_url", String(1024)),
    Column("app_icon", Text),
    Column("extra", Json, nullable=False, default=dict),
    Column("generation", Integer, nullable=False, default=0),
    Column("created_at", BigInteger, nullable=False, default=0),
    Column("updated_at", BigInteger, nullable=False, default=0),
)
"""`extra` keeps what a client's creator wrote besides, such as `createdwith`; `jwks` are keys of private_key_jwt."""

identity_groups = Table(
    "identity_groups",
    metadata,
    Column("guid", String(255), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("name_key", String(255), nullable=False, unique=True),
    Column("description", String(255)),
    Column("version", Integer, nullable=False, default=0),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
"""A group's name is the scope that its members may have."""

group_members = Table(
    "group_members",
    metadata,
    Column("group_guid", String(255), primary_key=True),
    Column("member_guid", String(255), primary_key=True, index=True),
    Column("member_type", String(8), nullable=False, default="USER"),
    Column("origin", String(255), nullable=False, default="uaa"),
    Column("by_provider", Boolean, nullable=False, default=False),
    Column("created_at", BigInteger, nullable=False, default=0),
)
"""`member_type` is USER or GROUP: the members of a group that is a member are members, too. `by_provider`: an identity
provider says so, and may take it back at the next login."""

external_groups = Table(
    "external_groups",
    metadata,
    Column("group_guid", String(255), primary_key=True),
    Column("external_group", String(255), primary_key=True),
    Column("origin", String(255), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
)
"""Groups of other identity providers (`origin`) whose members are in a group of ours, besides those of the settings."""

approvals = Table(
    "approvals",
    metadata,
    Column("user_guid", String(255), primary_key=True),
    Column("client_id", String(255), primary_key=True, index=True),
    Column("scope", String(255), primary_key=True),
    Column("approved", Boolean, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
"""What users allowed clients to do in their name."""

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("session", String(64), nullable=False, index=True),
    Column("user_guid", String(255), nullable=False, index=True),
    Column("client_id", String(255), nullable=False, index=True),
    Column("scope", Json, nullable=False),
    Column("grant_type", String(64), nullable=False),
    Column("details", Json, nullable=False, default=dict),
    Column("auth_time", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("replaced_at", BigInteger),
)
"""`session` joins the tokens of one login. A replaced token is kept to notice that somebody uses it again."""

opaque_tokens = Table(
    "opaque_tokens",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("jti", String(64), nullable=False, unique=True),
    Column("user_guid", String(255), index=True),
    Column("client_id", String(255), nullable=False, index=True),
    Column("claims", Json, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)
"""Access tokens of `token_format=opaque`: the claims stay here."""

one_time_codes = Table(
    "one_time_codes",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("user_guid", String(255), index=True),
    Column("client_id", String(255), index=True),
    Column("details", Json, nullable=False, default=dict),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("used_at", BigInteger),
)
"""`kind`: code (authorization code), passcode, autologin, assertion (the id of a client assertion that was used)."""

login_sessions = Table(
    "login_sessions",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("user_guid", String(255), nullable=False, index=True),
    Column("auth_time", BigInteger, nullable=False),
    Column("pending", Json),
    Column("expires_at", BigInteger, nullable=False, index=True),
)
"""Browsers that are logged in; `pending` is what the consent page asks at the moment."""

revocations = Table(
    "revocations",
    metadata,
    Column("kind", String(8), primary_key=True),
    Column("id", String(512), primary_key=True),
    Column("generation", BigInteger),
    Column("expires_at", BigInteger, nullable=False, index=True),
)
"""`kind` jti: one access token; session: all of one login; user, client: all but those of `generation`; pair (guid, a
space, client id): those that a client got for a user up to the second `generation`.
A note may be forgotten at `expires_at`, when the last token that it concerns has ended."""

identity_events = Table(
    "identity_events",
    metadata,
    big_id(),
    Column("created_at", BigInteger, nullable=False, index=True),
    Column("type", String(64), nullable=False),
    Column("user_guid", String(255), index=True),
    Column("username", String(255)),
    Column("client_id", String(255)),
    Column("origin", String(255)),
    Column("address", String(64)),
    Column("data", Json, nullable=False, default=dict),
)
"""Who logged in, failed to, or was changed; kept for 31 days. Never a secret, nor a name that nobody has."""


def digest(secret: str) -> str:
    """What is kept of a token, code or cookie: SHA-256, hexadecimal. They are random, so a slow hash adds nothing."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def put(tx: Tx, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Insert the row with the primary key `key`, or update it; two writers at once both succeed."""
    # Either is loaded by its engine already, and the other one would be loaded in vain.
    dialect: Any = importlib.import_module(f"sqlalchemy.dialects.{tx.connection.dialect.name}")
    statement = dialect.insert(table).values({**key, **values})
    tx.run(statement.on_conflict_do_update(index_elements=list(key), set_=dict(values)))


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
    more: Mapping[str, Any] | None = None,
) -> str:
    """The new user's guid. `more` sets other columns. IntegrityError when the name is taken in that origin."""
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
        "generation": secrets.randbelow(GENERATIONS),
        "created_at": tx.now,
        "updated_at": tx.now,
        **(more or {}),
    }
    tx.run(insert(identities).values(row))
    return made


def delete_user(tx: Tx, user: str, lifetime: int) -> None:
    """Remove a user with all that hangs on it. Tokens are no longer good; `lifetime`: see `new_generation`."""
    revoke(tx, "user", user, expires_at=tx.now + lifetime)
    forget_sessions(tx, user_guid=user)
    for table, column in (
        (group_members, group_members.c.member_guid),
        (approvals, approvals.c.user_guid),
        (identities, identities.c.guid),
    ):
        tx.run(delete(table).where(column == user))


def _all_groups(member: str) -> Select[tuple[str]]:
    """Guids of the groups that `member` is in, directly or by a group in between. UNION ends circles."""
    members = group_members.c
    found = select(members.group_guid.label("guid")).where(members.member_guid == member).cte("held", recursive=True)
    outer = select(members.group_guid).join(found, members.member_guid == found.c.guid)
    return select(found.union(outer).c.guid)


def groups_of(tx: Tx, member: str, *, direct: bool = False) -> set[str]:
    """Names of the groups that a user was put in, by itself or by a group; the default groups are not among them."""
    if direct:
        held = select(group_members.c.group_guid).where(group_members.c.member_guid == member)
    else:
        held = _all_groups(member)
    return set(tx.scalars(select(identity_groups.c.name).where(identity_groups.c.guid.in_(held))))


def add_to_groups(
    tx: Tx, member: str, names: Collection[str], *, type_: str = "USER", origin: str = "uaa", by_provider: bool = False
) -> None:
    """Put a user in groups; a group that does not exist is made."""
    for name in sorted(set(names) - groups_of(tx, member, direct=True)):
        group = tx.scalar(select(identity_groups.c.guid).where(identity_groups.c.name_key == name.lower()))
        if group is None:
            group = guid.new()
            row = {"guid": group, "name": name, "name_key": name.lower(), "created_at": tx.now, "updated_at": tx.now}
            tx.run(insert(identity_groups).values(row))
        values = {"member_type": type_, "origin": origin, "by_provider": by_provider, "created_at": tx.now}
        put(tx, group_members, {"group_guid": group, "member_guid": member}, values)


def learn(tx: Tx, user: str, username: str, origin: str) -> None:
    """Keep the name of a user of another identity server, as it is there now. Another one who had it has it no longer."""
    forget_named(tx, username, origin, {user})
    names = {"username": username, "username_key": username.lower(), "origin": origin, "email": username}
    values = {**names, "active": True, "verified": True, "created_at": tx.now, "updated_at": tx.now}
    put(tx, identities, {"guid": user}, values)


def forget_named(tx: Tx, username: str, origin: str | None, but: Collection[str]) -> None:
    """Forget users of a name, of one origin or of all, but those with these guids."""
    where = [identities.c.username_key == username.lower(), identities.c.guid.not_in(but)]
    if origin is not None:
        where.append(identities.c.origin == origin)
    tx.run(delete(identities).where(*where))


def longest_access(tx: Tx, default_seconds: int) -> int:
    """Microseconds for which any access token is good, of clients with a time of their own and of the others."""
    longest = tx.scalar(select(func.max(oauth_clients.c.access_token_seconds)))
    return max(int(longest or 0), default_seconds) * 1_000_000


def revoke(tx: Tx, kind: str, id_: str, *, expires_at: int, generation: int | None = None) -> None:
    """Note that tokens are no longer good; `expires_at` is when the note may be forgotten."""
    put(tx, revocations, {"kind": kind, "id": id_}, {"generation": generation, "expires_at": expires_at})
    tx.ring("revocations")


def new_generation(tx: Tx, kind: str, id_: str, lifetime: int) -> None:
    """All tokens of a user or client (`kind`) so far are no longer good; later ones are.

    `lifetime` is for how many microseconds the last of them would have been (`longest_access`).
    """
    table, key = (identities, identities.c.guid) if kind == "user" else (oauth_clients, oauth_clients.c.client_id)
    following = (table.c.generation + 1) % literal(GENERATIONS)
    generation = tx.scalar(update(table).where(key == id_).values(generation=following).returning(table.c.generation))
    revoke(tx, kind, id_, expires_at=tx.now + lifetime, generation=generation)


def first_generation(tx: Tx, client_id: str) -> int:
    """Where a new client begins to count. One of that name that was deleted left a note with a generation that none of
    its tokens has."""
    note = tx.scalar(
        select(revocations.c.generation).where(revocations.c.kind == "client", revocations.c.id == client_id)
    )
    return secrets.randbelow(GENERATIONS) if note is None else int(note)


def forget_sessions(tx: Tx, *, user_guid: str | None = None, client_id: str | None = None) -> None:
    """Delete refresh tokens, opaque tokens and codes of a user (with browsers), of a client, or of both together."""
    for table in (refresh_tokens, opaque_tokens, one_time_codes):
        statement = delete(table)
        if user_guid is not None:
            statement = statement.where(table.c.user_guid == user_guid)
        if client_id is not None:
            statement = statement.where(table.c.client_id == client_id)
        assert user_guid is not None or client_id is not None, "this would log everybody out"
        tx.run(statement)
    if user_guid is not None and client_id is None:
        tx.run(delete(login_sessions).where(login_sessions.c.user_guid == user_guid))


def prune(tx: Tx) -> None:
    """Delete what has expired. For a periodic chore; nothing depends on it but space."""
    for table in (refresh_tokens, opaque_tokens, one_time_codes, login_sessions, revocations, approvals):
        tx.run(delete(table).where(table.c.expires_at <= tx.now))
    tx.run(delete(login_failures).where(login_failures.c.failed_at <= tx.now - 86_400 * 1_000_000))
    tx.run(delete(identity_events).where(identity_events.c.created_at <= tx.now - _EVENTS_KEPT))


def user_exists(tx: Tx, user: str) -> bool:
    return tx.scalar(select(identities.c.guid).where(identities.c.guid == user)) is not None


def client_exists(tx: Tx, client: str) -> bool:
    return tx.scalar(select(oauth_clients.c.client_id).where(oauth_clients.c.client_id == client)) is not None
