"""The rules of manifests, key by key: what is refused and how, what each key does, what is never taken away."""

from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from cupola.store import rows, sealed
from cupola.store.apps import apps
from tests.api.conftest import Cloud
from tests.api.work import finish

YAML = {"Content-Type": "application/x-yaml"}


class Square:
    """A space to which manifests are applied."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        space = cloud.space()
        self.guid: str = space["guid"]
        self.org: str = space["relationships"]["organization"]["data"]["guid"]
        self.path = f"/v3/spaces/{self.guid}"

    def post(self, what: str, *applications: dict[str, Any], client: Any = None) -> Any:
        text = yaml.safe_dump({"applications": list(applications)}).encode()
        return (client or self.cloud.admin).post(f"{self.path}/{what}", content=text, headers=YAML)

    def details(self, *applications: dict[str, Any]) -> list[str]:
        """What is wrong with a manifest, at once."""
        answer = self.post("actions/apply_manifest", *applications)
        assert answer.status_code == 422, answer.text
        return [error["detail"] for error in answer.json()["errors"]]

    def job(self, *applications: dict[str, Any]) -> Any:
        """Apply a manifest and give the job as it ended."""
        answer = self.post("actions/apply_manifest", *applications)
        assert answer.status_code == 202, answer.text
        finish(self.cloud)
        return self.cloud.admin.ok("GET", answer.headers["Location"].removeprefix(self.cloud.settings.api_url))

    def apply(self, *applications: dict[str, Any]) -> Any:
        """Apply a manifest; gives the first of its apps."""
        job = self.job(*applications)
        assert (job["operation"], job["state"]) == ("space.apply_manifest", "COMPLETE"), job["errors"]
        return self.app(applications[0]["name"])

    def app(self, name: str) -> Any:
        (found,) = self.cloud.admin.ok("GET", f"/v3/apps?space_guids={self.guid}&names={name}")["resources"]
        return found

    def of(self, app: Any, what: str) -> Any:
        return self.cloud.admin.ok("GET", f"/v3/apps/{app['guid']}/{what}")

    def urls(self, app: Any) -> list[str]:
        return [one["url"] for one in self.of(app, "routes")["resources"]]


@pytest.fixture
def square(cloud: Cloud) -> Square:
    return Square(cloud)


def test_it_must_be_yaml_and_at_most_a_megabyte(square: Square) -> None:
    admin, path = square.cloud.admin, f"{square.path}/actions/apply_manifest"
    for kind in ("application/json", "text/plain"):
        answer = admin.post(path, content=b"applications: []", headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["errors"][0]["detail"]) == (
            400,
            "Bad request: Content-Type must be yaml",
        )
    large = admin.post(path, content=b"applications: [{name: a}] #" + b"x" * 1024 * 1024, headers=YAML)
    assert (large.status_code, large.json()["errors"][0]["detail"]) == (
        400,
        "Bad request: Manifest size is too large. The maximum supported size is 1MB.",
    )
    unversioned = admin.post(path, content=b"{version: null, applications: [{name: a}]}", headers=YAML)
    assert unversioned.status_code == 202
    with_charset = {"Content-Type": "application/x-yaml; charset=utf-8"}
    assert admin.post(path, content=b"applications: [{name: a}]", headers=with_charset).status_code == 202


def test_every_problem_is_an_error_of_its_own(square: Square) -> None:
    assert square.details({"name": "a", "instances": -1, "memory": "1X"}, {"env": []}) == [
        "For application 'a': Process \"web\": Memory must use a supported unit: B, K, KB, M, MB, G, GB, T, or TB",
        "For application 'a': Process \"web\": Instances must be greater than or equal to 0",
        "For application at index 1: Name must not be empty",
        "For application at index 1: Env must be an object of keys and values",
    ]


SIDECAR_TYPES = 'Sidecar "s": Process types must have at least 1 process_type'
FEATURES = "Features must be a map of valid feature names to booleans (true = enabled, false = disabled)"


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        ({"buildpack": "a", "buildpacks": ["b"]}, "Buildpack and Buildpacks fields cannot be used together."),
        ({"docker": {"image": "i"}, "buildpacks": ["b"]}, "Cannot specify both buildpack(s) and docker keys"),
        ({"processes": [{"command": "x"}]}, "All Processes must specify a type"),
        ({"processes": [{"type": "w"}, {"type": "w"}]}, 'Process "w" may only be present once'),
        ({"disk_quota": "1Q"}, 'Process "web": Disk quota must use a supported unit: B, K, KB, M, MB, G, GB, T, or TB'),
        ({"env": {"PORT": "1"}}, "Env cannot set PORT"),
        ({"env": {"VCAP_X": "1"}}, "Env cannot start with VCAP_"),
        (
            {"no-route": True, "routes": [{"route": "a.b"}]},
            "Cannot use the combination of properties: no-route, routes",
        ),
        ({"default-route": True, "random-route": True}, "Random-route and default-route may not be used together"),
        ({"sidecars": {}}, "Sidecars must be an array of sidecar configurations"),
        ({"sidecars": [{"name": "s", "command": "c", "process_types": []}]}, SIDECAR_TYPES),
        (
            {"sidecars": [{"name": "s", "command": 1, "process_types": ["web"]}]},
            'Sidecar "s": Command must be a string',
        ),
        ({"memory": "lots"}, 'Process "web": Memory is not a number'),
        ({"memory": "0M"}, 'Process "web": Memory must be greater than 0MB'),
        ({"memory": "-1G"}, 'Process "web": Memory must be greater than 0MB'),
        ({"instances": "two"}, 'Process "web": Instances is not a number'),
        ({"instances": 1.5}, 'Process "web": Instances must be an integer'),
        ({"instances": 2000001}, 'Process "web": Instances must be less than or equal to 2000000'),
        ({"command": "x" * 4097}, 'Process "web": Command must be between 1 and 4096 characters'),
        ({"timeout": 0}, 'Process "web": Timeout must be greater than or equal to 1'),
        (
            {"health-check-type": "http", "health-check-http-endpoint": "health"},
            'Process "web": Health check http endpoint must be a valid URI path',
        ),
        ({"features": {"speed": True}}, FEATURES),
        ({"features": {"ssh": "yes"}}, FEATURES),
        ({"features": []}, FEATURES),
        ({"routes": "a.b"}, "Routes must be a list of route objects"),
        ({"routes": [{"path": "a.b"}]}, "Routes must be a list of route objects"),
        ({"routes": [{"route": "ftp://a.b"}]}, "The route 'ftp://a.b' is not a properly formed URL"),
        ({"routes": [{"route": "a.b", "protocol": "spdy"}]}, "Route protocol must be 'http1', 'http2' or 'tcp'."),
        ({"routes": [{"route": "a.b", "options": "x"}]}, "Route 'a.b': options must be an object"),
        (
            {"routes": [{"route": "a.b", "options": {"hash_header": "X"}}]},
            "Route 'a.b' contains invalid route option 'hash_header'. Valid keys: 'loadbalancing'",
        ),
        (
            {"routes": [{"route": "a.b", "options": {"loadbalancing": 1}}]},
            "Invalid value for 'loadbalancing' for Route 'a.b'; Valid values are: 'round-robin, least-connection'",
        ),
        (
            {"routes": [{"route": "a.b", "options": {"loadbalancing": "hash"}}]},
            "Cannot use loadbalancing value 'hash' for Route 'a.b'; Valid values are: 'round-robin, least-connection'",
        ),
        (
            {"health-check-type": "port", "health-check-http-endpoint": "/x"},
            'Process "web": Health check type must be "http" to set a health check HTTP endpoint',
        ),
        ({"metadata": {"labels": {"a b": "c"}}}, "Metadata label key error: 'a b' contains invalid characters"),
    ],
)
def test_what_an_application_may_not_say(square: Square, given: dict[str, Any], detail: str) -> None:
    assert square.details({"name": "a", **given}) == [f"For application 'a': {detail}"]


def test_unknown_keys_pass(square: Square) -> None:
    app = square.apply({"name": "a", "colour": "red", "processes": [{"type": "web", "flavour": "sweet"}]})
    assert app["name"] == "a"


def test_later_problems_are_the_jobs_and_the_first_app_ends_it(square: Square) -> None:
    job = square.job(
        {"name": "a", "routes": [{"route": "no.such.domain.example"}]},
        {"name": "b", "env": {"A": "1"}},
    )
    assert job["state"] == "FAILED"
    assert [error["detail"] for error in job["errors"]] == [
        "For application 'a': No domains exist for route no.such.domain.example"
    ]
    assert square.of(square.app("b"), "environment_variables")["var"] == {}


def test_nothing_is_taken_away(square: Square) -> None:
    first = square.apply(
        {
            "name": "a",
            "env": {"A": "1", "B": "2"},
            "routes": [{"route": "a.apps.localhost"}],
            "sidecars": [{"name": "s", "command": "c", "process_types": ["web"]}],
            "metadata": {"labels": {"x": "1"}, "annotations": {"y": "2"}},
            "processes": [{"type": "worker", "instances": 2}],
        }
    )
    second = square.apply(
        {"name": "a", "env": {"B": "3"}, "routes": [{"route": "b.apps.localhost"}], "metadata": {"labels": {"z": "1"}}}
    )
    assert second["guid"] == first["guid"]
    assert square.of(first, "environment_variables")["var"] == {"A": "1", "B": "3"}
    assert square.urls(first) == ["a.apps.localhost", "b.apps.localhost"]
    assert [one["name"] for one in square.of(first, "sidecars")["resources"]] == ["s"]
    assert second["metadata"] == {"labels": {"x": "1", "z": "1"}, "annotations": {"y": "2"}}
    assert square.of(first, "processes/worker")["instances"] == 2


def test_no_route_unmaps_everything(square: Square) -> None:
    app = square.apply({"name": "a", "routes": [{"route": "a.apps.localhost"}, {"route": "b.apps.localhost"}]})
    square.apply({"name": "a", "no-route": True})
    assert square.urls(app) == []
    assert len(square.cloud.admin.ok("GET", f"/v3/routes?space_guids={square.guid}")["resources"]) == 2


def test_every_key_of_a_process(square: Square) -> None:
    app = square.apply(
        {
            "name": "a",
            "command": "serve",
            "instances": 3,
            "memory": "0.5G",
            "disk_quota": "256MB",
            "log-rate-limit-per-second": "1KB",
            "timeout": 90,
            "health-check-type": "http",
            "health-check-http-endpoint": "/health",
            "health-check-invocation-timeout": 5,
            "health-check-interval": 7,
            "readiness-health-check-type": "http",
            "readiness-health-check-http-endpoint": "/ready",
            "readiness-health-check-invocation-timeout": 6,
            "readiness-health-check-interval": 8,
        }
    )
    web = square.of(app, "processes/web")
    assert (web["command"], web["instances"], web["memory_in_mb"], web["disk_in_mb"]) == ("serve", 3, 512, 256)
    assert web["log_rate_limit_in_bytes_per_second"] == 1024
    assert web["health_check"] == {
        "type": "http",
        "data": {"timeout": 90, "invocation_timeout": 5, "interval": 7, "endpoint": "/health"},
    }
    assert web["readiness_health_check"] == {
        "type": "http",
        "data": {"invocation_timeout": 6, "interval": 8, "endpoint": "/ready"},
    }


@pytest.mark.parametrize(
    ("amount", "megabytes"),
    [("1M", 1), ("1MB", 1), ("2G", 2048), ("2GB", 2048), ("1T", 1048576), ("1024K", 1), ("1024KB", 1), ("1048576B", 1)],
)
def test_units(square: Square, amount: str, megabytes: int) -> None:
    app = square.apply({"name": "a", "memory": amount})
    assert square.of(app, "processes/web")["memory_in_mb"] == megabytes


@pytest.mark.parametrize(("limit", "expected"), [(-1, -1), (0, 0), ("-1", -1), ("0", 0), ("2KB", 2048)])
def test_limits_of_logs_may_be_none_or_nothing(square: Square, limit: Any, expected: int) -> None:
    app = square.apply({"name": "a", "log-rate-limit-per-second": limit})
    assert square.of(app, "processes/web")["log_rate_limit_in_bytes_per_second"] == expected


def test_keys_are_spelled_with_either_line(square: Square) -> None:
    process = {"type": "w", "health_check_type": "process", "user": "vcap"}
    app = square.apply({"name": "a", "health_check_type": "process", "no_route": True, "processes": [process]})
    for kind in ("web", "w"):
        assert square.of(app, f"processes/{kind}")["health_check"]["type"] == "process"
    assert square.of(app, "processes/w")["user"] == "vcap"
    job = square.job({"name": "a", "processes": [{"type": "w", "user": "root"}]})
    assert job["errors"][0]["detail"] == (
        "For application 'a': user invalid (requested user 'root' not allowed, permitted users are: 'vcap')"
    )


def test_a_web_entry_replaces_what_stands_at_the_top(square: Square) -> None:
    app = square.apply(
        {
            "name": "a",
            "memory": "64M",
            "instances": 3,
            "command": "top",
            "processes": [{"type": "web", "memory": "32M"}],
        }
    )
    web = square.of(app, "processes/web")
    assert (web["memory_in_mb"], web["instances"], web["command"]) == (32, 1, None)


def test_disk_quota_is_written_in_two_ways(square: Square) -> None:
    app = square.apply({"name": "a", "disk-quota": "128M", "processes": [{"type": "w", "disk-quota": "64M"}]})
    assert square.of(app, "processes/web")["disk_in_mb"] == 128
    assert square.of(app, "processes/w")["disk_in_mb"] == 64


def test_features_stack_and_buildpacks(square: Square) -> None:
    square.cloud.admin.ok("POST", "/v3/buildpacks", {"name": "b"}, 201)
    app = square.apply({"name": "a", "features": {"ssh": False}, "stack": "cflinuxfs4", "buildpack": "b"})
    assert app["lifecycle"] == {"type": "buildpack", "data": {"buildpacks": ["b"], "stack": "cflinuxfs4"}}
    assert square.of(app, "features/ssh")["enabled"] is False
    square.apply({"name": "a", "features": {"service-binding-k8s": True}})
    job = square.job({"name": "a", "features": {"file-based-vcap-services": True}})
    assert job["errors"][0]["detail"] == (
        "For application 'a': 'file-based-vcap-services' and 'service-binding-k8s' features "
        "cannot be enabled at the same time."
    )
    both = {"service-binding-k8s": False, "file-based-vcap-services": True}
    assert square.of(square.apply({"name": "a", "features": both}), "features/ssh")["enabled"] is False
    again = square.apply({"name": "a", "buildpack": "default"})
    assert again["lifecycle"]["data"]["buildpacks"] == []


def test_values_of_variables_become_text(square: Square) -> None:
    app = square.apply({"name": "a", "env": {"N": 1, "F": 1.5, "T": True, "E": None, "L": [1, {"a": "b"}]}})
    assert square.of(app, "environment_variables")["var"] == {
        "N": "1",
        "F": "1.5",
        "T": "true",
        "E": "",
        "L": '[1,{"a":"b"}]',
    }


def test_the_longest_domain_wins_and_missing_routes_are_made(square: Square) -> None:
    square.cloud.admin.ok("POST", "/v3/domains", {"name": "deep.apps.localhost"}, 201)
    app = square.apply({"name": "a", "routes": [{"route": "x.deep.apps.localhost/p", "protocol": "http2"}]})
    (route,) = square.of(app, "routes")["resources"]
    assert (route["host"], route["path"], route["url"]) == ("x", "/p", "x.deep.apps.localhost/p")
    assert route["destinations"][0]["protocol"] == "http2"


def test_a_manifest_with_http2_says_what_is_not_spoken_yet(square: Square) -> None:
    http2 = {"name": "a", "routes": [{"route": "a.apps.localhost"}, {"route": "b.apps.localhost", "protocol": "http2"}]}
    by_space = square.post("actions/apply_manifest", {"name": "b"}, http2)
    finish(square.cloud)
    text, path = yaml.safe_dump({"applications": [http2]}).encode(), f"/v3/apps/{square.app('a')['guid']}"
    by_app = square.cloud.admin.post(f"{path}/actions/apply_manifest", content=text, headers=YAML)
    for answer in (by_space, by_app):
        assert answer.status_code == 202
        assert unquote(answer.headers["X-Cf-Warnings"]) == (
            "The protocol http2 is stored, not spoken by this router yet: it speaks HTTP/1.1 to apps."
        )
    plain = {"name": "a", "routes": [{"route": "a.apps.localhost", "protocol": "http1"}]}
    assert "X-Cf-Warnings" not in square.post("actions/apply_manifest", plain).headers


def test_routes_have_options(square: Square) -> None:
    options = {"loadbalancing": "least-connection"}
    app = square.apply({"name": "a", "routes": [{"route": "a.apps.localhost", "options": options}]})
    assert square.of(app, "routes")["resources"][0]["options"] == options
    square.cloud.admin.ok("PATCH", "/v3/feature_flags/hash_based_routing", {"enabled": True})
    options = {"loadbalancing": "hash", "hash_header": "X-User"}
    square.apply({"name": "a", "routes": [{"route": "a.apps.localhost", "options": options}]})
    assert square.of(app, "routes")["resources"][0]["options"] == options
    wrong = {"route": "a.apps.localhost", "options": {"loadbalancing": "hash", "hash_balance": "much"}}
    assert square.details({"name": "a", "routes": [wrong]}) == [
        "For application 'a': Route 'a.apps.localhost': Hash balance must be a numeric value"
    ]


def test_random_and_default_routes_are_for_apps_without_any(square: Square) -> None:
    named = square.apply({"name": "My App_1", "default-route": True})
    assert square.urls(named) == ["my-app-1.apps.localhost"]
    square.apply({"name": "My App_1", "random-route": True})
    assert square.urls(named) == ["my-app-1.apps.localhost"]
    assert square.urls(square.apply({"name": "Under_score", "default-route": True})) == ["under_score.apps.localhost"]
    other = square.apply({"name": "b", "random-route": True})
    (url,) = square.urls(other)
    assert url.startswith("b-")
    assert url.endswith(".apps.localhost")


def test_route_creation_binds_admins_too(square: Square) -> None:
    square.cloud.admin.ok("PATCH", "/v3/feature_flags/route_creation", {"enabled": False})
    job = square.job({"name": "a", "routes": [{"route": "a.apps.localhost"}]})
    assert (job["state"], job["errors"][0]["code"]) == ("FAILED", 330002)


def test_a_route_of_another_space_is_used_where_it_is_shared(square: Square) -> None:
    admin = square.cloud.admin
    other = square.cloud.space(org=square.org)["guid"]
    (domain,) = admin.ok("GET", "/v3/domains?names=apps.localhost")["resources"]
    links = {"space": {"data": {"guid": other}}, "domain": {"data": {"guid": domain["guid"]}}}
    route = admin.ok("POST", "/v3/routes", {"host": "a", "relationships": links}, 201)["guid"]
    wanted = {"name": "a", "routes": [{"route": "a.apps.localhost"}]}
    assert square.job(wanted)["errors"][0]["detail"].endswith(
        "Routes cannot be mapped to destinations in different spaces"
    )
    admin.ok("PATCH", "/v3/feature_flags/route_sharing", {"enabled": True})
    admin.ok("POST", f"/v3/routes/{route}/relationships/shared_spaces", {"data": [{"guid": square.guid}]})
    assert square.urls(square.apply(wanted)) == ["a.apps.localhost"]


def test_nobody_takes_all_hosts_of_a_shared_domain(square: Square) -> None:
    job = square.job({"name": "a", "routes": [{"route": "*.apps.localhost"}]})
    assert (job["state"], job["errors"][0]["code"]) == ("FAILED", 10003)


def test_docker_and_buildpack_apps_stay_what_they_are(square: Square) -> None:
    app = square.cloud.app("d", square.guid)
    with square.cloud.database.write() as tx:
        row = rows.by_guid(tx, apps, app["guid"])
        assert row is not None
        rows.change(tx, apps, row, {"lifecycle_type": "docker"})
    job = square.job({"name": "d", "buildpacks": ["https://example.com/b.git"]})
    assert (
        job["errors"][0]["detail"] == "For application 'd': Buildpacks cannot be configured for a docker lifecycle app."
    )
    square.cloud.app("b", square.guid)
    job = square.job({"name": "b", "docker": {"image": "registry/image"}})
    assert (
        job["errors"][0]["detail"] == "For application 'b': Docker cannot be configured for a buildpack lifecycle app."
    )


def test_lifecycles_that_are_switched_off(square: Square) -> None:
    docker = "this engine does not run docker images yet; push the app's source or its binary"
    assert square.details({"name": "d", "docker": {"image": "registry/image"}}) == [
        f"For application 'd': Feature Disabled: diego_docker: {docker}"
    ]
    assert square.cloud.admin.ok("GET", f"/v3/apps?space_guids={square.guid}")["resources"] == []
    body = {
        "name": "d",
        "relationships": {"space": {"data": {"guid": square.guid}}},
        "lifecycle": {"type": "docker", "data": {}},
    }
    problem = square.cloud.admin.problem("POST", "/v3/apps", body)
    assert problem == (403, 330002, f"Feature Disabled: diego_docker: {docker}")
    square.cloud.admin.ok("PATCH", "/v3/feature_flags/diego_cnb", {"custom_error_message": "Not here."})
    assert square.details({"name": "c", "lifecycle": "cnb"}) == ["For application 'c': Feature Disabled: Not here."]


def test_what_was_applied_is_told_without_secrets(square: Square) -> None:
    app = square.apply({"name": "a", "env": {"PASSWORD": "s3cret"}, "memory": "64M"})
    (event,) = square.cloud.admin.ok(
        "GET", f"/v3/audit_events?types=audit.app.apply_manifest&target_guids={app['guid']}"
    )["resources"]
    told = event["data"]["request"]["manifest"]
    assert "s3cret" not in told
    assert yaml.safe_load(told) == {"applications": [{"name": "a", "env": "[PRIVATE DATA HIDDEN]", "memory": "64M"}]}


def test_a_generated_manifest_says_everything_but_defaults(square: Square) -> None:
    app = square.apply(
        {
            "name": "a",
            "env": {"A": "1"},
            "metadata": {"labels": {"x": "1"}},
            "sidecars": [{"name": "s", "command": "c", "process_types": ["web"], "memory": "8M"}],
            "memory": "64M",
        }
    )
    answer = square.cloud.admin.get(f"/v3/apps/{app['guid']}/manifest")
    (written,) = yaml.safe_load(answer.text)["applications"]
    assert written["name"] == "a"
    assert (written["env"], written["metadata"]) == ({"A": "1"}, {"labels": {"x": "1"}})
    assert written["sidecars"] == [{"name": "s", "command": "c", "process_types": ["web"], "memory": "8M"}]
    (web,) = written["processes"]
    assert (web["type"], web["memory"]) == ("web", "64M")
    assert not {"routes", "services", "buildpacks"} & set(written)
    assert "health-check-http-endpoint" not in web


def test_who_reads_a_manifest(square: Square) -> None:
    path = f"/v3/apps/{square.apply({'name': 'a'})['guid']}/manifest"
    assert square.cloud.user(space_developer=square.guid).get(path).status_code == 200
    assert square.cloud.client("cloud_controller.admin_read_only").get(path).status_code == 200
    for client in (
        square.cloud.user(space_supporter=square.guid),
        square.cloud.user(space_auditor=square.guid),
        square.cloud.client("cloud_controller.global_auditor"),
    ):
        assert client.problem("GET", path)[:2] == (403, 10003)


def test_differences_are_told_of_the_keys_that_are_there(square: Square) -> None:
    square.apply({"name": "a", "memory": "512M", "env": {"A": "1"}, "processes": [{"type": "w", "memory": "64M"}]})

    def diff(**given: Any) -> Any:
        answer = square.post("manifest_diff", {"name": "a", **given})
        assert answer.status_code == 201
        return answer.json()["diff"]

    assert diff() == []
    assert diff(memory="1G", disk_quota="1G") == []
    assert diff(colour="red") == []
    assert diff(processes=[{"type": "w", "memory": "65536KB"}]) == []
    assert diff(processes=[{"type": "w", "memory": "1G"}]) == [
        {"op": "replace", "path": "/applications/0/processes/0/memory", "was": "64M", "value": "1024M"}
    ]
    assert diff(stack="cflinuxfs3") == [
        {"op": "replace", "path": "/applications/0/stack", "was": "cflinuxfs4", "value": "cflinuxfs3"}
    ]
    added = square.post("manifest_diff", {"name": "new", "instances": 2}).json()["diff"]
    assert sorted((one["op"], one["path"], one["value"]) for one in added) == [
        ("add", "/applications/0/instances", 2),
        ("add", "/applications/0/name", "new"),
    ]


def test_credentials_of_cloud_native_buildpacks_are_sealed(square: Square) -> None:
    app = square.cloud.app("c", square.guid)
    with square.cloud.database.write() as tx:
        row = rows.by_guid(tx, apps, app["guid"])
        assert row is not None
        secret = {"registry": {"username": "ann", "password": "s3cret"}}
        rows.change(
            tx, apps, row, {"lifecycle_type": "cnb", "cnb_credentials": sealed.seal(tx, apps.c.cnb_credentials, secret)}
        )
    shown = square.app("c")
    assert shown["lifecycle"]["data"]["credentials"] == "***"
