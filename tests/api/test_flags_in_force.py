"""Each feature flag where it binds: what is refused while it is off, in which words, and who passes all the same."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conftest import Client, Cloud
from tests.deploying import Site

ON = (
    "private_domain_creation",
    "app_bits_upload",
    "app_scaling",
    "route_creation",
    "service_instance_creation",
    "set_roles_by_username",
    "unset_roles_by_username",
    "task_creation",
    "env_var_visibility",
    "space_scoped_private_broker_creation",
    "space_developer_env_var_visibility",
    "resource_matching",
)
OFF = (
    "user_org_creation",
    "diego_docker",
    "diego_cnb",
    "service_instance_sharing",
    "hide_marketplace_from_unauthenticated_users",
    "route_sharing",
    "hash_based_routing",
)
NOBODY = {"env_var_visibility", "route_sharing"}
"""Flags that bind admins as well."""


@pytest.fixture
def site(cloud: Cloud) -> Site:
    return Site(cloud)


def _domain(site: Site) -> str:
    found: str = site.cloud.admin.ok("GET", "/v3/domains?names=apps.localhost")["resources"][0]["guid"]
    return found


def _route_body(site: Site, host: str) -> dict[str, Any]:
    links = {"space": {"data": {"guid": site.space}}, "domain": {"data": {"guid": _domain(site)}}}
    return {"host": host, "relationships": links}


def _share(site: Site, client: Client) -> Any:
    route = site.cloud.admin.post("/v3/routes", _route_body(site, f"share-{uuid.uuid4()}")).json()["guid"]
    other = site.cloud.space(org=site.org)["guid"]
    return client.post(f"/v3/routes/{route}/relationships/shared_spaces", {"data": [{"guid": other}]})


def _role(site: Site, client: Client) -> Any:
    links = {"user": {"data": {"username": "nobody"}}, "organization": {"data": {"guid": site.org}}}
    return client.post("/v3/roles", {"type": "organization_user", "relationships": links})


def _private_domain(site: Site, client: Client) -> Any:
    body = {"name": f"d{uuid.uuid4()}.example.com", "relationships": {"organization": {"data": {"guid": site.org}}}}
    return client.post("/v3/domains", body)


ACTIONS: dict[str, Callable[[Site, Client], Any]] = {
    "private_domain_creation": _private_domain,
    "app_bits_upload": lambda site, client: client.post(
        "/v3/resource_matches", {"resources": [{"checksum": {"value": "0" * 40}, "size_in_bytes": 1}]}
    ),
    "app_scaling": lambda site, client: client.post(site.path + "/processes/web/actions/scale", {"instances": 1}),
    "route_creation": lambda site, client: client.post("/v3/routes", _route_body(site, f"new-{uuid.uuid4()}")),
    "set_roles_by_username": _role,
    "task_creation": lambda site, client: client.post(site.path + "/tasks", {"command": "true"}),
    "env_var_visibility": lambda site, client: client.get(site.path + "/environment_variables"),
    "space_developer_env_var_visibility": lambda site, client: client.get(site.path + "/env"),
    "route_sharing": _share,
    "user_org_creation": lambda site, client: client.post("/v3/organizations", {"name": f"o{uuid.uuid4()}"}),
}


def test_what_is_on_and_what_is_off_at_first(cloud: Cloud) -> None:
    flags = cloud.user().ok("GET", "/v3/feature_flags?per_page=100")["resources"]
    assert {one["name"] for one in flags if one["enabled"]} == set(ON)
    assert {one["name"] for one in flags if not one["enabled"]} == set(OFF)
    assert [one["name"] for one in flags] == sorted((*ON, *OFF))
    assert {(one["updated_at"], one["custom_error_message"]) for one in flags} == {(None, None)}


def test_a_change_is_dated_and_null_clears_its_words(cloud: Cloud) -> None:
    path = "/v3/feature_flags/task_creation"
    shown = cloud.admin.ok("PATCH", path, {"custom_error_message": "Ask somebody."})
    assert shown["updated_at"] is not None
    assert (shown["enabled"], shown["custom_error_message"]) == (True, "Ask somebody.")
    assert cloud.admin.ok("PATCH", path, {"custom_error_message": None})["custom_error_message"] is None
    assert cloud.user().problem("PATCH", path, {"enabled": False})[:2] == (403, 10003)
    assert cloud.admin.problem("GET", "/v3/feature_flags/nope") == (404, 10010, "Feature flag not found")


@pytest.mark.parametrize("flag", ACTIONS)
def test_a_flag_that_is_off(site: Site, flag: str) -> None:
    admin = site.cloud.admin
    user = site.cloud.user(organization_manager=site.org, space_developer=site.space)
    admin.ok("PATCH", f"/v3/feature_flags/{flag}", {"enabled": False})
    answer = ACTIONS[flag](site, user)
    (error,) = answer.json()["errors"]
    if flag == "user_org_creation":
        # Nobody is told of a flag that lets users do what admins do.
        assert (answer.status_code, error["code"]) == (403, 10003)
    else:
        assert (answer.status_code, error["code"], error["title"]) == (403, 330002, "CF-FeatureDisabled")
        assert error["detail"] == f"Feature Disabled: {flag}"
        admin.ok("PATCH", f"/v3/feature_flags/{flag}", {"custom_error_message": "Ask somebody."})
        assert ACTIONS[flag](site, user).json()["errors"][0]["detail"] == "Feature Disabled: Ask somebody."
    codes = [error["code"] for error in ACTIONS[flag](site, admin).json().get("errors", ())]
    assert (330002 in codes) is (flag in NOBODY)


@pytest.mark.parametrize("flag", ACTIONS)
def test_a_flag_that_is_on(site: Site, flag: str) -> None:
    site.cloud.admin.ok("PATCH", f"/v3/feature_flags/{flag}", {"enabled": True})
    user = site.cloud.user(organization_manager=site.org, space_developer=site.space)
    answer = ACTIONS[flag](site, user)
    codes = [error["code"] for error in answer.json().get("errors", ())]
    assert not {330002, 10003} & set(codes), answer.text


def test_admins_who_only_read_pass_one(site: Site) -> None:
    site.cloud.admin.ok("PATCH", "/v3/feature_flags/space_developer_env_var_visibility", {"enabled": False})
    reader = site.cloud.client("cloud_controller.admin_read_only")
    assert reader.get(site.path + "/env").status_code == 200


def test_roles_are_taken_whatever_the_flag_says(site: Site) -> None:
    """unset_roles_by_username has no effect in version 3."""
    admin = site.cloud.admin
    admin.ok("PATCH", "/v3/feature_flags/unset_roles_by_username", {"enabled": False})
    user = site.cloud.user(organization_user=site.org).actor
    assert user is not None
    (role,) = admin.ok("GET", f"/v3/roles?user_guids={user.guid}")["resources"]
    manager = site.cloud.user(organization_manager=site.org)
    assert manager.delete(f"/v3/roles/{role['guid']}").status_code == 202


def test_who_makes_an_organization_manages_it(cloud: Cloud) -> None:
    cloud.admin.ok("PATCH", "/v3/feature_flags/user_org_creation", {"enabled": True})
    user = cloud.user()
    assert user.actor is not None
    org = user.ok("POST", "/v3/organizations", {"name": "mine"}, 201)["guid"]
    found = cloud.admin.ok("GET", f"/v3/roles?user_guids={user.actor.guid}&organization_guids={org}")["resources"]
    assert sorted(one["type"] for one in found) == ["organization_manager", "organization_user"]


def test_hash_based_routing_has_a_flag(site: Site) -> None:
    body = {**_route_body(site, "hashed"), "options": {"loadbalancing": "hash", "hash_header": "X-User"}}
    problem = site.cloud.admin.problem("POST", "/v3/routes", body)
    balancing = "Options Loadbalancing must be one of 'round-robin, least-connection' if present"
    assert problem == (422, 10008, f"{balancing}, Options Unknown field(s): 'hash_header'")
    site.cloud.admin.ok("PATCH", "/v3/feature_flags/hash_based_routing", {"enabled": True})
    assert site.cloud.admin.ok("POST", "/v3/routes", body, 201)["options"]["loadbalancing"] == "hash"
