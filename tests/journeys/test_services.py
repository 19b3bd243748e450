"""Services with the official CLI: a broker's, and those that users describe; bound to apps, routes and logs."""

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cupola.processes import running
from tests.brokers.scripted import PASSWORD, USERNAME, Broker, Says, catalog, plan, scripted, service
from tests.journeys.cf import Cf
from tests.journeys.platform import Platform, eventually

APPS = Path(__file__).parent / "apps"
MOUNT = {
    "driver": "localdriver",
    "container_dir": "/var/vcap/data/shelf",
    "mode": "rw",
    "device_type": "shared",
    "device": {"volume_id": "shelf-1"},
}


@pytest.fixture
def broker(cf: Cf) -> Iterator[Broker]:
    """A broker that sells databases, shelves and guards; everybody may buy."""
    with scripted() as found:
        found.catalog = catalog(
            service(
                "store",
                [plan("small", maintenance_info={"version": "1.0.0"}), plan("large")],
                metadata={"shareable": True},
                plan_updateable=True,
                instances_retrievable=True,
                bindings_retrievable=True,
                tags=["sql"],
            ),
            service("shelf", [plan("shelf")], requires=["volume_mount"]),
        )
        cf("create-service-broker", f"shop-{cf.name}", USERNAME, PASSWORD, found.url)
        for name in ("store", "shelf"):
            cf("enable-service-access", name, "-b", f"shop-{cf.name}")
        yield found
        # What a failed test left would make the next one fail too.
        for name in ("store", "shelf"):
            cf("purge-service-offering", "-f", name, "-b", f"shop-{cf.name}")
        cf("delete-service-broker", "-f", f"shop-{cf.name}")


@pytest.fixture
def app(cf: Cf) -> Iterator[str]:
    name = f"bound-{cf.name}"
    cf("push", name, "-m", "64M", "-k", "256M", "-p", str(APPS / "bound"))
    yield name
    cf("delete", "-f", "-r", name)


def environment(platform: Platform, app: str) -> dict[str, str]:
    found: dict[str, str] = platform.app(app, "/env").json()
    return found


