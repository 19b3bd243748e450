"""Pages for browsers: login, passcode, account, logout; cookies, forged forms, redirects."""

import re

from tests.uaa.conftest import Clock
from tests.uaa.house import Browser, House, Platform, claims_of, csrf_of, opened, query_of


def test_the_login_page_is_for_everybody(house: House) -> None:
    answer = house.browser().get("/login")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert '<html lang="en">' in answer.text
    assert "<title>Log in" in answer.text
    for field in ("username", "password"):
        assert f'<label for="{field}">' in answer.text
        assert f'id="{field}"' in answer.text
    assert 'autocomplete="current-password"' in answer.text
    assert "<script" not in answer.text
    assert "style=" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    sheet = re.findall(r'href="([^"]+\.css)"', answer.text)[0]
    assert house.browser().get(sheet).headers["content-type"].startswith("text/css")
    failed = house.browser().get("/login?error=login_failure")
    assert 'role="alert"' in failed.text
    assert "<b>" not in house.browser().get("/login?error=<b>x</b>&next=<b>").text


def test_log_in_and_out(house: House) -> None:
    house.user("joe")
    visitor = house.browser()
    assert visitor.get("/").headers["location"] == "/uaa/login"
    answer = visitor.log_in("joe")
    assert (answer.status_code, answer.headers["location"]) == (302, "/uaa/")
    cookies = answer.headers.get_list("set-cookie")
    (session,) = [one for one in cookies if one.startswith("JSESSIONID=")]
    assert "HttpOnly" in session
    assert "SameSite=lax" in session
    assert "Path=/uaa" in session
    assert "Domain" not in session
    assert "joe" in visitor.get("/").text
    assert visitor.get("/login").headers["location"] == "/uaa/", "already logged in"
    kept = dict(visitor.http.cookies)
    out = visitor.get("/logout.do")
    assert out.headers["location"] == "/uaa/login"
    assert visitor.get("/").headers["location"] == "/uaa/login"
    # The session ended here, not only in the browser.
    visitor.http.cookies.update(kept)
    assert visitor.get("/").headers["location"] == "/uaa/login"


def test_failures(house: House) -> None:
    house.user("joe")
    house.user("unverified", more={"verified": False})
    visitor = house.browser()
    assert visitor.log_in("joe", "wrong").headers["location"] == "/uaa/login?error=login_failure"
    assert visitor.log_in("nobody").headers["location"] == "/uaa/login?error=login_failure"
    assert visitor.log_in("unverified").headers["location"] == "/uaa/login?error=account_not_verified"
    again = visitor.log_in("joe", "wrong", next="/passcode").headers["location"]
    assert query_of(again) == {"error": "login_failure", "next": "/passcode"}
    for _ in range(3):
        visitor.log_in("joe", "wrong")
    assert visitor.log_in("joe").headers["location"] == "/uaa/login?error=account_locked"
    assert "locked" in visitor.get("/login?error=account_locked").text


def test_forged_forms(house: House) -> None:
    house.user("joe")
    good = {"username": "joe", "password": "secret"}
    rejected = "/uaa/login?error=invalid_login_request"

    def sent(visitor: Browser, csrf: str, **headers: str) -> str:
        form = {**good, "X-Uaa-Csrf": csrf}
        return str(visitor.send("/login.do", form, headers=headers).headers["location"])

    visitor = house.browser()
    assert sent(visitor, "") == rejected, "no cookie"
    csrf = csrf_of(visitor.get("/login").text)
    assert sent(visitor, "x") == rejected
    assert sent(visitor, csrf, Origin="https://evil.example.org") == rejected
    assert sent(visitor, csrf, Origin="null") == rejected
    assert sent(visitor, csrf, Origin="http://localhost:9081") == rejected
    assert sent(visitor, csrf, **{"Sec-Fetch-Site": "cross-site"}) == rejected
    assert sent(visitor, csrf, **{"Sec-Fetch-Site": "same-site"}) == rejected
    other = csrf_of(house.browser().get("/login").text)
    assert sent(visitor, other) == rejected, "the value of another browser"
    planted = house.browser()
    planted.http.cookies.set("X-Uaa-Csrf", "chosen.by-an-attacker")
    assert sent(planted, "chosen.by-an-attacker") == rejected
    assert sent(visitor, csrf, Origin="http://localhost:9080", **{"Sec-Fetch-Site": "same-origin"}) == "/uaa/"
    # After the login the session is another, and so is the proof.
    assert visitor.send("/approvals.do", {"X-Uaa-Csrf": csrf, "client_id": "x"}).headers["location"] == rejected


