"""The Open Service Broker API as a client: one method for each call, typed questions and answers.

    client = BrokerClient(settings)                # one for a process; `await client.close()` at its end
    answer = await client.provision(broker, caller, instance_guid, ProvisionRequest(...))

A call that does not succeed raises BrokerError (problems.py), which says whether the broker may have made something that
is to be removed again (`orphan`). Ids in requests are those of the broker's catalog, guids in paths are ours.
Calls and statuses: reference/service-brokers.md sections 1, 2 and 6.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from cupola.brokers import answers
from cupola.brokers.parties import Broker, Caller
from cupola.brokers.transport import Answer, Transport
from cupola.config import Settings

__all__ = [
    "BindRequest",
    "BindingDetails",
    "Bound",
    "Broker",
    "BrokerClient",
    "Caller",
    "CatalogIds",
    "FetchedInstance",
    "LastOperation",
    "Operated",
    "ProvisionRequest",
    "UpdateRequest",
]

State = Literal["succeeded", "failed", "in progress"]


@dataclass(frozen=True)
class CatalogIds:
    """What the broker calls an offering and a plan of it."""

    service_id: str
    plan_id: str


@dataclass(frozen=True)
class ProvisionRequest:
    """PUT of an instance. `parameters` and `maintenance_info` are sent when they are not None."""

    ids: CatalogIds
    organization_guid: str
    space_guid: str
    context: Mapping[str, Any]
    parameters: Mapping[str, Any] | None = field(default=None, repr=False)
    maintenance_info: Mapping[str, Any] | None = None

    def body(self) -> dict[str, Any]:
        """As it is sent."""
        return {
            "service_id": self.ids.service_id,
            "plan_id": self.ids.plan_id,
            "organization_guid": self.organization_guid,
            "space_guid": self.space_guid,
            "context": dict(self.context),
            **_given(parameters=self.parameters, maintenance_info=self.maintenance_info),
        }


@dataclass(frozen=True)
class UpdateRequest:
    """PATCH of an instance. `ids.plan_id` is the new plan's; `previous_values` as section 2 of the reference spells them."""

    ids: CatalogIds
    previous_values: Mapping[str, Any]
    context: Mapping[str, Any]
    parameters: Mapping[str, Any] | None = field(default=None, repr=False)
    maintenance_info: Mapping[str, Any] | None = None

    def body(self) -> dict[str, Any]:
        """As it is sent."""
        return {
            "service_id": self.ids.service_id,
            "plan_id": self.ids.plan_id,
            "previous_values": dict(self.previous_values),
            "context": dict(self.context),
            **_given(parameters=self.parameters, maintenance_info=self.maintenance_info),
        }


@dataclass(frozen=True)
class BindRequest:
    """PUT of a binding. `bind_resource` is {app_guid, space_guid, app_annotations}, {credential_client_id} or {route}."""

    ids: CatalogIds
    bind_resource: Mapping[str, Any]
    context: Mapping[str, Any]
    app_guid: str | None = None
    parameters: Mapping[str, Any] | None = field(default=None, repr=False)

    def body(self) -> dict[str, Any]:
        """As it is sent."""
        return {
            "service_id": self.ids.service_id,
            "plan_id": self.ids.plan_id,
            "bind_resource": dict(self.bind_resource),
            "context": dict(self.context),
            **_given(app_guid=self.app_guid, parameters=self.parameters),
        }


@dataclass(frozen=True)
class Operated:
    """What became of an instance, or of the removal of something; 410 to a removal is `succeeded`."""

    state: State
    operation: str | None = None
    """What to ask for with last_operation, if the broker named it."""
    dashboard_url: str | None = None
    metadata: dict[str, Any] | None = None
    """{labels, attributes} that the broker keeps for the instance."""
    retry_after: float | None = None
    """Seconds, if the broker said when to ask again."""


@dataclass(frozen=True)
class BindingDetails:
    """What a binding gives."""

    credentials: dict[str, Any] = field(repr=False)
    syslog_drain_url: str | None = field(default=None, repr=False)
    route_service_url: str | None = None
    volume_mounts: list[dict[str, Any]] = field(default_factory=list, repr=False)
    endpoints: list[dict[str, Any]] = field(default_factory=list)
    """[{host, ports, protocol}] that whoever is bound must reach."""
    parameters: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Bound:
    """`details` when it is done, `operation` and `retry_after` when it goes on."""

    state: State
    details: BindingDetails | None = None
    operation: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True)
class LastOperation:
    """How far an operation is."""

    state: State
    description: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True)
