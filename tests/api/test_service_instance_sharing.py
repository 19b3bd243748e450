"""Service instances in several spaces: who may share, what people of the other space may, what ends with it."""

from typing import Any

import pytest

from tests.api.conftest import Client, Cloud
from tests.service_rig import Answer, ScriptedBroker, Shop

PATH = "/v3/service_instances"


@pytest.fixture
def other(cloud: Cloud, shop: Shop) -> Any:
    """Another space; the flag is on."""
    cloud.admin.ok("PATCH", "/v3/feature_flags/service_instance_sharing", {"enabled": True})
    return cloud.space(org=shop.org)


def shared(instance: Any) -> str:
    return f"{PATH}/{instance['guid']}/relationships/shared_spaces"


def to(*spaces: Any) -> dict[str, Any]:
    return {"data": [{"guid": space["guid"]} for space in spaces]}


def developer(cloud: Cloud, shop: Shop, *spaces: str) -> Client:
    user = cloud.user(organization_user=shop.org, space_developer=spaces[0])
    assert user.actor is not None
    for space in spaces[1:]:
        links = {"user": {"data": {"guid": user.actor.guid}}, "space": {"data": {"guid": space}}}
        cloud.admin.ok("POST", "/v3/roles", {"type": "space_developer", "relationships": links}, 201)
    return user


def test_an_instance_is_shared_used_and_unshared(cloud: Cloud, shop: Shop, broker: ScriptedBroker, other: Any) -> None:
    store = shop.create("store")
    answer = cloud.admin.ok("POST", shared(store), to(other))
    api = cloud.settings.api_url
    assert answer == {"data": [{"guid": other["guid"]}], "links": {"self": {"href": api + shared(store)}}}
    assert cloud.admin.ok("GET", shared(store))["data"] == answer["data"]
    with_names = cloud.admin.ok("GET", f"{shared(store)}?fields[space]=name,guid&fields[space.organization]=name")[
        "included"
    ]
    assert with_names["spaces"] == [{"name": other["name"], "guid": other["guid"]}]

    there = developer(cloud, shop, other["guid"])
    assert [one["guid"] for one in there.ok("GET", PATH)["resources"]] == [store["guid"]]
    assert there.ok("GET", f"{PATH}/{store['guid']}/permissions") == {"read": True, "manage": False}
    assert there.problem("PATCH", f"{PATH}/{store['guid']}", {"tags": ["x"]})[:2] == (403, 10003)
    assert there.problem("DELETE", f"{PATH}/{store['guid']}")[:2] == (403, 10003)
    app = cloud.app("web", other["guid"])
    shop.client = there
    bound = shop.bind(store, app)
    assert bound["last_operation"]["state"] == "succeeded"
    (asked,) = broker.sent("PUT binding")
    assert asked.body["context"]["space_guid"] == shop.space
    assert asked.body["bind_resource"]["space_guid"] == other["guid"]
    environment = there.ok("GET", f"/v3/apps/{app['guid']}/env")["system_env_json"]["VCAP_SERVICES"]
    assert environment["db"][0]["instance_guid"] == store["guid"]
    related = {"service_instance": {"data": {"guid": store["guid"]}}}
    key = {"type": "key", "name": "k", "relationships": related}
    assert there.problem("POST", "/v3/service_credential_bindings", key)[:2] == (403, 10003)
    summary = cloud.admin.ok("GET", f"{shared(store)}/usage_summary")
    assert summary["usage_summary"] == [{"space": {"guid": other["guid"]}, "bound_app_count": 1}]

    shop.client = cloud.admin
    refused = cloud.admin.problem("PATCH", f"{PATH}/{store['guid']}", {"name": "new"})
    assert refused[2] == "Service instances that have been shared cannot be renamed"
    cloud.admin.ok("DELETE", f"{shared(store)}/{other['guid']}", None, 204)
    assert [one.guids for one in broker.sent("DELETE binding")] == [(store["guid"], bound["guid"])]
    assert there.ok("GET", PATH)["resources"] == []
    assert there.ok("GET", "/v3/service_credential_bindings")["resources"] == []
    assert shop.events(store) == [
        "audit.service_instance.create",
        "audit.service_instance.share",
        "audit.service_instance.unshare",
    ]
    missing = "Unable to unshare service instance from space nowhere. Ensure the space exists."
    assert cloud.admin.problem("DELETE", f"{shared(store)}/nowhere") == (422, 10008, missing)


