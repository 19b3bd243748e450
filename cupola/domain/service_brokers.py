"""Service brokers: who may register them where, and what becomes of them (reference/service-brokers.md section 4).

A change of name, url or credentials is kept aside in its job and comes true when the new catalog is good.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Row, select, update

from cupola import errors
from cupola.domain import access, audit, dashboard_clients, feature_flags, service_catalog_sync
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import jobs, rows, sealed
from cupola.store.database import Tx
from cupola.store.orgs import spaces
from cupola.store.service_brokers import service_brokers, service_offerings, service_plans
from cupola.store.service_instances import service_instances

__all__ = [
    "AVAILABLE",
    "DELETE_FAILED",
    "SYNCHRONIZATION_FAILED",
    "SYNCHRONIZING",
    "apply_change",
    "create",
    "gone",
    "in_progress",
    "remove",
    "remove_all_of_space",
    "request_deletion",
    "request_update",
    "require_writable",
    "set_state",
    "url_problems",
]

SYNCHRONIZING = "SYNCHRONIZING"
AVAILABLE = "AVAILABLE"
SYNCHRONIZATION_FAILED = "SYNCHRONIZATION_FAILED"
DELETE_IN_PROGRESS = "DELETE_IN_PROGRESS"
DELETE_FAILED = "DELETE_FAILED"
WRITE = ("space_developer",)
_columns = service_brokers.c


def url_problems(url: str) -> list[str]:
    """What is wrong with the address of a broker."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or any(character.isspace() or not character.isprintable() for character in url):
        return [f"'{url[:200]}' must be a valid url"]
    if parts.username is not None or parts.password is not None:
        return ["must not contain authentication"]
    return []


def gone() -> CloudError:
    """Somebody removed the broker while its catalog was fetched."""
    detail = "The service broker was removed before the synchronization completed"
    return CloudError(270011, "CF-ServiceBrokerGone", 422, detail)


def create(tx: Tx, actor: Actor, body: Mapping[str, Any], request_id: str) -> tuple[Row[Any], str]:
    """Register a broker; `body` as POST /v3/service_brokers takes it. Gives it and its job. Raises 403, 422."""
    relationships = body.get("relationships") or {}
    space_guid = relationships["space"]["data"]["guid"] if "space" in relationships else None
    _require_place(tx, actor, space_guid)
    _require_free_name(tx, body["name"])
    credentials = body["authentication"]["credentials"]
    values = {
        "name": body["name"],
        "url": body["url"],
        "username": sealed.seal(tx, _columns.username, credentials["username"]),
        "password": sealed.seal(tx, _columns.password, credentials["password"]),
        "anywhere": actor.is_admin,
        "state": SYNCHRONIZING,
        "space_guid": space_guid,
    }
    broker = rows.add(tx, service_brokers, values, body.get("metadata"))
    _record(tx, "create", actor, broker, body)
    return broker, _enqueue(tx, "service_broker.catalog.synchronize", actor, broker, {}, request_id)


def _require_place(tx: Tx, actor: Actor, space_guid: str | None) -> None:
    if space_guid is None:
        access.require_admin(actor)
        return
    if rows.by_guid(tx, spaces, space_guid) is None or not access.may_read_space(tx, actor, space_guid):
        raise errors.unprocessable("Invalid space. Ensure that the space exists and you have access to it.")
    access.require_in_space(tx, actor, space_guid, WRITE)
    feature_flags.require(tx, actor, "space_scoped_private_broker_creation")


def _require_free_name(tx: Tx, name: str, but: str = "") -> None:
    taken = select(_columns.guid).where(_columns.name == name, _columns.guid != but)
    if tx.scalar(taken) is not None:
        raise errors.unprocessable("Name must be unique")


def _enqueue(
    tx: Tx, operation: str, actor: Actor, broker: Row[Any], payload: Mapping[str, Any], request_id: str
) -> str:
    return jobs.enqueue(
        tx,
        operation,
        {"guid": broker.guid, "request_id": request_id, **payload},
        actor=actor,
        lane="broker",
        target=broker.guid,
        resource_guid=broker.guid,
        resource_type="service_brokers",
    )


def require_writable(tx: Tx, actor: Actor, broker: Row[Any]) -> None:
    """Raises 403 for others than admins and developers of a space-scoped broker's space."""
    if broker.space_guid is None:
        access.require_admin(actor)
    else:
        access.require_in_space(tx, actor, broker.space_guid, WRITE)


def in_progress(broker: Row[Any]) -> bool:
    """Whether a job works on a broker."""
    return broker.state in {SYNCHRONIZING, DELETE_IN_PROGRESS}


