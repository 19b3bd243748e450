"""What a broker says a bound app must reach: kept with the binding, told to cells, and not believed of everybody."""

from typing import Any

import pytest
from sqlalchemy import update

from cupola.runtime import desired
from cupola.runtime.messages import Endpoint
from cupola.store.service_brokers import service_brokers
from tests.api.conftest import Cloud
from tests.scripted_cell import staged_droplet
from tests.service_rig import Answer, ScriptedBroker, Shop

HERE = {"host": "127.0.0.1", "ports": ["5432"], "protocol": "tcp"}
THERE = {"host": "db.example.com", "ports": ["5432", "9000-9010"], "protocol": "all"}


@pytest.fixture
def app(cloud: Cloud, shop: Shop) -> Any:
    """A started app with a task that runs."""
    found = cloud.app("web", shop.space)
    current = {"data": {"guid": staged_droplet(cloud.database, found["guid"])}}
    cloud.admin.ok("PATCH", f"/v3/apps/{found['guid']}/relationships/current_droplet", current)
    cloud.admin.ok("POST", f"/v3/apps/{found['guid']}/actions/start")
    cloud.admin.ok("POST", f"/v3/apps/{found['guid']}/tasks", {"command": "x"}, 202)
    return found


def told(cloud: Cloud) -> list[Endpoint]:
    """What a cell is told of the app and, the same, of its task."""
    with cloud.database.read() as tx:
        found = desired.compute(tx, cloud.settings, "cell", 1)
    assert found.processes[0].endpoints == found.tasks[0].endpoints
    return found.processes[0].endpoints


def test_endpoints_of_a_binding_are_told_to_cells(cloud: Cloud, shop: Shop, broker: ScriptedBroker, app: Any) -> None:
    given = [HERE, THERE, {"host": "udp.example.com", "ports": ["53"], "protocol": "udp"}]
    broker.answers("PUT binding", Answer(201, {"credentials": {}, "endpoints": given}))
    before = told(cloud)
    bound = shop.bind(shop.create("store"), app)
    assert before == []
    assert told(cloud) == [
        Endpoint(host="127.0.0.1", ports=["5432"]),
        Endpoint(host="db.example.com", ports=["5432", "9000-9010"], protocol="all"),
        Endpoint(host="udp.example.com", ports=["53"], protocol="udp"),
    ]
    shop.do("DELETE", f"/v3/service_credential_bindings/{bound['guid']}")
    assert told(cloud) == []


@pytest.mark.parametrize(
    "given",
    [
        "127.0.0.1:1", [1], [{}], [{**HERE, "ports": "5432"}], [{**HERE, "ports": ["-1", "x", 5432, "5432-"]}],
        [{**HERE, "host": ""}], [{**HERE, "host": ["a"]}], [{**HERE, "protocol": "icmp"}],
    ],
)  # fmt: skip
def test_what_is_not_well_formed_is_left_out(
    cloud: Cloud, shop: Shop, broker: ScriptedBroker, app: Any, given: Any
) -> None:
    broker.answers("PUT binding", Answer(201, {"credentials": {}, "endpoints": given}))
    shop.bind(shop.create("store"), app)
    assert told(cloud) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST.", "db.localhost", "[::1]", "127.8.8.8", "0.0.0.0"])
@pytest.mark.parametrize("who", ["of a space", "not of an admin"])
def test_only_brokers_of_admins_for_all_open_this_machine(
    cloud: Cloud, shop: Shop, broker: ScriptedBroker, app: Any, who: str, host: str
) -> None:
    broker.answers("PUT binding", Answer(201, {"credentials": {}, "endpoints": [{**HERE, "host": host}, THERE]}))
    shop.bind(shop.create("store"), app)
    assert [one.host for one in told(cloud)] == [host, "db.example.com"]
    changed = {"space_guid": shop.space} if who == "of a space" else {"anywhere": False}
    with cloud.database.write() as tx:
        tx.run(update(service_brokers).where(service_brokers.c.guid == shop.broker_guid).values(**changed))
    assert [one.host for one in told(cloud)] == ["db.example.com"]
