"""Suspended organizations and spaces: reading goes on, writing is refused to all but those who pass."""

from typing import Any

import pytest

from tests.api.conftest import Client, Cloud
from tests.deploying import Site

ORG, SPACE = (403, 10017, "The organization is suspended"), (403, 10019, "The space is suspended")
DONE = (0, 0, "")


@pytest.fixture
def site(cloud: Cloud) -> Site:
    return Site(cloud)


def _writes(site: Site) -> list[tuple[str, str, Any]]:
    return [
        ("POST", "/v3/apps", {"name": "x", "relationships": {"space": {"data": {"guid": site.space}}}}),
        ("PATCH", site.path, {"name": "renamed"}),
        ("POST", site.path + "/actions/start", None),
        ("POST", site.path + "/actions/stop", None),
        ("POST", site.path + "/processes/web/actions/scale", {"instances": 1}),
        ("PATCH", site.path + "/environment_variables", {"var": {"A": "1"}}),
        ("POST", site.path + "/tasks", {"command": "true"}),
        ("POST", site.path + "/sidecars", {"name": "s", "command": "c", "process_types": ["web"]}),
        ("PATCH", site.path + "/features/ssh", {"enabled": False}),
        ("DELETE", site.path, None),
    ]


def _suspend(site: Site, what: str) -> None:
    path = f"/v3/organizations/{site.org}" if what == "organization" else f"/v3/spaces/{site.space}"
    site.cloud.admin.ok("PATCH", path, {"suspended": True})


def _problems(site: Site, client: Client) -> set[tuple[int, int, str]]:
    """What the writes are answered: (status, code, detail) of errors, DONE for the others."""
    found = set()
    for method, path, body in _writes(site):
        done = client.request(method, path, body)
        if done.status_code < 400:
            found.add(DONE)
        else:
            (error,) = done.json()["errors"]
            found.add((done.status_code, error["code"], error["detail"]))
    return found


def test_developers_of_a_suspended_organization(site: Site) -> None:
    developer = site.user("space_developer")
    _suspend(site, "organization")
    assert _problems(site, developer) == {ORG}
    assert developer.ok("GET", site.path)["name"] == "shop"
    assert developer.ok("GET", "/v3/apps")["resources"] != []


def test_developers_of_a_suspended_space(site: Site) -> None:
    developer = site.user("space_developer")
    _suspend(site, "space")
    assert _problems(site, developer) == {SPACE}
    assert developer.ok("GET", site.path)["name"] == "shop"


def test_managers_of_the_organization_pass_the_space_and_not_the_organization(site: Site) -> None:
    both = site.cloud.user(organization_manager=site.org, space_developer=site.space)
    _suspend(site, "space")
    assert both.request("PATCH", site.path, {"name": "renamed"}).status_code == 200
    assert both.ok("PATCH", f"/v3/spaces/{site.space}", {"name": "other"})["name"] == "other"
    _suspend(site, "organization")
    assert _problems(site, both) == {ORG}
    assert both.problem("PATCH", f"/v3/organizations/{site.org}", {"name": "other"}) == ORG


def test_admins_pass(site: Site) -> None:
    _suspend(site, "organization")
    _suspend(site, "space")
    assert _problems(site, site.cloud.admin) == {DONE}


def test_who_may_not_is_told_that_first(site: Site) -> None:
    auditor = site.user("space_auditor")
    _suspend(site, "organization")
    assert auditor.problem("PATCH", site.path, {"name": "x"})[:2] == (403, 10003)
    assert site.cloud.user().problem("PATCH", site.path, {"name": "x"})[0] == 404
