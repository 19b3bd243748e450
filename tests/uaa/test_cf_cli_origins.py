"""The official `cf` with users of another identity provider: passwords, codes, assertions, roles by name and origin."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import Prepared
from tests.journeys.cf import Cf
from tests.journeys.conftest import BINARIES
from tests.uaa.house import ADMIN_PASSWORD, House, Platform, claims_of
from tests.uaa.provider import SECRET, Provider, came_back, running, settings_of
from tests.uaa.server import served

pytestmark = pytest.mark.skipif(not BINARIES, reason="no official cf CLI on PATH and $CF_BIN names none")


@pytest.fixture(scope="session")
def prepared(sqlite_prepared: Prepared) -> Prepared:
    """The CLI sees no database: one kind will do."""
    return sqlite_prepared


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running() as found:
        yield found


@pytest.fixture
def house(platform: Platform, provider: Provider, tmp_path: Path) -> Iterator[House]:
    (tmp_path / "secret").write_text(SECRET)
    corp = settings_of(provider, str(tmp_path / "secret"), password_grant=True, accept_assertions=True)
    flags: dict[str, Any] = {"identity__oidc": {"corp": corp}, "identity__allow_user_creation_by_org_manager": True}
    with served(platform, **flags) as found:
        yield found


def _cf(program: str, house: House, home: Path) -> Cf:
    home.mkdir()
    found = Cf(program, home)
    found("api", house.settings.api_url)
    return found


@pytest.mark.parametrize("program", BINARIES, ids=[Path(one).name for one in BINARIES])
def test_users_of_another_provider(program: str, house: House, provider: Provider, tmp_path: Path) -> None:
    admin, joe = _cf(program, house, tmp_path / "admin"), _cf(program, house, tmp_path / "joe")
    provider.add("joe@corp.example", "theirs")
    admin("auth", "admin", ADMIN_PASSWORD)
    # A role for who was never here.
    assert "OK" in admin("set-org-role", "joe@corp.example", "cupola", "OrgManager", "--origin", "corp")
    assert "OK" in admin("set-space-role", "joe@corp.example", "cupola", "dev", "SpaceDeveloper", "--origin", "corp")
    joe("auth", "joe@corp.example", "theirs", "--origin", "corp")
    assert "cupola" in joe("orgs")
    assert claims_of(joe("oauth-token").split()[-1])["origin"] == "corp"
    assert re.search(r"joe@corp\.example \(corp\)|joe@corp\.example", admin("space-users", "cupola", "dev"))
    assert "Credentials were rejected" in joe.run("auth", "joe@corp.example", "wrong", "--origin", "corp").stdout
    assert "Credentials were rejected" in joe.run("auth", "joe@corp.example", "theirs").stdout, (
        "of our own there is none"
    )
    joe("logout")
    visitor = house.browser()
    came_back(house, visitor, provider, "/passcode")
    code = re.findall(r'id="passcode"[^>]*>([^<]+)<', visitor.get("/passcode").text)[0]
    joe("login", "--sso-passcode", code)
    assert "joe@corp.example" in joe("target")
    joe("logout")
    done = joe.run("auth", "--assertion", provider.id_token("joe@corp.example"))
    if "unknown flag `assertion'" not in done.stdout:
        assert done.returncode == 0, done.stdout
        assert "cupola" in joe("orgs")
