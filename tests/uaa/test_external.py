"""`identity.mode = external`: the identity server is another one (here of a second platform, over real HTTP)."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from click.testing import CliRunner
from joserfc.jwk import RSAKey
from sqlalchemy import select

from cupola.cli.commands import cupola
from cupola.config import ConfigError, load, write_resolved
from cupola.processes.controller import Controller
from cupola.store import identity as tables
from cupola.uaa.external import ExternalIdentity
from tests.databases import Prepared
from tests.uaa.conftest import Clock
from tests.uaa.foreign import Cloud, cloud_without_users, url_of
from tests.uaa.house import House, Platform, claims_of, confused
from tests.uaa.provider import Provider, running
from tests.uaa.server import served

CLIENT = "cloud_controller_username_lookup"


@pytest.fixture(scope="session")
def prepared(sqlite_prepared: Prepared) -> Prepared:
    """The other platform's database is nobody's business here: one kind will do."""
    return sqlite_prepared


@pytest.fixture
def uaa(platform: Platform) -> Iterator[House]:
    """The identity server, behind a socket."""
    with served(platform) as house:
        yield house


Make = Callable[..., Cloud]


@pytest.fixture
def make(uaa: House, tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:

        def made(name: str = "cloud", **flags: Any) -> Cloud:
            opened = cloud_without_users(tmp_path / name, url_of(uaa), uaa.secrets[CLIENT], **flags)
            return stack.enter_context(opened)

        yield made


def _until(true: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 15
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_its_tokens_are_good_here(uaa: House, make: Make) -> None:
    cloud = make()
    admin = uaa.log_in()["access_token"]
    assert cloud.status(admin) == 200
    assert cloud.get("/whoami", admin).json() == {"name": "admin", "kind": "User"}
    links = cloud.get("/").json()["links"]
    assert (links["uaa"]["href"], links["login"]["href"]) == (url_of(uaa), url_of(uaa))
    uaa.user("joe")
    joe = uaa.log_in("joe", "secret")["access_token"]
    assert cloud.get("/v3/organizations", joe).json()["resources"] == []
    robot = uaa.token("cf_smoke_tests", grant_type="client_credentials").json()["access_token"]
    assert cloud.status(robot) == 200
    # Each face takes what is meant for it.
    networks = uaa.log_in()["access_token"]
    assert cloud.status(networks, "/networking/v1/external/policies") == 200
    there = cloud.http.get("/uaa/login")
    assert there.status_code == 404
    assert url_of(uaa) in there.json()["error_description"]
    with cloud.database.read() as tx:
        assert tx.all(select(tables.oauth_clients)) == tx.all(select(tables.identity_groups)) == []


def test_tokens_that_are_not_good(uaa: House, make: Make, moving_clock: Clock) -> None:
    cloud = make()
    good = uaa.log_in()["access_token"]
    assert cloud.status(good) == 200
    claims = claims_of(good)
    kid = uaa.identity.keys.active_jwk()["kid"]

    def signed(**changed: Any) -> str:
        return uaa.identity.keys.sign({**claims, **changed}, f"{url_of(uaa)}/token_keys")

    stranger = Provider("http://stranger.example")
    stranger.rotate(kid, RSAKey.generate_key(2048, {"kid": kid}))
    head, body, signature = good.split(".")
    bad = {
        "another issuer": signed(iss="http://elsewhere/oauth/token"),
        "another audience": signed(aud=["openid"]),
        "expired": signed(exp=int(time.time()) - 1),
        "not yet": signed(nbf=int(time.time()) + 100),
        "a refresh token": signed(jti="x-r"),
        "another key of the same name": stranger.signed(claims, kid=kid),
        "an unknown key": stranger.signed(claims, kid=kid)[:20] + "x",
        "the public key as a shared secret": confused(claims, kid, uaa.identity.keys.active_jwk()["value"]),
        "none": f"eyJhbGciOiJub25lIn0.{body}.",
        "changed": f"{head}.{signed(user_id='x').split('.')[1]}.{signature}",
        "nothing": "x",
    }
    assert {name: cloud.status(token) for name, token in bad.items()} == dict.fromkeys(bad, 401)
    assert cloud.status("") == 401
    moving_clock.forward(1201)
    assert cloud.status(good) == 401


def test_keys_are_rotated(uaa: House, make: Make, moving_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cupola.uaa.foreign_keys.PAUSE", 0.0)
    cloud = make()
    old = uaa.log_in()["access_token"]
    assert cloud.status(old) == 200
    uaa.identity.rotate_keys()
    new = uaa.log_in()["access_token"]
    assert (cloud.status(new), cloud.status(old)) == (200, 200)
    # The old key is taken back: what is in memory is no longer believed after the next look.
    uaa.identity.keys.rotate(0.0)
    moving_clock.forward(1)
    portal = cloud.http.portal
    assert portal is not None
    assert cloud.status(new) == 200
    portal.call(cloud.identity._look_again)
    assert (cloud.status(new), cloud.status(old)) == (401, 200)
    assert cloud.status(uaa.log_in()["access_token"]) == 200


def test_names(uaa: House, make: Make) -> None:
    """Names come from tokens, from questions before a role is given, and in the background."""
    cloud = make(loop=True)
    admin = uaa.log_in()["access_token"]
    joe, eve = uaa.user("joe"), uaa.user("eve")
    assert cloud.role(admin, username="joe").status_code == 201
    assert cloud.post("/v3/users", admin, {"guid": eve["id"]}).json()["username"] == "eve"
    shown = cloud.get("/v3/users?usernames=joe", admin).json()["resources"]
    assert [(one["guid"], one["username"], one["origin"]) for one in shown] == [(joe["id"], "joe", "uaa")]
    again = cloud.role(admin, username="joe")
    assert again.status_code == 422
    assert "already has" in again.text
    unknown = cloud.role(admin, username="nobody")
    assert (unknown.status_code, "No user exists" in unknown.text) == (422, True)
    quoted = cloud.role(admin, username='x" or username eq "eve')
    assert "No user exists" in quoted.text
    # A token tells of its user.
    assert cloud.post("/v3/users", admin, {"guid": claims_of(admin)["user_id"]}).status_code == 201

    def name_of(guid: str) -> Any:
        return cloud.get(f"/v3/users/{guid}", admin).json()["username"]

    _until(lambda: name_of(claims_of(admin)["user_id"]) == "admin")
    client = cloud.post("/v3/users", admin, {"guid": "cf_smoke_tests"}).json()
    assert (client["username"], client["presentation_name"]) == (None, "cf_smoke_tests")
    # Who was deleted there and made anew is another user here.
    uaa.ok("DELETE", f"/Users/{joe['id']}", uaa.admin())
    assert "No user exists" in cloud.role(admin, username="joe").text
    new = uaa.user("joe")
    assert cloud.role(admin, username="joe").status_code == 201
    assert name_of(new["id"]) == "joe"
    assert name_of(joe["id"]) is None


def test_names_are_looked_up_again(uaa: House, make: Make, moving_clock: Clock) -> None:
    cloud = make()
    admin, joe = uaa.log_in()["access_token"], uaa.user("joe")
    assert cloud.role(admin, username="joe").status_code == 201
    body = {"userName": "joseph", "emails": [{"value": "joe@example.org"}]}
    uaa.ok("PUT", f"/Users/{joe['id']}", uaa.admin(), body, headers={"If-Match": "*"})
    portal = cloud.http.portal
    assert portal is not None
    portal.call(cloud.identity._look_again)
    moving_clock.forward(86_401)
    portal.call(cloud.identity._look_again)
    token = uaa.log_in()["access_token"]
    assert cloud.get(f"/v3/users/{joe['id']}", token).json()["username"] == "joseph"


def test_users_of_other_providers(uaa: House, make: Make) -> None:
    admin = uaa.log_in()["access_token"]
    cloud = make()
    # Without the setting a role makes nobody known; and our client there must be allowed to.
    assert "No user exists" in cloud.role(admin, username="joe", origin="corp").text
    making = {"username": "joe", "origin": "corp"}
    assert cloud.post("/v3/users", admin, making).json()["errors"][0]["title"] == "CF-UaaUnavailable"
    client = uaa.ok("GET", f"/oauth/clients/{CLIENT}", uaa.admin())
    authorities = [*client["authorities"], "scim.create"]
    uaa.ok("PUT", f"/oauth/clients/{CLIENT}", uaa.admin(), {**client, "authorities": authorities})
    cloud.identity.remote._token = ""
    made = cloud.post("/v3/users", admin, making)
    assert made.status_code == 201, made.text
    (there,) = uaa.ok("GET", "/Users", uaa.admin(), params={"filter": 'origin eq "corp"'})["resources"]
    assert (there["id"], there["userName"]) == (made.json()["guid"], "joe")
    second = make("second", identity__allow_user_creation_by_org_manager=True)
    given = second.role(admin, username="eve", origin="corp")
    assert given.status_code == 201, given.text
    # Who may not give roles makes nobody known either.
    uaa.user("mallory")
    mallory = uaa.log_in("mallory", "secret")["access_token"]
    second.post("/v3/users", mallory, {"username": "x", "origin": "corp"})
    assert len(uaa.ok("GET", "/Users", uaa.admin(), params={"filter": 'origin eq "corp"'})["resources"]) == 2


def test_it_is_down(uaa: House, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that are there go on to work, over a restart as well; what needs the server says so, and soon."""
    monkeypatch.setattr("cupola.uaa.foreign_keys.PAUSE", 0.0)
    admin = uaa.log_in()["access_token"]
    with running() as proxy:
        _pass_on(uaa, proxy)
        with cloud_without_users(tmp_path / "cloud", proxy.issuer, uaa.secrets[CLIENT]) as cloud:
            assert cloud.status(admin) == 200
            uaa.identity.rotate_keys()
            new = uaa.log_in()["access_token"]
    with cloud_without_users(tmp_path / "cloud", proxy.issuer, uaa.secrets[CLIENT]) as cloud:
        assert cloud.status(admin) == 200, "the keys are in a file"
        assert cloud.status(new) == 401, "an unknown key"
        started = time.monotonic()
        answer = cloud.role(admin, username="joe")
        assert (answer.status_code, answer.json()["errors"][0]["title"]) == (503, "CF-UaaUnavailable")
        assert time.monotonic() - started < 5
        portal = cloud.http.portal
        assert portal is not None
        portal.call(cloud.identity._look_again)
        assert cloud.status(admin) == 200
    with cloud_without_users(tmp_path / "fresh", proxy.issuer, uaa.secrets[CLIENT]) as cloud:
        answer = cloud.get("/v3/organizations", admin)
        assert (answer.status_code, answer.json()["errors"][0]["title"]) == (503, "CF-ServiceUnavailable")
        assert proxy.issuer in answer.text
        assert cloud.get("/").status_code == 200
    mode = (tmp_path / "cloud/keys/external.json").stat().st_mode & 0o777
    assert mode == 0o600


