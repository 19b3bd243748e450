"""Requests that two readers could understand differently are refused, and nothing of them reaches an app."""

import asyncio

import pytest

from tests.router.conftest import Play
from tests.router.rig import HOST, Rig

H = HOST.encode()
GET = b"GET / HTTP/1.1\r\nHost: " + H + b"\r\n"
POST = b"POST / HTTP/1.1\r\nHost: " + H + b"\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: " + H + b"\r\n\r\n"

REFUSED = {
    "length and coding": POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "coding and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n" + SMUGGLED,
    "the same length twice": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
    "a list of lengths": POST + b"Content-Length: 0, 0\r\n\r\n" + SMUGGLED,
    "a signed length": POST + b"Content-Length: +0\r\n\r\n" + SMUGGLED,
    "a negative length": POST + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
    "a hexadecimal length": POST + b"Content-Length: 0x0\r\n\r\n" + SMUGGLED,
    "an empty length": POST + b"Content-Length: \r\n\r\n" + SMUGGLED,
    "a huge length": POST + b"Content-Length: 99999999999999999999\r\n\r\n" + SMUGGLED,
    "two codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked is not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "coding after a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "coding in HTTP/1.0": POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a folded line": GET + b"X: a\r\n b\r\n\r\n" + SMUGGLED,
    "a folded first line": b"GET / HTTP/1.1\r\n Host: " + H + b"\r\n\r\n" + SMUGGLED,
    "bare line feeds": b"GET / HTTP/1.1\nHost: " + H + b"\n\n" + SMUGGLED,
    "a bare line feed in a header": GET + b"X: a\nContent-Length: 5\r\n\r\n" + SMUGGLED,
    "a bare line feed at the end": GET + b"\n" + SMUGGLED,
    "a line feed before the request": b"\n" + GET + b"\r\n" + SMUGGLED,
    "a bare carriage return": GET + b"X: a\rContent-Length: 5\r\n\r\n" + SMUGGLED,
    "a null in a value": GET + b"X: a\0b\r\n\r\n" + SMUGGLED,
    "a null in a name": GET + b"X\0: a\r\n\r\n" + SMUGGLED,
    "a control character": GET + b"X: a\x01b\r\n\r\n" + SMUGGLED,
    "an empty name": GET + b": a\r\n\r\n" + SMUGGLED,
    "no colon": GET + b"Nonsense\r\n\r\n" + SMUGGLED,
    "two hosts": GET + b"Host: other\r\n\r\n" + SMUGGLED,
    "the same host twice": GET + b"Host: " + H + b"\r\n\r\n" + SMUGGLED,
    "a host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n" + SMUGGLED,
    "a host with a user": b"GET / HTTP/1.1\r\nHost: a@" + H + b"\r\n\r\n" + SMUGGLED,
    "two spaces": b"GET  / HTTP/1.1\r\nHost: " + H + b"\r\n\r\n" + SMUGGLED,
    "a tab": b"GET\t/ HTTP/1.1\r\nHost: " + H + b"\r\n\r\n" + SMUGGLED,
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: " + H + b"\r\n\r\n" + SMUGGLED,
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: " + H + b"\r\n\r\n" + SMUGGLED,
    "HTTP/0.9": b"GET /\r\n\r\n" + SMUGGLED,
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: " + H + b"\r\n\r\n" + SMUGGLED,
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: " + H + b"\r\n\r\n" + SMUGGLED,
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    "another protocol": b"GET / RTSP/1.0\r\nHost: " + H + b"\r\n\r\n" + SMUGGLED,
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SMUGGLED,
}
BROKEN_CHUNKS = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "a signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "a size with 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a space before the size": b" 3\r\nabc\r\n0\r\n\r\n",
    "a space after the size": b"3 \r\nabc\r\n0\r\n\r\n",
    "a huge size": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "too long for its size": b"3\r\nabcd\r\n0\r\n\r\n",
    "a bare line feed after the size": b"3\nabc\r\n0\r\n\r\n",
    "a bare line feed after the data": b"3\r\nabc\n0\r\n\r\n",
    "a bare carriage return": b"3\r\nabc\rx0\r\n\r\n",
    "a line feed in an extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "a null in an extension": b"3;a=\0\r\nabc\r\n0\r\n\r\n",
    "an endless extension": b"3;" + b"x" * 9000 + b"\r\nabc\r\n0\r\n\r\n",
    "a folded trailer": b"3\r\nabc\r\n0\r\nX: a\r\n b\r\n\r\n",
    "a space before a trailer's colon": b"3\r\nabc\r\n0\r\nX : a\r\n\r\n",
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED.keys())
def test_refused_and_closed(play: Play, sent: bytes) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        got, rest = await rig.raw(sent)
        assert got.status in (400, 501)
        assert got["Connection"] == "close"
        assert rest == b""
        assert app.seen == []

    play(scenario)


@pytest.mark.parametrize("body", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS.keys())
def test_broken_chunks(play: Play, body: bytes) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        got, rest = await rig.raw(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body + SMUGGLED)
        assert (got.status, rest) == (400, b"")
        assert app.seen == []

    play(scenario)


def test_every_split_of_a_bad_head_is_refused(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        bad = REFUSED["length and coding"]
        for cut in range(1, 70, 3):
            stream = await rig.connect()
            await stream.send(bad[:cut])
            await asyncio.sleep(0.001)
            await stream.send(bad[cut:])
            assert (await stream.message()).status == 400
            assert await stream.end() == b""
        assert app.seen == []

    play(scenario)


def test_bytes_behind_a_body_are_the_next_request(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        stream = await rig.connect()
        await stream.send(
            POST + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED + SMUGGLED.replace(b"smuggled", b"second")
        )
        assert [(await stream.message()).status for _ in range(2)] == [200, 200]
        assert [message.first.split(" ")[1] for message in app.seen] == ["/", "/second"]
        assert app.seen[0].body == SMUGGLED

    play(scenario)


def test_an_upgrade_to_cleartext_http_2_is_not_passed_on(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        stream = await rig.connect()
        await stream.send(GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n")
        assert (await stream.message()).status == 200
        assert app.seen[0].all("Upgrade") + app.seen[0].all("HTTP2-Settings") == []
        await stream.send(GET + b"\r\n")
        assert (await stream.message()).status == 200

    play(scenario)


def test_a_head_over_the_limit(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        for pieces in (1, 50):
            stream = await rig.connect()
            for _ in range(pieces):
                stream.writer.write(GET[: 0 if app.seen else None] if _ == 0 else b"")
                stream.writer.write(b"X: " + b"x" * (20_000 // pieces) + b"\r\n")
            got = await stream.message()
            assert (got.status, got["X-Cf-RouterError"], got.body) == (431, "max-request-size-exceeded", b"")
            assert await stream.end() == b""
        small = await rig.ask("GET /", "X: " + "x" * 9000)
        assert small.status == 200

    play(scenario, max_header_bytes=10_000)


def test_too_many_headers(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        assert (await rig.ask("GET /", *["X: abcdefgh"] * 900)).status == 200
        refused, rest = await rig.raw(GET + b"X: abcdefgh\r\n" * 1001 + b"\r\n")
        assert (refused.status, refused["X-Cf-RouterError"], rest) == (431, "max-request-size-exceeded", b"")
        refused, rest = await rig.raw(GET + b"Connection: " + b"a," * 5000 + b"\r\n\r\n")
        assert (refused.status, rest) == (400, b"")

    play(scenario)
