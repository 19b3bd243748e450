"""Who may see what: SQL conditions that name the caller as bindparam("actor").

`None` means everything: admin, admin_read_only and global_auditor read all, and some nouns are everybody's. What an
actor may not see is absent from lists and 404 when asked for (reference/behaviours.md section 4).
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, or_, select, union_all
from sqlalchemy.sql.selectable import CompoundSelect

from cupola.roles import Actor
from cupola.store.apps import apps
from cupola.store.orgs import organizations as organizations_table
from cupola.store.orgs import roles, spaces

__all__ = [
    "by_app",
    "by_space",
    "everyone",
    "managed_orgs",
    "orgs_with_any_role",
    "readable_orgs",
    "readable_spaces",
    "spaces_with_role",
]


def actor() -> Any:
    """The caller's guid, bound when the statement is executed."""
    return bindparam("actor")


def everyone(actor: Actor) -> ColumnElement[bool] | None:
    """Nouns that every authenticated user reads."""
    return None


def readable_orgs() -> Select[Any]:
    """Guids of organizations in which the actor has any organization role."""
    return select(roles.c.organization_guid).where(roles.c.user_guid == actor(), roles.c.organization_guid.is_not(None))


def managed_orgs(*types: str) -> Select[Any]:
    """Guids of organizations in which the actor is manager (or has one of `types`)."""
    return select(roles.c.organization_guid).where(
        roles.c.user_guid == actor(),
        roles.c.organization_guid.is_not(None),
        _is_one_of(types or ("organization_manager",)),
    )


def spaces_with_role(*types: str) -> Select[Any]:
    """Guids of spaces in which the actor has a space role (one of `types`, or any)."""
    found = select(roles.c.space_guid).where(roles.c.user_guid == actor(), roles.c.space_guid.is_not(None))
    return found.where(_is_one_of(types)) if types else found


def _is_one_of(types: Sequence[str]) -> ColumnElement[bool]:
    """IN over constants would be spelled out anew at each execution; this is part of the statement."""
    return or_(*(roles.c.type == one for one in types))


def readable_spaces(*org_types: str) -> CompoundSelect[Any]:
    """Guids of spaces that the actor reads: any space role, or organization manager (or one of `org_types`)."""
    by_org = select(spaces.c.guid).where(
        spaces.c.organization_guid.in_(managed_orgs(*(org_types or ("organization_manager",))))
    )
    return union_all(spaces_with_role(), by_org)


def orgs_with_any_role() -> CompoundSelect[Any]:
    """Guids of organizations in which, or in a space of which, the actor has a role."""
    by_space = select(spaces.c.organization_guid).where(spaces.c.guid.in_(spaces_with_role()))
    return union_all(readable_orgs(), by_space)


def organizations(actor: Actor) -> ColumnElement[bool] | None:
    """Condition on the organizations table."""
    return None if actor.reads_everything else organizations_table.c.guid.in_(readable_orgs())


def by_space(column: ColumnElement[Any]) -> Any:
    """A `visible` function for nouns that belong to a space; `column` holds its guid."""

    def visible(actor: Actor) -> ColumnElement[bool] | None:
        return None if actor.reads_everything else column.in_(readable_spaces())

    return visible


def by_app(column: ColumnElement[Any]) -> Any:
    """A `visible` function for nouns that belong to an app; `column` holds its guid."""

    def visible(actor: Actor) -> ColumnElement[bool] | None:
        if actor.reads_everything:
            return None
        return column.in_(select(apps.c.guid).where(apps.c.space_guid.in_(readable_spaces())))

    return visible


def either(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Any of them."""
    return or_(*conditions)


def domain_orgs() -> CompoundSelect[Any]:
    """Guids of organizations whose private domains the actor reads: managers, auditors, and whoever has a space there."""
    by_space = select(spaces.c.organization_guid).where(spaces.c.guid.in_(spaces_with_role()))
    return union_all(managed_orgs("organization_manager", "organization_auditor"), by_space)
