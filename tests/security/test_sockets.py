"""The platform's processes know each other: by directory, by user, by a token for each role."""

import asyncio
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cupola import wire
from tests.journeys.platform import ROOT

TOKENS = {"router": "token of the router", "cell": "token of the cell"}


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[list[str]]:
    """A controller's end; gives the roles of those who were let in."""
    roles: list[str] = []

    async def handle(peer: wire.Peer) -> None:
        roles.append(peer.role)

    server = await wire.serve(path, TOKENS, handle)
    try:
        yield roles
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("role", "token", "says"),
    [
        ("router", "token of the cell", "wrong token for role router"),
        ("cell", "", "wrong token for role cell"),
        ("ssh", "token of the router", "wrong token for role ssh"),
        ("", "", "wrong token for role"),
    ],
)
def test_a_token_is_for_one_role(tmp_path: Path, role: str, token: str, says: str) -> None:
    async def scenario() -> None:
        async with serving(tmp_path / "s") as roles:
            with pytest.raises(wire.Refused, match=says):
                await wire.connect(tmp_path / "s", role, token)
            peer = await wire.connect(tmp_path / "s", "router", TOKENS["router"])
            await peer.close()
        assert roles == ["router"]

    asyncio.run(scenario())


@pytest.mark.parametrize("said", [b"", b"\xff\xff\xff\xff", b"\0\0\0\x01\xc0", b"GET / HTTP/1.1\r\n\r\n"])
def test_nonsense_is_let_in_nowhere(tmp_path: Path, said: bytes) -> None:
    async def scenario() -> None:
        async with serving(tmp_path / "s") as roles:
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            writer.write(said)
            writer.write_eof()
            assert b"welcome" not in await asyncio.wait_for(reader.read(), 10)
            writer.close()
        assert roles == []

    asyncio.run(scenario())


def test_another_user_is_refused_although_it_has_the_token() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    place = Path(tempfile.mkdtemp(prefix="cupola-sockets-"))
    place.chmod(0o755)
    code = (
        "import socket, sys, struct, os, msgspec; os.setgid(65534); os.setuid(65534)\n"
        "peer = socket.socket(socket.AF_UNIX); peer.connect(sys.argv[1])\n"
        "hello = msgspec.msgpack.encode(['hello', {'role': 'router', 'token': sys.argv[2], 'version': 1}])\n"
        "peer.sendall(struct.pack('>I', len(hello)) + hello); peer.recv(4)\n"
        "print(msgspec.msgpack.decode(peer.recv(1000)))"
    )

    async def scenario() -> str:
        async with serving(place / "s"):
            (place / "s").chmod(0o666)
            command = [sys.executable, "-c", code, str(place / "s"), TOKENS["router"]]
            done = await asyncio.to_thread(
                subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False
            )
            return done.stdout + done.stderr

    try:
        said = asyncio.run(scenario())
    finally:
        for file in place.iterdir():
            file.unlink()
        place.rmdir()
    assert said.strip() == "['refused', 'user 65534 may not connect']"


def test_the_socket_is_for_its_owner(tmp_path: Path) -> None:
    async def scenario() -> int:
        async with serving(tmp_path / "s"):
            return stat.S_IMODE((tmp_path / "s").stat().st_mode)

    assert asyncio.run(scenario()) == 0o600
