"""Users over SCIM: made, found, changed, deleted; ids for everybody; filters; passwords."""

from typing import Any

from tests.uaa.conftest import Clock
from tests.uaa.house import House


def test_create(house: House) -> None:
    # As the CLI sends it: an empty origin stands for ours.
    body = {
        "userName": "Joe",
        "password": "secret",
        "origin": "",
        "name": {"familyName": "Doe", "givenName": "Joe"},
        "emails": [{"value": "joe@example.org", "primary": True}],
    }
    answer = house.post("/Users", house.log_in()["access_token"], body)
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["etag"] == '"0"'
    assert made["origin"] == "uaa"
    assert made["userName"] == "Joe"
    assert made["name"] == {"familyName": "Doe", "givenName": "Joe"}
    assert made["emails"] == [{"value": "joe@example.org", "primary": True}]
    assert made["active"] is made["verified"] is True
    assert made["meta"]["version"] == 0
    assert {"openid", "cloud_controller.read"} <= {group["display"] for group in made["groups"]}
    assert "password" not in made
    assert "secret" not in answer.text
    assert house.ok("GET", f"/Users/{made['id']}", house.admin()) == made


_BAD_USERS: list[tuple[Any, str, str]] = [
    ({}, "invalid_scim_resource", "A username must be provided."),
    ({"userName": " "}, "invalid_scim_resource", "A username must be provided."),
    ({"userName": "a\u0000b"}, "invalid_scim_resource", "A value contains a NUL character."),
    (
        {"userName": "a b"},
        "invalid_scim_resource",
        r"Username must match pattern: [\p{L}+0-9+\-_.@'!]+",
    ),
    ({"userName": "x" * 256}, "invalid_scim_resource", "A username may have at most 255 characters."),
    ({"userName": "a", "emails": []}, "invalid_scim_resource", "Exactly one email must be provided."),
    ({"userName": "a", "emails": [{"value": ""}]}, "invalid_scim_resource", "An email must be provided."),
    ({"userName": "a", "active": "yes"}, "invalid_scim_resource", "active must be true or false."),
    ({"userName": "a"}, "invalid_password", "Password must be at least 1 characters in length."),
    (
        {"userName": "a", "password": "x" * 256},
        "invalid_password",
        "Password must be no more than 255 characters in length.",
    ),
    ([], "invalid_scim_resource", "The request body is not a JSON object."),
]


def test_bad_users(house: House) -> None:
    admin = house.admin()
    for body, error, text in _BAD_USERS:
        answer = house.post("/Users", admin, body)
        assert answer.status_code == 400, text
        assert answer.json() == {"error": error, "error_description": text, "message": text}


def test_names_are_taken_regardless_of_case(house: House) -> None:
    made = house.user("joe")
    again = house.post("/Users", house.admin(), {"userName": "JOE", "password": "x"})
    assert again.status_code == 409
    assert again.json() == {
        "error": "scim_resource_already_exists",
        "error_description": "Username already in use: JOE",
        "message": "Username already in use: JOE",
        "origin": "uaa",
        "user_id": made["id"],
        "active": True,
        "verified": True,
    }
    other = house.ok("POST", "/Users", house.admin(), {"userName": "joe", "origin": "ldap"}, 201)
    assert other["origin"] == "ldap"
    assert other["emails"][0]["value"] == "joe"


def test_who_may(house: House) -> None:
    joe = house.user("joe")
    token = house.log_in("joe", "secret")["access_token"]
    path = f"/Users/{joe['id']}"
    assert house.get(path, token).status_code == 200, "oneself"
    assert house.get(f"/Users/{house.user()['id']}", token).json()["scope"] == "scim.read"
    for method, target in (("GET", "/Users"), ("POST", "/Users"), ("DELETE", path), ("GET", "/Groups")):
        answer = house.request(method, target, token)
        assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")
        assert house.request(method, target).status_code == 401
    assert house.get("/Users/none", house.admin()).json() == {
        "error": "scim_resource_not_found",
        "error_description": "User none does not exist",
        "message": "User none does not exist",
    }


def test_delete(house: House) -> None:
    joe = house.user("joe", groups=("scim.read",))
    body = house.log_in("joe", "secret")
    deleted = house.ok("DELETE", f"/Users/{joe['id']}", house.admin())
    assert deleted["id"] == joe["id"]
    assert house.api(body["access_token"]) == 401
    assert house.token(grant_type="refresh_token", refresh_token=body["refresh_token"]).status_code == 401
    assert house.token(grant_type="password", username="joe", password="secret").status_code == 401
    members = house.ok("GET", f"/Groups/{house.group('scim.read')}/members", house.admin())
    assert joe["id"] not in [member["value"] for member in members]
    assert house.request("DELETE", f"/Users/{joe['id']}", house.admin()).status_code == 404