class FetchedInstance:
    """An instance as its broker has it."""

    dashboard_url: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict, repr=False)
    metadata: dict[str, Any] | None = None


class BrokerClient:
    """Calls brokers; keeps connections. Made on any thread, used on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.transport = Transport(settings)

    async def close(self) -> None:
        """Close all connections."""
        await self.transport.close()

    async def catalog(self, broker: Broker, caller: Caller) -> dict[str, Any]:
        """The catalog as the broker wrote it, a JSON object (brokers/catalog.py looks into it)."""
        return answers.catalog(await self._call(broker, caller, "GET", "/v2/catalog"))

    async def provision(self, broker: Broker, caller: Caller, instance: str, request: ProvisionRequest) -> Operated:
        """Make an instance."""
        found = await self._call(broker, caller, "PUT", _instance(instance), _ASYNC, request.body())
        return Operated(**answers.provision(found))

    async def update(self, broker: Broker, caller: Caller, instance: str, request: UpdateRequest) -> Operated:
        """Change an instance."""
        found = await self._call(broker, caller, "PATCH", _instance(instance), _ASYNC, request.body())
        return Operated(**answers.update(found))

    async def deprovision(self, broker: Broker, caller: Caller, instance: str, ids: CatalogIds) -> Operated:
        """Remove an instance."""
        found = await self._call(broker, caller, "DELETE", _instance(instance), {**_query(ids), **_ASYNC})
        return Operated(**answers.deprovision(found))

    async def last_operation(
        self,
        broker: Broker,
        caller: Caller,
        instance: str,
        ids: CatalogIds,
        operation: str | None,
        *,
        deleting: bool = False,
    ) -> LastOperation:
        """How far the last operation on an instance is. An error says nothing about it: ask again."""
        path = _instance(instance) + "/last_operation"
        found = await self._call(broker, caller, "GET", path, {**_query(ids), **_given(operation=operation)})
        return LastOperation(**answers.last_operation(found, deleting=deleting))

    async def fetch_instance(self, broker: Broker, caller: Caller, instance: str) -> FetchedInstance:
        """An instance with its parameters; only where the offering has `instances_retrievable`."""
        return FetchedInstance(**answers.fetched_instance(await self._call(broker, caller, "GET", _instance(instance))))

    async def bind(
        self, broker: Broker, caller: Caller, instance: str, binding: str, request: BindRequest, requires: Sequence[str]
    ) -> Bound:
        """Make a binding; `requires` are the permissions of the offering, which limit what it may give."""
        found = await self._call(broker, caller, "PUT", _binding(instance, binding), _ASYNC, request.body())
        given = answers.bind(found, requires)
        details = given.pop("details")
        return Bound(**given, details=None if details is None else BindingDetails(**details))

    async def unbind(self, broker: Broker, caller: Caller, instance: str, binding: str, ids: CatalogIds) -> Operated:
        """Remove a binding."""
        found = await self._call(broker, caller, "DELETE", _binding(instance, binding), {**_query(ids), **_ASYNC})
        return Operated(**answers.unbind(found))

    async def binding_last_operation(
        self,
        broker: Broker,
        caller: Caller,
        instance: str,
        binding: str,
        ids: CatalogIds,
        operation: str | None,
        *,
        deleting: bool = False,
    ) -> LastOperation:
        """How far the last operation on a binding is. An error says nothing about it: ask again."""
        path = _binding(instance, binding) + "/last_operation"
        found = await self._call(broker, caller, "GET", path, {**_query(ids), **_given(operation=operation)})
        return LastOperation(**answers.last_operation(found, deleting=deleting))

    async def fetch_binding(
        self, broker: Broker, caller: Caller, instance: str, binding: str, requires: Sequence[str]
    ) -> BindingDetails:
        """A binding with what it gives; only where the offering has `bindings_retrievable`."""
        found = await self._call(broker, caller, "GET", _binding(instance, binding))
        return BindingDetails(**answers.fetched_binding(found, requires))

    async def _call(
        self,
        broker: Broker,
        caller: Caller,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        return await self.transport.send(broker, caller, method, path, query or {}, body)


_ASYNC = {"accepts_incomplete": "true"}


def _instance(guid: str) -> str:
    return f"/v2/service_instances/{quote(guid, safe='')}"


def _binding(instance: str, binding: str) -> str:
    return f"{_instance(instance)}/service_bindings/{quote(binding, safe='')}"


def _query(ids: CatalogIds) -> dict[str, str]:
    return {"service_id": ids.service_id, "plan_id": ids.plan_id}


def _given(**values: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}
