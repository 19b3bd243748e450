"""`cupola services`: databases switched on and off, whoever is killed meanwhile, on a cluster of our own and on a named server."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from cupola.cli import doctor
from cupola.cli.commands import cupola
from cupola.cli.services import BROKER
from cupola.config import Settings
from cupola.databases import choice, cluster
from cupola.processes import running
from tests.brokers.scripted import PASSWORD, USERNAME, catalog, plan, scripted, service
from tests.cli.conftest import Platform, environment, place, until
from tests.journeys.client import Client
from tests.journeys.platform import Platform as Journey

pytestmark = pytest.mark.journey
EXTRAS = ("databases", "postgres")


@pytest.fixture(scope="module", autouse=True)
def _postgres() -> None:
    try:
        cluster.find()
        cluster.account()
    except cluster.NoPostgres as problem:
        pytest.skip(str(problem))


def status(platform: Platform) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(platform.cupola("services", "status", "--json"))
    return found


def run_pids(platform: Platform) -> dict[str, int]:
    found = {name: running.read(platform.data / "run", name) for name in EXTRAS}
    return {name: one.pid for name, one in found.items() if one is not None}


def killed_when(platform: Platform, words: tuple[str, ...], reached: Callable[[], bool]) -> None:
    """Run a command and kill it as soon as something is so."""
    with subprocess.Popen(
        platform.command(*words), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not reached() and process.poll() is None:
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()


def test_nothing_of_it_is_there_before(platform: Platform) -> None:
    assert "Databases are not offered: `" in platform.cupola("services", "status")
    assert status(platform) == {
        "enabled": False, "server": "", "own": False, "broker": "", "registered": False, "processes": {},
        "instances": -1, "bindings": -1,
    }  # fmt: skip
    assert "Databases are not offered." in platform.cupola("services", "disable")
    assert run_pids(platform) == {}
    assert not (platform.data / "databases").exists()
    for name in ("controller", "router", "cell", "supervisor"):
        maps = Path(f"/proc/{platform.pid(name)}/maps").read_text()
        assert name == "controller" or "psycopg" not in maps
    with_names = platform.status()["processes"]
    assert {one["name"] for one in with_names} == {"supervisor", "controller", "router", "cell"}


@pytest.mark.parametrize(
    "reached",
    [
        lambda data: (data / "databases/choice.json").exists(),
        lambda data: running.read(data / "run", "postgres") is not None,
        lambda data: (data / "databases/postgres.new/base").exists(),
        lambda data: (data / "run/postgres.ready").exists(),
    ],
    ids=["decided", "server started", "cluster begun", "server ready"],
)
def test_an_enable_that_was_killed_is_completed_by_the_next(
    platform: Platform, reached: Callable[[Path], bool]
) -> None:
    killed_when(platform, ("services", "enable"), lambda: reached(platform.data))
    if running.read(platform.data / "run", "postgres") is not None:
        os.kill(platform.pid("postgres"), signal.SIGKILL)
    assert "PostgreSQL databases are offered, on a cluster of its own, 127.0.0.1:" in platform.cupola(
        "services", "enable"
    )
    found = status(platform)
    assert (found["enabled"], found["registered"], found["own"], found["instances"]) == (True, True, True, 0)
    assert found["processes"] == dict.fromkeys(EXTRAS, "ready")
    platform.cupola("services", "disable")
    shutil.rmtree(platform.data / "databases/postgres")


def test_enable_and_disable_again_change_nothing(platform: Platform) -> None:
    platform.cupola("services", "enable")
    before, pids = status(platform), run_pids(platform)
    platform.cupola("services", "enable")
    assert (status(platform), run_pids(platform)) == (before, pids)
    assert {one["name"]: one["state"] for one in platform.status()["processes"]}["postgres"] == "ready"
    assert re.search(r"^databases +ready", platform.cupola("services", "status"), re.MULTILINE)
    assert "databases cannot start" not in platform.cupola("logs", "databases", "postgres")
    checks = {one["name"]: one for one in json.loads(platform.cupola("doctor", "--json"))}
    assert checks["PostgreSQL"]["state"] == "good"
    file = platform.data / "databases/choice.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = file.read_bytes()
    killed_when(platform, ("services", "disable"), lambda: b'"enabled":false' in file.read_bytes())
    assert "Databases are not offered any more." in platform.cupola("services", "disable") or not run_pids(platform)
    until(lambda: not run_pids(platform))
    assert "Databases are not offered." in platform.cupola("services", "disable")
    platform.cupola("services", "enable")
    assert json.loads(file.read_bytes()) == json.loads(kept)


def test_what_serves_databases_has_no_rights(platform: Platform) -> None:
    for name, pid in run_pids(platform).items():
        text = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^CapEff:\t0+$", text, re.MULTILINE), name
        assert "NoNewPrivs:\t1" in text
        assert stat.S_IMODE((platform.data / f"logs/{name}.log").stat().st_mode) == 0o600
    secrets = choice.read(platform.data)
    assert secrets is not None
    told = b"".join(file.read_bytes() for file in (platform.data / "logs").glob("*.log"))
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            told += entry.read_bytes()
        except OSError:
            continue
    for secret in (secrets.secret, secrets.broker_password, secrets.admin_password):
        assert secret.encode() not in told


def test_who_has_lost_its_supervisor_is_told_to_have_one(platform: Platform) -> None:
    pids = run_pids(platform)
    os.kill(platform.pid("supervisor"), signal.SIGKILL)
    until(lambda: running.read(platform.data / "run", "supervisor") is None)
    assert "Error: the platform is not supervised: start it with `" in platform.cupola("services", "enable", status=1)
    platform.up("--detach")
    assert run_pids(platform) == pids
    platform.cupola("services", "enable")


def held(port: int) -> socket.socket:
    """Somebody else's program that listens there."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    made.listen()
    return made


