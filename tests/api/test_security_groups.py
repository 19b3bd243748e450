"""Security groups over HTTP: who sees which, what a rule may say, where they hold."""

from typing import Any
from urllib.parse import unquote

import pytest

from tests.api.conftest import Client, Cloud
from tests.api.work import finished

_DESTINATION = "destination must be a valid CIDR, IP address, or IP address range"
_PORTS = "ports must be a valid single port, comma separated list of ports, or range or ports, formatted as a string"


def warning(name: str) -> str:
    return f"security group '{name}' is stored, not enforced by this engine yet"


def rule(**changes: Any) -> dict[str, Any]:
    found = {"protocol": "tcp", "destination": "10.0.0.0/8", "ports": "443", **changes}
    return {name: value for name, value in found.items() if value is not ...}


def group(cloud: Cloud, name: str = "intranet", **more: Any) -> Any:
    return cloud.admin.ok("POST", "/v3/security_groups", {"name": name, **more}, 201)


def bound(*guids: str) -> dict[str, Any]:
    return {"data": [{"guid": guid} for guid in guids]}


def names(client: Client, query: str = "") -> set[str]:
    return {one["name"] for one in client.ok("GET", f"/v3/security_groups{query}")["resources"]}


def test_a_group_is_made_shown_changed_and_deleted(cloud: Cloud) -> None:
    space = cloud.space()["guid"]
    rules = [
        rule(description="all of it", log=True),
        {"protocol": "icmp", "destination": "10.1.1.1", "type": 0, "code": -1},
    ]
    body = {
        "name": "intranet",
        "rules": rules,
        "globally_enabled": {"staging": True},
        "relationships": {"running_spaces": bound(space), "staging_spaces": bound()},
    }
    answer = cloud.admin.post("/v3/security_groups", body)
    assert answer.status_code == 201
    assert unquote(answer.headers["X-Cf-Warnings"]) == warning("intranet")
    made = answer.json()
    path = f"/v3/security_groups/{made['guid']}"
    assert made["rules"] == rules
    assert made["globally_enabled"] == {"running": False, "staging": True}
    assert made["relationships"] == {"running_spaces": bound(space), "staging_spaces": bound()}
    assert made["links"] == {"self": {"href": cloud.settings.api_url + path}}
    assert cloud.admin.ok("GET", path) == made
    changed = cloud.admin.ok("PATCH", path, {"name": "inner", "rules": [], "globally_enabled": {"running": True}})
    assert (changed["name"], changed["rules"]) == ("inner", [])
    assert changed["globally_enabled"] == {"running": True, "staging": True}
    job = finished(cloud, cloud.admin, "DELETE", path)
    assert (job["operation"], job["state"]) == ("security_group.delete", "COMPLETE")
    assert cloud.admin.problem("GET", path) == (404, 10010, "Security group not found")


def test_the_first_start_has_public_networks_and_dns(cloud: Cloud) -> None:
    found = {one["name"]: one for one in cloud.admin.ok("GET", "/v3/security_groups")["resources"]}
    assert set(found) == {"public_networks", "dns"}
    assert all(one["globally_enabled"] == {"running": True, "staging": True} for one in found.values())
    assert found["dns"]["rules"] == [
        {"protocol": protocol, "destination": "0.0.0.0/0", "ports": "53"} for protocol in ("tcp", "udp")
    ]
    for one in found.values():
        assert cloud.admin.patch(f"/v3/security_groups/{one['guid']}", {"rules": one["rules"]}).status_code == 200


