"""What an operator does with the official CLI: security groups, segments, flags, variables, buildpacks, stacks, `curl`."""

import json
import re
import zipfile
from pathlib import Path

import pytest

from tests.journeys.cf import Cf

STORED = "stored, not enforced by this engine yet"
TIP = "TIP: If Dynamic ASG's are enabled, changes will automatically apply"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.json"
    rule = {"protocol": "tcp", "destination": "10.0.0.0/8", "ports": "443", "description": "inner"}
    file.write_text(json.dumps([rule]))
    return file


def row(printed: str, name: str) -> list[str]:
    """The cells of the one line that begins with a name."""
    (found,) = re.findall(rf"^{re.escape(name)}(?:\s.*)?$", printed, re.MULTILINE)
    return re.split(r"\s{2,}", found.strip())


def zipped(file: Path, entries: dict[str, str]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, text)
    return file


@pytest.fixture
def buildpack(tmp_path: Path) -> Path:
    """A zip that stages nothing."""
    script = "#!/bin/sh\nexit 1\n"
    return zipped(tmp_path / "pack.zip", {f"bin/{name}": script for name in ("detect", "compile", "release")})


# Security groups.


def test_security_groups_are_made_changed_and_deleted(desk: Cf, rules: Path, tmp_path: Path) -> None:
    name = f"inner-{desk.name}"
    made = desk("create-security-group", name, str(rules))
    assert f"Creating security group {name} as admin..." in made
    assert f"{STORED}\nOK" in made
    again = desk("create-security-group", name, str(rules))
    assert f"Security group with name '{name}' already exists.\nOK" in again
    shown = desk("security-group", name)
    (found,) = json.loads(shown[shown.index("[") : shown.rindex("]") + 1])
    assert found == {"protocol": "tcp", "destination": "10.0.0.0/8", "ports": "443", "description": "inner"}
    assert "No spaces assigned" in shown
    rules.write_text('[{"protocol": "icmp", "destination": "0.0.0.0/0", "type": 0, "code": 0}]')
    changed = desk("update-security-group", name, str(rules))
    assert STORED in changed
    assert TIP in changed
    assert '"protocol": "icmp"' in desk("security-group", name)
    wrong = tmp_path / "wrong.json"
    wrong.write_text('[{"protocol": "smoke", "destination": "10.0.0.0/8"}]')
    problem = desk.refused("create-security-group", f"wrong-{desk.name}", str(wrong))
    assert "Rules[0]: protocol must be 'tcp', 'udp', 'icmp', 'icmpv6' or 'all'" in problem
    wrong.write_text("{no json")
    assert "Incorrect json format" in desk.refused("create-security-group", f"wrong-{desk.name}", str(wrong))
    assert "OK" in desk("delete-security-group", "-f", name)
    assert f"Security group '{name}' does not exist.\nOK" in desk("delete-security-group", "-f", name)
    assert f"Security group '{name}' not found." in desk.refused("security-group", name)


def test_security_groups_are_bound_to_spaces(desk: Cf, rules: Path) -> None:
    org, name = f"platform-{desk.name}", f"bound-{desk.name}"
    desk("create-security-group", name, str(rules))
    for lifecycle in ("running", "staging"):
        bound = desk("bind-security-group", name, org, "--space", "desk", "--lifecycle", lifecycle)
        assert f"Assigning {lifecycle} security group {name} to space desk in org {org} as admin..." in bound
        assert STORED in bound
        assert TIP in bound
    assert re.search(rf"^{org}\s+desk$", desk("security-group", name), re.MULTILINE)
    listed = desk("security-groups")
    assert {line.split()[-1] for line in listed.splitlines() if line.startswith(name)} == {"running", "staging"}
    shown = desk("space", "desk", "--security-group-rules")
    assert re.search(rf"^running security groups:.*{name}$", shown, re.MULTILINE)
    assert re.search(rf"^{name}\s+10\.0\.0\.0/8\s+443\s+tcp\s+staging\s+inner$", shown, re.MULTILINE)
    for lifecycle in ("running", "staging"):
        gone = desk("unbind-security-group", name, org, "desk", "--lifecycle", lifecycle)
        assert f"Unbinding {lifecycle} security group {name} from org {org} / space desk as admin...\nOK" in gone
    again = desk("unbind-security-group", name, org, "desk")
    assert f"Security group {name} not bound to space desk for lifecycle phase 'running'.\nOK" in again
    desk("create-space", "second")
    everywhere = desk("bind-security-group", name, org)
    (spaces,) = re.findall(rf"Assigning running security group {name} to spaces (.*) in org {org} as", everywhere)
    assert set(spaces.split(", ")) == {"desk", "second"}
    assert "Security group 'nothing' not found." in desk.refused("bind-security-group", "nothing", org)
    desk("delete-space", "-f", "second")
    desk("delete-security-group", "-f", name)
    assert name not in desk("space", "desk")