def _names(house: House, filter: str, **more: str) -> list[str]:
    listed = house.ok("GET", "/Users", house.admin(), params={"filter": filter, **more})
    assert listed["totalResults"] >= len(listed["resources"])
    return [one["userName"] for one in listed["resources"]]


def test_filters(house: House) -> None:
    ann = house.user("Ann", more={"name": {"givenName": "Ann", "familyName": "O'Hara"}})
    house.user("bob", more={"active": False})
    house.user("a_b", more={"verified": False, "externalId": "x-1"})
    house.ok("POST", "/Users", house.admin(), {"userName": "cy", "origin": "ldap"}, 201)
    every = ["admin", "Ann", "bob", "a_b", "cy"]
    cases = {
        'userName eq "ann"': ["Ann"],
        'USERNAME EQ "ANN"': ["Ann"],
        f'id eq "{ann["id"]}"': ["Ann"],
        f'id eq "{ann["id"]}" or userName eq "bob" or userName eq "CY"': ["Ann", "bob", "cy"],
        '( username eq "ann" or username eq "cy" ) and ( origin eq "uaa" )': ["Ann"],
        'userName eq "bob" or userName eq "ann" and origin eq "ldap"': ["bob"],
        'userName co "n"': ["admin", "Ann"],
        'userName sw "a"': ["admin", "Ann", "a_b"],
        'userName co "_"': ["a_b"],
        'userName co "%"': [],
        'email eq "ann@example.org"': ["Ann"],
        'emails.value sw "bob@"': ["bob"],
        'name.familyName eq "o\'hara"': ["Ann"],
        'givenName pr and origin eq "uaa"': ["Ann"],
        "externalId pr": ["a_b"],
        "active eq false": ["bob"],
        'active eq "true" and verified eq false': ["a_b"],
        'meta.created gt "2020-01-01T00:00:00.000Z"': every,
        'meta.lastModified lt "2020-01-01T00:00:00.000Z"': [],
        'userName ge "b" and userName lt "c"': ["bob"],
        'groups.display eq "scim.write"': ["admin"],
        'groups.display eq "openid"': every,
        'userName eq "a\\"b"': [],
    }
    for text, expected in cases.items():
        assert _names(house, text) == expected, text


_BAD_FILTERS = [
    "userName",
    "userName eq",
    "userName eq ann",
    'userName xx "a"',
    'password eq "x"',
    "password_hash pr",
    '(userName eq "a"',
    'userName eq "a")',
    'userName eq "a" and',
    'userName eq "a" userName eq "b"',
    'and userName eq "a"',
    'userName eq "a',
    "active gt true",
    'meta.created gt "yesterday"',
    "1=1",
    "userName eq 'a' or 1=1 --",
    "(" * 200 + 'userName eq "a"' + ")" * 200,
    'userName eq "' + "x" * 60_000 + '"',
    " or ".join(f'userName co "{number}"' for number in range(1000)),
    'userName eq "a\0"',
]


def test_bad_filters(house: House) -> None:
    admin = house.admin()
    for text in _BAD_FILTERS:
        answer = house.get("/Users", admin, params={"filter": text})
        assert answer.status_code == 400, text
        assert answer.json()["error"] in {"scim", "invalid_request"}


_INJECTIONS = ["' or '1'='1", '\\\\\\" or id pr or userName eq \\"', "a%", "__", "); DROP TABLE identities; --"]


def test_filters_are_no_way_into_the_database(house: House) -> None:
    house.user("ab")
    for value in _INJECTIONS:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        for operator in ("eq", "co", "sw"):
            assert _names(house, f'userName {operator} "{escaped}"') == [], value
    assert _names(house, 'userName eq "ab"') == ["ab"]


def test_many_ids_in_one_filter(house: House) -> None:
    made = [house.user()["id"] for _ in range(3)]
    wanted = [*made, *(f"none-{number}" for number in range(2000))]
    text = " or ".join(f'id eq "{one}"' for one in wanted)
    listed = house.ok("GET", "/ids/Users", house.admin(), params={"filter": text, "count": "500"})
    assert {one["id"] for one in listed["resources"]} == set(made)


