"""What brokers do wrong with service instances: which state it ends in, what the user reads, what is cleaned up."""

from typing import Any

import pytest
from sqlalchemy import update

from cupola.domain import service_sweeps
from cupola.store import jobs
from cupola.store.service_brokers import service_brokers
from cupola.store.service_instances import service_instances
from tests.api.conftest import Cloud
from tests.api.work import finish
from tests.ports import free_port
from tests.service_rig import Answer, ScriptedBroker, Shop, run_until

PATH = "/v3/service_instances"
LOGS = "To read the full message, check the broker's logs"
TIMED_OUT = "The request to the service broker timed out"
MALFORMED = (
    "The service broker returned an invalid response: expected valid JSON object in body, broker returned 'no json'"
)
PARALLEL = "The service broker could not perform this operation in parallel with other running operations"
ASYNC = "This service plan requires client support for asynchronous service operations."
NO_REASON = (
    "The service broker did not provide a reason for this conflict, please ensure the catalog is up to date and you are "
    "providing a version supported by this service plan"
)
PROVISIONS = {
    "500": (Answer(500, {"description": "no disk"}), "Service broker error: no disk", True),
    "500 without words": (
        Answer(500, "oops"),
        "The service broker returned an invalid response. Status Code: 500 Internal Server Error, Body: oops",
        True,
    ),
    "201 no json": (Answer(201, "no json"), MALFORMED, True),
    "202 no json": (Answer(202, "no json"), MALFORMED, True),
    "200 no json": (Answer(200, "no json"), MALFORMED, False),
    "201 a list": (
        Answer(201, "[]"),
        "The service broker returned an invalid response: expected valid JSON object in body, broker returned '[]'",
        True,
    ),
    "204": (
        Answer(204, ""),
        "The service broker returned an invalid response. Status Code: 204 No Content, Body: ",
        True,
    ),
    "206": (
        Answer(206, {}),
        "The service broker returned an invalid response. Status Code: 206 Partial Content, Body: {}",
        True,
    ),
    "304": (
        Answer(304, ""),
        "The service broker returned an invalid response. Status Code: 304 Not Modified, Body: ",
        True,
    ),
    "410": (
        Answer(410, {}),
        "The service broker returned an invalid response. Status Code: 410 Gone, Body: {}",
        True,
    ),
    "422": (Answer(422, {"description": "not today"}), "Service broker error: not today", True),
    "422 unknown": (Answer(422, {"error": "Moon", "description": "full"}), "Service broker error: full", True),
    "422 async": (Answer(422, {"error": "AsyncRequired"}), ASYNC, False),
    "422 parallel": (Answer(422, {"error": "ConcurrencyError"}), PARALLEL, False),
    "422 maintenance": (Answer(422, {"error": "MaintenanceInfoConflict"}), NO_REASON, False),
    "400": (Answer(400, {"description": "size?"}), "Service broker error: size?", False),
    "401": (
        Answer(401),
        "Authentication with the service broker failed. Double-check that the username and password are correct.",
        False,
    ),
    "404": (
        Answer(404, {}),
        "The service broker rejected the request. Status Code: 404 Not Found, Body: {}",
        False,
    ),
    "408": (Answer(408, {}), TIMED_OUT, False),
    "409": (Answer(409, {}), "Resource conflict", False),
    "409 with words": (Answer(409, {"description": "taken"}), "Service broker error: taken", False),
    "dashboard": (
        Answer(201, {"dashboard_url": 7}),
        None,
        True,
    ),
    "operation": (Answer(202, {"operation": "x" * 10_001}), None, True),
    "metadata": (Answer(201, {"metadata": {"labels": []}}), None, True),
}


def last(shop: Shop, instance: Any) -> tuple[str, str, str]:
    operation = shop.show(instance)["last_operation"]
    return operation["type"], operation["state"], operation["description"]


def orphans(shop: Shop) -> list[tuple[str, ...]]:
    """Which instances the broker was asked to remove, once the rest is done."""
    finish(shop.cloud)
    return [one.guids for one in shop.broker.sent("DELETE instance")]