@pytest.mark.parametrize("lifecycle", ["running", "staging"])
def test_security_groups_are_bound_everywhere(desk: Cf, rules: Path, lifecycle: str) -> None:
    name = f"global-{lifecycle}-{desk.name}"
    desk("create-security-group", name, str(rules))
    bound = desk(f"bind-{lifecycle}-security-group", name)
    assert f"Binding security group {name} to {lifecycle} as admin..." in bound
    assert f"{STORED}\nOK" in bound
    assert {"public_networks", "dns", name} <= set(desk(f"{lifecycle}-security-groups").splitlines())
    assert row(desk("security-groups"), name)[1:] == ["<all>", "<all>", lifecycle]
    assert name in desk("space", "desk")
    assert "not found" in desk.refused(f"bind-{lifecycle}-security-group", "nothing")
    assert "OK" in desk(f"unbind-{lifecycle}-security-group", name)
    assert name not in desk(f"{lifecycle}-security-groups")
    desk("delete-security-group", "-f", name)


# Isolation segments.


def test_isolation_segments_from_making_to_deleting(desk: Cf) -> None:
    org, name = f"platform-{desk.name}", f"apart-{desk.name}"
    stored = "Isolation segments are stored, not enforced by this engine yet.\nOK"
    assert stored in desk("create-isolation-segment", name)
    assert f"Isolation segment '{name}' already exists.\nOK" in desk("create-isolation-segment", name)
    assert row(desk("isolation-segments"), name) == [name]
    early = desk.refused("set-space-isolation-segment", "desk", name)
    assert "Ensure it has been entitled to the organization that this space belongs to." in early
    assert stored in desk("enable-org-isolation", org, name)
    assert "Isolation segment 'nothing' not found." in desk.refused("enable-org-isolation", org, "nothing")
    assert row(desk("isolation-segments"), name) == [name, org]
    assert stored in desk("set-org-default-isolation-segment", org, name)
    assert re.search(rf"^isolation segments:\s+{name} \(default\)$", desk("org", org), re.MULTILINE)
    assert re.search(rf"^isolation segment:\s+{name} \(org default\)$", desk("space", "desk"), re.MULTILINE)
    assert stored in desk("set-space-isolation-segment", "desk", name)
    assert re.search(rf"^isolation segment:\s+{name}$", desk("space", "desk"), re.MULTILINE)
    used = desk.refused("disable-org-isolation", org, name)
    assert "Cannot remove the entitlement while this Isolation Segment is assigned as the Default" in used
    entitled = desk.refused("delete-isolation-segment", "-f", name)
    assert "Revoke the Organization entitlements for your Isolation Segment." in entitled
    assert "OK" in desk("reset-space-isolation-segment", "desk")
    assert "OK" in desk("reset-org-default-isolation-segment", org)
    assert re.search(r"^isolation segment:\s*$", desk("space", "desk"), re.MULTILINE)
    assert "OK" in desk("disable-org-isolation", org, name)
    assert row(desk("isolation-segments"), name) == [name]
    assert "OK" in desk("delete-isolation-segment", "-f", name)
    assert f"Isolation segment {name} does not exist.\nOK" in desk("delete-isolation-segment", "-f", name)


# Feature flags and variables.


