"""Backups of service instances: listed, made, restored, and where brokers cannot."""

from typing import Any

import pytest

from cupola.store import jobs
from tests.api.conftest import Cloud
from tests.api.work import finish
from tests.service_rig import Answer, ScriptedBroker, Shop

PATH = "/v3/service_instances"
FAILED = Answer(200, {"state": "failed", "description": "no disk"})


@pytest.fixture
def store(shop: Shop) -> Any:
    shop.change_offering(osmapi_features=["backup"])
    return shop.create("store")


def of(instance: Any, rest: str) -> str:
    return f"{PATH}/{instance['guid']}{rest}"


def operation(shop: Shop, instance: Any) -> tuple[str, str]:
    last = shop.show(instance)["last_operation"]
    return last["type"], last["state"]


def test_backups_are_listed(shop: Shop, broker: ScriptedBroker, store: Any) -> None:
    backups = [{"id": f"b{number}", "created_at": 1_700_000_000 - number} for number in range(3)]
    broker.answers("GET backups", Answer(200, {"backups": backups}))
    assert shop.client.ok("GET", of(store, "/backups")) == {"backups": backups}
    assert shop.client.ok("GET", of(store, "/backups?limit=2")) == {"backups": backups[:2]}
    for limit in ("0", "x", "5001"):
        assert shop.client.problem("GET", of(store, f"/backups?limit={limit}"))[:2] == (400, 10005)
    for bad in (Answer(200, "x"), Answer(200, {"backups": {}}), Answer(200, {"backups": [{"id": 7}]}), Answer(500)):
        broker.answers("GET backups", bad)
        status, _, detail = shop.client.problem("GET", of(store, "/backups"))
        assert status == 502, detail


def test_a_backup_is_made(shop: Shop, broker: ScriptedBroker, store: Any) -> None:
    shop.do("POST", of(store, "/backups"))
    assert (shop.job["operation"], shop.job["state"]) == ("service_instance.backup", "COMPLETE")
    assert operation(shop, store) == ("create", "succeeded")
    assert shop.events(store)[-2:] == ["audit.service_instance.start_backup", "audit.service_instance.backup"]
    broker.answers("POST backups", Answer(202, {"operation": "b"}))
    broker.answers("GET osm last_operation", Answer(200, {"state": "in progress"}), Answer(200, {"state": "succeeded"}))
    shop.do("POST", of(store, "/backups"))
    assert shop.job["state"] == "COMPLETE"
    assert len(broker.sent("GET osm last_operation")) == 2
    for answer in (Answer(500, {"description": "no"}), Answer(202, {"operation": "b"})):
        broker.answers("POST backups", answer)
        broker.answers("GET osm last_operation", FAILED)
        shop.do("POST", of(store, "/backups"))
        assert shop.job["state"] == "FAILED"
        assert shop.failure()[1]


def test_a_backup_is_restored(shop: Shop, broker: ScriptedBroker, store: Any) -> None:
    shop.do("POST", of(store, "/actions/restore"), {"backup_id": "b1"})
    assert (shop.job["operation"], shop.job["state"]) == ("service_instance.restore", "COMPLETE")
    (asked,) = broker.sent("POST restore")
    assert asked.body["backup_id"] == "b1"
    broker.answers("POST restore", Answer(202, {"operation": "r"}))
    broker.answers("GET osm last_operation", FAILED)
    shop.do("POST", of(store, "/actions/restore"), {"target_timestamp": "2026-01-02T03:04:05Z"})
    assert shop.failure() == (10009, "restore could not be completed: no disk")
    assert operation(shop, store) == ("update", "failed")
    assert broker.sent("POST restore")[1].body["restore_point"] == "pitr"
    assert shop.events(store)[-1] == "audit.service_instance.start_restore"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"backup_id": ""},
        {"target_timestamp": "2999-01-01T00:00:00Z"},
        {"target_timestamp": "noon"},
    ],
)
def test_restores_that_say_too_little_or_too_much(shop: Shop, broker: ScriptedBroker, store: Any, body: Any) -> None:
    assert shop.client.problem("POST", of(store, "/actions/restore"), body)[:2] == (422, 10008)
    assert broker.sent("POST restore") == []


def test_one_thing_after_the_other(cloud: Cloud, shop: Shop, broker: ScriptedBroker, store: Any) -> None:
    other = shop.create("other")
    body = {"backup_id": "b1", "source_service_instance_guid": other["guid"]}
    shop.do("POST", of(store, "/actions/restore"), body)
    assert broker.sent("POST restore")[0].body["source_service_instance_id"] == other["guid"]
    theirs = shop.user_provided("theirs")
    wrong = shop.client.problem(
        "POST", of(store, "/actions/restore"), {**body, "source_service_instance_guid": theirs["guid"]}
    )
    assert wrong[2].startswith("Invalid source service instance.")
    broker.answers("POST backups", Answer(202))
    broker.answers("GET osm last_operation", Answer(200, {"state": "in progress"}, {"Retry-After": "3600"}))
    shop.do("POST", of(store, "/backups"))
    assert operation(shop, store) == ("update", "succeeded")
    busy = (409, 60016, "An operation for service instance store is in progress.")
    assert shop.client.problem("POST", of(store, "/backups")) == busy
    assert shop.client.problem("POST", of(store, "/actions/restore"), {"backup_id": "b1"}) == busy


def test_where_there_are_no_backups(cloud: Cloud, shop: Shop, store: Any) -> None:
    shop.change_offering(osmapi_features=[])
    theirs = shop.user_provided("theirs")
    for instance in (store, theirs):
        for method, rest, body in (
            ("GET", "/backups", None),
            ("POST", "/backups", None),
            ("POST", "/actions/restore", {"backup_id": "b"}),
        ):
            assert shop.client.problem(method, of(instance, rest), body)[0] in {400, 422}, (method, rest)
    shop.change_offering(osmapi_features=["backup"])
    auditor = cloud.user(organization_user=shop.org, space_auditor=shop.space)
    assert auditor.problem("POST", of(store, "/backups"))[:2] == (403, 10003)
    assert cloud.user().problem("GET", of(store, "/backups"))[0] == 404


def test_a_restore_is_not_begun_twice(shop: Shop, cloud: Cloud, broker: ScriptedBroker, store: Any) -> None:
    answer = shop.client.post(of(store, "/actions/restore"), {"backup_id": "b1"})
    guid = answer.headers["Location"].rpartition("/")[2]
    with cloud.database.write() as tx:
        job = tx.one(jobs.jobs.select().where(jobs.jobs.c.guid == guid))
        assert job is not None
        jobs.progress(tx, guid, {**job.payload, "asked": True})
    finish(cloud)
    assert cloud.admin.ok("GET", f"/v3/jobs/{guid}")["state"] == "FAILED"
    assert broker.sent("POST restore") == []
