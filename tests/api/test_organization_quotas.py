"""Organization quotas over HTTP. What they refuse is in test_quota_enforcement.py."""

from typing import Any

import pytest

from tests.api.conftest import Client, Cloud
from tests.api.work import finished

PATH = "/v3/organization_quotas"
UNLIMITED: dict[str, Any] = {
    "apps": {
        "total_memory_in_mb": None,
        "per_process_memory_in_mb": None,
        "total_instances": None,
        "per_app_tasks": None,
        "log_rate_limit_in_bytes_per_second": None,
    },
    "services": {"paid_services_allowed": True, "total_service_instances": None, "total_service_keys": None},
    "routes": {"total_routes": None, "total_reserved_ports": None},
    "domains": {"total_domains": None},
}
LIMITED: dict[str, Any] = {
    "apps": {
        "total_memory_in_mb": 5120,
        "per_process_memory_in_mb": 1024,
        "total_instances": 10,
        "per_app_tasks": 5,
        "log_rate_limit_in_bytes_per_second": 9_000_000_000,
    },
    "services": {"paid_services_allowed": False, "total_service_instances": 3, "total_service_keys": 2},
    "routes": {"total_routes": 8, "total_reserved_ports": 4},
    "domains": {"total_domains": 7},
}


def quota(cloud: Cloud, name: str = "small", **limits: Any) -> Any:
    return cloud.admin.ok("POST", PATH, {"name": name, **limits}, 201)


def targets(*guids: str) -> dict[str, Any]:
    return {"data": [{"guid": guid} for guid in guids]}


def groups(shown: Any) -> dict[str, Any]:
    return {name: shown[name] for name in UNLIMITED}


def unlimited_app(cloud: Cloud, org: str) -> None:
    app = cloud.app(space=cloud.space(org=org)["guid"])["guid"]
    scale = {"log_rate_limit_in_bytes_per_second": -1}
    cloud.admin.ok("POST", f"/v3/apps/{app}/processes/web/actions/scale", scale, 202)


def events(cloud: Cloud, guid: str) -> list[Any]:
    found: list[Any] = cloud.admin.ok("GET", f"/v3/audit_events?target_guids={guid}")["resources"]
    return found


def test_limits_that_nobody_names_do_not_exist(cloud: Cloud) -> None:
    made = quota(cloud)
    assert groups(made) == UNLIMITED
    assert made["relationships"] == {"organizations": {"data": []}}
    assert made["links"] == {"self": {"href": f"{cloud.settings.api_url}{PATH}/{made['guid']}"}}
    assert cloud.admin.ok("GET", f"{PATH}/{made['guid']}") == made


