"""What the broker answers, and what is then so in PostgreSQL."""

import concurrent.futures
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from cupola.databases import servers
from cupola.databases.plans import SERVICE_ID
from cupola.databases.server import Server
from tests.database_broker.conftest import MEDIUM, SMALL, Cluster, Platform, serving


def rows(uri: str, statement: str) -> list[Any]:
    with psycopg.connect(uri, autocommit=True, connect_timeout=10) as connection:
        done = connection.execute(statement)
        return list(done) if done.description else []


def test_the_catalog(platform: Platform) -> None:
    (service,) = platform.ask("GET", "/v2/catalog").body["services"]
    assert (service["name"], service["id"]) == ("postgresql", SERVICE_ID)
    assert "postgresql" in service["tags"]
    assert [plan["name"] for plan in service["plans"]] == ["small", "medium"]


@pytest.mark.parametrize("path", ["/v2/catalog", "/v2/service_instances/6c4a1b7e-0d5f-4c55-9a53-2d6a0f1f8a11"])
def test_who_asks_must_know_the_password(platform: Platform, path: str) -> None:
    for wrong in (Platform(platform.port, password="wrong"), Platform(platform.port, password="")):
        assert wrong.ask("GET", path).status == 401
    assert platform.ask("GET", path, Authorization="Bearer x").status == 401
    assert platform.ask("GET", path, Authorization="Basic \xff").status == 401


def test_versions_of_the_api(platform: Platform) -> None:
    assert Platform(platform.port, version="2.3").ask("GET", "/v2/catalog").status == 200
    refused = Platform(platform.port, version="3.0").ask("GET", "/v2/catalog")
    assert (refused.status, refused.description) == (412, "X-Broker-API-Version must be 2.x")


def test_a_database_is_bought_read_written_and_gone(platform: Platform, postgres: Cluster) -> None:
    instance = platform.bought()
    assert platform.ask("GET", f"/v2/service_instances/{instance}/last_operation").body == {"state": "succeeded"}
    binding, given = platform.bound(instance)
    assert given["uri"] == (
        f"postgresql://{given['username']}:{given['password']}@127.0.0.1:{postgres.choice.port}/{given['name']}"
    )
    assert given["jdbcUrl"] == (
        f"jdbc:postgresql://127.0.0.1:{postgres.choice.port}/{given['name']}"
        f"?user={given['username']}&password={given['password']}"
    )
    rows(given["uri"], "CREATE TABLE notes (text text); INSERT INTO notes VALUES ('one')")
    assert rows(given["uri"], "SELECT * FROM notes") == [("one",)]
    assert platform.delete(f"{instance}/service_bindings/{binding}").status == 200
    assert platform.delete(instance).status == 200
    assert platform.delete(instance).status == 410
    with postgres.administrator() as server:
        wanted = instance.replace("-", "")
        assert list(server.execute("SELECT 1 FROM pg_database WHERE datname LIKE %s", (f"%{wanted}%",))) == []
        assert list(server.execute("SELECT 1 FROM pg_roles WHERE rolname LIKE %s", (f"%{wanted}%",))) == []


def test_repeated_requests(platform: Platform) -> None:
    instance, binding = platform.bought(), str(uuid.uuid4())
    assert platform.provision(instance).status == 200
    assert platform.provision(instance, parameters={}).status == 200
    assert platform.provision(instance, MEDIUM).status == 409
    assert platform.provision(instance, space_guid="another").status == 409
    first = platform.bind(instance, binding)
    again = platform.bind(instance, binding)
    assert (first.status, again.status) == (201, 200)
    assert first.body == again.body
    assert rows(again.body["credentials"]["uri"], "SELECT 1") == [(1,)]
    other = platform.bind(instance, binding, bind_resource={"app_guid": "another"})
    assert (other.status, other.description) == (409, "there is another binding with this id")
    assert platform.bind(platform.bought(), binding).status == 409


