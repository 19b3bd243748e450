"""Syslog drains on real sockets: what arrives, what happens while nobody listens, and what the owner is told."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from cupola import clock
from cupola.config import Settings
from cupola.logs.drains import Drains, Target
from cupola.logs.envelope import Envelope
from cupola.logs.ring import Ring
from cupola.logs.writer import AppLog
from cupola.tls.authority import Authority
from tests.ports import free_port


class Platform:
    """A ring with the drains that follow it."""

    def __init__(self, directory: Path, **services: Any) -> None:
        fast = {"drain_timeout_seconds": 5.0, "drain_backoff_max_seconds": 0.1}
        section = msgspec.structs.replace(Settings().services, **{**fast, **services})
        self.ring = Ring(directory / "ring", Settings().logs)
        self.drains = Drains(self.ring, AppLog(self.ring), Settings(services=section))

    def says(self, *texts: str, app: str = "app", **more: Any) -> None:
        tags = {"source_type": "APP/PROC/WEB"}
        self.ring.add(Envelope(clock.nanos(), app, "0", tags, text.encode(), **more) for text in texts)

    def told(self) -> list[str]:
        """What the drains wrote into the app's log."""
        found = self.ring.query("app", limit=10_000)
        return [(one.payload or b"").decode() for one in found if one.tags.get("source_type") == "LGR"]

    async def until_told(self, text: str) -> None:
        with self.ring.subscribe("app") as lines:
            if not any(text in one for one in self.told()):
                async for envelope in lines:
                    if envelope.tags.get("source_type") == "LGR" and text in (envelope.payload or b"").decode():
                        return


@contextlib.asynccontextmanager
async def platform(directory: Path, **services: Any) -> AsyncIterator[Platform]:
    made = Platform(directory, **services)
    try:
        async with asyncio.timeout(20):
            yield made
    finally:
        await made.drains.close()
        made.ring.close()


class Receiver:
    """A syslog server; `got` holds messages without their heads."""

    def __init__(self, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.whole: asyncio.Queue[bytes] = asyncio.Queue()
        self._context = context
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def got(self, count: int) -> list[str]:
        return [
            (await self.whole.get()).decode().partition("] ")[2].partition("] ")[2].rstrip("\n") for _ in range(count)
        ]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError, ssl.SSLError):
            await self.read(reader, writer)

    async def read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            length = int(await reader.readuntil(b" "))
            self.whole.put_nowait(await reader.readexactly(length))


class Web(Receiver):
    """An https server that answers as it is told, then well."""

    def __init__(self, context: ssl.SSLContext, *answers: bytes) -> None:
        super().__init__(context=context)
        self.heads: list[str] = []
        self.connections = 0
        self._answers = list(answers)

    async def read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(head.lower().partition("content-length:")[2].split("\r\n")[0])
            body = await reader.readexactly(length)
            answer = self._answers.pop(0) if self._answers else b"HTTP/1.1 204 No Content\r\n\r\n"
            self.heads.append(head)
            if b" 20" in answer:
                self.whole.put_nowait(body)
            writer.write(answer)
            await writer.drain()


def certified(directory: Path) -> tuple[ssl.SSLContext, str]:
    """A server's side for drain.localhost, and the file of its authority."""
    authority = Authority.load_or_create(directory / "ca.key", directory / "ca.pem", ["localhost"])
    (directory / "drain.pem").write_bytes(authority.issue(["drain.localhost"]))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "drain.pem")
    return context, str(directory / "ca.pem")


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(work())  # type: ignore[arg-type]  # an async function gives a coroutine


def test_lines_arrive_in_order_and_those_of_other_apps_do_not(tmp_path: Path) -> None:
    async def work() -> None:
        async with platform(tmp_path) as made, Receiver() as receiver:
            made.says("before")
            await made.drains.follow([Target("app", f"syslog://127.0.0.1:{receiver.port}", True)])
            made.says("of another", app="other")
            wanted = [f"line {number}" for number in range(500)]
            made.says(*wanted)
            assert await receiver.got(500) == wanted
            made.says("late", stream="ERR")
            assert (await receiver.whole.get()).startswith(b"<11>1 ")
            assert made.told() == []

    run(work)


def test_a_drain_that_is_down_gets_the_lines_when_it_is_back(tmp_path: Path) -> None:
    async def work() -> None:
        async with platform(tmp_path) as made:
            port = free_port()
            await made.drains.follow([Target("app", f"syslog://user:secret@127.0.0.1:{port}?token=secret", True)])
            made.says("one", "two")
            await made.until_told("takes no messages")
            text = f"Syslog drain syslog://127.0.0.1:{port} takes no messages: connection refused. Trying again."
            assert made.told() == [text]
            async with Receiver(port) as receiver:
                assert await receiver.got(3) == ["one", "two", text]
            # The server is restarted: whoever has the old connection notices.
            async with Receiver(port) as receiver:
                made.says("three")
                assert await receiver.got(1) == ["three"]

    run(work)


def test_what_does_not_fit_is_lost_and_counted(tmp_path: Path) -> None:
    async def work() -> None:
        async with platform(tmp_path, drain_queue_bytes=2000) as made:
            port = free_port()
            await made.drains.follow([Target("app", f"syslog://127.0.0.1:{port}/", True)])
            made.says(*(f"{number:0900}" for number in range(5)))
            await made.until_told("messages lost")
            lost = [text for text in made.told() if "messages lost" in text]
            url = f"syslog://127.0.0.1:{port}/"
            assert lost[0].endswith(f" messages lost for application app in user provided syslog drain with url {url}")
            async with Receiver(port) as receiver:
                assert await receiver.got(1) == [f"{0:0900}"]

    run(work)


