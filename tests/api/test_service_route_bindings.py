"""Route services over HTTP: bound, shown, refused, and what the router is told."""

from typing import Any

import pytest

from cupola.router.feed import compute
from cupola.router.messages import Route
from tests.api.conftest import Cloud
from tests.api.work import finish
from tests.service_rig import Answer, ScriptedBroker, Shop

PATH = "/v3/service_route_bindings"
URL = "https://guard.example.com/check"
LATER = Answer(200, {"state": "in progress"}, {"Retry-After": "3600"})


@pytest.fixture
def route(cloud: Cloud, shop: Shop, broker: ScriptedBroker) -> Any:
    """A route; the offering is one for routes."""
    shop.change_offering(requires=["route_forwarding"])
    broker.answers("PUT binding", Answer(201, {"route_service_url": URL}))
    return new_route(cloud, shop, "web")


def new_route(cloud: Cloud, shop: Shop, host: str, domain: str = "") -> Any:
    domain = domain or cloud.admin.ok("GET", "/v3/domains")["resources"][0]["guid"]
    related = {"space": {"data": {"guid": shop.space}}, "domain": {"data": {"guid": domain}}}
    return cloud.admin.ok("POST", "/v3/routes", {"host": host, "relationships": related}, 201)


def body(instance: Any, route: Any, **more: Any) -> dict[str, Any]:
    related = {"service_instance": {"data": {"guid": instance["guid"]}}, "route": {"data": {"guid": route["guid"]}}}
    return {"relationships": related, **more}


def bind(shop: Shop, instance: Any, route: Any, **more: Any) -> Any:
    shop.do("POST", PATH, body(instance, route, **more))
    return shop.client.ok("GET", f"{PATH}?route_guids={route['guid']}")["resources"][0]


def refusal(shop: Shop, request: Any, code: int = 10008) -> str:
    status, found, detail = shop.client.problem("POST", PATH, request)
    assert (status, found) == (422, code), detail
    return detail


def told(cloud: Cloud, route: Any) -> Route:
    """What the router knows of a route."""
    with cloud.database.read() as tx:
        table = compute(tx, 1)
    assert table.keys
    return next(one for one in table.routes if one.guid == route["guid"])


def test_a_managed_service_is_put_before_a_route(cloud: Cloud, shop: Shop, broker: ScriptedBroker, route: Any) -> None:
    guard = shop.create("guard")
    bound = bind(shop, guard, route, parameters={"strict": True}, metadata={"labels": {"a": "b"}})
    assert (shop.job["operation"], shop.job["state"]) == ("service_route_bindings.create", "COMPLETE")
    assert set(shop.job["links"]) == {"self", "service_route_binding"}
    api, path = cloud.settings.api_url, f"{PATH}/{bound['guid']}"
    assert bound["route_service_url"] == URL
    assert bound["relationships"] == body(guard, route)["relationships"]
    assert bound["last_operation"]["state"] == "succeeded"
    assert bound["links"] == {
        "self": {"href": api + path},
        "service_instance": {"href": f"{api}/v3/service_instances/{guard['guid']}"},
        "route": {"href": f"{api}/v3/routes/{route['guid']}"},
        "parameters": {"href": f"{api}{path}/parameters"},
    }
    (asked,) = broker.sent("PUT binding")
    assert asked.body["bind_resource"]["route"] == route["url"]
    assert "app_guid" not in asked.body
    assert asked.body["parameters"] == {"strict": True}
    known = told(cloud, route)
    assert (known.route_service, known.route_service_anywhere) == (URL, True)

    assert shop.client.problem("GET", f"{path}/parameters")[0] == 400
    shop.change_offering(bindings_retrievable=True)
    broker.answers("GET binding", Answer(200, {"parameters": {"strict": True}}))
    assert shop.client.ok("GET", f"{path}/parameters") == {"strict": True}

    again = refusal(shop, body(guard, route), 130008)
    assert again == "The route and service instance are already bound."
    other = shop.create("other guard")
    assert refusal(shop, body(other, route)) == "A route may only be bound to a single service instance"
    changed = shop.client.ok("PATCH", path, {"metadata": {"labels": {"a": "c"}}})
    assert changed["metadata"]["labels"] == {"a": "c"}
    shop.do("DELETE", path)
    assert (shop.job["operation"], shop.job["state"]) == ("service_route_bindings.delete", "COMPLETE")
    assert told(cloud, route).route_service == ""
    kind = "audit.service_route_binding"
    assert shop.events(bound) == [f"{kind}.create", f"{kind}.update", f"{kind}.delete"]


