"""Orgs, spaces, who may do what in them, and how much they may use: every command of the official CLI for them."""

import re
from collections.abc import Iterator

import pytest

from tests.journeys.cf import Cf

PASSWORD = "correct horse 1"  # of a user that lives for one test


@pytest.fixture
def ann(desk: Cf) -> Iterator[str]:
    """A user without a role."""
    name = f"ann-{desk.name}"
    assert f"Creating user {name}" in desk("create-user", name, PASSWORD)
    yield name
    desk("delete-user", "-f", name)


def table(printed: str) -> dict[str, str]:
    """The `name: value` lines of a command, of which a value may be empty."""
    return dict(re.findall(r"^(\S[^:\n]*):[ \t]*(.*?)[ \t]*$", printed, re.MULTILINE))


def row(printed: str, name: str) -> list[str]:
    """The cells of the line that begins with a name."""
    (found,) = re.findall(rf"^{re.escape(name)} .*$", printed, re.MULTILINE)
    return re.split(r"\s{2,}", found.strip())


def test_an_org_is_made_shown_renamed_and_deleted(desk: Cf) -> None:
    name, other = f"made-{desk.name}", f"renamed-{desk.name}"
    assert f"Creating org {name} as admin...\nOK" in desk("create-org", name)
    assert f"Organization '{name}' already exists.\nOK" in desk("create-org", name)
    assert "OK" in desk("rename-org", name, other)
    assert "Organization 'nothing' not found." in desk.refused("rename-org", "nothing", "more")
    taken = desk.refused("rename-org", other, f"tenancy-{desk.name}")
    assert f"Organization name 'tenancy-{desk.name}' is already taken." in taken
    listed = desk("orgs").splitlines()
    assert other in listed
    assert name not in listed
    shown = table(desk("org", other))
    assert shown == {
        "name": other,
        "domains": "apps.internal, apps.localhost",
        "quota": "default",
        "spaces": "",
        "isolation segments": "",
    }
    guid = desk("org", other, "--guid").strip()
    assert re.fullmatch(r"[0-9a-f-]{36}", guid)
    assert f'"guid":"{guid}"' in desk("curl", f"/v3/organizations/{guid}")
    assert "Organization 'nothing' not found." in desk.refused("org", "nothing")
    assert "OK" in desk("delete-org", "-f", other)
    assert f"Org '{other}' does not exist.\nOK" in desk("delete-org", "-f", other)
    assert other not in desk("orgs").splitlines()
    assert f"/v3/organizations/{guid}" not in desk("curl", "/v3/organizations?per_page=5000")


def test_an_org_goes_with_what_is_in_it(desk: Cf) -> None:
    org = f"full-{desk.name}"
    desk("create-org", org)
    desk("create-space", "one", "-o", org)
    inside = Cf(desk.program, desk.home)
    inside("target", "-o", org, "-s", "one")
    inside("create-app", "app")
    inside("create-route", "apps.localhost", "-n", org)
    guid = inside.guid("app")
    try:
        assert "OK" in inside("delete-org", "-f", org)
    finally:
        inside("target", "-o", f"tenancy-{desk.name}", "-s", "desk")
    assert "CF-ResourceNotFound" in desk("curl", f"/v3/apps/{guid}")
    assert "does not exist" in desk("check-route", "apps.localhost", "-n", org)


