"""A platform gets its certificate of an ACME server: at first its own serves, then, without a restart, the other."""

import socket
import ssl
from pathlib import Path

import pytest

from tests.journeys.platform import Platform, eventually
from tests.ports import free_port
from tests.tls.pebble import pebble

pytestmark = pytest.mark.journey
DOMAIN = "cf.example.test"


def issuer(platform: Platform, name: str) -> str:
    """The file-independent way to know who certified a name: what its certificate says."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", platform.port), 20) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return "pebble" if b"Pebble" in shown else "own" if b"Cupola" in shown else "?"


def test_a_platform_is_certified_while_it_runs(tmp_path: Path) -> None:
    (tmp_path / "pebble").mkdir()
    with pebble(tmp_path / "pebble") as server:
        platform = Platform(tmp_path / "data", free_port())
        settings = {
            "platform.https_port": platform.port,
            "platform.http_port": server.http_port,
            "platform.listen": "127.0.0.1",
            "tls.source": "acme",
            "tls.acme_directory": server.directory,
            "tls.acme_ca_file": server.ca_file,
            "tls.acme_names": f"shop.apps.{DOMAIN}",
        }
        words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        platform.cupola("up", "--detach", "--system-domain", DOMAIN, *words)
        try:
            eventually(lambda: issuer(platform, f"api.{DOMAIN}") == "pebble", 60, "the API is certified")
            eventually(lambda: issuer(platform, f"shop.apps.{DOMAIN}") == "pebble", 60, "the app is certified")
            assert issuer(platform, f"other.apps.{DOMAIN}") == "own"
            assert "of ACME" in platform.cupola("status", "--json").stdout
        finally:
            platform.down()
        assert "certified by ACME" in (platform.data_dir / "logs" / "controller.log").read_text()
