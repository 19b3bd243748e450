"""Organizations over HTTP."""

from typing import Any

import pytest
from sqlalchemy import update

from cupola.store.orgs import organizations, spaces
from tests.api.conftest import Cloud
from tests.api.work import finished

PATH = "/v3/organizations"


def test_an_organization_as_it_is_shown(cloud: Cloud) -> None:
    body = {"name": "acme", "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}
    org = cloud.admin.ok("POST", PATH, body, 201)
    quota = cloud.admin.ok("GET", "/v3/organization_quotas?names=default")["resources"][0]["guid"]
    url, path = cloud.settings.api_url, f"{PATH}/{org['guid']}"
    assert (org["name"], org["suspended"], org["metadata"]) == ("acme", False, body["metadata"])
    assert org["relationships"] == {"quota": {"data": {"guid": quota}}}
    assert org["links"] == {
        "self": {"href": url + path},
        "domains": {"href": f"{url}{path}/domains"},
        "default_domain": {"href": f"{url}{path}/domains/default"},
        "quota": {"href": f"{url}/v3/organization_quotas/{quota}"},
    }
    assert cloud.admin.ok("GET", path) == org


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "Name can't be blank"),
        ({"name": ""}, "Name can't be blank"),
        ({"name": " "}, "Name can't be blank"),
        ({"name": 1}, "Name must be a string"),
        ({"name": "x" * 256}, "Name is too long (maximum is 255 characters)"),
        ({"name": "a\nb"}, "Name must not contain escaped characters"),
        ({"name": "x", "suspended": 1}, "Suspended must be a boolean"),
        ({"name": "x", "quota": 1}, "Unknown field(s): 'quota'"),
        ({"name": "ACME"}, "Organization 'ACME' already exists."),
    ],
)
def test_what_an_organization_may_be(cloud: Cloud, body: Any, detail: str) -> None:
    cloud.org("acme")
    assert cloud.admin.problem("POST", PATH, body) == (422, 10008, detail)


def test_a_name_that_is_taken_on_renaming(cloud: Cloud) -> None:
    cloud.org("acme")
    other = cloud.org("other")["guid"]
    assert cloud.admin.problem("PATCH", f"{PATH}/{other}", {"name": "Acme"})[2] == (
        "Organization name 'Acme' is already taken."
    )
    assert cloud.admin.ok("PATCH", f"{PATH}/{other}", {"name": " OTHER "})["name"] == "OTHER"


def test_users_make_organizations_of_their_own_while_the_flag_is_on(cloud: Cloud) -> None:
    user = cloud.client("cloud_controller.read", "cloud_controller.write")
    assert user.actor is not None
    assert user.problem("POST", PATH, {"name": "mine"})[:2] == (403, 10003)
    cloud.admin.ok("PATCH", "/v3/feature_flags/user_org_creation", {"enabled": True})
    assert user.problem("POST", PATH, {"name": "mine", "suspended": True})[:2] == (403, 10003)
    org = user.ok("POST", PATH, {"name": "mine", "suspended": False}, 201)
    held = user.ok("GET", f"/v3/roles?organization_guids={org['guid']}")["resources"]
    assert [one["type"] for one in held] == ["organization_user", "organization_manager"]
    assert {one["relationships"]["user"]["data"]["guid"] for one in held} == {user.actor.guid}
    assert user.ok("PATCH", f"{PATH}/{org['guid']}", {"name": "ours"})["name"] == "ours"
    events = cloud.admin.ok("GET", f"/v3/audit_events?organization_guids={org['guid']}")["resources"]
    assert [event["type"] for event in events] == [
        "audit.organization.create",
        "audit.user.organization_user_add",
        "audit.user.organization_manager_add",
        "audit.organization.update",
    ]


