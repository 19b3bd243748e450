"""Providers and /oauth/token: passwords that are handed on, their tokens as assertions; providers that are slow or down."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from cupola.config import ConfigError, load
from cupola.uaa.scopes import JWT_BEARER
from tests.databases import Prepared
from tests.uaa.house import House, Platform, basic, claims_of, confused, opened
from tests.uaa.provider import SECRET, Provider, came_back, running, settings_of

Make = Callable[..., House]
HINT = {"login_hint": '{"origin":"corp"}'}


@pytest.fixture(scope="session")
def prepared(sqlite_prepared: Prepared) -> Prepared:
    """What is tried here happens before the database is asked: one kind will do."""
    return sqlite_prepared


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running() as found:
        yield found


@pytest.fixture
def make(platform: Platform, provider: Provider, tmp_path: Path) -> Iterator[Make]:
    """A platform with the provider `corp`; the arguments are more of its settings."""
    file = tmp_path / "secret"
    file.write_text(SECRET)
    with ExitStack() as stack:

        def made(others: dict[str, Any] | None = None, **more: Any) -> House:
            oidc = {"corp": settings_of(provider, str(file), **more), **(others or {})}
            return stack.enter_context(opened(platform, identity__oidc=oidc))

        yield made


def _token(house: House, username: str, password: str = "secret", **form: str) -> Any:
    return house.token(grant_type="password", username=username, password=password, **form)


def test_passwords_are_handed_on(make: Make, provider: Provider) -> None:
    house = make(
        password_grant=True, groups={"admins": ["cloud_controller.admin"]}, attributes={"external_groups": "g"}
    )
    provider.add("joe", "theirs", email="joe@corp.example", g=["admins"])
    body = _token(house, "joe", "theirs", **HINT)
    assert body.status_code == 200, body.text
    claims = claims_of(body.json()["access_token"])
    assert (claims["user_name"], claims["origin"]) == ("joe", "corp")
    assert "cloud_controller.admin" in claims["scope"]
    assert provider.forms[-1]["scope"] == "openid profile email"
    wrong = _token(house, "joe", "wrong", **HINT)
    assert (wrong.status_code, wrong.json()["error_description"]) == (401, "Bad credentials")
    # Without a hint nobody's password is shown to a provider.
    before = len(provider.forms)
    assert _token(house, "joe", "theirs").status_code == 401
    assert len(provider.forms) == before
    house.client("company", authorized_grant_types=["password"], scope=["openid"], allowedproviders=["corp"])
    form = {"grant_type": "password", "username": "joe", "password": "theirs"}
    assert house.token("company", "secret", **form).status_code == 200
    assert set(house.get("/login?origin=corp", headers={"Accept": "application/json"}).json()["prompts"]) == {
        "username",
        "password",
    }


def test_guessing_by_way_of_us_is_locked(make: Make, provider: Provider) -> None:
    house = make(password_grant=True)
    provider.add("joe")
    for _ in range(5):
        assert _token(house, "joe", "wrong", **HINT).status_code == 401
    before = len(provider.forms)
    assert _token(house, "joe", **HINT).json()["error_description"].startswith("Your account has been locked")
    assert len(provider.forms) == before


@pytest.mark.parametrize(
    "answer",
    [
        (400, {"error": "unauthorized_client"}),
        (500, {}),
        (200, {}),
        (200, [1]),
        (200, {"id_token": 5}),
        (200, {"id_token": "x.y.z"}),
        (200, {"access_token": "x"}),
        (302, "https://elsewhere.example/token"),
        (200, b"\xff\xfe"),
        (200, b"[" * 100_000),
        (200, b'{"id_token": "' + b"x" * 2_000_000 + b'"}'),
    ],
)
def test_answers_that_make_no_sense(make: Make, provider: Provider, answer: tuple[int, Any]) -> None:
    house = make(password_grant=True)
    provider.add("joe")
    provider.faults["/token"] = lambda: answer
    refused = _token(house, "joe", **HINT)
    assert refused.status_code in {401, 503}, refused.text
    assert refused.json()["error"] in {"unauthorized", "temporarily_unavailable"}
    assert "elsewhere" not in str(provider.asked)
    answer_page = came_back(house, house.browser(), provider)
    assert "error=provider_" in answer_page.headers["location"]


# Assertions


def _exchange(house: House, assertion: str) -> Any:
    form = {"grant_type": JWT_BEARER, "assertion": assertion}
    return house.request("POST", "/oauth/token", data=form, headers=basic("cf", ""))


def test_assertions(make: Make, provider: Provider) -> None:
    """As `cf auth --assertion` uses it, with a token of the company's provider."""
    house = make(accept_assertions=True)
    provider.add("robot", email="robot@corp.example")
    for token in (provider.id_token("robot"), provider.id_token("robot", aud=house.identity.issuer_url)):
        body = _exchange(house, token)
        assert body.status_code == 200, body.text
        claims = claims_of(body.json()["access_token"])
        assert (claims["user_name"], claims["origin"], claims["grant_type"]) == ("robot", "corp", JWT_BEARER)
        assert "refresh_token" not in body.json()
        assert house.api(body.json()["access_token"]) == 200
    now = int(time.time())
    stranger, public = RSAKey.generate_key(2048), provider.keys["k1"].as_pem(private=False).decode()
    good = {"iss": provider.issuer, "aud": "cupola", "sub": "x", "iat": now, "exp": now + 100}
    for bad in (
        provider.id_token("robot", exp=now - 100),
        provider.id_token("robot", aud="somebody else"),
        provider.id_token("robot", nbf=now + 100),
        provider.signed(good, kid="k1", key=stranger),
        confused(good, "k1", public),
        provider.id_token("robot")[:-8] + "AAAAAAAA",
        "..",
    ):
        answer = _exchange(house, bad)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant"), bad
    # Tokens of ours go on to work.
    house.user("joe")
    assert _exchange(house, house.log_in("joe", "secret")["access_token"]).status_code == 200


