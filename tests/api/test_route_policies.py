"""Route policies over HTTP: sources, who makes and sees them, what a list includes."""

import uuid
from typing import Any
from urllib.parse import unquote

import pytest

from tests.api.conftest import Client, Cloud
from tests.api.work import finished

_PATH = "/v3/route_policies"


def domain(cloud: Cloud, scope: str = "any", name: str = "guarded.example.test") -> str:
    body = {"name": name, "enforce_route_policies": True, "route_policies_scope": scope}
    return str(cloud.admin.ok("POST", "/v3/domains", body, 201)["guid"])


def route(cloud: Cloud, space: str, on: str, host: str = "shop") -> str:
    links = {"space": {"data": {"guid": space}}, "domain": {"data": {"guid": on}}}
    return str(cloud.admin.ok("POST", "/v3/routes", {"host": host, "relationships": links}, 201)["guid"])


def body(route_guid: str, source: Any, **more: Any) -> dict[str, Any]:
    return {"source": source, "relationships": {"route": {"data": {"guid": route_guid}}}, **more}


def allow(cloud: Cloud, route_guid: str, source: str, **more: Any) -> Any:
    return cloud.admin.ok("POST", _PATH, body(route_guid, source, **more), 201)


def sources(client: Client, query: str = "") -> list[str]:
    return [one["source"] for one in client.ok("GET", f"{_PATH}{query}")["resources"]]


def test_a_policy_is_made_shown_relabelled_and_deleted(cloud: Cloud) -> None:
    app = cloud.app()
    space = app["relationships"]["space"]["data"]["guid"]
    guid = route(cloud, space, domain(cloud))
    answer = cloud.admin.post(_PATH, body(guid, f"cf:app:{app['guid']}", metadata={"labels": {"a": "b"}}))
    assert answer.status_code == 201
    assert unquote(answer.headers["X-Cf-Warnings"]) == (
        f"route policy for source 'cf:app:{app['guid']}' is stored, not enforced by this engine yet"
    )
    made, api = answer.json(), cloud.settings.api_url
    path = f"{_PATH}/{made['guid']}"
    assert made == {
        "guid": made["guid"],
        "created_at": made["created_at"],
        "updated_at": made["updated_at"],
        "source": f"cf:app:{app['guid']}",
        "metadata": {"labels": {"a": "b"}, "annotations": {}},
        "relationships": {
            "route": {"data": {"guid": guid}},
            "app": {"data": {"guid": app["guid"]}},
            "space": {"data": None},
            "organization": {"data": None},
        },
        "links": {
            "self": {"href": api + path},
            "route": {"href": f"{api}/v3/routes/{guid}"},
            "app": {"href": f"{api}/v3/apps/{app['guid']}"},
        },
    }
    assert cloud.admin.ok("GET", path) == made
    changed = cloud.admin.ok("PATCH", path, {"metadata": {"labels": {"a": None}}})
    assert changed["metadata"]["labels"] == {}
    assert cloud.admin.problem("PATCH", path, {"source": "cf:any"})[2] == "Unknown field(s): 'source'"
    assert cloud.admin.delete(path).status_code == 204
    assert cloud.admin.problem("GET", path) == (404, 10010, "Route policy not found")
    events = cloud.admin.ok("GET", f"/v3/audit_events?target_guids={made['guid']}")["resources"]
    assert [event["type"] for event in events] == [
        f"audit.route_policy.{verb}" for verb in ("create", "update", "delete")
    ]
    assert events[0]["data"] == {"request": {"source": made["source"], "route_guid": guid}}
    assert events[0]["target"] == {"guid": made["guid"], "type": "route_policy", "name": made["source"]}
    assert events[0]["space"] == {"guid": space}


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"source": ...}, "Source can't be blank, Source must be a string"),
        ({"source": 5}, "Source must be a string"),
        (
            {"source": "cf:app:x"},
            "Source must be in format 'cf:app:<uuid>', 'cf:space:<uuid>', 'cf:org:<uuid>', or 'cf:any'",
        ),
        (
            {"source": "cf:any "},
            "Source must be in format 'cf:app:<uuid>', 'cf:space:<uuid>', 'cf:org:<uuid>', or 'cf:any'",
        ),
        ({"size": 1}, "Unknown field(s): 'size'"),
        ({"relationships": ...}, "Relationships 'relationships' is not an object"),
    ],
)
def test_bad_bodies(cloud: Cloud, change: dict[str, Any], detail: str) -> None:
    given = {**body(route(cloud, cloud.space()["guid"], domain(cloud)), "cf:any"), **change}
    wanted = {name: value for name, value in given.items() if value is not ...}
    assert cloud.admin.problem("POST", _PATH, wanted) == (422, 10008, detail)


