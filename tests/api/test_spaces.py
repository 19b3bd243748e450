"""Organizations and spaces over HTTP: the lists, the words of errors, who may what."""

from typing import Any

import pytest

from tests.api.conftest import Cloud
from tests.api.work import finished


def test_a_space_is_created_shown_renamed_and_listed(cloud: Cloud) -> None:
    org = cloud.org("acme")
    space = cloud.space("dev", org["guid"])
    assert space["relationships"]["organization"]["data"]["guid"] == org["guid"]
    assert cloud.admin.ok("GET", f"/v3/spaces/{space['guid']}") == space
    renamed = cloud.admin.ok("PATCH", f"/v3/spaces/{space['guid']}", {"name": "prod"})
    assert renamed["name"] == "prod"
    listed = cloud.admin.ok("GET", f"/v3/spaces?names=PROD&organization_guids={org['guid']}&include=organization")
    assert [one["guid"] for one in listed["resources"]] == [space["guid"]]
    assert [one["name"] for one in listed["included"]["organizations"]] == ["acme"]
    assert listed["pagination"]["total_results"] == 1


def test_messages_come_as_one_error_in_order(cloud: Cloud) -> None:
    assert cloud.admin.problem("POST", "/v3/spaces", {"nam": "x"}) == (
        422,
        10008,
        "Unknown field(s): 'nam', Relationships 'relationships' is not an object, Name can't be blank",
    )
    body = {"name": "x", "relationships": {"organization": {"data": {}}}}
    structured = (
        'Relationships Organization must be structured like this: "organization: {"data": {"guid": "valid-guid"}}"'
    )
    assert cloud.admin.problem("POST", "/v3/spaces", body)[2] == structured


def test_names_are_unique_in_the_organization_in_any_case(cloud: Cloud) -> None:
    org = cloud.org("acme")
    cloud.space("dev", org["guid"])
    body = {"name": "DEV", "relationships": {"organization": {"data": {"guid": org["guid"]}}}}
    assert cloud.admin.problem("POST", "/v3/spaces", body) == (422, 10008, "Name must be unique per organization")
    assert (
        cloud.admin.problem("POST", "/v3/organizations", {"name": "Acme"})[2] == "Organization 'Acme' already exists."
    )


def test_who_may_not_see_gets_404_and_who_may_not_write_403(cloud: Cloud) -> None:
    space = cloud.space()
    org = space["relationships"]["organization"]["data"]["guid"]
    path = f"/v3/spaces/{space['guid']}"
    assert cloud.nobody.problem("GET", path)[:2] == (401, 10002)
    assert cloud.user().problem("GET", path) == (404, 10010, "Space not found")
    auditor = cloud.user(space_auditor=space["guid"], organization_user=org)
    assert auditor.get(path).status_code == 200
    assert auditor.problem("PATCH", path, {"name": "x"})[:2] == (403, 10003)
    manager = cloud.user(organization_manager=org)
    assert manager.patch(path, {"name": "x"}).status_code == 200
    assert [one["guid"] for one in auditor.ok("GET", "/v3/spaces")["resources"]] == [space["guid"]]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("per_page=0", "Per page must be a positive integer"),
        ("per_page=5001", "Per page must be between 1 and 5000"),
        ("page=x", "Page must be a positive integer"),
        ("order_by=size", "Order by can only be: 'created_at', 'updated_at', 'name'"),
        ("label_selector=", "Missing label_selector value"),
        ("label_selector=a%20in%20b", "Invalid label_selector value"),
        ("include=apps", "Invalid included resource: 'apps'. Valid included resources are: 'org', 'organization'"),
        (
            "created_ats=yesterday",
            "Created ats has an invalid timestamp format. Timestamps should be formatted as 'YYYY-MM-DDThh:mm:ssZ'",
        ),
        (
            "x=1&y=2",
            (
                "Unknown query parameter(s): 'x', 'y'. Valid parameters are: 'page', 'per_page', 'order_by', "
                "'created_ats', 'updated_ats', 'guids', 'names', 'organization_guids', 'include', 'label_selector'"
            ),
        ),
    ],
)
def test_bad_queries_say_what_is_allowed(cloud: Cloud, query: str, detail: str) -> None:
    assert cloud.admin.problem("GET", f"/v3/spaces?{query}") == (
        400,
        10005,
        f"The query parameter is invalid: {detail}",
    )


