"""/oauth/authorize: codes for clients that act for users, with consent, PKCE, and redirects to nowhere else."""

import base64
import hashlib
import re
import secrets
from typing import Any

import pytest

from tests.uaa.conftest import Clock
from tests.uaa.house import Browser, House, basic, claims_of, csrf_of, query_of

BACK = "https://dash.example.org/callback"
SCOPES = ["openid", "cloud_controller.read", "scim.read"]


@pytest.fixture
def dash(house: House) -> House:
    """A platform with a dashboard's client and a user."""
    grants = ["authorization_code", "refresh_token"]
    house.client("dash", authorized_grant_types=grants, redirect_uri=[BACK], scope=SCOPES, name="Dashboard")
    house.user("joe")
    return house


def _asked(**more: str | None) -> dict[str, str]:
    query = {"response_type": "code", "client_id": "dash", "redirect_uri": BACK, "state": "s t&", **more}
    return {key: value for key, value in query.items() if value is not None}


def _consent(visitor: Browser, **more: str | None) -> dict[str, str]:
    """What the browser brings back to the client after the user agreed."""
    answer = visitor.get("/oauth/authorize", params=_asked(**more))
    if answer.status_code == 200:
        answer = visitor.send("/oauth/authorize", _agreed(answer.text))
    assert answer.status_code == 302, answer.text
    assert answer.headers["location"].startswith(BACK + "?")
    return query_of(answer.headers["location"])


def _agreed(page: str) -> dict[str, str]:
    form = {"X-Uaa-Csrf": csrf_of(page), "user_oauth_approval": "true"}
    form.update(re.findall(r'name="(scope\.\d+)" value="([^"]+)"', page))
    form["pending"] = re.findall(r'name="pending" value="([^"]+)"', page)[0]
    return form


def _exchange(house: House, code: str, **more: str | None) -> Any:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, **more}
    return house.token("dash", "secret", **{key: value for key, value in form.items() if value is not None})


def test_from_login_to_token(dash: House) -> None:
    visitor = dash.browser()
    first = visitor.get("/oauth/authorize", params=_asked(nonce="n-1"))
    assert first.status_code == 302
    login = visitor.get(first.headers["location"])
    assert "to continue to <strong>Dashboard</strong>" in login.text
    following = re.findall(r'name="next" value="([^"]+)"', login.text)[0].replace("&amp;", "&")
    form = {"username": "joe", "password": "secret", "X-Uaa-Csrf": csrf_of(login.text), "next": following}
    logged_in = visitor.send("/login.do", form)
    page = visitor.get(logged_in.headers["location"])
    assert "Dashboard" in page.text
    assert "cloud_controller.read" in page.text
    assert "scim.read" not in page.text, "joe may not"
    assert "https://dash.example.org" in page.text
    answer = visitor.send("/oauth/authorize", _agreed(page.text))
    back = query_of(answer.headers["location"])
    assert back["state"] == "s t&"
    body = _exchange(dash, back["code"]).json()
    assert set(body["scope"].split()) == {"openid", "cloud_controller.read"}
    claims = claims_of(body["access_token"])
    assert claims["grant_type"] == "authorization_code"
    assert claims["client_id"] == "dash"
    assert claims_of(body["id_token"])["nonce"] == "n-1"
    assert claims_of(body["id_token"])["aud"] == ["dash"]
    assert dash.ok("GET", "/userinfo", body["access_token"])["user_name"] == "joe"
    again = dash.token("dash", "secret", grant_type="refresh_token", refresh_token=body["refresh_token"])
    assert claims_of(again.json()["access_token"])["grant_type"] == "authorization_code"
    # What was agreed to is not asked again.
    assert visitor.get("/oauth/authorize", params=_asked()).status_code == 302


def test_a_form_without_number_is_the_current_one(dash: House) -> None:
    """Programs that walk through the pages, as CF's acceptance tests do, send only the fields that UAA's page had."""
    visitor = dash.browser()
    visitor.log_in("joe")
    page = visitor.get("/oauth/authorize", params=_asked())
    form = {"X-Uaa-Csrf": csrf_of(page.text), "user_oauth_approval": "true", "scope.0": "scope.openid"}
    answer = visitor.send("/oauth/authorize", form)
    body = _exchange(dash, query_of(answer.headers["location"])["code"]).json()
    assert body["scope"] == "openid"


