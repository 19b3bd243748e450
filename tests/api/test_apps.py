"""Apps and processes over HTTP."""

from typing import Any

import pytest

from tests.api.conftest import Cloud


def test_an_app_is_made_with_its_web_process(cloud: Cloud) -> None:
    app = cloud.app("shop", environment_variables={"A": "b"})
    assert app["state"] == "STOPPED"
    assert app["lifecycle"] == {"type": "buildpack", "data": {"buildpacks": [], "stack": "cflinuxfs4"}}
    processes = cloud.admin.ok("GET", f"/v3/apps/{app['guid']}/processes")["resources"]
    assert [(one["guid"], one["type"], one["instances"]) for one in processes] == [(app["guid"], "web", 1)]
    assert cloud.admin.ok("GET", f"/v3/apps/{app['guid']}/environment_variables")["var"] == {"A": "b"}
    events = cloud.admin.ok("GET", f"/v3/audit_events?target_guids={app['guid']}")["resources"]
    assert [event["type"] for event in events] == [
        "audit.app.create",
        "audit.app.process.create",
        "audit.app.environment_variables.show",
    ]
    assert events[0]["data"]["request"]["environment_variables"] == "[PRIVATE DATA HIDDEN]"


def test_names_are_unique_in_the_space_in_any_case(cloud: Cloud) -> None:
    space = cloud.space()["guid"]
    cloud.app("Shop", space)
    body = {"name": "shop", "relationships": {"space": {"data": {"guid": space}}}}
    assert cloud.admin.problem("POST", "/v3/apps", body) == (
        422,
        10016,
        "App with the name 'shop' already exists.",
    )
    other = cloud.app("other", space)
    assert cloud.admin.problem("PATCH", f"/v3/apps/{other['guid']}", {"name": "SHOP"})[1] == 10008


def test_a_hidden_space_is_422_a_readable_one_without_the_role_403(cloud: Cloud) -> None:
    space = cloud.space()
    org = space["relationships"]["organization"]["data"]["guid"]
    body = {"name": "x", "relationships": {"space": {"data": {"guid": space["guid"]}}}}
    hidden = "Invalid space. Ensure that the space exists and you have access to it."
    assert cloud.user().problem("POST", "/v3/apps", body) == (422, 10008, hidden)
    auditor = cloud.user(space_auditor=space["guid"], organization_user=org)
    assert auditor.problem("POST", "/v3/apps", body)[:2] == (403, 10003)
    developer = cloud.user(space_developer=space["guid"], organization_user=org)
    assert developer.post("/v3/apps", body).status_code == 201


def test_variables_merge_and_forbidden_names_are_refused(cloud: Cloud) -> None:
    app = cloud.app(environment_variables={"A": "1", "B": "2"})
    path = f"/v3/apps/{app['guid']}/environment_variables"
    assert cloud.admin.ok("PATCH", path, {"var": {"A": None, "C": "3"}})["var"] == {"B": "2", "C": "3"}
    assert cloud.admin.problem("PATCH", path, {"var": {"VCAP_X": "1"}})[2] == "Var cannot start with VCAP_"
    assert cloud.admin.problem("PATCH", path, {"var": {"PORT": "1"}})[2] == "Var cannot set PORT"
    assert (
        cloud.admin.problem("PATCH", path, {"var": {"k": 1}})[2]
        == "Non-string value in environment variable for key 'k', value '1'"
    )


def test_buildpacks_must_exist_and_credentials_in_addresses_are_hidden(cloud: Cloud) -> None:
    app = cloud.app()
    path = f"/v3/apps/{app['guid']}"
    lifecycle = {"type": "buildpack", "data": {"buildpacks": ["nope"], "stack": None}}
    detail = 'Buildpack "nope" must be an existing admin buildpack or a valid git URI'
    assert cloud.admin.problem("PATCH", path, {"lifecycle": lifecycle})[2].startswith(detail)
    lifecycle["data"] = {"buildpacks": ["https://me:secret@example.com/bp.git"]}
    shown = cloud.admin.ok("PATCH", path, {"lifecycle": lifecycle})
    assert shown["lifecycle"]["data"]["buildpacks"] == ["https://***:***@example.com/bp.git"]
    docker = {"type": "docker", "data": {}}
    refused = cloud.admin.problem("PATCH", path, {"lifecycle": docker})[2]
    assert refused == "Lifecycle type cannot be changed from buildpack to docker"


def test_scaling_and_health_checks(cloud: Cloud) -> None:
    app = cloud.app()
    web = f"/v3/apps/{app['guid']}/processes/web"
    scaled = cloud.admin.ok("POST", web + "/actions/scale", {"instances": 3, "memory_in_mb": 64}, 202)
    assert (scaled["instances"], scaled["memory_in_mb"]) == (3, 64)
    assert (
        cloud.admin.problem("POST", web + "/actions/scale", {"instances": -1})[2]
        == "Instances must be greater than or equal to 0"
    )
    check = {"type": "http", "data": {"endpoint": "/health", "timeout": 90}}
    changed = cloud.admin.ok("PATCH", web, {"command": "run", "health_check": check})
    assert changed["command"] == "run"
    assert changed["health_check"]["data"]["endpoint"] == "/health"
    slow = {"health_check": {"type": "port", "data": {"timeout": 500}}}
    assert cloud.admin.problem("PATCH", web, slow)[2] == "health_check_timeout Maximum exceeded: max 180s"
    listed = cloud.admin.ok("GET", "/v3/processes")["resources"]
    assert {one["command"] for one in listed} == {"[PRIVATE DATA HIDDEN IN LISTS]"}