def test_a_user_provided_service_is_put_before_a_route(cloud: Cloud, shop: Shop, route: Any) -> None:
    developer = cloud.user(organization_user=shop.org, space_developer=shop.space)
    shop.client = developer
    theirs = shop.user_provided("theirs", route_service_url="https://10.0.0.1/")
    bound = bind(shop, theirs, route)
    assert (shop.job, bound["last_operation"]["state"]) == (None, "succeeded")
    known = told(cloud, route)
    assert (known.route_service, known.route_service_anywhere) == ("https://10.0.0.1/", False)
    cloud.admin.ok("PATCH", f"/v3/service_instances/{theirs['guid']}", {"route_service_url": "https://10.0.0.2/"})
    known = told(cloud, route)
    assert (known.route_service, known.route_service_anywhere) == ("https://10.0.0.2/", True)
    developer.ok("PATCH", f"/v3/service_instances/{theirs['guid']}", {"tags": ["x"]})
    assert told(cloud, route).route_service_anywhere is True
    text = "Bad request: user provided service instances do not support fetching route bindings parameters."
    assert developer.problem("GET", f"{PATH}/{bound['guid']}/parameters") == (400, 1004, text)
    assert developer.delete(f"{PATH}/{bound['guid']}").status_code == 204


def test_what_cannot_be_put_before_a_route(cloud: Cloud, shop: Shop, broker: ScriptedBroker, route: Any) -> None:
    guard = shop.create("guard")
    missing = {"guid": "nowhere"}
    assert refusal(shop, body(missing, route)) == "The service instance could not be found: nowhere"
    assert refusal(shop, body(guard, missing)) == "The route could not be found: nowhere"
    plain = shop.user_provided("plain")
    assert refusal(shop, body(plain, route)) == "This service instance does not support route binding"
    no_parameters = "Binding parameters are not supported for user-provided service instances"
    guarding = shop.user_provided("guarding", route_service_url=URL)
    assert refusal(shop, body(guarding, route, parameters={})) == no_parameters
    shop.change_plan(shop.small, bindable=False)
    assert refusal(shop, body(guard, route)) == "This service instance does not support binding"
    shop.change_plan(shop.small, bindable=True)
    internal = cloud.admin.ok("POST", "/v3/domains", {"name": "inside.example", "internal": True}, 201)["guid"]
    inside = new_route(cloud, shop, "inside", internal)
    assert refusal(shop, body(guard, inside)) == "Route services cannot be bound to internal routes"
    here, shop.space = shop.space, cloud.space(org=shop.org)["guid"]
    elsewhere = new_route(cloud, shop, "elsewhere")
    shop.space = here
    different = "The service instance and the route are in different spaces"
    assert refusal(shop, body(guard, elsewhere)) == different
    cloud.settings.services.route_services = False
    assert refusal(shop, body(guard, route)) == "Support for route services is disabled"
    assert broker.sent("PUT binding") == []


@pytest.mark.parametrize(
    ("answer", "orphan"),
    [
        (Answer(201, {"route_service_url": "http://guard.example.com"}), True),
        (Answer(201, {"route_service_url": "nonsense"}), True),
        (Answer(500, {"description": "no"}), True),
        (Answer(409, {}), False),
        (Answer(202), False),
    ],
    ids=["http", "no address", "500", "409", "not fetchable"],
)
def test_a_broker_that_does_not_guard(
    cloud: Cloud, shop: Shop, broker: ScriptedBroker, route: Any, answer: Answer, orphan: bool
) -> None:
    guard = shop.create("guard")
    broker.answers("PUT binding", answer)
    bound = bind(shop, guard, route)
    assert shop.job["state"] == "FAILED"
    assert bound["last_operation"]["state"] == "failed"
    assert told(cloud, route).route_service == ""
    finish(cloud)
    assert len(broker.sent("DELETE binding")) == orphan
    broker.answers("PUT binding", Answer(201, {"route_service_url": URL}))
    again = bind(shop, guard, route)
    assert again["last_operation"]["state"] == "succeeded"
    assert again["guid"] != bound["guid"]


