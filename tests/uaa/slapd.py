"""A directory for tests: slapd of Debian's packages, an ordinary process with a configuration, data and ports of its own."""

import datetime
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.ports import free_port

__all__ = ["ADMIN", "ADMIN_PASSWORD", "BASE", "SLAPD", "Slapd", "running"]

SLAPD = shutil.which("slapd") or ("/usr/sbin/slapd" if Path("/usr/sbin/slapd").exists() else None)
BASE = "dc=corp,dc=example"
ADMIN = f"cn=admin,{BASE}"
ADMIN_PASSWORD = "the searcher's password"
_SCHEMAS = ("core", "cosine", "inetorgperson")


@dataclass(frozen=True)
class Slapd:
    """A directory that listens: with and without TLS (StartTLS is offered)."""

    plain: str
    tls: str
    ca_file: Path

    def add(self, dn: str, **attributes: str | Sequence[str]) -> None:
        """An entry."""
        lines = [f"dn: {dn}"]
        for name, given in attributes.items():
            lines += [f"{name}: {value}" for value in ([given] if isinstance(given, str) else given)]
        self._tell("ldapadd", "\n".join(lines) + "\n")

    def user(self, uid: str, password: str = "secret", **more: str | Sequence[str]) -> str:
        """A person; the DN."""
        dn = f"uid={uid},ou=people,{BASE}"
        kind = {"objectClass": "inetOrgPerson", "uid": uid, "cn": uid, "sn": "Doe", "userPassword": password}
        self.add(dn, **{**kind, **more})
        return dn

    def group(self, name: str, *members: str) -> str:
        """A group; the DN."""
        dn = f"cn={name},ou=groups,{BASE}"
        self.add(dn, objectClass="groupOfNames", cn=name, member=list(members))
        return dn

    def change(self, ldif: str) -> None:
        """ldapmodify."""
        self._tell("ldapmodify", ldif)

    def _tell(self, program: str, ldif: str) -> None:
        command = [program, "-x", "-H", self.plain, "-D", ADMIN, "-w", ADMIN_PASSWORD]
        done = subprocess.run(command, input=ldif, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@contextmanager
def running(more: str = "") -> Iterator[Slapd]:
    """Start one; `more` goes into its configuration."""
    assert SLAPD is not None
    directory = Path(tempfile.mkdtemp(prefix="cupola-slapd-"))
    (directory / "data").mkdir()
    ca_file = _certificates(directory)
    plain, tls = free_port(), free_port()
    (directory / "slapd.conf").write_text(_configuration(directory) + more)
    urls = f"ldap://127.0.0.1:{plain} ldaps://127.0.0.1:{tls}"
    log = (directory / "log").open("wb")
    # With -d it stays in the foreground.
    process = subprocess.Popen(
        [SLAPD, "-d", "0", "-f", directory / "slapd.conf", "-h", urls], stdout=log, stderr=log, env=_environment()
    )
    try:
        _wait(process, plain, directory / "log")
        found = Slapd(f"ldap://127.0.0.1:{plain}", f"ldaps://localhost:{tls}", ca_file)
        found.add(BASE, objectClass=["dcObject", "organization"], dc="corp", o="Corp")
        for name in ("people", "groups"):
            found.add(f"ou={name},{BASE}", objectClass="organizationalUnit", ou=name)
        yield found
    finally:
        process.terminate()
        process.wait(10)
        log.close()
        shutil.rmtree(directory)


def _configuration(directory: Path) -> str:
    schemas = "\n".join(f"include /etc/ldap/schema/{name}.schema" for name in _SCHEMAS)
    return f"""{schemas}
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile {directory}/certificate.pem
TLSCertificateKeyFile {directory}/key.pem
database mdb
suffix "{BASE}"
rootdn "{ADMIN}"
rootpw "{ADMIN_PASSWORD}"
directory {directory}/data
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{ADMIN}" write by users read by anonymous auth
"""


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "")}


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        else:
            return


def _certificates(directory: Path) -> Path:
    """An authority, and a certificate of it for localhost."""
    now = datetime.datetime.now(datetime.UTC)

    def signed(name: str, key: Any, issuer: str, by: Any, extensions: Mapping[Any, bool]) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        for extension, critical in extensions.items():
            builder = builder.add_extension(extension, critical)
        return builder.sign(by, hashes.SHA256())

    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = signed("ca", authority, "ca", authority, {x509.BasicConstraints(ca=True, path_length=None): True})
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    leaf = signed("localhost", key, "ca", authority, {names: False})
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (directory / "ca.pem").write_bytes(root.public_bytes(encoding))
    (directory / "certificate.pem").write_bytes(leaf.public_bytes(encoding))
    (directory / "key.pem").write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return directory / "ca.pem"