@pytest.mark.parametrize(("answer", "text", "orphan"), PROVISIONS.values(), ids=PROVISIONS)
def test_a_broker_that_does_not_provision(
    shop: Shop, broker: ScriptedBroker, answer: Answer, text: str | None, orphan: bool
) -> None:
    broker.answers("PUT instance", answer)
    made = shop.create("bad")
    code, detail = shop.failure()
    prefix = "provision could not be completed: "
    invalid = f"{prefix}The service broker returned an invalid response: \n"
    assert code == 10009
    assert detail == prefix + text if text is not None else detail.startswith(invalid), detail
    assert last(shop, made) == ("create", "failed", detail.removeprefix(prefix))
    assert orphans(shop) == ([(made["guid"],)] if orphan else [])
    assert len(broker.sent("PUT instance")) == 1
    for asked in broker.sent("DELETE instance"):
        assert asked.query["accepts_incomplete"] == "true"
        assert asked.query["plan_id"] == "plan-small"


def test_answers_that_are_too_long_are_cut(shop: Shop, broker: ScriptedBroker) -> None:
    broker.answers("PUT instance", Answer(500, "x" * 20_000))
    shop.create("bad")
    _, detail = shop.failure()
    assert detail.endswith(f"...This message has been truncated due to size. {LOGS}")
    assert 8_000 < len(detail) < 9_000


def test_a_broker_that_says_nothing(shop: Shop, broker: ScriptedBroker) -> None:
    shop.cloud.settings.brokers.timeout_seconds = 0.3
    broker.answers("PUT instance", Answer(hangs=True))
    made = shop.create("bad")
    assert shop.failure() == (10009, f"provision could not be completed: {TIMED_OUT}")
    assert last(shop, made) == ("create", "failed", TIMED_OUT)
    assert orphans(shop) == [(made["guid"],)]


def test_a_broker_that_is_not_there(shop: Shop, broker: ScriptedBroker) -> None:
    with shop.cloud.database.write() as tx:
        tx.run(update(service_brokers).values(url=f"http://127.0.0.1:{free_port()}"))
    made = shop.create("bad")
    text = "The service broker could not be reached"
    assert shop.failure()[1].startswith(f"provision could not be completed: {text}")
    assert last(shop, made)[1] == "failed"
    assert orphans(shop) == []


def test_a_provision_that_the_broker_gives_up(shop: Shop, broker: ScriptedBroker) -> None:
    broker.answers("PUT instance", Answer(202))
    broker.answers("GET instance last_operation", Answer(200, {"state": "failed", "description": "no room"}))
    made = shop.create("bad")
    assert shop.failure() == (10009, "create managed could not be completed: no room")
    assert last(shop, made) == ("create", "failed", "no room")
    assert orphans(shop) == [], "the user's deletion asks the broker"
    shop.do("DELETE", f"{PATH}/{made['guid']}")
    assert shop.job["state"] == "COMPLETE"
    assert len(broker.sent("DELETE instance")) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, {"state": "dancing"}),
        Answer(200, {"description": "no state"}),
        Answer(200, "no json"),
        Answer(410, {}),
        Answer(404, {}),
        Answer(503, {}),
        Answer(hangs=True),
    ],
    ids=["unknown state", "no state", "no json", "gone", "not found", "down", "silent"],
)
def test_a_provision_that_never_ends(shop: Shop, broker: ScriptedBroker, answer: Answer) -> None:
    shop.cloud.settings.brokers.timeout_seconds = 0.2
    shop.change_plan(shop.small, maximum_polling_duration=1)
    broker.answers("PUT instance", Answer(202))
    broker.answers("GET instance last_operation", answer)
    made = shop.create("slow")
    text = "Service Broker failed to provision within the required time."
    assert shop.failure() == (290006, "The job execution has timed out.")
    assert last(shop, made) == ("create", "failed", text)
    assert orphans(shop) == [(made["guid"],)]
    assert len(broker.sent("PUT instance")) == 1