def test_labels_are_merged_selected_and_removed(cloud: Cloud) -> None:
    org = cloud.org()
    one, two = (cloud.space(name, org["guid"])["guid"] for name in ("one", "two"))
    labels = {"env": "prod", "example.org/team": "red"}
    changed = cloud.admin.ok("PATCH", f"/v3/spaces/{one}", {"metadata": {"labels": labels}})
    assert changed["metadata"]["labels"] == labels

    def found(selector: str) -> list[str]:
        page = cloud.admin.ok(
            "GET", "/v3/spaces", params={"label_selector": selector, "organization_guids": org["guid"]}
        )
        return [space["guid"] for space in page["resources"]]

    assert found("env=prod") == [one]
    assert found("env in (prod,dev),example.org/team") == [one]
    assert found("env!=prod") == [two]
    assert found("!env") == [two]
    assert found("env notin (dev)") == [one, two]
    changed = cloud.admin.ok("PATCH", f"/v3/spaces/{one}", {"metadata": {"labels": {"env": None}}})
    assert changed["metadata"]["labels"] == {"example.org/team": "red"}
    assert found("env") == []
    bad = cloud.admin.problem("PATCH", f"/v3/spaces/{one}", {"metadata": {"labels": {"cloudfoundry.org/x": "1"}}})
    assert bad[2] == "Metadata label key error: prefix 'cloudfoundry.org' is reserved"


def test_pages_link_to_each_other_and_keep_the_query(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    for name in "abcde":
        cloud.space(name, org)
    path = f"/v3/spaces?organization_guids={org}&per_page=2&order_by=-name"
    first = cloud.admin.ok("GET", path)
    assert [one["name"] for one in first["resources"]] == ["e", "d"]
    assert first["pagination"]["total_pages"] == 3
    url = cloud.settings.api_url
    expected = f"{url}/v3/spaces?order_by=-name&organization_guids={org}&page=2&per_page=2"
    assert first["pagination"]["next"]["href"] == expected
    last = cloud.admin.ok("GET", first["pagination"]["last"]["href"].removeprefix(url))
    assert [one["name"] for one in last["resources"]] == ["a"]
    assert last["pagination"]["next"] is None
    assert cloud.admin.ok("GET", path + "&page=9")["resources"] == []


def test_times_compare_by_the_second_that_the_api_shows(cloud: Cloud) -> None:
    space = cloud.space()
    at, org = space["created_at"], space["relationships"]["organization"]["data"]["guid"]

    def count(condition: str) -> int:
        return len(cloud.admin.ok("GET", f"/v3/spaces?organization_guids={org}&{condition}={at}")["resources"])

    found = {name: count(f"created_ats%5B{name}%5D") for name in ("gt", "gte", "lt", "lte")}
    assert found == {"gt": 0, "gte": 1, "lt": 0, "lte": 1}
    assert count("created_ats") == 1


def test_a_suspended_organization_is_read_only_but_for_admins(cloud: Cloud) -> None:
    space = cloud.space()
    org = space["relationships"]["organization"]["data"]["guid"]
    manager = cloud.user(organization_manager=org)
    cloud.admin.ok("PATCH", f"/v3/organizations/{org}", {"suspended": True})
    assert manager.problem("PATCH", f"/v3/spaces/{space['guid']}", {"name": "x"}) == (
        403,
        10017,
        "The organization is suspended",
    )
    assert manager.get(f"/v3/spaces/{space['guid']}").status_code == 200
    assert cloud.admin.patch(f"/v3/spaces/{space['guid']}", {"name": "x"}).status_code == 200


def test_the_request_id_of_the_client_is_kept(cloud: Cloud) -> None:
    answer = cloud.admin.get("/v3/spaces", headers={"X-Request-ID": "mine"})
    assert answer.headers["X-VCAP-Request-ID"].startswith("mine::")
    assert cloud.admin.problem("GET", "/v3/nothing") == (404, 10000, "Unknown request")
    assert cloud.admin.problem("POST", "/v3/spaces", content=b"{")[:2] == (400, 1001)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"name": ""}, "Name can't be blank"),
        ({"name": "  "}, "Name can't be blank"),
        ({"name": 1}, "Name must be a string"),
        ({"name": "x" * 256}, "Name is too long (maximum is 255 characters)"),
        ({"name": "a\x07"}, "Name must not contain escaped characters"),
        ({"suspended": "no"}, "Suspended must be a boolean"),
        ({"relationships": {}}, "Relationships 'relationships' must include one or more valid relationships"),
        (
            {"relationships": {"organization": {"data": {"guid": "nope"}}}},
            "Invalid organization. Ensure the organization exists and you have access to it.",
        ),
    ],
)
def test_what_a_space_may_be(cloud: Cloud, body: dict[str, Any], detail: str) -> None:
    whole = {"name": "dev", "relationships": {"organization": {"data": {"guid": cloud.org()["guid"]}}}}
    assert cloud.admin.problem("POST", "/v3/spaces", {**whole, **body}) == (422, 10008, detail)


