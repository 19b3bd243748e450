"""Plans that are defined at their broker: the definition goes there, then the catalog brings the plan.

All of it happens inside a request, which holds no transaction while it waits (reference/osmapi-and-extensions.md
section 5). Brokers speak OSMAPI for it (osmapi.py).
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Row, select

from cupola import errors
from cupola.brokers import dashboards, synchronize
from cupola.brokers.client import BrokerClient, CatalogIds
from cupola.brokers.osmapi import DefinitionSchema, OsmapiClient
from cupola.brokers.outcomes import Door
from cupola.brokers.parties import Broker, Caller
from cupola.brokers.problems import BrokerError
from cupola.config import Settings
from cupola.domain import dashboard_clients, service_brokers, service_catalog_sync, service_plans
from cupola.domain import service_plan_definitions as rules
from cupola.domain.service_catalog import Catalog
from cupola.domain.service_schemas import parameters_problems
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.service_brokers import service_brokers as brokers_table
from cupola.store.service_brokers import service_offerings
from cupola.store.service_brokers import service_plans as plans_table

__all__ = ["Definitions", "Offer"]

T = TypeVar("T")
_AT_ONCE = 10
"""Brokers that are asked at a time for one list."""


@dataclass(frozen=True)
class Offer:
    """An offering and its broker."""

    offering: Row[Any]
    broker: Broker
    state: str

    @property
    def supported(self) -> bool:
        """Whether the broker says that it takes definitions."""
        return "plan_definitions" in self.offering.osmapi_features

    def ids(self, plan: Row[Any]) -> CatalogIds:
        """What the broker calls a plan of this offering."""
        return CatalogIds(self.offering.catalog_id, plan.catalog_id)

    def require_supported(self) -> None:
        """Raises 422 where the broker takes no definitions."""
        if not self.supported:
            raise errors.unprocessable(
                f"The service offering '{self.offering.name}' does not support plan definitions."
            )

    def require_available(self) -> None:
        """Raises 422 while a job works on the broker."""
        if self.state != service_brokers.AVAILABLE:
            raise errors.unprocessable(
                "The service plan cannot be defined because there is an operation in progress for the service broker."
            )


class Definitions:
    """What one caller does with definitions; `door` leads to the database between the calls."""

    def __init__(
        self,
        door: Door,
        client: BrokerClient,
        settings: Settings,
        actor: Actor,
        caller: Caller,
        registry: dashboards.Registry | None,
    ) -> None:
        self._door = door
        self._registry = registry
        self._client = client
        self._osmapi = OsmapiClient(client.transport)
        self._settings = settings
        self._actor = actor
        self._caller = caller

    async def offer(self, offering_guid: str) -> Offer | None:
        """An offering, whoever may see it."""
        return (await self.offers([offering_guid])).get(offering_guid)

    async def offers(self, offering_guids: Sequence[str]) -> dict[str, Offer]:
        """Several, by guid."""

        def find(tx: Tx) -> dict[str, Offer]:
            offerings = rows.by_guids(tx, service_offerings, offering_guids)
            found = rows.by_guids(tx, brokers_table, [row.service_broker_guid for row in offerings.values()])
            addresses = {guid: Broker.of(tx, row) for guid, row in found.items()}
            return {
                guid: Offer(row, addresses[row.service_broker_guid], found[row.service_broker_guid].state)
                for guid, row in offerings.items()
            }

        return await self._door.read(find)

    async def schema(self, offer: Offer) -> DefinitionSchema | None:
        """How plans of an offering are defined; None where the broker does not support it or does not say."""
        if not offer.supported:
            return None
        try:
            return await self._osmapi.definition_schema(offer.broker, self._caller, offer.offering.catalog_id)
        except BrokerError:
            return None

    async def schemas(self, offers: Sequence[Offer]) -> list[DefinitionSchema | None]:
        """Those of several offerings, in their order."""
        return await _few([self.schema(offer) for offer in offers])

    async def get(self, offer: Offer, plan: Row[Any]) -> dict[str, Any] | None:
        """The definition of a plan; None where the offering has none at all. Raises 404, 502."""
        if not offer.supported:
            return None
        try:
            return await self._osmapi.get_definition(offer.broker, self._caller, offer.ids(plan))
        except BrokerError as error:
            raise _gone() if error.answered == 404 else _as_gateway(error) from error

    async def all_of(self, offers: Sequence[Offer]) -> dict[tuple[str, str], dict[str, Any]]:
        """Definitions by (offering guid, id of the plan in the catalog); of a broker in trouble none."""

        async def of(offer: Offer) -> list[dict[str, Any]]:
            if not offer.supported:
                return []
            try:
                return await self._osmapi.list_definitions(offer.broker, self._caller, offer.offering.catalog_id)
            except BrokerError:
                return []

        found = await _few([of(offer) for offer in offers])
        return {
            (offer.offering.guid, one["plan_id"]): one
            for offer, listed in zip(offers, found, strict=True)
            for one in listed
        }

    async def create(self, offer: Offer, body: Mapping[str, Any]) -> Row[Any]:
        """Define a plan and bring it here; `body` as POST /v3/service_plans takes it. Gives the plan."""
        offer.require_supported()
        definition = body["definition"]
        rules.require_same_words(body, definition)
        await self._door.read(lambda tx: rules.require_free_name(tx, offer.offering.guid, body["name"]))
        await self._require_valid(offer, definition)
        offer.require_available()
        try:
            made = await self._osmapi.create_definition(
                offer.broker, self._caller, offer.offering.catalog_id, _sent(definition)
            )
        except BrokerError as error:
            raise _as_answer(error) from error
        try:
            return await self._bring(offer, made["plan_id"], body)
        except CloudError:
            await self._take_back(offer, made["plan_id"])
            raise

    async def _bring(self, offer: Offer, plan_id: str, body: Mapping[str, Any]) -> Row[Any]:
        def then(tx: Tx) -> Row[Any]:
            of_offering = plans_table.c.service_offering_guid == offer.offering.guid
            row = tx.one(select(plans_table).where(of_offering, plans_table.c.catalog_id == plan_id))
            if row is None or not row.available:
                raise _sync_failed(f"the plan with id '{plan_id}' is not in the catalog")
            plan = rows.change(tx, plans_table, row, {}, body.get("metadata"))
            rules.record(tx, "create", self._actor, plan, body)
            return plan

        plan: Row[Any] = await self._synchronize(offer, then)
        return plan

    async def _take_back(self, offer: Offer, plan_id: str) -> None:
        try:
            ids = CatalogIds(offer.offering.catalog_id, plan_id)
            await self._osmapi.delete_definition(offer.broker, self._caller, ids)
        except BrokerError:
            # What led here is what the user has to know.
            return

    async def replace(self, offer: Offer, plan: Row[Any], body: Mapping[str, Any]) -> dict[str, Any]:
        """Define a plan anew; `body` as PATCH of a definition takes it. Gives the definition."""
        offer.require_supported()
        definition = body["definition"]
        if definition["plan_id"] != plan.catalog_id:
            raise errors.unprocessable(
                f"The definition's plan_id must be '{plan.catalog_id}', that of the service plan."
            )
        name = definition["name"]
        await self._door.read(lambda tx: rules.require_free_name(tx, offer.offering.guid, name, but=plan.guid))
        await self._require_valid(offer, definition)
        offer.require_available()
        try:
            made = await self._osmapi.replace_definition(offer.broker, self._caller, offer.ids(plan), _sent(definition))
        except BrokerError as error:
            raise _gone() if error.answered == 404 else _as_answer(error) from error

        def then(tx: Tx) -> None:
            now = rows.by_guid(tx, plans_table, plan.guid)
            if now is not None:
                rules.record(tx, "update", self._actor, now, body)

        await self._synchronize(offer, then)
        return made

    async def delete(self, offer: Offer, plan: Row[Any]) -> None:
        """Remove a definition, and with the next catalog its plan. Raises 422 while the plan has instances."""
        offer.require_supported()
        await self._door.read(lambda tx: service_plans.require_unused(tx, plan))
        offer.require_available()
        try:
            await self._osmapi.delete_definition(offer.broker, self._caller, offer.ids(plan))
        except BrokerError as error:
            raise _as_answer(error) from error
        await self._synchronize(offer, lambda tx: rules.record(tx, "delete", self._actor, plan, {}))

    async def _require_valid(self, offer: Offer, definition: Mapping[str, Any]) -> None:
        schema = await self.schema(offer)
        if schema is None:
            return
        found = await asyncio.to_thread(parameters_problems, schema.json_schema, definition.get("properties") or {})
        if found:
            raise errors.Several(
                [errors.unprocessable(f"Definition properties are invalid: {one}") for one in found[:50]]
            )

    async def _synchronize(self, offer: Offer, then: Any) -> Any:
        """Fetch the catalog and store it; `then` happens in the same transaction, and its result is given."""
        try:
            catalog: Catalog = await synchronize.fetch(self._client, offer.broker, self._caller)
        except BrokerError as error:
            raise _sync_failed(error.text) from error
        scopes = self._settings.brokers.dashboard_scopes
        await dashboards.publish(self._registry, self._door.read, scopes, offer.broker.guid, catalog)
        hashes = await self._door.read(lambda tx: dashboard_clients.hashes_of(tx, catalog))
        secrets = await asyncio.to_thread(dashboard_clients.prepare, self._settings, catalog, hashes)

        def store(tx: Tx) -> Any:
            broker = rows.by_guid(tx, brokers_table, offer.broker.guid)
            if broker is None:
                raise service_brokers.gone()
            synchronize.store(tx, self._settings, broker, catalog, secrets)
            return then(tx)

        return await self._door.write(store)


async def _few(calls: Sequence[Awaitable[T]]) -> list[T]:
    """What several calls give, few of them at a time."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(call: Awaitable[T]) -> T:
        async with room:
            return await call

    return list(await asyncio.gather(*(one(call) for call in calls)))


def _sent(definition: Mapping[str, Any]) -> dict[str, Any]:
    """What a broker is told; what only it may say is left out."""
    names = ("plan_id", "name", "description", "properties", "metadata")
    return {name: definition[name] for name in names if definition.get(name) is not None}


def _gone() -> CloudError:
    return errors.not_found("Service plan definition")


def _as_gateway(error: BrokerError) -> CloudError:
    return BrokerError(error.kind, 502, error.text)


def _as_answer(error: BrokerError) -> CloudError:
    """A broker that finds something wrong with what the user wrote is right; its other trouble is its own."""
    if error.answered in {400, 422}:
        return errors.unprocessable(error.text)
    if error.answered in {404, 409}:
        return BrokerError(error.kind, error.answered, error.text)
    return _as_gateway(error)


def _sync_failed(why: str) -> CloudError:
    return service_catalog_sync.failed(why)