def test_what_cannot_be_shared(cloud: Cloud, shop: Shop, other: Any) -> None:
    def refused(instance: Any, body: Any, client: Client | None = None) -> str:
        status, code, detail = (client or cloud.admin).problem("POST", shared(instance), body)
        assert (status, code) == (422, 10008), detail
        return detail

    store, theirs = shop.create("store"), shop.user_provided("theirs")
    assert refused(theirs, to(other)) == "User-provided services cannot be shared."
    assert refused(store, to({"guid": shop.space})) == (
        f"Unable to share service instance 'store' with space '{shop.space}'. "
        "Service instances cannot be shared into the space where they were created."
    )
    assert refused(store, {"data": [{"guid": "g1"}, {"guid": "g2"}]}) == (
        "Unable to share service instance store with spaces ['g1', 'g2']. "
        "Ensure the spaces exist and that you have access to them."
    )
    here = developer(cloud, shop, shop.space)
    assert "Ensure the spaces exist and that you have access to them." in refused(store, to(other), here)
    shop.change_offering(shareable=False)
    assert refused(store, to(other)) == "The db service does not support service instance sharing."
    shop.change_offering(shareable=True, requires=["route_forwarding"])
    assert refused(store, to(other)) == "Route services cannot be shared."
    shop.change_offering(requires=[])
    shop.change_plan(shop.small, visibility_type="admin")
    both = developer(cloud, shop, shop.space, other["guid"])
    assert refused(store, to(other), both).startswith("Access to service db and plan small is not enabled in ")
    shop.change_plan(shop.small, visibility_type="public", available=False)
    assert refused(store, to(other)).endswith("could not be shared as the small plan is inactive.")
    shop.change_plan(shop.small, available=True)
    space = shop.space
    shop.space = other["guid"]
    shop.user_provided("store")
    assert refused(store, to(other)) == f"A service instance called store already exists in {other['name']}."
    third = cloud.space(org=shop.org)
    cloud.admin.ok("POST", shared(store), to(third))
    assert refused(store, to(third)).endswith(f"store has already been shared with {third['name']}.")
    cloud.admin.ok("PATCH", "/v3/feature_flags/service_instance_sharing", {"enabled": False})
    shop.space = space
    assert cloud.admin.problem("POST", shared(store), to(third))[:2] == (403, 330002)


def test_sharing_waits_for_the_broker(cloud: Cloud, shop: Shop, broker: ScriptedBroker, other: Any) -> None:
    broker.answers("PUT instance", Answer(202))
    broker.answers("GET instance last_operation", Answer(200, {"state": "in progress"}, {"Retry-After": "3600"}))
    store = shop.create("store")
    assert cloud.admin.problem("POST", shared(store), to(other))[2] == (
        "Service instance is currently being created. It can be shared after its creation succeeded."
    )
    broker.answers("DELETE instance", Answer(202))
    shop.do("DELETE", f"{PATH}/{store['guid']}")
    assert cloud.admin.problem("POST", shared(store), to(other))[2] == "The service instance is getting deleted."


def test_a_share_does_not_end_while_a_binding_stays(
    cloud: Cloud, shop: Shop, broker: ScriptedBroker, other: Any
) -> None:
    store = shop.create("store")
    cloud.admin.ok("POST", shared(store), to(other))
    bound = shop.bind(store, cloud.app("web", other["guid"]))
    broker.answers("DELETE binding", Answer(500, {"description": "no"}))
    status, code, detail = cloud.admin.problem("DELETE", f"{shared(store)}/{other['guid']}")
    assert (status, code) == (502, 390001)
    assert detail.startswith("Unshare of service instance failed: ")
    assert "no" in detail
    assert cloud.admin.ok("GET", shared(store))["data"] == [{"guid": other["guid"]}]
    shown = cloud.admin.ok("GET", f"/v3/service_credential_bindings/{bound['guid']}")
    assert shown["last_operation"]["type"] in {"create", "delete"}
    broker.answers("DELETE binding", Answer(200))
    cloud.admin.ok("DELETE", f"{shared(store)}/{other['guid']}", None, 204)


def test_a_shared_instance_goes_with_its_shares(cloud: Cloud, shop: Shop, broker: ScriptedBroker, other: Any) -> None:
    store = shop.create("store")
    cloud.admin.ok("POST", shared(store), to(other))
    bound = shop.bind(store, cloud.app("web", other["guid"]))
    shop.do("DELETE", f"{PATH}/{store['guid']}")
    assert shop.job["state"] == "COMPLETE"
    assert broker.kinds()[-2:] == ["DELETE binding", "DELETE instance"]
    assert shop.events(store)[-2:] == ["audit.service_instance.unshare", "audit.service_instance.delete"]
    assert shop.events(bound)[-1] == "audit.service_binding.delete"