@pytest.mark.parametrize(
    ("rules", "detail"),
    [
        ("none", "Rules must be an array"),
        (None, "Rules must be an array"),
        (["none"], "Rules[0]: must be an object"),
        (
            [rule(protocol="gre", ports=..., destination=...)],
            f"Rules[0]: protocol must be 'tcp', 'udp', 'icmp', 'icmpv6' or 'all', Rules[0]: {_DESTINATION}",
        ),
        ([rule(), rule(blork=1, blark=2)], 'Rules[1]: unknown field(s): ["blork", "blark"]'),
        ([rule(destination=42)], "Rules[0]: destination must be a string"),
        ([rule(destination=None)], f"Rules[0]: {_DESTINATION}"),
        ([rule(destination=" 10.1.1.1")], "Rules[0]: destination must not contain whitespace"),
        ([rule(destination="10.1.1.1,10.1.1.2")], f"Rules[0]: {_DESTINATION}"),
        ([rule(destination="1010")], f"Rules[0]: {_DESTINATION}"),
        ([rule(destination="10.1.1.1/33")], f"Rules[0]: {_DESTINATION}"),
        ([rule(destination="::1")], f"Rules[0]: {_DESTINATION}"),
        ([rule(destination="10.1.1.1-")], f"Rules[0]: {_DESTINATION}"),
        ([rule(destination="1.1.1.1-1.1.1.2-1.1.1.3")], f"Rules[0]: {_DESTINATION}"),
        ([rule(destination="")], "rules rule number 1 contains invalid destination"),
        ([rule(destination="10.0.0.000/24")], "Rules[0]: destination octets cannot contain leading zeros"),
        ([rule(destination="10.1.1.1-10.1.1")], "Rules[0]: destination IP address range is invalid"),
        ([rule(destination="10.1.1.1/8-10.1.1.2")], "Rules[0]: destination IP address range is invalid"),
        (
            [rule(destination="9.9.9.9-0.0.0.0")],
            (
                "Rules[0]: beginning of IP address range is numerically greater than the end of its range "
                "(range endpoints are inverted)"
            ),
        ),
        ([rule(description=1)], "Rules[0]: description must be a string"),
        ([rule(description=None)], "rules rule number 1 contains invalid description"),
        ([rule(log="yes")], "Rules[0]: log must be a boolean"),
        ([rule(log=None)], "rules rule number 1 contains invalid log value"),
        (
            [rule(ports=...)],
            f"Rules[0]: ports are required for protocols of type TCP and UDP, Rules[0]: {_PORTS}",
        ),
        ([rule(ports=443)], f"Rules[0]: {_PORTS}"),
        ([rule(ports="0")], f"Rules[0]: {_PORTS}"),
        ([rule(ports="443-80")], f"Rules[0]: {_PORTS}"),
        ([rule(ports="443,http")], f"Rules[0]: {_PORTS}"),
        ([rule(ports="80,65536")], f"Rules[0]: {_PORTS}"),
        ([rule(ports="")], f"Rules[0]: {_PORTS}"),
        ([rule(protocol="all")], "Rules[0]: ports are not allowed for protocols of type all"),
        ([rule(type=1)], "rules rule number 1 contains the invalid field 'type'"),
        (
            [rule(protocol="icmp", ports=..., type=256)],
            (
                "Rules[0]: code is required for protocols of type ICMP, "
                "Rules[0]: code must be an integer between -1 and 255 (inclusive), "
                "Rules[0]: type must be an integer between -1 and 255 (inclusive)"
            ),
        ),
        ([rule(protocol="icmp", type=0, code=0)], "rules rule number 1 contains the invalid field 'ports'"),
        (
            [rule(protocol="icmpv6", ports=..., type=1, code=1)],
            "Rules[0]: icmpv6 cannot be used if enable_ipv6 is false",
        ),
    ],
)
def test_what_a_rule_may_not_say(cloud: Cloud, rules: Any, detail: str) -> None:
    assert cloud.admin.problem("POST", "/v3/security_groups", {"name": "x", "rules": rules}) == (422, 10008, detail)


