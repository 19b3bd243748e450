"""A cluster of our own, as the platform makes and runs it, and the broker in front of it over real HTTP."""

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import uvicorn

from cupola.config import Settings, write_resolved
from cupola.databases import choice, cluster, servers
from cupola.databases.broker import application
from cupola.databases.choice import Choice
from cupola.databases.plans import PLANS, SERVICE_ID
from cupola.databases.server import Server

ROOT = Path(__file__).resolve().parents[2]
SMALL, MEDIUM = PLANS
PASSWORD = "the broker's password"


@dataclass
class Cluster:
    """A data directory whose databases are offered on a cluster of its own."""

    data: Path
    choice: Choice
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Be there and ready."""
        search = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "CUPOLA_SETTINGS": str(self.data / "run/settings.json"), "PYTHONPATH": search}
        ready = self.data / "run/postgres.ready"
        ready.unlink(missing_ok=True)
        with (self.data / "log").open("ab") as log:
            command = [sys.executable, "-P", "-m", "cupola.processes.postgres"]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.data)
        deadline = time.monotonic() + 90
        while not ready.exists():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def log(self) -> str:
        return (self.data / "log").read_text()

    def server(self) -> Server:
        return servers.opened(self.choice, self.data)

    @contextmanager
    def administrator(self, database: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        """The superuser, by the socket."""
        handle = os.open(self.data / "databases/socket", os.O_PATH | os.O_DIRECTORY)
        try:
            with psycopg.connect(
                host=f"/proc/self/fd/{handle}", port=self.choice.port, user=cluster.ADMIN, dbname=database,
                password=self.choice.admin_password, autocommit=True,
            ) as made:  # fmt: skip
                yield made
        finally:
            os.close(handle)


def placed(data: Path) -> Cluster:
    """A data directory, with everything that the processes need to find in it."""
    settings = Settings(data_dir=data)
    settings.run_dir.mkdir(parents=True, mode=0o700)
    write_resolved(settings, settings.run_dir / "settings.json")
    chosen = choice.made(None, "")
    choice.write(data, chosen)
    return Cluster(data, chosen)


def require_postgres() -> None:
    try:
        cluster.find()
        cluster.account()
    except cluster.NoPostgres as problem:
        pytest.skip(str(problem))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The server of all tests that do not stop it."""
    require_postgres()
    made = placed(tmp_path_factory.mktemp("databases") / "data")
    made.start()
    yield made
    assert made.stop() == 0, made.log()


@dataclass
class Answer:
    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def description(self) -> str:
        return str(self.body["description"])


@dataclass
class Platform:
    """Who calls a broker."""

    port: int
    password: str = PASSWORD
    version: str = "2.17"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        login = base64.b64encode(f"cupola:{self.password}".encode()).decode()
        given = {"Authorization": f"Basic {login}", "X-Broker-API-Version": self.version, **headers}
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, data, given)
            answer = connection.getresponse()
            text = answer.read()
            return Answer(answer.status, json.loads(text) if text else None, dict(answer.getheaders()))
        finally:
            connection.close()

    def provision(self, instance: str, plan: str = SMALL, **more: Any) -> Answer:
        body = {
            "service_id": SERVICE_ID, "plan_id": plan, "organization_guid": "o", "space_guid": "s",
            "context": {"platform": "cloudfoundry", "instance_annotations": {"x": ["'; DROP ROLE cupola; --"]}}, **more,
        }  # fmt: skip
        return self.ask("PUT", f"/v2/service_instances/{instance}?accepts_incomplete=true", body)

    def bind(self, instance: str, binding: str, **more: Any) -> Answer:
        body = {"service_id": SERVICE_ID, "plan_id": SMALL, "bind_resource": {"app_guid": "a"}, "context": {}, **more}
        return self.ask("PUT", f"/v2/service_instances/{instance}/service_bindings/{binding}", body)

    def delete(self, path: str) -> Answer:
        return self.ask("DELETE", f"/v2/service_instances/{path}?service_id={SERVICE_ID}&plan_id={SMALL}")

    def bought(self) -> str:
        """The guid of a new instance."""
        guid = str(uuid.uuid4())
        answer = self.provision(guid)
        assert answer.status == 201, answer.body
        return guid

    def bound(self, instance: str) -> tuple[str, dict[str, Any]]:
        """The guid of a new binding, and its credentials."""
        guid = str(uuid.uuid4())
        answer = self.bind(instance, guid)
        assert answer.status == 201, answer.body
        return guid, answer.body["credentials"]


@contextmanager
def serving(server: Server) -> Iterator[Platform]:
    """The broker over HTTP, in a thread."""
    config = uvicorn.Config(
        application(server, "cupola", PASSWORD), host="127.0.0.1", port=0, log_config=None, lifespan="off"
    )
    broker = uvicorn.Server(config)
    broker.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # not in the main thread
    thread = threading.Thread(target=broker.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not broker.started:
        assert time.monotonic() < deadline, "the broker does not start"
        time.sleep(0.01)
    try:
        yield Platform(broker.servers[0].sockets[0].getsockname()[1])
    finally:
        broker.should_exit = True
        thread.join(20)


@pytest.fixture(scope="session")
def platform(postgres: Cluster) -> Iterator[Platform]:
    with serving(postgres.server()) as made:
        yield made
