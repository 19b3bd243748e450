"""Roles: given and taken, with the rule that a space role needs a role in the organization (behaviours.md section 19)."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select

from cupola import errors
from cupola.config import Settings
from cupola.domain import access, audit, feature_flags
from cupola.roles import Actor
from cupola.store import identity, rows
from cupola.store.database import Tx
from cupola.store.orgs import organizations, roles, spaces, users

__all__ = ["create", "delete", "ensure_user", "find_user", "may_delete", "require_deletable", "shadow_user"]

_NO_ORG_ROLE = "Users cannot be assigned roles in a space if they do not have a role in that space's organization."


def ensure_user(tx: Tx, guid: str) -> Row[Any]:
    """The API's row of a user, made when it is missing."""
    row = rows.by_guid(tx, users, guid)
    if row is not None:
        return row
    return rows.add(tx, users, {"guid": guid, "is_client": identity.client_exists(tx, guid)})


def find_user(tx: Tx, username: str, origin: str | None, *, for_space: bool) -> str:
    """Guid of the user with a name. Raises 422 when there is none or several."""
    found = identity.find_users(tx, username, origin)
    if len(found) > 1:
        origins = ", ".join(sorted(row.origin for row in found))
        raise errors.unprocessable(
            f"Ambiguous user. User with username '{username}' exists in the following origins: {origins}. "
            "Specify an origin to disambiguate."
        )
    if not found:
        if for_space:
            raise errors.unprocessable(_NO_ORG_ROLE)
        where = f" and origin '{origin}'" if origin else ""
        raise errors.unprocessable(f"No user exists with the username '{username}'{where}.")
    return str(found[0].guid)


def create(
    tx: Tx,
    settings: Settings,
    actor: Actor,
    body: Mapping[str, Any],
    *,
    user: Mapping[str, Any],
    space_guid: str | None,
    organization_guid: str | None,
) -> Row[Any]:
    """Give a role. `user` has a guid, or a username and perhaps an origin. Raises 403, 422."""
    type_ = body["type"]
    if space_guid is not None:
        target = rows.by_guid(tx, spaces, space_guid)
        if target is None:
            raise errors.unprocessable("Invalid space. Ensure that the space exists and you have access to it.")
        access.require_in_space(tx, actor, space_guid, ("space_manager", "organization_manager"))
        owner = target.organization_guid
    else:
        target = rows.by_guid(tx, organizations, organization_guid)
        if target is None:
            raise errors.unprocessable(
                "Invalid organization. Ensure that the organization exists and you have access to it."
            )
        access.require_in_org(tx, actor, target.guid, ("organization_manager",))
        owner = target.guid
    user_guid = user.get("guid")
    if user_guid is None:
        feature_flags.require(tx, actor, "set_roles_by_username")
        user_guid = _named(tx, settings, user["username"], user.get("origin") or None, for_space=space_guid is not None)
    if space_guid is not None and not _has_org_role(tx, user_guid, owner):
        raise errors.unprocessable(_NO_ORG_ROLE)
    holder = ensure_user(tx, user_guid)
    taken = select(roles.c.guid).where(
        roles.c.user_guid == holder.guid, roles.c.type == type_, roles.c.target_guid == target.guid
    )
    shown = identity.names_of(tx, [holder.guid]).get(holder.guid, (holder.guid, ""))[0]
    if tx.scalar(taken) is not None:
        kind = "space" if space_guid is not None else "organization"
        raise errors.unprocessable(f"User '{shown}' already has '{type_}' role in {kind} '{target.name}'.")
    values = {
        "type": type_,
        "user_guid": holder.guid,
        "space_guid": space_guid,
        "organization_guid": None if space_guid is not None else owner,
        "target_guid": target.guid,
    }
    row = rows.add(tx, roles, values)
    audit.record(
        tx,
        f"audit.user.{type_}_add",
        actor,
        holder.guid,
        "user",
        shown,
        {"request": dict(body)},
        space_guid=space_guid,
        organization_guid=owner,
    )
    return row


def _named(tx: Tx, settings: Settings, username: str, origin: str | None, *, for_space: bool) -> str:
    """Guid of a user by name; one of another identity provider may be made here, where the operator allows that."""
    foreign = origin is not None and origin != "uaa"
    if foreign and not for_space and settings.identity.allow_user_creation_by_org_manager:
        return shadow_user(tx, settings, username, str(origin))
    return find_user(tx, username, origin, for_space=for_space)


def shadow_user(tx: Tx, settings: Settings, username: str, origin: str) -> str:
    """Guid of the identity of that name and origin, made when it is missing (and this platform keeps users)."""
    if settings.identity.mode == "external":
        return find_user(tx, username, origin, for_space=False)
    found = identity.find_users(tx, username, origin)
    return str(found[0].guid) if found else identity.create_user(tx, username=username, origin=origin)


def _has_org_role(tx: Tx, user_guid: str, organization_guid: str) -> bool:
    found = select(roles.c.guid).where(roles.c.user_guid == user_guid, roles.c.organization_guid == organization_guid)
    return tx.scalar(found.limit(1)) is not None


def may_delete(tx: Tx, actor: Actor, role: Row[Any]) -> None:
    """Raises 403 unless the actor manages the place of the role."""
    if role.space_guid is not None:
        access.require_in_space(tx, actor, role.space_guid, ("space_manager", "organization_manager"))
    else:
        access.require_in_org(tx, actor, role.organization_guid, ("organization_manager",))


def require_deletable(tx: Tx, role: Row[Any]) -> None:
    """Raises 422 for organization_user while the user has roles in spaces of the organization."""
    if role.type != "organization_user":
        return
    inside = select(spaces.c.guid).where(spaces.c.organization_guid == role.organization_guid)
    held = select(roles.c.guid).where(roles.c.user_guid == role.user_guid, roles.c.space_guid.in_(inside))
    if tx.scalar(held.limit(1)) is not None:
        raise errors.unprocessable(
            "Cannot delete organization_user role while user has roles in spaces in that organization."
        )


def delete(tx: Tx, actor: Actor, role: Row[Any]) -> None:
    """Take a role away."""
    require_deletable(tx, role)
    rows.remove(tx, roles, [role.guid])
    organization = role.organization_guid
    if role.space_guid is not None:
        organization = tx.scalar(select(spaces.c.organization_guid).where(spaces.c.guid == role.space_guid))
    shown = identity.names_of(tx, [role.user_guid]).get(role.user_guid, (role.user_guid, ""))[0]
    audit.record(
        tx,
        f"audit.user.{role.type}_remove",
        actor,
        role.user_guid,
        "user",
        shown,
        {"request": {}},
        space_guid=role.space_guid,
        organization_guid=organization,
    )