def test_last_operation_with_400_is_the_end(shop: Shop, broker: ScriptedBroker) -> None:
    broker.answers("PUT instance", Answer(202))
    broker.answers("GET instance last_operation", Answer(400, {"description": "who?"}))
    made = shop.create("bad")
    assert last(shop, made) == ("create", "failed", "who?")
    assert len(broker.sent("GET instance last_operation")) == 1


def test_orphans_are_removed_with_patience(shop: Shop, cloud: Cloud, broker: ScriptedBroker) -> None:
    broker.answers("PUT instance", Answer(500))
    broker.answers("DELETE instance", Answer(500), Answer(200))
    shop.create("bad")
    assert len(orphans(shop)) == 1
    with cloud.database.write() as tx:
        job = tx.one(jobs.jobs.select().where(jobs.jobs.c.operation == "service_instance.remove_orphan"))
        assert job is not None
        assert 110 < (job.run_at - tx.now) / 1_000_000 <= 120
        tx.run(update(jobs.jobs).where(jobs.jobs.c.guid == job.guid).values(run_at=tx.now))
    assert len(orphans(shop)) == 2
    assert cloud.admin.ok("GET", f"/v3/jobs/{job.guid}")["state"] == "COMPLETE"


def test_an_orphan_that_its_broker_removes_slowly_is_left_to_it(shop: Shop, broker: ScriptedBroker) -> None:
    broker.answers("PUT instance", Answer(500))
    broker.answers("DELETE instance", Answer(202, {"operation": "d"}))
    shop.create("bad")
    assert len(orphans(shop)) == 1
    assert broker.sent("GET instance last_operation") == []


def test_a_platform_that_died_while_it_asked_does_not_ask_again(
    shop: Shop, cloud: Cloud, broker: ScriptedBroker
) -> None:
    answer = shop.client.post(PATH, shop.body("lost"))
    guid = answer.headers["Location"].rpartition("/")[2]
    with cloud.database.write() as tx:
        # As the runner leaves it that was killed between the request and its answer.
        job = tx.one(jobs.jobs.select().where(jobs.jobs.c.guid == guid))
        assert job is not None
        jobs.progress(tx, guid, {**job.payload, "asked": True})
    finish(cloud)
    made = shop.client.ok("GET", f"{PATH}?names=lost")["resources"][0]
    assert last(shop, made)[:2] == ("create", "failed")
    assert "does not know what became of it" in last(shop, made)[2]
    assert broker.sent("PUT instance") == []
    assert orphans(shop) == [(made["guid"],)]


def test_a_platform_that_died_while_it_waited_goes_on(shop: Shop, cloud: Cloud, broker: ScriptedBroker) -> None:
    broker.answers("PUT instance", Answer(202, {"operation": "op-9"}))
    broker.answers("GET instance last_operation", Answer(200, {"state": "in progress"}))
    location = shop.client.post(PATH, shop.body("slow")).headers["Location"].removeprefix(cloud.settings.api_url)
    run_until(cloud, lambda: len(broker.sent("GET instance last_operation")) > 2)
    broker.answers("GET instance last_operation", Answer(200, {"state": "succeeded"}))
    # Another runner, which knows nothing but the rows.
    finish(cloud)
    assert cloud.admin.ok("GET", location)["state"] == "COMPLETE"
    assert len(broker.sent("PUT instance")) == 1
    assert {one.query["operation"] for one in broker.sent("GET instance last_operation")} == {"op-9"}


def test_a_failed_instance_gives_way_to_one_of_the_same_name(shop: Shop, broker: ScriptedBroker) -> None:
    broker.answers("PUT instance", Answer(400, {"description": "no"}), Answer(201))
    first = shop.create("store")
    second = shop.create("store")
    assert last(shop, second)[:2] == ("create", "succeeded")
    assert shop.client.get(f"{PATH}/{first['guid']}").status_code == 404
    assert orphans(shop) == [(first["guid"],)]
    assert second["guid"] != first["guid"]


