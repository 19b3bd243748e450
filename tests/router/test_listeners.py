"""Addresses and TLS."""

import asyncio
import datetime
import ipaddress
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cupola.config import load
from cupola.router.server import Listener, PortInUse, Server, listeners
from tests.router.conftest import Play
from tests.router.rig import HOST, Message, Rig, Stream, answer
from tests.router.test_upgrades import ASK, shouting


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for localhost and its key, in files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return directory / "cert.pem", directory / "key.pem"


def test_https(play: Play, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(chain, key)
    theirs = ssl.create_default_context(cafile=str(chain))

    async def scenario(rig: Rig) -> None:
        async def respond(message: Message, stream: Stream) -> None:
            await stream.send(answer(message.body[::-1]))

        app = await rig.app("one", respond)
        rig.routes(rig.route(app))
        secure = Server(rig.service)
        await secure.open([Listener("127.0.0.1", 0, tls=ours)])
        stream = Stream(*await asyncio.open_connection("127.0.0.1", secure.ports[0], ssl=theirs))
        body = bytes(range(256)) * 2000
        for _ in range(2):
            await stream.send(f"PUT / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n\r\n".encode(), body)
            assert (await stream.message()).body == body[::-1]
        assert app.seen[0]["X-Forwarded-Proto"] == "https"
        refused = f"POST / HTTP/1.1\r\nHost: other\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        await stream.send(refused)
        assert (await stream.message()).status == 404
        await stream.close()
        rig.routes(rig.route(await rig.app("shout", raw=shouting)))
        stream = Stream(*await asyncio.open_connection("127.0.0.1", secure.ports[0], ssl=theirs))
        await stream.send(ASK)
        assert (await stream.head()).status == 101
        await stream.send(b"secret")
        assert await stream.reader.readexactly(8) == b"HISECRET"
        await stream.close()
        await secure.drain(1)

    play(scenario)


def test_loopback_means_both_families(play: Play) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    wanted = listeners(load(flags={"platform.port": port}, environment={}))
    assert [(one.address, one.port, one.optional) for one in wanted] == [
        ("127.0.0.1", port, False),
        ("::1", port, True),
    ]

    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        both = Server(rig.service)
        await both.open(wanted)
        assert both.ports[0] == port
        if len(both.ports) == 2:
            stream = Stream(*await asyncio.open_connection("::1", port))
            await stream.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
            assert (await stream.message()).status == 200
            assert app.seen[0]["X-Forwarded-For"] == "::1"
            assert '"[::1]:' in rig.lines()[0][1]
            await stream.close()
        with pytest.raises(PortInUse, match=f"port {port} of 127.0.0.1 is in use by another program"):
            await Server(rig.service).open(wanted)
        await both.drain(1)

    play(scenario)
