"""Audit and usage events of service instances and their bindings: who asked a broker for what, and what came of it."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select

from cupola.domain import audit
from cupola.roles import Actor
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.service_instances import service_instances

__all__ = ["of_binding", "of_instance"]


def of_instance(tx: Tx, verb: str, actor: Actor, instance: Row[Any], data: Mapping[str, Any] | None = None) -> None:
    """`verb` as event types end: create, start_update, share. The words of a request are hidden where they are secret."""
    kind = "service_instance" if instance.type == "managed" or verb == "purge" else "user_provided_service_instance"
    audit.record(
        tx,
        f"audit.{kind}.{verb}",
        actor,
        instance.guid,
        kind,
        instance.name,
        data or {},
        space_guid=instance.space_guid,
    )


def of_binding(
    tx: Tx,
    verb: str,
    actor: Actor,
    kind: str,
    binding: Row[Any],
    request: Mapping[str, Any] | None = None,
    *,
    by_manifest: bool = False,
) -> None:
    """`kind` is service_binding (of an app), service_key or service_route_binding. Without a request, who is bound."""
    values = dict(binding._mapping)
    if request is None:
        request = {
            name: values[name]
            for name in ("app_guid", "route_guid", "service_instance_guid")
            if values.get(name) is not None
        }
    data: dict[str, Any] = {"request": dict(request)}
    if by_manifest:
        data["manifest_triggered"] = True
    audit.record(
        tx,
        f"audit.{kind}.{verb}",
        actor,
        binding.guid,
        kind,
        values.get("name") or "",
        data,
        space_guid=_space_of(tx, values),
    )


def _space_of(tx: Tx, binding: Mapping[str, Any]) -> str | None:
    """An app's binding belongs to the space of the app, others to that of the instance."""
    if binding.get("app_guid") is not None:
        return tx.scalar(select(apps.c.space_guid).where(apps.c.guid == binding["app_guid"]))  # type: ignore[no-any-return]  # text
    wanted = select(service_instances.c.space_guid).where(service_instances.c.guid == binding["service_instance_guid"])
    return tx.scalar(wanted)  # type: ignore[no-any-return]  # text