def test_a_brokers_services_live_and_die(cf: Cf, platform: Platform, broker: Broker, app: str) -> None:
    uri = "postgresql://me:secret@db.example.com/one"
    broker.on("PUT", "/v2/service_instances/*/service_bindings/*", Says(201, {"credentials": {"uri": uri}}))
    polls = "/v2/service_instances/*/last_operation"
    broker.on("PUT", "/v2/service_instances/*", Says(202, {"operation": "p"}))
    broker.on("PUT", "/v2/service_instances/*/service_bindings/*", Says(201, {"credentials": {"uri": uri}}))
    broker.on("GET", polls, Says(200, {"state": "in progress"}), Says(200, {"state": "succeeded"}))
    printed = cf("create-service", "store", "small", "data", "-c", '{"size": 1}', "-t", "own", "--wait")
    assert "created" in printed
    shown = cf("service", "data")
    assert re.search(r"status:\s+create succeeded", shown)
    assert re.search(r"tags:\s+own", shown)
    assert '"size": 1' not in cf("services")
    broker.on("GET", "/v2/service_instances/*", Says(200, {"parameters": {"size": 1}}))
    assert '"size": 1' in cf("service", "data", "--params")

    cf("bind-service", app, "data", "--binding-name", "db", "-c", '{"role": "reader"}', "--wait")
    assert "already bound" in cf("bind-service", app, "data", "--binding-name", "db")
    cf("restart", app)
    seen = environment(platform, app)
    (entry,) = json.loads(seen["VCAP_SERVICES"])["store"]
    assert (entry["name"], entry["credentials"], entry["tags"]) == ("db", {"uri": uri}, ["sql", "own"])
    assert seen["DATABASE_URL"] == uri.replace("postgresql", "postgres")
    assert re.search(rf"data\s+store\s+small\s+{app}\s+create succeeded\s+shop", cf("services"))

    cf("create-service-key", "data", "mine", "--wait")
    printed = cf("service-key", "data", "mine")
    assert json.loads(printed[printed.index("{") :])["credentials"]["uri"] == uri
    broker.on("PATCH", "/v2/service_instances/*", Says(200))
    cf("update-service", "data", "-p", "large", "--wait")
    cf("update-service", "data", "-p", "small", "--wait")
    assert re.search(r"data\s+store\s+small\s+", cf("services"))
    broker.catalog["services"][0]["plans"][0]["maintenance_info"] = {"version": "2.0.0"}
    cf("update-service-broker", f"shop-{cf.name}", USERNAME, PASSWORD, broker.url)
    assert re.search(r"data\s+store\s+small\s+.*yes", cf("services"))
    cf("upgrade-service", "data", "-f", "--wait")
    assert broker.asked("PATCH")[-1].body["maintenance_info"] == {"version": "2.0.0"}
    cf("rename-service", "data", "facts")

    cf("enable-feature-flag", "service_instance_sharing")
    cf("create-space", "neighbours")
    cf("share-service", "facts", "-s", "neighbours")
    assert "neighbours" in cf("service", "facts")
    cf("unshare-service", "facts", "-s", "neighbours", "-f")
    cf("delete-space", "-f", "neighbours")

    cf("unbind-service", app, "facts", "--wait")
    broker.on("DELETE", "/v2/service_instances/*", Says(500, {"description": "not before noon"}))
    broker.on("DELETE", "/v2/service_instances/*/service_bindings/*", Says(200))
    refused = cf.run("delete-service", "-f", "facts", "--wait")
    assert "not before noon" in refused.stdout
    assert re.search(r"facts\s+store\s+small\s+delete failed", cf("services"))
    cf("purge-service-instance", "-f", "facts")
    assert "facts" not in cf("services")


def kill(platform: Platform, process: str) -> None:
    run, pid = platform.data_dir / "run", platform.pid(process)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: (found := running.read(run, process)) and found.pid != pid, 30, f"{process} is started again")
    eventually(lambda: platform.get("localhost", "/v3").status == 200, 30, "the API answers")


def test_no_kill_makes_a_service_twice(cf: Cf, platform: Platform, broker: Broker) -> None:
    """Killed while the broker works, and while it is just asked."""
    polls, instances = "/v2/service_instances/*/last_operation", "/v2/service_instances/*"
    broker.on("PUT", instances, Says(202, {"operation": "p"}))
    broker.on("GET", polls, Says(200, {"state": "in progress"}))
    cf("create-service", "store", "small", "slow")
    broker.wait("GET", polls)
    kill(platform, "controller")
    before = len(broker.asked("GET", polls))
    broker.on("GET", polls, Says(200, {"state": "succeeded"}))
    broker.wait("GET", polls, before + 1, 60)
    eventually(lambda: re.search(r"slow\s+store\s+small\s+create succeeded", cf.run("services").stdout), 30)
    assert len(broker.asked("PUT", instances)) == 1

    answer = threading.Event()
    broker.on("PUT", instances, Says(201, until=answer))
    # The command waits for the broker's answer, and has no patience with a platform that is away.
    asking = threading.Thread(target=cf.run, args=("create-service", "store", "small", "lost"))
    asking.start()
    try:
        broker.wait("PUT", instances, 2)
        kill(platform, "controller")
    finally:
        answer.set()
        asking.join()
    # What the broker may have made is removed there.
    (orphan,) = broker.wait("DELETE", instances, 1, 30)
    assert orphan.path == broker.asked("PUT", instances)[1].path
    assert re.search(r"lost\s+store\s+small\s+create failed", cf("services"))
    assert len(broker.asked("PUT", instances)) == 2
    for name in ("slow", "lost"):
        cf("delete-service", "-f", name, "--wait")


