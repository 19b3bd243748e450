"""Users over HTTP: the API's knowledge of them; names come from the identity server."""

from typing import Any
from urllib.parse import quote

import pytest

from cupola.store import identity
from tests.api.conftest import Client, Cloud
from tests.api.test_roles import body as role
from tests.api.test_roles import by_guid, guid_of, named
from tests.api.work import finished

PATH = "/v3/users"


def known(cloud: Cloud, username: str, origin: str = "uaa") -> str:
    """A user that the API knows."""
    guid = named(cloud, username, origin)
    cloud.admin.ok("POST", PATH, {"guid": guid}, 201)
    return guid


def test_a_user_is_made_shown_labelled_and_deleted(cloud: Cloud) -> None:
    guid = named(cloud, "Ann@example.org")
    made = cloud.admin.ok("POST", PATH, {"guid": guid, "metadata": {"labels": {"a": "b"}}}, 201)
    assert made["guid"] == guid
    assert (made["username"], made["presentation_name"], made["origin"]) == (
        "Ann@example.org",
        "Ann@example.org",
        "uaa",
    )
    assert made["links"] == {"self": {"href": f"{cloud.settings.api_url}{PATH}/{guid}"}}
    changed = cloud.admin.ok(
        "PATCH", f"{PATH}/{guid}", {"metadata": {"labels": {"a": None}, "annotations": {"c": "d"}}}
    )
    assert changed["metadata"] == {"labels": {}, "annotations": {"c": "d"}}
    assert cloud.admin.ok("GET", f"{PATH}/{guid}") == changed
    assert cloud.admin.problem("PATCH", f"{PATH}/{guid}", {"username": "x"})[2] == "Unknown field(s): 'username'"
    org = cloud.org()["guid"]
    cloud.admin.ok("POST", "/v3/roles", role("organization_user", by_guid(guid), organization=org), 201)
    job = finished(cloud, cloud.admin, "DELETE", f"{PATH}/{guid}")
    assert (job["operation"], job["state"]) == ("user.delete", "COMPLETE")
    assert cloud.admin.problem("GET", f"{PATH}/{guid}") == (404, 10010, "User not found")
    assert cloud.admin.ok("GET", f"/v3/roles?user_guids={guid}")["resources"] == []
    with cloud.database.read() as tx:
        assert identity.user_exists(tx, guid)


def test_users_that_the_identity_server_does_not_know(cloud: Cloud) -> None:
    made = cloud.admin.ok("POST", PATH, {"guid": "a client"}, 201)
    assert (made["username"], made["presentation_name"], made["origin"]) == (None, "a client", None)
    assert made["links"]["self"]["href"].endswith("/v3/users/a+client")
    assert cloud.admin.ok("GET", f"{PATH}/{quote('a client')}") == made
    assert cloud.admin.problem("POST", PATH, {"guid": "a client"})[2] == "User with guid 'a client' already exists."


def test_users_of_other_providers_are_made_by_name_and_origin(cloud: Cloud) -> None:
    wanted = {"username": "eve", "origin": "ldap"}
    made = cloud.admin.ok("POST", PATH, wanted, 201)
    assert (made["username"], made["origin"]) == ("eve", "ldap")
    assert cloud.admin.problem("POST", PATH, wanted)[2] == "User with username 'eve' and origin 'ldap' already exists."
    guid = named(cloud, "joe", "ldap")
    assert cloud.admin.ok("POST", PATH, {"username": "joe", "origin": "ldap"}, 201)["guid"] == guid


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        ({}, "Guid or 'username' and 'origin' must be provided"),
        (
            {"guid": "g", "username": "u", "origin": "o"},
            "Username cannot be provided with 'guid', Origin cannot be provided with 'guid'",
        ),
        ({"username": "u"}, "Username can only be provided together with 'origin'"),
        ({"origin": "o"}, "Origin can only be provided together with 'username'"),
        ({"username": "u", "origin": "uaa"}, "Origin cannot be 'uaa' when creating a user by username"),
        ({"guid": 1}, "Guid must be a string, Guid must be between 1 and 200 characters"),
        ({"guid": "g" * 201}, "Guid must be between 1 and 200 characters"),
        ({"guid": "g", "name": "x"}, "Unknown field(s): 'name'"),
    ],
)
def test_how_a_user_may_be_named(cloud: Cloud, given: Any, detail: str) -> None:
    assert cloud.admin.problem("POST", PATH, given) == (422, 10008, detail)