def test_assertions_are_taken_where_that_is_configured(make: Make, provider: Provider) -> None:
    house = make()
    provider.add("robot")
    answer = _exchange(house, provider.id_token("robot"))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert provider.asked == []


def test_issuers_with_several_clients(make: Make, provider: Provider, tmp_path: Path) -> None:
    (tmp_path / "other").write_text(SECRET)
    other = settings_of(provider, str(tmp_path / "other"), accept_assertions=True)
    house = make({"robots": {**other, "client_id": "robots"}}, accept_assertions=True)
    provider.add("robot")
    for audience, origin in (("cupola", "corp"), ("robots", "robots")):
        body = _exchange(house, provider.id_token("robot", aud=audience)).json()
        assert claims_of(body["access_token"])["origin"] == origin


# Slow, down, and back again


@contextmanager
def _held(provider: Provider, path: str) -> Iterator[threading.Semaphore]:
    """The provider takes questions for `path` and does not answer; the semaphore counts those that have come."""
    come, go = threading.Semaphore(0), threading.Event()

    def wait() -> tuple[int, Any]:
        come.release()
        go.wait(30)
        return 500, {}

    provider.faults[path] = wait
    try:
        yield come
    finally:
        go.set()
        del provider.faults[path]


def test_a_slow_provider_does_not_take_others_with_it(make: Make, provider: Provider, tmp_path: Path) -> None:
    with running() as second:
        (tmp_path / "other").write_text(SECRET)
        more = {"password_grant": True, "timeout_seconds": 20.0}
        house = make({"other": settings_of(second, str(tmp_path / "other"), **more)}, concurrency=6, **more)
        house.user("joe")
        provider.add("joe")
        second.add("joe", "theirs")
        with ThreadPoolExecutor(6) as threads:
            with _held(provider, "/token") as come:
                waiting = [threads.submit(_token, house, f"user-{number}", "x", **HINT) for number in range(6)]
                for _ in range(6):
                    assert come.acquire(timeout=10)
                started = time.monotonic()
                assert _token(house, "joe").status_code == 200
                assert _token(house, "joe", "theirs", login_hint='{"origin":"other"}').status_code == 200
                assert house.browser().log_in("joe").headers["location"] == f"{house.prefix}/"
                # One more for the slow one is told so at once.
                full = _token(house, "joe", **HINT)
                assert (full.status_code, full.headers["retry-after"]) == (503, "10")
                assert time.monotonic() - started < 5, "nobody waited for the slow provider"
                assert not any(one.done() for one in waiting)
            assert {one.result().status_code for one in waiting} == {503}


