"""Users made and let in again from a shell, beside a running platform."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from click.testing import CliRunner, Result

from cupola.cli.commands import cupola
from cupola.config import write_resolved
from tests.uaa.house import House, Platform

Run = Callable[..., Result]


@pytest.fixture
def run(house: House, platform: Platform) -> Run:
    """`cupola user ...` on the platform of `house`."""
    settings = house.settings
    settings.database.url = platform.url
    settings.run_dir.mkdir(exist_ok=True)
    if not platform.url:
        (settings.data_dir / "cupola.db").symlink_to(platform.file)
    write_resolved(settings, settings.run_dir / "settings.json")

    def call(*words: str, typed: str = "") -> Result:
        return CliRunner().invoke(cupola, ["user", *words, "--data-dir", str(settings.data_dir)], input=typed)

    return call


def _password(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return str(result.output.split("password: ")[1].strip())


def test_create(house: House, run: Run) -> None:
    first = _password(run("create", "joe", "--email", "joe@example.org", "--group", "scim.read"))
    body = house.log_in("joe", first)
    assert "scim.read" in body["scope"].split()
    assert "cloud_controller.admin" not in body["scope"].split()
    second = _password(run("create", "root", "--admin"))
    assert first != second
    assert len(second) == 24
    assert "cloud_controller.admin" in house.log_in("root", second)["scope"].split()
    typed = run("create", "eve", "--password", typed="my choice\n")
    assert "my choice" not in typed.output
    assert house.log_in("eve", "my choice")
    again = run("create", "JOE")
    assert again.exit_code == 1
    assert "there is a user JOE already" in again.output
    assert "must match pattern" in run("create", "a b").output


def test_reset_password(house: House, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cupola.uaa.revocations.PERIOD", 0.0)
    joe = house.user("joe")
    old = house.log_in("joe", "secret")
    house.ok("PATCH", f"/Users/{joe['id']}", house.admin(), {"verified": False}, headers={"If-Match": "*"})
    for _ in range(5):
        house.token(grant_type="password", username="joe", password="wrong")
    new = _password(run("reset-password", "joe"))
    assert house.log_in("joe", new)
    assert house.api(old["access_token"]) == 401
    assert house.token(grant_type="refresh_token", refresh_token=old["refresh_token"]).status_code == 401
    assert "there is no user nobody" in run("reset-password", "nobody").output
    admin = _password(run("reset-password", "admin"))
    kept = json.loads((house.settings.data_dir / "credentials.json").read_bytes())
    assert kept == {"admin": {"username": "admin", "password": admin}}
    assert (house.settings.data_dir / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert house.log_in("admin", admin)


def test_import(house: House, run: Run, tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"from a UAA", bcrypt.gensalt(4)).decode()
    users: list[dict[str, Any]] = [
        {
            "userName": "joe",
            "name": {"givenName": "Joe", "familyName": "Doe"},
            "emails": [{"value": "joe@example.org", "primary": True}],
            "passwordHash": "{bcrypt}" + hashed,
            "groups": [{"display": "scim.read", "value": "x"}, "team"],
        },
        {"userName": "ann@ldap", "origin": "ldap", "externalId": "cn=ann"},
        {"userName": "ADMIN", "passwordHash": hashed},
    ]
    file = tmp_path / "users.json"
    file.write_text(json.dumps({"resources": users}))
    result = run("import", str(file))
    assert result.exit_code == 0, result.output
    assert "imported 2 users" in result.output
    assert "ADMIN" in result.output
    assert "scim.read" in house.log_in("joe", "from a UAA")["scope"]
    assert house.log_in(), "who was there already is left alone"
    (ann,) = house.ok("GET", "/Users", house.admin(), params={"filter": 'origin eq "ldap"'})["resources"]
    assert ann["externalId"] == "cn=ann"
    assert house.group("team")
    for bad, text in (
        ([{"userName": "x", "passwordHash": "secret"}], "neither a bcrypt nor an argon2id hash"),
        ([{"userName": "x"}, {"userName": "a b"}], "user 2: Username must match"),
        ([{"userName": "x", "groups": [1]}], "groups must be names"),
        ({"users": []}, "neither a JSON list"),
    ):
        file.write_text(json.dumps(bad))
        refused = run("import", str(file))
        assert refused.exit_code == 1
        assert text in refused.output
    assert house.ok("GET", "/Users", house.admin(), params={"filter": 'userName eq "x"'})["totalResults"] == 0
