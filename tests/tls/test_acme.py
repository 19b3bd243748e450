"""Certificates by ACME, of a real server: http-01, dns-01 by a program, refusals in the server's words."""

import asyncio
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cupola.config import Settings, load
from cupola.processes.challenges import Challenges
from cupola.tls.acme import AcmeProblem, obtain
from cupola.tls.certificate import read_pair
from cupola.tls.places import Pair, Places
from tests.tls.pebble import Pebble, pebble

DOMAIN = "cf.example.test"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    with pebble(tmp_path_factory.mktemp("pebble")) as made:
        yield made


def settings_for(server: Pebble, directory: Path, **tls: Any) -> Settings:
    given = {
        "source": "acme",
        "acme_directory": server.directory,
        "acme_ca_file": str(server.ca_file),
        "acme_email": "operator@example.test",
        "acme_wait_seconds": 0,
        **tls,
    }
    flags = {f"tls.{name}": value for name, value in given.items()}
    return load(environment={}, flags={"data_dir": str(directory), "platform.system_domain": DOMAIN, **flags})


@asynccontextmanager
async def answering(settings: Settings, port: int, *, lies: bool = False) -> AsyncIterator[None]:
    """What the controller does behind port 80, without the rest of it."""
    challenges = Challenges(settings)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                body = b"something else" if lies else message["body"]
                writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        scope = {"type": "http", "path": path}
        assert challenges.is_one(scope), path
        await challenges(scope, _nothing, send)
        writer.close()

    http = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield
    finally:
        http.close()
        await http.wait_closed()


async def _nothing() -> Any:
    raise AssertionError("the request has no body")


def certified(directory: Path, chain: bytes) -> tuple[str, ...]:
    (directory / "made.pem").write_bytes(chain)
    return read_pair(Pair(directory / "made.pem", directory / "made.pem")).names


def test_names_are_certified_by_http(server: Pebble, tmp_path: Path) -> None:
    settings = settings_for(server, tmp_path)
    places = Places(settings)
    names = [f"api.{DOMAIN}", f"uaa.{DOMAIN}"]

    async def twice() -> tuple[bytes, bytes]:
        async with answering(settings, server.http_port):
            return await obtain(settings, places, names), await obtain(settings, places, names)

    first, second = asyncio.run(twice())
    assert certified(tmp_path, first) == certified(tmp_path, second) == tuple(names)
    assert first.count(b"BEGIN CERTIFICATE") == 2
    # The account is kept, its key is private, and no answer lies about when nobody asks.
    assert stat.S_IMODE((places.acme / "account.key").stat().st_mode) == 0o600
    assert list(places.challenges.iterdir()) == []


def test_whole_domains_are_certified_by_dns(server: Pebble, tmp_path: Path) -> None:
    program = tmp_path / "dns"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$1 $2" >> {tmp_path}/calls\n'
        '[ "$1" = add ] && action=set-txt || action=clear-txt\n'
        f'exec curl -sf -d "{{\\"host\\": \\"$2.\\", \\"value\\": \\"$3\\"}}" {server.dns_management}/$action\n'
    )
    program.chmod(0o755)
    settings = settings_for(server, tmp_path, acme_dns_command=str(program))
    names = [f"apps.{DOMAIN}", f"*.apps.{DOMAIN}"]
    chain = asyncio.run(obtain(settings, Places(settings), names))
    assert sorted(certified(tmp_path, chain)) == sorted(names)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [f"{what} _acme-challenge.apps.{DOMAIN}" for what in ("add", "add", "remove", "remove")]


def test_a_program_that_fails_is_quoted(server: Pebble, tmp_path: Path) -> None:
    program = tmp_path / "dns"
    program.write_text("#!/bin/sh\n[ $1 = remove ] && exit 0\necho the zone is locked; exit 4\n")
    program.chmod(0o755)
    settings = settings_for(server, tmp_path, acme_dns_command=str(program))
    with pytest.raises(AcmeProblem, match="dns add ended with status 4: the zone is locked"):
        asyncio.run(obtain(settings, Places(settings), [f"*.apps.{DOMAIN}"]))


def test_a_wrong_answer_is_told_in_the_servers_words(server: Pebble, tmp_path: Path) -> None:
    settings = settings_for(server, tmp_path)

    async def lie() -> None:
        async with answering(settings, server.http_port, lies=True):
            await obtain(settings, Places(settings), [f"login.{DOMAIN}"])

    with pytest.raises(AcmeProblem, match=rf"login\.{DOMAIN} is invalid: .*key authorization"):
        asyncio.run(lie())
    assert list(Places(settings).challenges.iterdir()) == []


def test_a_name_that_the_server_refuses(server: Pebble, tmp_path: Path) -> None:
    settings = settings_for(server, tmp_path)
    with pytest.raises(AcmeProblem, match="an illegal character"):
        asyncio.run(obtain(settings, Places(settings), ["not_a_name."]))