def test_any_stands_alone_and_sources_are_unique(cloud: Cloud) -> None:
    space, on = cloud.space()["guid"], domain(cloud)
    open_, closed = route(cloud, space, on, "open"), route(cloud, space, on, "closed")
    one = f"cf:space:{uuid.uuid4()}"
    allow(cloud, open_, "cf:any")
    allow(cloud, closed, one)
    alone = "source 'cf:any' cannot coexist with other route policies on the same route"
    for guid, source, detail in (
        (open_, one, "source cannot coexist with the existing 'cf:any' policy on this route"),
        (open_, "cf:any", alone),
        (closed, "cf:any", alone),
        (closed, one, f"A route policy with source '{one}' already exists for this route."),
    ):
        assert cloud.admin.problem("POST", _PATH, body(guid, source)) == (422, 10008, detail)


def test_only_routes_of_enforcing_domains_have_policies(cloud: Cloud) -> None:
    space = cloud.space()["guid"]
    found = {one["name"]: one["guid"] for one in cloud.admin.ok("GET", "/v3/domains")["resources"]}
    plain, internal = (route(cloud, space, found[name], "x") for name in ("apps.localhost", "apps.internal"))
    org = f"cf:org:{uuid.uuid4()}"
    assert cloud.admin.problem("POST", _PATH, body(plain, "cf:any"))[2] == (
        f"Cannot create route policies for route '{plain}': "
        "the route's domain does not have enforce_route_policies enabled."
    )
    assert cloud.admin.problem("POST", _PATH, body(internal, "cf:any"))[2] == (
        "Cannot create route policies for routes on internal domains. "
        "Internal routes use container-to-container networking and bypass GoRouter."
    )
    narrow = route(cloud, space, domain(cloud, "space"))
    assert cloud.admin.problem("POST", _PATH, body(narrow, org))[2] == (
        f"Source '{org}' is not allowed: domain's route_policies_scope is 'space'."
    )
    allow(cloud, narrow, f"cf:space:{uuid.uuid4()}")
    allow(cloud, route(cloud, space, domain(cloud, "org", "wide.example.test")), org)


