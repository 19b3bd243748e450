"""The log of who logged in, failed to, and was changed. It has no secret, and no name that nobody has: people type their
password into the wrong field."""

import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, insert
from starlette.requests import Request

from cupola.store import identity
from cupola.store.database import Tx
from cupola.uaa.bearer import Bearer
from cupola.uaa.forms import address

__all__ = ["Source", "record"]

log = logging.getLogger("cupola.uaa.audit")


class Source:
    """From where a request came, and as whom."""

    def __init__(self, request: Request, client_id: str | None = None, caller: Bearer | None = None) -> None:
        self.address = address(request)
        self.client_id = client_id if caller is None else caller.client_id
        self.actor = None if caller is None else caller.user_guid or caller.client_id


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
