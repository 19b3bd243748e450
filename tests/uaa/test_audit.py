"""The log of logins: who, from where, with what result; never a secret."""

import logging
from typing import Any

import pytest
from sqlalchemy import select, text, update

from cupola import clock
from cupola.store import identity as tables
from tests.uaa.house import House, claims_of


def _events(house: House) -> list[Any]:
    with house.database.read() as tx:
        return list(tx.all(select(tables.identity_events).order_by(tables.identity_events.c.id)))


def test_events_and_no_secrets(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    joe = house.user("joe", "first-secret")
    house.client("app", "client-secret", authorized_grant_types=["password"], scope=["openid"])
    house.token(grant_type="password", username="joe", password="wrong-secret")
    house.token(grant_type="password", username="typed-my-password-here", password="x")
    house.token("app", "wrong-client-secret", grant_type="password")
    body = house.log_in("joe", "first-secret")
    visitor = house.browser()
    visitor.log_in("joe", "first-secret")
    passcode = house.ok("GET", "/passcode", body["access_token"], headers={"Accept": "application/json"})
    house.token(grant_type="password", passcode=passcode)
    change = {"oldPassword": "first-secret", "password": "second-secret"}
    house.ok("PUT", f"/Users/{joe['id']}/password", body["access_token"], change)
    house.ok("PUT", "/oauth/clients/app/secret", house.admin(), {"secret": "new-client-secret"})
    house.ok("DELETE", f"/Users/{joe['id']}", house.admin())
    events = _events(house)
    types = [event.type for event in events]
    assert types == [
        "UserCreated",
        "ClientCreated",
        "UserAuthenticationFailure",
        "UserNotFound",
        "ClientAuthenticationFailure",
        "UserAuthenticationSuccess",
        "UserAuthenticationSuccess",
        "PasscodeCreated",
        "UserAuthenticationSuccess",
        "PasswordChangeSuccess",
        "SecretChangeSuccess",
        "UserDeleted",
    ]
    failure = events[2]
    assert (failure.username, failure.user_guid, failure.client_id) == ("joe", joe["id"], "cf")
    assert failure.address == "testclient"
    assert abs(failure.created_at - clock.micros()) < 60_000_000
    assert events[3].username is None, "a name that nobody has may be a password"
    assert events[0].data["by"] == "admin"
    hidden = ("-secret", "typed-my", passcode, body["access_token"], body["refresh_token"])
    shown = caplog.text + "".join(str(tuple(event)) for event in events)
    assert "UserAuthenticationSuccess" in caplog.text
    for secret in hidden:
        assert secret not in shown, secret


def test_a_failing_database_tells_no_secret(house: House, caplog: pytest.LogCaptureFixture) -> None:
    def rename(old: str, new: str) -> None:
        with house.database.write() as tx:
            tx.run(text(f"ALTER TABLE {old} RENAME TO {new}"))

    rename("identities", "hidden")
    try:
        answer = house.token(grant_type="password", username="joe", password="secret")
    finally:
        rename("hidden", "identities")
    assert answer.status_code in {500, 503}
    assert set(answer.json()) == {"error", "error_description"}
    assert "identities" in caplog.text
    assert "joe" not in caplog.text + answer.text
    assert "secret" not in caplog.text + answer.text


def test_what_has_expired_is_forgotten(house: House) -> None:
    body = house.log_in()
    house.token(grant_type="password", username="nobody", password="wrong")
    house.request("DELETE", f"/oauth/token/revoke/{claims_of(body['access_token'])['jti']}", body["access_token"])
    house.log_in()
    kept = [tables.refresh_tokens, tables.revocations, tables.login_failures, tables.identity_events]

    def counts() -> list[int]:
        with house.database.read() as tx:
            return [len(tx.all(select(table))) for table in kept]

    before = counts()
    with house.database.write() as tx:
        tables.prune(tx)
    assert counts() == before
    assert all(before)
    with house.database.write() as tx:
        for table in (tables.refresh_tokens, tables.revocations):
            tx.run(update(table).values(expires_at=0))
        tx.run(update(tables.login_failures).values(failed_at=0))
        tx.run(update(tables.identity_events).values(created_at=0))
        tables.prune(tx)
    assert counts() == [0, 0, 0, 0]