def test_denial_and_choice(dash: House) -> None:
    visitor = dash.browser()
    visitor.log_in("joe")
    page = visitor.get("/oauth/authorize", params=_asked())
    denied = visitor.send("/oauth/authorize", {**_agreed(page.text), "user_oauth_approval": "false"})
    assert query_of(denied.headers["location"]) == {
        "error": "access_denied",
        "error_description": "User denied access",
        "state": "s t&",
    }
    page = visitor.get("/oauth/authorize", params=_asked())
    assert page.status_code == 200, "a denial is not for ever"
    fewer = {key: value for key, value in _agreed(page.text).items() if value != "scope.cloud_controller.read"}
    answer = visitor.send("/oauth/authorize", fewer)
    assert _exchange(dash, query_of(answer.headers["location"])["code"]).json()["scope"] == "openid"
    joe = dash.ok("GET", "/Users", dash.admin(), params={"filter": 'userName eq "joe"'})["resources"][0]
    approvals = {one["scope"]: one["status"] for one in joe["approvals"]}
    assert approvals == {"openid": "APPROVED", "cloud_controller.read": "DENIED"}
    home = visitor.get("/")
    assert "No longer allow Dashboard" in home.text
    visitor.send("/approvals.do", {"X-Uaa-Csrf": csrf_of(home.text), "client_id": "dash"})
    assert visitor.get("/oauth/authorize", params=_asked()).status_code == 200


def test_no_longer_allowed_ends_the_clients_sessions(dash: House, moving_clock: Clock) -> None:
    visitor = dash.browser()
    visitor.log_in("joe")
    body = _exchange(dash, _consent(visitor)["code"]).json()
    assert dash.get("/userinfo", body["access_token"]).status_code == 200
    visitor.send("/approvals.do", {"X-Uaa-Csrf": csrf_of(visitor.get("/").text), "client_id": "dash"})
    assert dash.get("/userinfo", body["access_token"]).status_code == 401
    again = dash.token("dash", "secret", grant_type="refresh_token", refresh_token=body["refresh_token"])
    assert again.status_code == 401


def test_an_older_consent_page_is_refused(dash: House) -> None:
    dash.client("other", authorized_grant_types=["authorization_code"], redirect_uri=[BACK], scope=["openid"])
    visitor = dash.browser()
    visitor.log_in("joe")
    older = visitor.get("/oauth/authorize", params=_asked(client_id="other"))
    visitor.get("/oauth/authorize", params=_asked())
    answer = visitor.send("/oauth/authorize", _agreed(older.text))
    assert answer.status_code == 400
    assert "no longer current" in answer.text


def test_autoapprove(house: House) -> None:
    grants: dict[str, Any] = {"authorized_grant_types": ["authorization_code"], "redirect_uri": [BACK]}
    scope = ["openid", "cloud_controller.read"]
    house.client("dash", **grants, scope=scope, autoapprove=["true"])
    house.client("some", **grants, scope=scope, autoapprove=["openid"])
    house.user("joe")
    visitor = house.browser()
    visitor.log_in("joe")
    assert visitor.get("/oauth/authorize", params=_asked()).status_code == 302
    page = visitor.get("/oauth/authorize", params=_asked(client_id="some"))
    assert page.status_code == 200
    assert 'value="scope.cloud_controller.read"' in page.text
    assert 'value="scope.openid"' not in page.text


def test_codes_are_good_once_and_a_replay_ends_the_session(dash: House) -> None:
    visitor = dash.browser()
    visitor.log_in("joe")
    code = _consent(visitor)["code"]
    body = _exchange(dash, code).json()
    assert dash.get("/userinfo", body["access_token"]).status_code == 200
    again = _exchange(dash, code)
    assert (again.status_code, again.json()) == (
        400,
        {"error": "invalid_grant", "error_description": f"Invalid authorization code: {code}"},
    )
    assert dash.get("/userinfo", body["access_token"]).status_code == 401
    refreshed = dash.token("dash", "secret", grant_type="refresh_token", refresh_token=body["refresh_token"])
    assert refreshed.status_code == 401


def test_codes_are_bound(dash: House, moving_clock: Clock) -> None:
    grants = ["authorization_code"]
    dash.client("thief", authorized_grant_types=grants, redirect_uri=[BACK], scope=["openid"])
    visitor = dash.browser()
    visitor.log_in("joe")
    code = _consent(visitor)["code"]
    stolen = dash.token("thief", "secret", grant_type="authorization_code", code=code, redirect_uri=BACK)
    assert stolen.json()["error"] == "invalid_grant"
    for redirect in ("https://dash.example.org/other", BACK + "/", None):
        answer = _exchange(dash, code, redirect_uri=redirect)
        assert answer.json() == {"error": "invalid_grant", "error_description": "Redirect URI mismatch."}
    assert _exchange(dash, "x").json()["error_description"] == "Invalid authorization code: x"
    assert _exchange(dash, code).status_code == 200
    late = _consent(visitor)["code"]
    moving_clock.forward(301)
    assert _exchange(dash, late).json()["error"] == "invalid_grant"


