"""What makes an app run: droplets that can be current, start, stop and restart, its environment, who may what."""

from typing import Any

import pytest

from tests.api.conftest import Cloud
from tests.deploying import Site
from tests.scripted_cell import staged_droplet


@pytest.fixture
def site(cloud: Cloud) -> Site:
    return Site(cloud)


def _assign(site: Site, droplet: str) -> tuple[int, int, str]:
    path = site.path + "/relationships/current_droplet"
    found: tuple[int, int, str] = site.cloud.admin.problem("PATCH", path, {"data": {"guid": droplet}})
    return found


def test_a_droplet_becomes_the_current_one_and_brings_its_processes(cloud: Cloud) -> None:
    app = cloud.app()["guid"]
    path, droplet = f"/v3/apps/{app}", staged_droplet(cloud.database, app)
    assert cloud.admin.problem("GET", path + "/droplets/current") == (404, 10010, "Droplet not found")
    answer = cloud.admin.ok("PATCH", path + "/relationships/current_droplet", {"data": {"guid": droplet}})
    assert answer["data"] == {"guid": droplet}
    assert answer["links"]["related"]["href"].endswith(f"{path}/droplets/current")
    assert cloud.admin.ok("GET", path + "/droplets/current")["guid"] == droplet
    made = cloud.admin.ok("GET", path + "/processes")["resources"]
    assert [(one["type"], one["instances"], one["health_check"]["type"]) for one in made] == [
        ("web", 1, "port"),
        ("worker", 0, "process"),
    ]
    assert cloud.admin.ok("GET", path)["state"] == "STOPPED"


def test_which_droplets_cannot_be_current(site: Site) -> None:
    foreign = "Unable to assign current droplet. Ensure the droplet exists and belongs to this app."
    assert _assign(site, "nope") == (422, 10008, foreign)
    other = site.cloud.app()["guid"]
    assert _assign(site, staged_droplet(site.cloud.database, other)) == (422, 10008, foreign)
    waiting = staged_droplet(site.cloud.database, site.app, state="AWAITING_UPLOAD")
    assert _assign(site, waiting) == (422, 10008, "droplet must be in staged state")
    empty = staged_droplet(site.cloud.database, site.app, process_types={})
    assert _assign(site, empty)[2] == (
        "Unable to create process types for this app's droplet. Please provide a droplet with valid process types."
    )
    problem = site.cloud.admin.problem("PATCH", site.path + "/relationships/current_droplet", {"data": None})
    assert problem == (422, 10008, "Current droplet cannot be removed. Replace it with a preferred droplet.")


def test_types_of_processes_stay_when_the_droplet_lacks_them(site: Site) -> None:
    droplet = staged_droplet(site.cloud.database, site.app, process_types={"web": "other"})
    site.cloud.admin.ok("PATCH", site.path + "/relationships/current_droplet", {"data": {"guid": droplet}})
    found = site.cloud.admin.ok("GET", site.path + "/processes")["resources"]
    assert [one["type"] for one in found] == ["web", "worker"]


def test_an_app_without_a_droplet_does_not_start_whoever_asks(cloud: Cloud) -> None:
    app = cloud.app()
    space = app["relationships"]["space"]["data"]["guid"]
    expected = (422, 10008, "Assign a droplet before starting this app.")
    for client in (cloud.admin, cloud.user(space_auditor=space)):
        for verb in ("start", "restart"):
            assert client.problem("POST", f"/v3/apps/{app['guid']}/actions/{verb}") == expected


def test_start_stop_and_restart(site: Site) -> None:
    admin = site.cloud.admin
    assert admin.ok("POST", site.path + "/actions/start")["state"] == "STARTED"
    assert {one["version"] for one in site.webs()} != set()
    before = site.webs()[0]["version"]
    again = admin.ok("POST", site.path + "/actions/start")
    assert (again["state"], site.webs()[0]["version"]) == ("STARTED", before)
    assert admin.ok("POST", site.path + "/actions/restart")["state"] == "STARTED"
    assert site.webs()[0]["version"] != before
    assert admin.ok("POST", site.path + "/actions/stop")["state"] == "STOPPED"
    assert admin.ok("POST", site.path + "/actions/stop")["state"] == "STOPPED"
    assert admin.ok("POST", site.path + "/actions/restart")["state"] == "STARTED"