def test_services_in_files_and_volumes(cf: Cf, platform: Platform, broker: Broker, app: str) -> None:
    volumes = {"credentials": {"k": "v"}, "volume_mounts": [MOUNT]}
    broker.on("PUT", "/v2/service_instances/*/service_bindings/*", Says(201, volumes))
    cf("create-service", "shelf", "shelf", "shelf", "--wait")
    cf("bind-service", app, "shelf", "--wait")
    guid = cf.guid(app)
    cf("curl", "--fail", "-X", "PATCH", f"/v3/apps/{guid}/features/file-based-vcap-services", "-d", '{"enabled": true}')
    cf("restart", app)
    seen = environment(platform, app)
    assert "VCAP_SERVICES" not in seen
    path = seen["VCAP_SERVICES_FILE_PATH"]
    (entry,) = json.loads(platform.app(app, f"/file{path}").json())["shelf"]
    assert entry["credentials"] == {"k": "v"}
    where = entry["volume_mounts"][0]["container_dir"]
    platform.app(app, f"/write{where}/note=kept")
    cf("restart", app)
    assert platform.app(app, f"/file{where}/note").json() == "kept"
    assert (platform.data_dir / "volumes" / "shelf-1" / "note").read_text() == "kept"
    cf("unbind-service", app, "shelf", "--wait")
    cf("delete-service", "-f", "shelf", "--wait")


def test_a_service_guards_a_route(cf: Cf, platform: Platform, app: str) -> None:
    guard = f"guard-{cf.name}"
    cf("push", guard, "-m", "64M", "-k", "256M", "-p", str(APPS / "guard"))
    cf("create-user-provided-service", "gate", "-r", f"https://{guard}.apps.localhost")
    cf("bind-route-service", "apps.localhost", "gate", "--hostname", app)
    word = {"X-Word": "sesame"}
    eventually(lambda: platform.app(app).status == 401, 10, "the gate is closed")
    got = platform.app(app, "/headers", headers=word)
    assert got.status == 200, got.body
    headers = got.json()
    assert headers["X-Guarded"] == "yes"
    assert "X-CF-Proxy-Signature" not in {name.title() for name in headers}
    assert not any(name.lower().startswith("x-cf-proxy") for name in headers)
    forged = {"X-CF-Proxy-Signature": "forged", "X-CF-Proxy-Metadata": "forged", **word}
    assert platform.app(app, "/headers", headers=forged).status == 502
    cf("unbind-route-service", "apps.localhost", "gate", "--hostname", app, "-f")
    eventually(lambda: platform.app(app).status == 200, 10, "the gate is gone")
    cf("delete-service", "-f", "gate")
    cf("delete", "-f", "-r", guard)