def request_update(
    tx: Tx, actor: Actor, broker: Row[Any], body: Mapping[str, Any], request_id: str
) -> tuple[Row[Any], str | None]:
    """Change a broker; gives it and the job that does what takes a look at its catalog, if anything does. Raises 422."""
    asks = {name: body[name] for name in ("name", "url") if name in body and body[name] is not None}
    credentials = (body.get("authentication") or {}).get("credentials")
    if not asks and credentials is None:
        changed = rows.change(tx, service_brokers, broker, {}, body.get("metadata"))
        _record(tx, "update", actor, broker, body)
        return changed, None
    # Of two changes at the same moment one waits here, and then finds the other in progress.
    now = tx.one(select(service_brokers).where(_columns.guid == broker.guid).with_for_update())
    if now is None or in_progress(now):
        raise errors.unprocessable("Cannot update a broker when other operation is already in progress")
    if "name" in asks:
        _require_free_name(tx, asks["name"], broker.guid)
    if "url" in asks:
        asks["anywhere"] = actor.is_admin
    if credentials is not None:
        asks["username"] = sealed.seal(tx, _columns.username, credentials["username"])
        asks["password"] = sealed.seal(tx, _columns.password, credentials["password"])
    changed = rows.change(tx, service_brokers, broker, {"state": SYNCHRONIZING}, body.get("metadata"))
    _record(tx, "update", actor, broker, body)
    payload = {"changes": asks, "previous_state": broker.state}
    return changed, _enqueue(tx, "service_broker.update", actor, broker, payload, request_id)


def apply_change(tx: Tx, broker: Row[Any], changes: Mapping[str, Any]) -> Row[Any]:
    """Make true what an update asked for. Raises 422 when the name was taken meanwhile."""
    if "name" in changes:
        _require_free_name(tx, changes["name"], broker.guid)
    return rows.change(tx, service_brokers, broker, {**changes, "state": AVAILABLE})


def set_state(tx: Tx, guid: str, state: str) -> None:
    """Note how far a broker is."""
    tx.run(update(service_brokers).where(_columns.guid == guid).values(state=state, updated_at=tx.now))


def request_deletion(tx: Tx, actor: Actor, broker: Row[Any], request_id: str) -> str:
    """The job that removes a broker. Raises 422 while it has instances."""
    _require_unused(tx, broker)
    set_state(tx, broker.guid, DELETE_IN_PROGRESS)
    return _enqueue(tx, "service_broker.delete", actor, broker, {}, request_id)


def _require_unused(tx: Tx, broker: Row[Any]) -> None:
    used = (
        select(service_instances.c.guid)
        .join(service_plans, service_plans.c.guid == service_instances.c.service_plan_guid)
        .where(service_plans.c.service_broker_guid == broker.guid)
    )
    if tx.scalar(used.limit(1)) is not None:
        raise CloudError(
            270010,
            "CF-ServiceBrokerNotRemovable",
            422,
            f"Can not remove brokers that have associated service instances: {broker.name}",
        )


def remove(tx: Tx, actor: Actor, broker: Row[Any]) -> None:
    """Delete a broker with its plans, offerings and dashboard clients. Raises 422 while it has instances."""
    _require_unused(tx, broker)
    own = service_catalog_sync.broker_actor(broker)
    of_broker = service_plans.c.service_broker_guid == broker.guid
    service_catalog_sync.remove_plans(tx, own, tx.all(select(service_plans).where(of_broker)))
    of_broker = service_offerings.c.service_broker_guid == broker.guid
    service_catalog_sync.remove_offerings(tx, own, tx.all(select(service_offerings).where(of_broker)))
    dashboard_clients.remove_all_of(tx, own, broker.guid)
    rows.remove(tx, service_brokers, [broker.guid])
    _record(tx, "delete", actor, broker, None)


def remove_all_of_space(tx: Tx, actor: Actor, space_guid: str) -> None:
    """Delete the brokers of a space that is being deleted. Raises 422 while one has instances, wherever."""
    for broker in tx.all(select(service_brokers).where(_columns.space_guid == space_guid)):
        remove(tx, actor, broker)


def _record(tx: Tx, verb: str, actor: Actor, broker: Row[Any], body: Mapping[str, Any] | None) -> None:
    data = {} if body is None else {"request": _told(body)}
    audit.record(
        tx,
        f"audit.service_broker.{verb}",
        actor,
        broker.guid,
        "service_broker",
        broker.name,
        data,
        space_guid=broker.space_guid,
    )


def _told(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request without what logs a client in; audit hides the rest by its name."""
    return {key: audit.HIDDEN if key == "authentication" else value for key, value in body.items()}
