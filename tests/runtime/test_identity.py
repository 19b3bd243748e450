"""Instance identity: what a certificate says, that the pair fits, that it is replaced in time and in one step; trust."""

import asyncio
import ipaddress
import os
import re
import ssl
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from cupola import clock, guid
from cupola.config import Settings
from cupola.runtime.engine import Container
from cupola.runtime.local import identity, probe
from cupola.runtime.local.engine import LocalEngine
from cupola.tls.authority import Authority
from tests.runtime.conftest import Recorder, until
from tests.runtime.test_local_engine import container, opened

TAGS = {"organization_id": guid.new(), "space_id": guid.new()}
SHOW = 'cat "$CF_INSTANCE_CERT"; echo =1=; cat "$CF_INSTANCE_KEY"; echo =2=; echo "paths $CF_INSTANCE_CERT $CF_INSTANCE_KEY"'


@pytest.fixture
def identities(tmp_path: Path) -> Any:
    made = identity.Identities(tmp_path / "identity")
    made.open()
    yield made
    made.close()


def an_instance() -> Container:
    return container("", "true", tags=TAGS, app_guid=guid.new())


def pair(directory: Path) -> tuple[x509.Certificate, rsa.RSAPrivateKey, bytes]:
    """Certificate, key, and the file's text."""
    text = (directory / "instance.crt").read_bytes()
    key = serialization.load_pem_private_key((directory / "instance.key").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return x509.load_pem_x509_certificates(text)[0], key, text


def test_a_certificate_says_whose_it_is(identities: identity.Identities, tmp_path: Path) -> None:
    one = an_instance()
    identities.write(one, "10.254.1.2", tmp_path / "credentials", -1)
    certificate, key, text = pair(tmp_path / "credentials")
    assert certificate.public_key() == key.public_key()
    units = certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
    assert [unit.value for unit in units] == [
        f"organization:{TAGS['organization_id']}", f"space:{TAGS['space_id']}", f"app:{one.app_guid}"
    ]  # fmt: skip
    (name,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert name.value == one.guid
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternatives.get_values_for_type(x509.DNSName) == [one.guid]
    assert alternatives.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.254.1.2")]
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {usage._name for usage in usages} == {"serverAuth", "clientAuth"}
    assert certificate.not_valid_after_utc.timestamp() - clock.seconds() == pytest.approx(24 * 3600, abs=5)
    issuer = x509.load_pem_x509_certificate(identities.authority_file.read_bytes())
    certificate.verify_directly_issued_by(issuer)
    assert text.count(b"BEGIN CERTIFICATE") == 2
    # Cloud Foundry's own form, which its Java libraries read.
    assert (tmp_path / "credentials" / "instance.key").read_bytes().startswith(b"-----BEGIN RSA PRIVATE KEY-----")
    assert stat.S_IMODE((tmp_path / "credentials" / "instance.key").stat().st_mode) == 0o400


def test_two_instances_prove_themselves_to_each_other(identities: identity.Identities, tmp_path: Path) -> None:
    one, other = an_instance(), an_instance()
    for which, instance in (("one", one), ("other", other)):
        identities.write(instance, "10.254.1.2", tmp_path / which, -1)
    server, client = (ssl.SSLContext(kind) for kind in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT))
    for context, which in ((server, "one"), (client, "other")):
        context.load_cert_chain(tmp_path / which / "instance.crt", tmp_path / which / "instance.key")
        context.load_verify_locations(identities.authority_file)
    server.verify_mode = ssl.CERT_REQUIRED

    async def meet() -> dict[str, Any]:
        seen = asyncio.get_running_loop().create_future()

        async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.set_result(writer.get_extra_info("peercert"))
            writer.close()

        listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=server)
        port = listening.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=one.guid)
        found: dict[str, Any] = await asyncio.wait_for(seen, 10)
        writer.close()
        listening.close()
        return found

    subject = [value for entry in asyncio.run(meet())["subject"] for _, value in entry]
    assert f"app:{other.app_guid}" in subject


def test_who_reads_while_a_pair_is_replaced_sees_one_that_fits(identities: identity.Identities, tmp_path: Path) -> None:
    one, place = an_instance(), tmp_path / "credentials"
    identities.write(one, "10.254.1.2", place, -1)
    over, problems, pairs = threading.Event(), [], set()

    def read() -> None:
        while not over.is_set():
            # As a careful app does: one look at the directory, then both files of it.
            directory = Path(os.path.realpath(place / "..data"))
            try:
                text, key_text = ((directory / name).read_bytes() for name in ("instance.crt", "instance.key"))
            except FileNotFoundError:
                continue
            certificate = x509.load_pem_x509_certificates(text)[0]
            key = serialization.load_pem_private_key(key_text, None)
            pairs.add(certificate.serial_number)
            if certificate.public_key() != key.public_key():
                problems.append(certificate.serial_number)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(4):
            identities.write(one, "10.254.1.2", place, -1)
    finally:
        over.set()
        reader.join()
    assert problems == []
    assert pairs
    assert len([entry for entry in place.iterdir() if entry.name.startswith("..1")]) == 1