def test_admins_get_no_role_in_what_they_make(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    assert cloud.admin.ok("GET", f"/v3/roles?organization_guids={org}")["resources"] == []


def test_only_admins_suspend(cloud: Cloud) -> None:
    org = cloud.org("acme")["guid"]
    manager = cloud.user(organization_manager=org)
    path = f"{PATH}/{org}"
    assert manager.problem("PATCH", path, {"suspended": True})[:2] == (403, 10003)
    # `cf rename-org` repeats what is so already.
    assert manager.ok("PATCH", path, {"name": "new", "suspended": False, "metadata": {}})["name"] == "new"
    assert cloud.admin.ok("PATCH", path, {"suspended": True})["suspended"] is True
    assert manager.problem("PATCH", path, {"name": "x"}) == (403, 10017, "The organization is suspended")
    assert manager.ok("GET", path)["suspended"] is True
    assert cloud.admin.ok("PATCH", path, {"suspended": None})["suspended"] is False


@pytest.mark.parametrize("role", ["organization_user", "organization_auditor", "organization_billing_manager"])
def test_members_read_and_managers_write(cloud: Cloud, role: str) -> None:
    org = cloud.org()["guid"]
    cloud.org("hidden")
    member = cloud.user(**{role: org})
    assert [one["guid"] for one in member.ok("GET", PATH)["resources"]] == [org]
    assert member.ok("GET", f"{PATH}/{org}")["guid"] == org
    assert member.problem("PATCH", f"{PATH}/{org}", {"name": "x"})[:2] == (403, 10003)
    assert member.problem("DELETE", f"{PATH}/{org}")[:2] == (403, 10003)
    assert cloud.user().problem("GET", f"{PATH}/{org}") == (404, 10010, "Organization not found")
    assert cloud.user(organization_manager=org).problem("DELETE", f"{PATH}/{org}")[:2] == (403, 10003)


def test_lists_are_filtered_ordered_and_selected(cloud: Cloud) -> None:
    for name, tier in (("b", "1"), ("a", "2"), ("c", "1")):
        cloud.admin.ok("POST", PATH, {"name": name, "metadata": {"labels": {"tier": tier}}}, 201)

    def found(**query: str) -> list[str]:
        return [one["name"] for one in cloud.admin.ok("GET", PATH, params=query)["resources"]]

    assert found(names="A,B,nobody", order_by="name") == ["a", "b"]
    assert found(label_selector="tier=1", order_by="-name") == ["c", "b"]
    assert found(names="a", label_selector="tier!=2") == []
    for query in ("size=1", "order_by=size", "names[not]=a"):
        assert cloud.admin.problem("GET", f"{PATH}?{query}")[:2] == (400, 10005)


def test_deleting_an_organization_takes_everything_in_it_along(cloud: Cloud) -> None:
    org = cloud.org("acme")["guid"]
    app = cloud.app(space=cloud.space("dev", org)["guid"])["guid"]
    owner = {"organization": {"data": {"guid": org}}}
    domain = cloud.admin.ok("POST", "/v3/domains", {"name": "a.test", "relationships": owner}, 201)["guid"]
    manager = cloud.user(organization_manager=org)
    job = finished(cloud, cloud.admin, "DELETE", f"{PATH}/{org}")
    assert (job["operation"], job["state"], job["errors"]) == ("organization.delete", "COMPLETE", [])
    for path in (f"{PATH}/{org}", f"/v3/apps/{app}", f"/v3/domains/{domain}"):
        assert cloud.admin.problem("GET", path)[:2] == (404, 10010)
    assert manager.ok("GET", PATH)["resources"] == []
    assert cloud.admin.problem("DELETE", f"{PATH}/{org}")[:2] == (404, 10010)
    types = {one["type"] for one in cloud.admin.ok("GET", "/v3/audit_events?per_page=500")["resources"]}
    assert {
        "audit.organization.delete-request",
        "audit.space.delete-request",
        "audit.app.delete-request",
    } <= types


def test_a_shared_domain_keeps_its_organization(cloud: Cloud) -> None:
    org, other = cloud.org("acme")["guid"], cloud.org()["guid"]
    links = {"organization": {"data": {"guid": org}}, "shared_organizations": {"data": [{"guid": other}]}}
    domain = cloud.admin.ok("POST", "/v3/domains", {"name": "a.test", "relationships": links}, 201)["guid"]
    job = finished(cloud, cloud.admin, "DELETE", f"{PATH}/{org}")
    assert job["state"] == "FAILED"
    assert job["errors"] == [
        {
            "code": 290010,
            "title": "CF-OrganizationDeletionFailed",
            "detail": (
                "Deletion of organization acme failed because one or more resources within could not be deleted."
                "\n\nDomain 'a.test' is shared with other organizations. Unshare before deleting."
            ),
        }
    ]
    cloud.admin.delete(f"/v3/domains/{domain}/relationships/shared_organizations/{other}")
    assert finished(cloud, cloud.admin, "DELETE", f"{PATH}/{org}")["state"] == "COMPLETE"


def test_what_is_being_deleted_is_not_written_to(cloud: Cloud) -> None:
    org = cloud.org("acme")["guid"]
    space = cloud.space("dev", org)["guid"]
    manager = cloud.user(organization_manager=org)
    developer = cloud.user(space_developer=space, organization_user=org)
    app = {"name": "x", "relationships": {"space": {"data": {"guid": space}}}}
    with cloud.database.write() as tx:
        tx.run(update(spaces).where(spaces.c.guid == space).values(deleting=True))
    assert developer.problem("POST", "/v3/apps", app) == (422, 10020, "The space is being deleted")
    assert manager.patch(f"/v3/spaces/{space}", {"name": "y"}).status_code == 200
    assert manager.problem("PATCH", f"/v3/spaces/{space}", {"suspended": True}) == (
        422,
        10008,
        "Space 'y' is being deleted and cannot be updated.",
    )
    with cloud.database.write() as tx:
        tx.run(update(organizations).where(organizations.c.guid == org).values(deleting=True))
    assert manager.problem("PATCH", f"{PATH}/{org}", {"name": "y"}) == (
        422,
        10020,
        "The organization is being deleted",
    )
    assert cloud.admin.problem("PATCH", f"{PATH}/{org}", {"suspended": True})[2] == (
        "Organization 'acme' is being deleted and cannot be updated."
    )
    assert cloud.admin.patch(f"{PATH}/{org}", {"name": "y"}).status_code == 200


def test_the_default_domain(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    path = f"{PATH}/{org}/domains/default"
    assert cloud.user(organization_user=org).ok("GET", path)["name"] == "apps.localhost"
    assert cloud.user().problem("GET", path) == (404, 10010, "Organization not found")
    owner = {"organization": {"data": {"guid": org}}}
    cloud.admin.ok("POST", "/v3/domains", {"name": "a.test", "relationships": owner}, 201)
    shared = cloud.admin.ok("GET", "/v3/domains?names=apps.localhost")["resources"][0]["guid"]
    assert finished(cloud, cloud.admin, "DELETE", f"/v3/domains/{shared}")["state"] == "COMPLETE"
    # Without a shared one it is the first of its own, for those who may see that.
    assert cloud.user(organization_manager=org).ok("GET", path)["name"] == "a.test"
    for role in ("organization_user", "organization_billing_manager"):
        assert cloud.user(**{role: org}).problem("GET", path) == (404, 10010, "Domain not found")
    assert cloud.admin.problem("GET", f"{PATH}/{cloud.org()['guid']}/domains/default")[2] == "Domain not found"
