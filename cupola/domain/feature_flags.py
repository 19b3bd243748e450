"""Feature flags: their defaults, and whether one lets an actor pass (reference/behaviours.md section 15)."""

from typing import Any

from sqlalchemy import Row, select

from cupola import errors
from cupola.roles import Actor
from cupola.store.database import Tx
from cupola.store.platform import feature_flags

__all__ = ["DEFAULTS", "UNAVAILABLE", "all_flags", "is_enabled", "require", "require_of_everybody"]

DEFAULTS: dict[str, bool] = {
    "app_bits_upload": True,
    "app_scaling": True,
    "diego_cnb": False,
    "diego_docker": False,
    "env_var_visibility": True,
    "hash_based_routing": False,
    "hide_marketplace_from_unauthenticated_users": False,
    "private_domain_creation": True,
    "resource_matching": True,
    "route_creation": True,
    "route_sharing": False,
    "service_instance_creation": True,
    "service_instance_sharing": False,
    "set_roles_by_username": True,
    "space_developer_env_var_visibility": True,
    "space_scoped_private_broker_creation": True,
    "task_creation": True,
    "unset_roles_by_username": True,
    "user_org_creation": False,
}
UNAVAILABLE = {
    "diego_cnb": "this engine does not run cloud-native buildpacks yet; use buildpacks",
    "diego_docker": "this engine does not run docker images yet; push the app's source or its binary",
}
"""Flags that stay off, and why: to switch them on would promise what then fails."""
_NOBODY_SKIPS = frozenset(
    {
        "diego_docker",
        "diego_cnb",
        "route_sharing",
        "service_instance_sharing",
        "env_var_visibility",
        "space_scoped_private_broker_creation",
        "resource_matching",
        "hash_based_routing",
    }
)


def all_flags(tx: Tx) -> dict[str, Row[Any]]:
    """The flags that somebody set, by name."""
    return {row.name: row for row in tx.all(select(feature_flags))}


def is_enabled(tx: Tx, name: str) -> bool:
    """Whether the flag is on, for everybody."""
    enabled = tx.scalar(select(feature_flags.c.enabled).where(feature_flags.c.name == name))
    return DEFAULTS[name] if enabled is None else bool(enabled)


def require(tx: Tx, actor: Actor, name: str) -> None:
    """Raises 403 330002 when the flag is off and this actor does not pass it."""
    if actor.is_admin and name not in _NOBODY_SKIPS:
        return
    if name == "space_developer_env_var_visibility" and actor.reads_secrets:
        return
    require_of_everybody(tx, name)


def require_of_everybody(tx: Tx, name: str) -> None:
    """Raises 403 330002 when the flag is off, whoever asks."""
    if is_enabled(tx, name):
        return
    message = tx.scalar(select(feature_flags.c.custom_error_message).where(feature_flags.c.name == name))
    reason = f": {UNAVAILABLE[name]}" if name in UNAVAILABLE else ""
    raise errors.feature_disabled(message or name + reason)
