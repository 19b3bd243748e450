"""Domains, routes and destinations over HTTP."""

from typing import Any

import pytest

from tests.api.conftest import Cloud


def shared_domain(cloud: Cloud) -> str:
    return str(cloud.admin.ok("GET", "/v3/domains?names=apps.localhost")["resources"][0]["guid"])


def body(space: str, domain: str, **more: Any) -> dict[str, Any]:
    links = {"space": {"data": {"guid": space}}, "domain": {"data": {"guid": domain}}}
    return {"relationships": links, **more}


def test_a_route_is_made_mapped_and_unmapped(cloud: Cloud) -> None:
    app = cloud.app()
    space = app["relationships"]["space"]["data"]["guid"]
    route = cloud.admin.ok("POST", "/v3/routes", body(space, shared_domain(cloud), host="Shop", path="/A"), 201)
    assert route["url"] == "shop.apps.localhost/a"
    path = f"/v3/routes/{route['guid']}/destinations"
    one = {"app": {"guid": app["guid"]}}
    first = cloud.admin.ok("POST", path, {"destinations": [one]})["destinations"]
    again = cloud.admin.ok("POST", path, {"destinations": [one]})["destinations"]
    assert [(d["guid"], d["port"], d["protocol"]) for d in again] == [(first[0]["guid"], 8080, "http1")]
    listed = cloud.admin.ok("GET", f"/v3/apps/{app['guid']}/routes")["resources"]
    assert [found["guid"] for found in listed] == [route["guid"]]
    assert cloud.admin.delete(f"{path}/{first[0]['guid']}").status_code == 204
    assert cloud.admin.ok("GET", path)["destinations"] == []
    types = [
        event["type"] for event in cloud.admin.ok("GET", f"/v3/audit_events?target_guids={app['guid']}")["resources"]
    ]
    assert types[-2:] == ["audit.app.map-route", "audit.app.unmap-route"]


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        ({}, "Missing host. Routes in shared domains must have a host defined."),
        (
            {"host": "a b"},
            'Host must be either "*" or contain only alphanumeric characters, "_", or "-"',
        ),
        ({"host": "x", "path": "y"}, "Path must begin with /"),
        ({"host": "x", "path": "/"}, "Path cannot be exactly /"),
        ({"host": "x", "path": "/?"}, "Path cannot contain ?"),
        ({"host": "x", "port": 80}, "Routes with protocol 'http' do not support ports."),
        ({"host": "taken"}, "Route already exists with host 'taken' for domain 'apps.localhost'."),
    ],
)
def test_what_a_route_may_be(cloud: Cloud, more: dict[str, Any], detail: str) -> None:
    space, domain = cloud.space()["guid"], shared_domain(cloud)
    cloud.admin.ok("POST", "/v3/routes", body(space, domain, host="taken"), 201)
    assert cloud.admin.problem("POST", "/v3/routes", body(space, domain, **more)) == (422, 10008, detail)


def test_a_host_on_a_shared_domain_belongs_to_one_space(cloud: Cloud) -> None:
    domain = shared_domain(cloud)
    cloud.admin.ok("POST", "/v3/routes", body(cloud.space()["guid"], domain, host="shop"), 201)
    refused = cloud.admin.problem("POST", "/v3/routes", body(cloud.space()["guid"], domain, host="shop", path="/x"))
    assert refused[2] == "domain_id and host host_and_domain_taken_different_space"


def test_private_domains_are_for_their_organization(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    owner = {"organization": {"data": {"guid": org}}}
    domain = cloud.admin.ok("POST", "/v3/domains", {"name": "Example.test", "relationships": owner}, 201)
    assert domain["name"] == "example.test"
    taken = cloud.admin.problem("POST", "/v3/domains", {"name": "example.test"})
    assert taken[2] == 'The domain name "example.test" is already in use'
    elsewhere = cloud.space()["guid"]
    refused = cloud.admin.problem("POST", "/v3/routes", body(elsewhere, domain["guid"]))
    assert refused[2].startswith("Invalid domain. Domain 'example.test' is not available in organization")
    manager = cloud.user(organization_manager=org)
    names = {one["name"] for one in manager.ok("GET", "/v3/domains")["resources"]}
    assert names == {"apps.localhost", "apps.internal", "example.test"}
    assert {one["name"] for one in cloud.user().ok("GET", "/v3/domains")["resources"]} == {
        "apps.localhost",
        "apps.internal",
    }
    default = cloud.admin.ok("GET", f"/v3/organizations/{org}/domains/default")
    assert default["name"] == "apps.localhost"


def test_destinations_must_be_apps_of_the_space(cloud: Cloud) -> None:
    route = cloud.admin.ok("POST", "/v3/routes", body(cloud.space()["guid"], shared_domain(cloud), host="x"), 201)
    path = f"/v3/routes/{route['guid']}/destinations"
    stranger = {"destinations": [{"app": {"guid": cloud.app()["guid"]}}]}
    refused = cloud.admin.problem("POST", path, stranger)[2]
    assert refused == "Routes destinations must be in either the route's space or the route's shared spaces"
    nobody = {"destinations": [{"app": {"guid": "nope"}}]}
    assert cloud.admin.problem("POST", path, nobody)[2] == 'App(s) with guid(s) "nope" do not exist.'
    assert "between 1 and 100" in cloud.admin.problem("POST", path, {"destinations": []})[2]


def test_options(cloud: Cloud) -> None:
    options = {"loadbalancing": "least-connection"}
    wanted = body(cloud.space()["guid"], shared_domain(cloud), host="x", options=options)
    route = cloud.admin.ok("POST", "/v3/routes", wanted, 201)
    assert route["options"] == options
    path = f"/v3/routes/{route['guid']}"
    assert cloud.admin.ok("PATCH", path, {"options": {"loadbalancing": None}})["options"] == {}
    refused = cloud.admin.problem("PATCH", path, {"options": {"loadbalancing": "random"}})[2]
    assert refused == "Options Loadbalancing must be one of 'round-robin, least-connection' if present"