def test_tls_is_verified(tmp_path: Path) -> None:
    context, ca_file = certified(tmp_path)

    async def work() -> None:
        async with Receiver(context=context) as receiver:
            target = Target("app", f"syslog-tls://drain.localhost:{receiver.port}", True)
            async with platform(tmp_path / "1") as made:
                await made.drains.follow([target])
                made.says("secret")
                await made.until_told("its certificate is not accepted")
                assert receiver.whole.empty()
            async with platform(tmp_path / "2", ca_file=ca_file) as made:
                await made.drains.follow([target])
                made.says("secret")
                assert await receiver.got(1) == ["secret"]
            async with platform(tmp_path / "3", skip_tls_verification=["drain.localhost"]) as made:
                await made.drains.follow([target])
                made.says("again")
                assert await receiver.got(1) == ["again"]

    run(work)


def test_https_takes_each_message_as_a_request(tmp_path: Path) -> None:
    context, ca_file = certified(tmp_path)
    bad = b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"

    async def work() -> None:
        async with Web(context, bad, chunked) as web, platform(tmp_path, ca_file=ca_file) as made:
            url = f"https://me:p%40ss@drain.localhost:{web.port}/logs?key=1"
            await made.drains.follow([Target("app", url, True)])
            made.says("one")
            assert await web.got(1) == ["one"]
            told = (
                f"Syslog drain https://drain.localhost:{web.port}/logs takes no messages: it answers with status 500."
            )
            assert made.told() == [f"{told} Trying again."]
            made.says("two", "three")
            assert (await web.got(3))[1:] == ["two", "three"]
            assert web.heads[0].startswith(f"POST /logs?key=1 HTTP/1.1\r\nHost: drain.localhost:{web.port}\r\n")
            assert f"Basic {base64.b64encode(b'me:p@ss').decode()}\r\n" in web.heads[0]
            # The answer without a length ended the first connection.
            assert web.connections == 2

    run(work)


def test_https_batches(tmp_path: Path) -> None:
    context, ca_file = certified(tmp_path)

    async def work() -> None:
        async with Web(context) as web, platform(tmp_path, ca_file=ca_file) as made:
            url = f"https-batch://drain.localhost:{web.port}/"
            await made.drains.follow([Target("app", url, True)])
            made.says(*(str(number) for number in range(20)))
            got = b""
            while got.count(b"\n") < 20:
                got += await web.whole.get()
            assert len(web.heads) < 20
            assert got.endswith(b"] 19\n")

    run(work)


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", b""])
def test_answers_that_are_none(tmp_path: Path, answer: bytes) -> None:
    context, ca_file = certified(tmp_path)

    class Rude(Web):
        async def read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

    async def work() -> None:
        async with Rude(context) as web, platform(tmp_path, ca_file=ca_file) as made:
            await made.drains.follow([Target("app", f"https://drain.localhost:{web.port}", True)])
            made.says("one")
            await made.until_told("takes no messages: the connection was lost")

    run(work)


def test_a_name_that_no_host_can_have(tmp_path: Path) -> None:
    async def work() -> None:
        async with platform(tmp_path) as made:
            await made.drains.follow([Target("app", f"syslog://{'x' * 64}.example.com", True)])
            made.says("one")
            await made.until_told("takes no messages: its name can be no host's")

    run(work)


def test_an_address_that_users_may_not_have_called_is_not(tmp_path: Path) -> None:
    async def work() -> None:
        async with platform(tmp_path) as made, Receiver() as receiver:
            await made.drains.follow([Target("app", f"syslog://127.0.0.1:{receiver.port}", False)])
            made.says("one")
            await made.until_told("no public address: an operator can add 127.0.0.1 to outbound.allow")
            assert receiver.whole.empty()

    run(work)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("udp://host:1", "Invalid syslog drain URL udp://host:1: udp is not supported"),
        ("syslog:host", "Invalid syslog drain URL syslog://host: the address names no host"),
        ("syslog://host:99999", "Invalid syslog drain URL"),
        ("//host", "an address without a scheme is not supported"),
    ],
)
def test_addresses_that_are_none_are_named(tmp_path: Path, url: str, why: str) -> None:
    async def work() -> None:
        async with platform(tmp_path) as made:
            for _ in range(2):
                await made.drains.follow([Target("app", url, True)])
            (text,) = made.told()
            assert why in text

    run(work)


def test_drains_end_and_choose_what_they_get(tmp_path: Path) -> None:
    async def work() -> None:
        async with platform(tmp_path) as made, Receiver() as lines, Receiver() as metrics, Receiver() as everything:
            url = "syslog://127.0.0.1"
            targets = [
                Target("app", f"{url}:{lines.port}?disable-metadata=true", True),
                Target("app", f"{url}:{metrics.port}?drain-type=metrics", True),
                Target("app", f"{url}:{everything.port}?drain-data=all", True),
            ]
            await made.drains.follow(targets)
            made.says("line")
            made.ring.add([Envelope(clock.nanos(), "app", "0", {}, gauge={"cpu": (1.0, "percentage")})])
            assert (await lines.whole.get()).endswith(b"[APP/PROC/WEB/0] - - line\n")
            assert b'[gauge@47450 name="cpu"' in await metrics.whole.get()
            assert b"line" in await everything.whole.get()
            assert b"gauge@" in await everything.whole.get()
            await made.drains.follow(targets[2:])
            made.says("more")
            assert b"more" in await everything.whole.get()
            assert lines.whole.empty()
            assert metrics.whole.empty()

    run(work)