def test_a_code_of_a_user_who_was_stopped(dash: House) -> None:
    for stop in ("revoke", "delete"):
        name = f"user-{stop}"
        made = dash.user(name)
        visitor = dash.browser()
        visitor.log_in(name)
        code = _consent(visitor)["code"]
        if stop == "revoke":
            dash.ok("GET", f"/oauth/token/revoke/user/{made['id']}", dash.admin())
        else:
            dash.ok("DELETE", f"/Users/{made['id']}", dash.admin())
        assert _exchange(dash, code).json()["error"] == "invalid_grant"
        assert visitor.get("/").headers["location"] == "/uaa/login", "the browser is logged out"


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def test_pkce(dash: House) -> None:
    visitor, verifier = dash.browser(), secrets.token_urlsafe(40)
    visitor.log_in("joe")
    s256 = {"code_challenge": _challenge(verifier), "code_challenge_method": "S256"}
    for asked, given, status in (
        (s256, verifier, 200),
        (s256, verifier + "x", 400),
        (s256, _challenge(verifier), 400),
        (s256, None, 400),
        ({"code_challenge": verifier, "code_challenge_method": "plain"}, verifier, 200),
        ({"code_challenge": verifier}, verifier, 200),
        ({"code_challenge": verifier}, "x" * 50, 400),
        ({}, verifier, 400),
    ):
        answer = _exchange(dash, _consent(visitor, **asked)["code"], code_verifier=given)
        assert answer.status_code == status, (asked, given)
        if status == 400:
            assert answer.json()["error"] == "invalid_grant"
    for bad in ({"code_challenge": "short"}, {**s256, "code_challenge_method": "S512"}, {"code_challenge": "ä" * 43}):
        assert _consent(visitor, **bad)["error"] == "invalid_request"


def test_public_clients(dash: House) -> None:
    public = {"authorized_grant_types": ["authorization_code", "refresh_token"], "allowpublic": True}
    dash.client("app", None, **public, redirect_uri=["http://127.0.0.1:*/"], scope=["openid"])
    visitor, verifier = dash.browser(), secrets.token_urlsafe(40)
    visitor.log_in("joe")
    back = "http://127.0.0.1:53124/"
    query = {"response_type": "code", "client_id": "app", "redirect_uri": back}
    refused = visitor.get("/oauth/authorize", params=query)
    assert query_of(refused.headers["location"])["error"] == "invalid_request", "without a challenge"
    query |= {"code_challenge": _challenge(verifier), "code_challenge_method": "S256"}
    page = visitor.get("/oauth/authorize", params=query)
    code = query_of(visitor.send("/oauth/authorize", _agreed(page.text)).headers["location"])["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back, "client_id": "app"}
    assert dash.request("POST", "/oauth/token", data=form).status_code == 400
    body = dash.request("POST", "/oauth/token", data={**form, "code_verifier": verifier}).json()
    assert claims_of(body["access_token"])["client_auth_method"] == "none"
    # Its refresh tokens are replaced at each use; who uses an old one ends the session.
    refresh = {"grant_type": "refresh_token", "client_id": "app"}
    old = body["refresh_token"]
    new = dash.request("POST", "/oauth/token", data={**refresh, "refresh_token": old}).json()
    assert new["refresh_token"] != old
    assert dash.get("/userinfo", new["access_token"]).status_code == 200
    replay = dash.request("POST", "/oauth/token", data={**refresh, "refresh_token": old})
    assert (replay.status_code, replay.json()["error"]) == (401, "invalid_token")
    after = dash.request("POST", "/oauth/token", data={**refresh, "refresh_token": new["refresh_token"]})
    assert after.status_code == 401
    assert dash.get("/userinfo", new["access_token"]).status_code == 401
    # Nor is a token made into a session of a month by way of a client that proves nothing.
    token = dash.log_in("joe", "secret")["access_token"]
    asked = dash.get("/oauth/authorize", token, params=query)
    form["code"] = query_of(asked.headers["location"])["code"]
    by_token = dash.request("POST", "/oauth/token", data={**form, "code_verifier": verifier}).json()
    assert "access_token" in by_token
    assert "refresh_token" not in by_token
    # A client that has a secret is not public.
    assert dash.request("POST", "/oauth/token", data={**refresh, "client_id": "dash"}).status_code == 401


_ELSEWHERE = [
    "https://evil.example.org/callback",
    "https://dash.example.org.evil.org/callback",
    "https://dash.example.org@evil.org/callback",
    "https://evil.org#@dash.example.org/callback",
    "https://dash.example.org/callback/../../evil",
    "https://dash.example.org/callback%2f..%2fevil",
    "https://dash.example.org/callback#x",
    "https://dash.example.org:444/callback",
    "http://dash.example.org/callback",
    "//dash.example.org/callback",
    "/callback",
    "https:dash.example.org/callback",
    "https:\\\\evil.org\\callback",
    "javascript:alert(1)",
    "data:text/html,x",
    "https://dash.example.org/callback\r\nLocation: https://evil.org",
    "https://dash.example.org/callback\t",
    "https://DASH.example.org/Callback",
    "*",
    "",
]


def test_nobody_is_sent_elsewhere(dash: House) -> None:
    visitor, token = dash.browser(), dash.log_in("joe", "secret")["access_token"]
    visitor.log_in("joe")
    for redirect in _ELSEWHERE:
        query = _asked(redirect_uri=redirect)
        answer = visitor.get("/oauth/authorize", params=query)
        assert answer.status_code == 400, redirect
        assert "location" not in answer.headers
        api = dash.get("/oauth/authorize", token, params=query)
        assert (api.status_code, api.json()["redirect_uri"]) == (400, "redirect_uri mismatch"), redirect


def test_bad_requests(dash: House) -> None:
    visitor = dash.browser()
    for query in ({"client_id": "none"}, {"client_id": None}, {"client_id": "admin"}):
        answer = visitor.get("/oauth/authorize", params=_asked(**query))
        assert (answer.status_code, answer.headers["content-type"]) == (400, "text/html; charset=utf-8")
    # Others are told to the client, whether anybody is logged in or not.
    dash.client("pw", authorized_grant_types=["password"], redirect_uri=[BACK], scope=["openid"])
    for query, error in (
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"client_id": "pw"}, "unauthorized_client"),
        ({"scope": "uaa.admin"}, "invalid_scope"),
        ({"prompt": "none"}, "login_required"),
    ):
        answer = visitor.get("/oauth/authorize", params=_asked(**query))
        assert answer.status_code == 302, query
        assert query_of(answer.headers["location"])["error"] == error
    visitor.log_in("joe")
    answer = visitor.get("/oauth/authorize", params=_asked(prompt="none"))
    assert query_of(answer.headers["location"])["error"] == "interaction_required"
    answer = visitor.get("/oauth/authorize", params=_asked(scope="scim.read"))
    assert query_of(answer.headers["location"])["error"] == "invalid_scope"