def test_who_sees_and_who_makes_policies(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    guid = route(cloud, space, domain(cloud))
    app, more = (f"cf:app:{uuid.uuid4()}" for _ in range(2))
    path = f"{_PATH}/{allow(cloud, guid, app)['guid']}"
    for blind in (
        cloud.user(),
        cloud.user(organization_user=org),
        cloud.user(organization_billing_manager=org),
    ):
        assert sources(blind) == []
        assert blind.problem("GET", path)[:2] == (404, 10010)
        assert blind.problem("POST", _PATH, body(guid, more)) == (404, 10010, "Route not found")
    auditor = cloud.user(organization_auditor=org)
    assert sources(auditor) == [app]
    assert auditor.problem("POST", _PATH, body(guid, more))[:2] == (404, 10010)
    for reader in (
        cloud.user(organization_manager=org),
        cloud.user(space_supporter=space, organization_user=org),
        cloud.user(space_auditor=space, organization_user=org),
    ):
        assert sources(reader) == [app]
        assert reader.problem("POST", _PATH, body(guid, more))[:2] == (403, 10003)
        assert reader.problem("PATCH", path, {})[:2] == (403, 10003)
        assert reader.problem("DELETE", path)[:2] == (403, 10003)
    developer = cloud.user(space_developer=space, organization_user=org)
    own = developer.ok("POST", _PATH, body(guid, more), 201)["guid"]
    assert developer.patch(path, {"metadata": {"labels": {"a": "b"}}}).status_code == 200
    assert developer.delete(f"{_PATH}/{own}").status_code == 204
    cloud.admin.ok("PATCH", f"/v3/organizations/{org}", {"suspended": True})
    assert developer.problem("DELETE", path)[:2] == (403, 10017)


def test_lists_are_filtered(cloud: Cloud) -> None:
    space, other, on = cloud.space()["guid"], cloud.space()["guid"], domain(cloud)
    first, second = route(cloud, space, on, "a"), route(cloud, other, on, "b")
    guid = str(uuid.uuid4())
    app = f"cf:app:{guid}"
    allow(cloud, first, app, metadata={"labels": {"env": "prod"}})
    allow(cloud, second, "cf:any")
    assert sources(cloud.admin, f"?route_guids={first}") == [app]
    assert sources(cloud.admin, f"?space_guids={other}") == ["cf:any"]
    assert sources(cloud.admin, f"?source_guids={guid}") == [app]
    assert sources(cloud.admin, f"?sources={app},cf:any") == [app, "cf:any"]
    assert sources(cloud.admin, "?label_selector=env") == [app]
    assert sources(cloud.admin, "?order_by=-created_at") == ["cf:any", app]
    bad = "The query parameter is invalid: Sources contains invalid source format: app:x, nope"
    assert cloud.admin.problem("GET", f"{_PATH}?sources=cf:any,app:x,nope") == (400, 10005, bad)
    include = "The query parameter is invalid: Invalid included resource: 'x'. Valid included resources are: 'source', 'route'"
    assert cloud.admin.problem("GET", f"{_PATH}?include=x") == (400, 10005, include)


def test_sources_and_routes_are_included_as_far_as_they_are_seen(cloud: Cloud) -> None:
    org = cloud.org("acme")["guid"]
    space = cloud.space("dev", org)["guid"]
    app, foreign = cloud.app("shop", space)["guid"], cloud.app("foreign")["guid"]
    guid = route(cloud, space, domain(cloud))
    made = [allow(cloud, guid, source) for source in (f"cf:app:{app}", f"cf:app:{foreign}", f"cf:space:{space}")]
    made += [allow(cloud, guid, source) for source in (f"cf:org:{org}", f"cf:space:{uuid.uuid4()}")]
    seen = cloud.admin.ok("GET", f"{_PATH}?include=source,route")["included"]
    assert {key: [one.get("name") for one in found] for key, found in seen.items() if key != "routes"} == {
        "apps": ["shop", "foreign"],
        "spaces": ["dev"],
        "organizations": ["acme"],
    }
    assert [one["guid"] for one in seen["routes"]] == [guid]
    developer = cloud.user(space_developer=space, organization_user=org)
    assert [one["name"] for one in developer.ok("GET", f"{_PATH}?include=source")["included"]["apps"]] == ["shop"]
    one = developer.ok("GET", f"{_PATH}/{made[0]['guid']}?include=source")["included"]
    assert {key: len(found) for key, found in one.items()} == {"apps": 1, "spaces": 0, "organizations": 0}
    assert developer.problem("GET", f"{_PATH}/{made[0]['guid']}?include=x")[:2] == (422, 10008)
    with_policies = developer.ok("GET", f"/v3/routes/{guid}?include=route_policies")["included"]["route_policies"]
    assert with_policies == made
    listed = developer.ok("GET", "/v3/routes?include=route_policies,domain")["included"]
    assert [one["guid"] for one in listed["route_policies"]] == [one["guid"] for one in made]
    assert [one["name"] for one in listed["domains"]] == ["guarded.example.test"]


def test_policies_go_with_their_route_and_outlive_their_source(cloud: Cloud) -> None:
    space, app = cloud.space()["guid"], cloud.app()["guid"]
    guid = route(cloud, space, domain(cloud))
    allow(cloud, guid, f"cf:app:{app}", metadata={"labels": {"a": "b"}})
    assert finished(cloud, cloud.admin, "DELETE", f"/v3/apps/{app}")["state"] == "COMPLETE"
    assert sources(cloud.admin) == [f"cf:app:{app}"]
    assert cloud.admin.ok("GET", f"{_PATH}?include=source")["included"]["apps"] == []
    assert finished(cloud, cloud.admin, "DELETE", f"/v3/routes/{guid}")["state"] == "COMPLETE"
    assert sources(cloud.admin) == sources(cloud.admin, "?label_selector=a") == []
