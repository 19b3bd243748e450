"""Credential bindings over HTTP: apps and keys, what may be asked for, what is shown to whom, what brokers do wrong."""

from typing import Any

import pytest
from sqlalchemy import update

from cupola.domain import service_sweeps
from cupola.store import jobs
from cupola.store.service_bindings import service_credential_bindings
from tests.api.conftest import Client, Cloud
from tests.api.work import finish
from tests.service_rig import Answer, ScriptedBroker, Shop

PATH = "/v3/service_credential_bindings"
SLOW = Answer(200, {"state": "in progress"}, {"Retry-After": "3600"})


@pytest.fixture
def app(cloud: Cloud, shop: Shop) -> Any:
    return cloud.app("web", shop.space)


def body(instance: Any, app: Any = None, **more: Any) -> dict[str, Any]:
    related = {"service_instance": {"data": {"guid": instance["guid"]}}}
    if app is not None:
        related["app"] = {"data": {"guid": app["guid"]}}
    return {"type": "key" if app is None else "app", "relationships": related, **more}


def refusal(shop: Shop, request: Any) -> str:
    """Why a binding is refused with 422 and 10008."""
    status, code, detail = shop.client.problem("POST", PATH, request)
    assert (status, code) == (422, 10008), detail
    return detail


def last(shop: Shop, binding: Any) -> tuple[str, str, str]:
    operation = shop.client.ok("GET", f"{PATH}/{binding['guid']}")["last_operation"]
    return operation["type"], operation["state"], operation["description"]


def details(shop: Shop, binding: Any, client: Client | None = None) -> Any:
    return (client or shop.client).get(f"{PATH}/{binding['guid']}/details")


def test_an_app_is_bound(shop: Shop, broker: ScriptedBroker, app: Any) -> None:
    shop.change_offering(requires=["syslog_drain"])
    given = {"credentials": {"uri": "db://1"}, "syslog_drain_url": "syslog://example.com:1,2"}
    broker.answers("PUT binding", Answer(201, given))
    store = shop.create("store")
    metadata = {"labels": {"tier": "gold"}, "annotations": {}}
    bound = shop.bind(store, app, name="db", parameters={"role": "reader"}, metadata=metadata)
    assert (shop.job["operation"], shop.job["state"]) == ("service_bindings.create", "COMPLETE")
    assert set(shop.job["links"]) == {"self", "service_credential_binding"}
    api, path = shop.cloud.settings.api_url, f"{PATH}/{bound['guid']}"
    assert bound == {
        "guid": bound["guid"],
        "created_at": bound["created_at"],
        "updated_at": bound["updated_at"],
        "name": "db",
        "type": "app",
        "last_operation": {
            "type": "create",
            "state": "succeeded",
            "description": None,
            "created_at": bound["last_operation"]["created_at"],
            "updated_at": bound["last_operation"]["updated_at"],
        },
        "metadata": metadata,
        "relationships": {
            "app": {"data": {"guid": app["guid"]}},
            "service_instance": {"data": {"guid": store["guid"]}},
        },
        "links": {
            "self": {"href": api + path},
            "details": {"href": f"{api}{path}/details"},
            "parameters": {"href": f"{api}{path}/parameters"},
            "service_instance": {"href": f"{api}/v3/service_instances/{store['guid']}"},
            "app": {"href": f"{api}/v3/apps/{app['guid']}"},
        },
    }
    (asked,) = broker.sent("PUT binding")
    assert asked.guids == (store["guid"], bound["guid"])
    assert asked.query == {"accepts_incomplete": "true"}
    assert asked.body["app_guid"] == app["guid"]
    assert asked.body["bind_resource"]["app_guid"] == app["guid"]
    assert asked.body["bind_resource"]["space_guid"] == shop.space
    assert asked.body["parameters"] == {"role": "reader"}
    assert asked.body["context"]["space_guid"] == shop.space
    assert details(shop, bound).json() == {
        "credentials": {"uri": "db://1"},
        "syslog_drain_url": "syslog://example.com:1%2c2",
    }
    assert shop.events(bound)[:1] == ["audit.service_binding.create"]
    shop.do("DELETE", path)
    assert (shop.job["operation"], shop.job["state"]) == ("service_bindings.delete", "COMPLETE")
    assert shop.client.get(path).status_code == 404
    (asked,) = broker.sent("DELETE binding")
    assert asked.query["plan_id"] == "plan-small"
    assert shop.events(bound)[-1] == "audit.service_binding.delete"