def test_every_limit_is_kept_and_nulls_lift_them(cloud: Cloud) -> None:
    made = quota(cloud, **LIMITED)
    assert groups(made) == LIMITED
    # The CLI sends empty objects for groups that it does not touch.
    body = {"apps": {"total_memory_in_mb": None}, "services": {}, "routes": {}, "name": "large"}
    changed = cloud.admin.ok("PATCH", f"{PATH}/{made['guid']}", body)
    assert changed["name"] == "large"
    assert groups(changed) == {**LIMITED, "apps": {**LIMITED["apps"], "total_memory_in_mb": None}}
    lifted = cloud.admin.ok(
        "PATCH",
        f"{PATH}/{made['guid']}",
        {group: dict.fromkeys(limits) for group, limits in LIMITED.items()},
    )
    assert groups(lifted) == UNLIMITED


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "Name can't be blank"),
        ({"name": ""}, "Name can't be blank"),
        ({"name": 5}, "Name must be a string"),
        ({"name": "x" * 251}, "Name is too long (maximum is 250 characters)"),
        ({"name": "x", "size": 1}, "Unknown field(s): 'size'"),
        ({"name": "x", "apps": None}, "Apps must be an object"),
        ({"name": "x", "apps": {"memory": 1}}, "Apps Unknown field(s): 'memory'"),
        (
            {"name": "x", "apps": {"total_memory_in_mb": -1, "total_instances": "many"}},
            "Apps Total memory in mb must be greater than or equal to 0, Apps Total instances is not a number",
        ),
        (
            {"name": "x", "apps": {"per_app_tasks": 2**31}},
            "Apps Per app tasks must be less than or equal to 2147483647",
        ),
        ({"name": "x", "apps": {"total_instances": 1.5}}, "Apps Total instances must be an integer"),
        (
            {"name": "x", "services": {"paid_services_allowed": "no"}},
            "Services Paid services allowed must be a boolean",
        ),
        ({"name": "x", "domains": {"total_domains": -1}}, "Domains Total domains must be greater than or equal to 0"),
        (
            {"name": "x", "routes": {"total_routes": 2, "total_reserved_ports": 3}},
            (
                "Total reserved ports must be -1, 0, or a positive integer, "
                "and must be less than or equal to total routes."
            ),
        ),
        (
            {"name": "x", "relationships": {"organizations": {"data": "all"}}},
            (
                'Relationships Organizations must be structured like this: "organizations: '
                '{"data": [{"guid": "valid-guid"},{"guid": "valid-guid"}]}"'
            ),
        ),
        (
            {"name": "x", "relationships": {"organizations": {"data": [{"guid": "nope"}]}}},
            'Organizations with guids ["nope"] do not exist, or you do not have access to them.',
        ),
    ],
)
def test_what_a_quota_may_be(cloud: Cloud, body: Any, detail: str) -> None:
    assert cloud.admin.problem("POST", PATH, body) == (422, 10008, detail)
    assert [one["name"] for one in cloud.admin.ok("GET", PATH)["resources"]] == ["default"]


def test_names_are_unique_and_found_in_any_case(cloud: Cloud) -> None:
    quota(cloud, "Small")
    assert cloud.admin.problem("POST", PATH, {"name": "small"})[2] == "Organization Quota 'small' already exists."
    other = quota(cloud, "other")["guid"]
    taken = cloud.admin.problem("PATCH", f"{PATH}/{other}", {"name": "SMALL"})
    assert taken == (422, 10008, "Organization Quota 'SMALL' already exists.")
    assert cloud.admin.ok("PATCH", f"{PATH}/{other}", {"name": "Other"})["name"] == "Other"
    assert [one["name"] for one in cloud.admin.ok("GET", f"{PATH}?names=SMALL")["resources"]] == ["Small"]


def test_ports_are_compared_with_the_routes_that_are_there(cloud: Cloud) -> None:
    made = quota(cloud, routes={"total_routes": 5})["guid"]
    assert cloud.admin.problem("PATCH", f"{PATH}/{made}", {"routes": {"total_reserved_ports": 6}})[0] == 422
    assert cloud.admin.patch(f"{PATH}/{made}", {"routes": {"total_reserved_ports": 5}}).status_code == 200
    assert cloud.admin.problem("PATCH", f"{PATH}/{made}", {"routes": {"total_routes": 4}})[0] == 422


def test_everybody_reads_quotas_and_sees_only_organizations_of_their_own(cloud: Cloud) -> None:
    mine, other = cloud.org()["guid"], cloud.org()["guid"]
    made = quota(cloud, relationships={"organizations": targets(mine, other)})
    assert made["relationships"]["organizations"] == targets(mine, other)
    assert cloud.admin.ok("GET", f"/v3/organizations/{mine}")["relationships"]["quota"]["data"]["guid"] == made["guid"]
    user = cloud.user(organization_user=mine)
    assert user.ok("GET", f"{PATH}/{made['guid']}")["relationships"]["organizations"] == targets(mine)
    assert {one["name"] for one in user.ok("GET", PATH)["resources"]} == {"default", "small"}
    found = user.ok("GET", f"{PATH}?organization_guids={mine}")["resources"]
    assert [one["guid"] for one in found] == [made["guid"]]
    # What an organization that one may not see has for a quota is not told either.
    assert user.ok("GET", f"{PATH}?organization_guids={other}")["resources"] == []
    assert [one["name"] for one in cloud.admin.ok("GET", f"{PATH}?organization_guids={other}")["resources"]] == [
        "small"
    ]
    assert cloud.nobody.problem("GET", PATH)[:2] == (401, 10002)
    assert user.problem("GET", f"{PATH}/nope") == (404, 10010, "Organization quota not found")


