"""TLS at the edge: which certificate for which name, what is spoken, new files, redirects."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cupola.config import Settings, load
from cupola.router.certificates import CertificateError, Certificates
from cupola.router.edge import Edge
from cupola.router.server import Server, listeners
from cupola.tls.authority import Authority
from cupola.tls.keeper import Keeper, authority_domains
from cupola.tls.places import Places
from tests.ports import free_port
from tests.router.conftest import Play
from tests.router.rig import Message, Rig, Stream, answer

DOMAIN = "cf.example.test"
ROOT = Path(__file__).parents[2]


def settings_for(directory: Path, **flags: object) -> Settings:
    given = {name.replace("__", "."): value for name, value in flags.items()}
    ports = {"platform.https_port": free_port(), "platform.http_port": free_port()}
    chosen = {"data_dir": str(directory), "platform.system_domain": DOMAIN, "platform.listen": "127.0.0.1", **ports}
    return load(environment={}, flags=chosen | given)


@asynccontextmanager
async def opened(rig: Rig, settings: Settings) -> AsyncIterator[Certificates]:
    """A server with https and http, as the process makes it."""
    certificates = Certificates(settings)
    await certificates.load()
    rig.service.edge = Edge(settings)
    server = Server(rig.service)
    await server.open(listeners(settings, certificates.context))
    try:
        yield certificates
    finally:
        await server.drain(1)


async def handshake(settings: Settings, name: str | None, **wanted: ssl.TLSVersion) -> ssl.SSLObject:
    """Connect with a name (or none); verification is left to the caller. Raises ssl.SSLError."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for attribute, value in wanted.items():
        setattr(context, attribute, value)
    _, writer = await asyncio.open_connection(
        "127.0.0.1", settings.platform.https_port, ssl=context, server_hostname=name or ""
    )
    found: ssl.SSLObject = writer.get_extra_info("ssl_object")
    writer.close()
    return found


async def shown(settings: Settings, name: str | None) -> bytes:
    found = (await handshake(settings, name)).getpeercert(binary_form=True)
    assert found is not None
    return found


def first(file: Path) -> bytes:
    """The first certificate in a file, in DER."""
    text = file.read_text()
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERT") : text.index("-----END CERT") + 25])


