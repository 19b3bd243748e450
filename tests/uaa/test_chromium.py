"""The pages in a real browser: Debian's Chromium, headless, where it is installed."""

import datetime
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from playwright.sync_api import Page, sync_playwright

from tests.databases import Prepared
from tests.uaa.house import House, Platform, query_of
from tests.uaa.provider import SECRET, running, settings_of
from tests.uaa.server import served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed here (Debian: chromium)")


@pytest.fixture(scope="session")
def prepared(sqlite_prepared: Prepared) -> Prepared:
    """A browser sees no database: one kind will do."""
    return sqlite_prepared


@pytest.fixture
def house(platform: Platform) -> Iterator[House]:
    with served(platform) as found:
        found.user("joe")
        yield found


@contextmanager
def _browser(*arguments: str) -> Iterator[Page]:
    """A page of a new browser; whatever its console complains about fails the test."""
    complaints: list[str] = []
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*sandbox, *arguments])
        page = browser.new_context(ignore_https_errors=True).new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        browser.close()
    assert [one for one in complaints if "favicon" not in one and "404" not in one] == []


def _log_in(page: Page, password: str = "secret") -> None:
    page.get_by_label("Username or email").fill("joe")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def test_login_and_passcode(house: House) -> None:
    with _browser() as page:
        page.goto(f"{house.settings.login_url}/passcode")
        assert page.title() == "Log in · cupola"
        assert page.get_by_role("heading", name="Log in").is_visible()
        _log_in(page, "wrong")
        assert "wrong" in page.get_by_role("alert").inner_text()
        # By keyboard alone: the first field has the focus, fields follow each other, Enter sends.
        page.keyboard.type("joe")
        page.keyboard.press("Tab")
        page.keyboard.type("secret")
        page.keyboard.press("Enter")
        page.wait_for_url("**/passcode")
        code = page.get_by_label("Code").inner_text()
        body = house.token(grant_type="password", passcode=code).json()
        assert house.ok("GET", "/userinfo", body["access_token"])["user_name"] == "joe"
        color = page.evaluate("getComputedStyle(document.querySelector('main')).borderTopStyle")
        assert color == "solid", "the stylesheet is loaded"
        assert page.evaluate("document.cookie").startswith("Current-User="), "scripts see no session"
        page.goto(house.settings.login_url + "/")
        page.get_by_role("link", name="Log out").click()
        page.wait_for_url("**/login")
        page.goto(house.settings.login_url + "/")
        page.wait_for_url("**/login")


@contextmanager
def _elsewhere(body: str = "arrived") -> Iterator[tuple[str, list[str]]]:
    """A site of somebody else: its address, and the paths that were asked for."""
    asked: list[str] = []

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_single_sign_on_of_a_dashboard(house: House) -> None:
    with _elsewhere() as (site, asked), _browser() as page:
        grants = ["authorization_code"]
        scope = ["openid", "cloud_controller.read"]
        house.client("dash", authorized_grant_types=grants, redirect_uri=[f"{site}/cb"], scope=scope, name="Dashboard")
        start = f"{house.settings.uaa_url}/oauth/authorize?response_type=code&client_id=dash&redirect_uri={site}/cb"
        page.goto(f"{start}&state=first")
        assert page.get_by_text("to continue to Dashboard").is_visible()
        _log_in(page)
        assert page.get_by_role("heading", name="Allow Dashboard?").is_visible()
        page.get_by_label(re.compile("See your apps")).uncheck()
        page.get_by_role("button", name="Allow").click()
        page.wait_for_url(f"{site}/cb?**")
        assert page.get_by_text("arrived").is_visible()
        back = query_of(page.url)
        assert back["state"] == "first"
        form = {"grant_type": "authorization_code", "code": back["code"], "redirect_uri": f"{site}/cb"}
        assert house.token("dash", "secret", **form).json()["scope"] == "openid"
        page.goto(f"{start}&state=second")
        page.wait_for_url(f"{site}/cb?**state=second")
        assert len([path for path in asked if path.startswith("/cb")]) == 2
        page.goto(house.settings.uaa_url + "/")
        page.get_by_role("button", name="No longer allow Dashboard").click()
        page.goto(f"{start}&state=third")
        page.get_by_role("button", name="Deny").click()
        page.wait_for_url(f"{site}/cb?**error=access_denied**")


def test_login_at_another_provider(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    with running() as provider:
        oidc = {"corp": settings_of(provider, str(tmp_path / "secret"), link_text="Corp & friends")}
        provider.add("joe@corp.example")
        with served(platform, identity__oidc=oidc) as house, _browser() as page:
            page.goto(f"{house.settings.login_url}/passcode")
            assert page.get_by_role("navigation", name="Other ways to log in").is_visible()
            # By keyboard: the link comes after the form.
            page.get_by_role("button", name="Log in").focus()
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.textContent") == "Log in with Corp & friends"
            page.keyboard.press("Enter")
            page.wait_for_url("**/passcode")
            code = page.get_by_label("Code").inner_text()
            body = house.token(grant_type="password", passcode=code).json()
            assert house.ok("GET", "/userinfo", body["access_token"])["user_name"] == "joe@corp.example"
            names = {cookie["name"] for cookie in page.context.cookies()}
            assert names == {"JSESSIONID", "Current-User"}, "what the way there needed is gone"
            page.goto(house.settings.login_url + "/logout.do")
            provider.faults["/authorize"] = lambda: (
                302,
                f"{house.settings.login_url}/login/callback/corp?error=access_denied",
            )
            page.goto(house.settings.login_url + "/login")
            page.get_by_role("link", name="Log in with Corp & friends").click()
            page.wait_for_url("**/login?error=**")
            assert page.get_by_role("alert").is_visible()


def test_a_form_of_another_site_does_nothing(house: House) -> None:
    action = f"{house.settings.uaa_url}/login.do"
    fields = {"username": "joe", "password": "secret", "X-Uaa-Csrf": "x"}
    inputs = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in fields.items())
    with (
        _elsewhere(f'<form method="post" action="{action}">{inputs}<button>Win a prize</button></form>') as (site, _),
        _browser() as page,
    ):
        page.goto(site)
        page.get_by_role("button", name="Win a prize").click()
        page.wait_for_url("**/login?error=invalid_login_request")
        page.goto(house.settings.uaa_url + "/")
        page.wait_for_url("**/login")


def _certificate(directory: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = directory / "certificate.pem", directory / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


def test_with_tls_and_a_host_of_its_own(platform: Platform, tmp_path: Path) -> None:
    tls = _certificate(tmp_path, "login.sys.example.org")
    with served(platform, tls=tls, platform__system_domain="sys.example.org") as house:
        house.user("joe")
        rules = f"--host-resolver-rules=MAP login.sys.example.org:443 127.0.0.1:{house.settings.platform.port}"
        with _browser(rules) as page:
            page.goto("https://login.sys.example.org/passcode")
            _log_in(page)
            page.wait_for_url("https://login.sys.example.org/passcode")
            cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
            session = cookies["__Host-JSESSIONID"]
            assert session["secure"]
            assert session["httpOnly"]
            assert session["domain"] == "login.sys.example.org"
            assert set(cookies) == {"__Host-JSESSIONID", "__Host-Current-User"}