def test_names_are_any_printable_text_without_blanks_around(cloud: Cloud) -> None:
    space = cloud.space("  Ünïcode, späces & 'quotes'  ")
    assert space["name"] == "Ünïcode, späces & 'quotes'"
    found = cloud.admin.ok("GET", "/v3/spaces", params={"names": "ünïcode%2C späces & 'quotes'"})["resources"]
    assert [one["guid"] for one in found] == [space["guid"]]


def test_a_name_that_is_taken_on_renaming(cloud: Cloud) -> None:
    org = cloud.org("acme")["guid"]
    cloud.space("dev", org)
    other = cloud.space("prod", org)["guid"]
    assert cloud.admin.problem("PATCH", f"/v3/spaces/{other}", {"name": "Dev"})[2] == (
        "Organization 'acme' already contains a space with name 'Dev'."
    )
    assert cloud.admin.ok("PATCH", f"/v3/spaces/{other}", {"name": "PROD"})["name"] == "PROD"


def test_a_space_as_it_is_shown(cloud: Cloud) -> None:
    org = cloud.org("acme")
    space = cloud.space("dev", org["guid"])
    url, path = cloud.settings.api_url, f"/v3/spaces/{space['guid']}"
    assert space["relationships"] == {"organization": {"data": {"guid": org["guid"]}}, "quota": {"data": None}}
    assert space["links"] == {
        "self": {"href": url + path},
        "organization": {"href": f"{url}/v3/organizations/{org['guid']}"},
        "features": {"href": f"{url}{path}/features"},
        "apply_manifest": {"href": f"{url}{path}/actions/apply_manifest", "method": "POST"},
    }
    for include in ("org", "organization"):
        assert cloud.admin.ok("GET", f"{path}?include={include}")["included"]["organizations"][0]["name"] == "acme"
    assert cloud.admin.problem("GET", f"{path}?include=apps")[:2] == (400, 10005)
    assert cloud.admin.problem("GET", f"{path}?size=1")[:2] == (400, 10005)


def test_who_makes_suspends_and_deletes_spaces(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    manager, member = cloud.user(organization_manager=org), cloud.user(organization_user=org)
    body = {"name": "dev", "relationships": {"organization": {"data": {"guid": org}}}}
    hidden = "Invalid organization. Ensure the organization exists and you have access to it."
    assert cloud.user().problem("POST", "/v3/spaces", body) == (422, 10008, hidden)
    assert member.problem("POST", "/v3/spaces", body)[:2] == (403, 10003)
    space = manager.ok("POST", "/v3/spaces", {**body, "suspended": True}, 201)
    assert space["suspended"] is True
    path = f"/v3/spaces/{space['guid']}"
    space_manager = cloud.user(space_manager=space["guid"], organization_user=org)
    assert space_manager.problem("PATCH", path, {"name": "x"}) == (403, 10019, "The space is suspended")
    assert manager.ok("PATCH", path, {"suspended": False})["suspended"] is False
    # Managers of the space change its name, not whether it is suspended.
    assert space_manager.ok("PATCH", path, {"name": "x"})["name"] == "x"
    for suspended in (True, False):
        assert space_manager.problem("PATCH", path, {"suspended": suspended})[:2] == (403, 10003)
    assert space_manager.problem("DELETE", path)[:2] == (403, 10003)
    cloud.admin.ok("PATCH", f"/v3/organizations/{org}", {"suspended": True})
    assert manager.problem("POST", "/v3/spaces", {**body, "name": "y"})[:2] == (403, 10017)
    assert manager.problem("DELETE", path)[:2] == (403, 10017)
    cloud.admin.ok("PATCH", f"/v3/organizations/{org}", {"suspended": None})
    assert manager.delete(path).status_code == 202


def test_what_was_done_to_a_space_is_in_the_events(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space("dev", org)["guid"]
    cloud.admin.ok("PATCH", f"/v3/spaces/{space}", {"name": "prod"})
    job = finished(cloud, cloud.admin, "DELETE", f"/v3/spaces/{space}")
    assert (job["operation"], job["state"], job["errors"]) == ("space.delete", "COMPLETE", [])
    assert cloud.admin.problem("GET", f"/v3/spaces/{space}") == (404, 10010, "Space not found")
    events = cloud.admin.ok("GET", f"/v3/audit_events?target_guids={space}")["resources"]
    assert [event["type"] for event in events] == [
        "audit.space.create",
        "audit.space.update",
        "audit.space.delete-request",
    ]
    assert [event["data"]["request"].get("name") for event in events] == ["dev", "prod", None]
    assert {event["organization"]["guid"] for event in events} == {org}
