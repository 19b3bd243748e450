"""A platform whose users are those of another identity server: here of a second platform beside it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.cf import Cf
from tests.journeys.conftest import BINARIES
from tests.journeys.platform import ROOT, Platform, eventually, started


@pytest.fixture(scope="module")
def guest(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that has no users: those of `platform` are its users."""
    directory = tmp_path_factory.mktemp("guest")
    secret = directory / "secret"
    clients = json.loads((platform.data_dir / "keys" / "clients.json").read_text())
    secret.write_text(clients["cloud_controller_username_lookup"])
    config = directory / "cupola.toml"
    config.write_text(
        f'[identity]\nmode = "external"\n[uaa]\nurl = "{platform.url}/uaa"\nclient_secret_file = "{secret}"\n'
    )
    with started(directory / "data", "--config", str(config)) as found:
        yield found


def test_it_says_where_its_users_are(guest: Platform, platform: Platform) -> None:
    assert not (guest.data_dir / "credentials.json").exists()
    again = guest.cupola(
        "up", "--detach", "--port", str(guest.port), "--config", str(guest.data_dir.parent / "cupola.toml")
    )
    assert f"Users      of {platform.url}/uaa" in again.stdout
    assert f"cf login -a {guest.url} --sso" in again.stdout
    told = guest.cupola("login-info").stdout
    assert f"Users     of {platform.url}/uaa" in told
    refused = guest.cupola("login-info", "--password", check=False)
    assert (refused.returncode, f"passwords are kept by {platform.url}/uaa" in refused.stderr) == (1, True)
    nobody = guest.cupola("push", str(ROOT / "samples/static"), check=False)
    assert (nobody.returncode, "CUPOLA_USER" in nobody.stdout + nobody.stderr) == (1, True)


def test_cupola_push_as_one_of_its_users(guest: Platform, platform: Platform) -> None:
    guest.environment = {"CUPOLA_USER": "admin", "CUPOLA_PASSWORD": platform.password}
    guest.cupola("push", str(ROOT / "samples/static"))
    eventually(lambda: guest.app("sample-static").status == 200, what="the sample answers")


@pytest.mark.parametrize("program", BINARIES or [""], ids=[Path(one).name for one in BINARIES] or ["no cf"])
def test_cf_logs_in_and_gives_a_role(program: str, guest: Platform, platform: Platform, tmp_path: Path) -> None:
    if not program:
        pytest.skip("no official cf CLI on PATH and $CF_BIN names none")
    name = f"joe-{Path(program).name}"
    home = Cf(program, tmp_path / "home")
    home("api", platform.url)
    home("auth", "admin", platform.password)
    home("create-user", name, "joes-secret")
    admin = Cf(program, tmp_path / "admin")
    admin("api", guest.url)
    admin("auth", "admin", platform.password)
    admin("create-org", f"org-{name}")
    admin("create-space", "work", "-o", f"org-{name}")
    admin("set-space-role", name, f"org-{name}", "work", "SpaceDeveloper")
    joe = Cf(program, tmp_path / "joe")
    joe("api", guest.url)
    joe("auth", name, "joes-secret")
    joe("target", "-o", f"org-{name}", "-s", "work")
    joe("create-app", "mine")
    assert "mine" in joe("apps")
    assert name in admin("space-users", f"org-{name}", "work")