def test_who_makes_changes_and_deletes_users(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    manager = cloud.user(organization_manager=org)
    wanted = {"username": "eve", "origin": "ldap"}
    for given in ({"guid": "g"}, wanted):
        assert manager.problem("POST", PATH, given)[:2] == (403, 10003)
    cloud.settings.identity.allow_user_creation_by_org_manager = True
    assert manager.problem("POST", PATH, {"guid": "g"})[:2] == (403, 10003)
    assert cloud.user(organization_user=org).problem("POST", PATH, wanted)[:2] == (403, 10003)
    assert manager.ok("POST", PATH, wanted, 201)["username"] == "eve"
    myself = guid_of(manager)
    assert manager.problem("PATCH", f"{PATH}/{myself}", {})[:2] == (403, 10003)
    assert manager.problem("DELETE", f"{PATH}/{myself}")[:2] == (403, 10003)
    assert cloud.user().problem("DELETE", f"{PATH}/{myself}")[:2] == (404, 10010)


def test_one_sees_oneself_and_those_in_the_same_organizations(cloud: Cloud) -> None:
    mine, other = cloud.org()["guid"], cloud.org()["guid"]
    me, colleague = cloud.user(organization_user=mine), cloud.user(organization_auditor=mine)
    stranger = cloud.user(organization_user=other)

    def seen(client: Client) -> set[str]:
        return {one["guid"] for one in client.ok("GET", PATH)["resources"]}

    assert seen(me) == {guid_of(me), guid_of(colleague)}
    alone = cloud.user()
    assert seen(alone) == _all(alone)
    assert _all(me, colleague, stranger, alone) <= seen(cloud.admin)
    assert me.problem("GET", f"{PATH}/{guid_of(stranger)}") == (404, 10010, "User not found")
    assert me.ok("GET", f"{PATH}/{guid_of(colleague)}")["guid"] == guid_of(colleague)


def _all(*clients: Client) -> set[str]:
    return {guid_of(client) for client in clients}


def test_names_are_found_in_any_case_and_in_part(cloud: Cloud) -> None:
    ann, bob, other = known(cloud, "Ann_1"), known(cloud, "bob"), known(cloud, "ann_1", "ldap")

    def found(**query: str) -> set[str]:
        return {one["guid"] for one in cloud.admin.ok("GET", PATH, params=query)["resources"]}

    assert found(usernames="ANN_1") == {ann, other}
    assert found(usernames="ann_1", origins="ldap") == {other}
    assert found(usernames="ann_1,bob", origins="uaa") == {ann, bob}
    assert found(partial_usernames="NN_") == {ann, other}
    assert found(partial_usernames="nn,o") == {ann, bob, other}
    # Wildcards of the database are plain characters here.
    assert found(partial_usernames="_b") == set()
    assert found(partial_usernames="%") == set()
    assert found(guids=f"{bob},nope") == {bob}
    alone = "Origins filter cannot be provided without usernames or partial_usernames filter."
    assert cloud.admin.problem("GET", f"{PATH}?origins=uaa") == (422, 10008, alone)
    both = "Usernames filter cannot be provided with both usernames and partial_usernames filter."
    assert cloud.admin.problem("GET", f"{PATH}?usernames=a&partial_usernames=b")[2] == both
    many = ",".join("x" * 101)
    assert cloud.admin.problem("GET", f"{PATH}?partial_usernames={many}")[:2] == (422, 10008)


def test_members_of_organizations_and_spaces(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    member = cloud.user(organization_auditor=org)
    developer = cloud.user(space_developer=space, organization_user=org)
    cloud.user(organization_user=cloud.org()["guid"])

    def found(client: Client, path: str) -> set[str]:
        return {one["guid"] for one in client.ok("GET", path)["resources"]}

    assert found(member, f"/v3/organizations/{org}/users") == _all(member, developer)
    assert found(developer, f"/v3/spaces/{space}/users") == _all(developer)
    assert found(cloud.admin, f"/v3/organizations/{org}/users?guids={guid_of(member)}") == _all(member)
    assert member.problem("GET", f"/v3/spaces/{space}/users") == (404, 10010, "Space not found")
    for path in (f"/v3/organizations/{org}/users", f"/v3/spaces/{space}/users"):
        assert cloud.admin.problem("GET", f"{path}?size=1")[:2] == (400, 10005)
        assert cloud.admin.problem("GET", f"{path}?origins=uaa")[:2] == (400, 10005)


@pytest.mark.parametrize("query", ["size=1", "order_by=name", "label_selector=", "page=0"])
def test_bad_queries_are_422(cloud: Cloud, query: str) -> None:
    assert cloud.admin.problem("GET", f"{PATH}?{query}")[:2] == (422, 10008)