def test_a_session_that_a_browser_brings_along_is_not_taken(house: House) -> None:
    house.user("joe")
    visitor = house.browser()
    visitor.http.cookies.set("JSESSIONID", "chosen-by-an-attacker")
    visitor.log_in("joe")
    assert visitor.http.cookies.get("JSESSIONID", path="/uaa") != "chosen-by-an-attacker"
    attacker = house.browser()
    attacker.http.cookies.set("JSESSIONID", "chosen-by-an-attacker")
    assert attacker.get("/").headers["location"] == "/uaa/login"


_ELSEWHERE = [
    "https://evil.example.org/",
    "//evil.example.org/",
    "/\\evil.example.org",
    "\\\\evil.example.org",
    "/login.do",
    "/oauth/token",
    "javascript:alert(1)",
    "/passcode\r\nSet-Cookie: a=b",
    "/oauth/authorize\n",
    "http:/passcode",
    " /passcode",
]


def test_after_the_login_one_stays_here(house: House) -> None:
    house.user("joe")
    for following in _ELSEWHERE:
        assert house.browser().log_in("joe", next=following).headers["location"] == "/uaa/", following


def test_logout_redirects(house: House) -> None:
    back = "https://dash.example.org/bye"
    house.client("dash", authorized_grant_types=["authorization_code"], redirect_uri=[back], scope=["openid"])

    def target(**query: str) -> str:
        return str(house.browser().get("/logout.do", params=query).headers["location"])

    assert target(redirect=back, client_id="dash") == back
    assert target(post_logout_redirect_uri=back, client_id="dash", state="x") == back + "?state=x"
    assert target(redirect=back) == "/uaa/login"
    assert target(redirect="https://evil.example.org/", client_id="dash") == "/uaa/login"
    assert target(redirect=back, client_id="cf") == "/uaa/login"
    id_token = house.log_in(scope="openid")["id_token"]
    assert target(post_logout_redirect_uri=back, id_token_hint=id_token) == "/uaa/login", "a token of another client"


def test_sessions_end(house: House, moving_clock: Clock) -> None:
    house.user("joe")
    idle, busy = house.browser(), house.browser()
    for visitor in (idle, busy):
        visitor.log_in("joe")
    for _ in range(3):
        moving_clock.forward(1200)
        assert busy.get("/").status_code == 200
    assert idle.get("/").status_code == 302
    for _ in range(40):
        moving_clock.forward(1200)
        busy.get("/")
    assert busy.get("/").status_code == 302, "twelve hours are the longest"


def test_passcode(house: House, moving_clock: Clock) -> None:
    house.user("joe")
    visitor = house.browser()
    first = visitor.get("/passcode")
    assert first.headers["location"] == "/uaa/login?next=/passcode"
    assert visitor.log_in("joe", next="/passcode").headers["location"] == "/uaa/passcode"
    page = visitor.get("/passcode")
    code = re.findall(r'id="passcode"[^>]*>([^<]+)<', page.text)[0]
    body = house.token(grant_type="password", passcode=code)
    assert body.status_code == 200
    assert house.api(body.json()["access_token"]) == 200
    assert body.json()["refresh_token"]
    for bad in (code, "x", code.upper()):
        answer = house.token(grant_type="password", passcode=bad)
        assert answer.status_code == 401
        assert answer.json() == {"error": "unauthorized", "error_description": "Invalid passcode"}
    token = house.log_in("joe", "secret")["access_token"]
    late = house.ok("GET", "/passcode", token, headers={"Accept": "application/json"})
    assert isinstance(late, str)
    moving_clock.forward(301)
    assert house.token(grant_type="password", passcode=late).status_code == 401
    narrow = house.log_in("joe", "secret", scope="openid")["access_token"]
    assert house.get("/passcode", narrow).status_code == 403
    parent = house.log_in("joe", "secret")["access_token"]
    code = house.ok("GET", "/passcode", parent, headers={"Accept": "application/json"})
    child = house.token(grant_type="password", passcode=code).json()
    house.request("DELETE", f"/oauth/token/revoke/{claims_of(parent)['jti']}", parent)
    assert house.api(child["access_token"]) == 401, "a code that a program asked for belongs to the program's login"
    assert house.token(grant_type="refresh_token", refresh_token=child["refresh_token"]).status_code == 401