def test_a_space_is_made_shown_renamed_and_deleted(desk: Cf) -> None:
    org = f"tenancy-{desk.name}"
    printed = desk("create-space", "one")
    assert f"Creating space one in org {org} as admin...\nOK" in printed
    for role in ("SpaceManager", "SpaceDeveloper"):
        assert f"Assigning role {role} to user admin in org {org} / space one as admin...\nOK" in printed
    assert "Space 'one' already exists.\nOK" in desk("create-space", "one")
    assert "Organization 'nothing' not found." in desk.refused("create-space", "one", "-o", "nothing")
    assert "OK" in desk("rename-space", "one", "two")
    taken = desk.refused("rename-space", "two", "desk")
    assert f"Organization '{org}' already contains a space with name 'desk'." in taken
    listed = desk("spaces").splitlines()
    assert {"two", "desk"} <= set(listed)
    assert "one" not in listed
    assert table(desk("space", "two")) == {
        "name": "two",
        "org": org,
        "apps": "",
        "services": "",
        "isolation segment": "",
        "quota": "",
        "running security groups": "public_networks, dns",
        "staging security groups": "public_networks, dns",
    }
    rules = desk("space", "two", "--security-group-rules")
    assert re.search(r"^dns\s+0\.0\.0\.0/0\s+53\s+udp\s+running", rules, re.MULTILINE)
    assert "Space 'nothing' not found." in desk.refused("space", "nothing")
    assert re.fullmatch(r"[0-9a-f-]{36}", desk("space", "two", "--guid").strip())
    assert "OK" in desk("delete-space", "-f", "two")
    assert "Space 'two' does not exist.\nOK" in desk("delete-space", "-f", "two")


def test_ssh_is_allowed_and_disallowed_in_a_space(desk: Cf) -> None:
    desk("create-space", "reach")
    assert "ssh support is enabled in space 'reach'." in desk("space-ssh-allowed", "reach")
    assert "OK" in desk("disallow-space-ssh", "reach")
    assert "ssh support for space 'reach' is already disabled." in desk("disallow-space-ssh", "reach")
    assert "ssh support is disabled in space 'reach'." in desk("space-ssh-allowed", "reach")
    assert "OK" in desk("allow-space-ssh", "reach")
    assert "ssh support for space 'reach' is already enabled." in desk("allow-space-ssh", "reach")
    desk("delete-space", "-f", "reach")


def test_users_are_made_once_and_deleted_once(desk: Cf) -> None:
    name = f"bob-{desk.name}"
    assert "OK" in desk("create-user", name, PASSWORD)
    assert f"User '{name}' already exists.\nOK" in desk("create-user", name, PASSWORD)
    assert "OK" in desk("delete-user", "-f", name)
    assert f"User '{name}' does not exist.\nOK" in desk("delete-user", "-f", name)


def test_roles_in_an_org(desk: Cf, ann: str) -> None:
    org = f"tenancy-{desk.name}"
    for role in ("OrgManager", "BillingManager", "OrgAuditor"):
        said = f"Assigning role {role} to user {ann} in org {org} as admin..."
        assert f"{said}\nOK" in desk("set-org-role", ann, org, role)
        assert f"User '{ann}' already has role '{role}' in org '{org}'.\nOK" in desk("set-org-role", ann, org, role)
    unknown = desk.refused("set-org-role", f"nobody-{desk.name}", org, "OrgAuditor")
    assert f"No user exists with the username 'nobody-{desk.name}'." in unknown
    assert "Incorrect Usage" in desk.refused("set-org-role", ann, org, "King")
    listed = desk("org-users", org)
    assert [ann in part for part in re.split(r"\n\n", listed)[1:4]] == [True, True, True]
    assert re.search(rf"ORG MANAGER\n  {ann} \(uaa\)", listed)
    assert re.search(rf"ORG USERS\n(  .*\n)*  {ann} \(uaa\)", desk("org-users", org, "-a"))
    assert "OK" in desk("unset-org-role", ann, org, "OrgAuditor")
    assert "OK" in desk("unset-org-role", ann, org, "OrgAuditor"), "what is not there may be taken away again"
    assert "ORG AUDITOR\n  No ORG AUDITOR found" in desk("org-users", org)
    assert f"ORG MANAGER\n  {ann}" in desk("org-users", org)