def test_only_admins_write(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    made = quota(cloud)["guid"]
    for client in (cloud.user(organization_manager=org), cloud.client("cloud_controller.admin_read_only")):
        for method, path, body in (
            ("POST", PATH, {"name": "x"}),
            ("PATCH", f"{PATH}/{made}", {"name": "x"}),
            ("DELETE", f"{PATH}/{made}", None),
            ("POST", f"{PATH}/{made}/relationships/organizations", targets(org)),
        ):
            assert client.problem(method, path, body)[:2] == (403, 10003)


def test_a_quota_is_applied_in_place_of_the_one_before(cloud: Cloud) -> None:
    org, made = cloud.org("acme"), quota(cloud)
    path = f"{PATH}/{made['guid']}/relationships/organizations"
    answer = cloud.admin.ok("POST", path, targets(org["guid"], org["guid"]))
    assert answer == {**targets(org["guid"]), "links": {"self": {"href": cloud.settings.api_url + path}}}
    shown = cloud.admin.ok("GET", f"/v3/organizations/{org['guid']}")
    assert shown["relationships"]["quota"]["data"]["guid"] == made["guid"]
    applied = events(cloud, made["guid"])[-1]
    assert (applied["type"], applied["organization"]) == (
        "audit.organization_quota.apply",
        {"guid": org["guid"]},
    )
    assert applied["data"] == {"organization_guid": org["guid"], "organization_name": "acme"}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "Data can't be blank, Data must be an array"),
        ({"data": []}, "Data can't be blank"),
        ({"data": {"guid": "x"}}, "Data must be an array"),
        (
            {"data": [{"guid": 1}, {"guid": "x"}, {}]},
            (
                "Invalid data type: Data[0] guid should be a string., "
                "Invalid data type: Data[2] guid should be a string."
            ),
        ),
        ({"data": [{"guid": "a"}, {"guid": "b"}]}, 'Organizations with guids ["a", "b"] do not exist'),
    ],
)
def test_what_a_quota_may_be_applied_to(cloud: Cloud, body: Any, detail: str) -> None:
    path = f"{PATH}/{quota(cloud)['guid']}/relationships/organizations"
    assert cloud.admin.problem("POST", path, body) == (422, 10008, detail)


def test_organizations_with_unlimited_logs_get_no_limit_of_logs(cloud: Cloud) -> None:
    limit = {"apps": {"log_rate_limit_in_bytes_per_second": 1000}}
    free, limited = quota(cloud, "free")["guid"], quota(cloud, "limited", **limit)["guid"]
    lead = "Current usage exceeds new quota values. "
    tail = " apps running with an unlimited log rate limit."
    orgs = [cloud.org(name)["guid"] for name in ("a", "b", "c", "d")]
    for count, text in (
        (1, "org 'a' which contains"),
        (2, "orgs 'a', 'b' which contain"),
        (3, "orgs 'a', 'b' and 1 other orgs which contain"),
        (4, "orgs 'a', 'b' and 2 other orgs which contain"),
    ):
        unlimited_app(cloud, orgs[count - 1])
        cloud.admin.ok("POST", f"{PATH}/{free}/relationships/organizations", targets(orgs[count - 1]))
        refused = cloud.admin.problem("PATCH", f"{PATH}/{free}", limit)
        assert refused == (422, 10008, f"{lead}This quota is applied to {text}{tail}")
    refused = cloud.admin.problem("POST", f"{PATH}/{limited}/relationships/organizations", targets(orgs[0]))
    assert refused[2] == f"{lead}The org(s) being assigned this quota contain{tail}"
    assert cloud.admin.patch(f"{PATH}/{free}", {"apps": {"total_instances": 1}}).status_code == 200


