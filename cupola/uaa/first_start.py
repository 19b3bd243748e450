"""What the identity server has after the first start: groups, the clients of a deployment, the first user.

Each is made once and never again when somebody deleted it. A client of ours is brought up to date when a new version of
the platform describes it differently; until then what an operator changed stays.
"""

import hashlib
import secrets
from typing import Any

import msgspec
from sqlalchemy import insert, select, update

from cupola import guid
from cupola.config import Settings
from cupola.secrets.generated import create_private, password, write_private
from cupola.store import identity
from cupola.store.database import Tx
from cupola.store.platform import platform_state
from cupola.uaa.passwords import Passwords
from cupola.uaa.scopes import ADMIN_GROUPS, CLIENTS, KNOWN_GROUPS

__all__ = ["client_secrets", "ensure"]


def ensure(tx: Tx, settings: Settings, passwords: Passwords) -> None:
    """Make what was never made. Safe at every start."""
    known: dict[str, str] = {row.name: row.value for row in tx.all(select(platform_state))}
    _ensure_groups(tx, known)
    kept = client_secrets(settings)
    for client_id, described in CLIENTS.items():
        _ensure_client(tx, settings, passwords, known, client_id, described, kept.get(client_id, ""))
    _ensure_admin(tx, settings, passwords, known)


def client_secrets(settings: Settings) -> dict[str, str]:
    """Secrets of our clients, from the file in the data directory (mode 0600); those that it lacks are made."""
    made = {name: password(32) for name in CLIENTS if name != "cf"}
    file = settings.data_dir / "keys" / "clients.json"
    kept: dict[str, str] = msgspec.json.decode(create_private(file, msgspec.json.encode(made)))
    if made.keys() - kept.keys():
        kept = {**made, **kept}
        write_private(file, msgspec.json.encode(kept))
    return kept


def _remember(tx: Tx, name: str, value: str) -> None:
    identity.put(tx, platform_state, {"name": name}, {"value": value})


def _ensure_groups(tx: Tx, known: dict[str, str]) -> None:
    made = set(known.get("identity_groups", "").split())
    missing = KNOWN_GROUPS - made
    if not missing:
        return
    there = set(tx.scalars(select(identity.identity_groups.c.name_key)))
    new = [
        {"guid": guid.new(), "name": name, "name_key": name, "created_at": tx.now, "updated_at": tx.now}
        for name in sorted(missing)
        if name not in there
    ]
    if new:
        tx.run(insert(identity.identity_groups), new)
    _remember(tx, "identity_groups", " ".join(sorted(made | KNOWN_GROUPS)))


def _ensure_client(
    tx: Tx,
    settings: Settings,
    passwords: Passwords,
    known: dict[str, str],
    client_id: str,
    described: dict[str, Any],
    secret: str,
) -> None:
    redirects = [_absolute(settings, uri) for uri in described.get("redirect_uris", [])]
    values = {"autoapprove": [], **described, "redirect_uris": redirects, "updated_at": tx.now}
    mark = hashlib.sha256(msgspec.json.encode({**described, "redirect_uris": redirects}, order="sorted")).hexdigest()
    name, table = f"client_{client_id}", identity.oauth_clients
    if known.get(name) == mark:
        return
    if identity.client_exists(tx, client_id):
        tx.run(update(table).where(table.c.client_id == client_id).values(values))
    elif name not in known:
        values["secret_hashes"] = [passwords.hash(secret) if secret else ""]
        generation = secrets.randbelow(identity.GENERATIONS)
        tx.run(insert(table).values(client_id=client_id, created_at=tx.now, generation=generation, **values))
    _remember(tx, name, mark)


def _absolute(settings: Settings, uri: str) -> str:
    return f"{settings.uaa_url}{uri}" if uri.startswith("/") else uri


def _ensure_admin(tx: Tx, settings: Settings, passwords: Passwords, known: dict[str, str]) -> None:
    file = settings.data_dir / "credentials.json"
    if "made_admin" in known or not file.exists():
        return
    admin = msgspec.json.decode(file.read_bytes())["admin"]
    if not identity.find_users(tx, admin["username"], "uaa"):
        made = identity.create_user(tx, admin["username"], password_hash=passwords.hash(admin["password"]))
        identity.add_to_groups(tx, made, ADMIN_GROUPS)
    _remember(tx, "made_admin", "1")
