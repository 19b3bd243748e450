"""A platform whose identity server is called over HTTP, with the real API beside it, for tests and nothing else."""

import base64
import hmac
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import make_url
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from cupola.api.table import OPERATIONS
from cupola.bell import Bells
from cupola.blobs.resources import ResourcePool
from cupola.blobs.store import LocalStore
from cupola.config import Settings, load
from cupola.domain import bootstrap
from cupola.logs.ring import Ring
from cupola.processes import front
from cupola.rest.dispatch import App
from cupola.rest.operation import Services
from cupola.secrets.vault import Vault
from cupola.store.database import Database
from cupola.store.tables import metadata
from cupola.uaa.routes import application
from cupola.uaa.service import Identity

__all__ = [
    "ADMIN_PASSWORD",
    "POSTGRES",
    "Answer",
    "Browser",
    "House",
    "basic",
    "claims_of",
    "confused",
    "copied",
    "create_postgres",
    "csrf_of",
    "drop_postgres",
    "make_template",
    "opened",
    "query_of",
]

POSTGRES = os.environ.get("CUPOLA_TEST_POSTGRES", "")
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


def make_template(directory: Path) -> None:
    """A data directory (and a database, on PostgreSQL) as after the first start."""
    settings = _settings(directory, {})
    (directory / "credentials.json").write_text(
        msgspec.json.encode({"admin": {"username": "admin", "password": ADMIN_PASSWORD}}).decode()
    )
    vault = Vault.load_or_create(directory / "keys")
    name = ""
    if POSTGRES:
        name = create_postgres(f"cupola_uaa_{uuid.uuid4().hex[:12]}")
        (directory / "postgres").write_text(name)
    database = Database(_url(name), directory / "cupola.db", vault, Bells())
    metadata.create_all(database.engine)
    identity = Identity(settings, database)
    with database.write() as tx:
        bootstrap.ensure(tx, settings)
        identity.ensure(tx)
    identity.close()
    database.close()


def _settings(directory: Path, flags: Mapping[str, Any]) -> Settings:
    return load(environment={}, flags={"data_dir": str(directory), **FLAGS, **flags})


def _url(name: str) -> str:
    return make_url(POSTGRES).set(database=name).render_as_string(hide_password=False) if name else ""


@contextmanager
def copied(template: Path, directory: Path) -> Iterator[Path]:
    """A platform of its own, like the template."""
    shutil.copytree(template, directory, dirs_exist_ok=True)
    name = ""
    if POSTGRES:
        name = create_postgres(f"cupola_uaa_{uuid.uuid4().hex[:12]}", (template / "postgres").read_text())
        (directory / "postgres").write_text(name)
    try:
        yield directory
    finally:
        if name:
            drop_postgres(name)


@contextmanager
def opened(directory: Path, **flags: Any) -> Iterator[House]:
    """A controller on a data directory."""
    settings = _settings(directory, {key.replace("__", "."): value for key, value in flags.items()})
    name = (directory / "postgres").read_text() if POSTGRES else ""
    vault = Vault.load_or_create(directory / "keys")
    database = Database(_url(name), directory / "cupola.db", vault, Bells(), threads=4)
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
    whole = front.application(settings, api, application(identity), ring, services)
    base = settings.uaa_url.removesuffix("/uaa")

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        # One event loop for all requests; the front has no lifespan of its own.
        await (api if scope["type"] == "lifespan" else whole)(scope, receive, send)

    with TestClient(served, base_url=base) as http:
        yield House(settings, database, identity, http)
    identity.close()
    ring.close()
    database.close()


def _server() -> Any:
    url = make_url(POSTGRES)
    return create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")


def create_postgres(name: str, template: str = "template1") -> str:
    """A database on the server of CUPOLA_TEST_POSTGRES; returns its name."""
    engine = _server()
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    engine.dispose()
    return name


def drop_postgres(name: str) -> None:
    """Delete it again."""
    engine = _server()
    with engine.connect() as connection:
        connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
    engine.dispose()
