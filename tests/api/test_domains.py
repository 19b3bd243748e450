"""Domains over HTTP: shared, private and internal ones, names, sharing, reservations."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.api.conftest import Cloud
from tests.api.work import finished


def to_org(guid: str | None, *shared: str) -> dict[str, Any]:
    found: dict[str, Any] = {"organization": {"data": {"guid": guid} if guid is not None else None}}
    if shared:
        found["shared_organizations"] = {"data": [{"guid": one} for one in shared]}
    return found


def private(cloud: Cloud, org: str, name: str = "own.example.test", *shared: str) -> Any:
    return cloud.admin.ok("POST", "/v3/domains", {"name": name, "relationships": to_org(org, *shared)}, 201)


def route(cloud: Cloud, domain: str, space: str, **more: Any) -> Any:
    links = {"space": {"data": {"guid": space}}, "domain": {"data": {"guid": domain}}}
    return cloud.admin.ok("POST", "/v3/routes", {"relationships": links, **more}, 201)


def test_a_private_domain_is_made_shown_relabelled_and_deleted(cloud: Cloud) -> None:
    org, other = cloud.org()["guid"], cloud.org()["guid"]
    made, api = private(cloud, org, "Own.Example.test", other), cloud.settings.api_url
    path = f"/v3/domains/{made['guid']}"
    assert made == {
        "guid": made["guid"],
        "created_at": made["created_at"],
        "updated_at": made["updated_at"],
        "name": "own.example.test",
        "internal": False,
        "router_group": None,
        "supported_protocols": ["http"],
        "relationships": to_org(org, other),
        "metadata": {"labels": {}, "annotations": {}},
        "links": {
            "self": {"href": api + path},
            "route_reservations": {"href": api + path + "/route_reservations"},
            "organization": {"href": f"{api}/v3/organizations/{org}"},
            "shared_organizations": {"href": api + path + "/relationships/shared_organizations"},
        },
    }
    assert cloud.admin.ok("GET", path) == made
    labels = {"metadata": {"labels": {"a": "b"}}}
    assert cloud.admin.ok("PATCH", path, labels)["metadata"]["labels"] == {"a": "b"}
    assert cloud.admin.problem("PATCH", path, {"name": "x.y"})[2] == "Unknown field(s): 'name'"
    shared = "This domain is shared with other organizations. Unshare before deleting."
    assert cloud.admin.problem("DELETE", path) == (422, 10008, shared)
    assert cloud.admin.delete(f"{path}/relationships/shared_organizations/{other}").status_code == 204
    route(cloud, made["guid"], cloud.space(org=org)["guid"], host="x")
    assert finished(cloud, cloud.admin, "DELETE", path)["operation"] == "domain.delete"
    assert cloud.admin.problem("GET", path) == (404, 10010, "Domain not found")


def test_a_domain_that_enforces_route_policies_says_so(cloud: Cloud) -> None:
    body = {"name": "guarded.example.test", "enforce_route_policies": True, "route_policies_scope": "org"}
    answer = cloud.admin.post("/v3/domains", body)
    assert (answer.json()["enforce_route_policies"], answer.json()["route_policies_scope"]) == (True, "org")
    assert unquote(answer.headers["X-Cf-Warnings"]) == (
        "enforce_route_policies of domain 'guarded.example.test' is stored, not enforced by this engine yet"
    )
    plain = {"name": "plain.example.test", "enforce_route_policies": False, "route_policies_scope": "org"}
    made = cloud.admin.ok("POST", "/v3/domains", plain, 201)
    assert not {"enforce_route_policies", "route_policies_scope"} & set(made)


_RFC = "Name does not comply with RFC 1035 standards"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (
            {},
            (
                "Name can't be blank, Name must be a string, Name is too short (minimum is 3 characters), "
                f'{_RFC}, Name must contain at least one "."'
            ),
        ),
        ({"name": "example"}, f'{_RFC}, Name must contain at least one "."'),
        ({"name": "a_b.test"}, f"{_RFC}, Name must consist of alphanumeric characters and hyphens"),
        ({"name": "-a.test"}, _RFC),
        ({"name": "a..test"}, _RFC),
        ({"name": "x" * 64 + ".test"}, f"{_RFC}, Name subdomains must each be at most 63 characters"),
        ({"name": ".".join(["x" * 50] * 6)}, "Name is too long (maximum is 253 characters)"),
        ({"name": "x.test", "internal": "yes"}, "Internal must be a boolean"),
        ({"name": "x.test", "router_group": "g"}, "Router group must be an object"),
        (
            {"name": "x.test", "router_group": {"name": "g"}},
            "Router group Unknown field(s): 'name', Router group guid must be a string",
        ),
        ({"name": "x.test", "router_group": {"guid": "g"}}, "Router group with guid 'g' not found."),
        ({"name": "x.test", "enforce_route_policies": 1}, "Enforce route policies must be a boolean"),
        (
            {"name": "x.test", "enforce_route_policies": True},
            "Route policies scope is required when enforce_route_policies is true",
        ),
        (
            {"name": "x.test", "enforce_route_policies": True, "route_policies_scope": "app"},
            "Route policies scope must be one of 'any', 'org', 'space'",
        ),
        (
            {"name": "x.test", "enforce_route_policies": True, "route_policies_scope": "any", "internal": True},
            "Internal domains cannot have route policy enforcement. Internal routes bypass GoRouter.",
        ),
        (
            {
                "name": "x.test",
                "enforce_route_policies": True,
                "route_policies_scope": "any",
                "router_group": {"guid": "g"},
            },
            (
                "Domains with a router group cannot have route policy enforcement. "
                "TCP routes do not support mTLS policy enforcement."
            ),
        ),
        (
            {"name": "x.test", "internal": True, "relationships": to_org("g"), "router_group": {"guid": "g"}},
            (
                "Cannot associate an internal domain with an organization, "
                "Internal domains cannot be associated to a router group., "
                "Domains scoped to an organization cannot be associated to a router group."
            ),
        ),
        (
            {"name": "x.test", "relationships": {"shared_organizations": {"data": []}}},
            "Relationships cannot contain shared_organizations without an owning organization.",
        ),
        (
            {"name": "x.test", "relationships": to_org("nope")},
            "Organization with guid 'nope' does not exist or you do not have access to it.",
        ),
        (
            {"name": "x.test", "relationships": to_org(None)},
            "Organization with guid '' does not exist or you do not have access to it.",
        ),
        ({"name": "apps.localhost"}, 'The domain name "apps.localhost" is already in use'),
        ({"name": "x.test", "size": 1}, "Unknown field(s): 'size'"),
    ],
)
def test_what_a_domain_may_not_be(cloud: Cloud, body: dict[str, Any], detail: str) -> None:
    assert cloud.admin.problem("POST", "/v3/domains", body) == (422, 10008, detail)


def test_names_do_not_overlap_with_those_of_others(cloud: Cloud) -> None:
    org, other = cloud.org()["guid"], cloud.org()["guid"]
    private(cloud, org, "corp.example.test")
    private(cloud, org, "deep.corp.example.test")
    taken = 'The domain name "{}" cannot be created because "{}" is already reserved by another domain'

    def refused(name: str, owner: str | None) -> str:
        body: dict[str, Any] = {"name": name}
        if owner is not None:
            body["relationships"] = to_org(owner)
        return str(cloud.admin.problem("POST", "/v3/domains", body)[2])

    below = "a.deep.corp.example.test"
    assert refused(below, other).startswith(f'The domain name "{below}" cannot be created because')
    assert refused("x.corp.example.test", None) == taken.format("x.corp.example.test", "corp.example.test")
    above = "example.test"
    assert refused(above, other).startswith(f'The domain name "{above}" cannot be created because')
    private(cloud, org, "example.test")
    cloud.admin.ok("POST", "/v3/domains", {"name": "shared.test"}, 201)
    private(cloud, org, "own.shared.test")


def test_names_do_not_overlap_with_routes(cloud: Cloud) -> None:
    domain = cloud.admin.ok("POST", "/v3/domains", {"name": "shared.test"}, 201)["guid"]
    route(cloud, domain, cloud.space()["guid"], host="shop")
    for name in ("shop.shared.test", "a.shop.shared.test"):
        detail = f'The domain name "{name}" cannot be created because "shop.shared.test" is already reserved by a route'
        assert cloud.admin.problem("POST", "/v3/domains", {"name": name}) == (422, 10008, detail)
    private(cloud, cloud.org()["guid"], "store.shared.test")


def test_some_names_are_for_no_organization_alone(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    org = cloud.org()["guid"]
    suffixes = tmp_path / "suffixes.dat"
    suffixes.write_text("// a list\n\nco.test\n*.wide.test\n!mine.wide.test\nb\u00fccher.test and more\n")
    monkeypatch.setattr(cloud.settings.platform, "reserved_domains_file", str(suffixes))
    for name in ("co.test", "any.wide.test", "xn--bcher-kva.test"):
        problem = cloud.admin.problem("POST", "/v3/domains", {"name": name, "relationships": to_org(org)})
        detail = f'The "{name}" domain is reserved and cannot be used for org-scoped domains.'
        assert problem == (422, 10008, detail)
    for name in ("mine.wide.test", "an.any.wide.test", "an.co.test"):
        private(cloud, org, name)
    cloud.admin.ok("POST", "/v3/domains", {"name": "co.test"}, 201)


def test_system_hosts_are_the_platforms(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud.settings.platform, "system_domain", "sys.test")
    space = cloud.space()
    org = space["relationships"]["organization"]["data"]["guid"]
    for name in ("sys.test", "api.sys.test", "uaa.sys.test"):
        problem = cloud.admin.problem("POST", "/v3/domains", {"name": name, "relationships": to_org(org)})
        detail = f'The domain name "{name}" cannot be created because "{name}" is already reserved by the system'
        assert problem == (422, 10008, detail)
    domain = cloud.admin.ok("POST", "/v3/domains", {"name": "sys.test"}, 201)["guid"]
    links = {"space": {"data": {"guid": space["guid"]}}, "domain": {"data": {"guid": domain}}}
    for host in ("api", "login", "UAA"):
        problem = cloud.admin.problem("POST", "/v3/routes", {"host": host, "relationships": links})
        assert problem == (422, 10008, "Route conflicts with a reserved system route.")
    route(cloud, domain, space["guid"], host="shop")


def test_who_makes_which_domains(cloud: Cloud) -> None:
    org, other = cloud.org()["guid"], cloud.org()["guid"]
    manager = cloud.user(organization_manager=org)
    own = {"name": "own.example.test", "relationships": to_org(org)}
    assert manager.problem("POST", "/v3/domains", {"name": "shared.test"})[:2] == (403, 10003)
    assert manager.problem("POST", "/v3/domains", {**own, "relationships": to_org(other)})[:2] == (403, 10003)
    assert cloud.user(organization_auditor=org).problem("POST", "/v3/domains", own)[:2] == (403, 10003)
    cloud.admin.ok("PATCH", "/v3/feature_flags/private_domain_creation", {"enabled": False})
    assert manager.problem("POST", "/v3/domains", own)[:2] == (403, 330002)
    assert cloud.admin.post("/v3/domains", {**own, "name": "other.example.test"}).status_code == 201
    cloud.admin.ok("PATCH", "/v3/feature_flags/private_domain_creation", {"enabled": True})
    made = manager.ok("POST", "/v3/domains", own, 201)
    path = f"/v3/domains/{made['guid']}"
    assert cloud.user(organization_auditor=org).problem("PATCH", path, {})[:2] == (403, 10003)
    assert cloud.user(organization_billing_manager=org).problem("GET", path)[:2] == (404, 10010)
    cloud.admin.ok("PATCH", f"/v3/organizations/{org}", {"suspended": True})
    assert manager.problem("PATCH", path, {})[:2] == (403, 10017)
    assert manager.problem("POST", "/v3/domains", {**own, "name": "x.test"})[:2] == (403, 10017)


def test_lists_are_filtered(cloud: Cloud) -> None:
    org, other = cloud.org()["guid"], cloud.org()["guid"]
    private(cloud, org, "own.example.test", other)
    private(cloud, other, "foreign.example.test")

    def names(path: str) -> list[str]:
        return [one["name"] for one in cloud.admin.ok("GET", path)["resources"]]

    assert names("/v3/domains?names=OWN.example.test") == ["own.example.test"]
    assert names(f"/v3/domains?organization_guids={org}") == ["own.example.test"]
    usable = ["apps.localhost", "apps.internal", "own.example.test"]
    assert names(f"/v3/organizations/{org}/domains") == usable
    assert sorted(names(f"/v3/organizations/{other}/domains")) == sorted([*usable, "foreign.example.test"])
    bad = cloud.admin.problem("GET", f"/v3/organizations/{org}/domains?x=1")
    assert bad[:2] == (400, 10005)


def test_private_domains_are_shared_and_unshared(cloud: Cloud) -> None:
    org, other, third = (cloud.org(name)["guid"] for name in ("one", "two", "three"))
    made = private(cloud, org)["guid"]
    path = f"/v3/domains/{made}/relationships/shared_organizations"
    link = {"links": {"self": {"href": cloud.settings.api_url + path}}}
    answer = cloud.admin.ok("POST", path, {"data": [{"guid": other}, {"guid": other}]})
    assert answer == {"data": [{"guid": other}], **link}
    assert cloud.admin.ok("POST", path, {"data": []}) == answer
    manager = cloud.user(organization_manager=org)
    assert manager.ok("POST", path, {"data": []}) == {"data": [], **link}
    for data, detail in (
        (None, 'Data must have the structure "data": [{"guid": shared_org_guid_1}, {"guid": shared_org_guid_2}]'),
        (
            [{"guid": 1}],
            'Data must have the structure "data": [{"guid": shared_org_guid_1}, {"guid": shared_org_guid_2}]',
        ),
        ([{"guid": "nope"}], "Organization with guid 'nope' does not exist, or you do not have access to it."),
        (
            [{"guid": third}],
            f"Organization with guid '{third}' either does not exist, or you do not have access to it.",
        ),
        ([{"guid": org}], "Domain cannot be shared with owning organization."),
    ):
        assert manager.problem("POST", path, {"data": data}) == (422, 10008, detail)
    assert cloud.user(organization_auditor=other).problem("POST", path, {"data": []})[:2] == (403, 10003)
    unscoped = cloud.admin.ok("GET", "/v3/domains?names=apps.localhost")["resources"][0]["guid"]
    refused = "Domains cannot be shared with other organizations unless they are scoped to an organization."
    body = {"data": [{"guid": org}]}
    shared = f"/v3/domains/{unscoped}/relationships/shared_organizations"
    assert cloud.admin.problem("POST", shared, body) == (422, 10008, refused)

    route(cloud, made, cloud.space(org=other)["guid"], host="x")
    used = "This domain has associated routes in this organization. Delete the routes before unsharing."
    assert cloud.admin.problem("DELETE", f"{path}/{other}") == (422, 10008, used)
    not_shared = "Unable to unshare domain from organization with name 'three'. Ensure the domain is shared to this organization."
    assert cloud.admin.problem("DELETE", f"{path}/{third}") == (422, 10008, not_shared)
    unknown = "Organization with guid 'nope' does not exist or you do not have access to it."
    assert cloud.admin.problem("DELETE", f"{path}/nope") == (422, 10008, unknown)
    assert manager.problem("DELETE", f"{path}/{third}")[2] == unknown.replace("nope", third)
    assert cloud.user(organization_auditor=other).problem("DELETE", f"{path}/{other}")[:2] == (403, 10003)


def test_managers_of_either_side_unshare(cloud: Cloud) -> None:
    org, other = cloud.org()["guid"], cloud.org()["guid"]
    path = f"/v3/domains/{private(cloud, org, 'own.example.test', other)['guid']}/relationships/shared_organizations"
    receiver = cloud.user(organization_manager=other)
    cloud.admin.ok("PATCH", f"/v3/organizations/{other}", {"suspended": True})
    assert receiver.problem("DELETE", f"{path}/{other}")[:2] == (403, 10017)
    cloud.admin.ok("PATCH", f"/v3/organizations/{other}", {"suspended": False})
    assert receiver.delete(f"{path}/{other}").status_code == 204
    both = cloud.user(organization_manager=org, organization_auditor=other)
    refused = "You do not have sufficient permissions for organization '"
    assert both.problem("POST", path, {"data": [{"guid": other}]})[2].startswith(refused)


def test_reservations_see_every_route(cloud: Cloud) -> None:
    domain = cloud.admin.ok("GET", "/v3/domains?names=apps.localhost")["resources"][0]["guid"]
    route(cloud, domain, cloud.space()["guid"], host="shop", path="/cart")
    user, path = cloud.user(), f"/v3/domains/{domain}/route_reservations"
    for query, there in (
        ("host=shop&path=/cart", True),
        ("host=SHOP&path=/Cart", True),
        ("host=shop", False),
        ("path=/cart", False),
        ("", False),
        ("host=shop&path=/cart&port=0&anything=else", True),
        ("host=shop&path=/cart&port=1024", False),
    ):
        assert user.ok("GET", f"{path}?{query}") == {"matching_route": there}
    assert user.problem("GET", f"{path}?port=x")[:2] == (422, 10008)
    assert user.problem("GET", "/v3/domains/nope/route_reservations") == (404, 10010, "Domain not found")