def test_a_new_password_where_one_is_due(house: House) -> None:
    joe = house.user("joe")
    house.ok("PATCH", f"/Users/{joe['id']}/status", house.admin(), {"passwordChangeRequired": True})
    visitor = house.browser()
    page = visitor.log_in("joe", next="/passcode")
    assert page.status_code == 200
    assert visitor.get("/").status_code == 302, "not logged in yet"

    def fields(text: str) -> dict[str, str]:
        return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', text))

    def choose(first: str, second: str, **more: str) -> tuple[int, str]:
        form = {**fields(page.text), "password": first, "password_confirmation": second, **more}
        answer = visitor.send("/force_password_change", form)
        return answer.status_code, answer.headers.get("location", "")

    assert choose("new", "other")[0] == 422
    assert choose("secret", "secret")[0] == 422
    assert choose("", "")[0] == 422
    assert choose("new", "new", code="x") == (302, "/uaa/login?error=invalid_login_request&next=%2Fpasscode")
    assert choose("new", "new") == (302, "/uaa/passcode")
    assert visitor.get("/passcode").status_code == 200
    assert choose("newer", "newer")[1].startswith("/uaa/login?error"), "good once"
    assert house.log_in("joe", "new")


def test_home_page_shows_apps(house: House) -> None:
    admin = house.admin()
    house.client("dash", authorized_grant_types=["client_credentials"], name="<i>Dash</i>")
    path = "/oauth/clients/dash/meta"
    bad = house.request("PUT", path, admin, json={"appLaunchUrl": "javascript:alert(1)"})
    assert bad.status_code == 400
    house.ok("PUT", path, admin, {"showOnHomePage": True, "appLaunchUrl": "https://dash.example.org/?a=1&b=2"})
    house.user("joe")
    visitor = house.browser()
    visitor.log_in("joe")
    page = visitor.get("/").text
    assert '<a href="https://dash.example.org/?a=1&amp;b=2">&lt;i&gt;Dash&lt;/i&gt;</a>' in page


def test_cookies_with_tls(platform: Platform) -> None:
    with opened(platform, platform__system_domain="sys.example.org") as house:
        house.user("joe")
        visitor = house.browser("https://login.sys.example.org")
        answer = visitor.log_in("joe")
        assert answer.headers["location"] == "/"
        for cookie in answer.headers.get_list("set-cookie"):
            assert cookie.startswith("__Host-")
            assert "Secure" in cookie
            assert "Path=/" in cookie
            assert "Domain" not in cookie
        assert "joe" in visitor.get("/").text
        elsewhere = house.browser("https://uaa.sys.example.org")
        form = {"username": "joe", "password": "secret"}
        csrf = csrf_of(elsewhere.get("/login").text)
        headers = {"Origin": "https://app.apps.sys.example.org"}
        refused = elsewhere.send("/login.do", {**form, "X-Uaa-Csrf": csrf}, headers=headers)
        assert refused.headers["location"] == "/login?error=invalid_login_request"
        body = house.ok("GET", "/login", headers={"Accept": "application/json"})
        assert body["links"] == {
            "uaa": "https://uaa.sys.example.org",
            "login": "https://login.sys.example.org",
        }
