"""Deletion with services inside: instances, apps, routes, spaces, organizations; one after the other, and what stays."""

from typing import Any

import pytest

from tests.api.conftest import Cloud
from tests.service_rig import Answer, ScriptedBroker, Shop, run_until

PATH = "/v3/service_instances"
LATER = Answer(200, {"state": "in progress"}, {"Retry-After": "3600"})


def gone(cloud: Cloud, path: str) -> bool:
    return bool(cloud.admin.get(path).status_code == 404)


def of(instance: Any) -> str:
    return f"{PATH}/{instance['guid']}"


def test_an_instance_goes_after_what_is_bound_to_it(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    store = shop.create("store")
    bound, key = shop.bind(store, cloud.app("web", shop.space)), shop.key(store)
    shop.do("DELETE", of(store))
    assert (shop.job["operation"], shop.job["state"]) == ("service_instance.delete", "COMPLETE")
    assert broker.kinds()[-3:] == ["DELETE binding", "DELETE binding", "DELETE instance"]
    assert [one.guids[1] for one in broker.sent("DELETE binding")] == [bound["guid"], key["guid"]]
    assert gone(cloud, of(store))
    assert shop.events(key)[-1] == "audit.service_key.delete"
    (asked,) = broker.sent("DELETE instance")
    assert (asked.query["plan_id"], asked.query["accepts_incomplete"]) == ("plan-small", "true")


def test_an_instance_stays_while_a_binding_stays(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    store = shop.create("store")
    bound = shop.bind(store, cloud.app("web", shop.space))
    broker.answers("DELETE binding", Answer(500, {"description": "no"}))
    shop.do("DELETE", of(store))
    text = "Service broker failed to delete service binding for instance store: Service broker error: no"
    assert shop.failure()[1].endswith(text)
    assert shop.show(store)["last_operation"]["state"] == "failed"
    assert broker.sent("DELETE instance") == []
    broker.answers("DELETE binding", Answer(202))
    broker.answers("GET binding last_operation", LATER)
    shop.do("DELETE", of(store))
    busy = "An operation for the service binding between app web and service instance store is in progress."
    assert busy in shop.failure()[1]
    path = f"/v3/service_credential_bindings/{bound['guid']}"
    assert cloud.admin.ok("GET", path)["last_operation"]["state"] == "in progress"


def test_purging_asks_no_broker(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    store = shop.create("store")
    bound = shop.bind(store, cloud.app("web", shop.space))
    broker.reset()
    developer = cloud.user(organization_user=shop.org, space_developer=shop.space)
    assert developer.problem("DELETE", f"{of(store)}?purge=true")[:2] == (403, 10003)
    assert cloud.admin.delete(f"{of(store)}?purge=true").status_code == 204
    assert broker.kinds() == []
    assert gone(cloud, of(store))
    assert gone(cloud, f"/v3/service_credential_bindings/{bound['guid']}")
    assert shop.events(store)[-1] == "audit.service_instance.purge"


def test_an_app_goes_after_its_bindings(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    store, theirs = shop.create("store"), shop.user_provided("theirs")
    app = cloud.app("web", shop.space)
    shop.bind(store, app)
    shop.bind(theirs, app)
    broker.answers("DELETE binding", Answer(500, {"description": "no"}), Answer(200))
    shop.do("DELETE", f"/v3/apps/{app['guid']}")
    code, detail = shop.failure()
    assert "Service broker failed to delete service binding for instance store: Service broker error: no" in detail, (
        code
    )
    assert not gone(cloud, f"/v3/apps/{app['guid']}")
    shop.do("DELETE", f"/v3/apps/{app['guid']}")
    assert shop.job["state"] == "COMPLETE"
    assert gone(cloud, f"/v3/apps/{app['guid']}")
    assert cloud.admin.ok("GET", "/v3/service_credential_bindings")["resources"] == []
    assert not gone(cloud, of(store))


def test_an_app_waits_for_no_binding_that_goes_slowly(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    store, app = shop.create("store"), cloud.app("web", shop.space)
    shop.bind(store, app)
    broker.answers("DELETE binding", Answer(202))
    broker.answers("GET binding last_operation", LATER)
    shop.do("DELETE", f"/v3/apps/{app['guid']}")
    assert (
        "An operation for the service binding between app web and service instance store is in progress."
        in (shop.failure()[1])
    )
    assert not gone(cloud, f"/v3/apps/{app['guid']}")
    broker.answers("GET binding last_operation", Answer(410, {}))


def test_a_space_goes_with_its_services(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    store = shop.create("store")
    shop.user_provided("theirs")
    shop.bind(store, cloud.app("web", shop.space))
    shop.key(store)
    shop.do("DELETE", f"/v3/spaces/{shop.space}")
    assert (shop.job["operation"], shop.job["state"]) == ("space.delete", "COMPLETE")
    assert gone(cloud, f"/v3/spaces/{shop.space}")
    assert sorted(broker.kinds()[-3:]) == ["DELETE binding", "DELETE binding", "DELETE instance"]
    assert cloud.admin.ok("GET", PATH)["resources"] == []


def test_a_space_stays_when_its_services_stay(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    store, other = shop.create("store"), shop.create("other")
    app = cloud.app("web", shop.space)
    space = cloud.admin.ok("GET", f"/v3/spaces/{shop.space}")["name"]
    broker.answers("DELETE instance", Answer(500, {"description": "no"}))
    shop.do("DELETE", f"/v3/spaces/{shop.space}")
    code, detail = shop.failure()
    assert code == 290008
    assert detail.startswith(
        f"Deletion of space {space} failed because one or more resources within could not be deleted."
    )
    for name in ("store", "other"):
        assert f"\tService instance {name}: Service broker error: no" in detail
    assert not gone(cloud, f"/v3/apps/{app['guid']}")
    assert not gone(cloud, f"/v3/spaces/{shop.space}")
    assert shop.show(store)["last_operation"]["state"] == shop.show(other)["last_operation"]["state"] == "failed"

    broker.answers("DELETE instance", Answer(202))
    broker.answers("GET instance last_operation", LATER)
    shop.do("DELETE", f"/v3/spaces/{shop.space}")
    assert "An operation for service instance store is in progress." in shop.failure()[1]
    assert shop.show(store)["last_operation"]["state"] == "in progress"
    broker.answers("GET instance last_operation", Answer(410, {}))


def test_an_organization_says_which_of_its_spaces_stay(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    shop.create("store")
    org, space = (
        cloud.admin.ok("GET", f"/v3/{kind}/{guid}")["name"]
        for kind, guid in (("organizations", shop.org), ("spaces", shop.space))
    )
    broker.answers("DELETE instance", Answer(500, {"description": "no"}), Answer(200))
    shop.do("DELETE", f"/v3/organizations/{shop.org}")
    code, detail = shop.failure()
    assert code == 290010
    assert detail.startswith(f"Deletion of organization {org} failed because one or more resources within")
    assert f"Deletion of space {space} failed because one or more resources within could not be deleted." in detail
    assert "Service instance store: Service broker error: no" in detail
    assert not gone(cloud, f"/v3/organizations/{shop.org}")
    shop.do("DELETE", f"/v3/organizations/{shop.org}")
    assert shop.job["state"] == "COMPLETE"
    assert gone(cloud, f"/v3/organizations/{shop.org}")


def test_a_deletion_goes_on_after_the_platform_died(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    first, second = shop.create("first"), shop.create("second")
    broker.answers("DELETE instance", Answer(200), Answer(hangs=True))
    location = cloud.admin.delete(f"/v3/spaces/{shop.space}").headers["Location"]
    run_until(cloud, lambda: len(broker.sent("DELETE instance")) == 2)
    broker.answers("DELETE instance", Answer(410, {}))
    shop.do("DELETE", f"/v3/spaces/{shop.space}")
    job = cloud.admin.ok("GET", location.removeprefix(cloud.settings.api_url))
    assert job["state"] == "COMPLETE"
    deleted = [one.guids[0] for one in broker.sent("DELETE instance")]
    assert deleted == [first["guid"], second["guid"], second["guid"]]


@pytest.mark.parametrize("kind", ["spaces", "organizations"])
def test_spaces_without_managed_services_wait_for_no_broker(
    cloud: Cloud, shop: Shop, broker: ScriptedBroker, kind: str
) -> None:
    shop.bind(shop.user_provided("theirs"), cloud.app("web", shop.space))
    shop.do("DELETE", f"/v3/{kind}/{shop.space if kind == 'spaces' else shop.org}")
    assert shop.job["state"] == "COMPLETE"
    assert broker.kinds() == []
