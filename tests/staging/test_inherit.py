"""What builds get of the host's package access, and what nobody gets to see of it."""

import base64
from pathlib import Path

import pytest

from cupola.config import Settings
from cupola.staging.inherit import Inherited, inherit, secrets_in


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    made = tmp_path / "etc"
    made.mkdir()
    return made


def collect(environment: dict[str, str], home: Path, etc: Path, settings: Settings | None = None) -> Inherited:
    return inherit(settings or Settings(), environment, home, etc)


def test_exactly_the_documented_variables_are_inherited(home: Path, etc: Path) -> None:
    given = {
        "PIP_DEFAULT_TIMEOUT": "9", "NPM_CONFIG_STRICT_SSL": "true", "npm_config_audit": "false", "GOPROXY": "https://go.example",
        "https_proxy": "http://proxy.example:3128", "NO_PROXY": "localhost,10.0.0.0/8", "SSL_CERT_DIR": "/etc/ssl/certs",
    }  # fmt: skip
    others = {
        "PIP_TARGET": "/x",
        "PIP_USER": "1",
        "NPM_CONFIG_PREFIX": "/x",
        "HOME": "/root",
        "AWS_SECRET_ACCESS_KEY": "s",
        "PATH": "/x",
    }
    found = collect({**given, **others}, home, etc)
    assert found.environment == given
    assert found.notices == []


@pytest.mark.parametrize(("system_domain", "choice", "expected"), [("", None, True), ("", False, False), ("cf.example", None, False), ("cf.example", True, True)])  # fmt: skip
def test_it_is_off_with_a_system_domain_unless_asked_for(
    home: Path, etc: Path, system_domain: str, choice: bool | None, expected: bool
) -> None:
    settings = Settings()
    settings.platform.system_domain = system_domain
    settings.staging.inherit = choice
    found = collect({"PIP_DEFAULT_TIMEOUT": "9"}, home, etc, settings)
    assert (found.environment == {"PIP_DEFAULT_TIMEOUT": "9"}) is expected


def test_certificates_outside_of_the_stack_are_copied(home: Path, etc: Path) -> None:
    (home / "ca.pem").write_text("certificate")
    found = collect(
        {"SSL_CERT_FILE": str(home / "ca.pem"), "PIP_CERT": "/etc/ssl/certs/all.crt", "CURL_CA_BUNDLE": "/none"},
        home,
        etc,
    )
    assert found.environment == {
        "SSL_CERT_FILE": "@TMP@/inherited/SSL_CERT_FILE.pem",
        "PIP_CERT": "/etc/ssl/certs/all.crt",
    }
    assert found.files == {"inherited/SSL_CERT_FILE.pem": b"certificate"}
    assert found.notices == ["CURL_CA_BUNDLE is not inherited: the file it names cannot be read"]


def test_pip_configuration_of_system_and_user_is_one_file(home: Path, etc: Path) -> None:
    (etc / "pip.conf").write_text("[global]\nindex-url = https://system.example/simple\ntimeout = 5\n")
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/pip/pip.conf").write_text(
        "[global]\nindex-url = https://u:secretword@user.example/simple\ntarget = /x\n[install]\nuser = true\n"
    )
    found = collect({}, home, etc)
    text = found.files["inherited/pip.conf"].decode()
    assert "index-url = https://u:secretword@user.example/simple" in text
    assert "timeout = 5" in text
    assert "target" not in text
    assert "user =" not in text
    assert found.environment == {"PIP_CONFIG_FILE": "@TMP@/inherited/pip.conf"}
    assert {"secretword", "u:secretword"} <= found.scrub


def test_local_wheels_are_readable_at_their_place(home: Path, etc: Path) -> None:
    (home / "wheels").mkdir()
    found = collect({"PIP_FIND_LINKS": f"{home}/wheels https://wheels.example /not/there"}, home, etc)
    assert found.environment["PIP_FIND_LINKS"] == f"{home}/wheels https://wheels.example"
    assert found.mounts == [home / "wheels"]


