"""Space features over HTTP."""

from tests.api.conftest import Cloud


def test_ssh_is_on_until_somebody_switches_it_off(cloud: Cloud) -> None:
    space = cloud.space()["guid"]
    path = f"/v3/spaces/{space}/features"
    on = {"name": "ssh", "description": "Enable SSHing into apps in the space.", "enabled": True}
    assert cloud.admin.ok("GET", path) == {"resources": [on]}
    assert cloud.admin.ok("PATCH", path + "/ssh", {"enabled": False}) == {**on, "enabled": False}
    assert cloud.admin.ok("GET", path + "/ssh") == {**on, "enabled": False}
    app = cloud.app(space=space)["guid"]
    name = cloud.admin.ok("GET", f"/v3/spaces/{space}")["name"]
    reason = f"ssh is disabled for space '{name}'"
    assert cloud.admin.ok("GET", f"/v3/apps/{app}/ssh_enabled") == {"enabled": False, "reason": reason}


def test_who_reads_and_who_switches(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    path = f"/v3/spaces/{space}/features/ssh"
    for role in ("space_developer", "space_auditor", "space_supporter"):
        client = cloud.user(**{role: space, "organization_user": org})
        assert client.ok("GET", path)["enabled"] is True
        assert client.problem("PATCH", path, {"enabled": False})[:2] == (403, 10003)
    for client in (cloud.user(space_manager=space, organization_user=org), cloud.user(organization_manager=org)):
        assert client.patch(path, {"enabled": True}).status_code == 200
    assert cloud.user(organization_user=org).problem("GET", path) == (404, 10010, "Space not found")


def test_a_suspended_space_is_changed_by_managers_of_its_organization_only(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    cloud.admin.ok("PATCH", f"/v3/spaces/{space}", {"suspended": True})
    path = f"/v3/spaces/{space}/features/ssh"
    manager = cloud.user(space_manager=space, organization_user=org)
    assert manager.problem("PATCH", path, {"enabled": False})[:2] == (403, 10019)
    assert cloud.user(organization_manager=org).patch(path, {"enabled": False}).status_code == 200


def test_bad_requests(cloud: Cloud) -> None:
    path = f"/v3/spaces/{cloud.space()['guid']}/features"
    assert cloud.admin.problem("GET", path + "/tcp") == (404, 10010, "Feature not found")
    assert cloud.admin.problem("PATCH", path + "/tcp", {"enabled": True}) == (404, 10010, "Feature not found")
    assert cloud.admin.problem("PATCH", path + "/ssh", {}) == (422, 10008, "Enabled must be a boolean")
    assert cloud.admin.problem("PATCH", path + "/ssh", {"enabled": "yes"})[2] == "Enabled must be a boolean"
    assert cloud.admin.problem("PATCH", path + "/ssh", {"on": True})[2] == (
        "Unknown field(s): 'on', Enabled must be a boolean"
    )
