"""What is bound to a service instance: credentials for apps, keys, routes. How each kind is called, changed and removed.

New bindings: service_credential_bindings.py and service_route_bindings.py. What a broker has to do: cupola/brokers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Table, select, update

from cupola import errors
from cupola.domain import last_operations, service_events, service_offers
from cupola.roles import Actor
from cupola.store import jobs, rows, sealed
from cupola.store.database import Tx
from cupola.store.service_bindings import service_credential_bindings, service_route_bindings
from cupola.store.service_instances import service_instances

__all__ = [
    "APP",
    "KEY",
    "KINDS",
    "ROUTE",
    "Kind",
    "drain_url",
    "enqueue_deletion",
    "follow",
    "given_by",
    "is_blocked",
    "of_app",
    "of_instance",
    "relabel",
    "remove",
    "require_deletable",
    "ring",
]


@dataclass(frozen=True)
class Kind:
    """One of the three kinds of binding, as tables, events, jobs and messages call it."""

    name: str
    table: Table
    event: str
    jobs: str
    resource_type: str
    noun: str
    """As in `Creation of service key in progress`."""


APP = Kind(
    "app",
    service_credential_bindings,
    "service_binding",
    "service_bindings",
    "service_credential_bindings",
    "service binding",
)
KEY = Kind(
    "key", service_credential_bindings, "service_key", "service_keys", "service_credential_bindings", "service key"
)
ROUTE = Kind(
    "route",
    service_route_bindings,
    "service_route_binding",
    "service_route_bindings",
    "service_route_bindings",
    "route binding",
)
KINDS = {kind.name: kind for kind in (APP, KEY, ROUTE)}


def of_instance(tx: Tx, instance_guid: str) -> Iterator[tuple[Kind, Row[Any]]]:
    """All bindings of an instance in the order in which they go: of routes, of apps, keys."""
    for kind in (ROUTE, APP, KEY):
        bound = select(kind.table).where(kind.table.c.service_instance_guid == instance_guid)
        if kind is not ROUTE:
            bound = bound.where(kind.table.c.type == kind.name)
        for row in tx.all(bound.order_by(kind.table.c.id)):
            yield kind, row


def of_app(tx: Tx, app_guid: str) -> list[Row[Any]]:
    """The credential bindings of an app, oldest first."""
    bindings = service_credential_bindings
    return list(tx.all(select(bindings).where(bindings.c.app_guid == app_guid).order_by(bindings.c.id)))


def follow(tx: Tx, instance: Row[Any], changed: Mapping[str, Any]) -> None:
    """Bindings of a user-provided instance have what it has; `changed` are its columns that are new."""
    bindings = service_credential_bindings
    if "credentials" in changed or "syslog_drain_url" in changed:
        own = bindings.c.service_instance_guid == instance.guid
        tx.run(update(bindings).where(own).values(**given_by(tx, instance), updated_at=tx.now))
        tx.ring("desired")
        tx.ring("drains")
    if changed.get("route_service_url"):
        own = service_route_bindings.c.service_instance_guid == instance.guid
        values = {"route_service_url": changed["route_service_url"], "updated_at": tx.now}
        tx.run(update(service_route_bindings).where(own).values(values))
        tx.ring("routes")


def given_by(tx: Tx, instance: Row[Any]) -> dict[str, Any]:
    """Columns of a credential binding of a user-provided instance."""
    credentials = sealed.opened(tx, service_instances.c.credentials, instance.credentials, {})
    drain = drain_url(sealed.opened(tx, service_instances.c.syslog_drain_url, instance.syslog_drain_url))
    columns = service_credential_bindings.c
    return {
        "credentials": sealed.seal(tx, columns.credentials, credentials),
        "syslog_drain_url": sealed.seal(tx, columns.syslog_drain_url, drain),
    }


def drain_url(given: str | None) -> str | None:
    """A drain's address as bindings have it: commas are escaped, because drains are listed with commas between them."""
    return given.replace(",", "%2c") if given else None


def is_blocked(binding: Row[Any]) -> bool:
    """Whether what runs on a binding must end before it can be deleted; a creation in progress need not."""
    return (binding.operation_type, binding.operation_state) in {("create", "initial"), ("delete", "in progress")}


def require_deletable(tx: Tx, binding: Row[Any]) -> Row[Any]:
    """The instance of a binding that may be deleted now. Raises 422."""
    if is_blocked(binding):
        raise errors.unprocessable("There is an operation in progress for the service binding.")
    instance = rows.by_guid(tx, service_instances, binding.service_instance_guid)
    assert instance is not None, "a binding never outlives its instance"
    if last_operations.in_progress(instance):
        raise errors.unprocessable("There is an operation in progress for the service instance.")
    return instance


def enqueue_deletion(
    tx: Tx, actor: Actor, kind: Kind, binding: Row[Any], request_id: str = "", *, accepted: bool = False
) -> str:
    """Enqueue the job that has the broker remove a binding; gives its guid. A running one is the same.

    `accepted`: the broker has been asked already, and is at it.
    """
    instance = rows.by_guid(tx, service_instances, binding.service_instance_guid)
    offer = service_offers.of_plan(tx, instance.service_plan_guid if instance is not None else None)
    assert offer is not None, "a managed instance has a plan"
    return jobs.enqueue(
        tx,
        f"{kind.jobs}.delete",
        {"guid": binding.guid, "request_id": request_id, **({"accepted": True} if accepted else {})},
        actor=actor,
        lane="broker",
        target=offer.service_broker_guid,
        resource_guid=binding.guid,
        resource_type=kind.resource_type,
        dedup=f"{kind.jobs}.delete:{binding.guid}",
    )


def remove(tx: Tx, actor: Actor, kind: Kind, binding: Row[Any]) -> None:
    """Delete a binding's row; its broker knows already, or never has to."""
    service_events.of_binding(tx, "delete", actor, kind.event, binding)
    rows.remove(tx, kind.table, [binding.guid])
    ring(tx, kind)


def ring(tx: Tx, kind: Kind) -> None:
    """Whoever acts on bindings of this kind looks again."""
    for bell in ("routes",) if kind is ROUTE else ("desired", "drains"):
        tx.ring(bell)


def relabel(tx: Tx, actor: Actor, kind: Kind, binding: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Change labels and annotations. Raises 422 while the binding is being deleted."""
    if last_operations.delete_in_progress(binding):
        what = "service route binding" if kind is ROUTE else "service binding"
        raise errors.unprocessable(f"The {what} is being deleted")
    changed = rows.change(tx, kind.table, binding, {}, body.get("metadata"))
    service_events.of_binding(tx, "update", actor, kind.event, changed, body)
    return changed