def test_pages_order_and_attributes(house: House) -> None:
    for name in ("d", "b", "c"):
        house.user(name)

    def listed(**query: str) -> Any:
        return house.ok("GET", "/Users", house.admin(), params=query)

    def names(**query: str) -> list[str]:
        return [one["userName"] for one in listed(**query)["resources"]]

    assert names() == ["admin", "d", "b", "c"]
    assert names(sortBy="userName") == ["admin", "b", "c", "d"]
    assert names(sortBy="userName", sortOrder="descending") == ["d", "c", "b", "admin"]
    assert names(sortBy="userName", startIndex="2", count="2") == ["b", "c"]
    page = listed(startIndex="3", count="1")
    assert (page["startIndex"], page["itemsPerPage"], page["totalResults"]) == (3, 1, 4)
    assert page["schemas"] == ["urn:scim:schemas:core:1.0"]
    assert listed(count="5000")["itemsPerPage"] == 500
    assert listed(count="0")["resources"] == []
    assert names(startIndex="99") == []
    assert names(startIndex="-3", count="1") == ["admin"]
    (one,) = listed(filter='userName eq "b"', attributes="id,emails.value")["resources"]
    assert one.keys() == {"id", "emails.value"}
    assert one["emails.value"] == ["b@example.org"]
    for query in ({"sortBy": "password_hash"}, {"count": "many"}, {"startIndex": "1e3"}):
        answer = house.get("/Users", house.admin(), params=query)
        assert (answer.status_code, answer.json()["error"]) == (400, "scim")


def test_ids(house: House) -> None:
    house.user("joe")
    house.user("off", more={"active": False})
    token = house.token("cloud_controller_username_lookup", grant_type="client_credentials").json()["access_token"]

    def look(text: str | None, **more: str) -> Any:
        query = more if text is None else {"filter": text, **more}
        return house.get("/ids/Users", token, params=query)

    (found,) = look('userName eq "JOE"').json()["resources"]
    assert found.keys() == {"id", "userName", "origin"}
    assert look('userName eq "off"').json()["resources"] == []
    assert len(look('userName eq "off"', includeInactive="true").json()["resources"]) == 1
    refused = {
        None: "a 'filter' parameter is required",
        'email eq "x"': "Invalid filter attribute.",
        'origin eq "uaa"': "Invalid filter attribute.",
        'userName co "j"': "Wildcards are not allowed in filter.",
        "userName pr": "Wildcards are not allowed in filter.",
        'userName gt "j"': "Invalid operator.",
        "userName eq": "Invalid filter 'userName eq'",
    }
    for text, message in refused.items():
        answer = look(text)
        assert answer.status_code == 400
        assert answer.json() == {"error": "scim", "error_description": message, "message": message}


def test_put_and_patch(house: House) -> None:
    admin, joe = house.admin(), house.user("joe")
    path = f"/Users/{joe['id']}"

    def change(method: str, body: Any, match: str | None = "*", token: str = admin) -> Any:
        return house.request(method, path, token, json=body, headers={"If-Match": match} if match else {})

    whole = {"userName": "joe", "emails": [{"value": "new@example.org"}], "name": {"givenName": "J"}}
    changed = change("PUT", whole, "0")
    assert changed.status_code == 200
    assert changed.json()["meta"]["version"] == 1
    assert changed.headers["etag"] == '"1"'
    assert changed.json()["emails"][0]["value"] == "new@example.org"
    assert change("PUT", whole, None).json()["message"] == "Missing If-Match for PUT"
    assert change("PATCH", whole, None).json()["message"] == "Missing If-Match for PUT"
    assert change("PUT", whole, "x").json()["message"] == (
        "Invalid version match header (should be a version number): x"
    )
    stale = change("PUT", whole, '"0"')
    assert (stale.status_code, stale.json()["error"]) == (409, "scim_resource_conflict")
    assert change("PUT", {**whole, "origin": "ldap"}).status_code == 400
    patched = change("PATCH", {"name": {"familyName": "Doe"}, "active": False}, "1").json()
    assert patched["name"] == {"givenName": "J", "familyName": "Doe"}
    assert patched["active"] is False
    assert patched["emails"][0]["value"] == "new@example.org"
    cleared = change("PATCH", {"meta": {"attributes": ["name.givenName"]}, "active": True}).json()
    assert cleared["name"] == {"givenName": "", "familyName": "Doe"}
    house.user("eve")
    assert change("PATCH", {"userName": "eve"}).status_code == 409
    own = house.log_in("joe", "secret")["access_token"]
    assert change("PATCH", {"name": {"givenName": "Joseph"}}, token=own).json()["name"]["givenName"] == "Joseph"
    assert change("PATCH", {"userName": "root"}, token=own).json()["error"] == "invalid_self_edit"
    assert change("PATCH", {"verified": False}, token=own).status_code == 403