def _pass_on(uaa: House, proxy: Provider) -> None:
    """Have a scripted server say what the identity server says of itself."""
    proxy.faults["/.well-known/openid-configuration"] = lambda: (
        200,
        {"issuer": uaa.identity.issuer_url, "jwks_uri": f"{proxy.issuer}/token_keys"},
    )
    proxy.faults["/token_keys"] = lambda: (200, uaa.identity.keys.jwks())


def test_unknown_keys_cost_little(uaa: House, tmp_path: Path) -> None:
    """Whoever sends tokens of unknown keys makes it ask once in a while, and holds few of the API's threads."""
    admin = uaa.log_in()["access_token"]
    stranger = Provider("http://stranger.example")
    forged = [stranger.signed(claims_of(admin), kid=f"k{number}", key=stranger.keys["k1"]) for number in range(12)]
    with running() as proxy:
        _pass_on(uaa, proxy)
        with cloud_without_users(tmp_path / "cloud", proxy.issuer, "x", uaa__timeout_seconds=3.0) as cloud:
            assert cloud.status(admin) == 200
            asked = len(proxy.asked)
            assert {cloud.status(token) for token in forged} == {401}
            assert len(proxy.asked) == asked, "that was just done"
            cloud.identity._keys._tried_at = float("-inf")
            come, go = threading.Semaphore(0), threading.Event()

            def hold() -> tuple[int, Any]:
                come.release()
                go.wait(20)
                return 500, {}

            proxy.faults["/token_keys"] = hold
            with ThreadPoolExecutor(12) as threads:
                waiting = [threads.submit(cloud.status, token) for token in forged]
                assert come.acquire(timeout=10)
                started = time.monotonic()
                assert cloud.status(admin) == 200
                assert time.monotonic() - started < 2
                statuses = [one.result() for one in waiting]
                go.set()
            assert set(statuses) <= {401, 503}
            assert statuses.count(401) <= 3, "those that waited for the keys"
            assert proxy.asked.count("/token_keys") == 2


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({}, "uaa.url is missing"),
        ({"uaa.url": "http://uaa.example.org"}, "without TLS"),
        ({"uaa.url": "https://uaa.example.org"}, "client_secret_file"),
        (
            {
                "uaa.url": "https://uaa.example.org",
                "uaa.client_secret_env": "X",
                "identity.ldap": {"ldap": {"urls": ["ldaps://x"], "search_base": "dc=x"}},
            },
            "do nothing",
        ),
    ],
)
def test_settings_that_make_no_sense(flags: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(environment={}, flags={"identity.mode": "external", **flags})


def test_a_controller_serves(uaa: House, tmp_path: Path) -> None:
    """The process as it is started: its root document, a token, and users that are made elsewhere."""
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "secret").write_text(uaa.secrets[CLIENT])
    flags = {
        "data_dir": str(tmp_path),
        "identity.mode": "external",
        "uaa.url": url_of(uaa),
        "uaa.client_secret_file": str(tmp_path / "secret"),
    }
    settings = load(environment={}, flags=flags)
    controller, admin = Controller(settings), uaa.log_in()["access_token"]

    async def ask(path: str) -> tuple[int, Any]:
        connector = aiohttp.UnixConnector(str(settings.run_dir / "api.sock"))
        headers = {"Authorization": f"bearer {admin}", "Host": "localhost"}
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers) as session,
            session.get(f"http://localhost{path}") as answer,
        ):
            return answer.status, await answer.json(content_type=None)

    async def work() -> list[tuple[int, Any]]:
        stop = asyncio.Event()
        running = asyncio.create_task(controller.run(stop))
        async with asyncio.timeout(30):
            while not (settings.run_dir / "controller.ready").exists():
                assert not running.done(), running.exception()
                await asyncio.sleep(0.02)
        answers = [await ask(path) for path in ("/", "/v3/organizations", "/uaa/login")]
        stop.set()
        await running
        return answers

    root, organizations, login = asyncio.run(work())
    assert root[1]["links"]["uaa"]["href"] == url_of(uaa)
    assert (organizations[0], login[0]) == (200, 404)
    write_resolved(settings, settings.run_dir / "settings.json")
    made = CliRunner().invoke(cupola, ["user", "create", "joe", "--data-dir", str(tmp_path)])
    assert made.exit_code == 1
    assert f"users are kept by {url_of(uaa)}" in made.output


def test_a_controller_starts(tmp_path: Path) -> None:
    """Whether the server is there or not; a secret that is not there stops it."""
    credentials = {"admin": {"username": "admin", "password": "x"}}
    (tmp_path / "credentials.json").write_bytes(msgspec.json.encode(credentials))
    (tmp_path / "secret").write_text("x")
    flags = {
        "data_dir": str(tmp_path),
        "identity.mode": "external",
        "uaa.url": "https://uaa.example.org",
        "uaa.client_secret_file": str(tmp_path / "secret"),
    }
    controller = Controller(load(environment={}, flags=flags))
    controller.prepare()
    assert isinstance(controller.identity, ExternalIdentity)
    with controller.database.read() as tx:
        assert tx.all(select(tables.identities)) == []
    (tmp_path / "secret").unlink()
    with pytest.raises(ConfigError, match="uaa: cannot read the secret"):
        controller.prepare()
    controller.identity.close()
    controller.ring.close()
    controller.database.close()