def decided(platform: Platform) -> choice.Choice:
    found = choice.read(platform.data)
    assert found is not None
    return found


def test_ports_that_were_taken_meanwhile(platform: Platform) -> None:
    platform.cupola("services", "disable")
    before = decided(platform)
    with held(before.port):
        refused = platform.cupola("services", "enable", status=1)
    assert f"port {before.port} of 127.0.0.1, where apps know the databases, is taken" in refused
    with held(before.broker_port):
        platform.cupola("services", "enable")
    after = decided(platform)
    assert (after.port, after.secret) == (before.port, before.secret)
    assert after.broker_port != before.broker_port
    assert status(platform)["registered"]
    # The same while it is registered at the old place.
    os.kill(run_pids(platform)["databases"], signal.SIGSTOP)
    file = platform.data / "databases/choice.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"broker_port": choice.free_port()}))
    os.kill(run_pids(platform)["databases"], signal.SIGKILL)
    platform.cupola("services", "enable")
    assert status(platform)["processes"]["databases"] == "ready"


def test_a_broker_of_the_same_name_that_is_not_ours_is_left_alone(platform: Platform) -> None:
    platform.cupola("services", "disable")
    api = Client(Journey(platform.data, platform.port))
    login = {"type": "basic", "credentials": {"username": USERNAME, "password": PASSWORD}}

    def registered() -> list[str]:
        return [one["guid"] for one in api.get(f"/v3/service_brokers?names={BROKER}")["resources"]]

    with scripted() as broker:
        broker.catalog = catalog(service("another", [plan("small")]))
        api.request("POST", "/v3/service_brokers", {"name": BROKER, "url": broker.url, "authentication": login})
        until(lambda: api.get("/v3/service_plans?names=small")["resources"])
        said = platform.cupola("services", "enable", status=1)
        assert f"there is another service broker with the name cupola-databases, at {broker.url}: rename it" in said
        (guid,) = registered()
        api.request("DELETE", f"/v3/service_brokers/{guid}")
        until(lambda: not registered())
    platform.cupola("services", "enable")


@pytest.fixture
def server(platform: Platform) -> Iterator[str]:
    """Somebody else's server: the URL of an administrator there who is no superuser."""
    found = choice.read(platform.data)
    assert found is not None
    handle = os.open(platform.data / "databases/socket", os.O_PATH)
    with psycopg.connect(
        host=f"/proc/self/fd/{handle}", port=found.port, user="cupola", password=found.admin_password,
        dbname="postgres", autocommit=True,
    ) as root:  # fmt: skip
        root.execute("CREATE ROLE limited LOGIN CREATEDB CREATEROLE PASSWORD 'l1mited'")
        root.execute("CREATE DATABASE maintenance")
        yield f"postgresql://limited:l1mited@127.0.0.1:{found.port}/maintenance"
        root.execute("DROP DATABASE maintenance")
        root.execute("DROP ROLE limited")
    os.close(handle)


def test_on_a_named_server(platform: Platform, server: str, tmp_path: Path) -> None:
    refused = platform.cupola("services", "enable", "--server", server, status=1)
    assert "databases are offered on a cluster of its own already" in refused
    with place(tmp_path / "data") as other:
        other.up("--detach")
        wrong = other.cupola("services", "enable", "--server", server.replace("l1mited@", "wrong@"), status=1)
        assert re.search(r"Error: the server 127\.0\.0\.1:\d+ cannot be used: .*password authentication failed", wrong)
        assert "wrong@" not in wrong
        with subprocess.Popen(
            other.command("services", "enable", "--server", "-"), env=environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            said, _ = process.communicate(server + "\n", timeout=100)
        assert process.returncode == 0, said
        assert re.search(r"PostgreSQL databases are offered, on 127\.0\.0\.1:\d+\.", said)
        found = status(other)
        assert (found["own"], found["processes"]) == (False, {"databases": "ready"})
        assert "l1mited" not in json.dumps(found) + said
        checks = {one["name"]: one for one in json.loads(other.cupola("doctor", "--json"))}
        assert checks["PostgreSQL"]["found"] == "databases are offered on a named server"
        other.cupola("services", "enable")
        elsewhere = other.cupola("services", "enable", "--server", "postgresql://a:b@db.example.com", status=1)
        assert re.search(r"databases are offered on 127\.0\.0\.1:\d+ already: delete the service instances", elsewhere)
        other.cupola("services", "disable")


def test_words_that_cannot_be(tmp_path: Path, platform: Platform) -> None:
    said = CliRunner().invoke(cupola, ["services", "enable", "--data-dir", str(tmp_path / "none")])
    assert said.exit_code == 1
    assert "there is no platform in" in said.output
    platform.cupola("services", "disable")
    refused = platform.cupola("services", "enable", "--server", "mysql://a:b@c", status=1)
    assert "--server is not the URL of a PostgreSQL server with its administrator: write it as postgresql://" in refused


def test_without_postgresql_doctor_says_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    (check,) = [one for one in doctor._services(_settings(tmp_path)) if one.name == "PostgreSQL"]
    assert check.state == "weaker"
    assert "named with --server" in check.consequence
    assert "install the package `postgresql`" in check.remedy
    choice.write(tmp_path, choice.made(None, ""))
    (check,) = doctor._services(_settings(tmp_path))
    assert check.consequence == "the databases that are offered here do not start"


def _settings(data: Path) -> Settings:
    return Settings(data_dir=data)