def test_feature_flags_are_listed_and_switched(desk: Cf) -> None:
    listed = desk("feature-flags")
    assert row(listed, "app_scaling") == ["app_scaling", "enabled"]
    assert row(listed, "user_org_creation") == ["user_org_creation", "disabled"]
    assert len(re.findall(r"(?:en|dis)abled$", listed, re.MULTILINE)) >= 19
    try:
        assert "OK" in desk("enable-feature-flag", "user_org_creation")
        assert row(desk("feature-flag", "user_org_creation"), "user_org_creation")[1] == "enabled"
    finally:
        assert "OK" in desk("disable-feature-flag", "user_org_creation")
    assert row(desk("feature-flag", "user_org_creation"), "user_org_creation")[1] == "disabled"
    for command in ("feature-flag", "enable-feature-flag", "disable-feature-flag"):
        assert "Feature flag 'nothing' not found." in desk.refused(command, "nothing")


def test_what_the_engine_cannot_do_is_not_switched_on(desk: Cf) -> None:
    refused = desk.refused("enable-feature-flag", "diego_docker")
    assert "diego_docker cannot be enabled: this engine does not run docker images yet" in refused
    assert row(desk("feature-flag", "diego_docker"), "diego_docker")[1] == "disabled"
    pushed = desk.refused("push", "boxed", "-o", "registry.example.com/image")
    assert "docker" in pushed.lower()
    desk("delete", "-f", "-r", "boxed")


@pytest.mark.parametrize("kind", ["running", "staging"])
def test_environment_variable_groups(desk: Cf, kind: str) -> None:
    none = f"No {kind} environment variable group has been set."

    def shown() -> str:
        return desk(f"{kind}-environment-variable-group")

    assert none in shown()
    try:
        assert "OK" in desk(f"set-{kind}-environment-variable-group", '{"COLOUR": "blue", "SIZE": "9"}')
        assert [row(shown(), name)[1] for name in ("COLOUR", "SIZE")] == ["blue", "9"]
        assert "OK" in desk(f"set-{kind}-environment-variable-group", '{"COLOUR": "red"}')
        assert row(shown(), "COLOUR")[1] == "red"
        assert "SIZE" not in shown()
        wrong = desk.refused(f"set-{kind}-environment-variable-group", "no json")
        assert "Invalid environment variable group provided. Please provide a valid JSON object." in wrong
        reserved = desk.refused(f"set-{kind}-environment-variable-group", '{"PORT": "1"}')
        assert "Var cannot set PORT" in reserved
    finally:
        desk(f"set-{kind}-environment-variable-group", "{}")
    assert none in shown()


# Buildpacks and stacks.


def test_buildpacks_are_made_moved_locked_and_deleted(desk: Cf, buildpack: Path) -> None:
    name, other = f"pack-{desk.name}", f"repack-{desk.name}"
    before = desk("buildpacks")
    made = desk("create-buildpack", name, str(buildpack), "1", "--disable")
    assert f"Uploading buildpack {name} as admin..." in made
    assert f"Processing uploaded buildpack {name}...\nOK" in made
    assert row(desk("buildpacks"), "1") == ["1", name, "false", "false", "READY", "pack.zip", "buildpack"]
    again = desk.refused("create-buildpack", name, str(buildpack), "1")
    assert f"Buildpack with name '{name}' and an unassigned stack already exists" in again
    assert "OK" in desk("update-buildpack", name, "-i", "3", "--enable", "--lock")
    assert row(desk("buildpacks"), "3")[1:4] == [name, "true", "true"]
    assert "Buildpack is locked" in desk.refused("update-buildpack", name, "-p", str(buildpack))
    renamed = desk("update-buildpack", name, "--unlock", "--rename", other)
    assert f"Renaming buildpack {name} to {other} as admin..." in renamed
    assert f"Processing uploaded buildpack {other}...\nOK" in desk("update-buildpack", other, "-p", str(buildpack))
    assert "OK" in desk("update-buildpack", other, "--assign-stack", "cflinuxfs4")
    assert row(desk("buildpacks"), "3")[1:3] == [other, "cflinuxfs4"]
    fixed = desk.refused("update-buildpack", other, "--assign-stack", "another")
    assert "Buildpack stack can not be changed" in fixed
    assert "Buildpack 'nothing' not found" in desk.refused("update-buildpack", "nothing", "--enable")
    assert "OK" in desk("delete-buildpack", "-f", other, "-s", "cflinuxfs4")
    gone = desk("delete-buildpack", "-f", other, "-s", "cflinuxfs4")
    assert f"Buildpack '{other}' with stack 'cflinuxfs4' not found.\nOK" in gone
    assert f"Buildpack '{other}' not found.\nOK" in desk("delete-buildpack", "-f", other)
    assert desk("buildpacks") == before, "those behind it moved up"