def test_a_key_is_made(shop: Shop, broker: ScriptedBroker) -> None:
    store = shop.create("store")
    key = shop.key(store, "mine", parameters={"role": "reader"})
    assert (shop.job["operation"], shop.job["state"]) == ("service_keys.create", "COMPLETE")
    assert (key["type"], key["name"], set(key["relationships"])) == ("key", "mine", {"service_instance"})
    assert "app" not in key["links"]
    (asked,) = broker.sent("PUT binding")
    assert "app_guid" not in asked.body
    assert "bind_resource" not in asked.body or "app_guid" not in asked.body["bind_resource"]
    assert details(shop, key).json() == {"credentials": {"password": "s3cret"}}
    assert shop.events(key) == ["audit.service_key.create", "audit.service_key.show"]
    text = (
        "The binding name is invalid. Key binding names must be unique. "
        "The service instance already has a key binding with name 'mine'."
    )
    assert refusal(shop, body(store, name="mine")) == text
    shop.do("DELETE", f"{PATH}/{key['guid']}")
    assert shop.job["operation"] == "service_keys.delete"


def test_user_provided_instances_are_bound_at_once(shop: Shop, broker: ScriptedBroker, app: Any) -> None:
    theirs = shop.user_provided(credentials={"a": 1}, syslog_drain_url="syslog://example.com")
    bound = shop.bind(theirs, app)
    assert (shop.job, bound["last_operation"]["state"]) == (None, "succeeded")
    assert details(shop, bound).json() == {"credentials": {"a": 1}, "syslog_drain_url": "syslog://example.com"}
    path = f"/v3/service_instances/{theirs['guid']}"
    shop.client.ok("PATCH", path, {"credentials": {"b": 2}, "syslog_drain_url": ""})
    assert details(shop, bound).json() == {"credentials": {"b": 2}}
    no_keys = "Service credential bindings of type 'key' are not supported for user-provided service instances."
    assert refusal(shop, body(theirs, name="k")) == no_keys
    no_parameters = "Binding parameters are not supported for user-provided service instances"
    other = shop.cloud.app("other", shop.space)
    assert refusal(shop, body(theirs, other, parameters={})) == no_parameters
    assert shop.client.delete(f"{PATH}/{bound['guid']}").status_code == 204
    assert broker.kinds() == []
    assert shop.events(bound) == ["audit.service_binding.create"] + ["audit.service_binding.show"] * 2 + [
        "audit.service_binding.delete"
    ]


def test_what_cannot_be_bound(cloud: Cloud, shop: Shop, broker: ScriptedBroker, app: Any) -> None:
    store = shop.create("store")
    missing = {"guid": "nowhere"}
    assert refusal(shop, body(store, missing)) == "The app could not be found: 'nowhere'"
    assert refusal(shop, body(missing, app)) == "The service instance could not be found: 'nowhere'"
    elsewhere = cloud.app("elsewhere", cloud.space(org=shop.org)["guid"])
    assert refusal(shop, body(store, elsewhere)) == "The service instance and the app are in different spaces"
    shop.change_plan(shop.small, bindable=False)
    assert refusal(shop, body(store, app)) == "Service plan does not allow bindings"
    assert refusal(shop, body(store, name="k")) == "Service plan does not allow bindings."
    shop.change_plan(shop.small, bindable=True)
    shop.change_offering(requires=["volume_mount"])
    cloud.settings.services.volume_services = False
    assert refusal(shop, body(store, app)) == "Support for volume mount services is disabled"
    shop.change_offering(requires=[])
    shop.bind(store, app)
    assert refusal(shop, body(store, app)) == "The app is already bound to the service instance"
    for name in ("a b", "ä", "x" * 256, "a/b"):
        assert shop.client.post(PATH, body(store, cloud.app(space=shop.space), name=name)).status_code == 422
    assert len(broker.sent("PUT binding")) == 1


def test_names_of_bindings_are_unique_for_an_app(cloud: Cloud, shop: Shop, app: Any) -> None:
    first, second = shop.create("one"), shop.create("two")
    shop.bind(first, app, name="db")
    text = (
        "The binding name is invalid. Binding names must be unique for a given service instance and app. "
        "The app already has a binding with name 'db'."
    )
    assert refusal(shop, body(second, app, name="db")) == text
    assert shop.bind(second, cloud.app("other", shop.space), name="db")["name"] == "db"


