"""Managed service instances over HTTP, with a broker that follows a script: made, changed, deleted, and all the while seen."""

import base64
from typing import Any

import msgspec
from sqlalchemy import select

from cupola.store.service_brokers import service_offerings
from tests.api.conftest import Cloud
from tests.api.work import finish
from tests.service_rig import Answer, ScriptedBroker, Shop, run_until

PATH = "/v3/service_instances"
PROVISIONING = Answer(202, {"operation": "op-1", "dashboard_url": "https://db.example.com/later"})
IN_PROGRESS = Answer(200, {"state": "in progress", "description": "half way"})


def operation(shop: Shop, instance: Any) -> tuple[str, str, str | None]:
    last = shop.show(instance)["last_operation"]
    return last["type"], last["state"], last["description"]


def ids(cloud: Cloud, shop: Shop) -> tuple[str, str]:
    with cloud.database.read() as tx:
        found = tx.scalar(select(service_offerings.c.catalog_id).where(service_offerings.c.guid == shop.offering))
    return str(found), "plan-small"


def test_an_instance_is_made_and_shown(shop: Shop, broker: ScriptedBroker) -> None:
    metadata = {"labels": {"tier": "gold"}, "annotations": {"note": "ours", "example.com/team": "red"}}
    broker.answers(
        "PUT instance",
        Answer(201, {"dashboard_url": "https://db.example.com/1", "metadata": {"labels": {"zone": "a"}}}),
    )
    made = shop.create("store", parameters={"size": 3}, tags=["mine"], metadata=metadata)
    assert (shop.job["operation"], shop.job["state"], shop.job["errors"]) == ("service_instance.create", "COMPLETE", [])
    assert set(shop.job["links"]) == {"self", "service_instances"}
    api, path = shop.cloud.settings.api_url, f"{PATH}/{made['guid']}"
    assert made == {
        "guid": made["guid"],
        "created_at": made["created_at"],
        "updated_at": made["updated_at"],
        "name": "store",
        "type": "managed",
        "tags": ["mine"],
        "last_operation": {
            "type": "create",
            "state": "succeeded",
            "description": "",
            "created_at": made["last_operation"]["created_at"],
            "updated_at": made["last_operation"]["updated_at"],
        },
        "maintenance_info": {},
        "upgrade_available": False,
        "dashboard_url": "https://db.example.com/1",
        "broker_provided_metadata": {"labels": {"zone": "a"}},
        "relationships": {
            "space": {"data": {"guid": shop.space}},
            "service_plan": {"data": {"guid": shop.small}},
        },
        "metadata": metadata,
        "links": {
            "self": {"href": api + path},
            "space": {"href": f"{api}/v3/spaces/{shop.space}"},
            "service_plan": {"href": f"{api}/v3/service_plans/{shop.small}"},
            "parameters": {"href": f"{api}{path}/parameters"},
            "shared_spaces": {"href": f"{api}{path}/relationships/shared_spaces"},
            "service_credential_bindings": {
                "href": f"{api}/v3/service_credential_bindings?service_instance_guids={made['guid']}"
            },
            "service_route_bindings": {
                "href": f"{api}/v3/service_route_bindings?service_instance_guids={made['guid']}"
            },
        },
    }
    assert shop.show(made) == made
    events = shop.cloud.admin.ok("GET", f"/v3/audit_events?target_guids={made['guid']}")["resources"]
    assert [event["type"] for event in events] == ["audit.service_instance.create"]
    assert events[0]["data"]["request"]["parameters"] == "[PRIVATE DATA HIDDEN]"
    assert events[0]["space"]["guid"] == shop.space


