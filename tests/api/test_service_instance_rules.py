"""What may be asked of service instances: names, plans, quotas, changes, user-provided ones, who sees what."""

from typing import Any

import pytest

from tests.api.conftest import Cloud
from tests.api.work import finish
from tests.service_rig import Answer, ScriptedBroker, Shop

PATH = "/v3/service_instances"


def of(instance: Any, rest: str = "") -> str:
    return f"{PATH}/{instance['guid']}{rest}"


def plan(guid: str) -> dict[str, Any]:
    return {"relationships": {"service_plan": {"data": {"guid": guid}}}}


def refusal(shop: Shop, method: str, path: str, body: Any) -> str:
    """Why something is refused with 422 and 10008."""
    status, code, detail = shop.client.problem(method, path, body)
    assert (status, code) == (422, 10008), (status, code, detail)
    return detail


# New ones.


def test_names_are_free_or_taken(cloud: Cloud, shop: Shop) -> None:
    store = shop.create("store")
    taken = "The service instance name is taken: store."
    assert refusal(shop, "POST", PATH, shop.body("store")) == taken
    user_provided = {
        "type": "user-provided",
        "name": "store",
        "relationships": {"space": {"data": {"guid": shop.space}}},
    }
    assert refusal(shop, "POST", PATH, user_provided) == taken
    assert shop.user_provided("STORE")["name"] == "STORE"
    other = cloud.space(org=shop.org)
    cloud.admin.ok("PATCH", "/v3/feature_flags/service_instance_sharing", {"enabled": True})
    cloud.admin.ok("POST", of(store, "/relationships/shared_spaces"), {"data": [{"guid": other["guid"]}]})
    shop.space = other["guid"]
    assert refusal(shop, "POST", PATH, shop.body("store")) == taken


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"type": "magic"}, "Type must be one of 'managed', 'user-provided'"),
        ({"name": ""}, "Name can't be blank"),
        ({"name": "x" * 256}, "Name is too long (maximum is 255 characters)"),
        ({"tags": [7]}, "Tags must be a list of strings"),
        ({"tags": ["x" * 2049]}, "Tags must be 2048 characters or less together"),
        ({"parameters": [1]}, "Parameters must be an object"),
        ({"credentials": {}}, "Unknown field(s): 'credentials'"),
    ],
)
def test_bodies_that_are_refused(shop: Shop, broker: ScriptedBroker, change: Any, detail: str) -> None:
    assert detail in refusal(shop, "POST", PATH, {**shop.body("new"), **change})
    assert broker.kinds() == []