def test_roles_in_a_space(desk: Cf, ann: str) -> None:
    org = f"tenancy-{desk.name}"
    roles = ("SpaceManager", "SpaceDeveloper", "SpaceAuditor", "SpaceSupporter")
    for role in roles:
        said = f"Assigning role {role} to user {ann} in org {org} / space desk as admin..."
        assert f"{said}\nOK" in desk("set-space-role", ann, org, "desk", role)
    again = desk("set-space-role", ann, org, "desk", "SpaceAuditor")
    assert f"User '{ann}' already has role 'SpaceAuditor' in org '{org}' / space 'desk'.\nOK" in again
    listed = desk("space-users", org, "desk")
    for title in ("SPACE MANAGER", "SPACE DEVELOPER", "SPACE SUPPORTER", "SPACE AUDITOR"):
        assert re.search(rf"{title}\n(  .*\n)*  {ann} \(uaa\)", listed), title
    for role in roles:
        said = f"Removing role {role} from user {ann} in org {org} / space desk as admin..."
        assert f"{said}\nOK" in desk("unset-space-role", ann, org, "desk", role)
    listed = desk("space-users", org, "desk")
    assert "SPACE AUDITOR\n  No SPACE AUDITOR found" in listed
    assert ann not in listed


def test_what_a_user_may_do_follows_the_roles(desk: Cf, ann: str, platform_url: str) -> None:
    """A role that is given, and one that is taken away, count at once."""
    org = f"tenancy-{desk.name}"
    home = desk.home / "ann"
    home.mkdir(exist_ok=True)
    hers = Cf(desk.program, home)
    hers("api", platform_url)
    hers("auth", ann, PASSWORD)
    assert f"Organization '{org}' not found." in hers.refused("target", "-o", org)
    desk("set-space-role", ann, org, "desk", "SpaceAuditor")
    hers("target", "-o", org, "-s", "desk")
    denied = "You are not authorized to perform the requested action"
    assert denied in hers.refused("create-app", "hers")
    assert denied in hers.refused("create-space", "hers")
    assert denied in hers.refused("create-shared-domain", "hers.example.com")
    desk("set-space-role", ann, org, "desk", "SpaceDeveloper")
    assert "OK" in hers("create-app", "hers")
    desk("unset-space-role", ann, org, "desk", "SpaceDeveloper")
    assert denied in hers.refused("delete", "-f", "hers")
    desk("unset-space-role", ann, org, "desk", "SpaceAuditor")
    assert "App 'hers' not found" in hers.refused("app", "hers")
    desk("delete", "-f", "hers")


def test_an_org_quota_from_making_to_deleting(desk: Cf) -> None:
    org, name, other = f"tenancy-{desk.name}", f"tight-{desk.name}", f"tighter-{desk.name}"
    limits = ("-m", "256M", "-i", "128M", "-r", "1", "-s", "0", "-a", "2", "--reserved-route-ports", "0", "-l", "1K")
    assert f"Creating org quota {name} as admin...\nOK" in desk("create-org-quota", name, *limits)
    assert f"Organization Quota '{name}' already exists.\nOK" in desk("create-org-quota", name)
    expected = {
        "total memory": "256M",
        "instance memory": "128M",
        "routes": "1",
        "service instances": "0",
        "paid service plans": "disallowed",
        "app instances": "2",
        "route ports": "0",
        "log volume per second": "1K",
    }
    assert table(desk("org-quota", name)) == expected
    assert row(desk("org-quotas"), name)[1:] == ["256M", "128M", "1", "0", "disallowed", "2", "0", "1K"]
    assert row(desk("org-quotas"), "default")[:3] == ["default", "10G", "unlimited"]
    assert "Organization quota with name 'nothing' not found." in desk.refused("org-quota", "nothing")
    assert "OK" in desk("update-org-quota", name, "-n", other, "-m", "512M", "-i", "-1", "--allow-paid-service-plans")
    changed = {"total memory": "512M", "instance memory": "unlimited", "paid service plans": "allowed"}
    assert table(desk("org-quota", other)) == expected | changed
    assert "not found" in desk.refused("set-org-quota", org, "nothing")
    assert f"Setting quota {other} to org {org} as admin...\nOK" in desk("set-org-quota", org, other)
    assert table(desk("org", org))["quota"] == other
    in_use = "This quota is applied to one or more organizations. Apply different quotas to those organizations before deleting."
    assert in_use in desk.refused("delete-org-quota", "-f", other)
    desk("set-org-quota", org, "default")
    assert "OK" in desk("delete-org-quota", "-f", other)
    assert f"Organization quota with name '{other}' not found.\nOK" in desk("delete-org-quota", "-f", other)


