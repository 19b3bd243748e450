"""The official `cf` logs in and out in every way it knows, against the identity server and the API in this process.

$CF_BIN names the programs (several are separated by colons); otherwise `cf`, `cf8` and `cf9` on PATH.
"""

import json
import os
import re
import select
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.databases import Prepared
from tests.journeys.cf import Cf
from tests.journeys.conftest import BINARIES
from tests.uaa.conftest import Clock
from tests.uaa.house import ADMIN_PASSWORD, House, Platform, claims_of
from tests.uaa.server import served

pytestmark = pytest.mark.skipif(not BINARIES, reason="no official cf CLI on PATH and $CF_BIN names none")


@pytest.fixture(scope="session")
def prepared(sqlite_prepared: Prepared) -> Prepared:
    """The CLI sees no database: one kind will do."""
    return sqlite_prepared


@pytest.fixture
def house(platform: Platform) -> Iterator[House]:
    with served(platform) as found:
        yield found


@pytest.fixture(params=BINARIES, ids=[Path(one).name for one in BINARIES])
def cf(request: pytest.FixtureRequest, house: House, tmp_path: Path) -> Cf:
    """A `cf` that knows where the API is, and nobody is logged in."""
    home = tmp_path / "home"
    home.mkdir()
    found = Cf(request.param, home)
    found("api", house.settings.api_url)
    return found


def _kept(cf: Cf) -> dict[str, str]:
    found: dict[str, str] = json.loads((cf.home / ".cf" / "config.json").read_text())
    return found


def _typed(cf: Cf, words: list[str], answers: list[str]) -> str:
    """Run a command that asks for passwords, which it does only on a terminal; what it printed."""
    controller, terminal = os.openpty()
    environment = {**os.environ, "CF_HOME": str(cf.home), "CF_COLOR": "false", "LANG": "C.UTF-8"}
    running = subprocess.Popen([cf.program, *words], stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown, seen, waiting = "", 0, list(answers)
    try:
        while True:
            try:
                if not select.select([controller], [], [], 20)[0]:
                    running.kill()
                part = os.read(controller, 4096).decode()
            except OSError:  # the program has ended
                break
            shown += part
            if waiting and re.search(r"[:>]\s*$", shown[seen:]):
                seen = len(shown)
                os.write(controller, f"{waiting.pop(0)}\r".encode())
    finally:
        os.close(controller)
        running.wait(10)
    return shown


def test_login_work_logout(cf: Cf, house: House) -> None:
    assert "Authenticating" in cf("login", "-u", "admin", "-p", ADMIN_PASSWORD)
    assert "cupola" in cf("orgs")
    token = cf("oauth-token").split()[-1]
    assert house.api(token) == 200
    refresh = _kept(cf)["RefreshToken"]
    cf("logout")
    assert house.api(token) == 401, "the session is over, not only forgotten"
    assert house.token(grant_type="refresh_token", refresh_token=refresh).status_code == 401
    assert "Not logged in" in cf.run("orgs").stdout


def test_wrong_password_and_lock(cf: Cf, house: House) -> None:
    house.user("joe")
    for _ in range(5):
        assert "Credentials were rejected" in cf.run("auth", "joe", "wrong").stdout
    assert "Your account has been locked" in cf.run("auth", "joe", "secret").stdout
    assert "origin" in cf.run("auth", "joe", "secret", "--origin", "ldap").stdout


def test_users(cf: Cf, house: House) -> None:
    cf("auth", "admin", ADMIN_PASSWORD)
    cf("create-user", "joe", "first")
    assert "already exists" in cf("create-user", "joe", "first")
    own = Cf(cf.program, cf.home.parent / "own")
    own.home.mkdir()
    own("api", house.settings.api_url)
    own("auth", "joe", "first")
    assert own.run("create-user", "eve", "x").returncode == 1
    assert "OK" in _typed(own, ["passwd"], ["first", "second", "second"])
    assert "Credentials were rejected" in own.run("auth", "joe", "first").stdout
    own("auth", "joe", "second")
    assert "OK" in cf("set-org-role", "joe", "cupola", "OrgManager")
    assert "OK" in cf("set-org-role", "cf_smoke_tests", "cupola", "OrgAuditor", "--client")
    missing = cf.run("set-org-role", "none", "cupola", "OrgAuditor", "--client")
    assert missing.returncode == 1
    assert "joe" in cf("org-users", "cupola")
    cf("delete-user", "-f", "joe")
    assert "Credentials were rejected" in own.run("auth", "joe", "second").stdout


def test_passcode(cf: Cf, house: House) -> None:
    house.user("joe")
    browser = house.browser()
    browser.log_in("joe", next="/passcode")
    code = re.findall(r'id="passcode"[^>]*>([^<]+)<', browser.get("/passcode").text)[0]
    cf("login", "--sso-passcode", code)
    assert "joe" in cf("target")
    assert cf.run("login", "--sso-passcode", code).returncode == 1, "good once"
    asked = cf.run("login", "--sso", answer="wrong\n")
    assert f"{house.settings.login_url}/passcode" in asked.stdout


def test_clients_and_assertions(cf: Cf, house: House) -> None:
    cf("auth", "cf_smoke_tests", house.secrets["cf_smoke_tests"], "--client-credentials")
    assert "cupola" in cf("orgs")
    house.user("joe", groups=("cloud_controller.admin",))
    token = house.log_in("joe", "secret")["access_token"]
    cf("logout")
    done = cf.run("auth", "--assertion", token)
    if "unknown flag `assertion'" in done.stdout:
        pytest.skip("this cf knows no assertions")
    assert done.returncode == 0, done.stdout
    assert claims_of(cf("oauth-token").split()[-1])["user_name"] == "joe"
    assert "cupola" in cf("orgs")
    assert cf.run("auth", "--assertion", token[:-4] + "AAAA").returncode == 1
    key = RSAKey.generate_key(2048)
    public = {**key.as_dict(private=False), "kid": "k1"}
    robot = {"authorized_grant_types": ["client_credentials"], "jwks": {"keys": [public]}}
    house.client("robot", None, **robot, authorities=["cloud_controller.admin"])
    cf("logout")
    claims = {"iss": "robot", "sub": "robot", "aud": house.identity.issuer_url, "exp": int(time.time()) + 300}
    signed = jwt.encode({"alg": "RS256", "kid": "k1"}, {**claims, "jti": uuid.uuid4().hex}, key)
    cf("auth", "robot", "--client-credentials", "--assertion", signed)
    assert "cupola" in cf("orgs")


def test_ssh_code(cf: Cf, house: House) -> None:
    cf("auth", "admin", ADMIN_PASSWORD)
    code = cf("ssh-code").strip()
    body = house.token("ssh-proxy", grant_type="authorization_code", code=code).json()
    assert house.api(body["access_token"]) == 200


def test_tokens_are_refreshed_over_hours(cf: Cf, house: House, moving_clock: Clock) -> None:
    # The CLI looks at the real clock, so the login was in the past.
    moving_clock.forward(-4 * 3600)
    cf("auth", "admin", ADMIN_PASSWORD)
    first = _kept(cf)["AccessToken"]
    for _ in range(3):
        moving_clock.forward(3000)
        assert "cupola" in cf("orgs")
        assert _kept(cf)["AccessToken"] != first
        house.identity.rotate_keys()
    house.ok("GET", f"/oauth/token/revoke/user/{claims_of(first.split()[-1])['user_id']}", house.admin())
    moving_clock.forward(3000)
    done = cf.run("orgs")
    assert done.returncode == 1
    assert re.search("log (back )?in", done.stdout), done.stdout
