"""Tokens that are no longer good: logged out, revoked by user and client, after a new password; in every controller."""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest
from sqlalchemy import text

from cupola.store.listen import listen
from tests.uaa.conftest import Clock
from tests.uaa.house import House, Platform, claims_of, opened


def _refreshed(house: House, body: dict[str, Any]) -> int:
    return int(house.token(grant_type="refresh_token", refresh_token=body["refresh_token"]).status_code)


def test_logout_ends_the_session(house: House) -> None:
    first, second = house.log_in(), house.log_in()
    later = house.token(grant_type="refresh_token", refresh_token=first["refresh_token"]).json()
    token = first["access_token"]
    assert house.request("DELETE", f"/oauth/token/revoke/{claims_of(token)['jti']}", token).status_code == 200
    assert house.api(token) == 401
    assert house.api(later["access_token"]) == 401, "a token of the same login"
    assert house.get("/userinfo", token).json()["error"] == "invalid_token"
    assert _refreshed(house, first) == 401
    assert house.api(second["access_token"]) == 200
    assert _refreshed(house, second) == 200


def test_revoking_a_refresh_token(house: House) -> None:
    house.user("joe")
    body, other = house.log_in("joe", "secret"), house.log_in()
    name = body["refresh_token"]
    house.user("eve")
    eve = house.log_in("eve", "secret")["access_token"]
    refused = house.request("DELETE", f"/oauth/token/revoke/{name}", eve)
    assert (refused.status_code, refused.json()) == (
        404,
        {"error": "invalid_token", "error_description": "Resource not found"},
    )
    assert house.request("DELETE", f"/oauth/token/revoke/{name}", body["access_token"]).status_code == 200
    assert _refreshed(house, body) == 401
    assert house.api(body["access_token"]) == 401
    assert house.api(other["access_token"]) == 200


def test_revoking_the_token_of_somebody_else(house: House) -> None:
    house.user("joe")
    token, admin = house.log_in("joe", "secret")["access_token"], house.log_in()["access_token"]
    path = f"/oauth/token/revoke/{claims_of(token)['jti']}"
    assert house.request("DELETE", path, admin).status_code == 404, "the user admin has no tokens.revoke"
    assert house.request("DELETE", path, house.admin()).status_code == 200
    assert house.api(token) == 401
    assert house.request("DELETE", "/oauth/token/revoke/none", house.admin()).status_code == 404
    assert house.request("DELETE", path).status_code == 401


def test_revoking_all_tokens_of_a_user(house: House) -> None:
    user = house.user("joe")
    old = house.log_in("joe", "secret")
    house.user("eve")
    eve = house.log_in("eve", "secret")["access_token"]
    path = f"/oauth/token/revoke/user/{user['id']}"
    assert house.get(path, eve).status_code == 403
    assert house.get(path, old["access_token"]).status_code == 200
    assert house.api(old["access_token"]) == 401
    assert _refreshed(house, old) == 401
    # A login in the same second is good: what counts is a generation, not a time.
    new = house.log_in("joe", "secret")
    assert house.api(new["access_token"]) == 200
    assert house.get(path, house.admin()).status_code == 200
    assert house.api(new["access_token"]) == 401
    assert house.api(eve) == 200
    assert house.get("/oauth/token/revoke/user/none", house.admin()).status_code == 404


def test_revoking_all_tokens_of_a_client(house: House) -> None:
    house.client("app", authorized_grant_types=["client_credentials"], authorities=["cloud_controller.read"])
    old = house.token("app", "secret", grant_type="client_credentials").json()["access_token"]
    user, admin = house.log_in(), house.admin()
    assert house.get("/oauth/token/revoke/client/app", user["access_token"]).status_code == 403
    assert house.api(old) == 200
    assert house.get("/oauth/token/revoke/client/app", admin).status_code == 200
    assert house.api(old) == 401
    assert house.api(house.token("app", "secret", grant_type="client_credentials").json()["access_token"]) == 200
    assert house.get("/oauth/token/revoke/client/cf", admin).status_code == 200
    assert house.api(user["access_token"]) == 401
    assert _refreshed(house, user) == 401
    assert house.api(house.log_in()["access_token"]) == 200


