"""What things are when nobody says: sizes, checks, quotas, variables; and the limits they have."""

from tests.api.conftest import Cloud


def test_a_new_process(cloud: Cloud) -> None:
    (web,) = cloud.admin.ok("GET", f"/v3/apps/{cloud.app()['guid']}/processes")["resources"]
    assert (web["memory_in_mb"], web["disk_in_mb"], web["log_rate_limit_in_bytes_per_second"]) == (1024, 1024, 1048576)
    assert (web["instances"], web["user"]) == (1, "vcap")
    assert web["health_check"] == {
        "type": "port",
        "data": {"timeout": None, "invocation_timeout": None, "interval": None},
    }
    assert web["readiness_health_check"] == {"type": "process", "data": {"invocation_timeout": None, "interval": None}}


def test_sizes_have_limits(cloud: Cloud) -> None:
    path = f"/v3/apps/{cloud.app()['guid']}/processes/web"
    too_much = cloud.admin.problem("POST", path + "/actions/scale", {"disk_in_mb": 2049})
    assert too_much == (
        422,
        10008,
        "disk_quota too much disk requested (requested 2049 MB - must be less than 2048 MB)",
    )
    assert (
        cloud.admin.problem("POST", path + "/actions/scale", {"disk_in_mb": 0})[2]
        == "Disk in mb must be greater than 0"
    )
    slow = {"health_check": {"type": "port", "data": {"timeout": 181}}}
    assert cloud.admin.problem("PATCH", path, slow)[2] == "health_check_timeout Maximum exceeded: max 180s"


def test_the_default_quota_is_that_of_new_organizations(cloud: Cloud) -> None:
    (default,) = cloud.admin.ok("GET", "/v3/organization_quotas?names=default")["resources"]
    assert default["apps"]["total_memory_in_mb"] == 10240
    assert default["routes"]["total_routes"] == 1000
    assert default["services"]["total_service_instances"] == 100
    assert default["services"]["paid_services_allowed"] is True
    assert cloud.org()["relationships"]["quota"]["data"]["guid"] == default["guid"]


def test_variable_groups_merge_and_null_removes(cloud: Cloud) -> None:
    for name in ("running", "staging"):
        path = f"/v3/environment_variable_groups/{name}"
        assert cloud.user().ok("GET", path)["var"] == {}
        assert cloud.admin.ok("PATCH", path, {"var": {"A": "1", "B": "2"}})["var"] == {"A": "1", "B": "2"}
        shown = cloud.admin.ok("PATCH", path, {"var": {"A": None, "C": "3"}})
        assert (shown["name"], shown["var"]) == (name, {"B": "2", "C": "3"})
        assert shown["updated_at"] is not None
        assert cloud.user().problem("PATCH", path, {"var": {}})[:2] == (403, 10003)
    assert cloud.admin.problem("GET", "/v3/environment_variable_groups/other")[0] == 404


def test_what_variable_groups_may_not_hold(cloud: Cloud) -> None:
    path = "/v3/environment_variable_groups/running"
    assert cloud.admin.problem("PATCH", path, {"var": {"VCAP_X": "1"}})[2] == "Var cannot start with VCAP_"
    assert cloud.admin.problem("PATCH", path, {"var": {"PORT": "1"}})[2] == "Var cannot set PORT"
    assert cloud.admin.problem("PATCH", path, {"var": {"A": 1}})[2] == (
        "Non-string value in environment variable for key 'A', value '1'"
    )
    huge = {f"K{number}": "x" * 100_000 for number in range(11)}
    assert cloud.admin.problem("PATCH", path, {"var": huge})[2] == (
        "Environment variable group is too large. Specify fewer variables or reduce key/value lengths."
    )
