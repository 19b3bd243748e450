"""Cell and router over real sockets: full state first, changes after bells."""

import asyncio
import base64
from pathlib import Path

from cupola import wire
from cupola.bell import Bells
from cupola.config import Settings
from cupola.logs.envelope import Batch, Envelope
from cupola.router.feed import RouterFeed
from cupola.runtime.feed import CellFeed
from cupola.store import rows
from cupola.store.database import Database
from cupola.store.orgs import organization_quotas, organizations, spaces
from cupola.store.routes import domains, routes
from cupola.store.schema import metadata


class Base64Vault:
    def derive(self, purpose: str) -> list[bytes]:
        return [purpose.encode().ljust(32)]

    def seal(self, plain: bytes, context: str) -> str:
        return base64.b64encode(plain).decode()

    def open(self, sealed: str, context: str) -> bytes:
        return base64.b64decode(sealed)


def test_full_then_changes(tmp_path: Path) -> None:
    asyncio.run(_conversation(tmp_path))


async def _conversation(directory: Path) -> None:
    database = Database("", directory / "db", Base64Vault(), Bells())
    metadata.create_all(database.engine)
    taken: list[Batch] = []

    def take(batch: Batch) -> int:
        taken.append(batch)
        return batch.first + len(batch.envelopes) - 1

    cell = CellFeed(database, Settings(), take, lambda envelopes: None)
    router = RouterFeed(database, Settings(), take)

    async def handle(peer: wire.Peer) -> None:
        await (cell if peer.role == "cell" else router).handle(peer)

    server = await wire.serve(directory / "s", {"cell": "c", "router": "r"}, handle)
    async with asyncio.timeout(20):
        one = await wire.connect(directory / "s", "cell", "c")
        assert (await one.receive())[0] == "desired.full"
        await one.send("logs", Batch("p", 5, [Envelope(1, "a", "0", {}, b"x")]))
        assert await one.receive() == ("logs.ack", 5)
        await one.send("desired.request")
        assert (await one.receive())[0] == "desired.full"
        other = await wire.connect(directory / "s", "router", "r")
        kind, body = await other.receive()
        assert (kind, body["routes"]) == ("routes.full", [])
        await asyncio.to_thread(_add_route, database)
        kind, body = await other.receive()
        assert kind == "routes.delta"
        assert [route["host"] for route in body["set"]] == ["h.example.org"]
        await one.close()
        await other.close()
    server.close()
    await server.wait_closed()
    database.engine.dispose()


def _add_route(database: Database) -> None:
    with database.write() as tx:
        quota = rows.add(tx, organization_quotas, {"name": "q", "name_key": "q", "paid_services_allowed": True})
        organization = rows.add(tx, organizations, {"name": "o", "name_key": "o", "quota_guid": quota.guid})
        space = rows.add(tx, spaces, {"name": "s", "name_key": "s", "organization_guid": organization.guid})
        domain = rows.add(tx, domains, {"name": "example.org"})
        values = {"host": "h", "path": "", "domain_guid": domain.guid, "space_guid": space.guid, "options": {}}
        rows.add(tx, routes, values)
        tx.ring("routes")
