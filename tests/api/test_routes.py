"""Routes and destinations over HTTP."""

from typing import Any
from urllib.parse import unquote

import msgspec
import pytest

from tests.api.conftest import Client, Cloud
from tests.api.work import finished


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
        (
            {"host": "Taken", "path": "/Cart"},
            "Route already exists with host 'taken' and path '/cart' for domain 'apps.localhost'.",
        ),
    ],
)
def test_what_a_route_may_be(cloud: Cloud, more: dict[str, Any], detail: str) -> None:
    space, domain = cloud.space()["guid"], shared_domain(cloud)
    for path in ("", "/cart"):
        cloud.admin.ok("POST", "/v3/routes", body(space, domain, host="taken", path=path), 201)
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


def test_options_that_are_no_options(cloud: Cloud) -> None:
    wanted = body(cloud.space()["guid"], shared_domain(cloud), host="x")
    for options, detail in (
        (None, "Options 'options' is not a valid object"),
        ([], "Options 'options' is not a valid object"),
        ({"sticky": True}, "Options Unknown field(s): 'sticky'"),
        ({"hash_header": "X"}, "Options Unknown field(s): 'hash_header'"),
        ({"loadbalancing": 1}, "Options Loadbalancing must be one of 'round-robin, least-connection' if present"),
        ({"loadbalancing": "hash"}, "Options Loadbalancing must be one of 'round-robin, least-connection' if present"),
    ):
        assert cloud.admin.problem("POST", "/v3/routes", {**wanted, "options": options}) == (422, 10008, detail)
    large = {"loadbalancing": "x" * 1100}
    refused = cloud.admin.problem("POST", "/v3/routes", {**wanted, "options": large})[2]
    assert refused.startswith("Options must be smaller than 1024 bytes (actual size is 11")


def test_hash_based_routing_has_options_of_its_own(cloud: Cloud) -> None:
    cloud.admin.ok("PATCH", "/v3/feature_flags/hash_based_routing", {"enabled": True})
    wanted = body(cloud.space()["guid"], shared_domain(cloud), host="x")
    for options, detail in (
        ({"loadbalancing": "hash"}, "Hash header must be present when loadbalancing is set to hash."),
        ({"hash_header": "x" * 129}, "Options Hash header must be at most 128 characters"),
        ({"hash_header": 5}, "Options Hash header must be a string"),
        ({"hash_balance": "much"}, "Options Hash balance must be a numeric value"),
        ({"hash_balance": [1]}, "Options Hash balance must be a numeric value"),
        ({"hash_balance": "1.00000000000000000"}, "Options Hash balance must be at most 16 characters"),
        ({"hash_balance": 1}, "Options Hash balance must be either 0 or between 1.1 and 10.0"),
        ({"hash_balance": "nan"}, "Options Hash balance must be either 0 or between 1.1 and 10.0"),
        (
            {"loadbalancing": "round-robin", "hash_header": "X", "hash_balance": 2},
            (
                "Options Hash header can only be set when loadbalancing is hash, "
                "Options Hash balance can only be set when loadbalancing is hash"
            ),
        ),
        (
            {"loadbalancing": "x"},
            "Options Loadbalancing must be one of 'round-robin, least-connection, hash' if present",
        ),
    ):
        assert cloud.admin.problem("POST", "/v3/routes", {**wanted, "options": options}) == (422, 10008, detail)
    options = {"loadbalancing": "hash", "hash_header": "X-User", "hash_balance": 1.25}
    route = cloud.admin.ok("POST", "/v3/routes", {**wanted, "options": options}, 201)
    assert route["options"] == {**options, "hash_balance": "1.3"}
    path = f"/v3/routes/{route['guid']}"
    changed = cloud.admin.ok("PATCH", path, {"options": {"hash_balance": 0, "hash_header": "X-Team"}})
    assert changed["options"] == {"loadbalancing": "hash", "hash_header": "X-Team", "hash_balance": "0.0"}
    refused = cloud.admin.problem("PATCH", path, {"options": {"hash_header": None}})[2]
    assert refused == "Hash header must be present when loadbalancing is set to hash."
    assert cloud.admin.ok("PATCH", path, {"options": {"loadbalancing": "round-robin"}})["options"] == {
        "loadbalancing": "round-robin"
    }


