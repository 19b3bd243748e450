"""Organizations and spaces over HTTP: the lists, the words of errors, who may what."""

import pytest

from tests.api.conftest import Cloud


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
        "Unknown field(s): 'nam', Name must be a string, Relationships 'relationships' is not an object",
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
        ("per_page=0", "Per page must be between 1 and 5000"),
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
                "'created_ats', 'updated_ats', 'guids', 'label_selector', 'include', 'names', 'organization_guids'"
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
