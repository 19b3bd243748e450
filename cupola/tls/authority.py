"""An authority of our own: made at the first start, for the platform's domains and no others (name constraints).

Whoever trusts it therefore trusts it for these names alone, even if its key is stolen.
"""

import datetime
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cupola import clock
from cupola.secrets.generated import write_private

__all__ = ["LEAF_DAYS", "Authority", "certified", "new_key", "private_pem"]

YEARS = 10
LEAF_DAYS = 90
"""Days for which a server certificate is good; it is made anew when a third of them is left."""
_SKEW = datetime.timedelta(hours=1)
"""Before which a certificate is good already, for clocks that are behind."""


class Authority:
    """`certificate` is in PEM. Made by `load_or_create`."""

    def __init__(self, key: CertificateIssuerPrivateKeyTypes, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM)

    @classmethod
    def load_or_create(cls, key_file: Path, file: Path, domains: Sequence[str]) -> "Authority":
        """The authority in these files if it is one for `domains` and not about to end, else a new one (key mode 0600).

        Raises OSError.
        """
        found = cls._load(key_file, file)
        if found is not None and found._is_for(domains):
            return found
        key = ec.generate_private_key(ec.SECP256R1())
        made = cls(key, _authority(key, domains))
        # The key first: a certificate without its key would be taken for whole.
        write_private(key_file, private_pem(key))
        write_private(file, made.certificate)
        file.chmod(0o644)
        return made

    @classmethod
    def _load(cls, key_file: Path, file: Path) -> "Authority | None":
        try:
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            certificate = x509.load_pem_x509_certificate(file.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            return None
        return cls(key, certificate)

    def _is_for(self, domains: Sequence[str]) -> bool:
        constraints = self._certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        allowed = {name.value for name in constraints.permitted_subtrees or ()}
        left = self._certificate.not_valid_after_utc - _now()
        return allowed == set(domains) and left > datetime.timedelta(days=2 * LEAF_DAYS)

    def issue(self, names: Sequence[str], days: float = LEAF_DAYS) -> bytes:
        """Key and chain (PEM) of a server certificate for DNS names."""
        key = new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        builder = (
            certified(subject, self._certificate.subject, key.public_key(), datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(_from(self._certificate), critical=False)
        )
        made = builder.sign(self._key, hashes.SHA256())
        return private_pem(key) + made.public_bytes(serialization.Encoding.PEM) + self.certificate

    def is_issuer_of(self, file: Path) -> bool:
        """Whether the first certificate in `file` is one of this authority's."""
        try:
            x509.load_pem_x509_certificates(file.read_bytes())[0].verify_directly_issued_by(self._certificate)
        except Exception:  # each kind of foreign certificate raises another error
            return False
        return True


def certified(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: datetime.timedelta
) -> x509.CertificateBuilder:
    """The part that is the same for every certificate."""
    now = _now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key for a server certificate."""
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key in PEM, without a passphrase."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _authority(key: ec.EllipticCurvePrivateKey, domains: Sequence[str]) -> x509.Certificate:
    # Two authorities of one name would confuse who trusts both.
    number = f"{x509.random_serial_number():x}"[:8]
    attributes = [(NameOID.ORGANIZATION_NAME, "Cupola"), (NameOID.COMMON_NAME, f"{domains[0]} {number}"[:64])]
    subject = x509.Name([x509.NameAttribute(kind, value) for kind, value in attributes])
    builder = (
        certified(subject, subject, key.public_key(), datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.NameConstraints([x509.DNSName(domain) for domain in domains], None), critical=True)
    )
    return builder.sign(key, hashes.SHA256())


def _usage(**given: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: given.get(name, False) for name in names})


def _from(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _now() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(clock.seconds(), datetime.UTC)