def test_what_a_stopped_app_says_of_its_instances(site: Site) -> None:
    stats = site.cloud.admin.ok("GET", site.path + "/processes/web/stats")["resources"]
    assert [(one["index"], one["state"]) for one in stats] == [(0, "DOWN"), (1, "DOWN")]
    assert "usage" not in stats[0] or stats[0]["usage"] == {}


def test_instances_are_told_by_index_and_can_be_ended(site: Site) -> None:
    site.start()
    admin, web = site.cloud.admin, site.path + "/processes/web"
    site.scale(3)
    stats = admin.ok("GET", web + "/stats")["resources"]
    assert [(one["index"], one["state"]) for one in stats] == [(0, "RUNNING"), (1, "RUNNING"), (2, "DOWN")]
    assert stats[0]["fds_quota"] == 16384
    assert set(stats[2]) == {"type", "index", "state", "routable", "uptime", "isolation_segment", "details"}
    site.cloud.settings.defaults.instance_file_descriptors = 100
    assert admin.ok("GET", web + "/stats")["resources"][0]["fds_quota"] == 100
    assert admin.delete(web + "/instances/0").status_code == 204
    for index in ("3", "x", "-1"):
        assert admin.problem("DELETE", f"{web}/instances/{index}") == (404, 10010, "Instance not found")


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("VCAP_SERVICES", "cannot start with VCAP_"),
        ("vcap_x", "cannot start with VCAP_"),
        ("VMC_X", "cannot start with VMC_"),
        ("vmcx", "cannot start with VMC_"),
        ("PORT", "cannot set PORT"),
        ("port", "cannot set PORT"),
    ],
)
def test_names_that_variables_may_not_have(site: Site, name: str, detail: str) -> None:
    problem = site.cloud.admin.problem("PATCH", site.path + "/environment_variables", {"var": {name: "1"}})
    assert problem == (422, 10008, f"Var {detail}")
    body = {
        "name": "x",
        "relationships": {"space": {"data": {"guid": site.space}}},
        "environment_variables": {name: "1"},
    }
    assert detail in site.cloud.admin.problem("POST", "/v3/apps", body)[2]


def test_a_new_app_takes_variables_of_any_type(cloud: Cloud) -> None:
    made = cloud.app(environment_variables={"A": 1, "B": True, "C": {"d": [1]}})
    assert cloud.admin.ok("GET", f"/v3/apps/{made['guid']}/environment_variables")["var"] == {
        "A": 1,
        "B": True,
        "C": {"d": [1]},
    }


def test_the_complete_environment_has_five_parts(site: Site) -> None:
    admin = site.cloud.admin
    admin.ok("PATCH", "/v3/environment_variable_groups/running", {"var": {"R": "1"}})
    admin.ok("PATCH", "/v3/environment_variable_groups/staging", {"var": {"S": "1"}})
    admin.ok("PATCH", site.path + "/environment_variables", {"var": {"A": "1"}})
    shown = admin.ok("GET", site.path + "/env")
    assert shown["running_env_json"] == {"R": "1"}
    assert shown["staging_env_json"] == {"S": "1"}
    assert shown["environment_variables"] == {"A": "1"}
    assert shown["system_env_json"] == {"VCAP_SERVICES": {}}
    application = shown["application_env_json"]["VCAP_APPLICATION"]
    assert (application["application_id"], application["application_name"]) == (site.app, "shop")
    assert (application["space_id"], application["cf_api"]) == (site.space, site.cloud.settings.api_url)


def test_who_reads_an_environment(site: Site) -> None:
    hidden = {"redacted_message": "[PRIVATE DATA HIDDEN]"}
    assert site.user("space_developer").ok("GET", site.path + "/env")["system_env_json"] == {"VCAP_SERVICES": {}}
    assert site.user("space_supporter").ok("GET", site.path + "/env")["system_env_json"] == hidden
    reader = site.cloud.client("cloud_controller.admin_read_only")
    assert reader.ok("GET", site.path + "/env")["system_env_json"] == {"VCAP_SERVICES": {}}
    for client in (
        site.user("space_auditor"),
        site.user("space_manager"),
        site.cloud.client("cloud_controller.global_auditor"),
    ):
        for path in ("/env", "/environment_variables"):
            assert client.problem("GET", site.path + path)[:2] == (403, 10003)
    assert site.cloud.user().problem("GET", site.path + "/env") == (404, 10010, "App not found")