def test_a_new_email_or_a_sleeping_user_ends_sessions(house: House) -> None:
    for body in ({"emails": [{"value": "new@example.org"}]}, {"active": False}):
        joe = house.user()
        token = house.log_in(joe["userName"], "secret")["access_token"]
        path, headers = f"/Users/{joe['id']}", {"If-Match": "*"}
        house.ok("PATCH", path, house.admin(), {"name": {"givenName": "x"}}, headers=headers)
        assert house.api(token) == 200
        house.ok("PATCH", path, house.admin(), body, headers=headers)
        assert house.api(token) == 401


def test_password_change(house: House) -> None:
    joe, eve = house.user("joe"), house.user("eve")
    path = f"/Users/{joe['id']}/password"

    def change(token: str, body: Any, path: str = path) -> tuple[int, str, str]:
        answer = house.request("PUT", path, token, json=body)
        found = answer.json()
        return answer.status_code, found.get("error", found.get("status")), found["message"]

    own, body = house.log_in("joe", "secret"), {"password": "new", "oldPassword": "secret"}
    token = own["access_token"]
    assert change(token, {"password": "new"}) == (400, "invalid_password", "Previous password is required")
    assert change(token, {**body, "oldPassword": "x"}) == (401, "unauthorized", "Old password is incorrect")
    same = {"password": "secret", "oldPassword": "secret"}
    assert change(token, same) == (
        422,
        "invalid_password",
        "Your new password cannot be the same as the old password.",
    )
    assert change(token, {**body, "password": ""})[:2] == (400, "invalid_password")
    assert change(token, {**body, "password": "x" * 256})[:2] == (400, "invalid_password")
    other = f"/Users/{eve['id']}/password"
    assert change(token, body, other) == (
        400,
        "invalid_password",
        "Not permitted to change another user's password",
    )
    assert change(token, body) == (200, "ok", "password updated")
    assert house.api(token) == 401, "sessions end"
    assert house.token(grant_type="refresh_token", refresh_token=own["refresh_token"]).status_code == 401
    assert house.token(grant_type="password", username="joe", password="secret").status_code == 401
    assert house.log_in("joe", "new")
    assert change(house.admin(), {"password": "newer"}) == (200, "ok", "password updated")
    assert house.log_in("joe", "newer")
    assert change(house.admin(), body, "/Users/none/password") == (
        401,
        "unauthorized",
        "Invalid password change request",
    )
    narrow = house.log_in("joe", "newer", scope="openid")["access_token"]
    assert house.request("PUT", path, narrow, json=body).json()["error"] == "insufficient_scope"


def test_old_passwords_cannot_be_guessed_with_a_token(house: House) -> None:
    joe = house.user("joe")
    token = house.log_in("joe", "secret")["access_token"]
    path = f"/Users/{joe['id']}/password"
    for _ in range(5):
        house.request("PUT", path, token, json={"password": "new", "oldPassword": "guess"})
    answer = house.request("PUT", path, token, json={"password": "new", "oldPassword": "secret"})
    assert answer.status_code == 401
    assert "locked" in answer.json()["error_description"]


def test_an_administrator_needs_the_old_password_for_itself(house: House) -> None:
    house.client(
        "panel", authorized_grant_types=["password"], scope=["uaa.admin", "password.write"], authorities=["uaa.none"]
    )
    root, joe = house.user("root", groups=("uaa.admin",)), house.user("joe")
    answer = house.token("panel", "secret", grant_type="password", username="root", password="secret")
    token = answer.json()["access_token"]
    own = house.request("PUT", f"/Users/{root['id']}/password", token, json={"password": "new"})
    assert own.json()["message"] == "Previous password is required even for admin"
    assert house.request("PUT", f"/Users/{joe['id']}/password", token, json={"password": "new"}).status_code == 200


def test_unlock(house: House, moving_clock: Clock) -> None:
    joe = house.user("joe")
    for _ in range(5):
        house.token(grant_type="password", username="joe", password="wrong")
    assert house.token(grant_type="password", username="joe", password="secret").status_code == 401
    path = f"/Users/{joe['id']}/status"
    assert house.request("PATCH", path, house.admin(), json={"locked": True}).status_code == 400
    assert house.ok("PATCH", path, house.admin(), {"locked": False}) == {"locked": False}
    assert house.log_in("joe", "secret")