def test_a_directory_is_a_buildpack_and_a_broken_zip_is_none(desk: Cf, tmp_path: Path) -> None:
    directory = tmp_path / "pack" / "bin"
    directory.mkdir(parents=True)
    for name in ("detect", "compile", "release"):
        (directory / name).write_text("#!/bin/sh\nexit 1\n")
        (directory / name).chmod(0o755)
    desk("create-buildpack", f"folder-{desk.name}", str(directory.parent), "99")
    last = desk("buildpacks").splitlines()[-1].split()
    assert last[1] == f"folder-{desk.name}"
    assert int(last[0]) < 99, "the last position that there is"
    desk("delete-buildpack", "-f", f"folder-{desk.name}")
    name = f"broken-{desk.name}"
    try:
        for content, words in ((b"no zip", "is not a zip file"), (b"PK\x03\x04 and no more", "Buildpack zip error")):
            (tmp_path / "broken.zip").write_bytes(content)
            broken = desk.refused("create-buildpack", name, str(tmp_path / "broken.zip"), "1")
            assert words in broken
            assert f"A buildpack with name '{name}' and nil stack has been created." in broken
            assert "AWAITING_UPLOAD" in row(desk("buildpacks"), "1")
            desk("delete-buildpack", "-f", name)
    finally:
        desk("delete-buildpack", "-f", name)


def test_a_buildpack_of_the_operator_stages_apps(desk: Cf, tmp_path: Path) -> None:
    """An app goes to the first buildpack that takes it, and to the one that it names."""
    name = f"shout-{desk.name}"
    scripts = {
        "bin/detect": "#!/bin/sh\n[ -f $1/shout.txt ] && echo shouting\n",
        "bin/compile": "#!/bin/sh\necho '-----> Shouting'\n",
        "bin/release": "#!/bin/sh\nprintf 'default_process_types:\\n  web: python3 -m http.server $PORT\\n'\n",
    }
    desk("create-buildpack", name, str(zipped(tmp_path / "shout.zip", scripts)), "1")
    source = tmp_path / "source"
    source.mkdir()
    (source / "shout.txt").write_text("hey")
    try:
        pushed = desk("push", name, "-p", str(source), "-m", "64M", "-k", "128M")
        assert "-----> Shouting" in pushed
        assert re.search(rf"^\s+{name}\s+shouting", pushed, re.MULTILINE)
        desk("update-buildpack", name, "--disable")
        refused = desk.refused("push", name, "-p", str(source), "-m", "64M", "-k", "128M", "-b", name)
        assert name in refused
    finally:
        desk("delete", "-f", "-r", name)
        desk("delete-buildpack", "-f", name)