def test_a_guard_that_comes_later(cloud: Cloud, shop: Shop, broker: ScriptedBroker, route: Any) -> None:
    shop.change_offering(bindings_retrievable=True)
    guard = shop.create("guard")
    broker.answers("PUT binding", Answer(202, {"operation": "r"}))
    broker.answers(
        "GET binding last_operation", Answer(200, {"state": "in progress"}), Answer(200, {"state": "succeeded"})
    )
    broker.answers("GET binding", Answer(200, {"route_service_url": URL}))
    bound = bind(shop, guard, route)
    assert bound["last_operation"]["state"] == "succeeded"
    assert told(cloud, route).route_service == URL
    kind = "audit.service_route_binding"
    assert shop.events(bound) == [f"{kind}.start_create", f"{kind}.create"]
    broker.answers("DELETE binding", Answer(202))
    broker.answers("GET binding last_operation", LATER)
    shop.do("DELETE", f"{PATH}/{bound['guid']}")
    assert told(cloud, route).route_service == URL, "who guards a route does so until it is gone"
    refused = shop.client.problem("PATCH", f"{PATH}/{bound['guid']}", {"metadata": {"labels": {"a": "b"}}})
    assert refused[2] == "The service route binding is being deleted"


def test_a_route_goes_after_its_service(cloud: Cloud, shop: Shop, broker: ScriptedBroker, route: Any) -> None:
    guard = shop.create("guard")
    bind(shop, guard, route)
    shop.do("DELETE", f"/v3/routes/{route['guid']}")
    assert shop.job["state"] == "COMPLETE"
    assert len(broker.sent("DELETE binding")) == 1
    assert cloud.admin.get(f"/v3/routes/{route['guid']}").status_code == 404
    second = new_route(cloud, shop, "second")
    bind(shop, guard, second)
    shop.do("DELETE", f"/v3/spaces/{shop.space}/routes?unmapped=true")
    assert cloud.admin.get(f"/v3/routes/{second['guid']}").status_code == 200, "a bound route is not unused"


def test_who_sees_and_filters(cloud: Cloud, shop: Shop, route: Any) -> None:
    guard, theirs = shop.create("guard"), shop.user_provided("theirs", route_service_url=URL)
    second = new_route(cloud, shop, "second")
    first = bind(shop, guard, route, metadata={"labels": {"tier": "gold"}})
    other = bind(shop, theirs, second)
    both = {first["guid"], other["guid"]}
    queries = {
        "": both,
        f"route_guids={route['guid']}": {first["guid"]},
        f"service_instance_guids={theirs['guid']}": {other["guid"]},
        "service_instance_names=guard": {first["guid"]},
        "label_selector=tier": {first["guid"]},
        f"guids={other['guid']}": {other["guid"]},
    }
    for query, expected in queries.items():
        found = cloud.admin.ok("GET", f"{PATH}?{query}")["resources"]
        assert {one["guid"] for one in found} == expected, query
    included = cloud.admin.ok("GET", f"{PATH}?include=route,service_instance")["included"]
    assert {one["guid"] for one in included["routes"]} == {route["guid"], second["guid"]}
    assert {one["name"] for one in included["service_instances"]} == {"guard", "theirs"}
    auditor = cloud.user(organization_user=shop.org, space_auditor=shop.space)
    assert len(auditor.ok("GET", PATH)["resources"]) == 2
    assert auditor.problem("POST", PATH, body(guard, second))[:2] == (403, 10003)
    assert cloud.user().ok("GET", PATH)["resources"] == []
