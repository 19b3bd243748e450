"""What a client needs to log in, over HTTP: grants, claims, errors in UAA's words."""

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from tests.uaa.conftest import Clock
from tests.uaa.house import ADMIN_PASSWORD, House, Platform, basic, claims_of, confused, opened


def test_prompts(house: House) -> None:
    body = house.ok("GET", "/login", headers={"Accept": "application/json"})
    assert body["prompts"]["username"] == ["text", "Email"]
    assert body["prompts"]["password"] == ["password", "Password"]
    assert "http://localhost:9080/uaa/passcode" in body["prompts"]["passcode"][1]
    assert body["links"]["login"] == body["links"]["uaa"] == "http://localhost:9080/uaa"
    assert tuple(int(part) for part in body["app"]["version"].split(".")) >= (4, 26, 0)
    assert house.ok("GET", "/info") == body


def test_password_grant_has_the_claims_of_uaa(house: House) -> None:
    answer = house.token(grant_type="password", username="ADMIN", password=ADMIN_PASSWORD)
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["token_type"] == "bearer"
    assert body["expires_in"] == 1200
    assert body["refresh_token"].endswith("-r")
    keys = KeySet.import_key_set(house.ok("GET", "/token_keys"))
    token = jwt.decode(body["access_token"], keys, algorithms=["RS256"])
    assert token.header["jku"] == "http://localhost:9080/uaa/token_keys"
    assert token.header["typ"] == "JWT"
    claims = token.claims
    user = house.ok("GET", f"/Users/{claims['user_id']}", house.admin())
    assert claims["iss"] == "http://localhost:9080/uaa/oauth/token"
    assert claims["sub"] == claims["user_id"] == user["id"]
    assert claims["user_name"] == claims["email"] == "admin"
    assert claims["origin"] == claims["zid"] == "uaa"
    assert claims["client_id"] == claims["cid"] == claims["azp"] == "cf"
    assert claims["grant_type"] == "password"
    assert claims["exp"] - claims["iat"] == 1200
    assert claims["jti"] == body["jti"]
    assert claims["revocable"] is True
    assert len(claims["rev_sig"]) == 8
    assert set(claims["scope"]) == set(body["scope"].split()) >= {"cloud_controller.admin", "openid", "scim.write"}
    assert {"cf", "cloud_controller", "openid", "scim"} <= set(claims["aud"])
    assert house.api(body["access_token"]) == 200


def test_id_token(house: House) -> None:
    body = house.log_in(scope="openid")
    claims = claims_of(body["id_token"])
    assert claims["aud"] == ["cf"]
    assert claims["user_name"] == "admin"
    assert "scope" not in claims
    assert "id_token" not in house.log_in(scope="cloud_controller.read")
    # An id token says who somebody is; it opens nothing.
    assert house.api(body["id_token"]) == 401
    assert house.get("/userinfo", body["id_token"]).json()["error"] == "invalid_token"


def test_scopes_are_those_of_client_and_user(house: House) -> None:
    house.user("joe", groups=("cloud_controller.admin_read_only",))
    scopes = set(house.log_in("joe", "secret")["scope"].split())
    assert scopes == {
        "cloud_controller.admin_read_only",
        "cloud_controller.read",
        "cloud_controller.write",
        "openid",
        "password.write",
        "uaa.user",
    }
    assert house.log_in("joe", "secret", scope="openid uaa.user")["scope"] == "openid uaa.user"
    wanted = {"grant_type": "password", "username": "joe", "password": "secret"}
    foreign = house.token(**wanted, scope="cloud_controller.admin")
    assert foreign.status_code == 400
    assert foreign.json()["error"] == "invalid_scope"
    assert foreign.json()["error_description"] == (
        "[cloud_controller.admin] is invalid. This user is not allowed any of the requested scopes"
    )
    unknown = house.token(**wanted, scope="uaa.admin")
    assert (unknown.status_code, unknown.json()["error_description"]) == (400, "Invalid scope: uaa.admin")


def test_wrong_credentials_have_one_answer(house: House) -> None:
    house.user("joe")
    answers = [
        house.token(grant_type="password", username=name, password=password)
        for name, password in (("joe", "wrong"), ("nobody", "secret"), ("joe", ""), ("", ""), ("x" * 300, "x"))
    ]
    for answer in answers:
        assert answer.status_code == 401
        assert answer.json() == {"error": "invalid_client", "error_description": "Bad credentials"}
        assert answer.headers["www-authenticate"] == (
            'Basic realm="UAA/client", error="unauthorized", error_description="Bad credentials"'
        )


