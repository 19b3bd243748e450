"""Locks protect apps from deletion, by accident or by cascade (reference/osmapi-and-extensions.md section 1).

A lock has no owner and never expires; it goes away by being deleted, which is a deliberate act, also for admins.
Nothing but deletion is blocked.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Row, select

from cupola import errors
from cupola.domain import access, audit
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.jobs import jobs
from cupola.store.locks import locks
from cupola.store.orgs import spaces

__all__ = [
    "create",
    "remove",
    "require_app_unlocked",
    "require_organization_unlocked",
    "require_space_unlocked",
    "update",
]


def create(tx: Tx, actor: Actor, app_guid: str, body: Mapping[str, Any]) -> Row[Any]:
    """Lock an app. Raises 403, 409 while the app is being deleted, 422."""
    app = rows.by_guid(tx, apps, app_guid)
    if app is None or not access.may_read_space(tx, actor, app.space_guid):
        raise errors.unprocessable("Invalid app. Ensure that the app exists and you have access to it.")
    access.require_in_space(tx, actor, app.space_guid, access.WRITE_IN_SPACE)
    _require_staying(tx, app)
    title = body["title"]
    taken = select(locks.c.guid).where(locks.c.app_guid == app.guid, locks.c.title_key == title.lower())
    if tx.scalar(taken) is not None:
        raise errors.uniqueness(f"Lock with title '{title}' already exists for app '{app.name}'.")
    values = {"app_guid": app.guid, "title": title, "title_key": title.lower(), "detail": body["detail"]}
    row = rows.add(tx, locks, values, body.get("metadata"))
    _record(tx, "audit.lock.create", actor, row, app, {"request": dict(body)})
    return row


def _require_staying(tx: Tx, app: Row[Any]) -> None:
    """Raises 409 while a job deletes the app, its space or its organization."""
    organization = tx.scalar(select(spaces.c.organization_guid).where(spaces.c.guid == app.space_guid))
    going = (("app.delete", app.guid), ("space.delete", app.space_guid), ("organization.delete", organization))
    for operation, guid in going:
        running = select(jobs.c.guid).where(
            jobs.c.resource_guid == guid, jobs.c.operation == operation, jobs.c.state == "PROCESSING"
        )
        if tx.scalar(running.limit(1)) is not None:
            raise CloudError(
                10008,
                "CF-UnprocessableEntity",
                409,
                f"App '{app.name}' cannot be locked because it is being deleted.",
            )


def update(tx: Tx, actor: Actor, lock: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Change the detail or the metadata."""
    values = {"detail": body["detail"]} if "detail" in body else {}
    changed = rows.change(tx, locks, lock, values, body.get("metadata"))
    _record(tx, "audit.lock.update", actor, changed, _app_of(tx, lock), {"request": dict(body)})
    return changed


def remove(tx: Tx, actor: Actor, lock: Row[Any]) -> None:
    """Unlock: the app may be deleted once its last lock is gone."""
    rows.remove(tx, locks, [lock.guid])
    _record(tx, "audit.lock.delete", actor, lock, _app_of(tx, lock), {})


def require_app_unlocked(tx: Tx, app: Row[Any]) -> None:
    """Raises 422 while the app has locks."""
    titles = tx.scalars(select(locks.c.title).where(locks.c.app_guid == app.guid).order_by(locks.c.id))
    if titles:
        raise errors.unprocessable(
            f"App '{app.name}' cannot be deleted because it is locked: {_quoted(titles)}. Delete the locks first."
        )


def require_space_unlocked(tx: Tx, space: Row[Any]) -> None:
    """Raises 422 while an app of the space has locks."""
    _require_none(tx, f"Space '{space.name}'", apps.c.space_guid == space.guid)


def require_organization_unlocked(tx: Tx, organization: Row[Any]) -> None:
    """Raises 422 while an app of the organization has locks."""
    inside = select(spaces.c.guid).where(spaces.c.organization_guid == organization.guid)
    _require_none(tx, f"Organization '{organization.name}'", apps.c.space_guid.in_(inside))


def _require_none(tx: Tx, place: str, inside: ColumnElement[bool]) -> None:
    locked = select(apps.c.name).where(inside, apps.c.guid.in_(select(locks.c.app_guid))).order_by(apps.c.id)
    names = tx.scalars(locked)
    if names:
        raise errors.unprocessable(f"{place} cannot be deleted because it contains locked apps: {_quoted(names)}.")


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _app_of(tx: Tx, lock: Row[Any]) -> Row[Any]:
    app = rows.by_guid(tx, apps, lock.app_guid)
    assert app is not None, f"lock {lock.guid} outlived its app"
    return app


def _record(tx: Tx, type_: str, actor: Actor, lock: Row[Any], app: Row[Any], data: Mapping[str, Any]) -> None:
    complete = {**data, "app_guid": app.guid}
    audit.record(tx, type_, actor, lock.guid, "lock", lock.title, complete, space_guid=app.space_guid)
