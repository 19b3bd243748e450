"""The front page of the API, what is open without a token, and headers that every answer has."""

import uuid
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from cupola.config import ConfigError, load
from tests.cloud import Cloud
from tests.front import open_front

MINIMUM = {"platform.min_cli_version": "8.0.0"}
OLD, NEW, ODD = "cf/7.7.1+abc (go1.20; amd64 linux)", "cf/8.9.0+def (go1.22; amd64 linux)", "curl/8.0.1"


def test_the_root_says_where_everything_is(cloud: Cloud) -> None:
    links = cloud.nobody.ok("GET", "/")["links"]
    assert links["self"] == {"href": cloud.settings.api_url}
    assert links["cloud_controller_v3"]["href"] == f"{cloud.settings.api_url}/v3"
    assert links["login"] == {"href": cloud.settings.login_url}
    assert links["uaa"] == {"href": cloud.settings.uaa_url}
    assert links["log_cache"] == {"href": cloud.settings.log_cache_url}
    assert links["cloud_controller_v2"] is None


def test_the_v3_document_links_what_is_served(cloud: Cloud) -> None:
    links = cloud.nobody.ok("GET", "/v3")["links"]
    assert links["self"] == {"href": f"{cloud.settings.api_url}/v3"}
    for name in ("apps", "organizations", "spaces", "routes", "info", "roles", "stacks", "users"):
        assert links[name] == {"href": f"{cloud.settings.api_url}/v3/{name}"}


def test_info_is_for_everybody(cloud: Cloud) -> None:
    shown = cloud.nobody.ok("GET", "/v3/info")
    assert shown["name"] == "cupola"
    assert shown["cli_version"] == {"minimum": "", "recommended": ""}
    assert shown["rate_limits"]["enabled"] is False
    assert shown["links"]["self"] == {"href": f"{cloud.settings.api_url}/v3/info"}


def test_health_is_for_everybody(cloud: Cloud) -> None:
    answer = cloud.nobody.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "OK")


def test_who_one_is(cloud: Cloud) -> None:
    client = cloud.client("cloud_controller.read", name="ann")
    assert client.ok("GET", "/whoami") == {"name": "ann", "kind": "User"}
    assert cloud.nobody.problem("GET", "/whoami")[:2] == (401, 10002)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v3/nonsense"), ("DELETE", "/v3/info"), ("POST", "/v3/apps/x/y")]
)
def test_unknown_paths_and_methods(cloud: Cloud, method: str, path: str) -> None:
    assert cloud.admin.problem(method, path) == (404, 10000, "Unknown request")


def test_every_answer_has_an_id_and_names_its_user(cloud: Cloud) -> None:
    answer = cloud.admin.get("/v3/apps")
    assert cloud.admin.actor is not None
    assert answer.headers["X-USER-GUID"] == cloud.admin.actor.guid
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert uuid.UUID(answer.headers["X-VCAP-Request-ID"])
    assert "ETag" not in answer.headers
    # Nothing is answered with "not modified".
    assert cloud.admin.get("/v3/apps", headers={"If-None-Match": "*"}).status_code == 200


def test_one_error_has_all_that_is_wrong_with_a_body(cloud: Cloud) -> None:
    answer = cloud.admin.post("/v3/spaces", {"name": 5, "nonsense": 1})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["code"], error["title"]) == (10008, "CF-UnprocessableEntity")
    problems = (
        "Unknown field(s): 'nonsense'",
        "Relationships 'relationships' is not an object",
        "Name must be a string",
    )
    assert error["detail"] == ", ".join(problems)


def _warned(answer: Any) -> str:
    return unquote(answer.headers.get("X-Cf-Warnings", ""))


@pytest.mark.parametrize(
    ("agent", "path", "warned"),
    [
        (OLD, "/v3/spaces", True),
        (OLD, "/v3/organizations?names=a", True),
        (OLD, "/v3/apps", False),
        (NEW, "/v3/spaces", False),
        (ODD, "/v3/spaces", False),
    ],
)
def test_an_old_cli_is_told(cloud: Cloud, tmp_path: Path, agent: str, path: str, warned: bool) -> None:
    with open_front(cloud, tmp_path, more=MINIMUM) as client:
        admin = client("cloud_controller.admin")
        answer = admin.get(path, headers={"User-Agent": agent})
        assert answer.status_code == 200
        assert ("Outdated CF CLI version" in _warned(answer)) is warned
        assert admin.ok("GET", "/v3/info")["cli_version"]["minimum"] == "8.0.0"


def test_the_word_to_an_old_cli_comes_after_others(cloud: Cloud, tmp_path: Path) -> None:
    space = cloud.space()
    segment = cloud.admin.ok("POST", "/v3/isolation_segments", {"name": "far"}, 201)["guid"]
    organization = space["relationships"]["organization"]["data"]
    cloud.admin.ok("POST", f"/v3/isolation_segments/{segment}/relationships/organizations", {"data": [organization]})
    with open_front(cloud, tmp_path, more=MINIMUM) as client:
        admin = client("cloud_controller.admin", like=cloud.admin)
        path = f"/v3/spaces/{space['guid']}/relationships/isolation_segment"
        answer = admin.patch(path, {"data": {"guid": segment}}, headers={"User-Agent": OLD})
    parts = answer.headers["X-Cf-Warnings"].split(",")
    assert len(parts) == 2
    assert "not enforced" in unquote(parts[0])
    assert "Outdated" in unquote(parts[1])


def test_a_version_must_be_one() -> None:
    with pytest.raises(ConfigError, match=r"platform\.min_cli_version = newest is not a version such as 8\.0\.0"):
        load(environment={}, flags={"platform.min_cli_version": "newest"})