def test_a_space_quota_from_making_to_deleting(desk: Cf) -> None:
    org, name, other = f"tenancy-{desk.name}", f"small-{desk.name}", f"smaller-{desk.name}"
    made = desk("create-space-quota", name, "-m", "100M", "-r", "4", "-a", "2")
    assert f"Creating space quota {name} for org {org} as admin...\nOK" in made
    assert f"Space Quota '{name}' already exists.\nOK" in desk("create-space-quota", name)
    cells = ["100M", "unlimited", "4", "0", "disallowed", "2", "0", "unlimited"]
    assert row(desk("space-quotas"), name)[1:] == cells
    assert "OK" in desk("update-space-quota", name, "-i", "64M", "-s", "-1", "-n", other)
    shown = table(desk("space-quota", other))
    assert (shown["instance memory"], shown["service instances"], shown["routes"]) == ("64M", "unlimited", "4")
    assert "Space quota with name 'nothing' not found." in desk.refused("set-space-quota", "desk", "nothing")
    assert f"Setting space quota {other} to space desk as admin...\nOK" in desk("set-space-quota", "desk", other)
    assert table(desk("space", "desk"))["quota"] == other
    assert "OK" in desk("unset-space-quota", "desk", other)
    assert table(desk("space", "desk"))["quota"] == ""
    assert "OK" in desk("delete-space-quota", "-f", other)
    assert f"Space quota with name '{other}' not found.\nOK" in desk("delete-space-quota", "-f", other)
    with_one = f"begun-{desk.name}"
    desk("create-space-quota", with_one, "-r", "9")
    desk("create-space", "begun", "-q", with_one)
    assert table(desk("space", "begun"))["quota"] == with_one
    desk("delete-space", "-f", "begun")
    desk("delete-space-quota", "-f", with_one)


def test_what_exceeds_an_org_quota_is_refused_by_name(desk: Cf) -> None:
    org, name = f"tenancy-{desk.name}", f"full-{desk.name}"
    desk("create-org-quota", name, "-m", "1G", "-r", "1", "-s", "0", "-a", "2")
    desk("set-org-quota", org, name)
    try:
        desk("create-route", "apps.localhost", "-n", f"first-{desk.name}")
        second = desk.refused("create-route", "apps.localhost", "-n", f"second-{desk.name}")
        assert f"Routes quota exceeded for organization '{org}'." in second
        desk("delete-orphaned-routes", "-f")
        assert "OK" in desk("create-user-provided-service", "own", "-p", '{"a":1}'), (
            "what users describe is not counted"
        )
        desk("delete-service", "-f", "own")
    finally:
        desk("set-org-quota", org, "default")
        desk("delete-org-quota", "-f", name)


def test_what_exceeds_a_space_quota_is_refused_by_name(desk: Cf) -> None:
    name = f"narrow-{desk.name}"
    desk("create-space-quota", name, "-r", "1")
    desk("set-space-quota", "desk", name)
    try:
        desk("create-route", "apps.localhost", "-n", f"first-{desk.name}")
        second = desk.refused("create-route", "apps.localhost", "-n", f"second-{desk.name}")
        assert "Routes quota exceeded for space 'desk'." in second
        desk("delete-orphaned-routes", "-f")
    finally:
        desk("unset-space-quota", "desk", name)
        desk("delete-space-quota", "-f", name)