def test_a_fresh_login_when_the_client_wants_one(dash: House, moving_clock: Clock) -> None:
    visitor = dash.browser()
    visitor.log_in("joe")
    _consent(visitor)
    again = visitor.get("/oauth/authorize", params=_asked(prompt="login"))
    assert again.headers["location"].startswith("/uaa/login?next=")
    assert "prompt" not in query_of(again.headers["location"])["next"]
    visitor.log_in("joe")
    assert "code" in _consent(visitor, max_age="60")
    moving_clock.forward(61)
    late = visitor.get("/oauth/authorize", params=_asked(max_age="60"))
    assert late.headers["location"].startswith("/uaa/login")


def test_ssh_code(house: House) -> None:
    """As `cf ssh-code` asks: with a bearer token, and the code is read from a redirect that nobody follows."""
    house.user("joe")
    token = house.log_in("joe", "secret")["access_token"]
    query = {"response_type": "code", "client_id": "ssh-proxy", "grant_type": "authorization_code"}
    answer = house.get("/oauth/authorize", token, params=query, headers={"Accept": "application/json"})
    assert answer.status_code == 302
    assert answer.headers["location"].startswith("http://localhost:9080/uaa/login?")
    code = query_of(answer.headers["location"])["code"]
    form = {"grant_type": "authorization_code", "code": code}
    assert house.request("POST", "/oauth/token", data=form, headers=basic("ssh-proxy", "x")).status_code == 401
    body = house.token("ssh-proxy", **form).json()
    assert house.api(body["access_token"]) == 200
    assert "refresh_token" not in body
    assert house.token("ssh-proxy", **form).json()["error"] == "invalid_grant"
    narrow = house.log_in("joe", "secret", scope="cloud_controller.read")["access_token"]
    refused = house.get("/oauth/authorize", narrow, params=query)
    assert (refused.status_code, refused.json()["scope"]) == (403, "uaa.user")
    assert house.get("/oauth/authorize", "x", params=query).json()["error"] == "invalid_token"
    posted = house.request("POST", "/oauth/authorize", token, data=query)
    assert "code" in query_of(posted.headers["location"])
    assert house.get("/oauth/authorize", house.admin(), params=query).status_code == 403
