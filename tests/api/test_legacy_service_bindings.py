"""Service bindings as old clients ask for them: another form of credential bindings, with a warning."""

from typing import Any
from urllib.parse import unquote

from tests.api.conftest import Cloud
from tests.service_rig import Answer, ScriptedBroker, Shop

PATH = "/v3/service_bindings"


def body(instance: Any, app: Any, **more: Any) -> dict[str, Any]:
    related = {"service_instance": {"data": {"guid": instance["guid"]}}, "app": {"data": {"guid": app["guid"]}}}
    return {"type": "app", "relationships": related, **more}


def test_old_clients_bind_apps(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    store, theirs = shop.create("store"), shop.user_provided("theirs", credentials={"a": 1})
    app = cloud.app("web", shop.space)
    answer = cloud.admin.post(PATH, body(theirs, app))
    assert answer.status_code == 201
    assert "deprecated" in unquote(answer.headers["X-Cf-Warnings"])
    made = answer.json()
    assert (made["type"], made["data"]["credentials"]) == ("app", {"a": 1})
    shop.bind(store, app)
    listed = cloud.admin.get(PATH)
    assert "deprecated" in unquote(listed.headers["X-Cf-Warnings"])
    assert len(listed.json()["resources"]) == 2
    assert "s3cret" not in listed.text
    assert {one["data"]["credentials"]["redacted_message"] for one in listed.json()["resources"]} == {
        "[PRIVATE DATA HIDDEN IN LISTS]"
    }
    only = cloud.admin.ok("GET", f"{PATH}?service_instance_guids={theirs['guid']}&app_guids={app['guid']}")["resources"]
    assert [one["guid"] for one in only] == [made["guid"]]
    auditor = cloud.user(organization_user=shop.org, space_auditor=shop.space)
    hidden = auditor.ok("GET", f"{PATH}/{made['guid']}")["data"]["credentials"]
    assert hidden == {"redacted_message": "[PRIVATE DATA HIDDEN]"}
    shop.key(store)
    assert len(cloud.admin.ok("GET", PATH)["resources"]) == 2, "keys are none of these"
    assert cloud.admin.delete(f"{PATH}/{made['guid']}").status_code == 204
    assert cloud.admin.get(f"{PATH}/{made['guid']}").status_code == 404


def test_what_old_clients_are_refused(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    store = shop.create("store")
    app = cloud.app("web", shop.space)
    shop.bind(store, app)
    again = cloud.admin.problem("POST", PATH, body(store, app))
    assert again == (422, 10008, "The app is already bound to the service instance")
    assert cloud.admin.problem("POST", PATH, {**body(store, app), "type": "key"})[:2] == (422, 10008)
    assert cloud.user().problem("POST", PATH, body(store, app))[:2] == (422, 10008)
    broker.answers("DELETE binding", Answer(500, {"description": "no"}))
    (bound,) = cloud.admin.ok("GET", PATH)["resources"]
    auditor = cloud.user(organization_user=shop.org, space_auditor=shop.space)
    assert auditor.problem("DELETE", f"{PATH}/{bound['guid']}")[:2] == (403, 10003)