@pytest.mark.parametrize(
    "good",
    [
        rule(destination="192.168.10.2/24"),
        rule(destination="0.0.0.0-255.255.255.255", protocol="udp", ports="8000-9000"),
        rule(destination="10.1.1.1", ports="80, 443"),
        rule(protocol="all", ports=...),
        rule(protocol="icmp", ports=..., type=255, code=0),
    ],
)
def test_what_a_rule_may_say(cloud: Cloud, good: dict[str, Any]) -> None:
    assert group(cloud, rules=[good])["rules"] == [good]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "Name can't be blank, Name must be a string"),
        ({"name": ""}, "Name can't be blank"),
        ({"name": "x" * 251}, "Name is too long (maximum is 250 characters)"),
        ({"name": "a\nb"}, "Security group name contains invalid characters."),
        ({"name": "dns"}, "Security group with name 'dns' already exists."),
        ({"name": "x", "size": 1}, "Unknown field(s): 'size'"),
        ({"name": "x", "globally_enabled": []}, "Globally enabled must be an object"),
        ({"name": "x", "globally_enabled": {"now": True}}, "Globally enabled only allows keys 'running' or 'staging'"),
        ({"name": "x", "globally_enabled": {"running": 1}}, "Globally enabled values must be booleans"),
        (
            {"name": "x", "relationships": {"running_spaces": bound("nope")}},
            'Spaces with guids ["nope"] do not exist.',
        ),
        (
            {"name": "x", "relationships": {"running_spaces": {"data": ["nope"]}}},
            (
                "Relationships Running spaces must be structured like this: "
                '"running_spaces: {"data": [{"guid": "valid-guid"},{"guid": "valid-guid"}]}"'
            ),
        ),
    ],
)
def test_bad_bodies(cloud: Cloud, body: Any, detail: str) -> None:
    assert cloud.admin.problem("POST", "/v3/security_groups", body) == (422, 10008, detail)
    assert names(cloud.admin) == {"public_networks", "dns"}


def test_a_rename_may_keep_the_name_but_not_take_another(cloud: Cloud) -> None:
    path = f"/v3/security_groups/{group(cloud)['guid']}"
    assert cloud.admin.patch(path, {"name": "intranet"}).status_code == 200
    refused = cloud.admin.problem("PATCH", path, {"name": "dns"})
    assert refused == (422, 10008, "Security group with name 'dns' already exists.")
    assert cloud.admin.problem("PATCH", path, {"name": ""})[2] == "Name is too short (minimum is 1 character)"


