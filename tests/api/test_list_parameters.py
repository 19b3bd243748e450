"""Parameters of lists, resource by resource: the order, what is included, and which status says that they are wrong."""

from typing import Any

import pytest

from tests.api.conftest import Cloud

_TIMES = ["created_at", "updated_at"]
_ORDERS = {
    "apps": [*_TIMES, "name", "state"],
    "organizations": [*_TIMES, "name"],
    "spaces": [*_TIMES, "name"],
    "stacks": [*_TIMES, "name"],
    "isolation_segments": [*_TIMES, "name"],
    "buildpacks": [*_TIMES, "position", "lifecycle"],
    "app_usage_events": ["created_at"],
    "service_usage_events": ["created_at"],
    "feature_flags": ["name"],
    **dict.fromkeys(
        ["audit_events", "builds", "deployments", "domains", "droplets", "organization_quotas", "packages"], _TIMES
    ),
    **dict.fromkeys(["processes", "roles", "routes", "security_groups", "space_quotas", "tasks", "users"], _TIMES),
}
_UNPROCESSABLE = {"roles", "users", "space_quotas", "security_groups", "app_usage_events", "service_usage_events"}
_INCLUDES = {
    "apps": ["space", "org", "space.organization"],
    "spaces": ["org", "organization"],
    "roles": ["user", "organization", "space"],
    "routes": ["domain", "space", "space.organization", "route_policies"],
    "route_policies": ["source", "route"],
    "service_credential_bindings": ["app", "service_instance"],
    "service_plans": ["space.organization", "service_offering"],
    "service_route_bindings": ["route", "service_instance"],
}

_PARAMETERS = {
    "apps": "names organization_guids space_guids stacks include lifecycle_type label_selector",
    "buildpacks": "stacks names lifecycle label_selector",
    "builds": "app_guids package_guids states label_selector",
    "deployments": "app_guids states status_reasons status_values label_selector",
    "domains": "names organization_guids label_selector",
    "droplets": "app_guids organization_guids space_guids states label_selector",
    "audit_events": "types target_guids space_guids organization_guids",
    "feature_flags": "",
    "isolation_segments": "names organization_guids label_selector",
    "organization_quotas": "names organization_guids",
    "organizations": "names label_selector",
    "packages": "states types app_guids space_guids organization_guids label_selector",
    "processes": "types space_guids organization_guids app_guids embed label_selector",
    "roles": "organization_guids space_guids user_guids types include",
    "route_policies": "route_guids space_guids sources source_guids include label_selector",
    "routes": (
        "hosts space_guids organization_guids domain_guids paths app_guids include label_selector ports "
        "service_instance_guids"
    ),
    "security_groups": (
        "names running_space_guids staging_space_guids globally_enabled_running globally_enabled_staging"
    ),
    "service_brokers": "space_guids names label_selector",
    "service_credential_bindings": (
        "names service_instance_guids service_instance_names service_plan_names service_plan_guids "
        "service_offering_names service_offering_guids app_guids app_names include type label_selector"
    ),
    "service_instances": (
        "type fields names space_guids organization_guids service_plan_guids service_plan_names label_selector"
    ),
    "service_offerings": (
        "available fields broker_catalog_ids service_broker_guids service_broker_names names "
        "space_guids organization_guids label_selector"
    ),
    "service_plans": (
        "available fields broker_catalog_ids names organization_guids service_broker_guids "
        "service_broker_names service_instance_guids service_offering_guids service_offering_names "
        "space_guids include label_selector"
    ),
    "service_route_bindings": "service_instance_guids service_instance_names route_guids include label_selector",
    "service_usage_events": "after_guid service_instance_types service_offering_guids",
    "app_usage_events": "after_guid",
    "space_quotas": "names organization_guids space_guids",
    "spaces": "names organization_guids include label_selector",
    "stacks": "names default label_selector",
    "tasks": "names states app_guids organization_guids space_guids label_selector",
    "users": "usernames partial_usernames origins label_selector",
}
"""Of each list, in the order in which errors name them, after those that every list has."""


def _bad(name: str, detail: str) -> tuple[int, int, str]:
    if name in _UNPROCESSABLE:
        return 422, 10008, detail
    return 400, 10005, f"The query parameter is invalid: {detail}"


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


@pytest.mark.parametrize("name", list(_ORDERS))
def test_what_a_list_is_ordered_by(cloud: Cloud, name: str) -> None:
    wrong = cloud.admin.problem("GET", f"/v3/{name}?order_by=bogus")
    assert wrong == _bad(name, f"Order by can only be: {_quoted(_ORDERS[name])}")
    for column in _ORDERS[name]:
        for sign in ("", "-", "%2B"):
            assert cloud.admin.get(f"/v3/{name}?order_by={sign}{column}").status_code == 200


