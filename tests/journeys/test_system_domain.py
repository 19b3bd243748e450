"""A platform as a server has it: virtual hosts over TLS, with an authority of its own, on ports that need no root."""

import http.client
import json
import socket
import ssl
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cupola.config import read_resolved
from cupola.secrets.generated import write_private
from cupola.tls.authority import Authority
from cupola.tls.keeper import authority_domains, system_names
from cupola.tls.places import Places
from tests.journeys.cf import Cf
from tests.journeys.conftest import BINARIES
from tests.journeys.platform import ROOT, Answer, Platform, eventually
from tests.ports import free_port
from tests.proxy import proxy

pytestmark = pytest.mark.journey
DOMAIN = "cf.example.test"


class Server:
    """The platform, and ways to ask it by name."""

    def __init__(self, data_dir: Path) -> None:
        self.platform = Platform(data_dir, free_port())
        self.plain_port = free_port()
        self.authority = data_dir / "tls" / "authority.crt"

    def up(self) -> str:
        ports = ("--https-port", str(self.platform.port), "--http-port", str(self.plain_port))
        listen = ("--listen", "127.0.0.1")
        return self.platform.cupola("up", "--detach", "--system-domain", DOMAIN, *ports, *listen).stdout

    def url(self, name: str) -> str:
        return f"https://{name}.{DOMAIN}:{self.platform.port}"

    def connect(self, host: str) -> tuple[http.client.HTTPSConnection, ssl.SSLSocket]:
        """A connection that trusts the platform's authority and nothing else."""
        trust = ssl.create_default_context(cafile=str(self.authority))
        plain = socket.create_connection(("127.0.0.1", self.platform.port), 20)
        secure = trust.wrap_socket(plain, server_hostname=host)
        connection = http.client.HTTPSConnection(host, self.platform.port, timeout=20)
        connection.sock = secure
        return connection, secure

    def get(self, host: str, path: str = "/", **headers: str) -> Answer:
        connection, _ = self.connect(host)
        with connection.sock:
            return ask(connection, path, headers)

    def plain(self, host: str, path: str = "/", method: str = "GET") -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.plain_port, timeout=20)
        try:
            return ask(connection, path, {"Host": host}, method)
        finally:
            connection.close()


def ask(connection: http.client.HTTPConnection, path: str, headers: dict[str, str], method: str = "GET") -> Answer:
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("system") / "data")
    try:
        yield made
    finally:
        made.platform.down()


@pytest.fixture(scope="module")
def started(server: Server) -> Server:
    printed = server.up()
    assert server.url("api") in printed
    assert f"export SSL_CERT_FILE={server.authority}" in printed
    return server


@pytest.fixture(scope="module", params=BINARIES or [""], ids=[Path(one).name for one in BINARIES] or ["no cf"])
def cf(request: pytest.FixtureRequest, started: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cf]:
    """A `cf` that finds the names by a proxy, and is not logged in."""
    if not request.param:
        pytest.skip("no official cf CLI on PATH and $CF_BIN names none")
    with proxy() as way:
        home = tmp_path_factory.mktemp(Path(request.param).name)
        yield Cf(request.param, home, {"https_proxy": way, "no_proxy": ""})


def test_cf_trusts_the_authority_and_pushes(cf: Cf, started: Server) -> None:
    api, password = started.url("api"), started.platform.password
    refused = cf.run("api", api)
    assert refused.returncode == 1
    assert "--skip-ssl-validation" in refused.stdout
    cf.environment["SSL_CERT_FILE"] = str(started.authority)
    cf("login", "-a", api, "-u", "admin", "-p", password, "-o", "cupola", "-s", "dev")
    name = f"page-{cf.name}"
    printed = cf("push", name, "-m", "64M", cwd=ROOT / "samples" / "static")
    assert f"{name}.apps.{DOMAIN}" in printed
    assert b"<html" in started.get(f"{name}.apps.{DOMAIN}").body.lower()
    plain = started.plain(f"{name}.apps.{DOMAIN}")
    assert (plain.status, "strict-transport-security" in plain.headers) == (200, False)
    assert "STG" in cf("logs", name, "--recent")
    cf("delete", "-f", "-r", name)


def test_cf_without_trust_when_it_is_told_so(cf: Cf, started: Server) -> None:
    stranger = Cf(cf.program, cf.home / "other", {**cf.environment, "SSL_CERT_FILE": "/dev/null"})
    stranger.home.mkdir()
    stranger("api", started.url("api"), "--skip-ssl-validation")
    stranger("auth", "admin", started.platform.password)
    assert "cupola" in stranger("orgs")


def test_links_carry_the_port(started: Server) -> None:
    links = started.get(f"api.{DOMAIN}").json()["links"]
    assert links["uaa"]["href"] == started.url("uaa")
    assert links["login"]["href"] == started.url("login")
    assert links["log_cache"]["href"] == started.url("log-cache")
    assert started.get(f"uaa.{DOMAIN}", "/info", Accept="application/json").json()["links"]["uaa"] == started.url("uaa")


