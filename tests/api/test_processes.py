"""Processes in lists and alone, with what may be embedded in them."""

from sqlalchemy import insert, select

from cupola.store.apps import processes
from cupola.store.instances import instances
from tests.cloud import Cloud

SECOND = 1_000_000


def put_instance(cloud: Cloud, process_guid: str, index: int, state: str, version: str = "") -> None:
    """What a cell would have reported; by default of the process's current version."""
    with cloud.database.write() as tx:
        current = tx.scalar(select(processes.c.version).where(processes.c.guid == process_guid))
        row: dict[str, object] = {
            "process_guid": process_guid, "index": index, "version": version or current, "instance_guid": f"i-{index}",
            "cell_id": "cell", "state": state, "since": tx.now - 5 * SECOND, "routable": state == "RUNNING",
            "endpoints": {}, "host": "", "internal_ip": "", "ports": [], "details": "", "crash_count": 0, "terminate": False,
        }  # fmt: skip
        tx.run(insert(instances).values(row))


def web_of(cloud: Cloud, name: str) -> str:
    app = cloud.app(name)
    (web,) = cloud.admin.ok("GET", f"/v3/apps/{app['guid']}/processes")["resources"]
    cloud.admin.ok("POST", f"/v3/processes/{web['guid']}/actions/scale", {"instances": 2}, 202)
    return str(web["guid"])


def test_instances_are_embedded_in_a_list_and_in_one(cloud: Cloud) -> None:
    first, second = web_of(cloud, "first"), web_of(cloud, "second")
    put_instance(cloud, first, 0, "RUNNING")
    put_instance(cloud, first, 1, "STARTING", version="of before the restart")
    listed = cloud.admin.ok("GET", "/v3/processes?embed=process_instances")["resources"]
    assert {one["guid"]: one["process_instances"] for one in listed} == {
        first: [{"index": 0, "state": "RUNNING", "since": 5}, {"index": 1, "state": "DOWN", "since": 0}],
        second: [{"index": 0, "state": "DOWN", "since": 0}, {"index": 1, "state": "DOWN", "since": 0}],
    }
    one = cloud.admin.ok("GET", f"/v3/processes/{first}?embed=process_instances")
    assert [found["state"] for found in one["process_instances"]] == ["RUNNING", "DOWN"]
    assert "process_instances" not in cloud.admin.ok("GET", f"/v3/processes/{first}")


def test_what_cannot_be_embedded(cloud: Cloud) -> None:
    refusal = (
        400,
        10005,
        "The query parameter is invalid: Invalid embed resource: Valid embed resources are: 'process_instances'",
    )
    assert cloud.admin.problem("GET", "/v3/processes?embed=secrets") == refusal
    assert cloud.admin.problem("GET", f"/v3/processes/{web_of(cloud, 'x')}?embed=secrets") == refusal