def test_what_the_broker_is_told(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    labelled = {"metadata": {"annotations": {"own": "x", "example.com/cost": "7"}}}
    cloud.admin.ok("PATCH", f"/v3/spaces/{shop.space}", labelled)
    space = cloud.admin.ok("GET", f"/v3/spaces/{shop.space}")
    org = cloud.admin.ok("GET", f"/v3/organizations/{shop.org}")
    made = shop.create("store", parameters={"size": 3}, metadata={"annotations": {"example.com/team": "red"}})
    (asked,) = broker.sent("PUT instance")
    service_id, plan_id = ids(cloud, shop)
    assert asked.guids == (made["guid"],)
    assert asked.query == {"accepts_incomplete": "true"}
    assert asked.body == {
        "service_id": service_id,
        "plan_id": plan_id,
        "organization_guid": shop.org,
        "space_guid": shop.space,
        "context": {
            "platform": "cloudfoundry",
            "organization_guid": shop.org,
            "organization_name": org["name"],
            "organization_annotations": {},
            "space_guid": shop.space,
            "space_name": space["name"],
            "space_annotations": {"example.com/cost": "7"},
            "instance_name": "store",
            "instance_annotations": {"example.com/team": "red"},
        },
        "parameters": {"size": 3},
    }
    assert shop.client.actor is not None
    kind, _, identity = asked.headers["x-broker-api-originating-identity"].partition(" ")
    assert (kind, msgspec.json.decode(base64.b64decode(identity))) == (
        "cloudfoundry",
        {"user_id": shop.client.actor.guid},
    )
    assert asked.headers["x-broker-api-version"] == "2.15"
    assert asked.headers["x-vcap-request-id"]
    shop.create("plain")
    assert "parameters" not in broker.sent("PUT instance")[1].body


def test_a_broker_that_takes_its_time_is_asked_until_it_is_done(shop: Shop, broker: ScriptedBroker) -> None:
    shop.change_offering(instances_retrievable=True)
    broker.answers("PUT instance", PROVISIONING)
    broker.answers(
        "GET instance last_operation",
        IN_PROGRESS,
        Answer(500),
        Answer(200, "no json"),
        Answer(410),
        Answer(200, {"state": "succeeded", "description": "done"}),
    )
    broker.answers("GET instance", Answer(200, {"dashboard_url": "https://db.example.com/ready"}))
    made = shop.create("slow")
    assert shop.job["state"] == "COMPLETE"
    assert operation(shop, made) == ("create", "succeeded", "done")
    assert made["dashboard_url"] == "https://db.example.com/ready"
    asked = broker.sent("GET instance last_operation")
    assert len(asked) == 5
    assert asked[0].query == {**asked[0].query, "operation": "op-1", "plan_id": "plan-small"}
    assert len(broker.sent("PUT instance")) == 1
    assert shop.events(made) == ["audit.service_instance.start_create", "audit.service_instance.create"]


def test_meanwhile_it_is_seen_how_far_it_is(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    broker.answers("PUT instance", PROVISIONING)
    broker.answers(
        "GET instance last_operation",
        Answer(200, {"state": "in progress", "description": "half way"}, {"Retry-After": "3600"}),
    )
    answer = shop.client.post(PATH, shop.body("slow"))
    instance = shop.client.ok("GET", f"{PATH}?names=slow")["resources"][0]
    assert operation(shop, instance) == ("create", "initial", None)
    finish(cloud)
    job = shop.client.ok("GET", answer.headers["Location"].removeprefix(cloud.settings.api_url))
    assert job["state"] == "POLLING"
    assert operation(shop, instance) == ("create", "in progress", "half way")
    assert shop.show(instance)["dashboard_url"] == "https://db.example.com/later"
    app = cloud.app("shop", shop.space)
    related = {"service_instance": {"data": {"guid": instance["guid"]}}, "app": {"data": {"guid": app["guid"]}}}
    body = {"type": "app", "relationships": related}
    assert shop.client.problem("POST", "/v3/service_credential_bindings", body) == (
        422,
        10008,
        "There is an operation in progress for the service instance",
    )
    assert shop.client.problem("PATCH", f"{PATH}/{instance['guid']}", {"tags": ["x"]}) == (
        409,
        60016,
        "An operation for service instance slow is in progress.",
    )
    changed = shop.client.ok("PATCH", f"{PATH}/{instance['guid']}", {"metadata": {"labels": {"a": "b"}}})
    assert changed["metadata"]["labels"] == {"a": "b"}


def test_a_creation_in_progress_can_be_ended_by_a_deletion(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    broker.answers("PUT instance", PROVISIONING)
    soon, late = ({"Retry-After": seconds} for seconds in ("1", "3600"))
    broker.answers(
        "GET instance last_operation",
        Answer(200, {"state": "in progress"}, soon),
        Answer(200, {"state": "in progress"}, late),
    )
    created = shop.client.post(PATH, shop.body("slow")).headers["Location"].removeprefix(cloud.settings.api_url)
    instance = shop.client.ok("GET", f"{PATH}?names=slow")["resources"][0]
    assert shop.client.problem("DELETE", f"{PATH}/{instance['guid']}")[2] == (
        "There is an operation in progress for the service instance."
    )
    run_until(cloud, lambda: operation(shop, instance)[1] == "in progress")
    broker.answers("DELETE instance", Answer(202))
    shop.do("DELETE", f"{PATH}/{instance['guid']}")
    assert operation(shop, instance)[:2] == ("delete", "in progress")
    job = cloud.admin.ok("GET", created)
    assert (job["state"], job["errors"][0]["code"], job["errors"][0]["detail"]) == (
        "FAILED",
        10009,
        "create could not be completed: delete in progress",
    )