def test_what_there_is_can_be_fetched(platform: Platform) -> None:
    instance = platform.bought()
    binding, given = platform.bound(instance)
    found = platform.ask("GET", f"/v2/service_instances/{instance}").body
    assert found == {"service_id": SERVICE_ID, "plan_id": SMALL, "parameters": {}}
    path = f"/v2/service_instances/{instance}/service_bindings/{binding}"
    assert platform.ask("GET", path).body["credentials"] == given
    assert platform.ask("GET", f"{path}/last_operation").body == {"state": "succeeded"}
    nothing = str(uuid.uuid4())
    assert platform.ask("GET", f"/v2/service_instances/{nothing}").status == 404
    assert platform.ask("GET", f"/v2/service_instances/{nothing}/last_operation").status == 410
    assert platform.ask("GET", f"/v2/service_instances/{instance}/service_bindings/{nothing}").status == 404
    assert platform.ask("GET", f"/v2/service_instances/{platform.bought()}/service_bindings/{binding}").status == 404
    assert platform.ask("GET", f"{path.replace(binding, nothing)}/last_operation").status == 410
    assert platform.bind(nothing, str(uuid.uuid4())).status == 404
    assert platform.delete(f"{instance}/service_bindings/{nothing}").status == 410
    assert platform.delete(f"{platform.bought()}/service_bindings/{binding}").status == 410


def test_an_app_must_reach_this_and_nothing_else(platform: Platform, postgres: Cluster) -> None:
    answer = platform.bind(platform.bought(), str(uuid.uuid4()))
    assert answer.body["endpoints"] == [{"host": "127.0.0.1", "ports": [str(postgres.choice.port)], "protocol": "tcp"}]


def test_a_plan_is_how_many_connections(platform: Platform, postgres: Cluster) -> None:
    instance = platform.bought()
    name = platform.bound(instance)[1]["name"]

    def limit() -> int:
        with postgres.administrator() as server:
            (found,) = server.execute("SELECT datconnlimit FROM pg_database WHERE datname = %s", (name,))
        return int(found[0])

    def change(instance: str, **body: Any) -> int:
        return platform.ask("PATCH", f"/v2/service_instances/{instance}", {"service_id": SERVICE_ID, **body}).status

    assert limit() == 20
    assert change(instance, plan_id=MEDIUM, previous_values={"plan_id": SMALL}) == 200
    assert limit() == 60
    assert platform.ask("GET", f"/v2/service_instances/{instance}").body["plan_id"] == MEDIUM
    assert platform.provision(instance, MEDIUM).status == 200
    assert change(instance, context={}) == 200
    assert change(instance, plan_id="gold") == 400
    assert change(instance, parameters={"x": 1}) == 400
    assert change(str(uuid.uuid4()), plan_id=MEDIUM) == 404
    assert limit() == 60


@pytest.mark.parametrize(
    "guid",
    ["x", "A" * 36, "x'; DROP ROLE cupola; --", "6C4A1B7E-0D5F-4C55-9A53-2D6A0F1F8A11", "6c4a1b7e-0d5f-4c55-9a53-2d6a0f1f8a11%0A", "%00"],
)  # fmt: skip
def test_what_is_no_guid_is_refused(platform: Platform, guid: str) -> None:
    guid = guid.replace(" ", "%20")
    assert platform.provision(guid).status == 400
    assert platform.bind(platform.bought(), guid).status == 400
    assert platform.delete(guid).status == 400


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "the body is not what"),
        (b"[1]", "the body is not what"),
        (b"\xff", "the body is not what"),
        ({"service_id": SERVICE_ID}, "plan_id is none of the catalog's"),
        ({"service_id": "x", "plan_id": SMALL}, "service_id is none of the catalog's"),
        ({"service_id": SERVICE_ID, "plan_id": SMALL, "parameters": {"size": 1}}, "databases take no parameters: leave out size"),
        (b"[" * 2_000_000, "the body is larger"),
    ],
)  # fmt: skip
def test_bad_bodies(platform: Platform, body: Any, text: str) -> None:
    refused = platform.ask("PUT", f"/v2/service_instances/{uuid.uuid4()}", body)
    assert refused.status in {400, 413}
    assert text in refused.description


def test_a_route_is_nothing_to_put_a_database_before(platform: Platform) -> None:
    instance = platform.bought()
    assert platform.bind(instance, str(uuid.uuid4()), bind_resource={"route": "a.example.com"}).status == 400
    assert platform.bind(instance, str(uuid.uuid4()), bind_resource={"credential_client_id": "c"}).status == 201
    assert platform.ask("DELETE", f"/v2/service_instances/{instance}").status == 400