def test_a_quota_in_use_cannot_be_deleted(cloud: Cloud) -> None:
    org, made = cloud.org()["guid"], quota(cloud)["guid"]
    default = cloud.admin.ok("GET", f"{PATH}?names=default")["resources"][0]["guid"]
    cloud.admin.ok("POST", f"{PATH}/{made}/relationships/organizations", targets(org))
    assert cloud.admin.problem("DELETE", f"{PATH}/{made}") == (
        422,
        10008,
        (
            "This quota is applied to one or more organizations. "
            "Apply different quotas to those organizations before deleting."
        ),
    )
    cloud.admin.ok("POST", f"{PATH}/{default}/relationships/organizations", targets(org))
    job = finished(cloud, cloud.admin, "DELETE", f"{PATH}/{made}")
    assert (job["operation"], job["state"]) == ("organization_quota.delete", "COMPLETE")
    assert cloud.admin.problem("GET", f"{PATH}/{made}")[0] == 404
    assert [event["type"] for event in events(cloud, made)] == [
        f"audit.organization_quota.{what}" for what in ("create", "apply", "delete")
    ]


def test_what_was_asked_for_is_in_the_events(cloud: Cloud) -> None:
    made = quota(cloud, **LIMITED)["guid"]
    cloud.admin.ok("PATCH", f"{PATH}/{made}", {"apps": {"total_instances": None}})
    create, update = events(cloud, made)
    assert (create["type"], create["data"]["request"]) == (
        "audit.organization_quota.create",
        {"name": "small", **LIMITED},
    )
    assert (update["type"], update["data"]["request"]) == (
        "audit.organization_quota.update",
        {"apps": {"total_instances": None}},
    )
    assert update["target"] == {"guid": made, "type": "organization_quota", "name": "small"}
    assert (update["organization"], update["space"]) == (None, None)


def test_without_a_default_quota_there_are_no_new_organizations(cloud: Cloud) -> None:
    default = cloud.admin.ok("GET", f"{PATH}?names=default")["resources"][0]["guid"]
    cloud.admin.ok("PATCH", f"{PATH}/{default}", {"name": "standard"})
    status, code, detail = cloud.admin.problem("POST", "/v3/organizations", {"name": "acme"})
    assert (status, code) == (400, 30001)
    assert detail.startswith("The organization info is invalid: Quota Definition could not be found: default")
    quota(cloud, "Default")
    assert cloud.admin.post("/v3/organizations", {"name": "acme"}).status_code == 201


@pytest.mark.parametrize("query", ["size=1", "order_by=name", "label_selector=a"])
def test_bad_queries_are_400(cloud: Cloud, query: str) -> None:
    assert cloud.admin.problem("GET", f"{PATH}?{query}")[:2] == (400, 10005)


@pytest.mark.parametrize("path", [PATH, "/v3/space_quotas", "/v3/isolation_segments"])
def test_lists_cost_the_same_however_long_they_are(cloud: Cloud, path: str) -> None:
    org = cloud.org()["guid"]
    member = cloud.user(organization_manager=org)

    def add(number: int) -> None:
        links = {"organization": {"data": {"guid": org}}}
        body = {"name": f"n{number}", **({"relationships": links} if path == "/v3/space_quotas" else {})}
        made = cloud.admin.ok("POST", path, body, 201)["guid"]
        if path == "/v3/isolation_segments":
            cloud.admin.ok("POST", f"{path}/{made}/relationships/organizations", targets(org))

    def statements(client: Client) -> int:
        with cloud.database.watched() as sent:
            client.ok("GET", path)
        return len(sent)

    add(0)
    few = [statements(client) for client in (cloud.admin, member)]
    for number in range(1, 6):
        add(number)
    assert [statements(client) for client in (cloud.admin, member)] == few
