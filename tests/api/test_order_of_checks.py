"""What is looked at first: the body, then whether one sees it, may do it, and whether it may be done at all."""

from typing import Any

import pytest

from tests.api.conftest import Cloud
from tests.deploying import Site


@pytest.fixture
def site(cloud: Cloud) -> Site:
    return Site(cloud)


def test_each_check_comes_before_the_next(site: Site) -> None:
    admin, stranger = site.cloud.admin, site.cloud.user()
    auditor, developer = site.user("space_auditor"), site.user("space_developer")
    path = site.path + "/processes/web/actions/scale"
    bad: Any = {"bogus": 1}
    # Everything is wrong at first, and one thing after the other is put right.
    admin.ok("PATCH", "/v3/feature_flags/app_scaling", {"enabled": False})
    admin.ok("PATCH", f"/v3/organizations/{site.org}", {"suspended": True})
    assert stranger.problem("POST", path, bad) == (422, 10008, "Unknown field(s): 'bogus'")
    assert stranger.problem("POST", path, {"instances": 1})[:2] == (404, 10010)
    assert auditor.problem("POST", path, {"instances": 1})[:2] == (403, 10003)
    assert developer.problem("POST", path, {"instances": 1})[:2] == (403, 10017)
    admin.ok("PATCH", f"/v3/organizations/{site.org}", {"suspended": False})
    assert developer.problem("POST", path, {"instances": 1})[:2] == (403, 330002)
    admin.ok("PATCH", "/v3/feature_flags/app_scaling", {"enabled": True})
    assert developer.request("POST", path, {"instances": 1}).status_code == 202


def test_identity_and_scope_come_first_of_all(site: Site) -> None:
    bad: Any = {"bogus": 1}
    assert site.cloud.nobody.problem("PATCH", site.path, bad)[:2] == (401, 10002)
    reader = site.cloud.client("cloud_controller.read")
    assert reader.problem("PATCH", site.path, bad)[:2] == (403, 10003)


def test_fields_that_nobody_knows_are_passed_over_in_some_places(site: Site) -> None:
    admin, extra = site.cloud.admin, {"bogus": 1}
    current = {"data": {"guid": site.droplet()}, **extra}
    admin.ok("PATCH", site.path + "/relationships/current_droplet", current)
    body = {"name": "p.example.com", "relationships": {"organization": {"data": {"guid": site.org}}}}
    domain = admin.ok("POST", "/v3/domains", body, 201)["guid"]
    admin.ok("POST", f"/v3/domains/{domain}/relationships/shared_organizations", {"data": [], **extra})
    admin.ok("POST", "/v3/stacks", {"name": "new", **extra}, 201)
    admin.ok("POST", "/v3/resource_matches", {"resources": [_RESOURCE], **extra}, 201)
    assert admin.problem("POST", "/v3/organizations", {"name": "o", "a": 1, "b": 2})[2] == "Unknown field(s): 'a', 'b'"


_RESOURCE = {"checksum": {"value": "0" * 40}, "size_in_bytes": 1}
