"""Our own authority: what it certifies, for whom it can be trusted, and when certificates are made anew."""

import datetime
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from cupola import clock
from cupola.config import Settings, load
from cupola.tls.authority import Authority, new_key, private_pem
from cupola.tls.certificate import CertificateProblem, covers, read, read_pair
from cupola.tls.keeper import Keeper, apps_names, authority_domains, system_names
from cupola.tls.places import Pair, Places

DOMAIN = "cf.example.test"
DAY = 86_400


def settings_for(directory: Path, **flags: str) -> Settings:
    given = {name.replace("__", "."): value for name, value in flags.items()}
    chosen = {"data_dir": str(directory), "platform.system_domain": DOMAIN, **given}
    return load(environment={}, flags=chosen)


def authority_in(directory: Path, *domains: str) -> Authority:
    return Authority.load_or_create(directory / "a.key", directory / "a.crt", domains or (DOMAIN,))


def verified(directory: Path, chain: bytes, name: str) -> str:
    """What openssl says of a chain, trusting the authority in `directory`."""
    (directory / "leaf.pem").write_bytes(chain)
    words = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", name]
    done = subprocess.run(
        [*words, "-CAfile", directory / "a.crt", directory / "leaf.pem"], capture_output=True, text=True, check=False
    )
    return (done.stdout + done.stderr).strip()


def test_a_certificate_is_good_for_its_names(tmp_path: Path) -> None:
    chain = authority_in(tmp_path).issue([f"api.{DOMAIN}", f"*.apps.{DOMAIN}"])
    assert verified(tmp_path, chain, f"api.{DOMAIN}").endswith("OK")
    assert verified(tmp_path, chain, f"anything.apps.{DOMAIN}").endswith("OK")
    assert "hostname mismatch" in verified(tmp_path, chain, f"uaa.{DOMAIN}")


def test_whoever_trusts_the_authority_trusts_it_for_its_domain_alone(tmp_path: Path) -> None:
    chain = authority_in(tmp_path).issue(["www.bank.example"])
    assert "permitted subtree violation" in verified(tmp_path, chain, "www.bank.example")


def test_the_key_is_private_and_kept(tmp_path: Path) -> None:
    first = authority_in(tmp_path)
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a.crt").stat().st_mode) == 0o644
    assert authority_in(tmp_path).certificate == first.certificate


@pytest.mark.parametrize("damage", ["other domain", "lost key", "foreign key", "nonsense"])
def test_an_authority_that_does_not_fit_is_made_anew(tmp_path: Path, damage: str) -> None:
    first = authority_in(tmp_path)
    if damage == "lost key":
        (tmp_path / "a.key").unlink()
    elif damage == "foreign key":
        (tmp_path / "a.key").write_bytes(private_pem(new_key()))
    elif damage == "nonsense":
        (tmp_path / "a.crt").write_bytes(b"nonsense")
    second = authority_in(tmp_path, "other.example") if damage == "other domain" else authority_in(tmp_path)
    assert second.certificate != first.certificate
    name = f"api.{'other.example' if damage == 'other domain' else DOMAIN}"
    assert verified(tmp_path, second.issue([name]), name).endswith("OK")