def test_whether_ssh_is_open_and_why_not(site: Site) -> None:
    admin, path = site.cloud.admin, site.path + "/ssh_enabled"
    assert admin.ok("GET", path) == {"enabled": True, "reason": ""}
    admin.ok("PATCH", site.path + "/features/ssh", {"enabled": False})
    assert admin.ok("GET", path) == {"enabled": False, "reason": "ssh is disabled for app"}
    admin.ok("PATCH", f"/v3/spaces/{site.space}/features/ssh", {"enabled": False})
    name = admin.ok("GET", f"/v3/spaces/{site.space}")["name"]
    assert admin.ok("GET", path) == {"enabled": False, "reason": f"ssh is disabled for space '{name}'"}
    site.cloud.settings.ssh.enabled = False
    assert admin.ok("GET", path) == {"enabled": False, "reason": "ssh is disabled globally"}


def test_what_one_may_read_of_an_app(site: Site) -> None:
    cases: list[tuple[Any, bool]] = [
        (site.cloud.admin, True),
        (site.cloud.client("cloud_controller.admin_read_only"), True),
        (site.cloud.client("cloud_controller.global_auditor"), False),
        (site.user("space_developer"), True),
        (site.user("space_supporter"), False),
        (site.user("space_auditor"), False),
        (site.user("space_manager"), False),
    ]
    for client, sensitive in cases:
        assert client.ok("GET", site.path + "/permissions") == {
            "read_basic_data": True,
            "read_sensitive_data": sensitive,
        }
    assert site.cloud.user().problem("GET", site.path + "/permissions")[0] == 404


def test_what_supporters_may_do_and_what_not(site: Site) -> None:
    supporter = site.user("space_supporter")
    for verb in ("start", "stop", "restart"):
        supporter.ok("POST", f"{site.path}/actions/{verb}")
    supporter.ok("POST", site.path + "/processes/web/actions/scale", {"instances": 1}, 202)
    supporter.ok("PATCH", site.path + "/processes/web", {"command": "serve"})
    supporter.ok("PATCH", site.path + "/relationships/current_droplet", {"data": {"guid": site.droplet()}})
    supporter.ok("PATCH", site.path + "/environment_variables", {"var": {"A": "1"}})
    supporter.ok("PATCH", site.path + "/features/revisions", {"enabled": False})
    assert supporter.post(site.path + "/actions/clear_buildpack_cache").status_code == 202
    assert supporter.delete(site.path + "/processes/web/instances/0").status_code == 204
    refused: list[tuple[str, str, Any]] = [
        ("PATCH", site.path, {"metadata": {"labels": {"a": "b"}}}),
        ("DELETE", site.path, None),
        ("PATCH", site.path + "/features/ssh", {"enabled": False}),
        ("POST", site.path + "/tasks", {"command": "true"}),
        ("POST", site.path + "/sidecars", {"name": "s", "command": "c", "process_types": ["web"]}),
        ("POST", "/v3/packages", {"type": "bits", "relationships": {"app": {"data": {"guid": site.app}}}}),
        ("POST", "/v3/apps", {"name": "x", "relationships": {"space": {"data": {"guid": site.space}}}}),
    ]
    for method, path, body in refused:
        assert supporter.request(method, path, body).status_code in {403, 422}, (method, path)
        assert supporter.problem(method, path, body)[0] == 403, (method, path)


def test_scale_is_refused_in_upstreams_words(site: Site) -> None:
    path = site.path + "/processes/web/actions/scale"
    assert (
        site.cloud.admin.problem("POST", path, {"instances": -1})[2] == "Instances must be greater than or equal to 0"
    )
    assert site.cloud.admin.problem("POST", path, {"memory_in_mb": 0})[2] == "Memory in mb must be greater than 0"
    site.cloud.admin.ok("PATCH", "/v3/feature_flags/app_scaling", {"enabled": False})
    assert site.user("space_developer").problem("POST", path, {"instances": 1}) == (
        403,
        330002,
        "Feature Disabled: app_scaling",
    )
    assert site.cloud.admin.request("POST", path, {"instances": 1}).status_code == 202


