"""Service instances: described by users, or made by brokers on their behalf (reference/service-brokers.md section 9).

What a broker has to do is a job (cupola/brokers/instances.py); here are the rules that hold before and after it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Row, delete, or_, select

from cupola import errors
from cupola.domain import (
    access,
    feature_flags,
    last_operations,
    quotas,
    service_bindings,
    service_errors,
    service_events,
    service_offers,
    service_orphans,
    usage,
)
from cupola.roles import Actor
from cupola.store import jobs, rows, sealed
from cupola.store.database import Tx
from cupola.store.orgs import spaces
from cupola.store.service_bindings import service_credential_bindings, service_route_bindings
from cupola.store.service_instances import service_instance_shares, service_instances

__all__ = [
    "create_managed",
    "create_user_provided",
    "delete_user_provided",
    "enqueue",
    "is_blocked",
    "lock",
    "name_is_taken",
    "purge",
    "readable",
    "remove",
    "request_deletion",
    "require_free",
    "seal_request",
    "space_guids",
    "tag_problems",
    "update_user_provided",
]

_TAGS = 2048
"""Characters of all tags of an instance together."""
LANE = "broker"


def tag_problems(value: Any) -> list[str]:
    """What is wrong with `tags`; each text follows the field's label."""
    if not all(isinstance(one, str) for one in value):
        return ["must be a list of strings"]
    return [f"must be {_TAGS} characters or less together"] if len("".join(value)) > _TAGS else []


def readable(tx: Tx, actor: Actor, guid: str, *, also_shared: bool = True) -> Row[Any] | None:
    """The instance, if the actor reads its space (or one that it is shared with)."""
    instance = rows.by_guid(tx, service_instances, guid)
    if instance is None:
        return None
    where = space_guids(tx, instance) if also_shared else [instance.space_guid]
    return instance if any(access.may_read_space(tx, actor, one) for one in where) else None


def space_guids(tx: Tx, instance: Row[Any]) -> list[str]:
    """The instance's own space, then those that it is shared with."""
    shares = service_instance_shares.c
    shared = select(shares.space_guid).where(shares.service_instance_guid == instance.guid).order_by(shares.space_guid)
    return [instance.space_guid, *tx.scalars(shared)]


def lock(tx: Tx, guid: str) -> Row[Any] | None:
    """The instance as it is now; nobody else who locks it goes on before this transaction has ended."""
    return tx.one(select(service_instances).where(service_instances.c.guid == guid).with_for_update())


def name_is_taken(tx: Tx, space_guid: str, name: str, *, but: str = "") -> bool:
    """Whether an instance of this name is in the space or shared with it; `but` is a guid that does not count."""
    own, shares = service_instances.c, service_instance_shares.c
    shared = select(shares.service_instance_guid).where(shares.space_guid == space_guid)
    here = or_(own.space_guid == space_guid, own.guid.in_(shared))
    return tx.scalar(select(own.guid).where(own.name == name, own.guid != but, here).limit(1)) is not None


def _space_for_new(tx: Tx, actor: Actor, body: Mapping[str, Any]) -> str:
    feature_flags.require(tx, actor, "service_instance_creation")
    guid: str = body["relationships"]["space"]["data"]["guid"]
    if rows.by_guid(tx, spaces, guid) is None or not access.may_read_space(tx, actor, guid):
        raise errors.unprocessable("Invalid space. Ensure that the space exists and you have access to it.")
    access.require_in_space(tx, actor, guid, access.WRITE_IN_SPACE)
    return guid


def _name_taken(name: str) -> Exception:
    return errors.unprocessable(f"The service instance name is taken: {name}.")


def create_user_provided(tx: Tx, actor: Actor, body: Mapping[str, Any]) -> Row[Any]:
    """Add an instance that is what its user says. `body` as POST takes it. Raises 403, 422."""
    space_guid = _space_for_new(tx, actor, body)
    name = body["name"].strip()
    if name_is_taken(tx, space_guid, name):
        raise _name_taken(name)
    values = {
        "name": name,
        "type": "user-provided",
        "space_guid": space_guid,
        "tags": body.get("tags") or [],
        "maintenance_info": {},
        **_described(tx, actor, body),
        **last_operations.begun(tx, "create"),
        **last_operations.ended(tx, "create", "succeeded", "Operation succeeded"),
    }
    row = rows.add(tx, service_instances, values, body.get("metadata"))
    usage.service_instance_changed(tx, row, "CREATED")
    service_events.of_instance(tx, "create", actor, row, {"request": dict(body)})
    return row


