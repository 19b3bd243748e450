"""Audit events: who did what to what, written in the transaction of the change itself."""

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select

from cupola import guid
from cupola.roles import Actor
from cupola.store.database import Tx
from cupola.store.orgs import spaces
from cupola.store.platform import audit_events

__all__ = ["HIDDEN", "record"]

HIDDEN = "[PRIVATE DATA HIDDEN]"
_CREDENTIALS = re.compile(r"(://)[^/@\s]+@")
"""In addresses, such as those of buildpacks and drains."""
_SECRETS = frozenset(
    {"environment_variables", "env", "credentials", "parameters", "password", "cnb-credentials", "command"}
)


def record(
    tx: Tx,
    type: str,
    actor: Actor,
    target_guid: str,
    target_type: str,
    target_name: str | None,
    data: Mapping[str, Any] | None = None,
    *,
    space_guid: str | None = None,
    organization_guid: str | None = None,
) -> str:
    """Write one event (names: contract audit_event_types.json), and give its guid.

    The organization is looked up from the space.
    """
    if space_guid is not None and organization_guid is None:
        organization_guid = tx.scalar(select(spaces.c.organization_guid).where(spaces.c.guid == space_guid))
    own = guid.new()
    tx.run(
        insert(audit_events).values(
            guid=own,
            created_at=tx.now,
            type=type,
            actor_guid=actor.guid,
            actor_type=actor.type,
            actor_name=actor.email or actor.name,
            target_guid=target_guid,
            target_type=target_type,
            target_name=target_name,
            data=_redacted(data or {}),
            space_guid=space_guid,
            organization_guid=organization_guid,
        )
    )
    return own


def _redacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: HIDDEN if key in _SECRETS and one is not None else _redacted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_redacted(one) for one in value]
    return _CREDENTIALS.sub(r"\1***:***@", value) if isinstance(value, str) else value
