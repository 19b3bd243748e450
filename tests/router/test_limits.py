"""Time and memory: what is slow is ended, what is large is never held."""

import asyncio
import resource
import time
from pathlib import Path

import pytest

from tests.router.conftest import Play
from tests.router.rig import HOST, Message, Rig, Stream, answer

MEGABYTE = 1024 * 1024


def memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("start", [b"G", f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX".encode()])
def test_a_slow_head(play: Play, start: bytes) -> None:
    async def scenario(rig: Rig) -> None:
        rig.routes(rig.route(await rig.app()))
        stream = await rig.connect()

        async def drip() -> None:
            await stream.send(start)
            for byte in b"GET / HTTP/1.1"[1:] if start == b"G" else b"-" * 100:
                await asyncio.sleep(0.02)
                await stream.send(bytes([byte]))

        dripping = asyncio.create_task(drip())
        got = await stream.message()
        assert (got.status, got["Connection"]) == (408, "close")
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        kept = await rig.connect()
        await kept.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert (await kept.message()).status == 200
        await kept.send(b"GET")
        assert (await kept.message()).status == 408

    play(scenario, header_timeout=0.1)


def test_silent_connections_are_closed(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.routes(rig.route(await rig.app()))
        never, once = await rig.connect(), await rig.connect()
        await once.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert (await once.message()).status == 200
        assert await never.end() == b""
        assert await once.end() == b""

    play(scenario, header_timeout=0.1, idle_timeout=0.1)


def test_a_request_that_takes_too_long(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        async def stuck(message: Message, stream: Stream) -> None:
            if "/begun" in message.first:
                await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            await stream.end()

        rig.routes(rig.route(await rig.app("stuck", stuck)))
        got = await rig.ask("GET /")
        assert (got.status, got["X-Cf-RouterError"]) == (502, "endpoint_failure (context deadline exceeded)")
        with pytest.raises(asyncio.IncompleteReadError):
            await rig.ask("GET /begun")
        stream = await rig.connect()
        await stream.send(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nabc".encode())
        got = await stream.message()
        assert (got.status, got["Connection"]) == (408, "close")
        assert await stream.end() == b""

    play(scenario, request_timeout=0.15)


def test_an_instance_that_does_not_accept(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        app.address = "tcp:192.0.2.1:9"  # documentation addresses answer nobody, or there is no way to them
        rig.routes(rig.route(app))
        started = time.monotonic()
        got = await rig.ask("GET /")
        assert got.status == 502
        assert time.monotonic() - started < 5

    play(scenario, dial_timeout=0.1)


def test_a_large_upload_is_not_held(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        go_on = asyncio.Event()
        size = 64 * MEGABYTE

        async def slow(stream: Stream) -> None:
            await stream.head()
            await go_on.wait()
            left = size
            while left:
                left -= len(await stream.reader.read(MEGABYTE))
            await stream.send(answer(b"all of it"))

        rig.routes(rig.route(await rig.app("slow", raw=slow)))
        stream = await rig.connect()
        head = f"PUT / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n".encode()
        block = b"x" * MEGABYTE

        async def upload() -> None:
            await stream.send(head, *[block] * 64)

        before = memory()
        uploading = asyncio.create_task(upload())
        await asyncio.sleep(0.3)
        # What the kernel holds is not the router's; the client is stopped long before the end.
        assert memory() - before < 24 * MEGABYTE
        assert not uploading.done()
        go_on.set()
        await uploading
        assert (await stream.message()).text == "all of it"
        assert memory() - before < 24 * MEGABYTE

    play(scenario)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_download_is_not_held(play: Play, chunked: bool) -> None:
    async def scenario(rig: Rig) -> None:
        size = 64 * MEGABYTE
        sent = 0

        async def fast(stream: Stream) -> None:
            nonlocal sent
            await stream.head()
            framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
            await stream.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
            block = b"x" * MEGABYTE
            for _ in range(64):
                await stream.send(b"100000\r\n%b\r\n" % block if chunked else block)
                sent += MEGABYTE
            if chunked:
                await stream.send(b"0\r\n\r\n")

        rig.routes(rig.route(await rig.app("fast", raw=fast)))
        stream = await rig.connect()
        before = memory()
        await stream.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        await asyncio.sleep(0.3)
        assert sent < 32 * MEGABYTE
        assert memory() - before < 24 * MEGABYTE
        got = 0
        while piece := await stream.reader.read(MEGABYTE):
            got += len(piece)
        assert got > size
        assert memory() - before < 24 * MEGABYTE

    play(scenario)


def test_a_client_that_pipelines_and_does_not_read(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app("one", lambda _message, stream: stream.send(answer(b"x" * MEGABYTE)))
        rig.routes(rig.route(app))
        stream = await rig.connect()
        before = memory()
        requests = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode() * 200
        await stream.send(requests)
        await asyncio.sleep(0.3)
        assert len(app.seen) < 30
        assert memory() - before < 24 * MEGABYTE
        for _ in range(20):
            assert len((await stream.message()).body) == MEGABYTE

    play(scenario)


def test_a_slow_reader_gets_the_end_of_its_answer(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app("one", lambda _message, stream: stream.send(answer(b"x" * 4 * MEGABYTE)))
        rig.routes(rig.route(app))
        stream = await rig.connect()
        await stream.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        got = 0
        while piece := await stream.reader.read(256 * 1024):
            got += len(piece)
            await asyncio.sleep(0.005)
        assert got > 4 * MEGABYTE

    play(scenario)


def test_draining(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        entered, go_on = asyncio.Event(), asyncio.Event()

        async def slow(_message: Message, stream: Stream) -> None:
            entered.set()
            await go_on.wait()
            await stream.send(answer(b"finished"))

        rig.routes(rig.route(await rig.app("slow", slow), host="slow.example"), rig.route(await rig.app()))
        idle, busy = await rig.connect(), await rig.connect()
        await idle.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        await idle.message()
        await busy.send(b"GET / HTTP/1.1\r\nHost: slow.example\r\n\r\n")
        await entered.wait()
        draining = asyncio.create_task(rig.server.drain(20))
        assert await idle.end() == b""
        with pytest.raises(OSError, match=r"."):
            await rig.connect()
        assert not draining.done()
        go_on.set()
        got = await busy.message()
        assert (got.text, got["Connection"]) == ("finished", "close")
        await draining

    play(scenario)
