"""Clients for dashboards of services at an identity server of others (`identity.mode = external`).

They are made and changed there before a catalog is stored, so that no offering tells of a dashboard that nobody can
log in to; they are removed by jobs of their own, which are tried again while that server is down.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol

from cupola.domain import dashboard_clients, service_catalog_sync
from cupola.domain.service_catalog import Catalog
from cupola.errors import CloudError
from cupola.jobs.outside import Done, Outcome, Outside, OutsideJob, Retry
from cupola.store.database import Tx

__all__ = ["Registries", "Registry", "handlers", "no_registry", "publish"]

_LONGEST_PAUSE = 3600.0
"""Seconds between two tries to remove a client."""


class Registry(Protocol):
    """The identity server of others. Methods raise 270013 when it does not do as asked."""

    async def keep(self, clients: Collection[Mapping[str, Any]], own: Collection[str]) -> list[str]:
        """Make these clients, or change them when they are in `own` or have the name that they are to have. Gives
        the ids that somebody else has; then nothing was done."""

    async def remove(self, client_id: str) -> None:
        """Remove a client, if it is there."""


Registries = Callable[[], Registry | None]
"""Known only when the controller is ready; None where this platform keeps its clients itself."""


def no_registry() -> Registry | None:
    """The platform keeps them itself."""
    return None


async def publish(
    registry: Registry | None,
    read: Callable[[Callable[[Tx], Any]], Awaitable[Any]],
    scopes: Collection[str],
    broker_guid: str,
    catalog: Catalog,
) -> None:
    """Make the clients of a catalog that is about to be stored. Raises 270012, 270013."""
    wanted = dashboard_clients.described(catalog, scopes, broker_guid)
    if registry is None or not wanted:
        return

    def own(tx: Tx) -> list[str]:
        # A catalog that cannot be stored changes nothing there.
        service_catalog_sync.require_storable(tx, broker_guid, catalog)
        return dashboard_clients.claimed(tx, broker_guid)

    taken = await registry.keep(wanted, await read(own))
    if taken:
        raise service_catalog_sync.invalid(dashboard_clients.taken(catalog, taken))


def handlers(registries: Registries) -> dict[str, Outside]:
    """Job operation to handler."""

    async def remove(job: OutsideJob) -> Outcome:
        registry, client_id = registries(), job.payload["client_id"]
        # Another service may have claimed it since.
        if registry is not None and not await job.read(lambda tx: dashboard_clients.is_claimed(tx, client_id)):
            try:
                await registry.remove(client_id)
            except CloudError as error:
                raise Retry(min(5.0 * 2.0**job.attempts, _LONGEST_PAUSE), error.detail) from error
        return Done()

    return {dashboard_clients.REMOVAL: Outside(remove)}
