"""Several clients at the same moment: one wins, nothing is lost, nobody gets an error of the server."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tests.uaa.house import House, query_of

T = TypeVar("T")


def _together(work: Callable[[int], T], number: int = 8) -> list[T]:
    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(work, range(number)))


def test_one_name(house: House) -> None:
    admin = house.admin()
    body = {"userName": "joe", "password": "secret"}
    assert sorted(_together(lambda _: house.post("/Users", admin, body).status_code)) == [201] + [409] * 7
    group = {"displayName": "team"}
    assert sorted(_together(lambda _: house.post("/Groups", admin, group).status_code)) == [201] + [409] * 7
    grants = {"authorized_grant_types": ["client_credentials"], "client_secret": "x"}
    client = {"client_id": "app", **grants}
    assert sorted(_together(lambda _: house.post("/oauth/clients", admin, client).status_code)) == [201] + [409] * 7


def test_one_version(house: House) -> None:
    admin, joe = house.admin(), house.user("joe")
    path, headers = f"/Users/{joe['id']}", {"If-Match": "0"}

    def rename(number: int) -> int:
        body = {"name": {"givenName": str(number)}}
        return int(house.request("PATCH", path, admin, json=body, headers=headers).status_code)

    assert sorted(_together(rename)) == [200] + [409] * 7
    assert house.ok("GET", path, admin)["meta"]["version"] == 1


def test_members_and_secrets_are_not_lost(house: House) -> None:
    admin = house.admin()
    people = [house.user()["id"] for _ in range(8)]
    path = f"/Groups/{house.group('scim.read')}"
    before = house.ok("GET", path, admin)
    added = _together(lambda number: house.post(f"{path}/members", admin, {"value": people[number]}).status_code)
    assert set(added) == {201}
    after = house.ok("GET", path, admin)
    assert set(people) <= {member["value"] for member in after["members"]}
    assert after["meta"]["version"] == before["meta"]["version"] + 8
    house.client("app", "one", authorized_grant_types=["client_credentials"])

    def add(number: int) -> int:
        body = {"secret": f"new-{number}", "changeMode": "ADD"}
        return int(house.request("PUT", "/oauth/clients/app/secret", admin, json=body).status_code)

    assert sorted(_together(add)) == [200] + [400] * 7


def test_one_code(house: House) -> None:
    token = house.log_in()["access_token"]
    query = {"response_type": "code", "client_id": "ssh-proxy"}
    code = query_of(house.get("/oauth/authorize", token, params=query).headers["location"])["code"]
    form = {"grant_type": "authorization_code", "code": code}
    answers = _together(lambda _: house.token("ssh-proxy", **form))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7
    (good,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert house.api(good["access_token"]) == 401, "the code was used twice: what it gave has ended"
    passcode = house.ok("GET", "/passcode", token, headers={"Accept": "application/json"})
    used = _together(lambda _: house.token(grant_type="password", passcode=passcode).status_code)
    assert sorted(used) == [200] + [401] * 7


def test_logins_and_revocations(house: House) -> None:
    joe = house.user("joe")
    path = f"/oauth/token/revoke/user/{joe['id']}"
    admin = house.admin()

    def work(number: int) -> int:
        if number % 2:
            return int(house.get(path, admin).status_code)
        answer = house.token(grant_type="password", username="joe", password="secret")
        return int(answer.status_code)

    # A login that was overtaken by a revocation is refused; it is not an error of the server.
    assert set(_together(work, 12)) <= {200, 401}
    assert house.api(house.log_in("joe", "secret")["access_token"]) == 200
