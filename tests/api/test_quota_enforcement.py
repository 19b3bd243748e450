"""What quotas refuse, wherever something starts, grows or is made; and the sums that they look at."""

import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from sqlalchemy import insert

from cupola.domain import quotas
from cupola.store.database import Tx
from cupola.store.routes import routes
from tests.api.conftest import Cloud
from tests.api.test_organization_quotas import targets
from tests.api.work import finish

YAML = {"Content-Type": "application/x-yaml"}


class Place:
    """An organization `acme` and a space `dev` in it, each with a quota of its own."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.org = cloud.org("acme")["guid"]
        self.space = cloud.space("dev", self.org)["guid"]
        relationships = {"organizations": targets(self.org)}
        made = cloud.admin.ok("POST", "/v3/organization_quotas", {"name": "q", "relationships": relationships}, 201)
        self._of_org = f"/v3/organization_quotas/{made['guid']}"
        owner = {"organization": {"data": {"guid": self.org}}, "spaces": targets(self.space)}
        made = cloud.admin.ok("POST", "/v3/space_quotas", {"name": "q", "relationships": owner}, 201)
        self._of_space = f"/v3/space_quotas/{made['guid']}"

    def limit(self, which: str, **limits: Any) -> None:
        """Set limits of apps (or `group=routes`) of the `org` or the `space`."""
        group = limits.pop("group", "apps")
        path = self._of_org if which == "org" else self._of_space
        self.cloud.admin.ok("PATCH", path, {group: limits})

    def app(self, *, started: bool = False, **scale: Any) -> str:
        """An app with a droplet, and its web process scaled."""
        guid = str(self.cloud.app(space=self.space)["guid"])
        if scale:
            self.scale(guid, scale)
        droplet(self.cloud, guid)
        if started:
            self.start(guid)
        return guid

    def scale(self, app: str, scale: Any) -> None:
        self.cloud.admin.ok("POST", f"/v3/apps/{app}/processes/web/actions/scale", scale, 202)

    def start(self, app: str) -> None:
        self.cloud.admin.ok("POST", f"/v3/apps/{app}/actions/start")

    def refused(self, method: str, path: str, body: Any = None) -> str:
        """The detail of a 422."""
        status, code, detail = self.cloud.admin.problem(method, path, body)
        assert (status, code) == (422, 10008), detail
        return detail


@pytest.fixture
def place(cloud: Cloud) -> Place:
    return Place(cloud)


def droplet(cloud: Cloud, app: str) -> str:
    body = {"relationships": {"app": {"data": {"guid": app}}}, "process_types": {"web": "run"}}
    guid = str(cloud.admin.ok("POST", "/v3/droplets", body, 201)["guid"])
    answer = cloud.admin.post(f"/v3/droplets/{guid}/upload", files={"bits": ("d.tgz", b"bits", "application/gzip")})
    assert answer.status_code == 202, answer.text
    cloud.admin.ok("PATCH", f"/v3/apps/{app}/relationships/current_droplet", {"data": {"guid": guid}})
    return guid


MEMORY = {"total_memory_in_mb": 1000}
PROCESS_LIMITS = [
    ("space", MEMORY, "memory space_quota_exceeded"),
    ("org", MEMORY, "memory quota_exceeded"),
    ("org", {"per_process_memory_in_mb": 399}, "memory instance_memory_limit_exceeded"),
    ("space", {"per_process_memory_in_mb": 399}, "memory space_instance_memory_limit_exceeded"),
    ("org", {"total_instances": 2}, "app_instance_limit app_instance_limit_exceeded"),
    ("space", {"total_instances": 2}, "app_instance_limit space_app_instance_limit_exceeded"),
    ("space", {"log_rate_limit_in_bytes_per_second": 29}, "log_rate_limit exceeds space log rate quota"),
    ("org", {"log_rate_limit_in_bytes_per_second": 29}, "log_rate_limit exceeds organization log rate quota"),
]
SIZE: dict[str, Any] = {"instances": 3, "memory_in_mb": 400, "log_rate_limit_in_bytes_per_second": 10}


@pytest.mark.parametrize(("which", "limits", "detail"), PROCESS_LIMITS)
def test_an_app_starts_only_within_its_quotas(place: Place, which: str, limits: dict[str, int], detail: str) -> None:
    place.limit(which, **limits)
    # A stopped app may be of any size.
    app = place.app(**SIZE)
    for verb in ("start", "restart"):
        assert place.refused("POST", f"/v3/apps/{app}/actions/{verb}") == detail
    assert place.cloud.admin.ok("GET", f"/v3/apps/{app}")["state"] == "STOPPED"
    place.limit(which, **{name: most + 1000 for name, most in limits.items()})
    place.start(app)


@pytest.mark.parametrize(("which", "limits", "detail"), PROCESS_LIMITS)
def test_a_started_process_grows_only_within_its_quotas(
    place: Place, which: str, limits: dict[str, int], detail: str
) -> None:
    app = place.app(instances=1, memory_in_mb=100, log_rate_limit_in_bytes_per_second=10)
    place.start(app)
    place.limit(which, **limits)
    path = f"/v3/apps/{app}/processes/web"
    for scale in (f"{path}/actions/scale", f"/v3/processes/{app}/actions/scale"):
        assert place.refused("POST", scale, SIZE) == detail
    shown = place.cloud.admin.ok("GET", path)
    assert (shown["instances"], shown["memory_in_mb"]) == (1, 100)
    place.scale(app, {"instances": 2, "memory_in_mb": 200})


def test_everything_that_runs_in_the_organization_counts(place: Place) -> None:
    place.limit("org", total_memory_in_mb=500, total_instances=3)
    place.app(started=True, instances=2, memory_in_mb=100)
    place.app(instances=9, memory_in_mb=900)
    beside = place.cloud.app(space=place.cloud.space(org=place.org)["guid"])["guid"]
    droplet(place.cloud, beside)
    place.scale(beside, {"memory_in_mb": 301})
    assert place.refused("POST", f"/v3/apps/{beside}/actions/start") == "memory quota_exceeded"
    place.scale(beside, {"instances": 2, "memory_in_mb": 150})
    assert place.refused("POST", f"/v3/apps/{beside}/actions/start") == (
        "app_instance_limit app_instance_limit_exceeded"
    )
    place.scale(beside, {"instances": 1, "memory_in_mb": 300})
    place.start(beside)
    elsewhere = place.cloud.app()["guid"]
    droplet(place.cloud, elsewhere)
    place.start(elsewhere)


def test_a_space_counts_its_own(place: Place) -> None:
    place.limit("space", total_memory_in_mb=300)
    beside = place.cloud.app(space=place.cloud.space(org=place.org)["guid"])["guid"]
    droplet(place.cloud, beside)
    place.start(beside)
    place.app(started=True, memory_in_mb=200)
    app = place.app(memory_in_mb=101)
    assert place.refused("POST", f"/v3/apps/{app}/actions/start") == "memory space_quota_exceeded"


def test_requests_at_once_cannot_share_the_same_room(place: Place) -> None:
    place.limit("org", total_memory_in_mb=300)
    apps = [place.app(memory_in_mb=100) for _ in range(6)]
    with ThreadPoolExecutor(len(apps)) as pool:
        answers = list(pool.map(lambda app: place.cloud.admin.post(f"/v3/apps/{app}/actions/start"), apps))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [422] * 3


def test_all_that_a_process_breaks_is_said_in_one_error(place: Place) -> None:
    for which in ("org", "space"):
        place.limit(which, total_memory_in_mb=1, per_process_memory_in_mb=1, total_instances=1)
        place.limit(which, log_rate_limit_in_bytes_per_second=1)
    app = place.app(**SIZE)
    assert place.refused("POST", f"/v3/apps/{app}/actions/start") == (
        "memory space_quota_exceeded, memory quota_exceeded, memory instance_memory_limit_exceeded, "
        "memory space_instance_memory_limit_exceeded, app_instance_limit app_instance_limit_exceeded, "
        "app_instance_limit space_app_instance_limit_exceeded, log_rate_limit exceeds space log rate quota, "
        "log_rate_limit exceeds organization log rate quota"
    )


def test_unlimited_logs_do_not_go_with_a_limit(place: Place) -> None:
    place.limit("space", log_rate_limit_in_bytes_per_second=1000)
    app = place.app(log_rate_limit_in_bytes_per_second=-1)
    assert (
        place.refused("POST", f"/v3/apps/{app}/actions/start") == "log_rate_limit cannot be unlimited in space 'dev'."
    )
    place.scale(app, {"log_rate_limit_in_bytes_per_second": 1000})
    place.start(app)
    place.limit("org", log_rate_limit_in_bytes_per_second=1000)
    path = f"/v3/apps/{app}/processes/web/actions/scale"
    assert place.refused("POST", path, {"log_rate_limit_in_bytes_per_second": -1}) == (
        "log_rate_limit cannot be unlimited in space 'dev'., log_rate_limit cannot be unlimited in organization 'acme'."
    )


def test_a_lower_limit_stops_nothing_but_lets_nothing_change_above_it(place: Place) -> None:
    app = place.app(started=True, instances=4, memory_in_mb=100)
    place.limit("org", total_memory_in_mb=250)
    assert place.cloud.admin.ok("GET", f"/v3/apps/{app}")["state"] == "STARTED"
    path = f"/v3/apps/{app}/processes/web"
    assert place.refused("PATCH", path, {"command": "x"}) == "memory quota_exceeded"
    assert place.refused("POST", path + "/actions/scale", {"instances": 3}) == "memory quota_exceeded"
    place.scale(app, {"instances": 2})
    assert place.cloud.admin.ok("PATCH", path, {"command": "x"})["command"] == "x"
    place.cloud.admin.ok("POST", f"/v3/apps/{app}/actions/stop")
    place.limit("org", total_memory_in_mb=1)
    assert place.cloud.admin.ok("PATCH", path, {"command": "y"})["command"] == "y"


def test_processes_that_join_a_started_app(place: Place) -> None:
    app = place.app(started=True, memory_in_mb=100)
    place.limit("org", per_process_memory_in_mb=1023)
    body = {"relationships": {"app": {"data": {"guid": app}}}, "process_types": {"web": "run", "worker": "work"}}
    guid = place.cloud.admin.ok("POST", "/v3/droplets", body, 201)["guid"]
    place.cloud.admin.post(f"/v3/droplets/{guid}/upload", files={"bits": ("d.tgz", b"bits", "application/gzip")})
    current = f"/v3/apps/{app}/relationships/current_droplet"
    assert place.refused("PATCH", current, {"data": {"guid": guid}}) == "memory instance_memory_limit_exceeded"
    types = place.cloud.admin.ok("GET", f"/v3/apps/{app}/processes")["resources"]
    assert [one["type"] for one in types] == ["web"]
    place.limit("org", per_process_memory_in_mb=1024)
    place.cloud.admin.ok("PATCH", current, {"data": {"guid": guid}})


def deployment(app: str, **options: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"relationships": {"app": {"data": {"guid": app}}}}
    return {**body, "options": options} if options else body


def test_a_deployment_needs_room_for_old_and_new(place: Place) -> None:
    app = place.app(started=True, instances=1, memory_in_mb=100)
    hint = "quota may not be large enough to support rolling deployments or your configured max-in-flight."
    place.limit("space", total_memory_in_mb=150)
    assert place.refused("POST", "/v3/deployments", deployment(app)) == (
        f"memory space_quota_exceeded for space dev. This space's {hint}"
    )
    place.limit("space", total_memory_in_mb=None)
    place.limit("org", total_instances=1)
    assert place.refused("POST", "/v3/deployments", deployment(app)) == (
        f"app_instance_limit app_instance_limit_exceeded for organization acme. This organization's {hint}"
    )
    place.limit("org", total_instances=None, per_process_memory_in_mb=100)
    assert place.refused("POST", "/v3/deployments", deployment(app, memory_in_mb=200)) == (
        "memory instance_memory_limit_exceeded"
    )
    assert place.cloud.admin.ok("GET", "/v3/deployments")["resources"] == []
    assert place.cloud.admin.post("/v3/deployments", deployment(app)).status_code == 201


def test_a_deployment_of_a_stopped_app_starts_it_within_its_quotas(place: Place) -> None:
    app = place.app(memory_in_mb=200)
    place.limit("org", total_memory_in_mb=150)
    assert place.refused("POST", "/v3/deployments", deployment(app)).startswith(
        "memory quota_exceeded for organization acme."
    )
    assert place.cloud.admin.ok("GET", f"/v3/apps/{app}")["state"] == "STOPPED"


@pytest.mark.parametrize(
    ("which", "limits", "detail"),
    [
        ("space", {"total_memory_in_mb": 299}, "memory_in_mb exceeds space memory quota"),
        ("org", {"total_memory_in_mb": 299}, "memory_in_mb exceeds organization memory quota"),
        ("space", {"per_process_memory_in_mb": 199}, "memory_in_mb exceeds space instance memory quota"),
        ("org", {"per_process_memory_in_mb": 199}, "memory_in_mb exceeds organization instance memory quota"),
        ("space", {"log_rate_limit_in_bytes_per_second": 29}, "log_rate_limit exceeds space log rate quota"),
        ("org", {"log_rate_limit_in_bytes_per_second": 29}, "log_rate_limit exceeds organization log rate quota"),
        ("space", {"per_app_tasks": 0}, "app_task_limit quota exceeded"),
        ("org", {"per_app_tasks": 0}, "app_task_limit quota exceeded"),
    ],
)
def test_tasks_run_only_within_quotas(place: Place, which: str, limits: dict[str, int], detail: str) -> None:
    app = place.app(started=True, memory_in_mb=100, log_rate_limit_in_bytes_per_second=10)
    place.limit(which, **limits)
    task = {"command": "x", "memory_in_mb": 200, "log_rate_limit_in_bytes_per_second": 20}
    assert place.refused("POST", f"/v3/apps/{app}/tasks", task) == detail
    place.limit(which, **{name: most + 1 for name, most in limits.items()})
    assert place.cloud.admin.post(f"/v3/apps/{app}/tasks", task).status_code == 202


def test_tasks_count_until_they_end(place: Place) -> None:
    app = place.app(memory_in_mb=150)
    place.limit("org", per_app_tasks=1, total_memory_in_mb=200)
    task = {"command": "x", "memory_in_mb": 100}
    made = place.cloud.admin.ok("POST", f"/v3/apps/{app}/tasks", task, 202)
    assert place.refused("POST", f"/v3/apps/{app}/tasks", task) == "app_task_limit quota exceeded"
    assert place.refused("POST", f"/v3/apps/{app}/actions/start") == "memory quota_exceeded"
    place.cloud.admin.ok("POST", f"/v3/tasks/{made['guid']}/actions/cancel", status=202)
    place.start(app)


def test_tasks_with_unlimited_logs(place: Place) -> None:
    app = place.app()
    place.limit("org", log_rate_limit_in_bytes_per_second=10)
    task = {"command": "x", "log_rate_limit_in_bytes_per_second": -1}
    assert place.refused("POST", f"/v3/apps/{app}/tasks", task) == (
        "log_rate_limit cannot be unlimited in organization 'acme'."
    )


def test_builds_fit_beside_what_runs(place: Place) -> None:
    app = place.app(started=True, memory_in_mb=100, log_rate_limit_in_bytes_per_second=10)
    image = {"type": "bits", "relationships": {"app": {"data": {"guid": app}}}}
    package = place.cloud.admin.ok("POST", "/v3/packages", image, 201)["guid"]
    bits = {"bits": ("a.zip", _zip(), "application/zip")}
    assert place.cloud.admin.post(f"/v3/packages/{package}/upload", files=bits).status_code == 200
    build = {
        "package": {"guid": package},
        "staging_memory_in_mb": 512,
        "staging_log_rate_limit_bytes_per_second": 1000,
    }
    cases: list[tuple[str, dict[str, int], str]] = [
        ("space", {"total_memory_in_mb": 600}, "space's memory limit exceeded: staging requires 512M memory"),
        ("org", {"total_memory_in_mb": 600}, "organization's memory limit exceeded: staging requires 512M memory"),
        (
            "space",
            {"log_rate_limit_in_bytes_per_second": 1009},
            "space's log rate limit exceeded: staging requires 1000 bytes per second",
        ),
        (
            "org",
            {"log_rate_limit_in_bytes_per_second": 1009},
            "organization's log rate limit exceeded: staging requires 1000 bytes per second",
        ),
    ]
    for which, limits, detail in cases:
        place.limit(which, **limits)
        assert place.refused("POST", "/v3/builds", build) == detail
        place.limit(which, **dict.fromkeys(limits))
    assert place.cloud.admin.post("/v3/builds", build).status_code == 201


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.html", "x")
    return buffer.getvalue()


def test_a_manifest_is_held_to_quotas_as_well(place: Place) -> None:
    app = place.app(started=True, memory_in_mb=100)
    name = place.cloud.admin.ok("GET", f"/v3/apps/{app}")["name"]
    place.limit("org", total_memory_in_mb=500)
    place.limit("space", group="routes", total_routes=1)

    def applied(manifest: dict[str, Any]) -> Any:
        text = yaml.safe_dump({"applications": [{"name": name, **manifest}]}).encode()
        path = f"/v3/spaces/{place.space}/actions/apply_manifest"
        answer = place.cloud.admin.post(path, content=text, headers=YAML)
        assert answer.status_code == 202, answer.text
        finish(place.cloud)
        return place.cloud.admin.ok("GET", answer.headers["Location"].removeprefix(place.cloud.settings.api_url))

    def problem(manifest: dict[str, Any]) -> str:
        job = applied(manifest)
        assert job["state"] == "FAILED", job
        (error,) = job["errors"]
        return str(error["detail"])

    assert problem({"memory": "501M"}) == f"For application '{name}': memory quota_exceeded"
    routes = [{"route": "a.apps.localhost"}, {"route": "b.apps.localhost"}]
    assert problem({"routes": routes}) == f"For application '{name}': Routes quota exceeded for space 'dev'."
    assert applied({"memory": "250M", "instances": 2, "routes": routes[:1]})["state"] == "COMPLETE"


def route(place: Place, host: str, space: str = "") -> dict[str, Any]:
    domain = place.cloud.admin.ok("GET", "/v3/domains?names=apps.localhost")["resources"][0]["guid"]
    return {
        "host": host,
        "relationships": {
            "space": {"data": {"guid": space or place.space}},
            "domain": {"data": {"guid": domain}},
        },
    }


def test_routes_are_made_only_within_quotas(place: Place) -> None:
    create = place.cloud.admin.post
    place.limit("space", group="routes", total_routes=1)
    place.limit("org", group="routes", total_routes=2)
    assert create("/v3/routes", route(place, "a")).status_code == 201
    assert place.refused("POST", "/v3/routes", route(place, "b")) == "Routes quota exceeded for space 'dev'."
    beside = place.cloud.space(org=place.org)["guid"]
    assert create("/v3/routes", route(place, "b", beside)).status_code == 201
    assert place.refused("POST", "/v3/routes", route(place, "c", beside)) == (
        "Routes quota exceeded for organization 'acme'."
    )
    # The quota is looked at before the address is.
    assert place.refused("POST", "/v3/routes", route(place, "a")) == "Routes quota exceeded for space 'dev'."


def test_ports_are_reserved_only_within_quotas(place: Place) -> None:
    """No router group has TCP ports yet, so that no request gets here; the rule is asked itself."""

    def problem() -> str:
        with place.cloud.database.write() as tx:
            try:
                quotas.require_route(tx, place.space, with_port=True)
            except Exception as error:
                return str(getattr(error, "detail", error))
        return ""

    _port_route(place, 1)
    assert problem() == ""
    for limits, detail in (
        ({"total_reserved_ports": 1}, "Reserved route ports quota exceeded for organization 'acme'."),
        ({"total_reserved_ports": 2}, ""),
        ({"total_reserved_ports": None, "total_routes": 1}, "Routes quota exceeded for organization 'acme'."),
    ):
        place.limit("org", group="routes", **limits)
        assert problem() == detail
    place.limit("org", group="routes", total_routes=None)
    place.limit("space", group="routes", total_reserved_ports=0)
    assert problem() == "Reserved route ports quota exceeded for space 'dev'."


def _port_route(place: Place, number: int) -> None:
    domain = place.cloud.admin.ok("GET", "/v3/domains?names=apps.localhost")["resources"][0]["guid"]
    with place.cloud.database.write() as tx:
        times = {"created_at": tx.now, "updated_at": tx.now}
        values = {"guid": f"port-{number}", "host": "", "path": "", "port": number, "options": {}, **times}
        tx.run(insert(routes).values(**values, domain_guid=domain, space_guid=place.space))


def test_private_domains_are_made_only_within_the_quota(place: Place) -> None:
    owner = {"organization": {"data": {"guid": place.org}}}
    place.limit("org", group="domains", total_domains=1)
    manager = place.cloud.user(organization_manager=place.org)
    assert manager.post("/v3/domains", {"name": "a.test", "relationships": owner}).status_code == 201
    assert manager.problem("POST", "/v3/domains", {"name": "b.test", "relationships": owner}) == (
        422,
        10008,
        'The number of private domains exceeds the quota for organization "acme"',
    )
    assert place.cloud.admin.post("/v3/domains", {"name": "shared.test"}).status_code == 201


def test_usage_summaries(place: Place) -> None:
    cloud = place.cloud
    app = place.app(started=True, instances=2, memory_in_mb=100)
    place.app(instances=5, memory_in_mb=1000)
    cloud.admin.ok("POST", f"/v3/apps/{app}/tasks", {"command": "x", "memory_in_mb": 30}, 202)
    beside = cloud.space(org=place.org)["guid"]
    other = cloud.app(space=beside)["guid"]
    droplet(cloud, other)
    place.scale(other, {"memory_in_mb": 7})
    place.start(other)
    cloud.admin.ok("POST", "/v3/routes", route(place, "a"), 201)
    cloud.admin.ok("POST", "/v3/routes", route(place, "b", beside), 201)
    _port_route(place, 5)
    owner = {"organization": {"data": {"guid": place.org}}}
    cloud.admin.ok("POST", "/v3/domains", {"name": "a.test", "relationships": owner}, 201)
    # What is elsewhere does not count.
    elsewhere = cloud.app()["guid"]
    droplet(cloud, elsewhere)
    place.start(elsewhere)
    url = cloud.settings.api_url
    path = f"/v3/organizations/{place.org}"
    assert cloud.user(organization_auditor=place.org).ok("GET", path + "/usage_summary") == {
        "usage_summary": {
            "started_instances": 3,
            "memory_in_mb": 237,
            "routes": 3,
            "service_instances": 0,
            "reserved_ports": 1,
            "domains": 1,
            "per_app_tasks": 1,
            "service_keys": 0,
        },
        "links": {"self": {"href": f"{url}{path}/usage_summary"}, "organization": {"href": url + path}},
    }
    path = f"/v3/spaces/{place.space}"
    assert cloud.user(space_auditor=place.space).ok("GET", path + "/usage_summary") == {
        "usage_summary": {
            "started_instances": 2,
            "memory_in_mb": 230,
            "routes": 2,
            "service_instances": 0,
            "reserved_ports": 1,
            "domains": 1,
            "per_app_tasks": 1,
            "service_keys": 0,
        },
        "links": {"self": {"href": f"{url}{path}/usage_summary"}, "space": {"href": url + path}},
    }
    assert cloud.user().problem("GET", path + "/usage_summary") == (404, 10010, "Space not found")
    whole = cloud.admin.ok("GET", "/v3/info/usage_summary")["usage_summary"]
    assert (whole["started_instances"], whole["memory_in_mb"], whole["routes"]) == (4, 237 + 1024, 3)
    assert (whole["domains"], whole["reserved_ports"], whole["per_app_tasks"]) == (1, 1, 1)


def test_what_is_used_is_counted_in_few_statements(place: Place) -> None:
    def statements() -> int:
        with place.cloud.database.watched() as sent:
            place.cloud.admin.ok("GET", f"/v3/organizations/{place.org}/usage_summary")
        return len(sent)

    few = statements()
    for _ in range(3):
        place.app(started=True)
    assert statements() == few
    with place.cloud.database.write() as tx:
        assert _cost(tx, place, 1) == _cost(tx, place, 20)


def _cost(tx: Tx, place: Place, processes: int) -> int:
    before = tx.statements
    quotas.require_processes(tx, place.space, [quotas.Size(f"p{index}", 1, 1, 1) for index in range(processes)])
    return tx.statements - before
