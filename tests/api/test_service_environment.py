"""What apps get of their bindings: VCAP_SERVICES, files in its place, the address of a database, volumes, drains."""

from typing import Any

import msgspec
import pytest

from cupola.domain import syslog_drains
from cupola.logs.drains import Target
from cupola.runtime import desired
from cupola.runtime.messages import DesiredProcess, DesiredTask, Volume
from tests.api.conftest import Cloud
from tests.scripted_cell import staged_droplet
from tests.service_rig import Answer, ScriptedBroker, Shop

ROOT = "/etc/cf-service-bindings"


@pytest.fixture
def app(cloud: Cloud, shop: Shop) -> Any:
    """A started app."""
    found = cloud.app("web", shop.space)
    current = {"data": {"guid": staged_droplet(cloud.database, found["guid"])}}
    cloud.admin.ok("PATCH", f"/v3/apps/{found['guid']}/relationships/current_droplet", current)
    cloud.admin.ok("POST", f"/v3/apps/{found['guid']}/actions/start")
    return found


def process(cloud: Cloud) -> DesiredProcess:
    """What a cell is told of the app."""
    with cloud.database.read() as tx:
        (found,) = desired.compute(tx, cloud.settings, "cell", 1).processes
    return found


def vcap(cloud: Cloud) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(process(cloud).env["VCAP_SERVICES"])
    return found


def feature(cloud: Cloud, app: Any, name: str, enabled: bool = True) -> None:
    cloud.admin.ok("PATCH", f"/v3/apps/{app['guid']}/features/{name}", {"enabled": enabled})


def test_bound_services_are_in_the_environment(cloud: Cloud, shop: Shop, broker: ScriptedBroker, app: Any) -> None:
    store = shop.create("store", tags=["sql", "own"])
    theirs = shop.user_provided("theirs", credentials={"k": [1]}, tags=["t"], syslog_drain_url="syslog://example.com")
    bound, given = shop.bind(store, app, name="db"), shop.bind(theirs, app)
    expected = {
        "db": [
            {
                "label": "db",
                "provider": None,
                "plan": "small",
                "name": "db",
                "tags": ["sql", "own"],
                "instance_guid": store["guid"],
                "instance_name": "store",
                "binding_guid": bound["guid"],
                "binding_name": "db",
                "credentials": {"password": "s3cret"},
                "syslog_drain_url": None,
                "volume_mounts": [],
            }
        ],
        "user-provided": [
            {
                "label": "user-provided",
                "name": "theirs",
                "tags": ["t"],
                "instance_guid": theirs["guid"],
                "instance_name": "theirs",
                "binding_guid": given["guid"],
                "binding_name": None,
                "credentials": {"k": [1]},
                "syslog_drain_url": "syslog://example.com",
                "volume_mounts": [],
            }
        ],
    }
    assert vcap(cloud) == expected
    shown = cloud.admin.ok("GET", f"/v3/apps/{app['guid']}/env")["system_env_json"]
    assert shown == {"VCAP_SERVICES": expected}
    assert "DATABASE_URL" not in process(cloud).env
    assert process(cloud).files == {}
    cloud.admin.ok("POST", f"/v3/apps/{app['guid']}/tasks", {"command": "x"}, 202)
    with cloud.database.read() as tx:
        tasks: list[DesiredTask] = desired.compute(tx, cloud.settings, "cell", 1).tasks
    assert [msgspec.json.decode(one.env["VCAP_SERVICES"]) for one in tasks] == [expected]
    cloud.admin.ok("PATCH", f"/v3/service_instances/{theirs['guid']}", {"credentials": {"k": 2}})
    assert vcap(cloud)["user-provided"][0]["credentials"] == {"k": 2}
    shop.do("DELETE", f"/v3/service_credential_bindings/{bound['guid']}")
    assert set(vcap(cloud)) == {"user-provided"}


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("mysql://u:p@h/d", "mysql2://u:p@h/d"),
        ("mysql2://h", "mysql2://h"),
        ("postgres://h/d?x=1", "postgres://h/d?x=1"),
        ("postgresql://h/d", "postgres://h/d"),
        ("http://h", None),
        ("postgres", None),
        (7, None),
    ],
)
def test_the_address_of_a_database(cloud: Cloud, shop: Shop, app: Any, uri: Any, url: str | None) -> None:
    shop.bind(shop.user_provided("other", credentials={"uri": "http://example.com"}), app)
    shop.bind(shop.user_provided("db", credentials={"uri": uri}), app)
    assert process(cloud).env.get("DATABASE_URL") == url