def test_groups_are_seen_where_they_hold(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    here, there = (cloud.space(org=org)["guid"] for _ in range(2))
    both = group(cloud, relationships={"running_spaces": bound(here, there)})
    group(cloud, "hidden")
    developer = cloud.user(space_developer=here, organization_user=org)
    assert names(developer) == {"public_networks", "dns", "intranet"}
    assert names(cloud.user(organization_user=org)) == {"public_networks", "dns"}
    assert names(cloud.user(organization_manager=org)) == {"public_networks", "dns", "intranet"}
    assert names(cloud.client("cloud_controller.global_auditor")) == {"public_networks", "dns", "intranet", "hidden"}
    path = f"/v3/security_groups/{both['guid']}"
    assert developer.ok("GET", path)["relationships"]["running_spaces"] == bound(here)
    assert cloud.user().problem("GET", path) == (404, 10010, "Security group not found")
    assert developer.problem("PATCH", path, {"name": "x"})[:2] == (403, 10003)
    assert developer.problem("DELETE", path)[:2] == (403, 10003)
    assert developer.problem("POST", "/v3/security_groups", {"name": "x"})[:2] == (403, 10003)


def test_lists_are_filtered(cloud: Cloud) -> None:
    running, staging = cloud.space()["guid"], cloud.space()["guid"]
    group(cloud, relationships={"running_spaces": bound(running), "staging_spaces": bound(staging)})
    everywhere = group(cloud, "everywhere", globally_enabled={"running": True})
    assert names(cloud.admin, f"?running_space_guids={running}") == {"intranet"}
    assert names(cloud.admin, f"?staging_space_guids={running}") == set()
    assert names(cloud.admin, f"?staging_space_guids={staging},{running}") == {"intranet"}
    assert names(cloud.admin, "?globally_enabled_running=true") == {"public_networks", "dns", "everywhere"}
    assert names(cloud.admin, "?globally_enabled_staging=false") == {"intranet", "everywhere"}
    assert names(cloud.admin, "?names=intranet,DNS") == {"intranet"}
    assert names(cloud.admin, f"?guids={everywhere['guid']}") == {"everywhere"}
    bad = cloud.admin.problem("GET", "/v3/security_groups?globally_enabled_running=maybe")
    assert bad == (422, 10008, "Globally enabled running must be 'true' or 'false'")
    assert cloud.admin.problem("GET", "/v3/security_groups?label_selector=a")[:2] == (422, 10008)


@pytest.mark.parametrize("phase", ["running", "staging"])
def test_managers_bind_and_unbind(cloud: Cloud, phase: str) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    made = group(cloud, globally_enabled={phase: True})
    path = f"/v3/security_groups/{made['guid']}/relationships/{phase}_spaces"
    manager = cloud.user(space_manager=space, organization_user=org)
    answer = manager.post(path, bound(space))
    assert answer.status_code == 200
    assert answer.json() == {**bound(space), "links": {"self": {"href": cloud.settings.api_url + path}}}
    assert unquote(answer.headers["X-Cf-Warnings"]) == warning(made["name"])
    assert manager.ok("POST", path, bound(space))["data"] == bound(space)["data"]
    other = "running" if phase == "staging" else "staging"
    relationships = manager.ok("GET", f"/v3/security_groups/{made['guid']}")["relationships"]
    assert relationships == {f"{phase}_spaces": bound(space), f"{other}_spaces": bound()}
    listed = manager.ok("GET", f"/v3/spaces/{space}/{phase}_security_groups")["resources"]
    assert {one["name"] for one in listed} == {"public_networks", "dns", "intranet"}
    assert manager.delete(f"{path}/{space}").status_code == 204
    gone = f"Unable to unbind security group from space with guid '{space}'. Ensure the space is bound to this security group."
    assert manager.problem("DELETE", f"{path}/{space}") == (422, 10008, gone)


def test_who_may_not_bind(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space, other = cloud.space(org=org)["guid"], cloud.space()["guid"]
    made = group(cloud, globally_enabled={"running": True})
    path = f"/v3/security_groups/{made['guid']}/relationships/running_spaces"
    developer = cloud.user(space_developer=space, organization_user=org)
    manager = cloud.user(organization_manager=org)
    assert developer.problem("POST", path, bound(space))[:2] == (403, 10003)
    assert manager.problem("POST", path, bound(space, other))[:2] == (403, 10003)
    missing = 'Spaces with guids ["nope"] do not exist, or you do not have access to them.'
    assert manager.problem("POST", path, bound(space, "nope")) == (422, 10008, missing)
    assert cloud.admin.ok("GET", f"/v3/security_groups/{made['guid']}")["relationships"]["running_spaces"] == bound()
    assert manager.problem("POST", path, {})[2] == "Data can't be blank, Data must be an array"
    assert manager.problem("POST", path, bound())[2] == "Data can't be blank"
    assert manager.problem("POST", path, {"data": [{}]})[2] == "Invalid data type: Data[0] guid should be a string."
    assert developer.problem("DELETE", f"{path}/{space}")[:2] == (403, 10003)
    assert manager.problem("DELETE", f"{path}/nope")[0] == 422
    cloud.admin.ok("PATCH", f"/v3/organizations/{org}", {"suspended": True})
    assert manager.problem("POST", path, bound(space))[:2] == (403, 10017)


def test_the_lists_of_a_space_show_that_space_alone(cloud: Cloud) -> None:
    here, there = cloud.space()["guid"], cloud.space()["guid"]
    group(cloud, relationships={"running_spaces": bound(here, there), "staging_spaces": bound(there)})
    path = f"/v3/spaces/{here}/running_security_groups"
    (found,) = cloud.admin.ok("GET", f"{path}?names=intranet")["resources"]
    assert found["relationships"] == {"running_spaces": bound(here), "staging_spaces": bound()}
    assert cloud.admin.ok("GET", f"/v3/spaces/{here}/staging_security_groups?names=intranet")["resources"] == []
    assert cloud.admin.ok("GET", f"{path}?per_page=1")["pagination"]["total_results"] == 3
    assert cloud.user().problem("GET", path) == (404, 10010, "Space not found")
    assert cloud.admin.problem("GET", f"{path}?running_space_guids=x")[:2] == (422, 10008)


def test_groups_leave_with_their_space(cloud: Cloud) -> None:
    space = cloud.space()["guid"]
    made = group(cloud, relationships={"running_spaces": bound(space)})
    assert finished(cloud, cloud.admin, "DELETE", f"/v3/spaces/{space}")["state"] == "COMPLETE"
    assert cloud.admin.ok("GET", f"/v3/security_groups/{made['guid']}")["relationships"]["running_spaces"] == bound()
