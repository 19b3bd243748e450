"""Instance identity: a key and a certificate by which an instance shows others who it is (reference/app-runtime.md 17).

In the record directory, and so in the instance, they lie as

    credentials/instance.crt -> ..data/instance.crt     the certificate, then that of the cell's authority
    credentials/instance.key -> ..data/instance.key     PKCS#1, as Cloud Foundry's Java libraries read it
    credentials/..data -> ..<end>                       replaced in one step, so that nobody sees half of a new pair

and `<end>` is when the certificate ends, in seconds since 1970, to the microsecond. The cell has an authority of its
own: it makes new certificates whether there is a controller or not.
"""

import contextlib
import datetime
import ipaddress
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from cupola import clock
from cupola.runtime.engine import Container
from cupola.runtime.local.key_stock import KeyStock
from cupola.secrets.generated import write_private

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

__all__ = ["RENEW_SECONDS", "Identities", "ends_at", "place_inside", "variables"]

LIFE_SECONDS = 24 * 3600.0
RENEW_SECONDS = 30 * 60.0
"""Before its end a certificate is replaced."""
_AUTHORITY_DAYS = 3650
_SPARE_KEYS = 200
"""As many instances as may start within a moment: on disk, 350 KB."""
_NAME = "cf-instance-credentials"


def place_inside(rootfs: str) -> str:
    """Where the pair is shown: a root filesystem of the operator's own may not have the usual place."""
    return f"/etc/{_NAME}" if not rootfs or os.path.isdir(f"{rootfs}/etc/{_NAME}") else f"/run/{_NAME}"


def variables(place: str) -> dict[str, str]:
    """What tells the app where its pair is."""
    return {"CF_INSTANCE_CERT": f"{place}/instance.crt", "CF_INSTANCE_KEY": f"{place}/instance.key"}


def ends_at(directory: Path) -> float:
    """When the certificate in a `credentials` directory ends, in seconds since 1970; 0 when there is none."""
    try:
        return float(os.readlink(directory / "..data").removeprefix(".."))
    except (OSError, ValueError):
        return 0.0


class Identities:
    """Makes pairs, of keys that were made ahead."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._keys = KeyStock(directory / "keys", _SPARE_KEYS)
        self._guard = threading.Lock()
        self._authority: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None = None

    def open(self) -> None:
        """Begin to make keys."""
        self._keys.open()

    def close(self) -> None:
        """End the thread that makes keys."""
        self._keys.close()

    @property
    def authority_file(self) -> Path:
        """The certificate of this cell's authority (PEM); there once the first pair is."""
        return self._directory / "authority.crt"

    def write(self, container: Container, address: str, directory: Path, owner: int) -> None:
        """Make a new pair and put it in the place of the one that is there. Blocking. `owner` -1: whoever runs the cell."""
        end = clock.seconds() + LIFE_SECONDS
        key = self._keys.take()
        certificate = self._certificate(container, address, key, end)
        directory.mkdir(mode=0o755, exist_ok=True)
        # To the microsecond: a second pair within a second must not come into the place that somebody reads.
        made = directory / f"..{end:.6f}"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=0o755)
        _put(made / "instance.crt", certificate, owner, 0o444)
        _put(made / "instance.key", _pem(key), owner, 0o400)
        before = os.readlink(directory / "..data") if (directory / "..data").is_symlink() else ""
        _point(directory / "..data", made.name)
        for name in ("instance.crt", "instance.key"):
            if not (directory / name).is_symlink():
                _point(directory / name, f"..data/{name}")
        if before and before != made.name:
            shutil.rmtree(directory / before, ignore_errors=True)

    def _issuer(self) -> "tuple[ec.EllipticCurvePrivateKey, x509.Certificate]":
        with self._guard:
            if self._authority is None or _is_old(self._authority[1]):
                self._authority = _authority(self._directory)
            return self._authority

    def _certificate(self, container: Container, address: str, key: "rsa.RSAPrivateKey", end: float) -> bytes:
        """The certificate and its issuer's, in PEM."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        signer, issuer = self._issuer()
        tags = container.tags
        units = [
            ("organization", tags.get("organization_id")),
            ("space", tags.get("space_id")),
            ("app", container.app_guid),
        ]
        named = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"{kind}:{guid}") for kind, guid in units if guid]
        subject = x509.Name([*named, x509.NameAttribute(NameOID.COMMON_NAME, container.guid)])
        alternatives: list[x509.GeneralName] = [x509.DNSName(container.guid)]
        if address:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(address)))
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            _begun(subject, issuer.subject, end)
            .public_key(key.public_key())
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        made = builder.sign(signer, hashes.SHA256())
        form = serialization.Encoding.PEM
        return made.public_bytes(form) + issuer.public_bytes(form)


def _authority(directory: Path) -> "tuple[ec.EllipticCurvePrivateKey, x509.Certificate]":
    """The authority that is kept in `directory`, made when there is none or it is about to end."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key_file, file = directory / "authority.key", directory / "authority.crt"
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        found = serialization.load_pem_private_key(key_file.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        is_pair = isinstance(found, ec.EllipticCurvePrivateKey) and found.public_key() == certificate.public_key()
        if is_pair and not _is_old(certificate):
            assert isinstance(found, ec.EllipticCurvePrivateKey)
            return found, certificate
    key = ec.generate_private_key(ec.SECP256R1())
    number = f"{x509.random_serial_number():x}"[:8]
    attributes = [(NameOID.ORGANIZATION_NAME, "Cupola"), (NameOID.COMMON_NAME, f"instance identity {number}")]
    name = x509.Name([x509.NameAttribute(kind, value) for kind, value in attributes])
    made = (
        _begun(name, name, clock.seconds() + _AUTHORITY_DAYS * 86_400)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    pem = key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(key_file, pem)
    write_private(file, made.public_bytes(form))
    return key, made


def _begun(subject: "x509.Name", issuer: "x509.Name", end: float) -> "x509.CertificateBuilder":
    from cryptography import x509

    # A clock of another machine may be behind.
    begin = clock.seconds() - 3600
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.fromtimestamp(begin, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(end, datetime.UTC))
    )


def _is_old(certificate: "x509.Certificate") -> bool:
    return certificate.not_valid_after_utc.timestamp() - clock.seconds() < 30 * 86_400


def _pem(key: "rsa.RSAPrivateKey") -> bytes:
    from cryptography.hazmat.primitives import serialization

    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _put(file: Path, content: bytes, owner: int, mode: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as target:
        target.write(content)
        if owner >= 0:
            os.fchown(target.fileno(), owner, owner)


def _point(link: Path, target: str) -> None:
    temporary = link.with_name(f"{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
