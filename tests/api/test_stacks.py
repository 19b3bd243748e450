"""Stacks: names, states and what each state means for apps and builds."""

from typing import Any
from urllib.parse import unquote

import pytest

from cupola.store import rows
from cupola.store.staging import packages
from tests.api.conftest import Cloud
from tests.scripted_cell import staged_droplet

REASON = "Use another one."


def _stack(cloud: Cloud, state: str = "ACTIVE", name: str = "old") -> Any:
    return cloud.admin.ok("POST", "/v3/stacks", {"name": name, "state": state, "state_reason": REASON}, 201)


def _on(cloud: Cloud, stack: str, space: str = "") -> dict[str, Any]:
    return {
        "name": "shop",
        "relationships": {"space": {"data": {"guid": space or cloud.space()["guid"]}}},
        "lifecycle": {"type": "buildpack", "data": {"stack": stack}},
    }


def _warnings(answer: Any) -> str:
    return unquote(answer.headers.get("X-Cf-Warnings", ""))


def test_a_stack_is_made_shown_changed_and_deleted(cloud: Cloud) -> None:
    made = cloud.admin.ok("POST", "/v3/stacks", {"name": "new", "description": "Newest", "colour": "red"}, 201)
    assert (made["name"], made["description"], made["state"], made["state_reason"]) == ("new", "Newest", "ACTIVE", None)
    assert (made["build_rootfs_image"], made["run_rootfs_image"], made["default"]) == ("new", "new", False)
    path = f"/v3/stacks/{made['guid']}"
    assert cloud.user().ok("GET", path) == made
    changed = cloud.admin.ok("PATCH", path, {"state": "DEPRECATED", "state_reason": REASON})
    assert (changed["state"], changed["state_reason"]) == ("DEPRECATED", REASON)
    assert cloud.admin.delete(path).status_code == 204
    assert cloud.admin.problem("GET", path) == (404, 10010, "Stack not found")


def test_names_are_unique_with_regard_to_case(cloud: Cloud) -> None:
    _stack(cloud, name="Old")
    assert cloud.admin.problem("POST", "/v3/stacks", {"name": "Old"}) == (422, 10008, "Name must be unique")
    _stack(cloud, name="oLD")


def test_what_a_stack_may_be(cloud: Cloud) -> None:
    problem = cloud.admin.problem("POST", "/v3/stacks", {"name": "x", "state": "RETIRED"})
    assert problem == (422, 10008, "State must be one of ACTIVE, RESTRICTED, DEPRECATED, DISABLED")
    for name in (None, "", " "):
        assert cloud.admin.problem("POST", "/v3/stacks", {"name": name})[2] == "Name can't be blank"
    assert cloud.user().problem("POST", "/v3/stacks", {"name": "x"})[0] == 403


def test_a_stack_that_apps_use_stays(cloud: Cloud) -> None:
    stack = _stack(cloud)
    cloud.admin.ok("POST", "/v3/apps", _on(cloud, "old"), 201)
    assert cloud.admin.problem("DELETE", f"/v3/stacks/{stack['guid']}") == (
        422,
        10008,
        "Cannot delete stack 'old' because apps are currently using the stack.",
    )
    listed = cloud.admin.ok("GET", f"/v3/stacks/{stack['guid']}/apps")["resources"]
    assert [one["name"] for one in listed] == ["shop"]


def test_a_state_change_of_the_default_stack_warns(cloud: Cloud) -> None:
    (default,) = cloud.admin.ok("GET", "/v3/stacks?default=true")["resources"]
    answer = cloud.admin.patch(f"/v3/stacks/{default['guid']}", {"state": "DEPRECATED"})
    expected = "Changing state on the default stack 'cflinuxfs4' may affect new application deployments."
    assert _warnings(answer) == expected
    assert _warnings(cloud.admin.patch(f"/v3/stacks/{default['guid']}", {"state": "DEPRECATED"})) == ""


