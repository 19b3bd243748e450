"""The log of who logged in, failed to, and was changed.

It has no secret, and no name that nobody has: people type their password into the wrong field.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, insert
from starlette.requests import Request

from cupola.store import identity
from cupola.store.database import Tx
from cupola.uaa.bearer import Bearer
from cupola.uaa.forms import address

__all__ = ["OPERATOR", "Source", "record"]

log = logging.getLogger("cupola.uaa.audit")


@dataclass(frozen=True)
class Source:
    """From where something was done, by which client, and by whom if that is not the user whom it concerns."""

    address: str | None
    client_id: str | None = None
    actor: str | None = None

    @classmethod
    def of(cls, request: Request, client_id: str | None = None, caller: Bearer | None = None) -> "Source":
        """The source of a request; `caller` for one with a bearer token."""
        if caller is None:
            return cls(address(request), client_id)
        return cls(address(request), caller.client_id, caller.user_guid or caller.client_id)


OPERATOR = Source(None, actor="operator")
"""Somebody with access to the machine."""


def record(
    tx: Tx, type: str, source: Source, user: Row[Any] | None = None, data: Mapping[str, Any] | None = None
) -> None:
    """Write one event, in the transaction of what it tells of; to the process's log after the commit."""
    details = dict(data or {})
    if source.actor is not None:
        details["by"] = source.actor
    values = {
        "created_at": tx.now,
        "type": type,
        "user_guid": None if user is None else user.guid,
        "username": None if user is None else user.username,
        "origin": None if user is None else user.origin,
        "client_id": source.client_id,
        "address": source.address,
        "data": details,
    }
    tx.run(insert(identity.identity_events).values(values))
    line = (type, values["user_guid"], source.client_id, source.address, details)
    tx.after_commit(lambda: log.info("%s user=%s client=%s address=%s %s", *line))