def test_time_is_limited(make: Make, provider: Provider) -> None:
    house = make(password_grant=True, timeout_seconds=0.3)
    provider.add("joe")
    with _held(provider, "/token"):
        started = time.monotonic()
        answer = _token(house, "joe", **HINT)
        assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
        assert time.monotonic() - started < 5
        back = came_back(house, house.browser(), provider)
        assert "error=provider_down" in back.headers["location"]


def test_one_that_is_down_is_left_alone(make: Make, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [1000.0]
    monkeypatch.setattr("cupola.uaa.outside.monotonic", lambda: moment[0])
    house = make(password_grant=True)
    provider.add("joe")
    assert _token(house, "joe", **HINT).status_code == 200
    provider.faults["/token"] = lambda: (503, {})
    for _ in range(3):
        assert _token(house, "joe", **HINT).status_code == 503
    asked = len(provider.asked)
    assert _token(house, "joe", **HINT).status_code == 503
    assert len(provider.asked) == asked, "it rests"
    moment[0] += 11
    assert _token(house, "joe", **HINT).status_code == 503
    assert len(provider.asked) == asked + 1, "one question tries it"
    assert _token(house, "joe", **HINT).status_code == 503
    assert len(provider.asked) == asked + 1
    moment[0] += 11
    del provider.faults["/token"]
    assert _token(house, "joe", **HINT).status_code == 200
    assert _token(house, "joe", **HINT).status_code == 200
    # Wrong passwords and tokens that are no good are answers: they do not make a provider rest.
    for _ in range(4):
        _token(house, "nobody", "x", **HINT)
    assert _token(house, "joe", **HINT).status_code == 200


def test_a_provider_that_is_not_there(platform: Platform, provider: Provider, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    oidc = {"corp": {**settings_of(provider, str(tmp_path / "secret")), "issuer": "http://127.0.0.1:1"}}
    with opened(platform, identity__oidc=oidc) as house:
        house.user("joe")
        sent = house.browser().get("/login/start/corp").headers["location"]
        assert "error=provider_down" in sent
        page = house.browser().get(sent)
        assert "does not answer at the moment" in page.text
        assert 'name="password"' in page.text
        assert house.browser().log_in("joe").headers["location"] == f"{house.prefix}/"


# Settings


@pytest.mark.parametrize(
    ("origin", "section", "says"),
    [
        ("uaa", {}, "uaa cannot be the name of a provider"),
        ("a/b", {}, "cannot be the name"),
        ("corp", {"issuer": "http://corp.example"}, "is without TLS"),
        ("corp", {"issuer": "corp.example"}, "is no address"),
        ("corp", {"client_secret_file": ""}, "client_secret_file"),
        ("corp", {"scopes": ["email"]}, "openid is missing"),
        ("corp", {"token_endpoint": "https://corp.example/token"}, "together"),
        ("corp", {"attributes": {"name": "x"}}, "there is no attribute name"),
        ("corp", {"timeout_seconds": 0}, "more than 0"),
        ("corp", {"isuer": "x"}, "isuer"),
    ],
)
def test_settings_that_make_no_sense(origin: str, section: dict[str, Any], says: str) -> None:
    usual = {"issuer": "https://corp.example", "client_id": "cupola", "client_secret_file": "/secret"}
    with pytest.raises(ConfigError, match=says):
        load(environment={}, flags={"identity.oidc": {origin: {**usual, **section}}})


def test_a_secret_that_is_not_there(platform: Platform) -> None:
    oidc = {"corp": {"issuer": "https://corp.example", "client_id": "cupola", "client_secret_env": "NO_SUCH_VARIABLE"}}
    says = r"identity\.oidc\.corp: the environment has no variable NO_SUCH_VARIABLE"
    with (
        opened(platform, identity__oidc=oidc) as house,
        house.database.write() as tx,
        pytest.raises(ConfigError, match=says),
    ):
        house.identity.ensure(tx)