_BAD_REQUESTS: list[tuple[dict[str, str], int, str, str]] = [
    ({}, 400, "invalid_request", "Missing grant type"),
    ({"grant_type": "x"}, 400, "unsupported_grant_type", "Unsupported grant type: x"),
    (
        {"grant_type": "implicit"},
        400,
        "invalid_grant",
        "Implicit grant type not supported from token endpoint",
    ),
    ({"grant_type": "client_credentials"}, 401, "invalid_client", "Unauthorized grant type"),
    ({"grant_type": "refresh_token"}, 400, "invalid_request", "refresh_token parameter not provided"),
    (
        {"grant_type": "password", "client_id": "admin"},
        401,
        "invalid_client",
        "Given client ID does not match authenticated client",
    ),
]


def test_bad_requests(house: House) -> None:
    for form, status, error, text in _BAD_REQUESTS:
        answer = house.token(**form)
        assert (answer.status_code, answer.json()) == (status, {"error": error, "error_description": text})


def test_client_authentication(house: House) -> None:
    secret = house.secrets["admin"]
    form = {"grant_type": "client_credentials"}

    def status(headers: dict[str, str], **more: str) -> tuple[int, Any]:
        answer = house.request("POST", "/oauth/token", data={**form, **more}, headers=headers)
        return answer.status_code, answer.json().get("error_description")

    assert status({}, client_id="admin", client_secret=secret) == (200, None)
    assert status(basic("admin", secret)) == (200, None)
    assert status(basic("admin", "wrong")) == (401, "Bad credentials")
    assert status(basic("nobody", secret)) == (401, "Bad credentials")
    assert status({}, client_id="admin") == (401, "Missing credentials")
    assert status({}) == (401, "Missing credentials")
    assert status({"Authorization": "Basic %%%"}) == (401, "Bad credentials")
    assert status({"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}) == (401, "Bad credentials")
    house.client("a b", "p%:+ü", authorized_grant_types=["client_credentials"], authorities=["uaa.resource"])
    encoded = basic("a%20b", "p%25%3A%2B%C3%BC")
    assert status({**encoded, "X-CF-ENCODED-CREDENTIALS": "true"}) == (200, None)
    assert status(encoded) == (401, "Bad credentials")
    assert status(basic("a b", "p%:+ü")) == (200, None)


def test_the_cf_client_needs_no_secret(house: House) -> None:
    form = {"grant_type": "password", "username": "admin", "password": ADMIN_PASSWORD, "client_id": "cf"}
    assert house.request("POST", "/oauth/token", data=form).status_code == 200
    assert house.request("POST", "/oauth/token", data={**form, "client_secret": ""}).status_code == 200
    assert house.request("POST", "/oauth/token", data={**form, "client_secret": "x"}).status_code == 401


def test_parameters_in_the_query(house: House) -> None:
    query = {"grant_type": "password", "username": "admin", "password": ADMIN_PASSWORD}
    for method in ("GET", "POST"):
        assert house.request(method, "/oauth/token", params=query, headers=basic("cf", "")).status_code == 200


def test_client_credentials(house: House) -> None:
    body = house.token("admin", grant_type="client_credentials").json()
    claims = claims_of(body["access_token"])
    assert "refresh_token" not in body
    assert claims["sub"] == claims["client_id"] == "admin"
    assert set(claims["scope"]) == set(claims["authorities"]) >= {"uaa.admin", "scim.write"}
    assert not {"user_id", "user_name", "origin", "auth_time"} & claims.keys()
    narrow = house.token("admin", grant_type="client_credentials", scope="scim.read").json()
    assert claims_of(narrow["access_token"])["scope"] == ["scim.read"]
    wide = house.token("admin", grant_type="client_credentials", scope="scim.read x.y")
    assert (wide.status_code, wide.json()["error_description"]) == (400, "Invalid scope: x.y")


def test_login_hint(house: House) -> None:
    assert house.log_in(login_hint='{"origin":"uaa"}')
    assert house.log_in(login_hint="%7B%22origin%22%3A%22uaa%22%7D")
    query = {"login_hint": '{"origin":"uaa"}'}
    form = {"grant_type": "password", "username": "admin", "password": ADMIN_PASSWORD}
    answer = house.request("POST", "/oauth/token", params=query, data=form, headers=basic("cf", ""))
    assert answer.status_code == 200
    assert house.token(**form, login_hint="%7B%22origin%22%3A%22ldap%22%7D").status_code == 401
    other = house.token(**form, login_hint='{"origin":"ldap"}')
    assert other.status_code == 401
    assert other.json()["error_description"] == "The origin provided in the login hint is invalid."


def test_refresh(house: House, moving_clock: Clock) -> None:
    house.user("joe", groups=("scim.read",))
    first = house.log_in("joe", "secret")
    moving_clock.forward(1201)
    assert house.api(first["access_token"]) == 401
    again = house.token(grant_type="refresh_token", refresh_token=first["refresh_token"]).json()
    assert again["refresh_token"] == first["refresh_token"]
    before, after = claims_of(first["access_token"]), claims_of(again["access_token"])
    assert after["grant_type"] == "password"
    assert after["auth_time"] == before["auth_time"]
    assert after["exp"] > before["exp"]
    assert after["jti"] != before["jti"]
    assert house.api(again["access_token"]) == 200
    token = first["refresh_token"]
    narrow = house.token(grant_type="refresh_token", refresh_token=token, scope="openid").json()
    assert narrow["scope"] == "openid"
    wide = house.token(grant_type="refresh_token", refresh_token=token, scope="cloud_controller.admin")
    assert (wide.status_code, wide.json()["error"]) == (400, "invalid_scope")
    assert "Unable to narrow the scope of the client authentication to" in wide.json()["error_description"]
    moving_clock.forward(30 * 86_400)
    late = house.token(grant_type="refresh_token", refresh_token=token)
    assert (late.status_code, late.json()["error"]) == (401, "invalid_token")


def test_a_refresh_token_gives_no_more_than_the_user_has_now(house: House) -> None:
    user = house.user("joe", groups=("scim.read",))
    first = house.log_in("joe", "secret")
    assert "scim.read" in first["scope"]
    house.ok("DELETE", f"/Groups/{house.group('scim.read')}/members/{user['id']}", house.admin())
    again = house.token(grant_type="refresh_token", refresh_token=first["refresh_token"]).json()
    assert "scim.read" not in again["scope"]


def test_refresh_tokens_belong_to_a_client(house: House) -> None:
    house.client("other", authorized_grant_types=["refresh_token", "password"], scope=["openid"])
    token = house.log_in()["refresh_token"]
    answer = house.token("other", "secret", grant_type="refresh_token", refresh_token=token)
    assert answer.status_code == 400
    assert answer.json()["error_description"] == "Wrong client for this refresh token: other"
    for bad in ("x", "", token[:-2], token.upper()):
        assert house.token(grant_type="refresh_token", refresh_token=bad).status_code in {400, 401}


def test_discovery_and_keys(house: House) -> None:
    for path in ("/.well-known/openid-configuration", "/oauth/token/.well-known/openid-configuration"):
        body = house.ok("GET", path)
        assert body["issuer"] == claims_of(house.admin())["iss"]
        assert body["jwks_uri"] == "http://localhost:9080/uaa/token_keys"
    answer = house.get("/token_keys")
    (key,) = answer.json()["keys"]
    assert key == house.ok("GET", "/token_key")
    assert {"kty", "e", "n", "use", "kid", "alg", "value"} == key.keys()
    assert RSAKey.import_key(key["value"]).as_dict(private=False)["n"] == key["n"]
    assert house.get("/token_keys", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


def test_check_token(house: House) -> None:
    token = house.log_in()["access_token"]
    as_doppler = basic("doppler", house.secrets["doppler"])

    def check(**form: str) -> Any:
        return house.request("POST", "/check_token", data=form, headers=as_doppler)

    assert check(token=token).json() == claims_of(token)
    assert check(token=token, scopes="openid,scim.read").status_code == 200
    missing = check(token=token, scopes="openid,a.b,c.d")
    assert missing.status_code == 400
    assert missing.json() == {
        "error": "invalid_scope",
        "error_description": "Some requested scopes are missing: a.b,c.d",
    }
    assert check().json()["error_description"] == "Token parameter must be set"
    assert check(token="x").json()["error"] == "invalid_token"
    assert check(token="x.y.z").status_code == 400
    assert house.request("POST", "/check_token", data={"token": token}).status_code == 401
    weak = house.request("POST", "/check_token", data={"token": token}, headers=basic("cf", ""))
    assert (weak.status_code, weak.json()["error"]) == (403, "insufficient_scope")


def test_introspection(house: House) -> None:
    token = house.log_in()["access_token"]
    as_doppler = basic("doppler", house.secrets["doppler"])
    good = house.request("POST", "/introspect", data={"token": token}, headers=as_doppler).json()
    assert good == {**claims_of(token), "active": True}
    bad = house.request("POST", "/introspect", data={"token": token[:-4]}, headers=as_doppler).json()
    assert bad == {"active": False}
    assert house.request("POST", "/introspect", house.admin(), data={"token": token}).json()["active"] is True
    assert house.request("POST", "/introspect", token, data={"token": token}).status_code == 403


def test_userinfo(house: House) -> None:
    made = house.user("joe", more={"name": {"givenName": "Joe", "familyName": "Doe"}})
    body = house.ok("GET", "/userinfo", house.log_in("joe", "secret")["access_token"])
    assert body["sub"] == body["user_id"] == made["id"]
    assert body["user_name"] == "joe"
    assert body["email"] == "joe@example.org"
    assert body["name"] == "Joe Doe"
    narrow = house.log_in("joe", "secret", scope="uaa.user")["access_token"]
    refused = house.get("/userinfo", narrow)
    assert (refused.status_code, refused.json()["scope"]) == (403, "openid")
    assert house.get("/userinfo", house.admin()).status_code == 403
    none = house.get("/userinfo")
    assert none.status_code == 401
    assert none.json()["error"] == "unauthorized"
    assert none.headers["www-authenticate"].startswith('Bearer realm="UAA/oauth", error="unauthorized"')


def test_opaque_tokens(house: House, moving_clock: Clock) -> None:
    body = house.log_in(token_format="opaque")
    token = body["access_token"]
    assert "." not in token
    assert house.ok("GET", "/userinfo", token)["user_name"] == "admin"
    as_doppler = basic("doppler", house.secrets["doppler"])
    claims = house.request("POST", "/check_token", data={"token": token}, headers=as_doppler).json()
    assert claims["user_name"] == "admin"
    refreshed = house.token(grant_type="refresh_token", refresh_token=body["refresh_token"]).json()
    assert "." not in refreshed["access_token"]
    moving_clock.forward(1201)
    assert house.get("/userinfo", token).status_code == 401
    client = house.token("admin", grant_type="client_credentials", token_format="opaque").json()["access_token"]
    assert house.get("/Users", client).status_code == 200
    assert house.request("DELETE", f"/oauth/token/revoke/{client}", house.log_in()["access_token"]).status_code == 404
    assert house.request("DELETE", f"/oauth/token/revoke/{client}", client).status_code == 200
    assert house.get("/Users", client).status_code == 401


def test_forged_tokens(house: House) -> None:
    good = house.log_in()["access_token"]
    claims, kid = claims_of(good), house.ok("GET", "/token_key")["kid"]
    own_key, public = RSAKey.generate_key(2048), house.ok("GET", "/token_key")["value"]
    head, body, signature = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    forged = [
        jwt.encode({"alg": "RS256", "kid": kid}, claims, own_key),
        jwt.encode({"alg": "RS256", "kid": "other"}, claims, own_key),
        jwt.encode({"alg": "RS256"}, claims, own_key),
        confused(claims, kid, public),
        f"{none}.{body}.",
        f"{none}.{body}.{signature}",
        f"{head}.{body}.{signature[:-2]}AA",
        f"{head}.{body}.",
        f"{head}.{body}",
        "..",
        "x" * 10_000,
    ]
    for token in forged:
        assert house.api(token) == 401, token
        answer = house.get("/Users", token)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token"), token
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_claims_that_are_not_ours(house: House) -> None:
    claims = claims_of(house.log_in()["access_token"])

    def signed(**changed: Any) -> str:
        complete = {key: value for key, value in {**claims, **changed}.items() if value is not ...}
        return house.identity.keys.sign(complete, "http://localhost:9080/uaa/token_keys")

    now = claims["iat"]
    assert house.api(signed()) == 200
    for changed in (
        {"iss": "http://elsewhere/oauth/token"},
        {"iss": None},
        {"exp": now - 1},
        {"exp": "later"},
        {"exp": ...},
        {"nbf": now + 60},
        {"scope": "openid"},
        {"jti": "a-r"},
    ):
        assert house.api(signed(**changed)) == 401, changed
        assert house.get("/Users", signed(**changed)).status_code == 401, changed
    assert house.api(signed(aud=["scim"])) == 401
    assert house.get("/Users", "x", headers={}).status_code == 401


def test_lockout(house: House, moving_clock: Clock) -> None:
    for name in ("joe", "nobody"):
        if name == "joe":
            house.user("joe")
        for _ in range(5):
            answer = house.token(grant_type="password", username=name.upper(), password="wrong")
            assert answer.json()["error_description"] == "Bad credentials"
        answer = house.token(grant_type="password", username=name, password="secret")
        assert answer.status_code == 401
        # Names of nobody are locked as well: the lock tells nothing.
        assert answer.json() == {
            "error": "unauthorized",
            "error_description": "Your account has been locked because of too many failed attempts to login.",
        }
    moving_clock.forward(301)
    assert house.log_in("joe", "secret")
    for _ in range(4):
        house.token(grant_type="password", username="joe", password="wrong")
    assert house.log_in("joe", "secret")
    for _ in range(4):
        house.token(grant_type="password", username="joe", password="wrong")
    assert house.log_in("joe", "secret"), "a good login forgets the bad ones"


def test_failures_far_apart_do_not_lock(house: House, moving_clock: Clock) -> None:
    house.user("joe")
    for _ in range(7):
        house.token(grant_type="password", username="joe", password="wrong")
        moving_clock.forward(1201)
    assert house.log_in("joe", "secret")


def test_users_who_may_not_log_in(house: House) -> None:
    admin = house.admin()
    house.user("off", more={"active": False})
    house.user("unverified", more={"verified": False})
    forced = house.user("forced")
    house.ok("PATCH", f"/Users/{forced['id']}/status", admin, {"passwordChangeRequired": True})

    def told(name: str, password: str = "secret") -> tuple[int, str, str]:
        answer = house.token(grant_type="password", username=name, password=password)
        return answer.status_code, answer.json()["error"], answer.json()["error_description"]

    assert told("off") == (401, "invalid_client", "Bad credentials")
    assert told("unverified") == (403, "access_denied", "Account not verified")
    assert told("unverified", "wrong") == (401, "invalid_client", "Bad credentials")
    assert told("forced") == (401, "unauthorized", "password change required")
    unverified = house.ok("GET", "/Users", admin, params={"filter": 'userName eq "unverified"'})["resources"][0]
    assert house.ok("GET", f"/Users/{unverified['id']}/verify", admin)["verified"] is True
    assert house.log_in("unverified", "secret")


def test_forms_have_a_limit(house: House) -> None:
    big = house.token(grant_type="password", username="admin", password="x" * 70_000)
    assert (big.status_code, big.json()["error"]) == (413, "invalid_request")
    many = house.token(**{f"field{number}": "x" for number in range(300)})
    assert (many.status_code, many.json()["error"]) == (400, "invalid_request")
    for raw in (b"grant_type=%ff", b"grant_type=password&username=a%00b", b"\xff"):
        headers = {**basic("cf", ""), "Content-Type": "application/x-www-form-urlencoded"}
        answer = house.request("POST", "/oauth/token", content=raw, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request"), raw


def test_odd_characters(house: House) -> None:
    for token in ("\xfc.\xfc.\xfc", "a.\xfc.c", "\xff" * 10):
        answer = house.get("/Users", headers={b"Authorization": b"Bearer " + token.encode("latin-1")})
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
    headers = {"Content-Type": "application/json"}
    for raw in (b'{"userName": "\\ud800"}', b"\xff", b"[" * 100_000, b"", b"null"):
        answer = house.request("POST", "/Users", house.admin(), content=raw, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scim_resource"), raw
    long = house.post("/Users", house.admin(), {"userName": "\u0130" * 250, "password": "x"})
    assert long.status_code == 400, "two characters each in lower case"
    assert house.user("\u00c9va")["userName"] == "\u00c9va"
    assert house.log_in("\u00e9VA", "secret")
    assert house.ok("GET", "/Users", house.admin(), params={"filter": 'userName eq "\u00e9va"'})["totalResults"] == 1


def test_a_flood_of_logins_does_not_make_everybody_wait(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cupola.uaa.service._WAITING", 2)
    with opened(platform, identity__shared_secret_argon2_memory_kib=8192) as house:
        token = house.admin()

        def attempt(number: int) -> int:
            answer = house.token(grant_type="password", username=f"nobody-{number}", password="x")
            if answer.status_code == 503:
                assert answer.json()["error"] == "temporarily_unavailable"
                assert answer.headers["retry-after"] == "5"
            return int(answer.status_code)

        with ThreadPoolExecutor(12) as threads:
            statuses = set(threads.map(attempt, range(40)))
        assert statuses == {401, 503}
        assert house.get("/Users", token).status_code == 200
        assert house.log_in()


def test_unknown_paths_and_methods(house: House) -> None:
    assert house.get("/nothing").json()["error"] == "not_found"
    wrong = house.request("DELETE", "/oauth/token")
    assert (wrong.status_code, wrong.json()["error"]) == (405, "method_not_allowed")
    assert house.get("/Users/%00", house.admin()).status_code == 400
