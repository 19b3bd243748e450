"""Security groups: which networks the apps of a space may reach, running and staging (behaviours.md section 16)."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, delete, insert, select

from cupola import errors
from cupola.domain import access
from cupola.domain.security_group_rules import field_problems
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.orgs import spaces
from cupola.store.platform import security_group_spaces, security_groups

__all__ = ["PHASES", "bind", "create", "not_enforced", "remove", "unbind", "update"]

PHASES = ("running", "staging")
_MANAGERS = ("organization_manager", "space_manager")
_Binding = security_group_spaces.c


def not_enforced(thing: str) -> str:
    """The warning of whatever changes what an app may reach, or who reaches it: `security group 'name'`."""
    return f"{thing} is stored, not enforced by this engine yet"


def create(tx: Tx, body: Mapping[str, Any]) -> Row[Any]:
    """Add a group; `body` as POST /v3/security_groups takes it. Raises 422."""
    _require_free(tx, body["name"], None)
    rules = list(body.get("rules") or [])
    _require_fields(rules)
    enabled = body.get("globally_enabled") or {}
    values = {
        "name": body["name"],
        "rules": rules,
        "running_default": enabled.get("running", False),
        "staging_default": enabled.get("staging", False),
    }
    group = rows.add(tx, security_groups, values)
    relationships = body.get("relationships") or {}
    for phase in reversed(PHASES):
        wanted = (relationships.get(f"{phase}_spaces") or {}).get("data") or []
        guids = list(dict.fromkeys(one["guid"] for one in wanted))
        missing = _missing(tx, guids)
        if missing:
            raise errors.unprocessable(f"Spaces with guids {_listed(missing)} do not exist.")
        _add_spaces(tx, group, phase, guids)
    return group


def update(tx: Tx, group: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Rename, replace the rules, enable for all spaces or not. Raises 422."""
    values: dict[str, Any] = {}
    if "name" in body:
        _require_free(tx, body["name"], group.guid)
        values["name"] = body["name"]
    if "rules" in body:
        _require_fields(body["rules"])
        values["rules"] = body["rules"]
    for phase, enabled in (body.get("globally_enabled") or {}).items():
        values[f"{phase}_default"] = enabled
    return rows.change(tx, security_groups, group, values)


def bind(tx: Tx, actor: Actor, group: Row[Any], phase: str, guids: Sequence[str]) -> list[str]:
    """Let a group hold for spaces as well; gives the guids of all its spaces in this phase. Raises 403, 422."""
    missing = _missing(tx, guids)
    for guid in guids:
        if guid not in missing:
            access.require_in_space(tx, actor, guid, _MANAGERS)
    if missing:
        raise errors.unprocessable(
            f"Spaces with guids {_listed(missing)} do not exist, or you do not have access to them."
        )
    _add_spaces(tx, group, phase, guids)
    return tx.scalars(select(_Binding.space_guid).where(*_of(group, phase)))


def unbind(tx: Tx, actor: Actor, group: Row[Any], phase: str, space_guid: str) -> None:
    """Take a group away from a space. Raises 403, and 422 unless it is bound there."""
    unbound = errors.unprocessable(
        f"Unable to unbind security group from space with guid '{space_guid}'. "
        "Ensure the space is bound to this security group."
    )
    if rows.by_guid(tx, spaces, space_guid) is None:
        raise unbound
    access.require_in_space(tx, actor, space_guid, _MANAGERS)
    here = (*_of(group, phase), _Binding.space_guid == space_guid)
    if tx.scalar(select(_Binding.space_guid).where(*here)) is None:
        raise unbound
    tx.run(delete(security_group_spaces).where(*here))


def remove(tx: Tx, actor: Actor, group: Row[Any]) -> None:
    """Delete a group and what binds it."""
    tx.run(delete(security_group_spaces).where(_Binding.security_group_guid == group.guid))
    rows.remove(tx, security_groups, [group.guid])


def _of(group: Row[Any], phase: str) -> tuple[Any, Any]:
    return _Binding.security_group_guid == group.guid, _Binding.phase == phase


def _add_spaces(tx: Tx, group: Row[Any], phase: str, guids: Sequence[str]) -> None:
    bound = set(tx.scalars(select(_Binding.space_guid).where(*_of(group, phase))))
    new = [
        {"security_group_guid": group.guid, "space_guid": guid, "phase": phase} for guid in guids if guid not in bound
    ]
    if new:
        tx.run(insert(security_group_spaces), new)


def _missing(tx: Tx, guids: Sequence[str]) -> list[str]:
    found = rows.by_guids(tx, spaces, guids)
    return [guid for guid in guids if guid not in found]


def _listed(guids: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{guid}"' for guid in guids) + "]"


def _require_free(tx: Tx, name: str, own: str | None) -> None:
    if not name.isprintable():
        raise errors.unprocessable("Security group name contains invalid characters.")
    taken = tx.scalar(select(security_groups.c.guid).where(security_groups.c.name == name))
    if taken is not None and taken != own:
        raise errors.unprocessable(f"Security group with name '{name}' already exists.")


def _require_fields(rules: list[Mapping[str, Any]]) -> None:
    found = field_problems(rules)
    if found:
        raise errors.unprocessable(", ".join(found))