def test_each_host_serves_its_own(started: Server) -> None:
    for host, path, status in (
        ("api", "/v3/info", 200),
        ("api", "/api/v1/info", 404),
        ("uaa", "/v3/info", 404),
        ("log-cache", "/api/v1/info", 200),
        ("console", "/v3/info", 404),
        ("log-stream", "/", 404),
    ):
        assert started.get(f"{host}.{DOMAIN}", path).status == status, (host, path)
    answer = started.get(f"nothing.apps.{DOMAIN}")
    assert (answer.status, answer.headers["x-cf-routererror"]) == (404, "unknown_route")


def test_system_hosts_speak_https_only(started: Server) -> None:
    assert started.get(f"login.{DOMAIN}", "/login").headers["strict-transport-security"] == "max-age=31536000"
    moved = started.plain(f"api.{DOMAIN}", "/v3/apps?per_page=1")
    assert (moved.status, moved.headers["location"]) == (301, started.url("api") + "/v3/apps?per_page=1")
    assert "strict-transport-security" not in moved.headers
    refused = started.plain(f"uaa.{DOMAIN}", "/oauth/token?password=x", method="POST")
    assert refused.status == 403
    assert b"password" not in refused.body


def test_cookies_are_bound_to_the_host_and_to_https(started: Server) -> None:
    page = started.get(f"login.{DOMAIN}", "/login", Accept="text/html")
    cookie = page.headers["set-cookie"]
    assert cookie.startswith("__Host-X-Uaa-Csrf=")
    assert "Secure" in cookie
    assert "Domain" not in cookie


def test_a_form_of_another_origin_is_refused(started: Server) -> None:
    host = f"login.{DOMAIN}"

    def log_in(origin: str) -> Answer:
        connection, _ = started.connect(host)
        with connection.sock:
            page = ask(connection, "/login", {"Accept": "text/html"})
            cookie = page.headers["set-cookie"].partition(";")[0]
            csrf = cookie.partition("=")[2]
            form = {"username": "admin", "password": started.platform.password, "X-Uaa-Csrf": csrf}
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin, "Cookie": cookie}
            connection.request("POST", "/login.do", urllib.parse.urlencode(form), headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders() if name.lower() != "set-cookie"}
            found["cookies"] = "\n".join(answer.headers.get_all("Set-Cookie") or [])
            return Answer(answer.status, found, answer.read())

    good = log_in(started.url("login"))
    assert (good.status, good.headers["location"]) == (302, "/")
    assert "__Host-JSESSIONID=" in good.headers["cookies"]
    for origin in ("https://evil.example", f"http://{host}:{started.platform.port}", f"https://x.apps.{DOMAIN}"):
        refused = log_in(origin)
        assert "error=invalid_login_request" in refused.headers["location"], origin
        assert "__Host-JSESSIONID=" not in refused.headers["cookies"]


def test_status_login_info_and_doctor_know_the_certificate(started: Server) -> None:
    status = json.loads(started.platform.cupola("status", "--json").stdout)
    assert (status["up"], status["api"]) == (True, started.url("api"))
    assert status["certificate"].startswith("of the platform's own authority, good until 2")
    info = started.platform.cupola("login-info").stdout
    assert f"SSL_CERT_FILE={started.authority}" in info
    assert "--skip-ssl-validation" in info
    found: list[dict[str, Any]] = json.loads(started.platform.cupola("doctor", "--json", check=False).stdout)
    checks = {(one["section"], one["name"]): one for one in found}
    assert checks["Addresses", "names of system hosts"]["found"] == f"api.{DOMAIN} does not resolve"
    assert checks["Addresses", f"port {started.platform.port}"]["found"] == "in use by this platform"
    assert checks["Certificates", "system hosts"]["state"] == "good"


def test_cupola_push_needs_neither_names_nor_trust(started: Server) -> None:
    printed = started.platform.cupola("push", "--name", "mine", str(ROOT / "samples" / "static")).stdout
    assert f"https://mine.apps.{DOMAIN}:{started.platform.port}" in printed
    assert started.get(f"mine.apps.{DOMAIN}").status == 200


def test_a_new_certificate_is_used_and_no_connection_is_dropped(started: Server) -> None:
    settings = read_resolved(started.platform.data_dir / "run" / "settings.json")
    places = Places(settings)
    open_one, before = started.connect(f"api.{DOMAIN}")
    with before:
        assert ask(open_one, "/v3/info", {}).status == 200
        authority = Authority.load_or_create(places.authority_key, places.authority, authority_domains(settings))
        write_private(places.made["system"], authority.issue(system_names(settings)))
        first = before.getpeercert(binary_form=True)

        def is_new() -> bool:
            connection, secure = started.connect(f"api.{DOMAIN}")
            with connection.sock:
                return secure.getpeercert(binary_form=True) != first

        eventually(is_new, 5, "a new connection gets the new certificate")
        assert ask(open_one, "/v3/info", {}).status == 200


def test_the_authority_survives_a_restart(started: Server) -> None:
    before = started.authority.read_bytes()
    started.platform.down()
    started.up()
    assert started.authority.read_bytes() == before
    assert started.get(f"api.{DOMAIN}", "/v3/info").status == 200
