"""What both kinds of usage events share: who reads them, and where a reader goes on."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Table, select

from cupola import errors
from cupola.rest.operation import Call
from cupola.rest.resource import Filter, Visible
from cupola.roles import Actor

__all__ = ["after_guid", "good_query", "visible"]


def visible(table: Table) -> Visible:
    """Admins and global auditors read all events, others none."""

    def condition(actor: Actor) -> ColumnElement[bool] | None:
        # No event has this guid, and an index says so at once.
        return None if actor.reads_everything else table.c.guid == ""

    return condition


def after_guid(table: Table) -> Filter:
    """`after_guid=G`: only events written after that one."""

    def match(guid: Any) -> ColumnElement[bool]:
        return table.c.id > select(table.c.id).where(table.c.guid == guid).scalar_subquery()

    return Filter("after_guid", match, kind="one", doc="Only events that were written after this one.")


def good_query(table: Table, kind: str) -> Callable[[Call[Any, Any]], None]:
    """The `allow` of a list: refuses updated_ats, several guids, and the guid of no event (`kind` as in messages)."""

    def check(call: Call[Any, Any]) -> None:
        if call.query.timestamps("updated_ats"):
            raise call.query.bad("Filtering by 'updated_ats' is not allowed on this resource.")
        wanted = call.query.values("after_guid")
        if wanted is None:
            return
        if len(wanted) != 1:
            raise call.query.bad("After guid filter accepts only one guid")
        known = select(table.c.id).where(table.c.guid == wanted[0])
        if call.actor.reads_everything and call.tx.scalar(known) is None:
            raise errors.unprocessable(f"After guid filter must be a valid {kind} usage event guid.")

    return check
