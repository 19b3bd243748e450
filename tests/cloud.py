"""A platform's API for tests: `open_cloud` gives clients over a real database, in this process.

cloud.admin.ok("POST", "/v3/apps", {...}, 201)
cloud.user(space_developer=space_guid).problem("DELETE", "/v3/apps/...")
"""

import base64
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import insert

from cupola import errors
from cupola.api.table import OPERATIONS
from cupola.blobs.resources import ResourcePool
from cupola.blobs.store import LocalStore
from cupola.brokers.client import BrokerClient
from cupola.config import Settings, load
from cupola.rest.dispatch import App
from cupola.rest.operation import Services
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Database
from cupola.store.orgs import roles, users
from tests.direct import Direct

__all__ = ["Client", "Cloud", "authenticate", "open_cloud"]


def authenticate(header: str | None) -> Actor:
    """Tokens have tests of their own; here a bearer token is the actor as JSON."""
    if header is None:
        raise errors.not_authenticated()
    try:
        fields = msgspec.json.decode(base64.b64decode(header.removeprefix("bearer ")))
    except (ValueError, msgspec.DecodeError):
        raise errors.invalid_auth_token() from None
    return Actor(**{**fields, "scopes": frozenset(fields["scopes"])})


class Client:
    """Requests as one actor. `ok` decodes the JSON of an answer and fails for an unexpected status."""

    def __init__(self, http: Direct, actor: Actor | None) -> None:
        self.actor = actor
        self._http = http
        self._headers: dict[str, str] = {}
        if actor is not None:
            fields = {"guid": actor.guid, "name": actor.name, "scopes": sorted(actor.scopes)}
            self._headers["Authorization"] = "bearer " + base64.b64encode(msgspec.json.encode(fields)).decode()

    def request(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        headers = {**self._headers, **more.pop("headers", {})}
        if body is not None:
            more["content"] = msgspec.json.encode(body)
            headers.setdefault("Content-Type", "application/json")
        return self._http.request(method, path, headers=headers, **more)

    def get(self, path: str, **more: Any) -> Any:
        return self.request("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Any:
        return self.request("POST", path, body, **more)

    def patch(self, path: str, body: Any = None, **more: Any) -> Any:
        return self.request("PATCH", path, body, **more)

    def put(self, path: str, body: Any = None, **more: Any) -> Any:
        return self.request("PUT", path, body, **more)

    def delete(self, path: str, **more: Any) -> Any:
        return self.request("DELETE", path, **more)

    def ok(self, method: str, path: str, body: Any = None, status: int = 200, **more: Any) -> Any:
        answer = self.request(method, path, body, **more)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def problem(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, int, str]:
        """(status, code, detail) of an answer with one error."""
        answer = self.request(method, path, body, **more)
        assert answer.status_code >= 400, f"{method} {path}: {answer.status_code} {answer.text}"
        (error,) = answer.json()["errors"]
        return answer.status_code, error["code"], error["detail"]


class Cloud:
    """A platform's API on an empty database with its first-start defaults."""

    def __init__(self, settings: Settings, database: Database, http: Direct, services: Services) -> None:
        self.settings = settings
        self.database = database
        self.services = services
        self._http = http
        self.admin = self.client("cloud_controller.admin", name="admin")
        self.nobody = Client(http, None)

    def client(self, *scopes: str, name: str = "") -> Client:
        """A client with these scopes and a user of its own."""
        guid = str(uuid.uuid4())
        name = name or f"user-{guid[:8]}"
        return Client(self._http, Actor(guid=guid, name=name, scopes=frozenset(scopes)))

    def user(self, **given: str) -> Client:
        """A plain user with roles: `user(space_developer=space_guid, organization_user=org_guid)`."""
        client = self.client("cloud_controller.read", "cloud_controller.write")
        assert client.actor is not None
        with self.database.write() as tx:
            rows.add(tx, users, {"guid": client.actor.guid, "is_client": False})
            for type_, target in given.items():
                place = "space_guid" if type_.startswith("space") else "organization_guid"
                values = {
                    "guid": str(uuid.uuid4()),
                    "created_at": tx.now,
                    "updated_at": tx.now,
                    "type": type_,
                    "user_guid": client.actor.guid,
                    place: target,
                    "target_guid": target,
                }
                tx.run(insert(roles).values(values))
        return client

    def org(self, name: str = "") -> Any:
        """A new organization."""
        return self.admin.ok("POST", "/v3/organizations", {"name": name or f"org-{uuid.uuid4()}"}, 201)

    def space(self, name: str = "", org: str = "") -> Any:
        """A new space, in a new organization unless `org` (a guid) is given."""
        body = {
            "name": name or f"space-{uuid.uuid4()}",
            "relationships": {"organization": {"data": {"guid": org or self.org()["guid"]}}},
        }
        return self.admin.ok("POST", "/v3/spaces", body, 201)

    def app(self, name: str = "", space: str = "", **more: Any) -> Any:
        """A new app, in a new space unless `space` (a guid) is given."""
        body = {
            "name": name or f"app-{uuid.uuid4()}",
            "relationships": {"space": {"data": {"guid": space or self.space()["guid"]}}},
            **more,
        }
        return self.admin.ok("POST", "/v3/apps", body, 201)


@contextmanager
def open_cloud(database: Database, directory: Path) -> Iterator[Cloud]:
    """The API over `database`; blobs go to `directory`."""
    settings = load(environment={}, flags={"data_dir": str(directory), "platform.poll_seconds": 0})

    async def wait_for_job(guid: str, seconds: float) -> None:
        return None

    services = Services(
        settings=settings,
        database=database,
        authenticate=authenticate,
        wait_for_job=wait_for_job,
        blobs=LocalStore(directory / "blobs"),
        resources=ResourcePool(directory / "resources"),
        metrics=dict,
        extra={"paths": frozenset(operation.path for operation in OPERATIONS), "brokers": BrokerClient(settings)},
    )
    app = App(OPERATIONS, services)
    with Direct(app, settings.api_url) as http:
        brokers = services.extra["brokers"]
        try:
            yield Cloud(settings, database, http, services)
        finally:
            # Connections belong to the loop on which the requests were made.
            http.run(brokers.close())