def _described(tx: Tx, actor: Actor, body: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of what only users say, as far as the body names them."""
    values: dict[str, Any] = {}
    if "credentials" in body:
        values["credentials"] = sealed.seal(tx, service_instances.c.credentials, body["credentials"] or {})
    for name in ("syslog_drain", "route_service"):
        if f"{name}_url" in body:
            values[f"{name}_url"] = (body[f"{name}_url"] or "").strip() or None
            values[f"{name}_anywhere"] = actor.is_admin
    if "syslog_drain_url" in values:
        # The address of a drain often has a token in it.
        column = service_instances.c.syslog_drain_url
        values["syslog_drain_url"] = sealed.seal(tx, column, values["syslog_drain_url"])
    return values


def update_user_provided(tx: Tx, actor: Actor, instance: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Change what a user says of an instance; its bindings have the same from now on. Raises 422."""
    values = _described(tx, actor, body)
    if body.get("name") is not None:
        values["name"] = body["name"].strip()
        if name_is_taken(tx, instance.space_guid, values["name"], but=instance.guid):
            raise _name_taken(values["name"])
    if "tags" in body:
        values["tags"] = body["tags"] or []
    operation = {
        **last_operations.begun(tx, "update"),
        **last_operations.ended(tx, "update", "succeeded", "Operation succeeded"),
    }
    changed = rows.change(tx, service_instances, instance, {**values, **operation}, body.get("metadata"))
    service_bindings.follow(tx, changed, values)
    if changed.name != instance.name:
        usage.service_instance_changed(tx, changed, "UPDATED")
    service_events.of_instance(tx, "update", actor, instance, {"request": dict(body)})
    return changed


def create_managed(tx: Tx, actor: Actor, body: Mapping[str, Any], request_id: str) -> str:
    """Add an instance and the job that has its broker make it; gives the job's guid. Raises 403, 422."""
    space_guid = _space_for_new(tx, actor, body)
    offer = service_offers.require_usable(tx, actor, body["relationships"]["service_plan"]["data"]["guid"], space_guid)
    if offer.broker_state != "AVAILABLE":
        raise errors.unprocessable(
            "The service instance cannot be created because there is an operation in progress for the service broker."
        )
    name = body["name"].strip()
    _replace_failed(tx, space_guid, name)
    quotas.require_service_instance(tx, space_guid, free=offer.free)
    if name_is_taken(tx, space_guid, name):
        raise _name_taken(name)
    values = {
        "name": name,
        "type": "managed",
        "space_guid": space_guid,
        "service_plan_guid": offer.guid,
        "tags": body.get("tags") or [],
        "maintenance_info": offer.maintenance_info or {},
        **last_operations.begun(tx, "create", "initial"),
    }
    row = rows.add(tx, service_instances, values, body.get("metadata"))
    usage.service_instance_changed(tx, row, "CREATED")
    return enqueue(tx, "service_instance.create", actor, row, offer, request_id, body)


def _replace_failed(tx: Tx, space_guid: str, name: str) -> None:
    """An instance of this name that could never be made goes, and what its broker may have of it."""
    own = service_instances.c
    found = tx.one(select(service_instances).where(own.space_guid == space_guid, own.name == name))
    if found is not None and last_operations.create_failed(found):
        service_orphans.of_instance(tx, found)
        remove(tx, found)


def seal_request(tx: Tx, body: Mapping[str, Any]) -> str:
    """What somebody asked for, as a job keeps it: parameters are secrets."""
    return tx.vault.seal(msgspec.json.encode(body), "jobs.request")


def enqueue(
    tx: Tx,
    operation: str,
    actor: Actor,
    instance: Row[Any],
    offer: Row[Any],
    request_id: str,
    body: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> str:
    """Enqueue a job of an instance that calls its broker; gives the job's guid. `more` goes into its payload."""
    payload: dict[str, Any] = {"guid": instance.guid, "request_id": request_id, **(more or {})}
    if body is not None:
        payload["request"] = seal_request(tx, body)
    return jobs.enqueue(
        tx,
        operation,
        payload,
        actor=actor,
        lane=LANE,
        target=offer.service_broker_guid,
        resource_guid=instance.guid,
        resource_type="service_instances",
        dedup=f"{operation}:{instance.guid}",
    )


def require_free(tx: Tx, instance: Row[Any]) -> None:
    """Nothing runs on an instance, or 409."""
    if last_operations.in_progress(instance):
        raise service_errors.busy(instance.name)


def request_deletion(tx: Tx, actor: Actor, instance: Row[Any], request_id: str) -> str:
    """Enqueue the deletion of a managed instance; a running one is the same job. Raises 422."""
    offer = service_offers.of_plan(tx, instance.service_plan_guid)
    assert offer is not None, "a managed instance has a plan"
    running = tx.scalar(select(jobs.jobs.c.guid).where(jobs.jobs.c.dedup == f"service_instance.delete:{instance.guid}"))
    if running is not None:
        return str(running)
    if is_blocked(instance):
        raise errors.unprocessable("There is an operation in progress for the service instance.")
    return enqueue(tx, "service_instance.delete", actor, instance, offer, request_id)


def is_blocked(instance: Row[Any]) -> bool:
    """Whether what runs on an instance must end before it can be deleted; a creation in progress need not."""
    kind = (instance.operation_type, instance.operation_state)
    return kind in {("create", "initial"), ("update", "in progress"), ("delete", "in progress")}


def delete_user_provided(tx: Tx, actor: Actor, instance: Row[Any]) -> None:
    """Remove an instance that nobody else knows of, with its bindings."""
    _remove_bindings(tx, actor, instance)
    remove(tx, instance)
    service_events.of_instance(tx, "delete", actor, instance, {"request": {}})


def purge(tx: Tx, actor: Actor, instance: Row[Any]) -> None:
    """Forget an instance, its bindings and shares, without a word to its broker."""
    _remove_bindings(tx, actor, instance)
    for space_guid in space_guids(tx, instance)[1:]:
        service_events.of_instance(tx, "unshare", actor, instance, {"target_space_guid": space_guid})
    remove(tx, instance)
    service_events.of_instance(tx, "purge", actor, instance, {"request": {}})


def _remove_bindings(tx: Tx, actor: Actor, instance: Row[Any]) -> None:
    for kind, binding in service_bindings.of_instance(tx, instance.guid):
        service_bindings.remove(tx, actor, kind, binding)


def remove(tx: Tx, instance: Row[Any]) -> None:
    """Delete an instance's row, its shares, and the rows of what is still bound to it."""
    usage.service_instance_changed(tx, instance, "DELETED")
    for table in (service_credential_bindings, service_route_bindings):
        bound = select(table.c.guid).where(table.c.service_instance_guid == instance.guid)
        rows.remove(tx, table, tx.scalars(bound))
    shares = service_instance_shares
    tx.run(delete(shares).where(shares.c.service_instance_guid == instance.guid))
    rows.remove(tx, service_instances, [instance.guid])
