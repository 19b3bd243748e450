"""What the controller serves, in this process, with settings of the test's choice."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from cupola.api.table import OPERATIONS
from cupola.config import load
from cupola.logs.ring import Ring
from cupola.processes.front import application
from cupola.rest.dispatch import App
from cupola.store.database import Database
from tests.cloud import Client, Cloud, open_cloud
from tests.databases import Prepared


class Front:
    """`http` speaks to everything that the controller serves; `cloud` makes users."""

    def __init__(self, cloud: Cloud, http: Any) -> None:
        self.cloud = cloud
        self.http = http

    def client(self, *scopes: str, **user: str) -> Client:
        """A user with these scopes, as a client of this front."""
        made = self.cloud.user(**user) if not scopes else self.cloud.client(*scopes)
        return Client(self.http, made.actor)


Serve = Callable[..., Front]


@contextmanager
def _front(database: Database, directory: Path, flags: dict[str, Any]) -> Iterator[Front]:
    with open_cloud(database, directory / "blobs") as cloud:
        settings = load(environment={}, flags={"data_dir": str(directory), **flags})
        services = replace(cloud.services, settings=settings)
        ring = Ring(directory / "ring", settings.logs)
        api = App(OPERATIONS, services)
        identity: Any = PlainTextResponse("identity")
        http = TestClient(application(settings, api, identity, ring, services), base_url=settings.api_url)
        try:
            yield Front(cloud, http)
        finally:
            api.close()
            ring.close()


@pytest.fixture
def serve(sqlite_prepared: Prepared, tmp_path: Path) -> Iterator[Serve]:
    """`serve(rate_limits__enabled=True)` gives a front with this setting."""
    database = sqlite_prepared.fresh(tmp_path)
    with ExitStack() as stack:

        def make(**flags: Any) -> Front:
            named = {name.replace("__", "."): value for name, value in flags.items()}
            return stack.enter_context(_front(database, tmp_path, named))

        yield make
    database.close()