def test_each_name_gets_its_certificate(play: Play, tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    Keeper(settings).ensure()
    places = Places(settings)
    other = Authority.load_or_create(tmp_path / "o.key", tmp_path / "o.crt", ["shop.example"])
    places.domains.mkdir()
    for suffix in ("crt", "key"):
        (places.domains / f"shop.example.{suffix}").write_bytes(other.issue(["shop.example", "*.shop.example"]))
    chain = other.issue(["shop.example", "*.shop.example"])
    for suffix in ("crt", "key"):
        (places.domains / f"shop.example.{suffix}").write_bytes(chain)
    system, apps, shop = (first(file) for file in (*places.made.values(), places.domains / "shop.example.crt"))

    async def scenario(rig: Rig) -> None:
        async with opened(rig, settings):
            for name, expected in (
                (None, system),
                (f"api.{DOMAIN}", system),
                (f"API.{DOMAIN}".upper(), system),
                (f"x.apps.{DOMAIN}", apps),
                ("unknown.example", apps),
                ("shop.example", shop),
                ("www.shop.example", shop),
                ("a.b.shop.example", apps),
            ):
                assert await shown(settings, name) == expected, name

    play(scenario)


def test_only_good_versions_and_ciphers_are_spoken(play: Play, tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    Keeper(settings).ensure()

    async def scenario(rig: Rig) -> None:
        async with opened(rig, settings):
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                found = await handshake(settings, f"api.{DOMAIN}", minimum_version=version, maximum_version=version)
                name, protocol, bits = found.cipher() or ("", "", 0)
                assert "GCM" in name or "CHACHA20" in name, name
                assert bits >= 128
                assert version is ssl.TLSVersion.TLSv1_3 or name.startswith("ECDHE"), (name, protocol)
            weak = ssl.create_default_context()
            weak.check_hostname, weak.verify_mode = False, ssl.CERT_NONE
            weak.maximum_version = ssl.TLSVersion.TLSv1_2
            for ciphers in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "DHE"):
                weak.set_ciphers(ciphers)
                with pytest.raises((ssl.SSLError, ConnectionResetError)):
                    await asyncio.open_connection("127.0.0.1", settings.platform.https_port, ssl=weak)

    play(scenario)


def test_who_does_not_shake_hands_is_let_go(play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cupola.router.server._HANDSHAKE_SECONDS", 0.3)
    settings = settings_for(tmp_path)
    Keeper(settings).ensure()

    async def scenario(rig: Rig) -> None:
        async with opened(rig, settings):
            for said in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
                stream = Stream(*await asyncio.open_connection("127.0.0.1", settings.platform.https_port))
                await stream.send(said)
                async with asyncio.timeout(5):
                    assert b"HTTP/" not in await stream.end()
                await stream.close()

    play(scenario)


def test_the_minimum_can_be_raised(play: Play, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, tls__minimum_version="1.3")
    Keeper(settings).ensure()

    async def scenario(rig: Rig) -> None:
        async with opened(rig, settings):
            assert (await handshake(settings, f"api.{DOMAIN}")).version() == "TLSv1.3"
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await handshake(settings, f"api.{DOMAIN}", maximum_version=ssl.TLSVersion.TLSv1_2)

    play(scenario)


def test_new_files_are_for_new_connections(play: Play, tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    Keeper(settings).ensure()
    places = Places(settings)
    trust = ssl.create_default_context(cafile=str(places.authority))
    name = f"a.apps.{DOMAIN}"

    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app, host=name))
        async with opened(rig, settings) as certificates:
            watching = asyncio.create_task(certificates.run())
            stream = Stream(
                *await asyncio.open_connection(
                    "127.0.0.1", settings.platform.https_port, ssl=trust, server_hostname=name
                )
            )
            before = await shown(settings, name)
            # Nonsense changes nothing.
            good = places.made["apps"].read_bytes()
            places.made["apps"].write_bytes(b"nonsense")
            await asyncio.sleep(1.2)
            assert await shown(settings, name) == before
            authority = Authority.load_or_create(places.authority_key, places.authority, authority_domains(settings))
            replaced = authority.issue([name])
            assert replaced != good
            (tmp_path / "new").write_bytes(replaced)
            (tmp_path / "new").replace(places.made["apps"])
            async with asyncio.timeout(5):
                while await shown(settings, name) == before:  # noqa: ASYNC110 - a file that is looked at now and then
                    await asyncio.sleep(0.05)
            await stream.send(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            assert (await stream.message()).text == "hello from one"
            await stream.close()
            watching.cancel()

    play(scenario)


def test_certificates_of_the_controller_are_waited_for(play: Play, tmp_path: Path) -> None:
    settings = settings_for(tmp_path)

    async def scenario(_rig: Rig) -> None:
        certificates = Certificates(settings)
        loading = asyncio.create_task(certificates.load())
        await asyncio.sleep(0.1)
        assert not loading.done()
        await asyncio.to_thread(Keeper(settings).ensure)
        await asyncio.wait_for(loading, 5)

    play(scenario)


@pytest.mark.parametrize(("text", "says"), [(None, "cannot read the certificate"), ("nonsense", "cannot be used")])
def test_files_of_the_operator_that_cannot_be_used(play: Play, tmp_path: Path, text: str | None, says: str) -> None:
    file = tmp_path / "chain.pem"
    if text is not None:
        file.write_text(text)
    settings = settings_for(tmp_path, tls__certificate=str(file), tls__key=str(file))

    async def scenario(_rig: Rig) -> None:
        with pytest.raises(CertificateError, match=says) as caught:
            await Certificates(settings).load()
        assert str(file) in str(caught.value)

    play(scenario)


def test_system_hosts_over_http_and_https(play: Play, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, tls__source="acme", tls__acme_names=f"www.apps.{DOMAIN}")
    Keeper(settings).ensure()
    challenge = "/.well-known/acme-challenge/token"

    async def scenario(rig: Rig) -> None:
        async def respond(message: Message, stream: Stream) -> None:
            await stream.send(answer(message.first.encode()))

        controller = await rig.app("controller", respond, path=rig.controller)
        app = await rig.app("app", respond)
        rig.routes(*(rig.route(app, host=f"{name}.apps.{DOMAIN}") for name in ("www", "other")))
        rig.service.table._system_hosts = settings.system_hosts
        async with opened(rig, settings):

            async def ask(first: str, host: str, *, tls: bool = False) -> Message:
                context = ssl.create_default_context(cafile=str(Places(settings).authority)) if tls else None
                port = settings.platform.https_port if tls else settings.platform.http_port
                stream = Stream(
                    *await asyncio.open_connection(
                        "127.0.0.1", port, ssl=context, server_hostname=host if tls else None
                    )
                )
                await stream.send(f"{first} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n".encode())
                got = await stream.message()
                await stream.close()
                return got

            promise = "Strict-Transport-Security"
            secure = await ask("GET /v3/info", f"api.{DOMAIN}", tls=True)
            assert (secure.text, secure[promise]) == ("GET /v3/info HTTP/1.1", "max-age=31536000")
            moved = await ask("GET /v3?a=b", f"API.{DOMAIN}")
            port = settings.platform.https_port
            assert (moved.status, moved["Location"]) == (301, f"https://api.{DOMAIN}:{port}/v3?a=b")
            refused = await ask("POST /oauth/token?password=x", f"uaa.{DOMAIN}")
            assert refused.status == 403
            assert (
                refused.text
                == f"403 Forbidden: This host speaks https only: use https://uaa.{DOMAIN}:{port}/oauth/token\n"
            )
            # Of the ACME server's questions those are answered here that are about names which are to be certified.
            for host in (f"api.{DOMAIN}", f"www.apps.{DOMAIN}"):
                got = await ask(f"GET {challenge}", host)
                assert (got.status, got.all(promise)) == (200, [])
            assert len(controller.seen) == 3
            await ask(f"GET {challenge}", f"other.apps.{DOMAIN}")
            await ask(f"GET {challenge}", f"www.apps.{DOMAIN}", tls=True)
            assert [one.first.split()[1] for one in app.seen] == [challenge, challenge]
            assert (await ask("GET /", f"other.apps.{DOMAIN}", tls=True)).all(promise) == []

    play(scenario)


def test_the_router_reads_certificates_with_what_python_has() -> None:
    """What makes certificates is not loaded: megabytes, and one more thing between the network and the router."""
    code = "import sys, cupola.processes.router; print('cryptography.x509' in sys.modules, 'cupola.tls.authority' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
