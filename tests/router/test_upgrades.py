"""WebSockets and other upgrades: a tunnel from the moment that the instance agrees."""

import asyncio

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from tests.router.conftest import Play
from tests.router.rig import HOST, App, Rig, Stream, answer, field_of

ASK = f"GET /chat HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: shouting\r\n\r\n".encode()


async def shouting(stream: Stream) -> None:
    head = await stream.head()
    assert (head["Connection"], head["Upgrade"]) == ("Upgrade", "shouting")
    await stream.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shouting\r\n\r\nHI")
    while data := await stream.reader.read(1000):
        await stream.send(data.upper())
    await stream.send(b"BYE")


def test_websockets(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        async def echo(connection: ServerConnection) -> None:
            async for message in connection:
                await connection.send(message)

        async with serve(echo, "127.0.0.1", 0) as server:
            app = App("ws")
            app.address = f"tcp:127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            rig.routes(rig.route(app))
            proxy = rig.server.ports[0]
            async with connect(f"ws://{HOST}:{proxy}/x", host="127.0.0.1", port=proxy, proxy=None) as client:
                for message in ("hello", b"\0" * 300_000):
                    await client.send(message)
                    assert await client.recv() == message
            await client.wait_closed()
        assert " 101 " in rig.lines()[0][1]

    play(scenario)


def test_a_refused_websocket_is_an_ordinary_answer(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        proxy = rig.server.ports[0]
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(f"ws://{HOST}:{proxy}/x", host="127.0.0.1", port=proxy, proxy=None)
        assert refused.value.response.status_code == 200
        stream = await rig.connect()
        await stream.send(ASK)
        assert (await stream.message()).text == "hello from one"
        await stream.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert (await stream.message()).text == "hello from one"

    play(scenario)


def test_any_protocol_and_closing_one_side_only(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app("shout", raw=shouting)
        rig.routes(rig.route(app))
        stream = await rig.connect()
        await stream.send(ASK + b"early ")
        head = await stream.head()
        assert (head.status, head["Upgrade"], head["Connection"]) == (101, "shouting", "Upgrade")
        await stream.send(b"words")
        stream.writer.write_eof()
        assert await stream.end() == b"HIEARLY WORDSBYE"
        while not (lines := rig.lines()):  # noqa: ASYNC110 - the router has no event for tests
            await asyncio.sleep(0.001)
        assert '" 101 11 16 "' in lines[0][1]
        assert field_of(lines[0][1], "app_id") == app.guid
        assert [backend.in_flight for backend in rig.service.table.backends] == [0]

    play(scenario)


def test_a_client_that_closes_its_side_before_the_answer(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.routes(rig.route(await rig.app("shout", raw=shouting)))
        stream = await rig.connect()
        await stream.send(ASK + b"all of it")
        stream.writer.write_eof()
        assert (await stream.head()).status == 101
        assert await stream.end() == b"HIALL OF ITBYE"

    play(scenario)


def test_an_instance_that_closes_first(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        got_all = asyncio.Event()

        async def leaves(stream: Stream) -> None:
            await stream.head()
            await stream.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shouting\r\n\r\n")
            stream.writer.write_eof()
            assert await stream.end() == b"late"
            got_all.set()

        rig.routes(rig.route(await rig.app("leaves", raw=leaves)))
        stream = await rig.connect()
        await stream.send(ASK)
        assert (await stream.head()).status == 101
        assert await stream.reader.read() == b""
        await stream.send(b"late")
        await stream.close()
        await got_all.wait()

    play(scenario)


def test_a_tunnel_has_no_time_limit_and_survives_the_table(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.routes(rig.route(await rig.app("shout", raw=shouting)))
        stream = await rig.connect()
        await stream.send(ASK)
        await stream.head()
        assert await stream.reader.readexactly(2) == b"HI"
        rig.routes()
        await asyncio.sleep(0.3)
        await stream.send(b"still")
        assert await stream.reader.readexactly(5) == b"STILL"

    play(scenario, request_timeout=0.1, idle_timeout=0.1)


def test_an_upgrade_with_a_body_is_an_ordinary_request(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app("one", lambda message, stream: stream.send(answer(message.body)))
        rig.routes(rig.route(app))
        stream = await rig.connect()
        await stream.send(ASK.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc"))
        assert (await stream.message()).text == "abc"
        assert app.seen[0].all("Upgrade") == []

    play(scenario)