def test_places_and_plans_that_cannot_be_used(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    body = shop.body("new")
    invalid_space = "Invalid space. Ensure that the space exists and you have access to it."
    elsewhere = {**body, "relationships": {**body["relationships"], "space": {"data": {"guid": "nowhere"}}}}
    assert refusal(shop, "POST", PATH, elsewhere) == invalid_space
    invalid_plan = "Invalid service plan. Ensure that the service plan exists, is available, and you have access to it."
    assert refusal(shop, "POST", PATH, shop.body("new", "nothing")) == invalid_plan
    shop.change_plan(shop.small, available=False)
    assert "has been removed from the service broker's catalog" in refusal(shop, "POST", PATH, body)
    shop.change_plan(shop.small, available=True, visibility_type="admin")
    developer = cloud.user(organization_user=shop.org, space_developer=shop.space)
    assert developer.problem("POST", PATH, body)[2] == invalid_plan
    shop.change_plan(shop.small, visibility_type="public")
    cloud.admin.ok("PATCH", "/v3/feature_flags/service_instance_creation", {"enabled": False})
    assert developer.problem("POST", PATH, body)[:2] == (403, 330002)
    assert shop.create("by admin")["last_operation"]["state"] == "succeeded"
    cloud.admin.ok("PATCH", "/v3/feature_flags/service_instance_creation", {"enabled": True})
    auditor = cloud.user(organization_user=shop.org, space_auditor=shop.space)
    assert auditor.problem("POST", PATH, body)[:2] == (403, 10003)
    assert cloud.user().problem("POST", PATH, body)[2] == invalid_space
    shop.client = developer
    assert shop.create("mine")["last_operation"]["state"] == "succeeded"


def test_quotas(cloud: Cloud, shop: Shop) -> None:
    path = "/v3/organization_quotas"
    of_org = {"relationships": {"organizations": {"data": [{"guid": shop.org}]}}}
    limits = {"paid_services_allowed": False, "total_service_instances": 1}
    quota = cloud.admin.ok("POST", path, {"name": "few", "services": limits, **of_org}, 201)
    paid = refusal(shop, "POST", PATH, shop.body("paid", shop.large))
    assert paid == "The service instance cannot be created because paid service plans are not allowed."
    store = shop.create("one")
    text = "You have exceeded your {}'s services limit."
    assert refusal(shop, "POST", PATH, shop.body("two")) == text.format("organization")
    assert shop.user_provided()["type"] == "user-provided"
    assert refusal(shop, "PATCH", of(store), plan(shop.large)).endswith("paid service plans are not allowed.")
    cloud.admin.ok("PATCH", f"{path}/{quota['guid']}", {"services": {"total_service_instances": None}})
    related = {"organization": {"data": {"guid": shop.org}}, "spaces": {"data": [{"guid": shop.space}]}}
    body = {"name": "fewer", "services": limits, "relationships": related}
    fewer = cloud.admin.ok("POST", "/v3/space_quotas", body, 201)
    assert refusal(shop, "POST", PATH, shop.body("two")) == text.format("space")
    cloud.admin.ok("PATCH", f"{path}/{quota['guid']}", {"services": {"paid_services_allowed": True}})
    cloud.admin.ok("PATCH", f"/v3/space_quotas/{fewer['guid']}", {"services": {"total_service_instances": None}})
    paid = refusal(shop, "POST", PATH, shop.body("paid", shop.large))
    assert paid == "The service instance cannot be created because paid service plans are not allowed for your space."


# Changes.


def test_a_change_of_plan(shop: Shop, broker: ScriptedBroker) -> None:
    store = shop.create("store", tags=["old"])
    shop.change_plan(shop.large, maintenance_info={"version": "2.0.0", "description": "new"})
    broker.answers("PATCH instance", Answer(200, {"dashboard_url": "https://large.example.com"}))
    asked_for = {**plan(shop.large), "name": "bigger", "tags": ["new"], "parameters": {"size": 9}}
    shop.do("PATCH", of(store), {**asked_for, "metadata": {"labels": {"tier": "gold"}}})
    assert (shop.job["operation"], shop.job["state"]) == ("service_instance.update", "COMPLETE")
    assert set(shop.job["links"]) == {"self", "service_instances"}
    shown = shop.show(store)
    assert (shown["name"], shown["tags"], shown["metadata"]["labels"]) == ("bigger", ["new"], {"tier": "gold"})
    assert shown["relationships"]["service_plan"]["data"]["guid"] == shop.large
    assert (shown["dashboard_url"], shown["maintenance_info"]) == (
        "https://large.example.com",
        {"version": "2.0.0", "description": "new"},
    )
    (asked,) = broker.sent("PATCH instance")
    assert (asked.body["plan_id"], asked.body["parameters"]) == ("plan-large", {"size": 9})
    assert asked.body["previous_values"]["plan_id"] == "plan-small"
    assert asked.body["maintenance_info"] == {"version": "2.0.0"}
    assert asked.body["context"]["instance_name"] == "bigger"
    assert shop.events(store)[-1] == "audit.service_instance.update"


def test_changes_of_which_the_broker_need_not_know(shop: Shop, broker: ScriptedBroker) -> None:
    store = shop.create("store")
    changed = shop.client.ok("PATCH", of(store), {"name": "other", "tags": ["x"], **plan(shop.small)})
    assert (changed["name"], changed["tags"]) == ("other", ["x"])
    assert changed["last_operation"]["type"] == "update"
    assert broker.sent("PATCH instance") == []
    shop.change_offering(allow_context_updates=True)
    shop.do("PATCH", of(store), {"name": "third"})
    assert shop.show(store)["name"] == "third"
    (asked,) = broker.sent("PATCH instance")
    assert asked.body["context"]["instance_name"] == "third"
    shop.client.ok("PATCH", of(store), {"metadata": {"annotations": {"a": "b"}}})
    assert len(broker.sent("PATCH instance")) == 1


def test_an_upgrade(shop: Shop, broker: ScriptedBroker) -> None:
    store = shop.create("store")
    wanted = {"maintenance_info": {"version": "2.0.0"}}
    unsupported = "The service broker does not support upgrades for service instances created from this plan."
    assert refusal(shop, "PATCH", of(store), wanted) == unsupported
    shop.change_plan(shop.small, maintenance_info={"version": "2.0.0"})
    assert shop.show(store)["upgrade_available"] is True
    unknown = {"maintenance_info": {"version": "3.0.0"}}
    assert refusal(shop, "PATCH", of(store), unknown).startswith("maintenance_info.version requested is invalid.")
    assert refusal(shop, "PATCH", of(store), {**wanted, **plan(shop.large)}) == (
        "maintenance_info should not be changed when switching to different plan."
    )
    shop.do("PATCH", of(store), wanted)
    shown = shop.show(store)
    assert (shown["maintenance_info"], shown["upgrade_available"]) == ({"version": "2.0.0"}, False)
    (asked,) = broker.sent("PATCH instance")
    assert asked.body["maintenance_info"] == {"version": "2.0.0"}


def test_changes_that_are_refused(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    store, other = shop.create("store"), shop.create("other")
    assert refusal(shop, "PATCH", of(store), {"name": "other"}) == "The service instance name is taken: other"
    shop.change_plan(shop.small, plan_updateable=False)
    assert refusal(shop, "PATCH", of(store), plan(shop.large)) == "The service does not support changing plans."
    shop.change_plan(shop.small, plan_updateable=True)
    shop.bind(store, cloud.app("web", shop.space))
    shop.change_plan(shop.large, bindable=False)
    assert refusal(shop, "PATCH", of(store), plan(shop.large)) == (
        "The service plan is invalid: cannot switch to non-bindable plan when service bindings exist"
    )
    shop.change_plan(shop.large, bindable=True)
    with cloud.database.write() as tx:
        mine = shop.offering
        shop.offering = shop.add_offering(tx, name="another")
        foreign = shop.add_plan(tx, "foreign")
        shop.offering = mine
    wrong = shop.client.problem("PATCH", of(store), plan(foreign))
    assert (wrong[0], "service plan relates to a different service offering" in wrong[2]) == (400, True)
    shop.change_plan(shop.small, available=False)
    inaccessible = "Cannot update parameters of a service instance that belongs to inaccessible plan"
    assert refusal(shop, "PATCH", of(store), {"parameters": {"a": 1}}) == inaccessible
    assert broker.sent("PATCH instance") == []
    assert other["name"] == "other"
    auditor = cloud.user(organization_user=shop.org, space_auditor=shop.space)
    assert auditor.problem("PATCH", of(store), {"tags": []})[:2] == (403, 10003)
    assert cloud.user().problem("PATCH", of(store), {"tags": []})[:2] == (404, 10010)


def test_what_was_not_made_cannot_be_changed(shop: Shop, broker: ScriptedBroker) -> None:
    broker.answers("PUT instance", Answer(400, {}))
    bad = shop.create("bad")
    assert shop.client.problem("PATCH", of(bad), {"tags": []})[:2] == (404, 60004)
    assert shop.client.problem("GET", of(bad, "/parameters"))[0] == 404
    related = {"service_instance": {"data": {"guid": bad["guid"]}}}
    key = {"type": "key", "name": "k", "relationships": related}
    assert refusal(shop, "POST", "/v3/service_credential_bindings", key) == "Service instance not found"


# User-provided ones.


def test_user_provided_instances(shop: Shop, broker: ScriptedBroker) -> None:
    made = shop.user_provided(
        "theirs",
        credentials={"a": {"b": 1}},
        syslog_drain_url="syslog://example.com",
        route_service_url="https://example.com/x",
        tags=["t"],
        metadata={"labels": {"x": "y"}},
    )
    assert made["last_operation"]["description"] == "Operation succeeded"
    assert (made["type"], made["tags"], made["syslog_drain_url"], made["route_service_url"]) == (
        "user-provided",
        ["t"],
        "syslog://example.com",
        "https://example.com/x",
    )
    assert "dashboard_url" not in made
    assert set(made["relationships"]) == {"space"}
    assert "credentials" not in made
    assert shop.client.ok("GET", of(made, "/credentials")) == {"a": {"b": 1}}
    changed = shop.client.ok("PATCH", of(made), {"name": "ours", "credentials": {}, "route_service_url": None})
    assert (changed["name"], changed["route_service_url"], changed["tags"]) == ("ours", None, ["t"])
    assert shop.client.ok("GET", of(made, "/credentials")) == {}
    assert shop.client.problem("GET", of(made, "/parameters"))[:2] == (400, 120004)
    assert shop.client.delete(of(made)).status_code == 204
    kind = "audit.user_provided_service_instance"
    assert [one for one in shop.events(made) if "show" not in one] == [
        f"{kind}.create",
        f"{kind}.update",
        f"{kind}.delete",
    ]
    assert broker.kinds() == []


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"route_service_url": "http://example.com"}, "Route service url must be https"),
        ({"route_service_url": "https://"}, "Route service url must be a valid URI"),
        ({"syslog_drain_url": "no uri"}, "Syslog drain url must be a valid URI"),
        ({"credentials": [1]}, "Credentials must be an object"),
        ({"parameters": {}}, "Unknown field(s): 'parameters'"),
    ],
)
def test_user_provided_instances_that_are_refused(shop: Shop, change: Any, detail: str) -> None:
    body = {"type": "user-provided", "name": "x", "relationships": {"space": {"data": {"guid": shop.space}}}}
    assert detail in refusal(shop, "POST", PATH, {**body, **change})
    made = shop.user_provided()
    assert detail.partition(": ")[0] in refusal(shop, "PATCH", of(made), change)


