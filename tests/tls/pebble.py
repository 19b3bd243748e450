"""Pebble, the ACME server for tests, with a DNS of its own in which every name is this machine."""

import contextlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cupola.tls.authority import Authority
from tests.journeys.platform import eventually
from tests.ports import free_port

__all__ = ["Pebble", "pebble"]


@dataclass
class Pebble:
    """`http_port` is where it looks for the answers to http-01."""

    directory: str
    ca_file: Path
    http_port: int
    dns_management: str

    def dns(self, action: str, **values: str) -> None:
        """Change the DNS: `set-txt`, `clear-txt`."""
        request = urllib.request.Request(f"{self.dns_management}/{action}", json.dumps(values).encode())
        with urllib.request.urlopen(request, timeout=10):
            pass


@contextlib.contextmanager
def pebble(directory: Path, *, seconds: int = 7_776_000) -> Iterator[Pebble]:
    """One whose certificates are good for `seconds`. Skips where Pebble is not installed."""
    programs = [shutil.which("pebble"), shutil.which("pebble-challtestsrv")]
    if None in programs:
        pytest.skip("no pebble and pebble-challtestsrv on PATH (go install github.com/letsencrypt/pebble/v2/cmd/...)")
    api, management, http_port, dns, dns_management = (free_port() for _ in range(5))
    authority = Authority.load_or_create(directory / "ca.key", directory / "ca.crt", ["localhost"])
    (directory / "server.pem").write_bytes(authority.issue(["localhost"]))
    profile = {"description": "for tests", "validityPeriod": seconds}
    settings = {
        "listenAddress": f"127.0.0.1:{api}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(directory / "server.pem"),
        "privateKey": str(directory / "server.pem"),
        "httpPort": http_port,
        "tlsPort": 5001,
        "retryAfter": {"authz": 1, "order": 1},
        "profiles": {"default": profile},
    }
    (directory / "pebble.json").write_text(json.dumps({"pebble": settings}))
    ca_server = [programs[0], "-config", str(directory / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns}"]
    names = [
        programs[1], "-dnsserver", f"127.0.0.1:{dns}", "-management", f"127.0.0.1:{dns_management}",
        "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "",
    ]  # fmt: skip
    log = directory / "pebble.log"
    # A quarter of the nonces is refused, as a busy server does.
    environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "25"}
    with log.open("wb") as output, contextlib.ExitStack() as running:
        for command in (names, ca_server):
            process = subprocess.Popen([str(word) for word in command], stdout=output, stderr=output, env=environment)
            running.callback(process.wait)
            running.callback(process.terminate)
        eventually(lambda: b"Root CA certificate" in log.read_bytes(), 20, "pebble is up")
        yield Pebble(
            f"https://localhost:{api}/dir", directory / "ca.crt", http_port, f"http://127.0.0.1:{dns_management}"
        )