def test_credentials_are_rotated(cloud: Cloud, shop: Shop, broker: ScriptedBroker, app: Any) -> None:
    store = shop.create("store")
    shop.bind(store, app, name="db")
    again = body(store, app, name="db", strategy="multiple")
    assert refusal(shop, again) == "The app is already bound to the service instance"
    cloud.settings.services.max_bindings_per_app_and_instance = 2
    other_name = body(store, app, name="new", strategy="multiple")
    expected = "The binding name cannot be changed for the same app and service instance"
    assert refusal(shop, other_name) == expected
    broker.answers("PUT binding", Answer(201, {"credentials": {"password": "new"}}))
    newest = shop.bind(store, app, name="db", strategy="multiple")
    assert newest["last_operation"]["state"] == "succeeded"
    assert "limit: 2). Consider deleting existing/orphaned bindings." in refusal(shop, again)
    environment = cloud.admin.ok("GET", f"/v3/apps/{app['guid']}/env")["system_env_json"]["VCAP_SERVICES"]
    (entry,) = environment["db"]
    assert (entry["binding_guid"], entry["credentials"]) == (newest["guid"], {"password": "new"})
    listed = cloud.admin.ok("GET", f"{PATH}?app_guids={app['guid']}&order_by=-created_at")["resources"]
    assert len(listed) == 2
    shop.do("DELETE", f"{PATH}/{listed[-1]['guid']}")
    cloud.settings.services.max_bindings_per_app_and_instance = 3
    shop.change_offering(bindings_retrievable=True)
    broker.answers("PUT binding", Answer(202))
    broker.answers("GET binding last_operation", SLOW)
    third = shop.bind(store, app, name="db", strategy="multiple")
    busy = f"There is already a binding in progress for this service instance and app (binding guid: {third['guid']})"
    assert refusal(shop, again) == busy


def test_asynchronous_bindings_are_fetched(shop: Shop, broker: ScriptedBroker, app: Any) -> None:
    shop.change_offering(bindings_retrievable=True)
    broker.answers("PUT binding", Answer(202, {"operation": "op"}))
    broker.answers(
        "GET binding last_operation",
        Answer(200, {"state": "in progress"}),
        Answer(500),
        Answer(200, {"state": "succeeded", "description": "done"}),
    )
    broker.answers("GET binding", Answer(200, {"credentials": {"fetched": True}, "parameters": {"role": "reader"}}))
    store = shop.create("store")
    bound = shop.bind(store, app)
    assert last(shop, bound) == ("create", "succeeded", "done")
    assert details(shop, bound).json() == {"credentials": {"fetched": True}}
    assert [one.query["operation"] for one in broker.sent("GET binding last_operation")] == ["op"] * 3
    assert shop.client.ok("GET", f"{PATH}/{bound['guid']}/parameters") == {"role": "reader"}
    assert shop.events(bound)[:2] == ["audit.service_binding.start_create", "audit.service_binding.create"]
    shop.change_offering(bindings_retrievable=False)
    refused = shop.client.problem("GET", f"{PATH}/{bound['guid']}/parameters")
    assert refused[:2] == (400, 90007)
    broker.answers("DELETE binding", Answer(202, {"operation": "gone"}))
    broker.answers("GET binding last_operation", Answer(200, {"state": "in progress"}), Answer(410, {}))
    shop.do("DELETE", f"{PATH}/{bound['guid']}")
    assert shop.job["state"] == "COMPLETE"
    assert shop.client.get(f"{PATH}/{bound['guid']}").status_code == 404


def test_while_the_broker_is_at_it(shop: Shop, broker: ScriptedBroker, app: Any) -> None:
    shop.change_offering(bindings_retrievable=True)
    broker.answers("PUT binding", Answer(202))
    broker.answers("GET binding last_operation", SLOW)
    store = shop.create("store")
    bound = shop.bind(store, app)
    assert shop.job["state"] == "POLLING"
    assert last(shop, bound)[:2] == ("create", "in progress")
    hidden = details(shop, bound)
    assert (hidden.status_code, hidden.json()["errors"][0]["detail"]) == (
        404,
        "Creation of service binding in progress",
    )
    assert refusal(shop, body(store, app)) == "The app is already bound to the service instance"
    busy = shop.client.problem("PATCH", f"/v3/service_instances/{store['guid']}", {"parameters": {"a": 1}})
    assert busy == (
        409,
        90008,
        "An operation for the service binding between app web and service instance store is in progress.",
    )
    environment = shop.cloud.admin.ok("GET", f"/v3/apps/{app['guid']}/env")["system_env_json"]
    assert environment["VCAP_SERVICES"] == {}
    broker.answers("DELETE binding", Answer(202))
    shop.do("DELETE", f"{PATH}/{bound['guid']}")
    assert last(shop, bound)[:2] == ("delete", "in progress")
    assert refusal(shop, body(store, app)) == "The binding is getting deleted or its deletion failed"
    changed = shop.client.problem("PATCH", f"{PATH}/{bound['guid']}", {"metadata": {"labels": {"a": "b"}}})
    assert changed[2] == "The service binding is being deleted"
    assert details(shop, bound).json()["errors"][0]["detail"] == "Deletion of service binding in progress"
    again = shop.client.problem("DELETE", f"{PATH}/{bound['guid']}")
    assert again[2] == "There is an operation in progress for the service binding."