def test_stacks_are_listed_and_change_their_state(desk: Cf) -> None:
    described = "Cloud Foundry Linux-based filesystem"
    assert row(desk("stacks"), "cflinuxfs4")[2] == "ACTIVE"
    shown = desk("stack", "cflinuxfs4")
    assert re.search(rf"^description:\s+{described}", shown, re.MULTILINE)
    assert re.search(r"^state:\s+ACTIVE$", shown, re.MULTILINE)
    assert re.fullmatch(r"[0-9a-f-]{36}", desk("stack", "cflinuxfs4", "--guid").strip())
    assert "Stack 'nothing' not found" in desk.refused("stack", "nothing")
    try:
        changed = desk("update-stack", "cflinuxfs4", "--state", "deprecated", "--reason", "use another")
        assert "Changing state on the default stack 'cflinuxfs4' may affect new application deployments." in changed
        assert re.search(r"^reason:\s+use another$", desk("stack", "cflinuxfs4"), re.MULTILINE)
        assert row(desk("stacks"), "cflinuxfs4")[2] == "DEPRECATED"
    finally:
        desk("update-stack", "cflinuxfs4", "--state", "active")
    assert "use another" not in desk("stack", "cflinuxfs4")
    wrong = desk.refused("update-stack", "cflinuxfs4", "--state", "nonsense")
    assert "Must be one of: active, restricted, deprecated, disabled" in wrong


# Labels of what belongs to no app.


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("org", "platform-{cf}"),
        ("space", "desk"),
        ("domain", "apps.localhost"),
        ("stack", "cflinuxfs4"),
        ("buildpack", "python_buildpack"),
        ("service-offering", ""),
    ],
)
def test_labels(desk: Cf, kind: str, name: str) -> None:
    if kind == "service-offering":
        missing = desk.refused("set-label", kind, "nothing", "tier=front")
        assert "Service offering 'nothing' not found" in missing
        return
    name = name.format(cf=desk.name)
    assert "OK" in desk("set-label", kind, name, "tier=front", "example.com/team=a")
    listed = desk("labels", kind, name)
    assert (row(listed, "tier")[1], row(listed, "example.com/team")[1]) == ("front", "a")
    assert "OK" in desk("unset-label", kind, name, "tier", "example.com/team")
    assert "No labels found." in desk("labels", kind, name)
    wrong = desk.refused("set-label", kind, name, "too/many/parts=x")
    assert "key has more than one '/'" in wrong


# cf curl.


def test_curl_makes_any_request(desk: Cf, tmp_path: Path) -> None:
    name = f"curled-{desk.name}"
    made = json.loads(desk("curl", "/v3/organizations", "-d", json.dumps({"name": name})))
    assert made["name"] == name, "a body makes it a POST"
    path = f"/v3/organizations/{made['guid']}"
    body = tmp_path / "body.json"
    body.write_text('{"metadata": {"labels": {"from": "file"}}}')
    changed = json.loads(desk("curl", "-X", "PATCH", path, "-d", f"@{body}"))
    assert changed["metadata"]["labels"] == {"from": "file"}
    shown = desk("curl", "-i", path)
    assert shown.startswith(("HTTP/1.1 200 OK\n", "HTTP/1.1 200 OK\r\n"))
    assert re.search(r"^Content-Type: application/json", shown, re.MULTILINE)
    assert "X-Vcap-Request-Id" in shown
    desk("curl", path, "--output", str(tmp_path / "answer.json"))
    assert json.loads((tmp_path / "answer.json").read_text())["guid"] == made["guid"]
    stranger = json.loads(desk("curl", path, "-H", "Authorization: bearer nonsense"))
    assert stranger["errors"][0]["title"] == "CF-InvalidAuthToken"
    deleted = desk("curl", "-i", "-X", "DELETE", path)
    assert "202 Accepted" in deleted
    assert re.search(r"^Location: http\S+/v3/jobs/", deleted, re.MULTILINE)


def test_curl_fails_only_when_it_is_told_to(desk: Cf) -> None:
    assert json.loads(desk("curl", "/v3/apps/nothing"))["errors"][0]["detail"] == "App not found"
    refused = desk.refused("curl", "--fail", "/v3/apps/nothing", status=22)
    assert "The requested URL returned error: 404" in refused
    invalid = json.loads(desk("curl", "/v3/apps", "-d", "{}"))
    assert invalid["errors"][0]["title"] == "CF-UnprocessableEntity"
    assert "422" in desk.refused("curl", "--fail", "/v3/apps", "-d", "{}", status=22)
    broken = json.loads(desk("curl", "/v3/apps", "-d", "{"))
    assert broken["errors"][0]["title"] == "CF-MessageParseError"
