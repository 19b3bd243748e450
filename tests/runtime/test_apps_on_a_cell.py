"""The API, the database, the loops and a real cell process together: apps are deployed without a pause, tasks run."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import select

from cupola import wire
from cupola.config import Settings, write_resolved
from cupola.domain.deployment_loop import DeploymentLoop
from cupola.router.feed import compute
from cupola.runtime.feed import CellFeed
from cupola.store.database import Database
from cupola.store.instances import instances
from tests.cloud import Cloud, open_cloud
from tests.databases import Prepared
from tests.runtime.conftest import find_modes, until
from tests.scripted_cell import staged_droplet

_SERVE = "exec python3 server.py"


class Platform:
    """What a user sees, as coroutines."""

    def __init__(self, cloud: Cloud, database: Database, digest: str) -> None:
        self._cloud = cloud
        self._database = database
        self._digest = digest
        self.asked = 0
        self.unanswered: list[str] = []

    async def ok(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        return await asyncio.to_thread(self._cloud.admin.ok, method, path, body, status)

    async def app(self) -> str:
        """A started app with two instances and a route."""
        app: str = (await asyncio.to_thread(self._cloud.app, "shop"))["guid"]
        path = f"/v3/apps/{app}"
        shown = await self.ok("GET", path)
        space = shown["relationships"]["space"]["data"]
        domain = (await self.ok("GET", "/v3/domains"))["resources"][0]["guid"]
        relationships = {"space": {"data": space}, "domain": {"data": {"guid": domain}}}
        route = await self.ok("POST", "/v3/routes", {"host": "shop", "relationships": relationships}, 201)
        await self.ok("POST", f"/v3/routes/{route['guid']}/destinations", {"destinations": [{"app": {"guid": app}}]})
        droplet = self.droplet(app, _SERVE)
        await self.ok("PATCH", path + "/relationships/current_droplet", {"data": {"guid": droplet}})
        scale = {"instances": 2, "memory_in_mb": 64, "disk_in_mb": 64}
        await self.ok("POST", path + "/processes/web/actions/scale", scale, 202)
        await self.ok("POST", path + "/actions/start")
        await until(lambda: len(self.endpoints()) == 2)
        return app

    def droplet(self, app: str, command: str) -> str:
        return staged_droplet(self._database, app, digest=self._digest, process_types={"web": command})

    def endpoints(self) -> list[str]:
        """Where the router would send a request."""
        with self._database.read() as tx:
            return [one.address for route in compute(tx, 1).routes for one in route.endpoints]

    def ask(self) -> None:
        """One request to each instance that the router knows of now."""
        found = self.endpoints()
        self.asked += 1
        if len(found) < 2:
            self.unanswered.append(f"{len(found)} instances in the route table")
        for address in found:
            try:
                with _connected(address) as connection:
                    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    if not connection.makefile("rb").read().startswith(b"HTTP/1.0 200"):
                        self.unanswered.append(f"{address} gave something else")
            except OSError as error:
                self.unanswered.append(f"{address}: {error}")

    async def deployed(self, app: str, command: str, **more: Any) -> str:
        """A new deployment of a droplet with a start command."""
        droplet = await asyncio.to_thread(self.droplet, app, command)
        relationships = {"app": {"data": {"guid": app}}}
        body = {"droplet": {"guid": droplet}, "relationships": relationships, **more}
        made = await self.ok("POST", "/v3/deployments", body, 201)
        return f"/v3/deployments/{made['guid']}"

    async def comes(self, path: str, expected: str, *keys: str) -> Any:
        """Wait until a resource has a value; the resource."""
        async with asyncio.timeout(40):
            while True:
                shown = found = await self.ok("GET", path)
                for key in keys:
                    found = found.get(key) or {}
                if expected in str(found):
                    return shown
                await asyncio.sleep(0.02)


def _connected(address: str) -> socket.socket:
    kind, _, rest = address.partition(":")
    if kind == "unix":
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        connection.connect(rest)
        return connection
    host, port = rest.rsplit(":", 1)
    return socket.create_connection((host, int(port)), 5)


@contextlib.asynccontextmanager
async def platform(settings: Settings, prepared: Prepared, digest: str) -> AsyncIterator[Platform]:
    settings.runtime.isolation = find_modes()[-1]  # type: ignore[assignment]  # one of the literals
    write_resolved(settings, settings.run_dir / "settings.json")
    (settings.run_dir / "cell.token").write_text("token")
    database = prepared.fresh(settings.run_dir)
    environment = {**os.environ, "CUPOLA_SETTINGS": str(settings.run_dir / "settings.json")}
    argv = [sys.executable, "-m", "cupola.processes.cell"]
    with open_cloud(database, settings.data_dir) as cloud:
        feed = CellFeed(
            database, cloud.settings, lambda batch: batch.first + len(batch.envelopes) - 1, lambda envelopes: None
        )
        server = await wire.serve(settings.run_dir / "control.sock", {"cell": "token"}, feed.handle)
        loop = asyncio.create_task(DeploymentLoop(database).run())
        cell = subprocess.Popen(argv, env=environment, start_new_session=True)  # noqa: ASYNC220  # as an operator would
        try:
            yield Platform(cloud, database, digest)
        finally:
            (settings.run_dir / "stop-apps").touch()
            cell.send_signal(signal.SIGTERM)
            await asyncio.to_thread(cell.wait, 60)
            loop.cancel()
            server.close()
            await asyncio.gather(loop, return_exceptions=True)
            await server.wait_closed()
    with database.read() as tx:
        left = tx.scalars(select(instances.c.state))
    database.close()
    assert left == []


async def _ask_on(platform: Platform) -> None:
    while True:
        await asyncio.to_thread(platform.ask)
        await asyncio.sleep(0.01)


async def test_a_rolling_deployment_is_not_noticed(settings: Settings, sqlite_prepared: Prepared, droplet: str) -> None:
    async with platform(settings, sqlite_prepared, droplet) as cloud:
        app = await cloud.app()
        asking = asyncio.create_task(_ask_on(cloud))
        path = await cloud.deployed(app, _SERVE)
        done = await cloud.comes(path, "FINALIZED", "status", "value")
        assert done["status"]["reason"] == "DEPLOYED"
        (web,) = (await cloud.ok("GET", f"/v3/apps/{app}/processes?types=web"))["resources"]
        assert (web["guid"], web["instances"]) == (done["new_processes"][0]["guid"], 2)
        broken = await cloud.deployed(app, "exit 3", strategy="canary")
        shown = await cloud.comes(broken, "crashed", "status", "details", "error")
        assert shown["status"]["details"]["error"] == "1 of 1 instance crashed: APP/PROC/WEB: Exited with status 3"
        await cloud.ok("POST", broken + "/actions/cancel")
        assert (await cloud.comes(broken, "FINALIZED", "status", "value"))["status"]["reason"] == "CANCELED"
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert cloud.asked > 10
        assert cloud.unanswered == []


async def test_tasks_end_as_their_commands_do(settings: Settings, sqlite_prepared: Prepared, droplet: str) -> None:
    async with platform(settings, sqlite_prepared, droplet) as cloud:
        app = await cloud.app()

        async def task(name: str, command: str) -> str:
            body = {"name": name, "command": command, "memory_in_mb": 64, "disk_in_mb": 64}
            return f"/v3/tasks/{(await cloud.ok('POST', f'/v3/apps/{app}/tasks', body, 202))['guid']}"

        good, bad = await task("good", 'test "$MEMORY_LIMIT" = 64m && test -z "$PORT"'), await task("bad", "exit 3")
        endless = await task("endless", "sleep 1000")
        await cloud.comes(good, "SUCCEEDED", "state")
        failed = await cloud.comes(bad, "FAILED", "state")
        assert failed["result"] == {"failure_reason": "APP/TASK/bad: Exited with status 3"}
        await cloud.comes(endless, "RUNNING", "state")
        assert (await cloud.ok("PUT", endless + "/cancel", status=202))["state"] == "CANCELING"
        cancelled = await cloud.comes(endless, "FAILED", "state")
        assert cancelled["result"] == {"failure_reason": "task was cancelled"}