MOUNT = {"driver": "x", "container_dir": "/d", "mode": "rw", "device_type": "shared", "device": {"volume_id": "v"}}
NO_LOGGING = (
    "The service is attempting to stream logs from your application, but is not registered as a logging service. "
    "Please contact the service provider."
)
INVALID = "The service broker returned an invalid response: "
BINDS = {
    "500": (Answer(500, {"description": "no"}), "Service broker error: no", True),
    "201 no json": (
        Answer(201, "x"),
        f"{INVALID}expected valid JSON object in body, broker returned '[PRIVATE DATA HIDDEN]'",
        True,
    ),
    "200 no json": (
        Answer(200, "x"),
        f"{INVALID}expected valid JSON object in body, broker returned '[PRIVATE DATA HIDDEN]'",
        False,
    ),
    "410": (Answer(410, {}), f"{INVALID.rstrip(': ')}. Status Code: 410 Gone, Body: {{}}", True),
    "409": (Answer(409, {}), "Resource conflict", False),
    "400": (Answer(400, {"description": "role?"}), "Service broker error: role?", False),
    "422 app": (
        Answer(422, {"error": "RequiresApp"}),
        "This service supports generation of credentials through binding an application only.",
        False,
    ),
    "422 parallel": (
        Answer(422, {"error": "ConcurrencyError"}),
        "The service broker could not perform this operation in parallel with other running operations",
        False,
    ),
    "422": (Answer(422, {"description": "no"}), "Service broker error: no", True),
    "credentials": (
        Answer(201, {"credentials": "text"}),
        f"{INVALID}expected credentials to be a valid JSON object",
        True,
    ),
    "drain": (Answer(200, {"syslog_drain_url": "syslog://example.com"}), NO_LOGGING, True),
    "volumes": (
        Answer(200, {"volume_mounts": [MOUNT]}),
        (
            f"{INVALID}The service is attempting to supply volume mounts from your application, but is not registered "
            "as a volume mount service. Please contact the service provider."
        ),
        True,
    ),
    "silent": (Answer(hangs=True), "The request to the service broker timed out", True),
}


@pytest.mark.parametrize("kind", ["app", "key"])
@pytest.mark.parametrize(("answer", "text", "orphan"), BINDS.values(), ids=BINDS)
def test_a_broker_that_does_not_bind(
    shop: Shop, broker: ScriptedBroker, app: Any, kind: str, answer: Answer, text: str, orphan: bool
) -> None:
    shop.cloud.settings.brokers.timeout_seconds = 0.5
    store = shop.create("store")
    broker.answers("PUT binding", answer)
    bound = shop.bind(store, app) if kind == "app" else shop.key(store)
    assert shop.failure() == (10009, f"bind could not be completed: {text}")
    assert last(shop, bound) == ("create", "failed", text)
    finish(shop.cloud)
    assert [one.guids for one in broker.sent("DELETE binding")] == ([(store["guid"], bound["guid"])] if orphan else [])
    assert len(broker.sent("PUT binding")) == 1


def test_volumes_that_cannot_be_had_here(shop: Shop, broker: ScriptedBroker, app: Any) -> None:
    shop.change_offering(requires=["volume_mount"])
    store = shop.create("store")
    bad = {"driver": "", "container_dir": "/d", "mode": "rw", "device_type": "shared", "device": {"volume_id": "v"}}
    for mount, why in (
        (MOUNT, "localdriver"),
        ({**MOUNT, "device_type": "block", "driver": "localdriver"}, "block"),
        ({**MOUNT, "driver": "localdriver", "device": {"volume_id": "../up"}}, "volume_id"),
        (bad, "missing required field 'driver'"),
    ):
        broker.answers("PUT binding", Answer(201, {"volume_mounts": [mount]}))
        bound = shop.bind(store, app)
        assert why in shop.failure()[1], shop.failure()
        assert last(shop, bound)[1] == "failed"
    finish(shop.cloud)
    assert len(broker.sent("DELETE binding")) >= 4
    broker.answers("PUT binding", Answer(201, {"volume_mounts": [{**MOUNT, "driver": "localdriver"}]}))
    bound = shop.bind(store, app)
    assert last(shop, bound)[1] == "succeeded"
    assert details(shop, bound).json()["volume_mounts"][0]["container_dir"] == "/d"


