"""What is in certificate files, and whether it can be used.

CertificateProblem      files that cannot be used; the text names them and says what to do
"""

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from cupola import clock
from cupola.tls.places import Pair

__all__ = ["Certificate", "CertificateProblem", "covers", "read", "read_pair"]

_DAY = 86_400


class CertificateProblem(Exception):
    """Files that cannot be used."""


@dataclass(frozen=True)
class Certificate:
    """The first certificate of a file. Times in seconds since 1970; `names` are its DNS names in lower case."""

    file: Path
    names: tuple[str, ...]
    issuer: str
    not_before: float
    not_after: float

    def missing(self, names: tuple[str, ...] | list[str]) -> list[str]:
        """Those of `names` that it is not for."""
        return [name for name in names if not covers(self.names, name)]

    def is_due(self, now: float | None = None) -> bool:
        """Whether less than a third of its life is left."""
        left = self.not_after - (clock.seconds() if now is None else now)
        return left < (self.not_after - self.not_before) / 3

    def days_left(self) -> float:
        """Days until it ends; negative when it has."""
        return (self.not_after - clock.seconds()) / _DAY

    @property
    def until(self) -> str:
        """The day on which it ends, as `2026-08-01`."""
        return datetime.datetime.fromtimestamp(self.not_after, datetime.UTC).date().isoformat()


def covers(names: tuple[str, ...], wanted: str) -> bool:
    """Whether a certificate for `names` is one for `wanted`; a wildcard stands for one label (RFC 6125)."""
    wanted = wanted.lower()
    _, dot, rest = wanted.partition(".")
    return wanted in names or (bool(dot) and f"*.{rest}" in names)


def read(file: Path) -> Certificate:
    """Raises CertificateProblem."""
    try:
        found = x509.load_pem_x509_certificates(file.read_bytes())[0]
    except OSError as error:
        raise CertificateProblem(f"cannot read the certificate {file}: {error.strerror}") from error
    except (ValueError, IndexError) as error:
        raise CertificateProblem(f"{file} holds no certificate in PEM: {error}") from error
    return Certificate(
        file,
        _names(found),
        found.issuer.rfc4514_string(),
        found.not_valid_before_utc.timestamp(),
        found.not_valid_after_utc.timestamp(),
    )


def read_pair(pair: Pair) -> Certificate:
    """The certificate, once it is clear that the key belongs to it. Raises CertificateProblem."""
    found = read(pair.certificate)
    try:
        key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    except OSError as error:
        raise CertificateProblem(f"cannot read the key {pair.key}: {error.strerror}") from error
    except TypeError as error:
        raise CertificateProblem(f"the key {pair.key} is encrypted: store it without a passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateProblem(f"{pair.key} holds no private key in PEM: {error}") from error
    certified = x509.load_pem_x509_certificates(pair.certificate.read_bytes())[0].public_key()
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certified.public_bytes(*form):
        raise CertificateProblem(f"the key {pair.key} does not belong to the certificate {pair.certificate}")
    return found


def _names(found: x509.Certificate) -> tuple[str, ...]:
    try:
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in alternatives.get_values_for_type(x509.DNSName))
