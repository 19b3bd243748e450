"""The controller's end of the connection to a router: the route table, computed from rows, then its changes."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Row, func, select

from cupola.config import Settings
from cupola.domain import environments
from cupola.logs.envelope import Batch
from cupola.router.messages import Endpoint, Route, RouteDelta, RouteTable
from cupola.store import rows
from cupola.store.apps import apps, processes
from cupola.store.database import Database, Tx
from cupola.store.instances import instances
from cupola.store.orgs import organizations, spaces
from cupola.store.routes import destinations, domains, routes
from cupola.store.service_bindings import service_route_bindings
from cupola.store.service_brokers import service_brokers, service_plans
from cupola.store.service_instances import service_instances
from cupola.wire import Peer

__all__ = ["RouterFeed", "compute", "difference"]

PERIOD = 15.0
"""Seconds after which the table is compared again, should a bell have been lost."""
_log = logging.getLogger(__name__)


class RouterFeed:
    """One for all routers. `take_logs` stores a batch and returns the number to acknowledge (`Ring.take`)."""

    def __init__(self, database: Database, settings: Settings, take_logs: Callable[[Batch], int]) -> None:
        self._database = database
        self._settings = settings
        self._take_logs = take_logs

    async def handle(self, peer: Peer) -> None:
        """Serve one router until it goes. Raises EOFError or OSError then."""
        wake = asyncio.Event()
        push = asyncio.create_task(self._push(peer, wake))
        receive = asyncio.create_task(self._receive(peer, wake))
        try:
            done, _ = await asyncio.wait({push, receive}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            push.cancel()
            receive.cancel()

    async def _receive(self, peer: Peer, wake: asyncio.Event) -> None:
        while True:
            kind, body = await peer.receive()
            if kind == "logs":
                batch = msgspec.convert(body, Batch)
                await peer.send("logs.ack", await asyncio.to_thread(self._take_logs, batch))
            elif kind == "routes.request":
                wake.set()
            else:
                _log.warning("a router sent %r, which this controller does not know: update both together", kind)

    async def _push(self, peer: Peer, wake: asyncio.Event) -> None:
        listener = self._database.bells.listen("routes", "desired")
        sent: RouteTable | None = None
        revision = 0
        try:
            while True:
                if wake.is_set():
                    wake.clear()
                    sent = None
                revision += 1
                found = await asyncio.to_thread(self._compute, revision)
                if sent is None:
                    await peer.send("routes.full", found)
                    sent = found
                else:
                    delta = difference(sent, found)
                    if delta is not None:
                        await peer.send("routes.delta", delta)
                        sent = found
                await _either(listener, wake)
                # Several changes made at once travel together; a table is in use within 100 ms all the same.
                await asyncio.sleep(0.01)
        finally:
            listener.close()

    def _compute(self, revision: int) -> RouteTable:
        with self._database.read() as tx:
            return compute(tx, revision)


async def _either(listener: Any, wake: asyncio.Event) -> None:
    rung = asyncio.create_task(listener.wait(PERIOD))
    asked = asyncio.create_task(wake.wait())
    try:
        await asyncio.wait({rung, asked}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        rung.cancel()
        asked.cancel()


def difference(old: RouteTable, new: RouteTable) -> RouteDelta | None:
    """The change from `old` to `new`, or None when there is none."""
    before = {route.guid: route for route in old.routes}
    after = {route.guid: route for route in new.routes}
    changed = [route for guid, route in after.items() if before.get(guid) != route]
    removed = sorted(before.keys() - after.keys())
    return RouteDelta(old.revision, new.revision, changed, removed) if changed or removed else None


def compute(tx: Tx, revision: int) -> RouteTable:
    """All HTTP routes with their endpoints; a constant number of statements."""
    statement = (
        select(routes, domains.c.name.label("domain"), domains.c.internal)
        .join(domains, domains.c.guid == routes.c.domain_guid)
        .where(routes.c.port == 0)
        .order_by(routes.c.id)
    )
    targets: dict[str, list[Row[Any]]] = {}
    for row in tx.all(select(destinations).order_by(destinations.c.id)):
        targets.setdefault(row.route_guid, []).append(row)
    running = _running(tx)
    services = _route_services(tx)
    found = []
    for row in tx.all(statement):
        endpoints: list[Endpoint] = []
        for target in targets.get(row.guid, []):
            for instance, process, tags in running.get((target.app_guid, target.process_type), []):
                endpoint = _endpoint(target, instance, process, tags)
                if endpoint is not None:
                    endpoints.append(endpoint)
        found.append(_route(row, endpoints, services.get(row.guid, ("", False))))
    return RouteTable(revision, found, tx.vault.derive("route services"))


def _route_services(tx: Tx) -> dict[str, tuple[str, bool]]:
    """The service in front of each route that has one, and whether an admin is behind its address."""
    bindings = service_route_bindings.c
    statement = (
        select(
            bindings.route_guid,
            bindings.route_service_url,
            func.coalesce(service_brokers.c.anywhere, service_instances.c.route_service_anywhere).label("anywhere"),
        )
        .join(service_instances, service_instances.c.guid == bindings.service_instance_guid)
        .outerjoin(service_plans, service_plans.c.guid == service_instances.c.service_plan_guid)
        .outerjoin(service_brokers, service_brokers.c.guid == service_plans.c.service_broker_guid)
        .where(bindings.route_service_url.is_not(None))
    )
    return {row.route_guid: (row.route_service_url, row.anywhere) for row in tx.all(statement)}


def _running(tx: Tx) -> dict[tuple[str, str], list[tuple[Row[Any], Row[Any], dict[str, str]]]]:
    statement = (
        select(instances)
        .where(instances.c.state == "RUNNING", instances.c.routable.is_(True))
        .order_by(instances.c.process_guid, instances.c.index, instances.c.version)
    )
    routable = tx.all(statement)
    owners = rows.by_guids(tx, processes, [row.process_guid for row in routable])
    their_apps = rows.by_guids(tx, apps, [row.app_guid for row in owners.values()])
    their_spaces = rows.by_guids(tx, spaces, [row.space_guid for row in their_apps.values()])
    their_orgs = rows.by_guids(tx, organizations, [row.organization_guid for row in their_spaces.values()])
    answer: dict[tuple[str, str], list[tuple[Row[Any], Row[Any], dict[str, str]]]] = {}
    for row in routable:
        process = owners.get(row.process_guid)
        # What is about to be stopped gets no new requests while it finishes those it has.
        if process is None or process.state != "STARTED" or row.index >= process.instances:
            continue
        app = their_apps[process.app_guid]
        space = their_spaces[app.space_guid]
        tags = environments.log_tags(app, space, their_orgs[space.organization_guid], process)
        tags |= {"instance_id": str(row.index), "process_instance_id": row.instance_guid}
        answer.setdefault((app.guid, process.type), []).append((row, process, tags))
    return answer


def _endpoint(target: Row[Any], instance: Row[Any], process: Row[Any], tags: dict[str, str]) -> Endpoint | None:
    by_port = instance.endpoints
    if target.port is not None:
        address = by_port.get(str(target.port))
    else:
        address = by_port.get("8080") or next(iter(by_port.values()), None)
    if not address:
        return None
    ports = {str(one["internal"]): one["external"] for one in instance.ports}
    external = ports.get(str(target.port)) or next(iter(ports.values()), None)
    return Endpoint(
        address=address,
        app_guid=process.app_guid,
        process_guid=process.guid,
        instance_guid=instance.instance_guid,
        index=instance._mapping["index"],
        shown=f"{instance.host}:{external}" if instance.host and external else "",
        protocol=target.protocol or "http1",
        tags=tags,
    )


def _route(row: Row[Any], endpoints: list[Endpoint], service: tuple[str, bool]) -> Route:
    options = row.options or {}
    return Route(
        guid=row.guid,
        host=(f"{row.host}.{row.domain}" if row.host else row.domain).lower(),
        path=row.path,
        endpoints=endpoints,
        balancing=options.get("loadbalancing") or "",
        hash_header=options.get("hash_header") or "",
        hash_balance=float(options.get("hash_balance") or 0),
        route_service=service[0],
        route_service_anywhere=service[1],
        internal=bool(row.internal),
    )