def test_bindings_that_are_not_told_of_in_time(shop: Shop, broker: ScriptedBroker, app: Any) -> None:
    store = shop.create("store")
    broker.answers("PUT binding", Answer(202))
    bound = shop.bind(store, app)
    text = "The broker responded asynchronously but does not support fetching binding data"
    assert shop.failure() == (90001, f"The service binding is invalid: {text}")
    assert last(shop, bound) == ("create", "failed", text)
    finish(shop.cloud)
    assert broker.sent("DELETE binding") == []

    shop.change_offering(bindings_retrievable=True)
    shop.change_plan(shop.small, maximum_polling_duration=1)
    broker.answers("GET binding last_operation", Answer(200, {"state": "in progress"}))
    late = shop.bind(store, app)
    assert shop.failure() == (290006, "The job execution has timed out.")
    assert last(shop, late) == ("create", "failed", "Service Broker failed to bind within the required time.")
    finish(shop.cloud)
    # The first one was replaced: its broker is told of both.
    assert {one.guids[1] for one in broker.sent("DELETE binding")} == {bound["guid"], late["guid"]}

    broker.answers("GET binding last_operation", Answer(200, {"state": "failed", "description": "no room"}))
    failed = shop.bind(store, app)
    assert shop.failure()[0] == 10009
    assert last(shop, failed) == ("create", "failed", "no room")
    broker.answers("GET binding last_operation", Answer(200, {"state": "succeeded"}))
    broker.answers("GET binding", Answer(404, {}))
    unseen = shop.bind(store, app)
    assert last(shop, unseen)[:2] == ("create", "failed")


UNBINDS = {
    "500": (Answer(500, {"description": "no"}), "Service broker error: no"),
    "422": (Answer(422, {"description": "in use"}), "Service broker error: in use"),
    "silent": (Answer(hangs=True), "The request to the service broker timed out"),
}


@pytest.mark.parametrize(("answer", "text"), UNBINDS.values(), ids=UNBINDS)
def test_a_broker_that_does_not_unbind(shop: Shop, broker: ScriptedBroker, app: Any, answer: Answer, text: str) -> None:
    shop.cloud.settings.brokers.timeout_seconds = 0.5
    store = shop.create("store")
    bound = shop.bind(store, app)
    broker.answers("DELETE binding", answer)
    shop.do("DELETE", f"{PATH}/{bound['guid']}")
    text = f"Service broker failed to delete service binding for instance store: {text}"
    assert shop.failure() == (10009, f"unbind could not be completed: {text}")
    assert last(shop, bound) == ("delete", "failed", text)
    assert refusal(shop, body(store, app)) == "The binding is getting deleted or its deletion failed"
    broker.answers("DELETE binding", Answer(410, {}))
    shop.do("DELETE", f"{PATH}/{bound['guid']}")
    assert shop.job["state"] == "COMPLETE"


def test_a_broker_that_is_busy_with_the_binding(shop: Shop, broker: ScriptedBroker, app: Any) -> None:
    store = shop.create("store")
    bound = shop.bind(store, app)
    broker.answers("DELETE binding", Answer(422, {"error": "ConcurrencyError"}))
    shop.do("DELETE", f"{PATH}/{bound['guid']}")
    assert shop.failure()[1].endswith(
        "The service broker rejected the request due to an operation being in progress for the service binding."
    )
    assert last(shop, bound)[:2] == ("create", "succeeded")


def test_a_platform_that_died_while_it_bound(shop: Shop, cloud: Cloud, broker: ScriptedBroker, app: Any) -> None:
    store = shop.create("store")
    guid = shop.client.post(PATH, body(store, app)).headers["Location"].rpartition("/")[2]
    with cloud.database.write() as tx:
        job = tx.one(jobs.jobs.select().where(jobs.jobs.c.guid == guid))
        assert job is not None
        jobs.progress(tx, guid, {**job.payload, "asked": True})
    finish(cloud)
    (bound,) = shop.client.ok("GET", PATH)["resources"]
    assert bound["last_operation"]["state"] == "failed"
    assert broker.sent("PUT binding") == []
    assert [one.guids[1] for one in broker.sent("DELETE binding")] == [bound["guid"]]