@pytest.mark.parametrize("state", ["ACTIVE", "DEPRECATED", "RESTRICTED", "DISABLED"])
def test_a_new_app_on_a_stack(cloud: Cloud, state: str) -> None:
    _stack(cloud, state)
    answer = cloud.admin.post("/v3/apps", _on(cloud, "old"))
    if state in {"RESTRICTED", "DISABLED"}:
        (error,) = answer.json()["errors"]
        assert (answer.status_code, error["code"]) == (422, 10008)
        assert error["detail"] == (
            f"ERROR: Staging failed. The stack 'old' is '{state}' and cannot be used for staging. {REASON}"
        )
        return
    assert answer.status_code == 201
    warned = f"WARNING: The stack 'old' is '{state}' and will be removed in the future. {REASON}"
    assert _warnings(answer) == ("" if state == "ACTIVE" else warned)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("state", ["ACTIVE", "DEPRECATED", "RESTRICTED", "DISABLED"])
def test_a_build_on_a_stack(cloud: Cloud, state: str, first: bool) -> None:
    """An app that was built before may be built on a restricted stack again."""
    stack = _stack(cloud)
    app = cloud.admin.ok("POST", "/v3/apps", _on(cloud, "old"), 201)["guid"]
    with cloud.database.write() as tx:
        package = rows.add(tx, packages, {"app_guid": app, "type": "bits", "state": "READY", "digest": "sha256:p"}).guid
    if not first:
        build = cloud.admin.ok("POST", "/v3/builds", {"package": {"guid": package}}, 201)["guid"]
        cloud.admin.ok("PATCH", f"/v3/builds/{build}", {"state": "FAILED"})
    cloud.admin.ok("PATCH", f"/v3/stacks/{stack['guid']}", {"state": state})
    answer = cloud.admin.post("/v3/builds", {"package": {"guid": package}})
    if state == "DISABLED" or (state == "RESTRICTED" and first):
        (error,) = answer.json()["errors"]
        assert (answer.status_code, error["code"], error["title"]) == (422, 250004, "CF-StackValidationFailed")
        assert f"The stack 'old' is '{state}' and cannot be used for staging. {REASON}" in error["detail"]
        return
    assert answer.status_code == 201
    assert (f"The stack 'old' is '{state}' and will be removed" in _warnings(answer)) is (state != "ACTIVE")


def test_running_apps_are_never_touched(cloud: Cloud) -> None:
    stack = _stack(cloud)
    app = cloud.admin.ok("POST", "/v3/apps", _on(cloud, "old"), 201)["guid"]
    droplet = staged_droplet(cloud.database, app)
    cloud.admin.ok("PATCH", f"/v3/apps/{app}/relationships/current_droplet", {"data": {"guid": droplet}})
    cloud.admin.ok("POST", f"/v3/apps/{app}/actions/start")
    cloud.admin.ok("PATCH", f"/v3/stacks/{stack['guid']}", {"state": "DISABLED"})
    assert cloud.admin.ok("GET", f"/v3/apps/{app}")["state"] == "STARTED"
    assert cloud.admin.ok("POST", f"/v3/apps/{app}/actions/restart")["state"] == "STARTED"


@pytest.mark.parametrize("built", [True, False])
def test_an_app_moves_to_a_restricted_stack_when_it_was_built_before(cloud: Cloud, built: bool) -> None:
    _stack(cloud, "RESTRICTED")
    app = cloud.app()["guid"]
    if built:
        with cloud.database.write() as tx:
            values = {"app_guid": app, "type": "bits", "state": "READY", "digest": "sha256:p"}
            package = rows.add(tx, packages, values).guid
        cloud.admin.ok("POST", "/v3/builds", {"package": {"guid": package}}, 201)
    answer = cloud.admin.patch(f"/v3/apps/{app}", {"lifecycle": {"data": {"stack": "old"}}})
    if built:
        assert answer.json()["lifecycle"] == {"type": "buildpack", "data": {"buildpacks": [], "stack": "old"}}
        assert "The stack 'old' is 'RESTRICTED' and will be removed" in _warnings(answer)
    else:
        (error,) = answer.json()["errors"]
        assert (answer.status_code, error["code"]) == (422, 10008)
        assert "The stack 'old' is 'RESTRICTED' and cannot be used for staging." in error["detail"]