UPDATES = {
    "500": (Answer(500, {"description": "no"}), "Service broker error: no"),
    "201": (
        Answer(201, {"description": "ignored"}),
        'The service broker returned an invalid response. Status Code: 201 Created, Body: {"description":"ignored"}',
    ),
    "200 no json": (Answer(200, "no json"), MALFORMED),
    "410": (Answer(410, {}), "The service broker returned an invalid response. Status Code: 410 Gone, Body: {}"),
    "422": (Answer(422, {"description": "not so"}), "Service broker error: not so"),
    "422 parallel": (
        Answer(422, {"error": "ConcurrencyError"}),
        (
            "The service broker rejected the request. Status Code: 422 Unprocessable Entity, "
            'Body: {"error":"ConcurrencyError"}'
        ),
    ),
    "422 async": (Answer(422, {"error": "AsyncRequired"}), ASYNC),
    "422 maintenance": (
        Answer(422, {"error": "MaintenanceInfoConflict", "description": "too old"}),
        "Service broker error: too old",
    ),
    "silent": (Answer(hangs=True), TIMED_OUT),
}


@pytest.mark.parametrize(("answer", "text"), UPDATES.values(), ids=UPDATES)
def test_a_broker_that_does_not_update(shop: Shop, broker: ScriptedBroker, answer: Answer, text: str) -> None:
    shop.cloud.settings.brokers.timeout_seconds = 0.5
    made = shop.create("store")
    broker.answers("PATCH instance", answer)
    plan = {"service_plan": {"data": {"guid": shop.large}}}
    shop.do("PATCH", f"{PATH}/{made['guid']}", {"relationships": plan, "tags": ["new"], "parameters": {"a": 1}})
    assert shop.failure() == (10009, f"update could not be completed: {text}")
    shown = shop.show(made)
    assert last(shop, made) == ("update", "failed", text)
    assert (shown["tags"], shown["relationships"]["service_plan"]["data"]["guid"]) == ([], shop.small)
    assert orphans(shop) == []


def test_an_update_that_never_ends_and_one_that_fails(shop: Shop, broker: ScriptedBroker) -> None:
    made = shop.create("store")
    broker.answers("PATCH instance", Answer(202))
    broker.answers("GET instance last_operation", Answer(200, {"state": "failed", "description": "no"}))
    shop.do("PATCH", f"{PATH}/{made['guid']}", {"parameters": {"a": 1}})
    assert shop.failure() == (10009, "update could not be completed: no")
    shop.change_plan(shop.small, maximum_polling_duration=1)
    broker.answers("GET instance last_operation", Answer(200, {"state": "in progress"}))
    shop.do("PATCH", f"{PATH}/{made['guid']}", {"parameters": {"a": 1}})
    assert shop.failure() == (290006, "The job execution has timed out.")
    assert last(shop, made) == ("update", "failed", "Service Broker failed to update within the required time.")
    assert orphans(shop) == []
    shop.do("DELETE", f"{PATH}/{made['guid']}")
    assert shop.job["state"] == "COMPLETE"


DELETIONS = {
    "500": (Answer(500, {"description": "no"}), 10009, "Service broker error: no"),
    "201": (
        Answer(201, {}),
        10009,
        "The service broker returned an invalid response. Status Code: 201 Created, Body: {}",
    ),
    "409": (
        Answer(409, {}),
        10009,
        "The service broker returned an invalid response. Status Code: 409 Conflict, Body: {}",
    ),
    "422 async": (Answer(422, {"error": "AsyncRequired"}), 10009, ASYNC),
    "422": (Answer(422, {"description": "in use"}), 10009, "Service broker error: in use"),
    "silent": (Answer(hangs=True), 10009, TIMED_OUT),
}


@pytest.mark.parametrize(("answer", "code", "text"), DELETIONS.values(), ids=DELETIONS)
def test_a_broker_that_does_not_deprovision(
    shop: Shop, broker: ScriptedBroker, answer: Answer, code: int, text: str
) -> None:
    shop.cloud.settings.brokers.timeout_seconds = 0.5
    made = shop.create("store")
    broker.answers("DELETE instance", answer)
    shop.do("DELETE", f"{PATH}/{made['guid']}")
    text = f"Service instance store: {text}"
    assert shop.failure() == (code, f"delete could not be completed: {text}")
    assert last(shop, made) == ("delete", "failed", text)
    broker.answers("DELETE instance", Answer(410, {}))
    shop.do("DELETE", f"{PATH}/{made['guid']}")
    assert shop.job["state"] == "COMPLETE"
    assert shop.client.get(f"{PATH}/{made['guid']}").status_code == 404