def test_bindings_that_lost_their_job(shop: Shop, cloud: Cloud, broker: ScriptedBroker, app: Any) -> None:
    store = shop.create("store")
    shop.client.post(PATH, body(store, app))
    with cloud.database.write() as tx:
        tx.run(jobs.jobs.delete().where(jobs.jobs.c.operation == "service_bindings.create"))
        past = tx.now - int(cloud.settings.brokers.timeout_seconds * 1.2 * 1_000_000)
        tx.run(update(service_credential_bindings).values(operation_updated_at=past))
    with cloud.database.write() as tx:
        assert service_sweeps.fail_stuck(tx, cloud.settings) == 1
    finish(cloud)
    (bound,) = shop.client.ok("GET", PATH)["resources"]
    assert bound["last_operation"]["state"] == "failed"
    assert [one.guids[1] for one in broker.sent("DELETE binding")] == [bound["guid"]]


def test_who_sees_and_filters(cloud: Cloud, shop: Shop, app: Any) -> None:
    store, theirs = shop.create("store"), shop.user_provided("theirs")
    bound = shop.bind(store, app, name="db", metadata={"labels": {"tier": "gold"}})
    key = shop.key(store, "mine")
    of_theirs = shop.bind(theirs, app)
    everything = {bound["guid"], key["guid"], of_theirs["guid"]}
    queries = {
        "": everything,
        "?type=app": {bound["guid"], of_theirs["guid"]},
        "?type=key": {key["guid"]},
        "?names=db,mine": {bound["guid"], key["guid"]},
        f"?service_instance_guids={theirs['guid']}": {of_theirs["guid"]},
        "?service_instance_names=store": {bound["guid"], key["guid"]},
        f"?app_guids={app['guid']}": {bound["guid"], of_theirs["guid"]},
        "?app_names=web": {bound["guid"], of_theirs["guid"]},
        f"?service_plan_guids={shop.small}": {bound["guid"], key["guid"]},
        "?service_plan_names=small": {bound["guid"], key["guid"]},
        f"?service_offering_guids={shop.offering}": {bound["guid"], key["guid"]},
        "?service_offering_names=db": {bound["guid"], key["guid"]},
        "?label_selector=tier=gold": {bound["guid"]},
        f"?guids={key['guid']}": {key["guid"]},
        "?names=nothing": set(),
    }
    for query, expected in queries.items():
        found = cloud.admin.ok("GET", PATH + query)["resources"]
        assert {one["guid"] for one in found} == expected, query
    included = cloud.admin.ok("GET", f"{PATH}?include=app,service_instance")["included"]
    assert [one["guid"] for one in included["apps"]] == [app["guid"]]
    assert {one["name"] for one in included["service_instances"]} == {"store", "theirs"}

    developer, auditor = (
        cloud.user(organization_user=shop.org, **{role: shop.space}) for role in ("space_developer", "space_auditor")
    )
    stranger = cloud.user()
    assert len(developer.ok("GET", PATH)["resources"]) == 3
    assert len(auditor.ok("GET", PATH)["resources"]) == 3
    assert stranger.ok("GET", PATH)["resources"] == []
    assert details(shop, bound, developer).status_code == 200
    assert details(shop, bound, auditor).status_code == 404
    assert "s3cret" not in cloud.admin.get(PATH).text


def test_quotas_of_keys(cloud: Cloud, shop: Shop) -> None:
    store = shop.create("store")
    quota = {"name": "few", "services": {"total_service_keys": 1}, "relationships": {}}
    organization = cloud.admin.ok(
        "POST",
        "/v3/organization_quotas",
        {**quota, "relationships": {"organizations": {"data": [{"guid": shop.org}]}}},
        201,
    )
    shop.key(store, "one")
    text = "You have exceeded your {}'s limit for service binding of type key."
    assert refusal(shop, body(store, name="two")) == text.format("organization")
    cloud.admin.ok("PATCH", f"/v3/organization_quotas/{organization['guid']}", {"services": {"total_service_keys": 5}})
    related = {
        "organization": {"data": {"guid": shop.org}},
        "spaces": {"data": [{"guid": shop.space}]},
    }
    cloud.admin.ok("POST", "/v3/space_quotas", {**quota, "relationships": related}, 201)
    assert refusal(shop, body(store, name="two")) == text.format("space")
