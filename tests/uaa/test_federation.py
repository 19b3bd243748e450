"""One platform as the OpenID Connect provider of another: both sides are real, and speak over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cupola.bell import Bells
from cupola.config import load
from cupola.domain import bootstrap
from cupola.store.database import Database
from cupola.store.tables import metadata
from tests.databases import PlainVault, Prepared
from tests.uaa.house import House, Platform, claims_of, csrf_of, first_start, opened, query_of
from tests.uaa.server import served


@pytest.fixture(scope="session")
def prepared(sqlite_prepared: Prepared) -> Prepared:
    """Neither side sees the other's database: one kind will do."""
    return sqlite_prepared


@pytest.fixture
def provider(platform: Platform) -> Iterator[House]:
    with served(platform) as house:
        yield house


@pytest.fixture
def second(tmp_path: Path) -> Platform:
    """Another platform, after its first start."""
    directory = tmp_path / "second"
    directory.mkdir()
    found = Platform(directory, "", directory / "cupola.db")
    database = Database("", found.file, PlainVault(), Bells())
    metadata.create_all(database.engine)
    with database.write() as tx:
        bootstrap.ensure(tx, load(environment={}, flags={"data_dir": str(directory)}))
    first_start(found, database)
    database.close()
    return found


def test_users_of_one_log_in_at_the_other(provider: House, second: Platform, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the secret")
    oidc = {
        "issuer": provider.identity.issuer_url,
        "client_id": "second",
        "client_secret_file": str(tmp_path / "secret"),
        "scopes": ["openid", "roles", "uaa.user"],
        "attributes": {"user_name": "user_name", "external_groups": "roles"},
        "groups": {"scim.read": ["scim.read"]},
        "password_grant": True,
        "accept_assertions": True,
    }
    with opened(second, identity__oidc={"first": oidc}) as house:
        provider.client(
            "second",
            "the secret",
            authorized_grant_types=["authorization_code", "password"],
            redirect_uri=[f"{house.settings.login_url}/login/callback/first"],
            scope=["openid", "roles", "uaa.user", "profile"],
        )
        provider.user("joe", groups=("scim.read",))
        here, there = house.browser(), provider.browser()
        asked = here.get("/login/start/first", params={"next": "/passcode"}).headers["location"]
        assert asked.startswith(f"{provider.settings.uaa_url}/oauth/authorize?")
        path = asked.removeprefix(provider.settings.uaa_url)
        there.log_in("joe")
        consent = there.get(path).text
        form = {"X-Uaa-Csrf": csrf_of(consent), "user_oauth_approval": "true"}
        scopes = {f"scope.{number}": f"scope.{name}" for number, name in enumerate(("openid", "roles", "uaa.user"))}
        back = there.send("/oauth/authorize", {**form, **scopes}).headers["location"]
        assert query_of(back)["state"] == query_of(asked)["state"]
        arrived = here.get(back.removeprefix(house.settings.login_url)).headers["location"]
        assert urlsplit(arrived).path.endswith("/passcode")
        code = here.get("/passcode", headers={"Accept": "application/json"}).json()
        claims = claims_of(house.token(grant_type="password", passcode=code).json()["access_token"])
        assert (claims["user_name"], claims["origin"]) == ("joe", "first")
        assert "scim.read" in claims["scope"]
        # By password, and by an id token: the same user.
        hint = {"login_hint": '{"origin":"first"}'}
        handed_on = house.token(grant_type="password", username="joe", password="secret", **hint)
        assert claims_of(handed_on.json()["access_token"])["user_id"] == claims["user_id"]
        assert house.token(grant_type="password", username="joe", password="wrong", **hint).status_code == 401
        grant = {"grant_type": "password", "username": "joe", "password": "secret", "scope": "openid"}
        id_token = provider.token("second", "the secret", **grant).json()["id_token"]
        bearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
        asserted = house.token(grant_type=bearer, assertion=id_token)
        assert claims_of(asserted.json()["access_token"])["user_id"] == claims["user_id"]
