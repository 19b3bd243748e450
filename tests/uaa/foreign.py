"""A platform whose users are at another identity server, for tests and nothing else."""

from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from cupola.api.table import OPERATIONS
from cupola.bell import Bells
from cupola.blobs.resources import ResourcePool
from cupola.blobs.store import LocalStore
from cupola.brokers.client import BrokerClient
from cupola.config import Settings, load
from cupola.domain import bootstrap
from cupola.jobs.runner import Runner
from cupola.logs.ring import Ring
from cupola.processes import front
from cupola.processes.handlers import handlers
from cupola.rest.dispatch import App
from cupola.rest.operation import Services
from cupola.store.database import Database
from cupola.store.tables import metadata
from cupola.uaa.external import ExternalIdentity
from cupola.uaa.routes import elsewhere
from tests.databases import PlainVault
from tests.uaa.house import House

__all__ = ["Cloud", "cloud_without_users", "url_of"]


def url_of(house: House) -> str:
    """The identity server's address."""
    return f"http://127.0.0.1:{house.settings.platform.port}/uaa"


@dataclass
class Cloud:
    """A platform without an identity server of its own."""

    settings: Settings
    database: Database
    identity: ExternalIdentity
    http: TestClient

    def get(self, path: str, token: str = "") -> Any:
        return self.http.get(path, headers={"Authorization": f"bearer {token}"} if token else {})

    def post(self, path: str, token: str, body: Any) -> Any:
        return self.http.post(path, json=body, headers={"Authorization": f"bearer {token}"})

    def status(self, token: str, path: str = "/v3/organizations") -> int:
        return int(self.get(path, token).status_code)

    def role(self, token: str, **user: str) -> Any:
        """Ask for a role in the first organization."""
        org = self.get("/v3/organizations", token).json()["resources"][0]["guid"]
        data = {"user": {"data": user}, "organization": {"data": {"guid": org}}}
        return self.post("/v3/roles", token, {"type": "organization_user", "relationships": data})


@contextmanager
def cloud_without_users(directory: Path, url: str, secret: str, *, loop: bool = False, **flags: Any) -> Iterator[Cloud]:
    """A controller's API; with `loop` also what it does in the background."""
    directory.mkdir(exist_ok=True)
    (directory / "secret").write_text(secret)
    usual = {
        "data_dir": str(directory),
        "identity.mode": "external",
        "uaa.url": url,
        "uaa.client_secret_file": str(directory / "secret"),
    }
    settings = load(environment={}, flags={**usual, **{key.replace("__", "."): value for key, value in flags.items()}})
    database = Database("", directory / "cupola.db", PlainVault(), Bells(), threads=4)
    metadata.create_all(database.engine)
    identity, ring = ExternalIdentity(settings, database), Ring(directory / "ring", settings.logs)
    with database.write() as tx:
        bootstrap.ensure(tx, settings)
        identity.ensure(tx)

    async def wait_for_job(guid: str, seconds: float) -> None:
        return None

    services = Services(
        settings=settings,
        database=database,
        authenticate=identity.authenticate,
        wait_for_job=wait_for_job,
        blobs=LocalStore(directory / "blobs"),
        resources=ResourcePool(directory / "resources"),
        metrics=dict,
        extra={"directory": identity, "paths": frozenset(operation.path for operation in OPERATIONS)},
    )
    api = App(OPERATIONS, services)
    whole = front.application(settings, api, elsewhere(settings), ring, services, identity.authenticate)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (api if scope["type"] == "lifespan" else whole)(scope, receive, send)

    with TestClient(app, base_url=settings.api_url) as http:
        assert http.portal is not None
        background = http.portal.start_task_soon(identity.run) if loop else None
        brokers = BrokerClient(settings)
        runner = Runner(database, handlers(settings, brokers, lambda: identity), settings.jobs, database.bells)
        if loop:
            http.portal.call(partial(runner.start, alone=True))
        yield Cloud(settings, database, identity, http)
        if loop:
            http.portal.call(runner.stop)
        http.portal.call(brokers.close)
        if background is not None:
            background.cancel()
            with suppress(CancelledError):
                background.result(10)
    identity.close()
    ring.close()
    database.close()
