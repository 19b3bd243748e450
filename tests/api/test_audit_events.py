"""Audit events that admins record themselves."""

from tests.api.conftest import Cloud


def test_an_admin_records_an_event_of_a_space(cloud: Cloud) -> None:
    space = cloud.space()
    org = space["relationships"]["organization"]["data"]["guid"]
    target = {"guid": "42", "type": "ticket", "name": "INC-42"}
    body = {
        "type": "custom.ticket.closed",
        "target": target,
        "data": {"who": "me", "password": "secret"},
        "space": {"guid": space["guid"]},
    }
    made = cloud.admin.ok("POST", "/v3/audit_events", body, 201)
    assert cloud.admin.actor is not None
    assert (made["type"], made["target"]) == ("custom.ticket.closed", target)
    assert made["actor"]["guid"] == cloud.admin.actor.guid
    assert made["data"] == {"who": "me", "password": "[PRIVATE DATA HIDDEN]"}
    assert (made["space"], made["organization"]) == ({"guid": space["guid"]}, {"guid": org})
    auditor = cloud.user(space_auditor=space["guid"], organization_user=org)
    listed = auditor.ok("GET", "/v3/audit_events?types=custom.ticket.closed")["resources"]
    assert [event["guid"] for event in listed] == [made["guid"]]
    assert auditor.ok("GET", f"/v3/audit_events/{made['guid']}") == made


def test_an_event_of_nowhere_is_the_platforms(cloud: Cloud) -> None:
    made = cloud.admin.ok("POST", "/v3/audit_events", {"type": "custom.backup", "metadata": {}}, 201)
    assert (made["target"], made["data"]) == ({"guid": "", "type": "platform", "name": None}, {})
    assert (made["space"], made["organization"]) == (None, None)
    org = cloud.org()["guid"]
    made = cloud.admin.ok("POST", "/v3/audit_events", {"type": "custom.x", "organization": {"guid": org}}, 201)
    assert (made["target"]["guid"], made["organization"]) == (org, {"guid": org})


def test_nobody_writes_events_of_the_platform_or_in_anothers_name(cloud: Cloud) -> None:
    def problem(**body: object) -> str:
        return str(cloud.admin.problem("POST", "/v3/audit_events", {"type": "custom.x", **body})[2])

    assert cloud.user().problem("POST", "/v3/audit_events", {"type": "custom.x"})[:2] == (403, 10003)
    assert problem(type="audit.app.create").startswith("Type must start with 'custom.'")
    assert problem(actor={"guid": "somebody"}) == "Actor must be the caller: leave it out"
    assert problem(actor="me") == "Actor must be an object"
    assert problem(target={"guid": 1}) == "Target guid must be a string of at most 255 characters"
    assert problem(target={"x": 1}) == "Target Unknown field(s): 'x'"
    assert problem(metadata={"labels": {"a": "b"}}) == "Metadata of audit events is not kept: put it into data"
    assert problem(space={"guid": "nope"}).startswith("Invalid space.")
    assert problem(organization={"guid": "nope"}).startswith("Invalid organization.")
    space = cloud.space()["guid"]
    assert problem(space={"guid": space}, organization={"guid": cloud.org()["guid"]}).startswith("Invalid space.")
    assert cloud.admin.ok("GET", "/v3/audit_events?types=custom.x")["resources"] == []
