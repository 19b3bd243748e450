"""Users of OpenID Connect providers: browsers that go there and come back, what the provider says of them, roles."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from tests.uaa.conftest import Clock
from tests.uaa.house import House, Platform, claims_of, confused, opened, query_of
from tests.uaa.provider import CLIENT, SECRET, Provider, came_back, logged_in, running, settings_of

Make = Callable[..., House]


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running() as found:
        yield found


@pytest.fixture
def make(platform: Platform, provider: Provider, tmp_path: Path) -> Iterator[Make]:
    """A platform with the provider `corp`; the arguments are more of its settings."""
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    with ExitStack() as stack:

        def made(flags: dict[str, Any] | None = None, **more: Any) -> House:
            oidc = {"corp": settings_of(provider, str(file), **more)}
            return stack.enter_context(opened(platform, identity__oidc=oidc, **(flags or {})))

        yield made


def test_login(make: Make, provider: Provider) -> None:
    house, provider.alter = make(), lambda claims: claims
    provider.add("joe@corp.example", email="joe@corp.example", email_verified=True, given_name="Joe", family_name="Doe")
    visitor = house.browser()
    page = visitor.get("/login", params={"next": "/passcode"}).text
    assert "Log in with corp" in page
    assert "/login/start/corp?next=%2Fpasscode" in page
    body = logged_in(house, visitor, provider)
    claims = claims_of(body["access_token"])
    assert (claims["user_name"], claims["origin"], claims["email"]) == ("joe@corp.example", "corp", "joe@corp.example")
    assert claims["amr"] == ["ext", "oauth"]
    assert house.api(body["access_token"]) == 200
    (user,) = house.ok("GET", "/Users", house.admin(), params={"filter": 'origin eq "corp"'})["resources"]
    assert user["externalId"] == "sub-of-joe@corp.example"
    assert user["name"] == {"givenName": "Joe", "familyName": "Doe"}
    assert user["verified"] is True
    # The second time it is the same user, as the provider now says.
    provider.add("joe@corp.example", email="new@corp.example", email_verified=False)
    again = claims_of(logged_in(house, house.browser(), provider)["access_token"])
    assert (again["user_id"], again["email"]) == (claims["user_id"], "new@corp.example")
    assert house.ok("GET", f"/Users/{user['id']}", house.admin())["verified"] is False
    assert house.get("/login", headers={"Accept": "application/json"}).json()["oauthLinks"] == {
        "corp": f"{house.settings.login_url}/login/start/corp"
    }


def test_what_the_provider_is_asked(make: Make, provider: Provider) -> None:
    house = make(scopes=["openid", "groups"])
    provider.add("joe")
    sent = house.browser().get("/login/start/corp").headers["location"]
    asked = query_of(sent)
    assert sent.startswith(f"{provider.issuer}/authorize?")
    assert (asked["response_type"], asked["client_id"], asked["scope"]) == ("code", CLIENT, "openid groups")
    assert asked["redirect_uri"] == f"{house.settings.login_url}/login/callback/corp"
    assert asked["code_challenge_method"] == "S256"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    other = query_of(house.browser().get("/login/start/corp").headers["location"])
    assert {asked[name] for name in ("state", "nonce", "code_challenge")}.isdisjoint(other.values())
    logged_in(house, house.browser(), provider)
    assert provider.forms[-1]["grant_type"] == "authorization_code"
    assert "client_secret" not in provider.forms[-1], "it is in the header"
    # Described and its keys fetched once for all logins.
    assert provider.asked.count("/.well-known/openid-configuration") == 1
    logged_in(house, house.browser(), provider)
    assert provider.asked.count("/keys") == 1


@pytest.mark.parametrize("way", ["post", "basic"])
def test_ways_of_the_client_to_prove_itself(make: Make, provider: Provider, way: str) -> None:
    house = make(client_authentication=way)
    provider.add("joe")
    logged_in(house, house.browser(), provider)
    assert ("client_secret" in provider.forms[-1]) == (way == "post")


def test_a_provider_without_discovery(make: Make, provider: Provider) -> None:
    parts = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
    house = make(**{name: f"{provider.issuer}/{path}" for name, path in parts.items()})
    provider.add("joe")
    logged_in(house, house.browser(), provider)
    assert "/.well-known/openid-configuration" not in provider.asked


def test_the_way_back(make: Make, provider: Provider) -> None:
    """One comes back to where one was going, and to our own pages only."""
    house = make()
    provider.add("joe")
    grants, back = ["authorization_code"], "https://app.example/cb"
    house.client("web", authorized_grant_types=grants, redirect_uri=[back], scope=["openid"], autoapprove=["true"])
    visitor = house.browser()
    query = {"response_type": "code", "client_id": "web", "redirect_uri": back, "scope": "openid", "state": "s"}
    to_login = visitor.get("/oauth/authorize", params=query).headers["location"]
    next_ = query_of(to_login)["next"]
    onwards = came_back(house, visitor, provider, next_).headers["location"]
    arrived = visitor.get(onwards).headers["location"]
    assert arrived.startswith(back)
    code = query_of(arrived)["code"]
    body = house.token("web", "secret", grant_type="authorization_code", code=code, redirect_uri=back).json()
    assert claims_of(body["id_token"])["origin"] == "corp"
    assert claims_of(body["id_token"])["amr"] == ["ext", "oauth"]
    for bad in ("https://evil.example/", "//evil.example", "/login.do", "/\\evil.example"):
        answer = came_back(house, house.browser(), provider, bad)
        assert answer.headers["location"] == f"{house.prefix}/"


def test_hints_and_allowed_providers(make: Make, provider: Provider) -> None:
    house = make(link_text="The company")
    provider.add("joe")
    back = "https://app.example/cb"
    web: dict[str, Any] = {
        "authorized_grant_types": ["authorization_code"],
        "redirect_uri": [back],
        "scope": ["openid"],
    }
    house.client("web", **web)
    house.client("company", **web, allowedproviders=["corp"])
    house.client("ours", **web, allowedproviders=["uaa"])

    def login_page(client: str, **more: str) -> Any:
        visitor = house.browser()
        query = {"response_type": "code", "client_id": client, "redirect_uri": back, **more}
        return visitor.get(visitor.get("/oauth/authorize", params=query).headers["location"])

    both = login_page("web").text
    assert "Log in with The company" in both
    assert 'name="password"' in both
    hinted = login_page("web", login_hint='{"origin":"corp"}')
    assert "/login/start/corp?" in hinted.headers["location"]
    assert "/login/start/corp?" in login_page("company").headers["location"]
    ours = login_page("ours")
    assert "The company" not in ours.text
    assert 'name="password"' in ours.text
    form = login_page("web", login_hint='{"origin":"uaa"}').text
    assert 'name="login_hint"' in form
    # A fresh login is asked of the provider, too.
    fresh = login_page("company", prompt="login").headers["location"]
    sent = house.browser().get(fresh.removeprefix(house.prefix)).headers["location"]
    assert query_of(sent)["prompt"] == "login"
    # Who comes by a provider that the client does not take is told so.
    visitor = house.browser()
    came_back(house, visitor, provider)
    answer = visitor.get(
        "/oauth/authorize", params={"response_type": "code", "client_id": "ours", "redirect_uri": back}
    )
    assert query_of(answer.headers["location"])["error"] == "access_denied"


def test_prompts(make: Make) -> None:
    house = make()
    ask: dict[str, Any] = {"headers": {"Accept": "application/json"}}
    assert set(house.get("/login", **ask).json()["prompts"]) == {"username", "password", "passcode"}
    assert set(house.get("/login?origin=corp", **ask).json()["prompts"]) == {"passcode"}
    hint = house.token(grant_type="password", username="x", password="y", login_hint='{"origin":"corp"}')
    assert hint.status_code == 401
    assert "password grant" in hint.json()["error_description"]
    unknown = house.token(grant_type="password", username="x", password="y", login_hint='{"origin":"nowhere"}')
    assert unknown.json()["error_description"] == "The origin provided in the login hint is invalid."


# Attributes and groups


def test_attributes_and_groups(make: Make, provider: Provider) -> None:
    house = make(
        attributes={
            "user_name": "upn",
            "given_name": "names.first",
            "external_groups": "realm_access.roles",
            "user.attribute.department": "dept",
        },
        groups={"platform": ["cloud_controller.admin", "scim.read"], "audit": ["cloud_controller.global_auditor"]},
    )
    house.ok("POST", "/Groups", house.admin(), {"displayName": "team"}, 201)
    claims: dict[str, Any] = {
        "upn": "joe",
        "names": {"first": "Joe"},
        "realm_access": {"roles": ["platform", "x"]},
        "dept": ["R", "D"],
    }
    provider.add("someone", **claims)
    body = logged_in(house, house.browser(), provider)
    token = claims_of(body["access_token"])
    assert token["user_name"] == "joe"
    assert {"cloud_controller.admin", "scim.read"} <= set(token["scope"])
    assert house.ok("GET", f"/Users/{token['user_id']}", house.admin())["name"]["givenName"] == "Joe"
    mine = {"value": token["user_id"], "type": "USER", "origin": "corp"}
    house.ok("POST", f"/Groups/{house.group('team')}/members", house.admin(), mine, 201)
    house.ok("POST", f"/Groups/{house.group('scim.write')}/members", house.admin(), mine, 201)
    # What the provider no longer says is taken away at the next login; what was given here stays.
    claims["realm_access"] = {"roles": ["audit"]}
    provider.add("someone", **claims)
    token = claims_of(logged_in(house, house.browser(), provider)["access_token"])
    assert {"cloud_controller.global_auditor", "scim.write"} <= set(token["scope"])
    assert not {"cloud_controller.admin", "scim.read"} & set(token["scope"])
    shown = house.ok("GET", f"/Users/{token['user_id']}", house.admin())["groups"]
    assert "team" in {group["display"] for group in shown}
    # A group that both gave stays when one of them takes it back.
    house.ok("POST", f"/Groups/{house.group('scim.read')}/members", house.admin(), mine, 201)
    claims["realm_access"] = {"roles": ["platform"]}
    provider.add("someone", **claims)
    logged_in(house, house.browser(), provider)
    claims["realm_access"] = {"roles": []}
    provider.add("someone", **claims)
    token = claims_of(logged_in(house, house.browser(), provider)["access_token"])
    assert "scim.read" in token["scope"]
    # Custom attributes are for clients that may see them.
    grants: dict[str, Any] = {
        "authorized_grant_types": ["authorization_code"],
        "redirect_uri": ["https://app.example/"],
    }
    house.client("web", **grants, scope=["openid", "user_attributes"], autoapprove=["true"])
    visitor = house.browser()
    came_back(house, visitor, provider)
    query = {"response_type": "code", "client_id": "web", "redirect_uri": "https://app.example/"}
    code = query_of(visitor.get("/oauth/authorize", params=query).headers["location"])["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": "https://app.example/"}
    given = house.token("web", "secret", **form).json()
    info = house.ok("GET", "/userinfo", given["access_token"])
    assert info["user_attributes"] == {"department": ["R", "D"]}


def test_userinfo(make: Make, provider: Provider) -> None:
    house = make(userinfo=True)
    provider.add("joe")
    user = claims_of(logged_in(house, house.browser(), provider)["access_token"])["user_id"]
    numbers = house.ok("GET", f"/Users/{user}", house.admin())["phoneNumbers"]
    assert numbers == [{"value": "+49 30 1"}]
    provider.faults["/userinfo"] = lambda: (200, {"sub": "somebody-else", "phone_number": "1"})
    answer = came_back(house, house.browser(), provider)
    assert "error=provider_refused" in answer.headers["location"]


def test_role_by_name_and_origin(make: Make, provider: Provider) -> None:
    """An organization manager names somebody who was never here; the role is there at the first login."""
    house = make({"identity__allow_user_creation_by_org_manager": True})
    admin = house.log_in()["access_token"]
    headers = {"Authorization": f"bearer {admin}"}
    org = house.http.get("/v3/organizations", headers=headers).json()["resources"][0]["guid"]
    data = {"username": "joe@corp.example", "origin": "corp"}
    body = {
        "type": "organization_user",
        "relationships": {"user": {"data": data}, "organization": {"data": {"guid": org}}},
    }
    made = house.http.post("/v3/roles", json=body, headers=headers)
    assert made.status_code == 201, made.text
    guid = made.json()["relationships"]["user"]["data"]["guid"]
    provider.add("joe@corp.example")
    token = logged_in(house, house.browser(), provider)["access_token"]
    assert claims_of(token)["user_id"] == guid
    seen = house.http.get("/v3/organizations", headers={"Authorization": f"bearer {token}"}).json()
    assert [one["guid"] for one in seen["resources"]] == [org]
    # The same name of another origin is another user.
    house.user("joe@corp.example")
    again = {**body, "type": "organization_auditor"}
    again["relationships"] = {**again["relationships"], "user": {"data": {"username": "joe@corp.example"}}}  # type: ignore[dict-item]  # a JSON body
    answer = house.http.post("/v3/roles", json=again, headers=headers)
    assert answer.status_code == 422
    assert "corp, uaa" in answer.text


def test_a_name_that_was_somebody_else(make: Make, provider: Provider) -> None:
    """A provider gives names again; what somebody had here does not pass on to the next one of the name."""
    house = make()
    provider.add("joe", sub="first")
    first = claims_of(logged_in(house, house.browser(), provider)["access_token"])
    provider.add("joe", sub="second")
    assert "error=provider_refused" in came_back(house, house.browser(), provider).headers["location"]
    # Who is known by `sub` may get another name.
    provider.add("joseph", sub="first")
    second = claims_of(logged_in(house, house.browser(), provider)["access_token"])
    assert (second["user_id"], second["user_name"]) == (first["user_id"], "joseph")
    # Now the name is free.
    provider.add("joe", sub="second")
    assert claims_of(logged_in(house, house.browser(), provider)["access_token"])["user_id"] != first["user_id"]


def test_first_logins_at_once(make: Make, provider: Provider) -> None:
    """One user is made, and everybody gets in."""
    house = make(
        password_grant=True, attributes={"external_groups": "g"}, groups={"new": ["made.now"], "x": ["scim.read"]}
    )
    provider.add("joe", g=["new", "x"])
    hint = {"login_hint": '{"origin":"corp"}'}
    gate = threading.Barrier(6)

    def log_in(_: int) -> Any:
        gate.wait()
        return house.token(grant_type="password", username="joe", password="secret", **hint)

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(log_in, range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6, [answer.text for answer in answers]
    assert len({claims_of(answer.json()["access_token"])["user_id"] for answer in answers}) == 1
    assert {"scim.read"} <= set(claims_of(answers[0].json()["access_token"])["scope"])


def test_users_who_may_not(make: Make, provider: Provider) -> None:
    house = make(create_users=False)
    provider.add("joe")
    assert "error=provider_refused" in came_back(house, house.browser(), provider).headers["location"]
    user = house.user("joe", more={"origin": "corp", "password": None})
    token = logged_in(house, house.browser(), provider)["access_token"]
    assert claims_of(token)["user_id"] == user["id"]
    put = {
        "userName": "joe",
        "emails": [{"value": "joe"}],
        "active": False,
        "origin": "corp",
        "externalId": "sub-of-joe",
    }
    house.ok("PUT", f"/Users/{user['id']}", house.admin(), put, headers={"If-Match": "*"})
    assert house.api(token) == 401
    assert "error=provider_refused" in came_back(house, house.browser(), provider).headers["location"]
    page = house.browser().get("/login", params={"error": "provider_refused"}).text
    assert 'role="alert"' in page
    assert "administrator" in page


# What is not believed


def _outcome(house: House, provider: Provider) -> str:
    location = came_back(house, house.browser(), provider).headers["location"]
    return query_of(location).get("error", "in")


def test_id_tokens_that_are_not_good(make: Make, provider: Provider) -> None:
    house = make()
    provider.add("joe")
    now = int(time.time())
    assert _outcome(house, provider) == "in"
    changes: list[dict[str, Any]] = [
        {"iss": "https://elsewhere.example"},
        {"iss": provider.issuer + "/"},
        {"aud": "another client"},
        {"aud": ["another client"]},
        {"aud": [CLIENT, "another client"]},
        {"aud": [CLIENT, "another client"], "azp": "another client"},
        {"azp": "another client"},
        {"exp": now - 3600},
        {"exp": None},
        {"exp": "tomorrow"},
        {"iat": now + 3600},
        {"iat": None},
        {"nbf": now + 3600},
        {"nonce": "of another login"},
        {"nonce": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"preferred_username": "x" * 256},
    ]
    for change in changes:
        provider.alter = lambda claims, change=change: {  # type: ignore[misc]  # a default binds the loop's value
            name: value for name, value in {**claims, **change}.items() if value is not None
        }
        assert _outcome(house, provider) == "provider_refused", change
    provider.alter = lambda claims: {**claims, "aud": [CLIENT, "another client"], "azp": CLIENT}
    assert _outcome(house, provider) == "in"
    people = house.ok("GET", "/Users", house.admin(), params={"filter": 'origin eq "corp"'})["resources"]
    assert [one["userName"] for one in people] == ["joe"]


def test_signatures_that_are_not_good(make: Make, provider: Provider) -> None:
    house = make()
    provider.add("joe")
    assert _outcome(house, provider) == "in"
    stranger = RSAKey.generate_key(2048, private=True)
    public = provider.keys["k1"].as_pem(private=False).decode()

    def unsigned(claims: Any) -> str:
        head = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"
        return f"{head}.{provider.signed(claims).split('.')[1]}."

    forgeries: dict[str, Callable[[Any], str]] = {
        "another key": lambda claims: provider.signed(claims, kid="k1", key=stranger),
        "none": unsigned,
        "the public key as a shared secret": lambda claims: confused(claims, "k1", public),
        "the client's secret": lambda claims: provider.signed(claims, key=OctKey.import_key(SECRET * 2), alg="HS256"),
        "no token": lambda claims: "x",
        "cut off": lambda claims: provider.signed(claims)[:-10],
        "other claims": lambda claims: _swapped(provider, claims),
    }
    for name, forge in forgeries.items():
        provider.sign = forge
        assert _outcome(house, provider) == "provider_refused", name
    provider.sign = provider.signed
    assert _outcome(house, provider) == "in"


def _swapped(provider: Provider, claims: Any) -> str:
    head, _, signature = provider.signed(claims).split(".")
    return ".".join([head, provider.signed({**claims, "sub": "admin"}).split(".")[1], signature])


def test_keys_are_rotated(make: Make, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cupola.uaa.foreign_keys.PAUSE", 0.0)
    house = make()
    provider.add("joe")
    assert _outcome(house, provider) == "in"
    old = provider.keys["k1"]
    provider.rotate("k2")
    assert _outcome(house, provider) == "in", "an unknown key is looked for"
    provider.sign = lambda claims: provider.signed(claims, kid="k1", key=old)
    assert _outcome(house, provider) == "provider_refused", "the old one is gone"
    provider.sign = lambda claims: provider.signed(claims, alg="ES256")
    provider.rotate("k3", ECKey.generate_key("P-256", {"kid": "k3"}, private=True))
    assert _outcome(house, provider) == "in"


def test_unknown_keys_are_not_looked_for_all_the_time(make: Make, provider: Provider) -> None:
    house = make()
    provider.add("joe")
    assert _outcome(house, provider) == "in"
    stranger = RSAKey.generate_key(2048, private=True)
    provider.sign = lambda claims: provider.signed(claims, kid="unknown", key=stranger)
    for _ in range(5):
        assert _outcome(house, provider) == "provider_refused"
    assert provider.asked.count("/keys") == 1


def test_answers_for_another_login(make: Make, provider: Provider, moving_clock: Clock) -> None:
    house = make()
    provider.add("joe")
    visitor, other = house.browser(), house.browser()
    query = query_of(visitor.get("/login/start/corp").headers["location"])
    back = f"/login/callback/corp?state={query['state']}&code="

    def error(browser: Any, path: str) -> str:
        return query_of(browser.get(path).headers["location"]).get("error", "in")

    assert error(other, back + provider.code(query)) == "invalid_login_request", "another browser"
    assert error(visitor, f"/login/callback/corp?state=x&code={provider.code(query)}") == "invalid_login_request"
    assert error(visitor, f"/login/callback/corp?code={provider.code(query)}") == "invalid_login_request"
    wrong = query_of(house.browser().get("/login/start/corp").headers["location"])
    assert error(visitor, back + provider.code(wrong)) == "provider_refused", "a code of another login (PKCE)"
    again = query_of(visitor.get("/login/start/corp").headers["location"])
    target = f"/login/callback/corp?state={again['state']}&code={provider.code(again)}"
    assert error(visitor, f"{target}&iss=https://elsewhere.example") == "provider_refused"
    third = query_of(visitor.get("/login/start/corp").headers["location"])
    target = f"/login/callback/corp?state={third['state']}&code={provider.code(third)}"
    assert error(visitor, target) == "in"
    assert error(visitor, target) == "invalid_login_request", "once"
    late = query_of(visitor.get("/login/start/corp").headers["location"])
    moving_clock.forward(601)
    assert error(visitor, f"/login/callback/corp?state={late['state']}&code=x") == "invalid_login_request"
    denied = query_of(visitor.get("/login/start/corp").headers["location"])
    path = f"/login/callback/corp?state={denied['state']}&error="
    assert error(visitor, path + "access_denied") == "provider_denied"
    assert visitor.get("/login/start/nowhere").status_code == visitor.get("/login/callback/nowhere").status_code == 404


def test_two_tabs(make: Make, provider: Provider) -> None:
    house = make()
    provider.add("joe")
    visitor = house.browser()
    first, second = (query_of(visitor.get("/login/start/corp").headers["location"]) for _ in range(2))
    for query in (first, second):
        answer = visitor.get(f"/login/callback/corp?state={query['state']}&code={provider.code(query)}")
        assert answer.headers["location"] == f"{house.prefix}/"


def test_a_document_of_another_issuer(make: Make, provider: Provider) -> None:
    house = make()
    described = provider._described({}, {})[1]
    provider.faults["/.well-known/openid-configuration"] = lambda: (
        200,
        {**described, "issuer": "https://evil.example"},
    )
    sent = house.browser().get("/login/start/corp")
    assert "error=provider_down" in sent.headers["location"]
    for changed in (
        {"token_endpoint": "http://evil.example/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": 5},
    ):
        provider.faults["/.well-known/openid-configuration"] = lambda c=changed: (200, {**described, **c})  # type: ignore[misc]  # as above
        assert "error=provider_down" in house.browser().get("/login/start/corp").headers["location"]


def test_a_host_of_its_own(platform: Platform, provider: Provider, tmp_path: Path) -> None:
    """With a system domain browsers come back to the host of the login page, whichever of the two they started at."""
    file = tmp_path / "secret"
    file.write_text(SECRET)
    oidc = {"corp": settings_of(provider, str(file))}
    with opened(platform, identity__oidc=oidc, platform__system_domain="sys.example.org") as house:
        provider.add("joe")
        at_uaa = house.browser().get("/login/start/corp").headers["location"]
        assert at_uaa.startswith("https://login.sys.example.org/login/start/corp?")
        visitor = house.browser("https://login.sys.example.org")
        answer = came_back(house, visitor, provider, "/passcode")
        assert answer.headers["location"] == "/passcode"
        names = {cookie.partition("=")[0] for cookie in answer.headers.get_list("set-cookie")}
        assert "__Host-JSESSIONID" in names
        assert visitor.get("/passcode").status_code == 200