def test_a_broker_that_is_busy_with_the_instance(shop: Shop, broker: ScriptedBroker) -> None:
    made = shop.create("store")
    broker.answers("DELETE instance", Answer(422, {"error": "ConcurrencyError"}))
    shop.do("DELETE", f"{PATH}/{made['guid']}")
    assert shop.failure() == (60016, "An operation for service instance store is in progress.")
    assert last(shop, made)[:2] == ("delete", "failed")


@pytest.mark.parametrize(
    ("polled", "state", "description"),
    [
        (Answer(410, {}), "COMPLETE", None),
        (Answer(200, {"state": "succeeded"}), "COMPLETE", None),
        (Answer(200, {"state": "failed", "description": "in use"}), "FAILED", "in use"),
        (
            Answer(200, {"state": "in progress"}),
            "FAILED",
            "Service Broker failed to deprovision within the required time.",
        ),
    ],
)
def test_a_deprovision_that_takes_its_time(
    shop: Shop, broker: ScriptedBroker, polled: Answer, state: str, description: str | None
) -> None:
    shop.change_plan(shop.small, maximum_polling_duration=1)
    made = shop.create("store")
    broker.answers("DELETE instance", Answer(202, {"operation": "d"}))
    broker.answers("GET instance last_operation", polled)
    shop.do("DELETE", f"{PATH}/{made['guid']}")
    assert shop.job["state"] == state
    if description is None:
        assert shop.client.get(f"{PATH}/{made['guid']}").status_code == 404
    else:
        assert last(shop, made) == ("delete", "failed", description)
    assert len(broker.sent("DELETE instance")) == 1


def test_what_lost_its_job_fails_after_a_while(shop: Shop, cloud: Cloud, broker: ScriptedBroker) -> None:
    broker.answers("PUT instance", Answer(202))
    broker.answers("GET instance last_operation", Answer(200, {"state": "in progress"}, {"Retry-After": "3600"}))
    begun = shop.create("begun")
    worked_on = shop.create("worked on")
    shop.client.post(PATH, shop.body("initial"))
    initial = shop.client.ok("GET", f"{PATH}?names=initial")["resources"][0]
    with cloud.database.write() as tx:
        assert (service_sweeps.fail_stuck(tx, cloud.settings), service_sweeps.fail_abandoned(tx)) == (0, 0)
    with cloud.database.write() as tx:
        lost = [begun["guid"], initial["guid"]]
        tx.run(jobs.jobs.delete().where(jobs.jobs.c.resource_guid.in_(lost)))
        past = tx.now - int(cloud.settings.brokers.timeout_seconds * 1.2 * 1_000_000)
        tx.run(update(service_instances).values(operation_updated_at=past))
    with cloud.database.write() as tx:
        assert (service_sweeps.fail_stuck(tx, cloud.settings), service_sweeps.fail_abandoned(tx)) == (1, 1)
    text = 'Operation was stuck in "{}" state. Set to "failed" by cleanup job.'
    assert last(shop, initial) == ("create", "failed", text.format("initial"))
    assert last(shop, begun) == ("create", "failed", text.format("in progress"))
    assert last(shop, worked_on)[1] == "in progress"
    assert sorted(orphans(shop)) == sorted([(begun["guid"],), (initial["guid"],)])


def test_nobody_reads_secrets_in_what_went_wrong(shop: Shop, cloud: Cloud, broker: ScriptedBroker) -> None:
    broker.answers("PUT instance", Answer(500, {"description": "no"}))
    shop.create("bad", parameters={"password": "hunter2"})
    with cloud.database.read() as tx:
        job = tx.one(jobs.jobs.select().where(jobs.jobs.c.guid == shop.job["guid"]))
    assert job is not None
    assert "hunter2" not in repr(job.errors)
    events = cloud.admin.get("/v3/audit_events").text
    assert "hunter2" not in events