def test_more_of_what_a_route_may_be(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    owner = {"organization": {"data": {"guid": org}}}
    own = cloud.admin.ok("POST", "/v3/domains", {"name": "own.test", "relationships": owner}, 201)["guid"]
    cloud.admin.ok("POST", "/v3/domains", {"name": "x.own.test", "relationships": owner}, 201)
    internal = cloud.admin.ok("GET", "/v3/domains?names=apps.internal")["resources"][0]["guid"]
    assert cloud.admin.ok("POST", "/v3/routes", body(space, own), 201)["url"] == "own.test"
    assert cloud.admin.ok("POST", "/v3/routes", body(space, own, path="/a"), 201)["url"] == "own.test/a"
    assert cloud.admin.ok("POST", "/v3/routes", body(space, own, host="*"), 201)["url"] == "*.own.test"
    for domain, more, detail in (
        (own, {}, "Route already exists for domain 'own.test'."),
        (own, {"path": "/A"}, "Route already exists with path '/a' for domain 'own.test'."),
        (own, {"host": "x"}, "Route conflicts with domain 'x.own.test'."),
        (own, {"path": "/a b"}, "Path is invalid."),
        (own, {"path": "/%zz"}, "Path is invalid."),
        (own, {"path": "/" + "x" * 128}, "Path is too long (maximum is 128 characters)"),
        (own, {"path": 5}, "Path must be a string"),
        (own, {"host": "x" * 64}, "Host is too long (maximum is 63 characters)"),
        (own, {"port": -1}, "Port must be greater than or equal to 0"),
        (own, {"port": 65536}, "Port must be less than or equal to 65535"),
        (internal, {"host": "*"}, "Wildcard hosts are not supported for internal domains."),
        (internal, {"host": "x", "path": "/x"}, "Paths are not supported for internal domains."),
        ("nope", {"host": "x"}, "Invalid domain. Ensure that the domain exists and you have access to it."),
    ):
        assert cloud.admin.problem("POST", "/v3/routes", body(space, domain, **more)) == (422, 10008, detail)
    nowhere = cloud.admin.problem("POST", "/v3/routes", body("nope", own, host="x"))[2]
    assert nowhere == "Invalid space. Ensure that the space exists and you have access to it."
    other = cloud.space()
    developer = cloud.user(space_developer=other["guid"])
    assert developer.problem("POST", "/v3/routes", body(other["guid"], shared_domain(cloud), host="*"))[2] == (
        "You do not have sufficient permissions to create a route with a wildcard host "
        "on a domain not scoped to an organization."
    )
    assert developer.problem("POST", "/v3/routes", body(space, own, host="y"))[:2] == (403, 10003)
    elsewhere = developer.problem("POST", "/v3/routes", body(other["guid"], own, host="y"))[2]
    assert elsewhere.startswith("Invalid domain. Domain 'own.test' is not available in organization '")


def test_lists_are_filtered_and_include_what_is_readable(cloud: Cloud) -> None:
    org = cloud.org("acme")["guid"]
    space, other = cloud.space("dev", org)["guid"], cloud.space("ops", org)["guid"]
    domain = shared_domain(cloud)
    app = cloud.app(space=space)["guid"]
    cloud.admin.ok("PATCH", "/v3/feature_flags/route_sharing", {"enabled": True})
    one = cloud.admin.ok("POST", "/v3/routes", body(space, domain, host="one"), 201)["guid"]
    two = cloud.admin.ok("POST", "/v3/routes", body(other, domain, host="two", path="/x"), 201)["guid"]
    cloud.admin.ok("POST", f"/v3/routes/{one}/destinations", {"destinations": [{"app": {"guid": app}}]})
    cloud.admin.ok("POST", f"/v3/routes/{two}/relationships/shared_spaces", {"data": [{"guid": space}]})

    def hosts(query: str, client: Client = cloud.admin, path: str = "/v3/routes") -> list[str]:
        return [found["host"] for found in client.ok("GET", f"{path}?{query}")["resources"]]

    for query, expected in (
        ("hosts=ONE", ["one"]),
        ("paths=/X", ["two"]),
        ("paths=", ["one"]),
        ("ports=0", ["one", "two"]),
        ("ports=1024", []),
        (f"app_guids={app}", ["one"]),
        (f"space_guids={space}", ["one", "two"]),
        (f"space_guids={other}", ["two"]),
        (f"organization_guids={org}", ["one", "two"]),
        (f"domain_guids={domain}&hosts=two,three", ["two"]),
        ("service_instance_guids=x", []),
        (f"guids={two}", ["two"]),
    ):
        assert hosts(query) == expected, query
    assert hosts("", path=f"/v3/apps/{app}/routes") == ["one"]
    seen = cloud.admin.ok("GET", "/v3/routes?include=space.organization")["included"]
    assert {kind: sorted(found["name"] for found in all_) for kind, all_ in seen.items()} == {
        "spaces": ["dev", "ops"],
        "organizations": ["acme"],
    }
    auditor = cloud.user(organization_auditor=org)
    assert hosts("", auditor) == ["one", "two"]
    seen = auditor.ok("GET", f"/v3/routes/{one}?include=space,space.organization,domain")["included"]
    assert seen["spaces"] == []
    assert [len(seen[kind]) for kind in ("organizations", "domains")] == [1, 1]
    assert cloud.admin.problem("GET", f"/v3/routes/{one}?include=apps")[:2] == (422, 10008)
    assert cloud.admin.problem("GET", "/v3/routes?include=apps")[:2] == (400, 10005)


@pytest.mark.parametrize(
    ("method", "destinations", "detail"),
    [
        ("POST", None, "Destinations must be an array containing between 1 and 100 destination objects."),
        ("POST", [], "Destinations must be an array containing between 1 and 100 destination objects."),
        ("PATCH", None, "Destinations must be an array containing between 0 and 100 destination objects."),
        ("POST", ["x"], "Destinations[0]: must be an object."),
        ("POST", [{"port": 8080}], 'Destinations[0]: must have an "app".'),
        (
            "POST",
            [{"app": {"guid": "$app"}, "size": 1}],
            'Destinations[0]: must have only "app" and optionally "weight", "port" or "protocol".',
        ),
        ("POST", [{"app": {}}], 'Destinations[0]: app must have the structure {"guid": "app_guid"}'),
        (
            "POST",
            [{"app": {"guid": "$app", "process": {"type": ""}}}],
            'Destinations[0]: process must have the structure {"type": "process_type"}',
        ),
        (
            "POST",
            [{"app": {"guid": "$app"}, "port": 80, "protocol": "http3"}],
            (
                "Destinations[0]: port must be a positive integer between 1024 and 65535 inclusive., "
                "Destinations[0]: protocol must be 'http1', 'http2' or 'tcp'."
            ),
        ),
        (
            "POST",
            [{"app": {"guid": "$app"}, "weight": 100}],
            "Destinations[0]: weighted destinations can only be used when replacing all destinations.",
        ),
        (
            "PATCH",
            [{"app": {"guid": "$app"}, "weight": 101}],
            "Destinations[0]: weight must be a positive integer between 1 and 100.",
        ),
        (
            "PATCH",
            [{"app": {"guid": "$app"}, "weight": 100}, {"app": {"guid": "$app"}, "port": 9000}],
            "Destinations cannot contain both weighted and unweighted destinations.",
        ),
        (
            "PUT",
            [{"app": {"guid": "$app"}, "weight": 50}],
            "Destinations must have weights that sum to 100.",
        ),
        (
            "PATCH",
            [{"app": {"guid": "$app"}}, {"app": {"guid": "$app"}, "port": 8080}],
            "Destinations cannot contain duplicate entries",
        ),
        (
            "POST",
            [{"app": {"guid": "$app"}, "port": 1024 + port} for port in range(11)],
            "Process must have at most 10 exposed ports.",
        ),
        (
            "POST",
            [{"app": {"guid": "$app"}, "protocol": "tcp"}],
            "Cannot use 'tcp' protocol for http routes; valid options are: [http1, http2].",
        ),
    ],
)
def test_what_destinations_may_not_be(cloud: Cloud, method: str, destinations: Any, detail: str) -> None:
    app = cloud.app()
    space = app["relationships"]["space"]["data"]["guid"]
    route = cloud.admin.ok("POST", "/v3/routes", body(space, shared_domain(cloud), host="x"), 201)["guid"]
    wanted = msgspec.json.decode(msgspec.json.encode(destinations).replace(b"$app", app["guid"].encode()))
    path = f"/v3/routes/{route}/destinations"
    assert cloud.admin.problem(method, path, {"destinations": wanted}) == (422, 10008, detail)
    assert cloud.admin.ok("GET", path)["destinations"] == []


def test_a_route_has_at_most_a_hundred_destinations(cloud: Cloud) -> None:
    space = cloud.space()["guid"]
    apps = [cloud.app(f"a{number}", space)["guid"] for number in range(11)]
    route = cloud.admin.ok("POST", "/v3/routes", body(space, shared_domain(cloud), host="x"), 201)["guid"]
    path = f"/v3/routes/{route}/destinations"
    to_ports = [[{"app": {"guid": app}, "port": 2000 + port} for port in range(10)] for app in apps]
    cloud.admin.ok("POST", path, {"destinations": [one for each in to_ports[:10] for one in each]})
    problem = cloud.admin.problem("POST", path, {"destinations": to_ports[10][:1]})
    assert problem == (422, 10008, "Routes can be mapped to at most 100 destinations.")
    assert len(cloud.admin.ok("POST", path, {"destinations": to_ports[0][:1]})["destinations"]) == 100


def test_destinations_are_replaced_weighted_and_spoken_to(cloud: Cloud) -> None:
    app = cloud.app()
    space = app["relationships"]["space"]["data"]["guid"]
    other = cloud.app(space=space)["guid"]
    route = cloud.admin.ok("POST", "/v3/routes", body(space, shared_domain(cloud), host="x"), 201)["guid"]
    path = f"/v3/routes/{route}/destinations"
    web = {"app": {"guid": app["guid"]}}
    worker = {"app": {"guid": other, "process": {"type": "worker"}}, "port": 9000, "protocol": "http2"}

    def shown(answer: Any) -> list[tuple[Any, ...]]:
        return [
            (one["app"]["guid"], one["app"]["process"]["type"], one["port"], one["protocol"], one["weight"])
            for one in answer["destinations"]
        ]

    first = (app["guid"], "web", 8080, "http1", None)
    second = (other, "worker", 9000, "http2", None)
    assert shown(cloud.admin.ok("PATCH", path, {"destinations": [web, worker]})) == [first, second]
    kept = cloud.admin.ok("GET", f"{path}?app_guids={other}")["destinations"]
    assert shown({"destinations": kept}) == [second]
    assert shown(cloud.admin.ok("PUT", path, [worker])) == [second]
    assert cloud.admin.ok("GET", path)["destinations"][0]["guid"] == kept[0]["guid"]
    same = cloud.admin.problem("POST", path, {"destinations": [{**worker, "protocol": "http1"}]})[2]
    assert same == (
        "Cannot add destination with protocol: http1. Destination already exists for route: x.apps.localhost, "
        f"app: {other}, process: worker, and protocol: http2."
    )
    one = f"{path}/{kept[0]['guid']}"
    changed = cloud.admin.ok("PATCH", one, {"protocol": "http1"})
    assert (changed["protocol"], sorted(changed["links"])) == ("http1", ["destinations", "route"])
    answer = cloud.admin.patch(one, {"protocol": "http2"})
    assert answer.json()["protocol"] == "http2"
    for warned in (answer, cloud.admin.put(path, [worker])):
        assert unquote(warned.headers["X-Cf-Warnings"]).startswith("The protocol http2 is stored, not spoken")
    assert cloud.admin.ok("PATCH", one, {})["protocol"] == "http2"
    assert cloud.admin.ok("PATCH", one, {"protocol": None})["protocol"] == "http1"
    tcp = "Destination protocol must be 'http1' or 'http2' if the parent route's protocol is 'http'"
    assert cloud.admin.problem("PATCH", one, {"protocol": "tcp"}) == (422, 10008, tcp)
    bad = "Destination protocol must be 'http1', 'http2' or 'tcp'."
    assert cloud.admin.problem("PATCH", one, {"protocol": "spdy"}) == (422, 10008, bad)
    unknown = "Unable to unmap route from destination. Ensure the route has a destination with this guid."
    for method in ("PATCH", "DELETE"):
        assert cloud.admin.problem(method, f"{path}/nope", {}) == (422, 10008, unknown)
    weighted = [{**web, "weight": 40}, {**worker, "weight": 60}]
    assert [one[4] for one in shown(cloud.admin.ok("PATCH", path, {"destinations": weighted}))] == [40, 60]
    refused = cloud.admin.problem("POST", path, {"destinations": [web]})[2]
    assert refused == "Destinations cannot be inserted when there are weighted destinations already configured."
    guid = cloud.admin.ok("GET", path)["destinations"][0]["guid"]
    assert cloud.admin.problem("DELETE", f"{path}/{guid}")[2] == "Weighted destinations cannot be deleted individually."
    assert cloud.admin.ok("PATCH", path, {"destinations": []})["destinations"] == []
    events = cloud.admin.ok("GET", f"/v3/audit_events?target_guids={other}&types=audit.app.map-route")["resources"]
    assert events[0]["data"] == {
        "route_guid": route,
        "app_port": 9000,
        "destination_guid": kept[0]["guid"],
        "process_type": "worker",
        "weight": None,
    }


def test_sharing_and_transfer_say_who_may_not(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    here, there, hidden = (cloud.space(org=org)["guid"] for _ in range(3))
    route = cloud.admin.ok("POST", "/v3/routes", body(here, shared_domain(cloud), host="x"), 201)["guid"]
    shares, owner = (f"/v3/routes/{route}/relationships/{name}" for name in ("shared_spaces", "space"))
    developer = cloud.user(space_developer=here, space_auditor=there, organization_user=org)
    off = "Feature Disabled: route_sharing"
    assert developer.problem("GET", shares) == (403, 330002, off)
    assert developer.problem("POST", shares, {"data": [{"guid": there}]}) == (403, 330002, off)
    cloud.admin.ok("PATCH", "/v3/feature_flags/route_sharing", {"enabled": True})
    assert developer.ok("GET", shares) == {"data": [], "links": {"self": {"href": cloud.settings.api_url + shares}}}
    with_spaces = "Unable to share route x.apps.localhost with spaces"
    assert developer.problem("POST", shares, {"data": [{"guid": there}, {"guid": hidden}, {"guid": "nope"}]})[2] == (
        f"{with_spaces} ['{hidden}', 'nope']. Ensure the spaces exist and that you have access to them.\n"
        f"{with_spaces} ['{there}']. Write permission is required in order to share a route with a space "
        "and the containing organization must not be suspended."
    )
    assert developer.problem("POST", shares, {"data": [{"guid": here}]})[2] == (
        f"Unable to share route 'x.apps.localhost' with space '{here}'. "
        "Routes cannot be shared into the space where they were created."
    )
    assert developer.problem("POST", shares, {"data": []})[2] == "Data can't be blank"
    no_write = "You don't have write permission for the target space."
    no_space = "Ensure the space exists and that you have access to it."
    for space, problem in ((there, no_write), (hidden, no_space), ("nope", no_space)):
        unshare = developer.problem("DELETE", f"{shares}/{space}")[2]
        assert unshare == f"Unable to unshare route 'x.apps.localhost' from space '{space}'. {problem}"
        transfer = developer.problem("PATCH", owner, {"data": {"guid": space}})[2]
        assert transfer == f"Unable to transfer owner of route 'x.apps.localhost' to space '{space}'. {problem}"
    for data, problem in (
        (None, "Data can't be blank, Data must be an object"),
        ({"name": "x"}, "Data can only accept key 'guid'"),
        ({"guid": "x", "name": "x"}, "Data can only accept one key"),
        ({"guid": 5}, "Data 5 must be a string"),
        ({"guid": ""}, "Data guid can't be blank"),
    ):
        assert developer.problem("PATCH", owner, {"data": data}) == (422, 10008, problem)
    own = f"Unable to unshare route 'x.apps.localhost' from space '{here}'. Routes cannot be removed from the space that owns them."
    assert developer.problem("DELETE", f"{shares}/{here}")[2] == own
    cloud.admin.ok("PATCH", f"/v3/spaces/{there}", {"suspended": True})
    both = cloud.user(space_developer=here, space_supporter=there, organization_user=org)
    assert both.problem("DELETE", f"{shares}/{there}")[2].endswith("The target organization or space is suspended.")


def test_a_route_is_shared_and_changes_hands(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    here, there = (cloud.space(org=org)["guid"] for _ in range(2))
    owner = {"organization": {"data": {"guid": org}}}
    own = cloud.admin.ok("POST", "/v3/domains", {"name": "own.test", "relationships": owner}, 201)["guid"]
    route = cloud.admin.ok("POST", "/v3/routes", body(here, own, host="x"), 201)["guid"]
    cloud.admin.ok("PATCH", "/v3/feature_flags/route_sharing", {"enabled": True})
    path = f"/v3/routes/{route}/relationships"
    shares = cloud.admin.ok("POST", f"{path}/shared_spaces", {"data": [{"guid": there}]})
    assert shares["data"] == [{"guid": there}]
    guest = cloud.app(space=there)["guid"]
    cloud.admin.ok("POST", f"/v3/routes/{route}/destinations", {"destinations": [{"app": {"guid": guest}}]})
    elsewhere = cloud.space()["guid"]
    refused = cloud.admin.problem("PATCH", f"{path}/space", {"data": {"guid": elsewhere}})[2]
    assert refused == (
        f"Unable to transfer owner of route 'x.own.test' to space '{elsewhere}'. "
        "Target space does not have access to route's domain"
    )
    assert cloud.admin.ok("PATCH", f"{path}/space", {"data": {"guid": there}}) == {"status": "ok"}
    moved = cloud.admin.ok("GET", f"/v3/routes/{route}")
    assert moved["relationships"]["space"]["data"]["guid"] == there
    assert cloud.admin.ok("GET", f"{path}/shared_spaces")["data"] == [{"guid": here}]
    assert cloud.admin.ok("PATCH", f"{path}/space", {"data": {"guid": there}}) == {"status": "ok"}
    for _ in range(2):
        assert cloud.admin.delete(f"{path}/shared_spaces/{here}").status_code == 204
    found = cloud.admin.ok("GET", f"/v3/audit_events?target_guids={route}")["resources"]
    told = [(event["type"].removeprefix("audit.route."), event["target"]["name"], event["space"]) for event in found]
    assert told == [
        ("create", "x", {"guid": here}),
        ("share", "x", {"guid": here}),
        ("transfer-owner", "x", {"guid": here}),
        ("unshare", "x", {"guid": there}),
        ("unshare", "x", {"guid": there}),
    ]
    assert found[1]["data"] == {"target_space_guids": [there]}
    assert found[2]["data"] == {"target_space_guid": there}


def test_unmapped_routes_are_deleted(cloud: Cloud) -> None:
    app = cloud.app()
    space = app["relationships"]["space"]["data"]["guid"]
    domain = shared_domain(cloud)
    mapped, unmapped = (
        cloud.admin.ok("POST", "/v3/routes", body(space, domain, host=host), 201)["guid"] for host in ("a", "b")
    )
    to_app = {"destinations": [{"app": {"guid": app["guid"]}}]}
    cloud.admin.ok("POST", f"/v3/routes/{mapped}/destinations", to_app)
    path = f"/v3/spaces/{space}/routes"
    use = "Use 'unmapped=true' parameter to delete all unmapped routes."
    for query, detail in (
        ("", f"Mass delete not supported for routes. {use}"),
        ("?unmapped=false", f"Mass delete not supported for mapped routes. {use}"),
        ("?unmapped=maybe", "Unmapped must be a boolean"),
    ):
        assert cloud.admin.problem("DELETE", path + query) == (422, 10008, detail)
    job = finished(cloud, cloud.admin, "DELETE", f"{path}?unmapped=true")
    assert (job["operation"], job["state"]) == ("space.delete_unmapped_routes", "COMPLETE")
    assert cloud.admin.get(f"/v3/routes/{unmapped}").status_code == 404
    assert cloud.admin.get(f"/v3/routes/{mapped}").status_code == 200


def test_host_and_domain_have_253_characters_together(cloud: Cloud) -> None:
    name = ".".join(["d" * 60, "d" * 60, "d" * 60, "d" * 56])
    domain = cloud.admin.ok("POST", "/v3/domains", {"name": name}, 201)["guid"]
    space = cloud.space()["guid"]
    cloud.admin.ok("POST", "/v3/routes", body(space, domain, host="x" * 13), 201)
    refused = cloud.admin.problem("POST", "/v3/routes", body(space, domain, host="x" * 14))
    assert refused == (422, 10008, "Host combined with domain name must be no more than 253 characters.")


def test_elsewhere_a_host_of_a_private_domain_is_free_with_another_path(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    here, there = (cloud.space(org=org)["guid"] for _ in range(2))
    owner = {"organization": {"data": {"guid": org}}}
    own = cloud.admin.ok("POST", "/v3/domains", {"name": "own.test", "relationships": owner}, 201)["guid"]
    cloud.admin.ok("POST", "/v3/routes", body(here, own, host="shop"), 201)
    cloud.admin.ok("POST", "/v3/routes", body(there, own, host="shop", path="/cart"), 201)
