"""Databases of the platform's own broker: switched on with one command, bought and bound with the official CLI, used by
the sample, killed and found again, and switched off."""

import json
import os
import pwd
import re
import select
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cupola.databases import cluster
from tests.journeys.cf import Cf
from tests.journeys.client import Client
from tests.journeys.conftest import BINARIES
from tests.journeys.platform import ROOT, Answer, Platform, eventually, started
from tests.ordinary import Ordinary, Unavailable, ordinary_user
from tests.ports import free_port

pytestmark = pytest.mark.timeout(300)
SAMPLE = ROOT / "samples" / "database"
PROCESSES = ("databases", "postgres")


@pytest.fixture(scope="module")
def postgres() -> None:
    """Its programs are there, and somebody whom they run as."""
    try:
        cluster.find()
        cluster.account()
    except cluster.NoPostgres as problem:
        pytest.skip(str(problem))


@pytest.fixture(scope="module")
def own(postgres: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform of its own, because every marketplace shows what it offers."""
    with started(tmp_path_factory.mktemp("databases") / "data") as platform:
        platform.cupola("services", "enable")
        yield platform


@pytest.fixture(scope="module", params=BINARIES or [""], ids=[Path(one).name for one in BINARIES] or ["no cf"])
def buyer(request: pytest.FixtureRequest, own: Platform, tmp_path_factory: pytest.TempPathFactory) -> Cf:
    """A `cf` that is logged in as somebody who is no administrator, in a space of its own."""
    if not request.param:
        pytest.skip("no official cf CLI on PATH and $CF_BIN names none")
    name = Path(request.param).name
    admin, cf = (
        Cf(request.param, tmp_path_factory.mktemp(f"admin-{name}")),
        Cf(request.param, tmp_path_factory.mktemp(name)),
    )
    for client in (admin, cf):
        client("api", own.url)
    admin("auth", "admin", own.password)
    admin("create-user", name, "buyer-secret")
    admin("create-org", f"org-{name}")
    admin("create-space", "dev", "-o", f"org-{name}")
    admin("set-space-role", name, f"org-{name}", "dev", "SpaceDeveloper")
    cf("auth", name, "buyer-secret")
    cf("target", "-o", f"org-{name}", "-s", "dev")
    return cf


def write(platform: Platform, app: str, text: str) -> Answer:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return platform.app(app, "/notes", method="POST", body=f"text={text}".encode(), headers=headers)


def read(platform: Platform, app: str) -> str:
    """The page once it answers well."""
    answer = eventually(lambda: (found := platform.app(app)).status == 200 and found, what=f"{app} reads its notes")
    return str(answer.body.decode())


def key(cf: Cf, service: str, name: str) -> dict[str, Any]:
    printed = cf("service-key", service, name)
    found = json.loads(printed[printed.index("{") :])
    credentials: dict[str, Any] = found.get("credentials", found)
    return credentials


def kill(platform: Platform, name: str) -> None:
    pid = platform.pid(name)
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert select.select([descriptor], [], [], 30)[0]
    finally:
        os.close(descriptor)


def shown(platform: Platform) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(platform.cupola("services", "status", "--json").stdout)
    return found


def is_ready(platform: Platform, name: str) -> bool:
    return bool(shown(platform)["processes"][name] == "ready")


def test_a_newcomer_binds_a_real_database(own: Platform, buyer: Cf) -> None:
    app, other, stranger = (f"{name}-{buyer.name}" for name in ("notes", "other", "stranger"))
    assert re.search(r"postgresql\s+small, medium\s+PostgreSQL databases", buyer("marketplace"))
    buyer("push", app, cwd=SAMPLE, seconds=300)
    unbound = own.app(app)
    assert (unbound.status, b"No database is bound yet" in unbound.body) == (503, True)

    buyer("create-service", "postgresql", "small", "data", "--wait")
    buyer("bind-service", app, "data", "--wait")
    buyer("restage", app, seconds=300)
    assert "Hello from PostgreSQL" in read(own, app)
    assert write(own, app, "remember+me").status == 302
    assert "remember me" in read(own, app)
    buyer("restart", app)
    assert "remember me" in read(own, app)

    # A task of the app reaches it too, as migrations do.
    buyer(
        "run-task",
        app,
        "-c",
        "python -c \"import os, psycopg; psycopg.connect(os.environ['DATABASE_URL'])\"",
        "--name",
        "m",
        "--wait",
    )

    # Another app shares the instance, by a user of its own.
    buyer("push", other, "--no-start", cwd=SAMPLE, seconds=300)
    buyer("bind-service", other, "data", "--wait")
    buyer("start", other, seconds=300)
    assert "remember me" in read(own, other)
    write(own, other, "from+the+other")
    assert "from the other" in read(own, app)

    # A key is for people.
    buyer("create-service-key", "data", "mine", "--wait")
    mine = key(buyer, "data", "mine")
    with psycopg.connect(mine["uri"]) as connection:
        texts = connection.execute("SELECT text FROM notes ORDER BY id").fetchall()
    assert texts == [("remember me",), ("from the other",)]

    # Who is not bound does not reach the server, whatever it knows.
    buyer("push", stranger, "--no-start", cwd=SAMPLE, seconds=300)
    buyer("set-env", stranger, "DATABASE_URL", mine["uri"])
    buyer("start", stranger, seconds=300)
    if (own.data_dir / "run/cell.ready").read_text() in {"root", "rootless"}:
        assert own.app(stranger).body == b"The database does not answer"

    # Unbound is locked out, even before it restarts; the other goes on.
    buyer("unbind-service", other, "data", "--wait")
    eventually(lambda: own.app(other).body == b"The database does not answer")
    assert "from the other" in read(own, app)

    buyer("update-service", "data", "-p", "medium", "--wait")
    assert re.search(r"data\s+postgresql\s+medium\s", buyer("services"))
    refused = buyer.run("create-service", "postgresql", "small", "more", "-c", '{"size": 1}', "--wait")
    assert refused.returncode == 1
    assert re.search(r"more\s+postgresql\s+small\s+create failed", buyer("services"))
    buyer("delete-service", "-f", "more", "--wait")

    buyer("unbind-service", app, "data", "--wait")
    buyer("delete-service-key", "-f", "data", "mine", "--wait")
    buyer("delete-service", "-f", "data", "--wait")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(mine["uri"])
    for name in (app, other, stranger):
        buyer("delete", "-f", "-r", name)
    assert shown(own)["instances"] == 0


@pytest.fixture
def bound(own: Platform, buyer: Cf) -> Iterator[str]:
    """An app with a note in its database."""
    name = f"kept-{buyer.name}"
    buyer("create-service", "postgresql", "small", name, "--wait")
    buyer("push", name, "--no-start", cwd=SAMPLE, seconds=300)
    buyer("bind-service", name, name, "--wait")
    buyer("start", name, seconds=300)
    write(own, name, "still+here")
    yield name
    buyer("delete", "-f", "-r", name)
    buyer("delete-service", "-f", name, "--wait")


def test_what_is_killed_comes_back_with_the_data(own: Platform, buyer: Cf, bound: str) -> None:
    assert "still here" in read(own, bound)
    for name in PROCESSES:
        before = own.pid(name)
        kill(own, name)
        eventually(partial(is_ready, own, name), what=f"{name} is back")
        assert own.pid(name) != before
        assert "still here" in read(own, bound)
    buyer("create-service-key", bound, "after", "--wait")
    with psycopg.connect(key(buyer, bound, "after")["uri"]) as connection:
        assert connection.execute("SELECT text FROM notes").fetchall() == [("still here",)]
    buyer("delete-service-key", "-f", bound, "after", "--wait")

    own.down()
    assert not any((own.data_dir / f"run/{name}.pid").exists() for name in PROCESSES)
    own.up()
    assert "still here" in read(own, bound)
    status = own.cupola("status").stdout
    assert all(re.search(rf"^{name}\s+ready", status, re.MULTILINE) for name in PROCESSES)

    # Nobody takes away what is used.
    refused = own.cupola("services", "disable", check=False)
    assert refused.returncode == 1
    assert f"1 databases are in use ({bound}): delete them first, as with `cf delete-service NAME`" in refused.stderr
    assert "still here" in read(own, bound)


def test_databases_are_offered_no_more_and_again(own: Platform, buyer: Cf) -> None:
    assert "Databases are not offered any more." in own.cupola("services", "disable").stdout
    assert "postgresql" not in buyer("marketplace")
    assert not any((own.data_dir / f"run/{name}.pid").exists() for name in PROCESSES)
    assert shown(own)["enabled"] is False
    assert "Databases are not offered." in own.cupola("services", "disable").stdout
    own.cupola("services", "enable")
    own.cupola("services", "enable")
    assert "postgresql" in buyer("marketplace")
    buyer("create-service", "postgresql", "small", "again", "--wait")
    buyer("delete-service", "-f", "again", "--wait")


@pytest.fixture(params=["rootless", "process", "none", "another user for controller and broker"])
def platform(request: pytest.FixtureRequest, postgres: None, tmp_path: Path) -> Iterator[Platform]:
    """A platform that is run in another way than by root with all that root has."""
    with ExitStack() as stack:
        made = Platform(tmp_path / "data", free_port())
        options = ("--isolation", request.param)
        if os.getuid() == 0 and request.param in {"rootless", "another user for controller and broker"}:
            try:
                user = stack.enter_context(ordinary_user())
            except Unavailable as error:
                pytest.skip(str(error))
            if request.param != "rootless":
                options = ("--set", f"platform.user={user.account.pw_name}")
                # An interpreter that both can run.
                user = Ordinary(user.python, pwd.getpwuid(0), user.home)
            made = Platform(user.home / "data", made.port, user=user)
        elif request.param.startswith("another"):
            pytest.skip("only root has other users run its processes")
        stack.callback(made.down)
        made.up(*options)
        yield made


def test_databases_work_however_the_platform_is_run(platform: Platform) -> None:
    platform.cupola("services", "enable")
    api = Client(platform)
    (space,) = api.get("/v3/spaces")["resources"]
    (plan,) = api.get("/v3/service_plans?names=small")["resources"]
    relationships = {"space": {"data": {"guid": space["guid"]}}, "service_plan": {"data": {"guid": plan["guid"]}}}
    api.request("POST", "/v3/service_instances", {"type": "managed", "name": "data", "relationships": relationships})
    (instance,) = api.get("/v3/service_instances?names=data")["resources"]

    def done(kind: str) -> bool:
        (found,) = api.get(f"/v3/{kind}")["resources"]
        assert found["last_operation"]["state"] != "failed", found["last_operation"]
        return bool(found["last_operation"]["state"] == "succeeded")

    eventually(lambda: done("service_instances"))
    platform.cupola("push", str(SAMPLE), "--no-start", seconds=280)
    bound = {"service_instance": instance["guid"], "app": api.app_guid("sample-database")}
    relationships = {name: {"data": {"guid": guid}} for name, guid in bound.items()}
    api.request("POST", "/v3/service_credential_bindings", {"type": "app", "relationships": relationships})
    eventually(lambda: done("service_credential_bindings"))
    api.request("POST", f"/v3/apps/{bound['app']}/actions/start")
    read(platform, "sample-database")
    write(platform, "sample-database", "however")
    assert "however" in read(platform, "sample-database")
    assert json.loads(platform.cupola("services", "status", "--json").stdout)["bindings"] == 1