def test_revoking_what_a_client_has_of_a_user(house: House, moving_clock: Clock) -> None:
    scope = ["cloud_controller.read", "openid"]
    house.client("app", authorized_grant_types=["password", "refresh_token"], scope=scope)
    joe, eve = house.user("joe"), house.user("eve")

    def log_in(name: str, client: str = "app", secret: str = "secret") -> Any:
        return house.token(client, secret, grant_type="password", username=name, password="secret").json()

    token, kept = log_in("joe"), [log_in("eve"), log_in("joe", "cf", "")]
    path = f"/oauth/token/revoke/user/{joe['id']}/client/app"
    assert house.get(path, kept[0]["access_token"]).status_code == 403
    assert house.get(path, kept[1]["access_token"]).status_code == 403, "its own user, but another client"
    assert house.get(path, token["access_token"]).status_code == 200
    assert house.api(token["access_token"]) == 401
    again = house.token("app", "secret", grant_type="refresh_token", refresh_token=token["refresh_token"])
    assert again.status_code == 401
    assert [house.api(one["access_token"]) for one in kept] == [200, 200]
    moving_clock.forward(1)
    assert house.api(log_in("joe")["access_token"]) == 200
    assert house.get(f"/oauth/token/revoke/user/{eve['id']}/client/none", house.admin()).status_code == 404


def test_a_client_of_the_same_name_does_not_inherit_tokens(house: House) -> None:
    def make() -> str:
        house.client("app", authorized_grant_types=["client_credentials"], authorities=["cloud_controller.read"])
        return str(house.token("app", "secret", grant_type="client_credentials").json()["access_token"])

    old = make()
    assert house.request("DELETE", "/oauth/clients/app", house.admin()).status_code == 200
    assert house.api(old) == 401
    new = make()
    assert house.api(new) == 200
    assert house.api(old) == 401


def test_lists_of_tokens(house: House) -> None:
    user = house.user("joe")
    body = house.log_in("joe", "secret", token_format="opaque")
    listed = house.ok("GET", f"/oauth/token/list/user/{user['id']}", house.admin())
    assert {one["responseType"] for one in listed} == {"REFRESH_TOKEN", "ACCESS_TOKEN"}
    assert not any(secret in str(listed) for secret in (body["access_token"], body["refresh_token"]))
    assert house.get("/oauth/token/list/client/cf", house.log_in()["access_token"]).status_code == 403
    assert len(house.ok("GET", "/oauth/token/list/client/cf", house.admin())) == 3


def test_a_second_controller_knows_within_five_seconds(platform: Platform) -> None:
    with opened(platform) as first, opened(platform) as second:
        body = first.log_in()
        token = body["access_token"]
        assert second.api(token) == 200
        first.request("DELETE", f"/oauth/token/revoke/{claims_of(token)['jti']}", token)
        deadline = time.monotonic() + 5
        # Nobody listens for the bell here: this is the period.
        while second.api(token) == 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert second.token(grant_type="refresh_token", refresh_token=body["refresh_token"]).status_code == 401


def test_another_process_rings_no_bell(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cupola.uaa.revocations.PERIOD", 0.2)
    with opened(platform) as first, opened(platform) as second:
        token = first.log_in()["access_token"]
        assert second.api(token) == 200
        first.get(f"/oauth/token/revoke/user/{claims_of(token)['user_id']}", token)
        deadline = time.monotonic() + 5
        while second.api(token) == 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@contextlib.contextmanager
def _listening(house: House) -> Iterator[None]:
    """The loop of a controller that hears the bells of the others; on when PostgreSQL says so."""
    portal = house.http.portal
    assert portal is not None
    loop = portal.start_task_soon(listen, house.database)
    deadline = time.monotonic() + 20
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'")
    with house.database.read() as tx:
        while not tx.scalar(waiting):
            assert time.monotonic() < deadline
            assert not loop.done(), loop.exception()
            time.sleep(0.01)
    try:
        yield
    finally:
        loop.cancel()
        with contextlib.suppress(CancelledError):
            loop.result(10)


def test_bells_of_another_controller_are_heard(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL a revocation reaches the others at once: the period, moved out of the way here, is a safety net."""
    if not platform.url:
        pytest.skip("SQLite has one controller")
    monkeypatch.setattr("cupola.uaa.revocations.PERIOD", 3600.0)
    with opened(platform) as first, opened(platform) as second, _listening(second):
        token = first.log_in()["access_token"]
        assert second.api(token) == 200
        rung = threading.Event()
        second.database.bells.on_ring(lambda name: rung.set() if name == "revocations" else None)
        first.get(f"/oauth/token/revoke/user/{claims_of(token)['user_id']}", token)
        assert rung.wait(5), "the bell was not heard"
        assert second.api(token) == 401
