"""Plans that are defined at their broker: the sample broker does it, a scripted one does it wrong."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Client, Cloud
from tests.api.marketplace import Marketplace
from tests.brokers.sample import Sample, sample
from tests.brokers.scripted import Broker, Says, catalog, plan, scripted, service

OSMAPI = {"osmapi": {"version": "1", "features": ["backup", "plan_definitions"]}}
DEFINITIONS = "/osmapi/v1/services/db-id/plan_definitions"


@pytest.fixture
def jotter() -> Iterator[Sample]:
    with sample() as running:
        yield running


@pytest.fixture
def broker() -> Iterator[Broker]:
    with scripted() as opened:
        opened.catalog = catalog(service("db", metadata=OSMAPI))
        yield opened


@pytest.fixture
def market(cloud: Cloud, broker: Broker) -> Marketplace:
    """A marketplace whose broker says that it takes definitions."""
    found = Marketplace(cloud, broker)
    found.register()
    return found


@pytest.fixture
def shop(cloud: Cloud, jotter: Sample) -> Marketplace:
    """A marketplace with the sample broker."""
    found = Marketplace(cloud, jotter)
    assert found.register("jotter")["state"] == "COMPLETE"
    return found


def body(market: Marketplace, offering: str, name: str = "huge", **more: Any) -> dict[str, Any]:
    """What defines a plan."""
    definition = {"name": name, "description": "A lot", "properties": {"max_notes": 500}, **more.pop("definition", {})}
    return {
        "name": name,
        "description": "A lot",
        "definition": definition,
        "relationships": {"service_offering": {"data": {"guid": market.offering(offering)["guid"]}}},
        **more,
    }


def service_admin(cloud: Cloud) -> Client:
    return cloud.client("cloud_controller.read", "cloud_controller.write", "cloud_controller.service_admin")


# The sample broker


def test_a_plan_is_defined_changed_and_deleted(shop: Marketplace) -> None:
    labels = {"labels": {"tier": "gold"}, "annotations": {}}
    made = shop.admin.ok("POST", "/v3/service_plans", body(shop, "jotter", metadata=labels), 201)
    assert (made["name"], made["description"], made["visibility_type"]) == ("huge", "A lot", "admin")
    assert made["metadata"] == labels
    assert made["schemas"]["service_instance"]["create"]["parameters"]["properties"]["max_notes"]["maximum"] == 500
    assert shop.admin.ok("GET", f"/v3/service_plans/{made['guid']}") == made
    path = f"/v3/service_plans/{made['guid']}/definition"
    shown = shop.admin.ok("GET", path)
    definition = shown["definition"]
    assert shown["guid"] == made["guid"]
    assert shown["relationships"] == {"service_plan": {"data": {"guid": made["guid"]}}}
    assert [link["href"].removeprefix(shop.cloud.settings.api_url) for link in shown["links"].values()] == [
        path,
        f"/v3/service_plans/{made['guid']}",
    ]
    assert list(definition) == [
        "plan_id",
        "name",
        "description",
        "properties",
        "metadata",
        "created_at",
        "resource_version",
    ]
    assert (definition["plan_id"], definition["resource_version"]) == (made["broker_catalog"]["id"], "1")

    new = {**definition, "name": "gigantic", "properties": {"max_notes": 900, "free": False}, "resource_version": "77"}
    changed = shop.admin.ok("PATCH", path, {"definition": new})["definition"]
    assert (changed["name"], changed["resource_version"], changed["created_at"]) == (
        "gigantic",
        "2",
        definition["created_at"],
    )
    now = shop.admin.ok("GET", f"/v3/service_plans/{made['guid']}")
    assert (now["name"], now["free"], now["guid"]) == ("gigantic", False, made["guid"])

    shop.admin.ok("DELETE", path, None, 204)
    assert shop.admin.get(f"/v3/service_plans/{made['guid']}").status_code == 404
    assert "gigantic" not in [one["name"] for one in shop.plans()]
    events = shop.admin.ok("GET", f"/v3/audit_events?target_guids={made['guid']}")["resources"]
    by_user = [one["type"] for one in events if one["actor"]["type"] == "user"]
    assert by_user == ["audit.service_plan.create", "audit.service_plan.update", "audit.service_plan.delete"]
    by_user_first = next(one for one in events if one["actor"]["type"] == "user")
    assert by_user_first["data"]["request"]["definition"]["properties"] == {"max_notes": 500}


def test_a_plan_with_a_chosen_id_and_instances(shop: Marketplace) -> None:
    given = body(shop, "jotter", definition={"plan_id": "my-id"})
    made = shop.admin.ok("POST", "/v3/service_plans", given, 201)
    assert made["broker_catalog"]["id"] == "my-id"
    shop.instance("huge")
    path = f"/v3/service_plans/{made['guid']}/definition"
    detail = "Please delete the service_instances associations for your service_plans."
    assert shop.admin.problem("DELETE", path) == (422, 10008, detail)
    shop.admin.ok("GET", path)
    again = body(shop, "jotter", "another", definition={"plan_id": "my-id"})
    status, _, detail = shop.admin.problem("POST", "/v3/service_plans", again)
    assert (status, detail) == (409, "Service broker error: There is a plan my-id already")


def test_what_is_wrong_with_a_definition(shop: Marketplace) -> None:
    post = "/v3/service_plans"
    wrong = body(shop, "jotter", definition={"name": "other"})
    words = "Name and description must match the definition's name and description."
    assert shop.admin.problem("POST", post, wrong) == (422, 10008, words)
    taken = body(shop, "jotter", "small")
    assert shop.admin.problem("POST", post, taken) == (
        422,
        10016,
        "Service plan with name 'small' already exists in this service offering.",
    )
    answer = shop.admin.post(post, body(shop, "jotter", definition={"properties": {"max_notes": "x", "more": 1}}))
    assert answer.status_code == 422
    assert sorted(one["detail"] for one in answer.json()["errors"]) == [
        "Definition properties are invalid: max_notes: 'x' is not of type 'integer'",
        "Definition properties are invalid: properties: Additional properties are not allowed ('more' was unexpected)",
    ]
    nowhere = body(shop, "jotter")
    nowhere["relationships"]["service_offering"]["data"]["guid"] = "nowhere"
    invalid = "Invalid service offering. Ensure that the service offering exists and you have access to it."
    assert shop.admin.problem("POST", post, nowhere) == (422, 10008, invalid)
    missing = {"name": "x", "definition": {"description": 1}}
    assert shop.admin.problem("POST", post, missing)[2] == (
        "Description must be a string, Relationships 'relationships' is not an object, "
        "Definition Name must be a string, Definition Description must be a string"
    )


def test_a_plan_that_was_not_defined(shop: Marketplace) -> None:
    path = f"/v3/service_plans/{shop.plan('small')['guid']}/definition"
    gone = (404, 10010, "Service plan definition not found")
    assert shop.admin.problem("GET", path) == gone
    new = {"plan_id": "jotter-small", "name": "small", "description": "x", "properties": {"max_notes": 5}}
    assert shop.admin.problem("PATCH", path, {"definition": new}) == gone
    other = {**new, "plan_id": "other"}
    detail = "The definition's plan_id must be 'jotter-small', that of the service plan."
    assert shop.admin.problem("PATCH", path, {"definition": other}) == (422, 10008, detail)
    status, _, detail = shop.admin.problem("PATCH", path, {"definition": {"name": "x", "description": "y"}})
    assert (status, detail) == (422, "Definition Plan id must be a string")


def test_schemas(shop: Marketplace, broker: Broker) -> None:
    shop.job(shop.admin.post("/v3/service_brokers", broker.body("silent")))
    offering = shop.offering("jotter")["guid"]
    shown = shop.admin.ok("GET", f"/v3/service_offerings/{offering}/plan_definition_schema")
    assert shown["guid"] == offering
    assert shown["schema"]["version"] == "1"
    assert shown["schema"]["json_schema"]["required"] == ["max_notes"]
    assert shown["schema"]["ui_schema"] == {"ui:order": ["max_notes", "free"]}
    assert shown["relationships"] == {"service_offering": {"data": {"guid": offering}}}
    page = shop.admin.ok("GET", "/v3/service_plan_definition_schemas")
    assert page["pagination"]["total_results"] == 2
    assert page["resources"][0] == shown
    # A broker that does not say has null, and is listed all the same.
    assert page["resources"][1]["schema"] is None
    (only,) = shop.admin.ok("GET", "/v3/service_plan_definition_schemas?names=jotter")["resources"]
    assert only == shown
    assert shop.admin.ok("GET", "/v3/service_plan_definition_schemas?service_broker_names=x")["resources"] == []


def test_a_list_of_definitions(shop: Marketplace, broker: Broker) -> None:
    broker.catalog = catalog(service("plain"), service("db", metadata=OSMAPI))
    shop.job(shop.admin.post("/v3/service_brokers", broker.body("silent")))
    broker.on("GET", DEFINITIONS, Says(500, b"oops"))
    made = shop.admin.ok("POST", "/v3/service_plans", body(shop, "jotter"), 201)
    page = shop.admin.ok("GET", "/v3/service_plan_definitions?per_page=50")
    found = {one["guid"]: one["definition"] for one in page["resources"]}
    assert page["pagination"]["total_results"] == len(found) == 6
    assert [guid for guid, definition in found.items() if definition is not None] == [made["guid"]]
    assert page["resources"][-1]["guid"] == made["guid"] or made["guid"] in found
    path = f"/v3/service_plan_definitions?names=huge&service_offering_guids={shop.offering('jotter')['guid']}"
    (only,) = shop.admin.ok("GET", path)["resources"]
    assert only == shop.admin.ok("GET", f"/v3/service_plans/{made['guid']}/definition")
    assert len(broker.asked("GET", "/osmapi/*")) == 1
    assert shop.admin.problem("GET", "/v3/service_plan_definitions?x=1")[0] == 400
    two = shop.admin.ok("GET", "/v3/service_plan_definitions?per_page=2&order_by=-name")
    assert len(two["resources"]) == 2
    assert two["pagination"]["next"] is not None


def test_who_may(shop: Marketplace) -> None:
    made = shop.admin.ok("POST", "/v3/service_plans", body(shop, "jotter"), 201)
    plan_path = f"/v3/service_plans/{made['guid']}"
    schema_path = f"/v3/service_offerings/{shop.offering('jotter')['guid']}/plan_definition_schema"
    reader = shop.cloud.client("cloud_controller.admin_read_only")
    admin_of_services, user = service_admin(shop.cloud), shop.cloud.user()
    for path in (
        "/v3/service_plan_definitions",
        f"{plan_path}/definition",
        "/v3/service_plan_definition_schemas",
        schema_path,
    ):
        reader.ok("GET", path)
        assert user.problem("GET", path)[0] == (403 if path.startswith("/v3/service_plan_d") else 404)
        assert shop.cloud.nobody.problem("GET", path)[0] == 401
    for path in ("/v3/service_plan_definition_schemas", schema_path):
        admin_of_services.ok("GET", path)
    assert admin_of_services.problem("GET", "/v3/service_plan_definitions")[0] == 403
    admin_of_services.ok("POST", "/v3/service_plans", body(shop, "jotter", "mine"), 201)
    assert user.problem("POST", "/v3/service_plans", body(shop, "jotter", "no"))[0] == 403
    shop.show("huge")
    assert user.problem("GET", f"{plan_path}/definition")[0] == 403
    assert user.problem("GET", schema_path)[0] == 403
    assert admin_of_services.problem("DELETE", f"{plan_path}/definition")[0] == 403
    assert reader.problem("DELETE", f"{plan_path}/definition")[0] == 403


# A broker that does it wrong


def test_an_offering_without_definitions(market: Marketplace) -> None:
    market.broker.catalog = catalog(service("plain"), service("db", metadata=OSMAPI))
    market.synchronize()
    detail = "The service offering 'plain' does not support plan definitions."
    assert market.admin.problem("POST", "/v3/service_plans", body(market, "plain")) == (422, 10008, detail)
    path = f"/v3/service_plans/{market.plan('plain-small')['guid']}/definition"
    assert market.admin.ok("GET", path)["definition"] is None
    offering = market.offering("plain")["guid"]
    assert market.admin.ok("GET", f"/v3/service_offerings/{offering}/plan_definition_schema")["schema"] is None
    assert market.admin.problem("DELETE", path) == (422, 10008, detail)
    assert market.broker.asked("*", "/osmapi/*") == []


@pytest.mark.parametrize(
    ("says", "status", "detail"),
    [
        (Says(400, {"description": "no"}), 422, "Service broker error: no"),
        (Says(422, {"description": "no"}), 422, "Service broker error: no"),
        (Says(409, {"description": "no"}), 409, "Service broker error: no"),
        (Says(404, {"description": "no"}), 404, "Service broker error: no"),
        (Says(500, {"description": "no"}), 502, "Service broker error: no"),
        (Says(401, {"description": "no"}), 502, "Authentication with the service broker failed. Double-check that the username and password are correct."),
        (Says(201, b"["), 502, "The service broker returned an invalid response: expected valid JSON object in body, broker returned '['"),
        (Says(201, {"name": 1}), 502, "The service broker returned an invalid response: expected a plan definition to have the strings: plan_id, name, description"),
        (Says(hangs=True), 502, "The request to the service broker timed out"),
    ],
)  # fmt: skip
def test_a_broker_that_refuses_a_plan(market: Marketplace, says: Says, status: int, detail: str) -> None:
    market.cloud.settings.brokers.timeout_seconds = 0.3
    market.broker.on("POST", DEFINITIONS, says)
    found = market.admin.problem("POST", "/v3/service_plans", body(market, "db"))
    assert (found[0], found[2]) == (status, detail)
    assert [one["name"] for one in market.plans()] == ["db-small"]


def test_a_plan_that_does_not_come_is_taken_back(market: Marketplace) -> None:
    made = {"plan_id": "huge-id", "name": "huge", "description": "A lot"}
    market.broker.on("POST", DEFINITIONS, Says(201, made))
    status, code, detail = market.admin.problem("POST", "/v3/service_plans", body(market, "db"))
    assert (status, code) == (502, 270022)
    assert detail.endswith("with the service broker's catalog: the plan with id 'huge-id' is not in the catalog")
    assert len(market.broker.asked("DELETE", DEFINITIONS + "/huge-id")) == 1
    market.broker.catalog = {"services": []}
    status, code, _ = market.admin.problem("POST", "/v3/service_plans", body(market, "db"))
    assert (status, code) == (502, 270012)
    assert len(market.broker.asked("DELETE", DEFINITIONS + "/huge-id")) == 2
    assert [one["name"] for one in market.plans()] == ["db-small"]


def test_a_schema_that_cannot_be_had_checks_nothing(market: Marketplace) -> None:
    made = {"plan_id": "huge-id", "name": "huge", "description": "A lot"}
    market.broker.on("GET", "/osmapi/v1/services/db-id/plan_definition_schema", Says(500, b"x"))
    market.broker.on("POST", DEFINITIONS, Says(201, made))
    market.broker.catalog = catalog(service("db", [plan("db-small"), plan("huge")], metadata=OSMAPI))
    market.admin.ok("POST", "/v3/service_plans", body(market, "db"), 201)
    (asked,) = market.broker.asked("POST")
    assert asked.body == body(market, "db")["definition"]
    assert asked.headers["x-osmapi-version"] == "1"
    assert asked.headers["x-broker-api-originating-identity"].startswith("cloudfoundry ")
    assert asked.headers["x-vcap-request-id"]


def test_a_broker_in_trouble_while_its_definition_is_read(market: Marketplace) -> None:
    market.broker.on("GET", DEFINITIONS + "/*", Says(503, {"description": "later"}))
    path = f"/v3/service_plans/{market.plan('db-small')['guid']}/definition"
    assert market.admin.problem("GET", path) == (502, 10001, "Service broker error: later")


def test_a_busy_broker(market: Marketplace) -> None:
    market.admin.patch(market.path(), {"url": market.broker.url})
    detail = "The service plan cannot be defined because there is an operation in progress for the service broker."
    assert market.admin.problem("POST", "/v3/service_plans", body(market, "db")) == (422, 10008, detail)


def test_few_requests_wait_for_one_broker(market: Marketplace) -> None:
    path = f"/v3/service_plans/{market.plan('db-small')['guid']}/definition"
    market.cloud.settings.brokers.max_requests = 0
    detail = "Service broker concurrent request limit exceeded"
    assert market.admin.problem("GET", path) == (429, 10016, detail)
    assert market.broker.asked("GET", "/osmapi/*") == []
