"""Users of another identity server (`identity.mode = external`) are learnt before something is done by their name.

The rules then find them in our own tables, as they do where this platform keeps the users itself.
"""

from typing import Any, Protocol

from cupola.domain import access
from cupola.rest.operation import Early
from cupola.roles import Actor
from cupola.store.database import Tx

__all__ = ["Directory", "role_is_given", "user_is_made"]


class Directory(Protocol):
    """The identity server, as `Services.extra["directory"]`; None where the platform keeps users itself."""

    async def find(self, username: str, origin: str | None, *, make: bool = False) -> None:
        """Learn who has a name; `make`: have a user of another provider made known. Raises 503."""

    async def identify(self, guid: str) -> None:
        """Learn the name of a user. Raises 503."""


async def role_is_given(early: Early) -> None:
    """Before a role is given: whom the body names."""
    user = _reached(early.document, "relationships", "user", "data")
    type_ = early.document.get("type") if isinstance(early.document, dict) else None
    allowed = early.services.settings.identity.allow_user_creation_by_org_manager
    await _learn(early, user, may_make=allowed and isinstance(type_, str) and type_.startswith("organization_"))


async def user_is_made(early: Early) -> None:
    """Before a user is made known: whom the body names."""
    await _learn(early, early.document, may_make=True)


async def _learn(early: Early, user: Any, *, may_make: bool) -> None:
    directory: Directory | None = early.services.extra.get("directory")
    if directory is None or not isinstance(user, dict):
        return
    guid, username, origin = (user.get(name) for name in ("guid", "username", "origin"))
    if isinstance(guid, str) and 0 < len(guid) <= 200:
        await directory.identify(guid)
    elif isinstance(username, str) and isinstance(origin, str | None):
        make = may_make and bool(origin) and await early.read(lambda tx: _may_make(tx, early))
        await directory.find(username, origin or None, make=make)


def _may_make(tx: Tx, early: Early) -> bool:
    """Whether the actor may have users of other providers made known."""
    actor: Actor = early.actor
    allowed = early.services.settings.identity.allow_user_creation_by_org_manager
    return actor.is_admin or (allowed and access.manages_any_organization(tx, actor))


def _reached(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
