"""Everything that the controller serves, in this process: the API with what stands beside it, by host and path."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from cupola.api.table import OPERATIONS
from cupola.config import load
from cupola.logs.ring import Ring
from cupola.processes.front import application
from cupola.rest.dispatch import App
from tests.cloud import Client, Cloud

__all__ = ["open_front"]


@contextmanager
def open_front(
    cloud: Cloud, directory: Path, system_domain: str = "", more: Mapping[str, Any] | None = None
) -> Iterator[Any]:
    """Gives a function from scopes to a client; `like` makes it the same user. `system_domain` says the mode, `more` are
    further settings."""
    flags = {"data_dir": str(directory), "platform.system_domain": system_domain or None, **(more or {})}
    settings = load(environment={}, flags=flags)
    services = replace(cloud.services, settings=settings)
    ring = Ring(directory / "ring", settings.logs)
    identity: Any = PlainTextResponse("identity")
    api = App(OPERATIONS, services)
    http: Any = TestClient(application(settings, api, identity, ring, services), base_url=settings.api_url)

    def client(*scopes: str, like: Client | None = None) -> Client:
        actor = (like or cloud.client()).actor
        assert actor is not None
        return Client(http, replace(actor, scopes=frozenset(scopes)))

    yield client
    api.close()
    ring.close()