def test_services_in_one_file(cloud: Cloud, shop: Shop, app: Any) -> None:
    shop.bind(shop.user_provided("theirs", credentials={"k": 1}), app)
    expected = vcap(cloud)
    feature(cloud, app, "file-based-vcap-services")
    found = process(cloud)
    assert "VCAP_SERVICES" not in found.env
    assert found.env["VCAP_SERVICES_FILE_PATH"] == f"{ROOT}/vcap_services"
    assert msgspec.json.decode(found.files["vcap_services"]) == expected
    shown = cloud.admin.ok("GET", f"/v3/apps/{app['guid']}/env")["system_env_json"]
    assert shown == {"VCAP_SERVICES_FILE_PATH": f"{ROOT}/vcap_services"}
    exclusive = cloud.admin.problem("PATCH", f"/v3/apps/{app['guid']}/features/service-binding-k8s", {"enabled": True})
    assert exclusive[:2] == (422, 10008)


def test_services_in_many_files(cloud: Cloud, shop: Shop, app: Any) -> None:
    store = shop.create("store")
    theirs = shop.user_provided("theirs", credentials={"user": "me", "nested": {"a": 1}, "type": "mine", "none": None})
    shop.bind(store, app, name="db")
    shop.bind(theirs, app)
    feature(cloud, app, "service-binding-k8s")
    found = process(cloud)
    assert found.env["SERVICE_BINDING_ROOT"] == ROOT
    assert "VCAP_SERVICES" not in found.env
    files = found.files
    assert (files["db/type"], files["db/provider"], files["db/password"], files["db/plan"]) == (
        "db",
        "db",
        "s3cret",
        "small",
    )
    assert files["db/tags"] == '["sql"]'
    assert (files["theirs/type"], files["theirs/user"], files["theirs/nested"]) == ("user-provided", "me", '{"a":1}')
    assert "theirs/none" not in files
    cloud.admin.ok("POST", f"/v3/apps/{app['guid']}/actions/restart")
    shop.bind(shop.user_provided("No_Name", credentials={}), app)
    status, code, detail = cloud.admin.problem("POST", f"/v3/apps/{app['guid']}/actions/restart")
    assert (status, code) == (422, 10008)
    assert detail.startswith("Cannot build service binding files for app - Invalid binding name: 'No_Name'.")
    assert "no_name/type" not in {path.lower() for path in process(cloud).files}


def test_files_that_are_too_large(cloud: Cloud, shop: Shop, app: Any) -> None:
    shop.bind(shop.user_provided("big", credentials={"x": "y" * 1_000_000}), app)
    feature(cloud, app, "file-based-vcap-services")
    detail = cloud.admin.problem("POST", f"/v3/apps/{app['guid']}/actions/restart")[2]
    assert "Bindings exceed the maximum allowed bytesize of 1000000: 1000" in detail


def test_volumes_are_mounted(cloud: Cloud, shop: Shop, broker: ScriptedBroker, app: Any) -> None:
    shop.change_offering(requires=["volume_mount"])
    mount = {
        "driver": "localdriver",
        "container_dir": "/var/vcap/data/store",
        "mode": "r",
        "device_type": "shared",
        "device": {"volume_id": "vol-1", "mount_config": {"secret": "hidden"}},
    }
    broker.answers("PUT binding", Answer(201, {"credentials": {}, "volume_mounts": [mount]}))
    shop.bind(shop.create("disk"), app)
    found = process(cloud)
    assert found.volumes == [Volume(id="vol-1", place="/var/vcap/data/store", read_only=True)]
    (entry,) = vcap(cloud)["db"]
    assert entry["volume_mounts"] == [{"container_dir": "/var/vcap/data/store", "mode": "r", "device_type": "shared"}]


def test_logs_are_drained_to_where_bindings_say(cloud: Cloud, shop: Shop, broker: ScriptedBroker, app: Any) -> None:
    def drains() -> set[Target]:
        with cloud.database.read() as tx:
            return set(syslog_drains.wanted(tx))

    shop.change_offering(requires=["syslog_drain"])
    broker.answers("PUT binding", Answer(201, {"syslog_drain_url": "syslog-tls://logs.example.com:6514"}))
    store = shop.create("store")
    bound = shop.bind(store, app)
    shop.key(store)
    of_broker = Target(app["guid"], "syslog-tls://logs.example.com:6514", True)
    assert drains() == {of_broker}, "a key drains nothing"
    shop.client = cloud.user(organization_user=shop.org, space_developer=shop.space)
    theirs = shop.user_provided("theirs", syslog_drain_url="syslog://10.0.0.1:514")
    shop.bind(theirs, app)
    of_user = Target(app["guid"], "syslog://10.0.0.1:514", False)
    assert drains() == {of_broker, of_user}
    path = f"/v3/service_instances/{theirs['guid']}"
    cloud.admin.ok("PATCH", path, {"syslog_drain_url": "syslog://10.0.0.2"})
    assert drains() == {of_broker, Target(app["guid"], "syslog://10.0.0.2", True)}
    shop.client.ok("PATCH", path, {"syslog_drain_url": ""})
    shop.do("DELETE", f"/v3/service_credential_bindings/{bound['guid']}")
    assert drains() == set()
