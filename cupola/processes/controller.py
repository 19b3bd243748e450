"""The controller: API, identity, log cache, jobs and loops. The only process that opens the database.

`python -m cupola.processes.controller`, CUPOLA_SETTINGS set. Exit status 3: cannot start, the reason is on stderr.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from cupola import clock, wire
from cupola.api.table import OPERATIONS
from cupola.bell import Bells
from cupola.blobs.resources import ResourcePool
from cupola.blobs.store import LocalStore
from cupola.brokers.client import BrokerClient
from cupola.config import ConfigError, Settings, read_resolved
from cupola.domain import bootstrap, deployment_loop, syslog_drains
from cupola.jobs.periodic import Periodic
from cupola.jobs.runner import Runner
from cupola.logs.drains import Drains
from cupola.logs.ring import Ring
from cupola.logs.writer import AppLog
from cupola.processes import chores, front, privileges
from cupola.processes.handlers import handlers
from cupola.processes.system_buildpacks import ensure_buildpacks
from cupola.rest.dispatch import App
from cupola.rest.operation import Services
from cupola.router.feed import RouterFeed
from cupola.runtime.feed import CellFeed
from cupola.secrets.vault import Vault, VaultProblem
from cupola.staging.loop import StagingLoop
from cupola.store.alone import FIRST_START, alone
from cupola.store.database import Database, DatabaseProblem
from cupola.store.listen import listen
from cupola.store.migrate import upgrade
from cupola.store.routes import shared_domain_names
from cupola.tls.keeper import Keeper
from cupola.uaa.external import ExternalIdentity
from cupola.uaa.routes import application as uaa_application
from cupola.uaa.routes import elsewhere
from cupola.uaa.service import Identity

__all__ = ["Controller", "main"]

log = logging.getLogger("cupola.controller")
CANNOT_START = 3


class Controller:
    """All parts of the process, made by hand and connected."""

    identity: Identity | ExternalIdentity

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        data = settings.data_dir
        self.bells = Bells()
        self.vault = Vault.load_or_create(data / "keys")
        self.database = Database(
            settings.database.url,
            data / "cupola.db",
            self.vault,
            self.bells,
            threads=settings.database.threads,
            statement_timeout=settings.database.statement_timeout,
        )
        self.blobs = LocalStore(data / "blobs")
        self.resources = ResourcePool(
            data / "resources",
            min_bytes=settings.blobs.resource_match_min_bytes,
            max_bytes=settings.blobs.resource_pool_mb << 20,
        )
        self.ring = Ring(data / "logs" / "ring", settings.logs)
        self.app_log = AppLog(self.ring)
        self.drains = Drains(self.ring, self.app_log, settings)
        self.cells = CellFeed(self.database, settings, self.ring.take, self.ring.add)
        self.routers = RouterFeed(self.database, settings, self.ring.take)
        self.brokers = BrokerClient(settings)
        self.certificates = Keeper(settings, self._shared_domains)
        self.runner = Runner(self.database, handlers(settings, self.brokers, self._registry), settings.jobs, self.bells)

    def prepare(self) -> None:
        """Bring the database to this version's schema and make the defaults of a first start. Blocking."""
        self.database.check()
        upgrade(self.database)
        is_external = self.settings.identity.mode == "external"
        self.identity = (ExternalIdentity if is_external else Identity)(self.settings, self.database)
        with self.database.write() as tx:
            alone(tx, FIRST_START)
            bootstrap.ensure(tx, self.settings)
            self.identity.ensure(tx)
        ensure_buildpacks(self.database, self.blobs)
        self.certificates.ensure()

    def _registry(self) -> ExternalIdentity | None:
        return self.identity if isinstance(self.identity, ExternalIdentity) else None

    def _shared_domains(self) -> list[str]:
        with self.database.read() as tx:
            return shared_domain_names(tx)

    def services(self) -> Services:
        """What the API's operations use."""
        return Services(
            settings=self.settings,
            database=self.database,
            authenticate=self.identity.authenticate,
            wait_for_job=self.runner.wait,
            blobs=self.blobs,
            resources=self.resources,
            metrics=self.cells.metrics,
            app_log=self.app_log,
            extra={
                "paths": frozenset(operation.path for operation in OPERATIONS),
                "brokers": self.brokers,
                "directory": self._registry(),
            },
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`."""
        await asyncio.to_thread(self.prepare)
        api = App(OPERATIONS, self.services())
        application = front.application(
            self.settings,
            api,
            elsewhere(self.settings) if isinstance(self.identity, ExternalIdentity) else uaa_application(self.identity),
            self.ring,
            self.services(),
            self.identity.authenticate,
        )
        control = await wire.serve(self.settings.run_dir / "control.sock", self._tokens(), self._peer)
        server = _server(application, self.settings.run_dir / "api.sock")
        loops = self._loops()
        await self.runner.start(alone=self.database.is_sqlite)
        tasks = [asyncio.create_task(_forever(name, loop)) for name, loop in loops.items()]
        serving = asyncio.create_task(server.serve())
        try:
            await self._announce(server)
            await stop.wait()
        finally:
            (self.settings.run_dir / "controller.ready").unlink(missing_ok=True)
            server.should_exit = True
            with contextlib.suppress(Exception):
                await asyncio.wait_for(serving, 10)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            control.close()
            await self.runner.stop()
            await self.brokers.close()
            self.ring.close()
            self.identity.close()
            self.database.close()

    def _loops(self) -> dict[str, Callable[[], Awaitable[None]]]:
        staging = StagingLoop(self.database, self.settings)
        periodic = Periodic(
            self.database, chores.chores(self.settings, self.database, self.blobs, self.ring, self.vault)
        )
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "staging": staging.run,
            "deployments": lambda: deployment_loop.run(self.database, self.settings),
            "periodic": periodic.run,
            "drains": lambda: syslog_drains.run(self.database, self.drains),
        }
        if self.settings.platform.system_domain:
            loops["certificates"] = self.certificates.run
        if isinstance(self.identity, ExternalIdentity):
            loops["identity"] = self.identity.run
        if not self.database.is_sqlite:
            loops["notifications"] = lambda: listen(self.database)
        return loops

    def _tokens(self) -> dict[str, str]:
        found = {}
        for role in ("router", "cell", "ssh"):
            file = self.settings.run_dir / f"{role}.token"
            if file.exists():
                found[role] = file.read_text().strip()
        return found

    async def _peer(self, peer: wire.Peer) -> None:
        log.info("%s connected", peer.role)
        try:
            await (self.cells if peer.role == "cell" else self.routers).handle(peer)
        finally:
            log.info("%s disconnected", peer.role)

    async def _announce(self, server: uvicorn.Server) -> None:
        while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.005)
        (self.settings.run_dir / "api.sock").chmod(0o600)
        (self.settings.run_dir / "controller.ready").write_text(clock.format_api(clock.micros()))


async def _forever(name: str, loop: Callable[[], Awaitable[None]]) -> None:
    """A loop that fails starts again: it looks at the state of the world, so nothing is lost."""
    while True:
        try:
            await loop()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("the %s loop failed and starts again", name)
        await asyncio.sleep(1)


def _server(application: Any, path: Path) -> uvicorn.Server:
    path.unlink(missing_ok=True)
    config = uvicorn.Config(
        application,
        uds=str(path),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=1024 * 1024,
    )
    server = uvicorn.Server(config)
    # Signals are the process's own business.
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # older and newer versions differ in it
    return server


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Controller(settings).run(stop)


def main() -> int:
    """Run the process; returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        settings = read_resolved(Path(os.environ["CUPOLA_SETTINGS"]))
        privileges.confine_controller(settings)
        uvloop.run(_serve(settings))
    except (ConfigError, DatabaseProblem, VaultProblem) as error:
        print(f"the controller cannot start: {error}", file=sys.stderr)  # noqa: T201  # read by the supervisor
        return CANNOT_START
    except KeyError:
        print("the controller cannot start: CUPOLA_SETTINGS names no settings file", file=sys.stderr)  # noqa: T201  # as above
        return CANNOT_START
    return 0


if __name__ == "__main__":
    sys.exit(main())
