"""Builds over HTTP: relabelled by themselves and through their app, ended by admins."""

from typing import Any

import pytest

from cupola.domain import builds_outcome
from cupola.store import rows
from cupola.store.staging import packages
from tests.api.conftest import Cloud
from tests.scripted_cell import ScriptedCell

LABEL = {"metadata": {"labels": {"a": "b"}}}


class Site:
    """An app with a package that can be staged."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        space = cloud.space()
        self.space: str = space["guid"]
        self.org: str = space["relationships"]["organization"]["data"]["guid"]
        self.app: str = cloud.app("shop", self.space)["guid"]
        values = {"app_guid": self.app, "type": "bits", "state": "READY", "digest": "sha256:p"}
        with cloud.database.write() as tx:
            self.package: str = rows.add(tx, packages, values).guid

    def build(self) -> Any:
        return self.cloud.admin.ok("POST", "/v3/builds", {"package": {"guid": self.package}}, 201)

    def user(self, role: str) -> Any:
        return self.cloud.user(**{role: self.space, "organization_user": self.org})


@pytest.fixture
def site(cloud: Cloud) -> Site:
    return Site(cloud)


@pytest.mark.parametrize("path", ["/v3/builds", "/v3/internal/builds"])
def test_admins_end_builds_that_would_never_end(site: Site, path: str) -> None:
    build = site.build()
    own = f"{path}/{build['guid']}"
    failed = site.cloud.admin.ok("PATCH", own, {"state": "FAILED", "error": "gave up", **LABEL})
    assert (failed["state"], failed["error"]) == ("FAILED", "StagingError - Staging error: gave up")
    assert failed["metadata"]["labels"] == {"a": "b"}
    again = site.cloud.admin.problem("PATCH", own, {"state": "FAILED"})
    assert again == (422, 10008, "The build cannot be changed to FAILED: it has ended as FAILED.")
    site.build()


def test_the_end_of_a_build_is_no_developers_business(site: Site) -> None:
    build = site.build()
    developer = site.user("space_developer")
    own = f"/v3/builds/{build['guid']}"
    assert developer.problem("PATCH", own, {"state": "FAILED"})[:2] == (403, 10003)
    assert developer.problem("PATCH", f"/v3/internal/builds/{build['guid']}", LABEL)[:2] == (403, 10003)
    assert developer.ok("PATCH", own, LABEL)["metadata"]["labels"] == {"a": "b"}
    staged = site.cloud.admin.problem("PATCH", own, {"state": "STAGED"})
    assert staged[2].startswith("State can only be set to 'FAILED'")
    assert site.cloud.admin.problem("PATCH", own, {"error": "x"})[0] == 422


def test_the_newest_build_of_an_app_is_relabelled_through_it(site: Site) -> None:
    path = f"/v3/apps/{site.app}/builds"
    assert site.cloud.admin.problem("PATCH", path, LABEL) == (404, 10010, "Build not found")
    old = site.build()
    site.cloud.admin.ok("PATCH", f"/v3/builds/{old['guid']}", {"state": "FAILED"})
    new = site.build()
    changed = site.user("space_developer").ok("PATCH", path, LABEL)
    assert (changed["guid"], changed["metadata"]["labels"]) == (new["guid"], {"a": "b"})
    assert site.user("space_auditor").problem("PATCH", path, LABEL)[:2] == (403, 10003)


def test_a_build_may_use_what_the_app_may(site: Site) -> None:
    limits = ("staging_memory_in_mb", "staging_disk_in_mb")
    build = site.build()
    assert [build[name] for name in limits] == [1024, 4096]
    site.cloud.admin.ok("PATCH", f"/v3/builds/{build['guid']}", {"state": "FAILED"})
    more = {"memory_in_mb": 3000, "disk_in_mb": 2048}
    site.cloud.admin.ok("POST", f"/v3/apps/{site.app}/processes/web/actions/scale", more, 202)
    build = site.build()
    assert [build[name] for name in limits] == [3000, 4096]


@pytest.mark.parametrize(("command", "state"), [(None, "FAILED"), ("run", "STAGED")])
def test_something_says_how_the_app_starts(site: Site, command: str | None, state: str) -> None:
    site.cloud.admin.ok("PATCH", f"/v3/processes/{site.app}", {"command": command})
    build = site.build()["guid"]
    staged = {"droplet": "sha256:0", "sha1": "0", "size": 1, "cache": "", "stack_fingerprint": ""}
    with site.cloud.database.write() as tx:
        builds_outcome.succeed(tx, site.cloud.settings, build, result={}, **staged)  # type: ignore[arg-type]  # one int
    shown = site.cloud.admin.ok("GET", f"/v3/builds/{build}")
    assert (shown["state"], shown["droplet"] is None) == (state, command is None)
    # What was built runs when somebody makes it the current droplet.
    assert site.cloud.admin.problem("GET", f"/v3/apps/{site.app}/droplets/current") == (
        404,
        10010,
        "Droplet not found",
    )
    if command is None:
        assert shown["error"] == "StagingError - Staging error: Start command not specified"


def test_a_build_has_no_more_disk_than_an_app_may_have(site: Site) -> None:
    body = {"package": {"guid": site.package}, "staging_disk_in_mb": 5000}
    assert site.cloud.admin.problem("POST", "/v3/builds", body) == (422, 10008, "disk limit exceeded")


def test_the_newest_packages_and_droplets_are_kept(site: Site) -> None:
    """Besides the current droplet and its package; the bits of others go."""
    blobs = site.cloud.settings.blobs
    blobs.max_staged_droplets = blobs.max_valid_packages = 2
    site.cloud.admin.ok("PATCH", f"/v3/processes/{site.app}", {"command": "run"})
    made: list[tuple[str, str]] = []
    for number in range(5):
        values = {"app_guid": site.app, "type": "bits", "state": "READY", "digest": f"sha256:p{number}"}
        with site.cloud.database.write() as tx:
            site.package = rows.add(tx, packages, values).guid
        build = site.build()["guid"]
        staged = {"droplet": f"sha256:{number}", "sha1": "0", "size": 1, "cache": "", "stack_fingerprint": ""}
        result = {"process_types": {"web": "run"}}
        with site.cloud.database.write() as tx:
            builds_outcome.succeed(tx, site.cloud.settings, build, result=result, **staged)  # type: ignore[arg-type]  # one int
        droplet = site.cloud.admin.ok("GET", f"/v3/builds/{build}")["droplet"]["guid"]
        made.append((site.package, droplet))
        if number == 0:
            current = f"/v3/apps/{site.app}/relationships/current_droplet"
            site.cloud.admin.ok("PATCH", current, {"data": {"guid": droplet}})

    def states(kind: str, which: int) -> list[str]:
        return [site.cloud.admin.ok("GET", f"/v3/{kind}/{one[which]}")["state"] for one in made]

    assert states("droplets", 1) == ["STAGED", "EXPIRED", "EXPIRED", "STAGED", "STAGED"]
    assert states("packages", 0) == ["READY", "EXPIRED", "EXPIRED", "READY", "READY"]
    assert site.cloud.admin.problem("GET", f"/v3/packages/{made[1][0]}/download")[0] == 422
    assert site.cloud.admin.problem("GET", f"/v3/droplets/{made[1][1]}/download")[0] == 422


def test_a_stack_must_be_one(site: Site) -> None:
    data = {"lifecycle": {"type": "buildpack", "data": {"stack": "nope"}}}
    expected = (422, 10008, "Stack must be an existing stack")
    assert site.cloud.admin.problem("PATCH", f"/v3/apps/{site.app}", data) == expected
    assert site.cloud.admin.problem("POST", "/v3/builds", {"package": {"guid": site.package}, **data}) == expected
    body = {"name": "x", "relationships": {"space": {"data": {"guid": site.space}}}, **data}
    assert site.cloud.admin.problem("POST", "/v3/apps", body) == expected


def test_stronger_variables_win_while_staging(site: Site) -> None:
    """Group, then the app's own, then the build's, then the platform's."""
    admin = site.cloud.admin
    group = dict.fromkeys(("A", "B", "C", "CF_STACK"), "group")
    admin.ok("PATCH", "/v3/environment_variable_groups/staging", {"var": group})
    admin.ok("PATCH", "/v3/environment_variable_groups/running", {"var": {"D": "running"}})
    admin.ok("PATCH", f"/v3/apps/{site.app}/environment_variables", {"var": {"B": "app", "C": "app"}})
    body = {"package": {"guid": site.package}, "environment_variables": {"C": "build"}}
    build = admin.ok("POST", "/v3/builds", body, 201)["guid"]
    task = ScriptedCell(site.cloud.database, site.cloud.settings).task(build)
    assert task is not None
    found = {name: task.env.get(name) for name in "ABCD"}
    assert found == {"A": "group", "B": "app", "C": "build", "D": None}
    assert task.env["CF_STACK"] == "cflinuxfs4"


def test_a_build_names_its_package(site: Site) -> None:
    size = "Package guid must be between 1 and 200 characters"
    for package, detail in (
        (None, f"Package guid can't be blank, Package guid must be a string, {size}"),
        ({"guid": 1}, f"Package guid must be a string, {size}"),
        ({"guid": ""}, f"Package guid can't be blank, {size}"),
        ({"guid": "x" * 201}, size),
    ):
        assert site.cloud.admin.problem("POST", "/v3/builds", {"package": package}) == (422, 10008, detail)