@pytest.mark.parametrize("name", list(_ORDERS))
def test_pages_have_numbers_and_sizes(cloud: Cloud, name: str) -> None:
    def said(query: str) -> tuple[int, int, str]:
        return cloud.admin.problem("GET", f"/v3/{name}?{query}")

    assert said("page=0") == _bad(name, "Page must be a positive integer")
    assert said("per_page=0") == _bad(name, "Per page must be a positive integer")
    assert said("per_page=5001") == _bad(name, "Per page must be between 1 and 5000")
    assert said("bogus=1&other=2")[2].startswith(_bad(name, "Unknown query parameter(s): 'bogus', 'other'")[2])


@pytest.mark.parametrize("name", list(_PARAMETERS))
def test_unknown_parameters_are_told_with_those_that_there_are(cloud: Cloud, name: str) -> None:
    usual = ["page", "per_page", "order_by", "created_ats", "updated_ats", "guids"]
    valid = _quoted([*usual, *_PARAMETERS[name].split()])
    detail = f"Unknown query parameter(s): 'bogus'. Valid parameters are: {valid}"
    assert cloud.admin.problem("GET", f"/v3/{name}?bogus=1") == _bad(name, detail)


@pytest.mark.parametrize("name", list(_INCLUDES))
def test_what_a_list_includes(cloud: Cloud, name: str) -> None:
    valid = _quoted(_INCLUDES[name])
    detail = f"Invalid included resource: 'bogus'. Valid included resources are: {valid}"
    assert cloud.admin.problem("GET", f"/v3/{name}?include=bogus") == _bad(name, detail)
    one = _INCLUDES[name][0]
    twice = f"Duplicate included resource: '{one}'"
    assert cloud.admin.problem("GET", f"/v3/{name}?include={one},{one}") == _bad(name, twice)
    assert "included" in cloud.admin.ok("GET", f"/v3/{name}?include={','.join(_INCLUDES[name])}")


def test_other_queries_that_are_422(cloud: Cloud) -> None:
    space = cloud.space()["guid"]
    app = cloud.app(space=space)["guid"]
    domain = cloud.admin.ok("GET", "/v3/domains?names=apps.localhost")["resources"][0]["guid"]
    links = {"space": {"data": {"guid": space}}, "domain": {"data": {"guid": domain}}}
    route = cloud.admin.ok("POST", "/v3/routes", {"host": "x", "relationships": links}, 201)["guid"]
    for method, path in (
        ("GET", f"/v3/routes/{route}"),
        ("GET", f"/v3/routes/{route}/destinations"),
        ("DELETE", f"/v3/spaces/{space}/routes"),
        ("GET", f"/v3/spaces/{space}/running_security_groups"),
        ("GET", f"/v3/spaces/{space}/staging_security_groups"),
    ):
        status, code, detail = cloud.admin.problem(method, f"{path}?bogus=1")
        assert (path, status, code) == (path, 422, 10008)
        assert detail.startswith("Unknown query parameter(s): 'bogus'. Valid parameters are: ")
    reservations = cloud.admin.problem("GET", f"/v3/domains/{domain}/route_reservations?port=x")
    assert reservations == (422, 10008, "Port must be an integer between 0 and 65535")
    for path in ("/v3/spaces", "/v3/apps"):
        assert cloud.admin.problem("GET", f"{path}?bogus=1")[:2] == (400, 10005)
    assert cloud.admin.problem("GET", f"/v3/apps/{app}?bogus=1")[:2] == (400, 10005)


def test_times_of_usage_events_and_flags(cloud: Cloud) -> None:
    def said(path: str) -> tuple[int, int, str]:
        return cloud.admin.problem("GET", f"/v3/{path}=2026-01-01T00:00:00Z")

    refused: dict[str, Any] = {
        "app_usage_events?updated_ats[gt]": "updated_ats",
        "service_usage_events?updated_ats": "updated_ats",
        "feature_flags?created_ats": "created_ats",
    }
    for path, name in refused.items():
        detail = f"Filtering by '{name}' is not allowed on this resource."
        assert said(path) == _bad(path.partition("?")[0], detail)


def test_flags_come_by_name_and_buildpacks_by_lifecycle_and_position(cloud: Cloud) -> None:
    flags = [one["name"] for one in cloud.admin.ok("GET", "/v3/feature_flags?per_page=100")["resources"]]
    assert flags == sorted(flags)
    for number, lifecycle in enumerate(["cnb", "buildpack", "cnb"]):
        body = {"name": f"own{number}", "lifecycle": lifecycle}
        cloud.admin.ok("POST", "/v3/buildpacks", body, 201)
    listed = cloud.admin.ok("GET", "/v3/buildpacks?per_page=100")["resources"]
    places = [(one["lifecycle"], one["position"]) for one in listed]
    assert places == sorted(places)
    assert {one[0] for one in places} == {"buildpack", "cnb"}
