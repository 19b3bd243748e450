"""The five questions of version 2, and what everything else below /v2 is told."""

from typing import Any

import pytest

from tests.cloud import Cloud


def _names(cloud: Cloud, client: Any, path: str) -> list[str]:
    return [one["entity"]["name"] for one in client.ok("GET", path)["resources"]]


def test_info_says_where_things_are_and_that_version_2_is_not_served(cloud: Cloud) -> None:
    shown = cloud.nobody.ok("GET", "/v2/info")
    assert shown["support"] == "CF API v2 is disabled"
    assert (shown["api_version"], shown["authorization_endpoint"]) == ("", cloud.settings.login_url)
    assert shown["token_endpoint"] == cloud.settings.uaa_url
    assert "user" not in shown
    assert cloud.admin.actor is not None
    assert cloud.admin.ok("GET", "/v2/info")["user"] == cloud.admin.actor.guid


def test_lists_have_guids_and_names_of_what_one_sees(cloud: Cloud) -> None:
    app = cloud.app("shop")
    space = app["relationships"]["space"]["data"]["guid"]
    cloud.app("elsewhere")
    developer = cloud.user(space_developer=space)
    (shown,) = developer.ok("GET", "/v2/apps")["resources"]
    assert shown["metadata"] == {
        "guid": app["guid"],
        "url": f"/v2/apps/{app['guid']}",
        "created_at": app["created_at"],
        "updated_at": app["updated_at"],
    }
    assert shown["entity"] == {"name": "shop", "space_guid": space}
    assert [one["metadata"]["guid"] for one in developer.ok("GET", "/v2/spaces")["resources"]] == [space]
    assert _names(cloud, developer, "/v2/stacks") == ["cflinuxfs4"]
    assert sorted(_names(cloud, cloud.admin, "/v2/apps")) == ["elsewhere", "shop"]


def test_an_empty_list(cloud: Cloud) -> None:
    assert cloud.user().ok("GET", "/v2/apps") == {
        "total_results": 0,
        "total_pages": 1,
        "prev_url": None,
        "next_url": None,
        "resources": [],
    }


def test_pages_and_names(cloud: Cloud) -> None:
    space = cloud.space()["guid"]
    for name in ("a", "b & c", "d"):
        cloud.app(name, space)
    first = cloud.admin.ok("GET", "/v2/apps?results-per-page=2")
    assert (first["total_results"], first["total_pages"], first["prev_url"]) == (3, 2, None)
    assert first["next_url"] == "/v2/apps?page=2&results-per-page=2"
    assert _names(cloud, cloud.admin, first["next_url"]) == ["d"]
    assert _names(cloud, cloud.admin, "/v2/apps?q=name:b%20%26%20c") == ["b & c"]


@pytest.mark.parametrize("query", ["page=0", "results-per-page=x", "q=space_guid:1", "q=a"])
def test_bad_queries_are_told_in_the_form_of_version_2(cloud: Cloud, query: str) -> None:
    answer = cloud.admin.get(f"/v2/apps?{query}")
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "CF-BadQueryParameter"


def test_everything_else_is_unknown(cloud: Cloud) -> None:
    answer = cloud.admin.get("/v2/banana")
    assert answer.status_code == 404
    assert answer.text == '{"description":"Unknown request","error_code":"CF-NotFound","code":10000}'
    assert cloud.admin.post("/v2/apps", {}).json()["error_code"] == "CF-NotFound"


def test_who_is_not_logged_in_is_told_so(cloud: Cloud) -> None:
    answer = cloud.nobody.get("/v2/apps")
    assert answer.status_code == 401
    assert answer.json() == {
        "description": "Authentication error",
        "error_code": "CF-NotAuthenticated",
        "code": 10002,
    }
