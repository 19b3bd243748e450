"""/approvals: a user's own programs see and change what was allowed."""

from typing import Any

import pytest

from tests.uaa.conftest import Clock
from tests.uaa.house import House, csrf_of

BACK = "https://app.example/cb"


@pytest.fixture
def token(house: House) -> str:
    """A token of joe that may manage approvals; the clients `web` and `other` are there."""
    house.user("joe")
    grants = {"authorized_grant_types": ["authorization_code", "refresh_token"], "redirect_uri": [BACK]}
    for name in ("web", "other"):
        house.client(name, scope=["openid", "profile", "roles"], autoapprove=["profile"], **grants)  # type: ignore[arg-type]  # a body
    house.client("manager", authorized_grant_types=["password"], scope=["oauth.approvals", "openid"])
    form = {"grant_type": "password", "username": "joe", "password": "secret"}
    return str(house.token("manager", "secret", **form).json()["access_token"])


def _one(client: str, scope: str, status: str = "APPROVED", **more: Any) -> dict[str, Any]:
    return {"clientId": client, "scope": scope, "status": status, **more}


def _brief(listed: Any) -> set[tuple[str, str, str]]:
    return {(one["clientId"], one["scope"], one["status"]) for one in listed}


def test_they_are_what_the_consent_page_wrote(house: House, token: str) -> None:
    visitor = house.browser()
    visitor.log_in("joe")
    query = {"response_type": "code", "client_id": "web", "redirect_uri": BACK, "scope": "openid roles"}
    consent = visitor.get("/oauth/authorize", params=query).text
    form = {"X-Uaa-Csrf": csrf_of(consent), "user_oauth_approval": "true", "scope.0": "scope.openid"}
    visitor.send("/oauth/authorize", form)
    found = house.ok("GET", "/approvals", token)
    assert _brief(found) == {("web", "openid", "APPROVED"), ("web", "roles", "DENIED")}
    assert set(found[0]) == {"userId", "clientId", "scope", "status", "expiresAt", "lastUpdatedAt"}
    # What is allowed by a program is not asked any more.
    house.ok("PUT", "/approvals/web", token, [_one("web", "openid"), _one("web", "roles")])
    answer = visitor.get("/oauth/authorize", params=query)
    assert answer.headers["location"].startswith(f"{BACK}?code=")
    assert house.ok("DELETE", "/approvals", token, params={"clientId": "web"})["status"] == "ok"
    assert "user_oauth_approval" in visitor.get("/oauth/authorize", params=query).text


def test_put_replaces(house: House, token: str, moving_clock: Clock) -> None:
    both = [
        _one("web", "openid"),
        _one("other", "openid", expiresAt="2999-01-01T00:00:00.000Z"),
        _one("web", "profile"),
    ]
    found = house.ok("PUT", "/approvals", token, both)
    # What an administrator allowed for everybody is not shown.
    assert _brief(found) == {("web", "openid", "APPROVED"), ("other", "openid", "APPROVED")}
    assert max(one["expiresAt"] for one in found) < "2990", "not longer than the consent page gives"
    found = house.ok("PUT", "/approvals/web", token, [_one("web", "roles", "DENIED")])
    assert _brief(found) == {("web", "roles", "DENIED")}
    assert _brief(house.ok("GET", "/approvals", token)) == {("web", "roles", "DENIED"), ("other", "openid", "APPROVED")}
    assert house.ok("PUT", "/approvals", token, []) == []
    assert house.ok("GET", "/approvals", token) == []


def test_a_client_that_loses_a_scope_loses_its_sessions(house: House, token: str) -> None:
    house.ok("PUT", "/approvals", token, [_one("web", "openid"), _one("other", "openid")])
    tokens = {}
    visitor = house.browser()
    visitor.log_in("joe")
    for client in ("web", "other"):
        query = {"response_type": "code", "client_id": client, "redirect_uri": BACK, "scope": "openid"}
        location = visitor.get("/oauth/authorize", params=query).headers["location"]
        code = location.partition("code=")[2]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK}
        tokens[client] = house.token(client, "secret", **form).json()["refresh_token"]

    def works(client: str) -> int:
        refreshed = house.token(client, "secret", grant_type="refresh_token", refresh_token=tokens[client])
        return int(refreshed.status_code)

    assert (works("web"), works("other")) == (200, 200)
    house.ok("PUT", "/approvals", token, [_one("web", "openid", "DENIED"), _one("other", "openid")])
    assert (works("web"), works("other")) == (401, 200)


def test_who_may_and_what(house: House, token: str) -> None:
    assert house.get("/approvals").status_code == 401
    assert house.get("/approvals", house.log_in("joe", "secret")["access_token"]).status_code == 403
    assert house.get("/approvals", house.admin()).status_code == 403, "a client has no approvals"
    eve = house.user("eve")
    for body, status in (
        ([_one("web", "openid", userId=eve["id"])], 401),
        ([_one("nobody", "openid")], 400),
        ([_one("web", "scim.read")], 400),
        ([_one("web", "openid", "MAYBE")], 400),
        ([_one("web", "openid", expiresAt="soon")], 400),
        ([{"clientId": "web"}], 400),
        ([_one("other", "openid")], 400),
        ({}, 400),
        (["x"], 400),
    ):
        answer = house.request("PUT", "/approvals/web", token, json=body)
        assert answer.status_code == status, (body, answer.text)
    assert house.request("PUT", "/approvals/nobody", token, json=[]).status_code == 404
    assert house.request("DELETE", "/approvals", token, params={"clientId": "nobody"}).status_code == 404
    assert house.ok("GET", "/approvals", token) == []
    assert house.request("PUT", "/approvals", token, json=[_one("nobody", "openid")]).status_code == 404
