"""Codes that are good once: authorization codes, passcodes, the right to choose a new password, used assertions."""

import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, insert, select, update

from cupola.store import identity as tables
from cupola.store.database import Tx

__all__ = ["SECONDS", "find", "new", "take"]

SECONDS = 300
"""For how long a code is good."""
codes = tables.one_time_codes


def new(
    tx: Tx,
    kind: str,
    user_guid: str | None,
    client_id: str | None,
    details: Mapping[str, Any],
    *,
    code: str | None = None,
    seconds: int = SECONDS,
) -> str:
    """Make a code of `kind`. IntegrityError when `code` is given and was there before."""
    made = code or secrets.token_urlsafe(24)
    tx.run(
        insert(codes).values(
            digest=tables.digest(f"{kind}:{made}"),
            kind=kind,
            user_guid=user_guid,
            client_id=client_id,
            details=details,
            expires_at=tx.now + seconds * 1_000_000,
        )
    )
    return made


def find(tx: Tx, kind: str, code: str) -> Row[Any] | None:
    """A code that has not expired; `used_at` says whether it was used."""
    digest = tables.digest(f"{kind}:{code}")
    return tx.one(select(codes).where(codes.c.digest == digest, codes.c.expires_at > tx.now))


def take(tx: Tx, row: Row[Any]) -> bool:
    """Use a code. Of several callers at once one gets True."""
    unused = codes.c.digest == row.digest, codes.c.used_at.is_(None)
    return bool(tx.run(update(codes).where(*unused).values(used_at=tx.now)).rowcount)
