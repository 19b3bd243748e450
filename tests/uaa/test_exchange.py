"""Signed statements: private_key_jwt of clients, tokens of ours handed in for others."""

import time
import uuid
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey

from cupola.uaa.scopes import JWT_BEARER, TOKEN_EXCHANGE
from tests.uaa.conftest import Clock
from tests.uaa.house import House, basic, claims_of, confused

ISSUER = "http://localhost:9080/uaa/oauth/token"
TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ACCESS = "urn:ietf:params:oauth:token-type:access_token"
ID = "urn:ietf:params:oauth:token-type:id_token"


def _assertion(key: Any, kid: str = "k1", alg: str = "RS256", **changed: Any) -> str:
    now = int(time.time())
    claims = {"iss": "robot", "sub": "robot", "aud": ISSUER, "exp": now + 300, "jti": uuid.uuid4().hex, **changed}
    header = {"alg": alg, "kid": kid}
    given = {name: value for name, value in claims.items() if value is not ...}
    return jwt.encode(header, given, key, algorithms=[alg])


def test_private_key_jwt(house: House) -> None:
    key, other = RSAKey.generate_key(2048), RSAKey.generate_key(2048)
    public = {**key.as_dict(private=False), "kid": "k1"}
    authority = ["cloud_controller.read"]
    robot = {"authorized_grant_types": ["client_credentials"], "authorities": authority, "jwks": {"keys": [public]}}
    made = house.client("robot", None, **robot)
    assert made["jwks"]["keys"][0]["n"] == public["n"]

    def prove(assertion: str, **more: str) -> Any:
        form = {"grant_type": "client_credentials", "client_assertion": assertion, "client_assertion_type": TYPE}
        return house.request("POST", "/oauth/token", data={**form, **more})

    good = prove(_assertion(key))
    assert good.status_code == 200
    assert claims_of(good.json()["access_token"])["client_auth_method"] == "private_key_jwt"
    assert house.api(good.json()["access_token"]) == 200
    assert prove(_assertion(key, aud=["x", ISSUER]), client_id="robot").status_code == 200
    once = _assertion(key)
    assert [prove(once).status_code for _ in range(2)] == [200, 401], "each is good once"
    nameless = _assertion(key, jti=...)
    assert [prove(nameless).status_code for _ in range(2)] == [200, 401]
    now = int(time.time())
    claims = {"iss": "robot", "sub": "robot", "aud": ISSUER, "exp": now + 300}
    for bad in (
        _assertion(other),
        _assertion(key, kid="k2"),
        _assertion(key, alg="RS384"),
        confused(claims, "k1", key.as_pem(private=False).decode()),
        _assertion(key, iss="other"),
        _assertion(key, sub="cf"),
        _assertion(key, sub="nobody"),
        _assertion(key, aud="https://elsewhere"),
        _assertion(key, aud=...),
        _assertion(key, exp=now - 1),
        _assertion(key, exp=...),
        _assertion(key, exp=now + 7200),
        _assertion(key, nbf=now + 100),
        "x",
        "a.b.c",
        ".e30.",
        house.identity.keys.sign(claims, "http://localhost/token_keys"),
    ):
        answer = prove(bad)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), bad
    assert prove(_assertion(key), client_assertion_type="x").status_code == 401
    assert prove(_assertion(key), client_id="cf").status_code == 401
    assert prove(_assertion(key), client_secret="x").json()["error"] == "invalid_request"
    assert house.token("robot", "", grant_type="client_credentials").status_code == 401, "there is no secret"


def test_keys_of_clients_are_rotated(house: House) -> None:
    keys = {kid: RSAKey.generate_key(2048) for kid in ("k1", "k2")}
    public = {kid: {**key.as_dict(private=False), "kid": kid} for kid, key in keys.items()}
    house.client(
        "robot", None, authorized_grant_types=["client_credentials"], jwks={"keys": [public["k1"]]}, authorities=["a.b"]
    )

    def works(kid: str) -> bool:
        form = {"client_assertion": _assertion(keys[kid], kid), "client_assertion_type": TYPE}
        answer = house.request("POST", "/oauth/token", data={**form, "grant_type": "client_credentials"})
        return bool(answer.status_code == 200)

    def change(**body: Any) -> Any:
        return house.ok("PUT", "/oauth/clients/robot/clientjwt", house.admin(), body)["message"]

    assert (works("k1"), works("k2")) == (True, False)
    assert change(changeMode="ADD", jwks={"keys": [public["k2"]]}) == "Client jwt configuration is added"
    assert (works("k1"), works("k2")) == (True, True)
    change(changeMode="DELETE", kid="k1")
    assert (works("k1"), works("k2")) == (False, True)
    change(jwks={"keys": [public["k1"]]})
    assert (works("k1"), works("k2")) == (True, False)
    bad: list[Any] = [{"keys": []}, {"keys": [{"kty": "oct", "k": "x", "kid": "x"}]}, "x", {"keys": [{"kty": "RSA"}]}]
    for jwks in [*bad, None]:
        answer = house.request("PUT", "/oauth/clients/robot/clientjwt", house.admin(), json={"jwks": jwks})
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")
    private = {**keys["k1"].as_dict(private=True), "kid": "k1"}
    change(jwks={"keys": [private]})
    assert "d" not in house.ok("GET", "/oauth/clients/robot", house.admin())["jwks"]["keys"][0]