def test_the_authority_is_kept_and_replaced_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(name: str) -> bytes:
        identities = identity.Identities(tmp_path / "identity")
        identities.open()
        identities.write(an_instance(), "", tmp_path / name, -1)
        identities.close()
        return identities.authority_file.read_bytes()

    first = made("one")
    assert stat.S_IMODE((tmp_path / "identity" / "authority.key").stat().st_mode) == 0o600
    assert made("two") == first
    now = clock.nanos()
    monkeypatch.setattr(clock, "nanos", lambda: now + 3630 * 86_400 * 10**9)
    assert made("three") != first


async def test_an_instance_finds_its_pair(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    async with opened(settings, choice, launcher, recorder) as engine:
        one = container(droplet, SHOW, tags=TAGS)
        await engine.create(one, lambda _: None)
        await until(lambda: one.guid in recorder.exits)
        text = recorder.text()
        first, second, _ = re.split("=[12]=", text)
        certificate = x509.load_pem_x509_certificate(first.encode())
        key = serialization.load_pem_private_key(second.strip().encode(), None)
        assert certificate.public_key() == key.public_key()
        if choice.mode in ("root", "rootless"):
            places = "/etc/cf-instance-credentials/instance.crt /etc/cf-instance-credentials/instance.key"
            assert f"paths {places}" in text


async def test_without_the_setting_there_is_none(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    settings.runtime.instance_identity = False
    async with opened(settings, choice, launcher, recorder) as engine:
        one = container(droplet, 'echo "cert=$CF_INSTANCE_CERT."')
        await engine.create(one, lambda _: None)
        await until(lambda: one.guid in recorder.exits)
    assert "cert=." in recorder.text()
    assert not (settings.data_dir / "cell" / "identity").exists()


async def test_a_running_instance_gets_a_new_pair_before_the_old_ends(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("cupola.runtime.local.engine._RENEW_SECONDS", 0.05)
    async with opened(settings, choice, launcher, recorder) as engine:
        command = 'while :; do echo "sum $(cat "$CF_INSTANCE_CERT" "$CF_INSTANCE_KEY" | md5sum)"; sleep 0.1; done'
        one = container(droplet, command)
        await engine.create(one, lambda _: None)
        await until(lambda: "sum" in recorder.text())
        before = {line for _, _, line in recorder.lines if line.startswith("sum")}
        assert len(before) == 1
        now = clock.nanos()
        monkeypatch.setattr(clock, "nanos", lambda: now + int((24 * 3600 - 29 * 60) * 1e9))
        await until(lambda: any(line.startswith("sum") and line not in before for _, _, line in recorder.lines))


async def test_an_adopted_instance_keeps_its_etc_and_its_pair(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    """A cell that is started again must not take away what running instances see."""
    command = (
        'while :; do echo "tick $(cat /etc/hosts "$CF_INSTANCE_CERT" "$CF_INSTANCE_KEY" 2>&1 | wc -l)"; sleep 0.1; done'
    )
    one = container(droplet, command)
    first = LocalEngine(settings, choice, launcher=launcher)
    seen = Recorder()
    await first.open(seen)
    await first.create(one, lambda _: None)
    await until(lambda: "tick" in seen.text())
    await first.close()
    (ticks,) = {line for _, _, line in seen.lines if line.startswith("tick")}
    async with opened(settings, choice, launcher, recorder):
        await until(lambda: sum(line.startswith("tick") for _, _, line in recorder.lines) > 5)
        assert {line for _, _, line in recorder.lines if line.startswith("tick")} == {ticks}


async def test_instances_trust_what_the_operator_and_the_platform_do(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("cupola.runtime.local.engine._RENEW_SECONDS", 0.05)
    company = Authority.load_or_create(tmp_path / "c.key", tmp_path / "company.pem", ["company.example"])
    settings.runtime.trusted_certificates = [str(tmp_path / "company.pem")]
    line = company.certificate.decode().splitlines()[1]
    async with opened(settings, choice, launcher, recorder) as engine:
        command = f'ls "$CF_SYSTEM_CERT_PATH"; grep -c -e "{line}" /etc/ssl/certs/ca-certificates.crt'
        one = container(droplet, command)
        await engine.create(one, lambda _: None)
        await until(lambda: one.guid in recorder.exits)
        assert "trusted-0-company.crt" in recorder.text()
        if choice.mode in ("root", "rootless"):
            assert recorder.lines[-1][2] == "1"
        # The platform's own authority may come later than the cell.
        place = settings.data_dir / "tls" / "authority.crt"
        Authority.load_or_create(tmp_path / "p.key", place, ["cf.example.test"])
        command = 'while [ ! -e "$CF_SYSTEM_CERT_PATH/platform.crt" ]; do sleep 0.05; done; echo found'
        other = container(droplet, command)
        await engine.create(other, lambda _: None)
        await until(lambda: "found" in recorder.text())
