"""Clients that others wrote complete each flow: requests-oauthlib (OAuth2) and cloudfoundry-client (the CF API)."""

import re
from collections.abc import Iterator

import pytest
from cloudfoundry_client.client import CloudFoundryClient
from oauthlib.oauth2 import (
    BackendApplicationClient,
    LegacyApplicationClient,
    MobileApplicationClient,
    WebApplicationClient,
)
from oauthlib.oauth2.rfc6749.errors import OAuth2Error
from requests import Session
from requests_oauthlib import OAuth2Session

from tests.uaa.conftest import Clock
from tests.uaa.house import ADMIN_PASSWORD, House, Platform, csrf_of
from tests.uaa.server import served

BACK = "http://127.0.0.1:1/callback"


@pytest.fixture
def house(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A platform on a real socket. Plain HTTP is what the library wants to be told."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("OAUTHLIB_RELAX_TOKEN_SCOPE", "1")
    with served(platform) as found:
        yield found


def _uaa(house: House) -> str:
    return f"http://127.0.0.1:{house.settings.platform.port}/uaa"


def _walk(session: Session, base: str, url: str, **login: str) -> str:
    """Log in and agree as a person would; the address that the browser is sent back to."""
    page = session.get(url, headers={"Accept": "text/html"})
    fields = dict(re.findall(r'name="([^"]+)" value="([^"]*)"', page.text))
    fields["next"] = fields["next"].replace("&amp;", "&")
    page = session.post(f"{base}/login.do", data={**fields, **login}, headers={"Origin": base.removesuffix("/uaa")})
    form = {"X-Uaa-Csrf": csrf_of(page.text), "user_oauth_approval": "true"}
    form |= dict(re.findall(r'name="(scope\.\d+|pending)" value="([^"]+)"', page.text))
    answer = session.post(f"{base}/oauth/authorize", data=form, allow_redirects=False)
    return answer.headers["Location"]


def test_authorization_code_with_pkce_and_refresh(house: House, moving_clock: Clock) -> None:
    house.user("joe")
    grants = ["authorization_code", "refresh_token"]
    house.client("web", authorized_grant_types=grants, redirect_uri=[BACK], scope=["openid", "cloud_controller.read"])
    client = WebApplicationClient("web")
    session = OAuth2Session(client=client, redirect_uri=BACK, scope=["openid", "cloud_controller.read"], pkce="S256")
    url, state = session.authorization_url(f"{_uaa(house)}/oauth/authorize")
    back = _walk(Session(), _uaa(house), url, username="joe", password="secret")
    assert f"state={state}" in back
    token = session.fetch_token(f"{_uaa(house)}/oauth/token", authorization_response=back, client_secret="secret")
    assert set(token["scope"]) == {"openid", "cloud_controller.read"}
    assert session.get(f"{_uaa(house)}/userinfo").json()["user_name"] == "joe"
    moving_clock.forward(1201)
    assert session.get(f"{_uaa(house)}/userinfo").status_code == 401
    session.refresh_token(f"{_uaa(house)}/oauth/token", auth=("web", "secret"))
    assert session.get(f"{_uaa(house)}/userinfo").json()["user_name"] == "joe"
    with pytest.raises(OAuth2Error, match="Invalid authorization code"):
        session.fetch_token(f"{_uaa(house)}/oauth/token", authorization_response=back, client_secret="secret")


def test_a_forged_state_is_noticed_by_the_client(house: House) -> None:
    house.user("joe")
    house.client("web", authorized_grant_types=["authorization_code"], redirect_uri=[BACK], scope=["openid"])
    session = OAuth2Session("web", redirect_uri=BACK, scope=["openid"])
    url, state = session.authorization_url(f"{_uaa(house)}/oauth/authorize")
    back = _walk(Session(), _uaa(house), url, username="joe", password="secret")
    with pytest.raises(OAuth2Error, match="mismatching_state"):
        session.fetch_token(f"{_uaa(house)}/oauth/token", authorization_response=back.replace(state, "x"))


def test_password_grant(house: House) -> None:
    session = OAuth2Session(client=LegacyApplicationClient("cf"))
    url = f"{_uaa(house)}/oauth/token"
    token = session.fetch_token(url, username="admin", password=ADMIN_PASSWORD, auth=("cf", ""))
    assert token["token_type"] == "bearer"
    api = f"http://127.0.0.1:{house.settings.platform.port}/v3/organizations"
    assert session.get(api).json()["pagination"]["total_results"] == 1
    with pytest.raises(OAuth2Error, match="Bad credentials"):
        session.fetch_token(url, username="admin", password="wrong", auth=("cf", ""))


def test_client_credentials(house: House) -> None:
    session = OAuth2Session(client=BackendApplicationClient("admin"))
    session.fetch_token(f"{_uaa(house)}/oauth/token", client_secret=house.secrets["admin"], include_client_id=True)
    assert session.get(f"{_uaa(house)}/Users").json()["totalResults"] == 1
    wrong = OAuth2Session(client=BackendApplicationClient("admin"))
    with pytest.raises(OAuth2Error, match="Bad credentials"):
        wrong.fetch_token(f"{_uaa(house)}/oauth/token", client_secret="wrong", include_client_id=True)


def test_errors_come_back_to_the_client(house: House) -> None:
    house.client("web", authorized_grant_types=["authorization_code"], redirect_uri=[BACK], scope=["openid"])
    session = OAuth2Session(client=MobileApplicationClient("web"), redirect_uri=BACK, scope=["openid"])
    url, _ = session.authorization_url(f"{_uaa(house)}/oauth/authorize")
    answer = Session().get(url, allow_redirects=False)
    with pytest.raises(OAuth2Error, match="unsupported_response_type"):
        session.token_from_fragment(answer.headers["Location"].replace("?", "#"))


def test_cloudfoundry_client(house: House, moving_clock: Clock) -> None:
    house.user("joe", groups=("cloud_controller.admin",))
    client = CloudFoundryClient(f"http://127.0.0.1:{house.settings.platform.port}")
    client.init_with_user_credentials("joe", "secret")
    (org,) = list(client.v3.organizations.list())
    assert org["name"] == "cupola"
    token = client.refresh_token
    again = CloudFoundryClient(f"http://127.0.0.1:{house.settings.platform.port}")
    again.init_with_token(token)
    moving_clock.forward(1201)
    assert len(list(again.v3.organizations.list())) == 1
    # Its token ends while it works: it refreshes by itself.
    moving_clock.forward(1201)
    assert len(list(again.v3.organizations.list())) == 1
    robot = CloudFoundryClient(
        f"http://127.0.0.1:{house.settings.platform.port}",
        client_id="cf_smoke_tests",
        client_secret=house.secrets["cf_smoke_tests"],
    )
    robot.init_with_client_credentials()
    assert len(list(robot.v3.organizations.list())) == 1
    with pytest.raises(Exception, match="Bad credentials"):
        client.init_with_user_credentials("joe", "wrong")
