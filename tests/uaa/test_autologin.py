"""/autologin and the grant user_token, as cf-java-client uses them."""

from typing import Any

from tests.uaa.conftest import Clock
from tests.uaa.house import House, basic, claims_of


def _code(
    house: House, username: str = "joe", password: str = "secret", client: str = "app", secret: str = "secret"
) -> Any:
    body = {"username": username, "password": password}
    return house.request("POST", "/autologin", json=body, headers=basic(client, secret))


def test_a_browser_is_logged_in(house: House) -> None:
    house.user("joe")
    house.client("app", authorized_grant_types=["client_credentials"])
    answer = _code(house)
    assert answer.status_code == 200, answer.text
    assert answer.json()["path"] == "/oauth/authorize"
    query = {"code": answer.json()["code"], "client_id": "app"}
    assert house.browser().get("/autologin", params={**query, "client_id": "cf"}).status_code == 422
    visitor = house.browser()
    arrived = visitor.get("/autologin", params=query)
    assert (arrived.status_code, arrived.headers["location"]) == (302, f"{house.prefix}/")
    assert "joe" in visitor.get("/").text
    again = house.browser().get("/autologin", params=query)
    assert (again.status_code, again.json()["error"]) == (422, "expired_code")
    # A form does as well.
    form = {"username": "joe", "password": "secret"}
    assert house.request("POST", "/autologin", data=form, headers=basic("app", "secret")).status_code == 200


def test_who_gets_no_code(house: House, moving_clock: Clock) -> None:
    house.user("joe")
    house.client("app", authorized_grant_types=["client_credentials"])
    house.client("theirs", authorized_grant_types=["client_credentials"], allowedproviders=["ldap"])
    assert _code(house, password="wrong").json()["error_description"] == "Bad credentials"
    assert _code(house, "nobody").status_code == 401
    assert _code(house, "").status_code == 401
    assert _code(house, secret="wrong").status_code == 401
    assert _code(house, client="theirs").status_code == 401
    assert _code(house, client="cf", secret="").status_code == 401, "a client that anybody can be"
    assert house.request("POST", "/autologin", json={"username": "joe", "password": "secret"}).status_code == 401
    late = _code(house).json()["code"]
    moving_clock.forward(301)
    assert house.browser().get("/autologin", params={"code": late, "client_id": "app"}).status_code == 422
    for _ in range(5):
        _code(house, password="wrong")
    assert "locked" in _code(house).json()["error_description"]


def _clients(house: House) -> None:
    scope = ["uaa.user", "openid", "cloud_controller.read"]
    house.client("asking", authorized_grant_types=["password", "user_token"], scope=scope)
    house.client("other", authorized_grant_types=["refresh_token"], scope=["cloud_controller.read", "openid"])


def _user_token(house: House, token: str, **form: str) -> Any:
    fields = {"grant_type": "user_token", "response_type": "token", "client_id": "other", **form}
    return house.request("POST", "/oauth/token", token, data=fields)


def test_a_token_for_another_client(house: House) -> None:
    house.user("joe")
    _clients(house)
    form = {"grant_type": "password", "username": "joe", "password": "secret"}
    token = house.token("asking", "secret", **form).json()["access_token"]
    body = _user_token(house, token).json()
    assert body["access_token"] is None
    assert body["refresh_token"] == body["jti"]
    given = house.token("other", "secret", grant_type="refresh_token", refresh_token=body["refresh_token"])
    claims = claims_of(given.json()["access_token"])
    assert (claims["client_id"], claims["user_name"], claims["grant_type"]) == ("other", "joe", "user_token")
    assert set(claims["scope"]) == {"cloud_controller.read", "openid"}
    assert house.api(given.json()["access_token"]) == 200
    narrow = _user_token(house, token, scope="openid").json()
    assert narrow["scope"] == "openid"
    assert house.token("asking", "secret", grant_type="refresh_token", refresh_token=narrow["jti"]).status_code == 401


def test_who_gets_no_token_for_another_client(house: House) -> None:
    house.user("joe")
    _clients(house)
    form = {"grant_type": "password", "username": "joe", "password": "secret"}
    token = house.token("asking", "secret", **form).json()["access_token"]
    narrow = house.token("asking", "secret", **form, scope="openid").json()["access_token"]
    refused = {
        "no token": _user_token(house, ""),
        "no uaa.user": _user_token(house, narrow),
        "a client without the grant": _user_token(house, house.log_in("joe", "secret")["access_token"]),
        "a client's token": _user_token(house, house.admin()),
        "no such client": _user_token(house, token, client_id="nobody"),
        "a client without refresh tokens": _user_token(house, token, client_id="asking"),
        "a scope that it does not have": _user_token(house, token, scope="cloud_controller.write"),
    }
    expected = {
        "no token": (401, "unauthorized"),
        "no uaa.user": (403, "insufficient_scope"),
        "a client without the grant": (401, "invalid_client"),
        "a client's token": (403, "insufficient_scope"),
        "no such client": (400, "invalid_request"),
        "a client without refresh tokens": (401, "invalid_client"),
        "a scope that it does not have": (400, "invalid_scope"),
    }
    assert {name: (one.status_code, one.json()["error"]) for name, one in refused.items()} == expected
