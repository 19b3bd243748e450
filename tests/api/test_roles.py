"""Roles over HTTP: who gets one, who gives one, and what is said when not."""

from typing import Any

import pytest

from cupola.store import identity
from tests.api.conftest import Client, Cloud
from tests.api.work import finished

PATH = "/v3/roles"
NO_ORG_ROLE = "Users cannot be assigned roles in a space if they do not have a role in that space's organization."


def body(type_: str, user: Any, **place: str) -> dict[str, Any]:
    links = {name: {"data": {"guid": guid}} for name, guid in place.items()}
    return {"type": type_, "relationships": {"user": {"data": user}, **links}}


def by_guid(guid: str) -> dict[str, str]:
    return {"guid": guid}


def guid_of(client: Client) -> str:
    assert client.actor is not None
    return client.actor.guid


def named(cloud: Cloud, username: str, origin: str = "uaa") -> str:
    """A user of the identity server."""
    with cloud.database.write() as tx:
        return identity.create_user(tx, username=username, origin=origin)


def test_a_role_is_given_shown_and_taken(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    user = named(cloud, "ann@example.org")
    made = cloud.admin.ok("POST", PATH, body("organization_manager", by_guid(user), organization=org), 201)
    url = cloud.settings.api_url
    assert made["type"] == "organization_manager"
    assert made["relationships"] == {
        "user": {"data": {"guid": user}},
        "organization": {"data": {"guid": org}},
        "space": {"data": None},
    }
    assert made["links"] == {
        "self": {"href": f"{url}{PATH}/{made['guid']}"},
        "user": {"href": f"{url}/v3/users/{user}"},
        "organization": {"href": f"{url}/v3/organizations/{org}"},
    }
    assert cloud.admin.ok("GET", f"{PATH}/{made['guid']}") == made
    job = finished(cloud, cloud.admin, "DELETE", f"{PATH}/{made['guid']}")
    assert (job["operation"], job["state"]) == ("role.delete", "COMPLETE")
    assert cloud.admin.problem("GET", f"{PATH}/{made['guid']}") == (404, 10010, "Role not found")
    events = cloud.admin.ok("GET", f"/v3/audit_events?target_guids={user}")["resources"]
    assert [(event["type"], event["target"], event["organization"]) for event in events] == [
        (
            f"audit.user.organization_manager_{what}",
            {"guid": user, "type": "user", "name": "ann@example.org"},
            {"guid": org},
        )
        for what in ("add", "remove")
    ]


@pytest.mark.parametrize("type_", ["space_auditor", "space_developer", "space_manager", "space_supporter"])
def test_roles_in_a_space_need_one_in_its_organization(cloud: Cloud, type_: str) -> None:
    org = cloud.org()["guid"]
    space = cloud.space("dev", org)["guid"]
    user = named(cloud, "ann")
    wanted = body(type_, by_guid(user), space=space)
    assert cloud.admin.problem("POST", PATH, wanted) == (422, 10008, NO_ORG_ROLE)
    cloud.admin.ok("POST", PATH, body("organization_auditor", by_guid(user), organization=org), 201)
    made = cloud.admin.ok("POST", PATH, wanted, 201)
    assert made["relationships"]["space"] == {"data": {"guid": space}}
    assert made["relationships"]["organization"] == {"data": None}
    assert "organization" not in made["links"]
    again = cloud.admin.problem("POST", PATH, wanted)
    assert again == (422, 10008, f"User 'ann' already has '{type_}' role in space 'dev'.")
    # Nothing is added besides what was asked for.
    held = cloud.admin.ok("GET", f"{PATH}?user_guids={user}")["resources"]
    assert [one["type"] for one in held] == ["organization_auditor", type_]


def test_the_same_role_twice_in_an_organization(cloud: Cloud) -> None:
    org = cloud.org("acme")["guid"]
    wanted = body("organization_user", by_guid("client-without-a-name"), organization=org)
    cloud.admin.ok("POST", PATH, wanted, 201)
    assert cloud.admin.problem("POST", PATH, wanted)[2] == (
        "User 'client-without-a-name' already has 'organization_user' role in organization 'acme'."
    )


def test_users_are_named_by_name_and_origin(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    ann = named(cloud, "Ann")

    def give(user: dict[str, Any]) -> dict[str, Any]:
        return body("organization_user", user, organization=org)

    made = cloud.admin.ok("POST", PATH, give({"username": "ann"}), 201)
    assert made["relationships"]["user"]["data"]["guid"] == ann
    assert cloud.admin.problem("POST", PATH, give({"username": "bob"})) == (
        422,
        10008,
        "No user exists with the username 'bob'.",
    )
    assert cloud.admin.problem("POST", PATH, give({"username": "ann", "origin": "ldap"}))[2] == (
        "No user exists with the username 'ann' and origin 'ldap'."
    )
    named(cloud, "ann", "ldap")
    assert cloud.admin.problem("POST", PATH, give({"username": "ann"}))[2] == (
        "Ambiguous user. User with username 'ann' exists in the following origins: ldap, uaa. "
        "Specify an origin to disambiguate."
    )
    assert cloud.admin.post(PATH, give({"username": "ann", "origin": "ldap"})).status_code == 201
    nobody = body("space_developer", {"username": "bob"}, space=space)
    assert cloud.admin.problem("POST", PATH, nobody)[2] == NO_ORG_ROLE


def test_names_need_the_flag(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    named(cloud, "ann")
    manager = cloud.user(organization_manager=org)
    cloud.admin.ok("PATCH", "/v3/feature_flags/set_roles_by_username", {"enabled": False})
    wanted = body("organization_user", {"username": "ann"}, organization=org)
    assert manager.problem("POST", PATH, wanted)[:2] == (403, 330002)
    assert cloud.admin.post(PATH, wanted).status_code == 201


def test_users_of_other_providers_are_made_where_the_operator_allows_it(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    manager = cloud.user(organization_manager=org)
    wanted = body("organization_user", {"username": "eve", "origin": "ldap"}, organization=org)
    assert manager.problem("POST", PATH, wanted)[0] == 422
    cloud.settings.identity.allow_user_creation_by_org_manager = True
    made = manager.ok("POST", PATH, wanted, 201)
    shown = manager.ok("GET", f"/v3/users/{made['relationships']['user']['data']['guid']}")
    assert (shown["username"], shown["origin"]) == ("eve", "ldap")
    # The identity server's own users are never made here.
    own = body("organization_user", {"username": "joe", "origin": "uaa"}, organization=org)
    assert manager.problem("POST", PATH, own)[2] == "No user exists with the username 'joe' and origin 'uaa'."


USER = {"data": {"guid": "u"}}
ORG = {"data": {"guid": "o"}}
TYPES = (
    'Type must be one of the allowed types ["organization_auditor", "organization_manager", '
    '"organization_billing_manager", "organization_user", "space_auditor", "space_manager", '
    '"space_developer", "space_supporter"]'
)


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        ({}, f"Relationships 'relationships' is not an object, {TYPES}"),
        (
            {"type": "organization_user", "relationships": {}},
            "Relationships 'relationships' must include one or more valid relationships",
        ),
        ({"type": "king", "relationships": {"user": USER, "organization": ORG}}, TYPES),
        (
            {"type": "organization_user", "relationships": {"user": USER, "organization": ORG}, "x": 1},
            "Unknown field(s): 'x'",
        ),
        (
            {"type": "organization_user", "relationships": {"user": USER, "organization": ORG, "x": 1}},
            "Relationships Unknown field(s): 'x'",
        ),
        (
            {"type": "organization_user", "relationships": {"organization": ORG}},
            "Relationships User can't be blank, Relationships User must have a username or guid specified",
        ),
        (
            {"type": "organization_user", "relationships": {"user": USER}},
            "Relationships must specify either a space or an organization.",
        ),
        (
            {"type": "organization_user", "relationships": {"user": USER, "space": ORG}},
            "Relationships Space cannot be provided with the organization role type: 'organization_user'.",
        ),
        (
            {"type": "space_auditor", "relationships": {"user": USER, "organization": ORG}},
            "Relationships Organization cannot be provided with the space role type: 'space_auditor'.",
        ),
        (
            {"type": "organization_user", "relationships": {"user": USER, "organization": {"data": {"name": "x"}}}},
            (
                'Relationships Organization must be structured like this: "organization: '
                '{"data": {"guid": "valid-guid"}}"'
            ),
        ),
        (
            body("organization_user", {"guid": "u", "username": "x"}, organization="o"),
            "Relationships Username cannot be specified when identifying user by guid",
        ),
        (
            body("organization_user", {"guid": "u", "origin": "x"}, organization="o"),
            (
                "Relationships User origin cannot be specified when identifying user by guid, "
                "Relationships User origin cannot be specified without specifying the username"
            ),
        ),
        (
            body("organization_user", {"guid": 1}, organization="o"),
            ("Relationships User guid must be a string, Relationships User guid must be between 1 and 200 characters"),
        ),
        (body("organization_user", {"username": 1}, organization="o"), "Relationships Username must be a string"),
        (
            body("organization_user", {"username": "x", "origin": 1}, organization="o"),
            "Relationships User origin must be a string",
        ),
        (
            body("organization_user", {"guid": "u"}, organization="nope"),
            "Invalid organization. Ensure that the organization exists and you have access to it.",
        ),
        (
            body("space_auditor", {"guid": "u"}, space="nope"),
            "Invalid space. Ensure that the space exists and you have access to it.",
        ),
    ],
)
def test_what_a_role_may_be(cloud: Cloud, given: Any, detail: str) -> None:
    assert cloud.admin.problem("POST", PATH, given) == (422, 10008, detail)


def test_who_gives_and_takes_roles(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    org_manager = cloud.user(organization_manager=org)
    space_manager = cloud.user(space_manager=space, organization_user=org)
    developer = cloud.user(space_developer=space, organization_user=org)
    in_org = body("organization_auditor", by_guid(guid_of(developer)), organization=org)
    in_space = body("space_auditor", by_guid(guid_of(developer)), space=space)
    for client in (developer, cloud.user(organization_user=org)):
        assert client.problem("POST", PATH, in_org)[:2] == (403, 10003)
        assert client.problem("POST", PATH, in_space)[:2] == (403, 10003)
    # A space that one may not see is 403 too: only whether it exists is looked at.
    assert cloud.user().problem("POST", PATH, in_space)[:2] == (403, 10003)
    assert space_manager.problem("POST", PATH, in_org)[:2] == (403, 10003)
    of_space = space_manager.ok("POST", PATH, in_space, 201)["guid"]
    of_org = org_manager.ok("POST", PATH, in_org, 201)["guid"]
    assert developer.problem("DELETE", f"{PATH}/{of_space}")[:2] == (403, 10003)
    assert space_manager.problem("DELETE", f"{PATH}/{of_org}")[:2] == (403, 10003)
    assert cloud.user().problem("DELETE", f"{PATH}/{of_org}")[:2] == (404, 10010)
    assert org_manager.delete(f"{PATH}/{of_space}").status_code == 202
    assert org_manager.delete(f"{PATH}/{of_org}").status_code == 202
    cloud.admin.ok("PATCH", f"/v3/organizations/{org}", {"suspended": True})
    assert org_manager.problem("POST", PATH, in_org)[:2] == (403, 10017)
    assert space_manager.problem("DELETE", f"{PATH}/{of_space}")[:2] == (403, 10017)


def test_organization_user_stays_while_there_are_roles_in_spaces(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    user = guid_of(cloud.user(space_developer=space, organization_user=org))
    held = {one["type"]: one["guid"] for one in cloud.admin.ok("GET", f"{PATH}?user_guids={user}")["resources"]}
    assert cloud.admin.problem("DELETE", f"{PATH}/{held['organization_user']}") == (
        422,
        10008,
        "Cannot delete organization_user role while user has roles in spaces in that organization.",
    )
    for type_ in ("space_developer", "organization_user"):
        assert finished(cloud, cloud.admin, "DELETE", f"{PATH}/{held[type_]}")["state"] == "COMPLETE"


def test_the_last_manager_may_go(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    manager = cloud.user(organization_manager=org)
    (held,) = cloud.admin.ok("GET", f"{PATH}?user_guids={guid_of(manager)}")["resources"]
    assert finished(cloud, manager, "DELETE", f"{PATH}/{held['guid']}")["state"] == "COMPLETE"
    assert manager.problem("GET", f"/v3/organizations/{org}")[0] == 404


def test_lists_are_filtered_and_include_what_they_refer_to(cloud: Cloud) -> None:
    org = cloud.org("acme")["guid"]
    space = cloud.space("dev", org)["guid"]
    user = named(cloud, "ann")
    cloud.admin.ok("POST", PATH, body("organization_user", by_guid(user), organization=org), 201)
    cloud.admin.ok("POST", PATH, body("space_developer", by_guid(user), space=space), 201)
    cloud.user(organization_manager=org)

    def types(query: str) -> list[str]:
        return [one["type"] for one in cloud.admin.ok("GET", f"{PATH}?{query}")["resources"]]

    assert types(f"user_guids={user}") == ["organization_user", "space_developer"]
    assert types(f"user_guids={user}&order_by=-created_at") in (
        ["space_developer", "organization_user"],
        ["organization_user", "space_developer"],
    )
    assert types(f"organization_guids={org}") == ["organization_user", "organization_manager"]
    assert types(f"space_guids={space}") == ["space_developer"]
    assert types(f"types=organization_manager,space_developer&user_guids={user}") == ["space_developer"]
    assert types("types=king") == []
    page = cloud.admin.ok("GET", f"{PATH}?user_guids={user}&include=user,space,organization")
    included = page["included"]
    assert [one["username"] for one in included["users"]] == ["ann"]
    assert [one["name"] for one in included["spaces"]] == ["dev"]
    assert [one["name"] for one in included["organizations"]] == ["acme"]
    one = page["resources"][0]["guid"]
    assert cloud.admin.ok("GET", f"{PATH}/{one}?include=user")["included"]["users"][0]["guid"] == user


def test_who_sees_which_roles(cloud: Cloud) -> None:
    org = cloud.org()["guid"]
    space = cloud.space(org=org)["guid"]
    other = cloud.space(org=org)["guid"]
    member = cloud.user(organization_user=org)
    developer = cloud.user(space_developer=space, organization_user=org)
    cloud.user(space_auditor=other, organization_user=org)
    stranger = cloud.user(organization_user=cloud.org()["guid"])

    def seen(client: Client) -> set[str]:
        return {one["type"] for one in client.ok("GET", PATH)["resources"]}

    assert seen(member) == {"organization_user"}
    assert seen(developer) == {"organization_user", "space_developer"}
    assert seen(cloud.user(organization_manager=org)) == {
        "organization_user",
        "organization_manager",
        "space_developer",
        "space_auditor",
    }
    hidden = cloud.admin.ok("GET", f"{PATH}?space_guids={space}")["resources"][0]["guid"]
    assert stranger.problem("GET", f"{PATH}/{hidden}") == (404, 10010, "Role not found")


@pytest.mark.parametrize("query", ["size=1", "order_by=name", "include=app", "per_page=x"])
def test_bad_queries_are_422(cloud: Cloud, query: str) -> None:
    assert cloud.admin.problem("GET", f"{PATH}?{query}")[:2] == (422, 10008)