def test_bindings_share_what_they_make(platform: Platform) -> None:
    instance = platform.bought()
    first, one = platform.bound(instance)
    two = platform.bound(instance)[1]
    rows(one["uri"], "CREATE TABLE shared (n int); CREATE SCHEMA own; INSERT INTO shared VALUES (1)")
    rows(one["uri"], "SET ROLE NONE; CREATE TABLE theirs AS SELECT 5 AS n")
    rows(
        two["uri"],
        "ALTER TABLE shared ADD COLUMN m int; CREATE TABLE own.more (n int); INSERT INTO shared VALUES (2, 2)",
    )
    platform.delete(f"{instance}/service_bindings/{first}")
    assert rows(two["uri"], "SELECT n, m FROM shared ORDER BY n") == [(1, None), (2, 2)]
    assert rows(two["uri"], "SELECT n FROM theirs") == [(5,)]
    rows(two["uri"], "DROP TABLE shared; DROP TABLE theirs; DROP SCHEMA own CASCADE; CREATE EXTENSION pgcrypto")


def test_unbinding_ends_connections_and_lets_nobody_in(platform: Platform) -> None:
    instance = platform.bought()
    binding, given = platform.bound(instance)
    with psycopg.connect(given["uri"], autocommit=True) as held:
        held.execute("CREATE TABLE kept (n int)")
        held.execute("BEGIN")
        held.execute("LOCK TABLE kept")
        assert platform.delete(f"{instance}/service_bindings/{binding}").status == 200
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            held.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(given["uri"])
    assert rows(platform.bound(instance)[1]["uri"], "SELECT count(*) FROM kept") == [(0,)]


def test_nobody_comes_into_another_database(platform: Platform, postgres: Cluster) -> None:
    own, other = platform.bound(platform.bought())[1], platform.bound(platform.bought())[1]
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(own["uri"], dbname=other["name"])
    for system in ("postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects connection"):
            psycopg.connect(own["uri"], dbname=system)
    with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects connection"):
        psycopg.connect(own["uri"], user="cupola", password=postgres.choice.admin_password)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(own["uri"], password=other["password"])
    for statement in ("CREATE DATABASE x", "CREATE ROLE x", f"SET ROLE {other['name']}_owner", "COPY (SELECT 1) TO PROGRAM 'id'",
                      "SELECT pg_read_file('/etc/passwd')", "SELECT rolpassword FROM pg_authid"):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            rows(own["uri"], statement)


def test_a_deleted_instance_takes_its_bindings_and_connections_with_it(platform: Platform, postgres: Cluster) -> None:
    instance = platform.bought()
    given = platform.bound(instance)[1]
    with psycopg.connect(given["uri"], autocommit=True) as held:
        assert platform.delete(instance).status == 200
        with pytest.raises(psycopg.OperationalError):
            held.execute("SELECT 1")
    with postgres.administrator() as server:
        assert list(server.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (given["username"],))) == []


def test_the_same_from_everybody_at_once(platform: Platform) -> None:
    instance, binding = str(uuid.uuid4()), str(uuid.uuid4())
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        made = list(threads.map(lambda _: platform.provision(instance).status, range(6)))
        bound = list(threads.map(lambda _: platform.bind(instance, binding).status, range(6)))
        gone = list(threads.map(lambda _: platform.delete(instance).status, range(6)))
    assert sorted(made) == [200] * 5 + [201]
    assert sorted(bound) == [200] * 5 + [201]
    assert sorted(gone) == [200] + [410] * 5


@contextmanager
def dies(before: str, *guids: str) -> Iterator[None]:
    """The broker's connection ends right before a step for one of these, as it does when the broker is killed."""
    run = psycopg.Connection.execute
    wanted = [guid.replace("-", "") for guid in guids]
    died = []

    def die(self: Any, statement: Any, *more: Any, **options: Any) -> Any:
        text = statement if isinstance(statement, str) else statement.as_string(self)
        if text.startswith(before) and any(guid in f"{text} {more}" for guid in wanted):
            died.append(text)
            self.close()
        return run(self, statement, *more, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Connection, "execute", die)
        yield
    assert died, f"there is no step {before}"


@pytest.mark.parametrize(
    "before",
    ["CREATE ROLE", "COMMENT ON ROLE", "CREATE DATABASE", "REVOKE ALL", "ALTER DATABASE", "COMMENT ON DATABASE"],
)
def test_what_was_begun_when_the_broker_died_is_finished_when_it_is_asked_again(
    platform: Platform, before: str
) -> None:
    instance = str(uuid.uuid4())
    with dies(before, instance):
        assert platform.provision(instance).status == 503
    assert platform.ask("GET", f"/v2/service_instances/{instance}").status == 404
    assert platform.provision(instance).status == 201
    assert rows(platform.bound(instance)[1]["uri"], "SELECT 1") == [(1,)]