def test_names_of_a_platform(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    assert system_names(settings) == [
        f"{name}.{DOMAIN}" for name in ("api", "uaa", "login", "log-cache", "log-stream", "console")
    ]
    shared = [f"more.{DOMAIN}", "elsewhere.example", f"apps.{DOMAIN}"]
    assert apps_names(settings, shared) == [
        f"apps.{DOMAIN}", f"*.apps.{DOMAIN}", f"more.{DOMAIN}", f"*.more.{DOMAIN}"
    ]  # fmt: skip
    assert authority_domains(settings_for(tmp_path, platform__apps_domain="apps.example")) == [DOMAIN, "apps.example"]


def serial(file: Path) -> int:
    return x509.load_pem_x509_certificates(file.read_bytes())[0].serial_number


def test_what_is_missing_or_due_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for(tmp_path)
    places = Places(settings)
    shared: list[str] = []
    keeper = Keeper(settings, lambda: shared)
    keeper.ensure()
    for file in places.made.values():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = {name: serial(file) for name, file in places.made.items()}
    keeper.ensure()
    assert {name: serial(file) for name, file in places.made.items()} == before
    shared.append(f"shop.{DOMAIN}")
    keeper.ensure()
    assert serial(places.made["system"]) == before["system"]
    assert covers(read(places.made["apps"]).names, f"a.shop.{DOMAIN}")
    # Two thirds of ninety days later both are due, and the authority is not.
    authority = places.authority.read_bytes()
    now = clock.nanos()
    monkeypatch.setattr(clock, "nanos", lambda: now + 61 * DAY * 10**9)
    assert read(places.made["system"]).is_due()
    keeper.ensure()
    assert serial(places.made["system"]) != before["system"]
    assert read(places.made["system"]).days_left() > 89
    assert places.authority.read_bytes() == authority
    # A damaged file is as a missing one.
    places.made["apps"].write_bytes(b"nonsense")
    keeper.ensure()
    assert covers(read_pair(places.apps).names, f"a.apps.{DOMAIN}")


def test_files_of_the_operator_are_left_alone(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "data", tls__certificate=str(tmp_path / "c"), tls__key=str(tmp_path / "k"))
    Keeper(settings).ensure()
    assert not (tmp_path / "data" / "tls").exists()
    assert Places(settings).system == Places(settings).apps == Pair(tmp_path / "c", tmp_path / "k")


def foreign(file: Path, days: float) -> None:
    """A certificate of another authority in `file`."""
    key = new_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "another authority")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=10))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"api.{DOMAIN}")]), critical=False)
    )
    made = builder.sign(key, hashes.SHA256())
    file.write_bytes(private_pem(key) + made.public_bytes(Encoding.PEM))


def test_what_acme_made_is_used_until_it_ends(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, tls__source="acme")
    keeper, file = Keeper(settings), Places(settings).made["system"]
    keeper.ensure()
    foreign(file, 1)
    keeper.ensure()
    assert serial(file) == 1
    foreign(file, -1)
    keeper.ensure()
    assert serial(file) != 1
    # Who turns ACME off gets certificates of the platform's own again.
    foreign(file, 1)
    Keeper(settings_for(tmp_path)).ensure()
    assert serial(file) != 1


def test_problems_with_files_name_them(tmp_path: Path) -> None:
    chain, other = tmp_path / "chain.pem", tmp_path / "other.key"
    chain.write_bytes(authority_in(tmp_path).issue([DOMAIN]))
    other.write_bytes(private_pem(new_key()))
    with pytest.raises(CertificateProblem, match=r"the key .*other.key does not belong to the certificate .*chain.pem"):
        read_pair(Pair(chain, other))
    with pytest.raises(CertificateProblem, match=r"cannot read the certificate .*none.pem: No such file"):
        read_pair(Pair(tmp_path / "none.pem", other))
    with pytest.raises(CertificateProblem, match=r"other.key holds no certificate in PEM"):
        read_pair(Pair(other, other))
    with pytest.raises(CertificateProblem, match=r"a.crt holds no private key in PEM"):
        read_pair(Pair(chain, tmp_path / "a.crt"))
    locked = tmp_path / "locked.key"
    words = [
        "openssl",
        "pkcs8",
        "-topk8",
        "-v2",
        "aes256",
        "-passout",
        "pass:x",
        "-in",
        str(chain),
        "-out",
        str(locked),
    ]
    subprocess.run(words, check=True, capture_output=True)
    with pytest.raises(CertificateProblem, match=r"locked.key is encrypted: store it without a passphrase"):
        read_pair(Pair(chain, locked))
    ssl.create_default_context(cafile=str(tmp_path / "a.crt"))