def test_a_process_keeps_room_for_its_sidecars(site: Site) -> None:
    body = {"name": "s", "command": "c", "process_types": ["web"], "memory_in_mb": 40}
    site.cloud.admin.ok("POST", site.path + "/sidecars", body, 201)
    problem = site.cloud.admin.problem("POST", site.path + "/processes/web/actions/scale", {"memory_in_mb": 40})
    assert problem[2] == "The requested memory allocation is not large enough to run all of your sidecar processes"


def test_health_checks(site: Site) -> None:
    web = site.path + "/processes/web"
    endpoint = {"health_check": {"type": "port", "data": {"endpoint": "/x"}}}
    assert site.cloud.admin.problem("PATCH", web, endpoint)[2] == (
        'Health check type must be "http" to set a health check HTTP endpoint'
    )
    ready = {"readiness_health_check": {"type": "http", "data": {"endpoint": "/ready", "interval": 5}}}
    shown = site.cloud.admin.ok("PATCH", web, ready)["readiness_health_check"]
    assert (shown["type"], shown["data"]["endpoint"], shown["data"]["interval"]) == ("http", "/ready", 5)
    for wrong in ({"health_check": {"type": "x"}}, {"readiness_health_check": {"type": "none"}}):
        assert site.cloud.admin.problem("PATCH", web, wrong)[0] == 422


def test_a_process_runs_as_a_user_that_is_permitted(site: Site) -> None:
    problem = site.cloud.admin.problem("PATCH", site.path + "/processes/web", {"user": "root"})
    assert problem[2] == "user invalid (requested user 'root' not allowed, permitted users are: 'vcap')"
    assert site.cloud.admin.ok("PATCH", site.path + "/processes/web", {"user": "vcap"})["user"] == "vcap"


def test_a_command_of_null_is_the_detected_one(site: Site) -> None:
    web = site.path + "/processes/web"
    assert site.cloud.admin.ok("PATCH", web, {"command": "mine"})["command"] == "mine"
    assert site.cloud.admin.ok("PATCH", web, {"command": None})["command"] == "run web"
    assert site.cloud.admin.ok("GET", "/v3/processes")["resources"][0]["command"] == "[PRIVATE DATA HIDDEN IN LISTS]"
    assert site.user("space_auditor").ok("GET", web)["command"] == "[PRIVATE DATA HIDDEN]"


def test_stronger_variables_win(site: Site) -> None:
    """While running: group, then the app's own, then the platform's."""
    admin = site.cloud.admin
    admin.ok("PATCH", "/v3/environment_variable_groups/running", {"var": {"A": "group", "B": "group"}})
    admin.ok("PATCH", "/v3/environment_variable_groups/running", {"var": {"MEMORY_LIMIT": "1m"}})
    admin.ok("PATCH", site.path + "/environment_variables", {"var": {"B": "app"}})
    site.start()
    found = site.cell.process(site.app).env
    assert (found["A"], found["B"], found["MEMORY_LIMIT"]) == ("group", "app", "64m")
    # What changes now is for the next start.
    admin.ok("PATCH", site.path + "/environment_variables", {"var": {"B": "later"}})
    assert site.cell.process(site.app).env["B"] == "app"
    admin.ok("POST", site.path + "/actions/restart")
    assert site.cell.process(site.app).env["B"] == "later"


def test_what_a_new_app_may_do(cloud: Cloud) -> None:
    path = f"/v3/apps/{cloud.app()['guid']}/features"
    found = {one["name"]: one["enabled"] for one in cloud.admin.ok("GET", path)["resources"]}
    assert found == {"ssh": True, "revisions": True, "service-binding-k8s": False, "file-based-vcap-services": False}


def test_what_is_checked_of_instances(site: Site) -> None:
    web = site.path + "/processes/web"
    for kind in ("process", "port", "http"):
        for check in ("health_check", "readiness_health_check"):
            shown = site.cloud.admin.ok("PATCH", web, {check: {"type": kind}})[check]
            assert shown["type"] == kind
            assert ("endpoint" in shown["data"]) is (kind == "http")
    for check, words in (("health_check", "Health"), ("readiness_health_check", "Readiness health")):
        problem = site.cloud.admin.problem("PATCH", web, {check: {"type": "none"}})
        assert problem == (422, 10008, f'{words} check type must be "port", "process", or "http"')