@pytest.mark.parametrize("before", ["CREATE ROLE", "CREATE DATABASE", "COMMENT ON DATABASE"])
def test_what_was_begun_when_the_broker_died_can_be_removed(platform: Platform, postgres: Cluster, before: str) -> None:
    """As the platform does after it got no answer: orphans."""
    instance = str(uuid.uuid4())
    with dies(before, instance):
        platform.provision(instance)
    assert platform.delete(instance).status == (410 if before == "CREATE ROLE" else 200)
    with postgres.administrator() as server:
        like = f"%{instance.replace('-', '')}%"
        assert list(server.execute("SELECT 1 FROM pg_roles WHERE rolname LIKE %s", (like,))) == []
        assert list(server.execute("SELECT 1 FROM pg_database WHERE datname LIKE %s", (like,))) == []


@pytest.mark.parametrize("before", ["CREATE ROLE", "GRANT", "ALTER ROLE", "COMMENT ON ROLE"])
def test_a_binding_is_made_whole_or_not_at_all(platform: Platform, before: str) -> None:
    instance, binding = platform.bought(), str(uuid.uuid4())
    with dies(before, binding):
        assert platform.bind(instance, binding).status == 503
    assert platform.ask("GET", f"/v2/service_instances/{instance}/service_bindings/{binding}").status == 404
    answer = platform.bind(instance, binding)
    assert answer.status == 201
    assert rows(answer.body["credentials"]["uri"], "SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    "before", ["ALTER ROLE", "SELECT count(pg_terminate", "REASSIGN OWNED", "DROP OWNED", "DROP ROLE"]
)
def test_an_unbinding_that_was_begun_is_finished_when_it_is_asked_again(platform: Platform, before: str) -> None:
    instance = platform.bought()
    binding, given = platform.bound(instance)
    rows(given["uri"], "SET ROLE NONE; CREATE TABLE kept AS SELECT 1 AS n")
    with dies(before, binding):
        assert platform.delete(f"{instance}/service_bindings/{binding}").status == 503
    assert platform.delete(f"{instance}/service_bindings/{binding}").status == 200
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(given["uri"])
    assert rows(platform.bound(instance)[1]["uri"], "SELECT n FROM kept") == [(1,)]


@pytest.mark.parametrize("before", ["ALTER DATABASE", "ALTER ROLE", "DROP DATABASE", "DROP ROLE"])
def test_a_removal_that_was_begun_is_finished_when_it_is_asked_again(
    platform: Platform, postgres: Cluster, before: str
) -> None:
    instance = platform.bought()
    binding, given = platform.bound(instance)
    with dies(before, instance, binding):
        assert platform.delete(instance).status == 503
    assert platform.delete(instance).status == 200
    assert platform.delete(instance).status == 410
    with postgres.administrator() as server:
        assert list(server.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (given["username"],))) == []


def test_an_administrator_who_is_no_superuser(postgres: Cluster) -> None:
    with postgres.administrator() as root:
        root.execute("CREATE ROLE limited LOGIN CREATEDB CREATEROLE PASSWORD 'l1mited'")
        root.execute("CREATE DATABASE maintenance")
    url = f"postgresql://limited:l1mited@127.0.0.1:{postgres.choice.port}/maintenance?sslmode=prefer"
    server = servers.named(url)
    servers.examine(server, "")
    with serving(Server(server.administrator, server.location, "secret")) as platform:
        instance = platform.bought()
        binding, one = platform.bound(instance)
        two = platform.bound(instance)[1]
        assert one["uri"].endswith("?sslmode=prefer")
        rows(one["uri"], "CREATE TABLE notes AS SELECT 'one' AS text; SET ROLE NONE; CREATE TABLE more (n int)")
        with psycopg.connect(one["uri"]):
            assert platform.delete(f"{instance}/service_bindings/{binding}").status == 200
        assert rows(two["uri"], "SELECT text FROM notes") == [("one",)]
        body = {"service_id": SERVICE_ID, "plan_id": MEDIUM}
        assert platform.ask("PATCH", f"/v2/service_instances/{instance}", body).status == 200
        assert platform.delete(instance).status == 200
    with postgres.administrator() as root:
        assert list(root.execute("SELECT datname FROM pg_database WHERE datname = %s", (one["name"],))) == []


def test_a_server_that_is_away_is_said_to_be(platform: Platform, postgres: Cluster) -> None:
    away = servers.named("postgresql://a:b@127.0.0.1:1/")
    with serving(Server(away.administrator, away.location, "secret")) as broken:
        answer = broken.provision(str(uuid.uuid4()))
    assert answer.status == 503
    assert "the database server does not do what it should: " in answer.description
    assert "Connection refused" in answer.description
