"""What the command line says before a platform with a system domain starts: ports, certificates, users, names."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cupola.cli import certificates, checks, doctor
from cupola.config import ConfigError, Settings, load
from cupola.tls.authority import Authority, new_key, private_pem
from cupola.tls.keeper import Keeper
from cupola.tls.places import Places
from tests.ports import free_port

DOMAIN = "cf.example.test"


def settings_for(directory: Path, **flags: object) -> Settings:
    given = {name.replace("__", "."): value for name, value in flags.items()}
    chosen = {
        "data_dir": str(directory / "data"),
        "platform.system_domain": DOMAIN,
        "platform.listen": "127.0.0.1",
        "platform.https_port": free_port(),
        "platform.http_port": free_port(),
    }
    return load(environment={}, flags=chosen | given)


def complaint(settings: Settings) -> str:
    with pytest.raises(click.ClickException) as caught:
        checks.prepare(settings, None)
    return caught.value.message


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_each_port_is_named_with_its_option(tmp_path: Path, taken: int) -> None:
    assert "choose another port (--https-port " in complaint(settings_for(tmp_path, platform__https_port=taken))
    assert "choose another port (--http-port " in complaint(settings_for(tmp_path, platform__http_port=taken))
    checks.prepare(settings_for(tmp_path, platform__http_port=0), None)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"platform.system_domain": "not a domain"}, "platform.system_domain = not a domain is not a domain"),
        (
            {"platform.system_domain": DOMAIN, "tls.certificate": "/c.pem"},
            "tls.certificate and tls.key belong together",
        ),
        ({"platform.system_domain": DOMAIN, "tls.source": "files"}, "tls.source = files needs tls.certificate"),
        ({"tls.source": "acme"}, "tls.source = acme needs platform.system_domain"),
        ({"platform.system_domain": DOMAIN, "platform.http_port": 443}, "are both 443"),
        ({"platform.listen": "0.0.0.0"}, "would offer plain HTTP to the network"),
    ],
)
def test_settings_that_contradict_each_other(flags: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(environment={}, flags=flags)


def test_a_server_listens_everywhere_and_a_laptop_does_not() -> None:
    assert load(environment={}).listen == "127.0.0.1"
    assert load(environment={}, flags={"platform.system_domain": DOMAIN}).listen == "0.0.0.0"


def test_a_certificate_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    authority = Authority.load_or_create(tmp_path / "a.key", tmp_path / "a.crt", [DOMAIN])
    (tmp_path / "chain.pem").write_bytes(authority.issue([f"api.{DOMAIN}"]))
    (tmp_path / "key.pem").write_bytes(private_pem(new_key()))
    files = {"tls__certificate": str(tmp_path / "chain.pem"), "tls__key": str(tmp_path / "key.pem")}
    assert "does not belong to the certificate" in complaint(settings_for(tmp_path, **files))
    (tmp_path / "key.pem").unlink()
    assert f"cannot read the key {tmp_path}/key.pem" in complaint(settings_for(tmp_path, **files))


def test_what_certificates_lack_is_told_and_does_not_stop_it(tmp_path: Path) -> None:
    authority = Authority.load_or_create(tmp_path / "a.key", tmp_path / "a.crt", [DOMAIN])
    (tmp_path / "chain.pem").write_bytes(authority.issue([f"*.{DOMAIN}"], days=5))
    files = {"tls__certificate": str(tmp_path / "chain.pem"), "tls__key": str(tmp_path / "chain.pem")}
    settings = settings_for(tmp_path, **files)
    checks.prepare(settings, None)
    ends, lacks = certificates.warnings(settings)
    assert "in 5 days: replace the files that tls.certificate and tls.key name" in ends
    assert f"is not for *.apps.{DOMAIN}: " in lacks
    assert certificates.authority_file(settings) is None


def test_apps_beside_the_system_hosts_are_warned_of(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, platform__apps_domain=DOMAIN)
    Keeper(settings).ensure()
    (warning,) = certificates.warnings(settings)
    assert warning.startswith("apps share the domain of the system hosts")


def test_the_platforms_own_certificate_is_summed_up(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    Keeper(settings).ensure()
    assert certificates.summary(settings).startswith("of the platform's own authority, good until 2")
    assert certificates.warnings(settings) == []
    file = Places(settings).authority
    assert certificates.authority_file(settings) == file
    assert str(file) in certificates.trust_hint(settings)


def test_a_user_that_cannot_be(tmp_path: Path) -> None:
    if os.getuid() == 0:
        assert "is no user of this machine" in complaint(settings_for(tmp_path, platform__user="no-such-user"))
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        settings = settings_for(closed, platform__user="nobody")
        assert "platform.user = nobody cannot use " in complaint(settings)
    else:
        assert "only root can start processes as another user" in complaint(
            settings_for(tmp_path, platform__user="root")
        )


def test_doctor_examines_what_would_be_started(tmp_path: Path) -> None:
    flags = {"platform.system_domain": DOMAIN, "platform.listen": "127.0.0.1", "platform.apps_domain": DOMAIN}
    flags |= {"platform.https_port": str(free_port()), "platform.http_port": str(free_port())}
    settings = load(environment={}, flags={"data_dir": str(tmp_path / "data"), **flags})
    found = {check.name: check for check in doctor._addresses(settings, is_running=False)}
    assert found[f"port {settings.platform.https_port}"].state == "good"
    assert found["names of apps"].remedy.startswith(f"give *.{DOMAIN} an A (and AAAA) record")
    assert found["domain of apps"].state == "weaker"
    # A name that does resolve.
    settings.platform.apps_domain = "localhost"
    names = {check.name: check for check in doctor._names("Addresses", settings)}
    assert names["names of system hosts"].state == "weaker"