def test_features_come_in_a_fixed_order_and_two_exclude_each_other(cloud: Cloud) -> None:
    path = f"/v3/apps/{cloud.app()['guid']}/features"
    names = [feature["name"] for feature in cloud.admin.ok("GET", path)["resources"]]
    assert names == ["ssh", "revisions", "service-binding-k8s", "file-based-vcap-services"]
    assert cloud.admin.ok("PATCH", path + "/ssh", {"enabled": False})["enabled"] is False
    cloud.admin.ok("PATCH", path + "/service-binding-k8s", {"enabled": True})
    assert cloud.admin.problem("PATCH", path + "/file-based-vcap-services", {"enabled": True})[0] == 422
    assert cloud.admin.problem("GET", path + "/x") == (404, 10010, "Feature not found")


def test_lists_filter_and_include(cloud: Cloud) -> None:
    space = cloud.space("dev")
    app = cloud.app("Shop", space["guid"])
    cloud.app("other")
    found = cloud.admin.ok("GET", f"/v3/apps?names=shop&space_guids={space['guid']}&include=space,space.organization")
    assert [one["guid"] for one in found["resources"]] == [app["guid"]]
    assert [one["name"] for one in found["included"]["spaces"]] == ["dev"]
    assert len(found["included"]["organizations"]) == 1
    assert cloud.admin.problem("GET", "/v3/apps?lifecycle_type=x")[0] == 400


@pytest.mark.parametrize(
    ("lifecycle", "detail"),
    [
        ({"type": "x", "data": {}}, "Lifecycle type is not included in the list: buildpack, cnb, docker"),
        ({"type": "buildpack"}, "Lifecycle data must be an object"),
        ({"data": {"colour": "red"}}, "Lifecycle Unknown field(s): 'colour'"),
        ({"data": {"buildpacks": "x"}}, "Lifecycle Buildpacks must be an array"),
        ({"data": {"buildpacks": [1]}}, "Lifecycle Buildpacks can only contain strings"),
        ({"data": {"buildpacks": [" "]}}, "Lifecycle Buildpacks entries must be between 1 and 4096 characters"),
        ({"data": {"stack": 1}}, "Lifecycle Stack must be a string"),
        ({"data": {"stack": ""}}, "Lifecycle Stack must be between 1 and 4096 characters"),
        ({"type": "cnb", "data": {"credentials": "x"}}, "Lifecycle Credentials must be an object"),
        (
            {"type": "cnb", "data": {"credentials": {"registry": "x"}}},
            "Lifecycle Credentials credentials value must be a hash",
        ),
    ],
)
def test_what_a_lifecycle_may_not_be(cloud: Cloud, lifecycle: Any, detail: str) -> None:
    path = f"/v3/apps/{cloud.app()['guid']}"
    assert cloud.admin.problem("PATCH", path, {"lifecycle": lifecycle}) == (422, 10008, detail)


def test_a_lifecycle_need_not_say_its_type(cloud: Cloud) -> None:
    app = cloud.app(lifecycle={"data": {"buildpacks": ["https://example.com/b.git"]}})
    assert app["lifecycle"]["type"] == "buildpack"
    changed = cloud.admin.ok("PATCH", f"/v3/apps/{app['guid']}", {"lifecycle": {"data": {"buildpacks": []}}})
    assert changed["lifecycle"] == {"type": "buildpack", "data": {"buildpacks": [], "stack": "cflinuxfs4"}}


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"command": ""}, "Command must be between 1 and 4096 characters"),
        ({"command": "x" * 4097}, "Command must be between 1 and 4096 characters"),
        ({"command": 1}, "Command must be a string"),
        ({"user": "x" * 256}, "User must be between 1 and 255 characters"),
        ({"health_check": {"data": {"timeout": 0}}}, "Health check timeout must be greater than or equal to 1"),
        ({"health_check": {"data": {"interval": "x"}}}, "Health check interval is not a number"),
        (
            {"readiness_health_check": {"data": {"invocation_timeout": 0.5}}},
            "Readiness health check invocation timeout must be an integer",
        ),
        (
            {"health_check": {"type": "http", "data": {"endpoint": "//x"}}},
            "Health check endpoint must be a valid URI path",
        ),
        (
            {"readiness_health_check": {"type": "http", "data": {"endpoint": "/" + "x" * 255}}},
            "Readiness health check endpoint is too long (maximum is 255 characters)",
        ),
    ],
)
def test_what_a_process_may_not_be(cloud: Cloud, change: Any, detail: str) -> None:
    path = f"/v3/apps/{cloud.app()['guid']}/processes/web"
    assert cloud.admin.problem("PATCH", path, change) == (422, 10008, detail)


def test_all_that_is_wrong_with_a_new_app(cloud: Cloud) -> None:
    body = {"nam": "x", "lifecycle": {"type": "x", "data": {}}, "environment_variables": []}
    assert cloud.admin.problem("POST", "/v3/apps", body) == (
        422,
        10008,
        (
            "Unknown field(s): 'nam', Relationships 'relationships' is not an object, "
            "Lifecycle type is not included in the list: buildpack, cnb, docker, "
            "Name must be a string, Environment variables must be an object"
        ),
    )
