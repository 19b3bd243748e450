"""Secrets that go through a platform are in none of its log files, nor in the clear in its database."""

import base64
import json
import stat
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.client import Client
from tests.journeys.platform import ROOT, Answer, Platform, eventually, started

FORM = "application/x-www-form-urlencoded"


class Secrets:
    """Makes values that are found again wherever they are."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}

    def new(self, what: str) -> str:
        self.made[what] = f"s3cr3t-{what.replace(' ', '-')}-{len(self.made):02}-Zq7"
        return self.made[what]

    def found_in(self, files: list[Path]) -> dict[str, list[str]]:
        """Secret to the files that hold it, as it is or as it is sent."""
        found: dict[str, list[str]] = {}
        for file in files:
            content = file.read_bytes()
            for what, value in self.made.items():
                spellings = {value, urllib.parse.quote(value), base64.b64encode(value.encode()).decode().rstrip("=")}
                if any(spelling.encode() in content for spelling in spellings):
                    found.setdefault(what, []).append(file.name)
        return found


class Asker:
    """Requests of every kind, with whatever is secret about them."""

    def __init__(self, platform: Platform, secrets: Secrets) -> None:
        self.platform = platform
        self.secrets = secrets
        self.admin = Client(platform)

    def form(self, path: str, fields: dict[str, str], client: str = "cf", secret: str = "") -> Answer:
        headers = {
            "Content-Type": FORM,
            "Authorization": "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode(),
        }
        body = urllib.parse.urlencode(fields).encode()
        return self.platform.get("localhost", f"/uaa{path}", method="POST", headers=headers, body=body)

    def send(self, method: str, path: str, body: Any, token: str = "", raw: bytes | None = None) -> Answer:
        headers = {"Content-Type": "application/json", **({"Authorization": f"bearer {token}"} if token else {})}
        data = json.dumps(body).encode() if raw is None else raw
        return self.platform.get("localhost", path, method=method, headers=headers, body=data)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """A platform that has seen many secrets."""
    with started(tmp_path_factory.mktemp("redaction") / "data") as platform:
        asker = Asker(platform, Secrets())
        identity(asker)
        api(asker)
        an_app(asker)
        yield asker


def identity(asker: Asker) -> None:
    """Logins, good and bad; users, clients, codes."""
    secrets = asker.secrets
    secrets.made["admin's password"] = asker.platform.password
    answer = asker.form(
        "/oauth/token", {"grant_type": "password", "username": "admin", "password": asker.platform.password}
    ).json()
    token, refresh = answer["access_token"], answer["refresh_token"]
    secrets.made["access token"], secrets.made["refresh token"] = token.rpartition(".")[2], refresh
    wrong = {"grant_type": "password", "username": "admin", "password": secrets.new("wrong password")}
    assert asker.form("/oauth/token", wrong).status == 401
    assert asker.form("/oauth/token", {"grant_type": "refresh_token", "refresh_token": refresh}).status == 200
    bad = {"grant_type": "refresh_token", "refresh_token": secrets.new("wrong refresh token")}
    assert asker.form("/oauth/token", bad).status == 401
    assert (
        asker.form(
            "/oauth/token", {"grant_type": "client_credentials"}, "admin", secrets.new("wrong client secret")
        ).status
        == 401
    )
    coded = {"grant_type": "password", "passcode": secrets.new("wrong passcode")}
    assert asker.form("/oauth/token", coded).status == 401
    passcode = asker.platform.get(
        "localhost", "/uaa/passcode", headers={"Authorization": f"bearer {token}", "Accept": "application/json"}
    )
    secrets.made["passcode"] = str(passcode.json())
    client = {
        "client_id": "dash",
        "client_secret": secrets.new("client secret"),
        "authorized_grant_types": ["client_credentials"],
    }
    own = json.loads((asker.platform.data_dir / "keys" / "clients.json").read_text())["admin"]
    secrets.made["platform's client secret"] = own
    operator = asker.form("/oauth/token", {"grant_type": "client_credentials"}, "admin", own).json()["access_token"]
    assert asker.send("POST", "/uaa/oauth/clients", client, operator).status == 201
    granted = asker.form("/oauth/token", {"grant_type": "client_credentials"}, "dash", str(client["client_secret"]))
    assert granted.status == 200
    user = {"userName": "joe", "password": secrets.new("user password"), "emails": [{"value": "joe@example.org"}]}
    guid = asker.send("POST", "/uaa/Users", user, token).json()["id"]
    asker.send("POST", "/uaa/Users", {**user, "password": secrets.new("password of a second joe")}, token)
    change = {"oldPassword": secrets.new("wrong old password"), "password": secrets.new("new password")}
    asker.send("PUT", f"/uaa/Users/{guid}/password", change, token)
    asker.send("POST", "/uaa/Users", None, token, raw=b'{"password": "' + secrets.new("broken body").encode())


def api(asker: Asker) -> None:
    """Bodies, good and bad; addresses with credentials; tokens where none belong."""
    secrets, admin = asker.secrets, asker.admin
    space = admin.get("/v3/spaces")["resources"][0]["guid"]
    where = {"space": {"data": {"guid": space}}}
    admin.request(
        "POST",
        "/v3/apps",
        {"name": "kept", "relationships": where, "environment_variables": {"P": secrets.new("variable")}},
    )
    guid = admin.app_guid("kept")
    admin.request(
        "PATCH", f"/v3/apps/{guid}/environment_variables", {"var": {"VCAP_X": secrets.new("refused variable")}}, (422,)
    )
    admin.request("PATCH", "/v3/environment_variable_groups/running", {"var": {"G": secrets.new("group variable")}})
    admin.request("POST", "/v3/service_instances", {
        "name": "given", "type": "user-provided", "relationships": where,
        "credentials": {"password": secrets.new("service credential")},
        "syslog_drain_url": f"syslog-tls://user:{secrets.new('drain')}@127.0.0.1:1",
    })  # fmt: skip
    broker = {"type": "basic", "credentials": {"username": "b", "password": secrets.new("broker password")}}
    address = f"http://u:{secrets.new('broker address')}@127.0.0.1:1"
    admin.request(
        "POST",
        "/v3/service_brokers",
        {"name": "gone", "url": "http://127.0.0.1:1", "authentication": broker},
        (202, 422),
    )
    admin.request(
        "POST", "/v3/service_brokers", {"name": "gone2", "url": address, "authentication": broker}, (202, 422)
    )
    package = {"type": "docker", "relationships": {"app": {"data": {"guid": guid}}}}
    image = {"image": "127.0.0.1:1/x", "username": "d", "password": secrets.new("registry password")}
    admin.request("POST", "/v3/packages", {**package, "data": image}, (201, 403, 422))
    pack = f"http://b:{secrets.new('buildpack address')}@127.0.0.1:1/pack.zip"
    admin.request("PATCH", f"/v3/apps/{guid}", {"lifecycle": {"type": "buildpack", "data": {"buildpacks": [pack]}}})
    manifest = f"applications: [{{name: m, env: {{P: {secrets.new('manifest variable')}}}, memory: nonsense}}]"
    headers = {"Content-Type": "application/x-yaml", "Authorization": f"bearer {admin._token}"}
    path = f"/v3/spaces/{space}/actions/apply_manifest"
    asker.platform.get("localhost", path, method="POST", headers=headers, body=manifest.encode())
    asker.send("POST", "/v3/apps", None, admin._token, raw=b'{"P": "' + secrets.new("broken API body").encode())
    assert asker.send("GET", "/v3/apps", None, secrets.new("forged token")).status == 401
    for query in (f"access_token={secrets.new('token in a query')}", f"password={secrets.new('password in a query')}"):
        asker.send("GET", f"/v3/apps?{query}", None, admin._token)
        asker.send("GET", f"/uaa/login?{query}", None)
        asker.send("GET", f"/api/v1/read/x?{query}", None)


def an_app(asker: Asker) -> None:
    """An app that is pushed and asked with cookies and tokens of its users."""
    secrets, platform = asker.secrets, asker.platform
    platform.cupola("push", str(ROOT / "samples" / "static"))
    sent = {
        "Authorization": f"Bearer {secrets.new('token for an app')}",
        "Cookie": f"session={secrets.new('cookie')}; JSESSIONID={secrets.new('session')}",
    }
    assert platform.app("sample-static", "/?shown=visible-query", headers=sent).status == 200
    # A build fails, with the words of whoever tried to fetch the buildpack.
    pack = f"http://b:{secrets.new('address of a failing buildpack')}@127.0.0.1:1/pack.zip"
    failed = platform.cupola(
        "push", str(ROOT / "samples" / "static"), "--name", "failing", "--buildpack", pack, check=False
    )
    assert failed.returncode == 1, failed.stdout
    assert "127.0.0.1:1" in failed.stdout + failed.stderr


def log_files(data: Path) -> list[Path]:
    found = [
        *data.glob("logs/**/*"),
        *data.glob("router/logs/**/*"),
        *data.glob("cell/logs/**/*"),
        *data.glob("cell/outbox/**/*"),
    ]
    return [file for file in found if file.is_file()]


def test_the_search_finds_what_is_there(asked: Asker) -> None:
    """Else an empty result would say nothing: what access lines do show is found in the same files."""
    data = asked.platform.data_dir
    shown = Secrets()
    shown.made = {"query": "visible-query", "app": "sample-static"}
    found = eventually(lambda: len(shown.found_in(log_files(data))) == 2, 20, "access lines and app logs")
    assert found
    assert len(asked.secrets.made) > 25


def test_no_log_file_holds_a_secret(asked: Asker) -> None:
    assert asked.secrets.found_in(log_files(asked.platform.data_dir)) == {}


def test_the_database_holds_no_secret_in_the_clear(asked: Asker) -> None:
    """Sealed, hashed, or not kept."""
    files = list(asked.platform.data_dir.glob("cupola.db*"))
    assert files
    assert asked.secrets.found_in(files) == {}


def test_what_is_written_to_disk_besides_is_where_it_has_to_be(asked: Asker) -> None:
    """The first user's password is for the operator, the environment of running apps for the cell; nothing else lies about."""
    data = asked.platform.data_dir
    files = [file for file in data.rglob("*") if file.is_file() and not file.name.startswith("cupola.db")]
    found = asked.secrets.found_in(files)
    assert {what: set(places) for what, places in found.items()} == {
        "admin's password": {"credentials.json"},
        "platform's client secret": {"clients.json"},
        "group variable": {"desired", "container.json", "launch.json"},
    }
    names = {name for places in found.values() for name in places}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files if file.name in names} == {0o600}


def test_no_command_line_holds_a_secret(asked: Asker) -> None:
    """Everybody on the machine may read them."""
    for process in ("supervisor", "controller", "router", "cell"):
        line = Path(f"/proc/{asked.platform.pid(process)}/cmdline").read_bytes()
        assert not any(value.encode() in line for value in asked.secrets.made.values()), process
