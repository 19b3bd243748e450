"""Removing a binding at its broker: as the work of a job, or because what it belongs to is removed.

A binding that its broker removes later goes on in a job of its own; whoever wanted more removed with it has to come back.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Row

from cupola.brokers.client import BrokerClient, Operated
from cupola.brokers.facts import BindingFacts, of_binding
from cupola.brokers.outcomes import Door, NotDone, not_done
from cupola.brokers.parties import Caller
from cupola.brokers.problems import BrokerError
from cupola.domain import last_operations, service_bindings, service_events
from cupola.domain.service_bindings import APP, Kind
from cupola.roles import Actor
from cupola.store import rows, sealed
from cupola.store.database import Tx
from cupola.store.service_instances import service_instances

__all__ = ["Words", "ask", "goes_on", "remove_all", "require_idle", "words_of_binding"]

Words = Callable[[Tx, Kind, Row[Any]], str]
"""How a broker that removes a binding later stands in the way of what was wanted."""

_REFUSED = "The service broker rejected the request due to an operation being in progress for the service binding."
_BUSY = "The delete request was rejected due to an operation being in progress for the service binding."


def require_idle(row: Row[Any]) -> None:
    """A binding may be deleted now. Raises NotDone, with the binding as it was."""
    if service_bindings.is_blocked(row):
        raise not_done("unbind", _BUSY, keeps=True)


async def ask(client: BrokerClient, caller: Caller, facts: BindingFacts) -> Operated:
    """Have the broker remove a binding. Raises NotDone; a broker that is busy with it leaves it as it is."""
    try:
        return await client.unbind(facts.broker, caller, facts.instance.guid, facts.binding.guid, facts.ids)
    except BrokerError as error:
        if error.kind == "ConcurrencyError":
            raise not_done("unbind", _REFUSED, keeps=True) from error
        lead = f"Service broker failed to delete service binding for instance {facts.instance.name}"
        raise not_done("unbind", f"{lead}: {error.text}") from error


def goes_on(tx: Tx, actor: Actor, kind: Kind, row: Row[Any], answer: Operated) -> None:
    """The broker removes the binding later."""
    values = last_operations.begun(tx, "delete")
    values["broker_operation"] = sealed.seal(tx, kind.table.c.broker_operation, answer.operation)
    changed = rows.change(tx, kind.table, row, values)
    service_events.of_binding(tx, "start_delete", actor, kind.event, changed)


async def remove_all(
    door: Door,
    client: BrokerClient,
    caller: Caller,
    actor: Actor,
    bindings: Callable[[Tx], list[tuple[Kind, Row[Any]]]],
    words: Words,
) -> list[str]:
    """Remove bindings one after the other, whatever becomes of the others; why some of them are still there."""
    causes = []
    for kind, row in await door.read(bindings):
        cause = await _Removal(door, client, caller, actor, kind, row.guid, words).run()
        if cause is not None:
            causes.append(cause)
    return causes


class _Removal:
    """The removal of one binding that something else is waiting for."""

    def __init__(
        self,
        door: Door,
        client: BrokerClient,
        caller: Caller,
        actor: Actor,
        kind: Kind,
        guid: str,
        words: Words,
    ) -> None:
        self._door = door
        self._client = client
        self._caller = caller
        self._actor = actor
        self._kind = kind
        self._guid = guid
        self._words = words

    async def run(self) -> str | None:
        """Why the binding is still there, or None."""
        try:
            facts = await self._door.write(self._begin)
            if facts is None:
                return None
            answer = await ask(self._client, self._caller, facts)
        except NotDone as error:
            if not error.keeps:
                description = error.description
                await self._door.write(lambda tx: self._failed(tx, description))
            return error.description
        if answer.state == "in progress":
            return await self._door.write(lambda tx: self._hand_over(tx, answer))
        await self._door.write(self._gone)
        return None

    def _begin(self, tx: Tx) -> BindingFacts | None:
        """The facts of a binding that a broker knows; another one is removed here."""
        row = self._row(tx)
        if row is None:
            return None
        require_idle(row)
        facts = of_binding(tx, self._kind, self._guid)
        if facts is None:
            service_bindings.remove(tx, self._actor, self._kind, row)
        return facts

    def _failed(self, tx: Tx, description: str) -> None:
        row = self._row(tx)
        if row is not None:
            values = {
                **last_operations.begun(tx, "delete"),
                **last_operations.ended(tx, "delete", "failed", description),
            }
            rows.change(tx, self._kind.table, row, values)
            service_bindings.ring(tx, self._kind)

    def _hand_over(self, tx: Tx, answer: Operated) -> str | None:
        """A job of its own asks the broker from now on."""
        row = self._row(tx)
        if row is None:
            return None
        goes_on(tx, self._actor, self._kind, row, answer)
        service_bindings.enqueue_deletion(tx, self._actor, self._kind, row, self._caller.request_id, accepted=True)
        return self._words(tx, self._kind, row)

    def _gone(self, tx: Tx) -> None:
        row = self._row(tx)
        if row is not None:
            service_bindings.remove(tx, self._actor, self._kind, row)

    def _row(self, tx: Tx) -> Row[Any] | None:
        return rows.by_guid(tx, self._kind.table, self._guid)


def words_of_binding(tx: Tx, kind: Kind, row: Row[Any]) -> str:
    """As instances and apps that are deleted say it."""
    instance = rows.by_guid(tx, service_instances, row.service_instance_guid)
    name = instance.name if instance is not None else row.service_instance_guid
    if kind is not APP:
        return f"An operation for a service binding of service instance {name} is in progress."
    facts = of_binding(tx, kind, row.guid)
    app = facts.app_name if facts is not None else row.app_guid
    return f"An operation for the service binding between app {app} and service instance {name} is in progress."
