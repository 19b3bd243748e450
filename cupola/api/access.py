"""The usual `allow` of operations, in terms of the row that the path names. The rules are in domain/access.py."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from cupola import errors
from cupola.domain import access
from cupola.rest.operation import Call
from cupola.store.apps import apps

__all__ = ["ADMIN", "DEVELOPER", "MANAGE_APPS", "admin", "in_space", "in_space_of_app", "space_of_app"]

DEVELOPER = access.WRITE_IN_SPACE
MANAGE_APPS = access.MANAGE_APPS


def admin(call: Call[Any, Any]) -> None:
    """Only admins."""
    access.require_admin(call.actor)


ADMIN = admin


def in_space(*roles: str, also_suspended: bool = False) -> Callable[[Call[Any, Any]], None]:
    """One of `roles` in the row's space (column space_guid, or the row is the space)."""

    def allow(call: Call[Any, Any]) -> None:
        mapping = call.row._mapping
        space_guid = mapping["space_guid"] if "space_guid" in mapping else mapping["guid"]
        access.require_in_space(call.tx, call.actor, space_guid, roles, also_suspended=also_suspended)

    return allow


def in_space_of_app(*roles: str) -> Callable[[Call[Any, Any]], None]:
    """One of `roles` in the space of the row's app (column app_guid)."""

    def allow(call: Call[Any, Any]) -> None:
        access.require_in_space(call.tx, call.actor, space_of_app(call, call.row.app_guid), roles)

    return allow


def space_of_app(call: Call[Any, Any], app_guid: str) -> str:
    """Guid of the app's space. Raises 404 when the app is gone."""
    found = call.tx.scalar(select(apps.c.space_guid).where(apps.c.guid == app_guid))
    if found is None:
        raise errors.not_found("App")
    return str(found)
