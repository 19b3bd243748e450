"""The `services` of manifests: apps are bound, brokers are waited for, and what cannot be says which app and service."""

from typing import Any

import pytest
import yaml

from tests.api.conftest import Cloud
from tests.api.work import finish
from tests.service_rig import Answer, ScriptedBroker, Shop, run_until

PREFIX = "For application 'web': For service 'store': "


def send(shop: Shop, action: str, services: Any) -> Any:
    """Send a manifest with one app."""
    text = yaml.safe_dump({"applications": [{"name": "web", "services": services}]})
    headers = {"Content-Type": "application/x-yaml"}
    return shop.client.post(f"/v3/spaces/{shop.space}/{action}", content=text.encode(), headers=headers)


def push(shop: Shop, services: Any) -> None:
    """Apply a manifest with one app; `shop.job` is what became of it."""
    answer = send(shop, "actions/apply_manifest", services)
    assert answer.status_code == 202, answer.text
    finish(shop.cloud)
    shop.job = shop.client.ok("GET", answer.headers["Location"].removeprefix(shop.cloud.settings.api_url))


def bindings(shop: Shop) -> list[Any]:
    return list(shop.client.ok("GET", "/v3/service_credential_bindings")["resources"])


def test_apps_are_bound_once(shop: Shop, broker: ScriptedBroker) -> None:
    shop.change_offering(bindings_retrievable=True)
    broker.answers("PUT binding", Answer(202, {"operation": "b"}))
    busy = Answer(200, {"state": "in progress"})
    broker.answers("GET binding last_operation", busy, busy, Answer(200, {"state": "succeeded"}))
    store = shop.create("store")
    shop.user_provided("theirs", credentials={"uri": "http://example.com"})
    wanted = ["theirs", {"name": "store", "parameters": {"role": "reader"}, "binding_name": "db"}]
    push(shop, wanted)
    assert (shop.job["state"], shop.job["errors"]) == ("COMPLETE", [])
    found = bindings(shop)
    assert [(one["name"], one["last_operation"]["state"]) for one in found] == [
        (None, "succeeded"),
        ("db", "succeeded"),
    ]
    (sent,) = broker.sent("PUT binding")
    assert sent.body["parameters"] == {"role": "reader"}
    assert found[1]["relationships"]["service_instance"]["data"]["guid"] == store["guid"]
    assert sent.guids == (store["guid"], found[1]["guid"])
    (event,) = shop.cloud.admin.ok("GET", "/v3/audit_events?types=audit.service_binding.create")["resources"][1:]
    assert event["data"]["manifest_triggered"] is True

    push(shop, wanted)
    assert shop.job["state"] == "COMPLETE"
    assert len(bindings(shop)) == len(found) == len(broker.sent("PUT binding")) + 1

    app = found[0]["relationships"]["app"]["data"]["guid"]
    text = shop.client.get(f"/v3/apps/{app}/manifest").text
    assert yaml.safe_load(text)["applications"][0]["services"] == ["store", "theirs"]
    answer = send(shop, "manifest_diff", wanted)
    assert [one for one in answer.json()["diff"] if "services" in one["path"]] == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(400, {"description": "no such role"}), "Service broker error: no such role"),
        (Answer(202), "The service broker failed to create the binding"),
    ],
)
def test_a_binding_that_fails_fails_the_manifest(shop: Shop, broker: ScriptedBroker, answer: Answer, why: str) -> None:
    shop.change_offering(bindings_retrievable=True)
    shop.create("store")
    broker.answers("PUT binding", answer)
    broker.answers("GET binding last_operation", Answer(200, {"state": "failed", "description": why}))
    push(shop, ["store"])
    assert shop.failure() == (10008, PREFIX + why)
    (binding,) = bindings(shop)
    assert binding["last_operation"]["state"] == "failed"

    broker.answers("PUT binding", Answer(201))
    push(shop, ["store"])
    assert shop.job["state"] == "COMPLETE"
    (again,) = bindings(shop)
    assert again["last_operation"]["state"] == "succeeded"
    assert again["guid"] != binding["guid"]


def test_a_binding_that_takes_too_long_fails_the_manifest(shop: Shop, broker: ScriptedBroker) -> None:
    shop.cloud.settings.services.manifest_binding_seconds = 1.5
    shop.change_offering(bindings_retrievable=True)
    shop.create("store")
    broker.answers("PUT binding", Answer(202))
    broker.answers("GET binding last_operation", Answer(200, {"state": "in progress"}))
    push(shop, ["store"])
    assert shop.failure() == (10008, PREFIX + "Polling exceeded the maximum duration of 1.5 seconds")
    run_until(shop.cloud, lambda: bool(broker.sent("DELETE binding")))
    assert bindings(shop)[0]["last_operation"]["state"] == "failed"


def test_what_cannot_be_bound_is_named(shop: Shop, cloud: Cloud, broker: ScriptedBroker) -> None:
    push(shop, ["nowhere"])
    assert shop.failure() == (10010, "For application 'web': Service instance 'nowhere' not found")
    shop.change_plan(shop.small, bindable=False)
    shop.create("store")
    push(shop, ["store"])
    assert shop.failure() == (10008, PREFIX + "Service plan does not allow bindings")
    assert (bindings(shop), broker.sent("PUT binding")) == ([], [])


def test_shared_instances_are_found(shop: Shop, cloud: Cloud) -> None:
    store = shop.create("store")
    cloud.admin.ok("PATCH", "/v3/feature_flags/service_instance_sharing", {"enabled": True})
    other = cloud.space(org=shop.org)
    body = {"data": [{"guid": other["guid"]}]}
    cloud.admin.ok("POST", f"/v3/service_instances/{store['guid']}/relationships/shared_spaces", body)
    shop.space = other["guid"]
    push(shop, ["store"])
    assert shop.job["state"] == "COMPLETE"
    assert len(bindings(shop)) == 1


@pytest.mark.parametrize("services", [[{"parameters": {}}], "store", [7], [{"name": "store", "parameters": "x"}]])
def test_bad_sections_are_refused(shop: Shop, services: Any) -> None:
    answer = send(shop, "actions/apply_manifest", services)
    assert answer.status_code == 422
    detail = answer.json()["errors"][0]["detail"]
    assert detail == "For application 'web': Services must be a list of service instances"