def test_jwt_bearer(house: House, moving_clock: Clock) -> None:
    """As `cf auth --assertion` uses it."""
    joe = house.user("joe")

    def bearer(assertion: str, client: str = "cf", secret: str = "") -> Any:
        form = {"grant_type": JWT_BEARER, "assertion": assertion}
        return house.request("POST", "/oauth/token", data=form, headers=basic(client, secret))

    first = house.log_in("joe", "secret")
    for assertion in (first["access_token"], first["id_token"]):
        answer = bearer(assertion)
        assert answer.status_code == 200, answer.text
        claims = claims_of(answer.json()["access_token"])
        assert claims["user_name"] == "joe"
        assert claims["grant_type"] == JWT_BEARER
        assert claims["auth_time"] == claims_of(first["access_token"])["auth_time"]
        assert house.api(answer.json()["access_token"]) == 200
        assert claims["exp"] <= claims_of(assertion)["exp"]
        assert "refresh_token" not in answer.json(), "twenty minutes do not become a month"
    house.client("other", authorized_grant_types=[JWT_BEARER, "password"], scope=["openid", "uaa.user"])
    foreign = house.token("other", "secret", grant_type="password", username="joe", password="secret").json()
    narrow = house.log_in("joe", "secret", scope="cloud_controller.read")["access_token"]
    refused = {
        "": "invalid_request",
        "x": "invalid_grant",
        "a.b.c": "invalid_grant",
        foreign["access_token"]: "invalid_grant",
        foreign["id_token"]: "invalid_grant",
        narrow: "invalid_grant",
        house.admin(): "invalid_grant",
        first["access_token"][:-4] + "AAAA": "invalid_grant",
        first["refresh_token"]: "invalid_grant",
    }
    for assertion, error in refused.items():
        answer = bearer(assertion)
        assert (answer.status_code, answer.json()["error"]) == (400, error), assertion
    assert bearer(foreign["access_token"], "other", "secret").status_code == 200
    moving_clock.forward(600)
    late = bearer(first["access_token"]).json()
    assert 500 < late["expires_in"] <= 600
    parent = house.log_in("joe", "secret")["access_token"]
    child = bearer(parent).json()["access_token"]
    house.request("DELETE", f"/oauth/token/revoke/{claims_of(parent)['jti']}", parent)
    assert house.api(child) == 401, "it belongs to the login that was ended"
    moving_clock.forward(601)
    assert house.api(late["access_token"]) == 401
    moving_clock.forward(-1)
    moving_clock.forward(1201)
    assert bearer(first["access_token"]).json()["error_description"] == "Token has expired"
    second = house.log_in("joe", "secret")
    house.ok("GET", f"/oauth/token/revoke/user/{joe['id']}", house.admin())
    assert bearer(second["access_token"]).json()["error"] == "invalid_grant"
    assert bearer(second["id_token"]).json()["error"] == "invalid_grant"


def test_token_exchange(house: House) -> None:
    house.user("joe")
    scope = ["cloud_controller.read", "cloud_controller.write", "openid", "uaa.user"]
    house.client("front", authorized_grant_types=["password", TOKEN_EXCHANGE], scope=[*scope, "back.use"])
    house.client("back", authorized_grant_types=[TOKEN_EXCHANGE, "refresh_token"], scope=scope)
    house.ok("POST", "/Groups", house.admin(), {"displayName": "back.use"}, 201)
    joe = house.ok("GET", "/Users", house.admin(), params={"filter": 'userName eq "joe"'})["resources"][0]
    house.ok("POST", f"/Groups/{house.group('back.use')}/members", house.admin(), {"value": joe["id"]}, 201)
    form = {"grant_type": "password", "username": "joe", "password": "secret"}
    given = house.token("front", "secret", **form, scope="back.use uaa.user cloud_controller.read openid").json()
    assert "back" in claims_of(given["access_token"])["aud"], "a scope of the other's makes it the other's business"

    def exchange(client: str = "back", **more: str) -> Any:
        basis = {"subject_token": given["access_token"], "subject_token_type": ACCESS}
        return house.token(client, "secret", grant_type=TOKEN_EXCHANGE, **{**basis, **more})

    body = exchange().json()
    claims = claims_of(body["access_token"])
    assert body["issued_token_type"] == ACCESS
    assert "refresh_token" not in body
    assert claims["client_id"] == "back"
    assert claims["user_name"] == "joe"
    # Never more than the token that was handed in.
    assert set(claims["scope"]) == {"cloud_controller.read", "openid", "uaa.user"}
    assert exchange(scope="cloud_controller.write").json()["error"] == "invalid_scope"
    narrow = claims_of(exchange(audience="cloud_controller").json()["access_token"])
    assert narrow["scope"] == ["cloud_controller.read"]
    assert exchange(audience="elsewhere").json()["error"] == "invalid_target"
    assert exchange(subject_token_type="x").json()["error"] == "invalid_request"
    assert exchange(requested_token_type="x").json()["error"] == "invalid_request"
    assert exchange(actor_token="x").json()["error"] == "invalid_request"
    assert exchange(subject_token=house.admin()).json()["error"] == "invalid_grant"
    assert exchange("front", subject_token=given["id_token"], subject_token_type=ID).status_code == 200
    assert exchange("back", subject_token=given["id_token"], subject_token_type=ID).json()["error"] == "invalid_grant"
    assert house.token(grant_type=TOKEN_EXCHANGE).json()["error_description"] == "Unauthorized grant type"