# What is shown.


def test_parameters_come_from_the_broker(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> None:
    store = shop.create("store")
    text = "This service does not support fetching service instance parameters."
    assert shop.client.problem("GET", of(store, "/parameters")) == (400, 120004, text)
    shop.change_offering(instances_retrievable=True)
    assert shop.client.ok("GET", of(store, "/parameters")) == {"size": 3}
    broker.answers("GET instance", Answer(200, {}))
    assert shop.client.ok("GET", of(store, "/parameters")) == {}
    broker.answers("GET instance", Answer(500, {"description": "no"}))
    assert shop.client.problem("GET", of(store, "/parameters"))[:2] == (502, 10001)
    cloud.settings.brokers.timeout_seconds = 0.3
    broker.answers("GET instance", Answer(hangs=True))
    assert shop.client.problem("GET", of(store, "/parameters"))[0] == 504
    assert shop.client.problem("GET", of(store, "/credentials"))[0] == 404


def test_who_may_what(cloud: Cloud, shop: Shop) -> None:
    store = shop.create("store")
    people = {
        role: cloud.user(organization_user=shop.org, **{role: shop.space})
        for role in ("space_developer", "space_supporter", "space_auditor", "space_manager")
    }
    people["organization_manager"] = cloud.user(organization_manager=shop.org)
    people["stranger"] = cloud.user()
    found = {name: client.ok("GET", of(store, "/permissions")) for name, client in people.items()}
    reads, manages = {"read": True, "manage": False}, {"read": True, "manage": True}
    assert found == {
        "space_developer": manages,
        "space_supporter": reads,
        "space_auditor": reads,
        "space_manager": reads,
        "organization_manager": reads,
        "stranger": {"read": False, "manage": False},
    }
    assert shop.client.problem("GET", f"{PATH}/nothing/permissions")[0] == 404
    assert people["stranger"].problem("GET", of(store))[0] == 404
    assert people["stranger"].ok("GET", PATH)["resources"] == []


def test_lists_are_filtered(cloud: Cloud, shop: Shop) -> None:
    store = shop.create("store", metadata={"labels": {"tier": "gold"}})
    large = shop.create("large", shop.large)
    theirs = shop.user_provided("theirs")
    everything = {store["guid"], large["guid"], theirs["guid"]}
    queries = {
        "": everything,
        "names=store,theirs": {store["guid"], theirs["guid"]},
        "type=managed": {store["guid"], large["guid"]},
        "type=user-provided": {theirs["guid"]},
        f"space_guids={shop.space}": everything,
        "space_guids=other": set(),
        f"organization_guids={shop.org}": everything,
        f"service_plan_guids={shop.large}": {large["guid"]},
        "service_plan_names=small": {store["guid"]},
        "label_selector=tier": {store["guid"]},
        f"guids={theirs['guid']}": {theirs["guid"]},
    }
    for query, expected in queries.items():
        found = cloud.admin.ok("GET", f"{PATH}?{query}")["resources"]
        assert {one["guid"] for one in found} == expected, query
    assert cloud.admin.problem("GET", f"{PATH}?type=magic")[:2] == (400, 10005)
    names = [one["name"] for one in cloud.admin.ok("GET", f"{PATH}?order_by=-name")["resources"]]
    assert names == ["theirs", "store", "large"]


def test_related_things_are_embedded_by_field(cloud: Cloud, shop: Shop) -> None:
    shop.create("store")
    fields = "&".join(
        [
            "fields[space]=guid,name,relationships.organization",
            "fields[space.organization]=name",
            "fields[service_plan]=name",
            "fields[service_plan.service_offering]=name,tags",
            "fields[service_plan.service_offering.service_broker]=name",
        ]
    )
    included = cloud.admin.ok("GET", f"{PATH}?{fields}")["included"]
    (space,), (organization,) = included["spaces"], included["organizations"]
    assert set(space) == {"guid", "name", "relationships"}
    assert space["relationships"] == {"organization": {"data": {"guid": shop.org}}}
    assert set(organization) == {"name"}
    assert included["service_plans"] == [{"name": "small"}]
    assert included["service_offerings"] == [{"name": "db", "tags": ["sql"]}]
    assert [set(one) for one in included["service_brokers"]] == [{"name"}]
    wrong = cloud.admin.problem("GET", f"{PATH}?fields[service_plan]=nonsense")
    assert wrong[:2] == (400, 10005)


# Usage.


def test_usage_events(cloud: Cloud, shop: Shop) -> None:
    def events() -> list[tuple[str, str, str | None]]:
        found = cloud.admin.ok("GET", "/v3/service_usage_events?per_page=100")["resources"]
        return [(one["state"], one["service_instance"]["name"], one["service_plan"]["name"]) for one in found]

    store = shop.create("store")
    theirs = shop.user_provided("theirs")
    shop.do("PATCH", of(store), {"name": "bigger", **plan(shop.large)})
    shop.client.ok("PATCH", of(theirs), {"tags": ["x"]})
    shop.client.ok("PATCH", of(theirs), {"name": "ours"})
    shop.do("DELETE", of(store))
    assert events() == [
        ("CREATED", "store", "small"),
        ("CREATED", "theirs", None),
        ("UPDATED", "bigger", "large"),
        ("UPDATED", "ours", None),
        ("DELETED", "bigger", "large"),
    ]
    kept = shop.create("kept")
    cloud.admin.ok("POST", "/v3/service_usage_events/actions/destructively_purge_all_and_reseed", None)
    assert events() == [("CREATED", "ours", None), ("CREATED", "kept", "small")]
    shop.do("DELETE", of(kept, "?purge=true"))
    assert events()[-1] == ("DELETED", "kept", "small")
    finish(cloud)
