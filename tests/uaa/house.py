"""A platform whose identity server is called over HTTP, with the real API beside it, for tests and nothing else."""

import base64
import hmac
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
from sqlalchemy import event
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from cupola.api.table import OPERATIONS
from cupola.bell import Bells
from cupola.blobs.resources import ResourcePool
from cupola.blobs.store import LocalStore
from cupola.config import Settings, load
from cupola.logs.ring import Ring
from cupola.processes import front
from cupola.rest.dispatch import App
from cupola.rest.operation import Services
from cupola.store.database import Database
from cupola.uaa.routes import application
from cupola.uaa.service import Identity
from tests.databases import PlainVault

__all__ = [
    "ADMIN_PASSWORD",
    "Answer",
    "Browser",
    "House",
    "Platform",
    "basic",
    "claims_of",
    "confused",
    "csrf_of",
    "first_start",
    "opened",
    "query_of",
]

ADMIN_PASSWORD = "the admin's password"
FLAGS = {"identity.shared_secret_argon2_memory_kib": 64}
"""Hashes of tests are cheap."""

Answer = Any
"""A response of the test client."""


class House:
    """One controller's identity server and API, over HTTP."""

    def __init__(self, settings: Settings, database: Database, identity: Identity, http: TestClient) -> None:
        self.settings = settings
        self.database = database
        self.identity = identity
        self.http = http
        self.prefix = "" if settings.platform.system_domain else "/uaa"
        self.secrets: dict[str, str] = msgspec.json.decode((settings.data_dir / "keys/clients.json").read_bytes())

    def request(self, method: str, path: str, token: str = "", **more: Any) -> Answer:
        """A request to the identity server; `token` is a bearer token."""
        headers = dict(more.pop("headers", {}))
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return self.http.request(method, self.prefix + path, headers=headers, follow_redirects=False, **more)

    def get(self, path: str, token: str = "", **more: Any) -> Answer:
        return self.request("GET", path, token, **more)

    def post(self, path: str, token: str = "", body: Any = None, **more: Any) -> Answer:
        return self.request("POST", path, token, json=body, **more)

    def ok(self, method: str, path: str, token: str = "", body: Any = None, status: int = 200, **more: Any) -> Any:
        """The JSON of an answer; fails for another status."""
        if body is not None:
            more["json"] = body
        answer = self.request(method, path, token, **more)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def token(self, client: str = "cf", secret: str | None = None, **form: str) -> Answer:
        """POST /oauth/token with HTTP basic."""
        secret = self.secrets.get(client, "") if secret is None else secret
        return self.request("POST", "/oauth/token", data=form, headers=basic(client, secret))

    def log_in(self, username: str = "admin", password: str = ADMIN_PASSWORD, **form: str) -> dict[str, Any]:
        """The answer of /oauth/token for a user at the client `cf`."""
        answer = self.token(grant_type="password", username=username, password=password, **form)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def admin(self) -> str:
        """A token of the client `admin`, which may do everything here."""
        answer = self.token("admin", grant_type="client_credentials")
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def user(
        self, name: str = "", password: str = "secret", groups: tuple[str, ...] = (), more: Mapping[str, Any] = {}
    ) -> Any:
        """A new user, as SCIM shows it. `more` goes into the body."""
        name = name or f"user-{uuid.uuid4().hex[:8]}"
        token = self.admin()
        body = {"userName": name, "password": password, "emails": [{"value": f"{name}@example.org"}], **more}
        made = self.ok("POST", "/Users", token, body, 201)
        for group in groups:
            member = {"value": made["id"], "type": "USER", "origin": "uaa"}
            self.ok("POST", f"/Groups/{self.group(group)}/members", token, member, 201)
        return made

    def group(self, name: str) -> str:
        """The id of a group."""
        listed = self.ok("GET", "/Groups", self.admin(), params={"filter": f'displayName eq "{name}"'})
        (found,) = listed["resources"]
        return str(found["id"])

    def client(self, client_id: str, secret: str | None = "secret", **more: Any) -> Any:
        """A new client."""
        body = {"client_id": client_id, **more}
        if secret is not None:
            body["client_secret"] = secret
        return self.ok("POST", "/oauth/clients", self.admin(), body, 201)

    def browser(self, base: str = "") -> "Browser":
        """A browser without cookies."""
        return Browser(self, TestClient(self.http.app, base_url=base or str(self.http.base_url)))

    def api(self, token: str, path: str = "/v3/organizations") -> int:
        """The status of a request to the API."""
        return int(self.http.get(path, headers={"Authorization": f"bearer {token}"}).status_code)