def test_npm_configuration_without_places_of_the_host(home: Path, etc: Path) -> None:
    (home / ".npmrc").write_text("prefix = /x\n//r.example/:_authToken=${TOKEN}\nregistry=https://r.example/\n")
    (etc / "npmrc").write_text("cache=/x\nfund=false\n")
    found = collect({"TOKEN": "npm_token_value"}, home, etc)
    assert (
        found.files["inherited/npmrc"].decode()
        == "//r.example/:_authToken=npm_token_value\nregistry=https://r.example/\n"
    )
    assert found.files["inherited/globalnpmrc"].decode() == "fund=false\n"
    assert found.environment == {
        "NPM_CONFIG_USERCONFIG": "@TMP@/inherited/npmrc", "NPM_CONFIG_GLOBALCONFIG": "@TMP@/inherited/globalnpmrc",
    }  # fmt: skip
    assert "npm_token_value" in found.scrub


def test_npm_registries_name_no_user(home: Path, etc: Path) -> None:
    (home / ".npmrc").write_text("@own:registry = https://joe:pass%40word@own.example/npm\n")
    found = collect({"NPM_CONFIG_REGISTRY": "https://jane:letmein99@all.example/"}, home, etc)
    own, every = (base64.b64encode(text).decode() for text in (b"joe:pass@word", b"jane:letmein99"))
    assert found.files["inherited/npmrc"].decode() == (
        f"@own:registry = https://own.example/npm\n//own.example/npm/:_auth={own}\n"
        f"registry=https://all.example/\n//all.example/:_auth={every}\n"
    )
    assert "NPM_CONFIG_REGISTRY" not in found.environment
    assert {own, every, "pass@word", "letmein99"} <= found.scrub


@pytest.mark.parametrize(
    ("name", "value", "host"),
    [
        ("PIP_INDEX_URL", "http://127.0.0.1:3141/simple", "127.0.0.1:3141"),
        ("HTTPS_PROXY", "10.1.2.3:3128", "10.1.2.3:3128"),
        ("npm_config_registry", "http://localhost:4873/", "localhost:4873"),
        ("PIP_EXTRA_INDEX_URL", "https://pypi.example/simple http://[fd00::1]/simple", "fd00::1"),
        ("GOPROXY", "http://169.254.169.254,direct", "169.254.169.254"),
    ],
)
def test_mirrors_on_private_addresses_need_to_be_allowed(
    home: Path, etc: Path, name: str, value: str, host: str
) -> None:
    refused = collect({name: value}, home, etc)
    assert refused.environment == {}
    assert refused.notices == [
        f"{name} is not inherited: it names {host}, a private address. An operator can add it to staging.allow"
    ]
    for entry in (host, "127.0.0.0/8", "10.0.0.0/8", "localhost", "fd00::/8", "169.254.0.0/16"):
        settings = Settings()
        settings.staging.allow = [entry]
        allowed = collect({name: value}, home, etc, settings)
        assert (allowed.environment == {name: value}) is (entry == host or _covers(entry, host)), entry


def _covers(entry: str, host: str) -> bool:
    first = {
        "127.0.0.0/8": "127.",
        "10.0.0.0/8": "10.",
        "localhost": "localhost",
        "fd00::/8": "fd",
        "169.254.0.0/16": "169.",
    }[entry]
    return host.startswith(first)


def test_configuration_files_with_private_mirrors_are_left_out(home: Path, etc: Path) -> None:
    (etc / "pip.conf").write_text("[global]\nindex-url = http://192.168.1.5/simple\n")
    (home / ".npmrc").write_text("registry=http://192.168.1.5/\n")
    found = collect({}, home, etc)
    assert found.files == {}
    assert found.environment == {}
    assert len(found.notices) == 2
    assert all("192.168.1.5" in notice and "staging.allow" in notice for notice in found.notices)


def test_credentials_are_found_however_they_are_written() -> None:
    text = 'a=https://tok%2Den@h/x b=http://me:pa%20ss@h "//r/:_password=cGFzc3dvcmQ="\n//r/:_authToken = "abcd-efgh"\n'
    found = secrets_in([text])
    assert {"tok%2Den", "tok-en", "pa%20ss", "pa ss", "abcd-efgh"} <= found
    assert base64.b64encode(b"me:pa ss").decode() in found
    assert secrets_in(["https://a:b@h"]) == {base64.b64encode(b"a:b").decode()}  # too short to be told from other text