class Sink:
    """A syslog server; `lines` is what came."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                while length := stream.read(1):
                    while not length.endswith(b" "):
                        length += stream.read(1)
                    self.lines.append(stream.read(int(length)).decode())

    def close(self) -> None:
        self._server.close()

    def wait(self, text: str) -> str:
        found: Any = eventually(lambda: [one for one in self.lines if text in one], 20, f"{text} in {self.lines[-5:]}")
        return str(found[0])


def test_logs_go_to_a_drain(cf: Cf, platform: Platform, app: str) -> None:
    with closing(Sink()) as sink:
        cf("create-user-provided-service", "logs", "-l", f"syslog://127.0.0.1:{sink.port}")
        cf("bind-service", app, "logs")
        platform.app(app, "/drained")
        line = sink.wait("asked for /drained")
        assert re.search(
            rf"^<14>1 \S+ org-{cf.name}\.journeys\.{app} {cf.guid(app)} \[APP/PROC/WEB/0\] - \[tags@47450 ", line
        )
        assert '"GET /drained HTTP/1.1" 200' in sink.wait("[RTR/0]")
        cf("unbind-service", app, "logs")
        cf("delete-service", "-f", "logs")


def test_brokers_keys_and_bindings_are_kept_in_order(cf: Cf, broker: Broker) -> None:
    """What is left of the service commands; an app without bits may be bound."""
    shop, app = f"shop-{cf.name}", f"bare-{cf.name}"
    assert "OK" in cf("rename-service-broker", shop, f"{shop}-new")
    assert re.search(rf"^{shop}-new\s+{broker.url}$", cf("service-brokers"), re.MULTILINE)
    cf("rename-service-broker", f"{shop}-new", shop)
    assert "Service broker 'nothing' not found" in cf.refused("rename-service-broker", "nothing", "more")

    cf("create-service", "store", "small", "data", "--wait")
    assert "already exists" in cf("create-service", "store", "small", "data", "--wait")
    assert "No service keys for service instance data" in cf("service-keys", "data")
    for key in ("mine", "yours"):
        cf("create-service-key", "data", key, "--wait")
    assert "already exists" in cf("create-service-key", "data", "mine", "--wait")
    assert re.findall(r"^(\S+)\s+create succeeded", cf("service-keys", "data"), re.MULTILINE) == ["mine", "yours"]
    for key in ("mine", "yours"):
        cf("delete-service-key", "-f", "data", key, "--wait")
    assert "does not exist" in cf("delete-service-key", "-f", "data", "mine", "--wait")

    cf("create-app", app)
    for _ in range(2):
        cf("bind-service", app, "data", "--strategy", "multiple", "--wait")
    bindings = json.loads(cf("curl", f"/v3/service_credential_bindings?app_guids={cf.guid(app)}&order_by=created_at"))
    older, newer = (one["guid"] for one in bindings["resources"])
    printed = cf("cleanup-outdated-service-bindings", app, "-f", "--wait")
    assert "OK" in printed
    left = json.loads(cf("curl", f"/v3/service_credential_bindings?app_guids={cf.guid(app)}"))
    assert [one["guid"] for one in left["resources"]] == [newer]
    (asked,) = broker.asked("DELETE", "/v2/service_instances/*/service_bindings/*")[-1:]
    assert asked.path.endswith(older)
    cf("unbind-service", app, "data", "--wait")
    assert f"Binding between data and {app} does not exist\nOK" in cf("unbind-service", app, "data", "--wait")

    for kind, name in (("service-instance", "data"), ("service-broker", shop), ("service-offering", "store"),
                       ("service-plan", "small")):  # fmt: skip
        assert "OK" in cf("set-label", kind, name, "tier=front")
        assert re.search(r"^tier\s+front$", cf("labels", kind, name), re.MULTILINE)
        assert "OK" in cf("unset-label", kind, name, "tier")
    cf("delete-service", "-f", "data", "--wait")
    assert "Service instance data did not exist.\nOK" in cf("delete-service", "-f", "data", "--wait")
    cf("delete", "-f", app)


def test_a_service_that_users_describe_is_described_anew(cf: Cf) -> None:
    app = f"describing-{cf.name}"
    cf("create-user-provided-service", "own", "-p", '{"word": "old"}', "-t", "a,b")
    assert "Service instance own already exists\nOK" in cf("create-user-provided-service", "own")
    cf("create-app", app)
    cf("bind-service", app, "own")
    assert '"word": "old"' in cf("env", app)
    updated = cf(
        "update-user-provided-service", "own", "-p", '{"word": "new"}', "-t", "c", "-l", "syslog://127.0.0.1:1"
    )
    assert "OK" in updated
    shown = cf("service", "own")
    assert re.search(r"^type:\s+user-provided$", shown, re.MULTILINE)
    assert re.search(r"^tags:\s+c$", shown, re.MULTILINE)
    assert "syslog://127.0.0.1:1" in shown
    cf("unbind-service", app, "own")
    cf("bind-service", app, "own")
    assert '"word": "new"' in cf("env", app)
    assert "not found" in cf.refused("update-user-provided-service", "nothing", "-t", "c")
    cf("delete", "-f", app)
    cf("delete-service", "-f", "own")