class Browser:
    """A browser: it keeps cookies, and follows no redirect unasked."""

    def __init__(self, house: House, http: TestClient) -> None:
        self.house = house
        self.http = http

    def get(self, path: str, **more: Any) -> Answer:
        """A page; `path` is below the identity server, or as a Location header has it."""
        more["headers"] = {"Accept": "text/html", **more.get("headers", {})}
        return self.http.get(self._url(path), follow_redirects=False, **more)

    def send(self, path: str, form: Mapping[str, str], **more: Any) -> Answer:
        """A form."""
        return self.http.post(self._url(path), data=dict(form), follow_redirects=False, **more)

    def _url(self, path: str) -> str:
        prefix = self.house.prefix
        return path if path.startswith(f"{prefix}/") and prefix else prefix + path

    def log_in(self, username: str, password: str = "secret", next: str = "") -> Answer:
        """Fill in the login form."""
        csrf = csrf_of(self.get("/login").text)
        return self.send("/login.do", {"username": username, "password": password, "X-Uaa-Csrf": csrf, "next": next})


def query_of(url: str) -> dict[str, str]:
    """The query parameters of an address."""
    return dict(parse_qsl(urlsplit(url).query))


def basic(client: str, secret: str) -> dict[str, str]:
    """The header of HTTP basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()}


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a signed token, unchecked."""
    part = token.split(".")[1]
    found: dict[str, Any] = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def confused(claims: Mapping[str, Any], kid: str, public_key: str) -> str:
    """A token signed by HMAC with a public key as the secret: good where the algorithm is taken from the token."""

    def part(value: Any) -> str:
        raw = value if isinstance(value, bytes) else msgspec.json.encode(value)
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    signed = f"{part({'alg': 'HS256', 'kid': kid, 'typ': 'JWT'})}.{part(claims)}"
    return f"{signed}.{part(hmac.digest(public_key.encode(), signed.encode(), 'sha256'))}"


def csrf_of(page: str) -> str:
    """The value of the hidden field of a form."""
    found = re.search(r'name="X-Uaa-Csrf" value="([^"]+)"', page)
    assert found is not None, page
    return found.group(1)


@dataclass(frozen=True)
class Platform:
    """Where a platform's state is: its directory and its database."""

    directory: Path
    url: str
    file: Path


def first_start(platform: Platform, database: Database) -> None:
    """Make what a first start makes, with an admin of known password."""
    settings = _settings(platform, {})
    credentials = {"admin": {"username": "admin", "password": ADMIN_PASSWORD}}
    (platform.directory / "credentials.json").write_bytes(msgspec.json.encode(credentials))
    identity = Identity(settings, database)
    with database.write() as tx:
        identity.ensure(tx)
    identity.close()


def _settings(platform: Platform, flags: Mapping[str, Any]) -> Settings:
    return load(environment={}, flags={"data_dir": str(platform.directory), **FLAGS, **flags})


@contextmanager
def opened(platform: Platform, **flags: Any) -> Iterator[House]:
    """A controller of a platform; `section__key` sets a setting."""
    settings = _settings(platform, {key.replace("__", "."): value for key, value in flags.items()})
    directory = platform.directory
    database = Database(platform.url, platform.file, PlainVault(), Bells(), threads=4)
    if database.is_sqlite:
        # A test's database need not survive a power failure.
        event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    identity = Identity(settings, database)
    ring = Ring(directory / "logs" / uuid.uuid4().hex, settings.logs)

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
    )
    api = App(OPERATIONS, services)
    whole = front.application(settings, api, application(identity), ring, services, identity.authenticate)
    base = settings.uaa_url.removesuffix("/uaa")

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        # One event loop for all requests; the front has no lifespan of its own.
        await (api if scope["type"] == "lifespan" else whole)(scope, receive, send)

    try:
        with TestClient(served, base_url=base) as http:
            yield House(settings, database, identity, http)
    finally:
        identity.close()
        ring.close()
        database.close()
