"""Requests through the router to instances and back: what each side sees."""

import asyncio
import uuid
from pathlib import Path

import pytest

from tests.router.conftest import Play
from tests.router.rig import HOST, App, Message, Rig, Stream, answer


def test_the_app_gets_the_platforms_headers(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        got = await rig.ask(
            "GET /a/b?c=d", "User-Agent: x", "Accept: a", "Accept: b", f"Host: {HOST}:{rig.server.ports[0]}"
        )
        assert (got.status, got.text) == (200, "hello from one")
        (seen,) = app.seen
        assert seen.first == "GET /a/b?c=d HTTP/1.1"
        assert seen["Host"] == f"{HOST}:{rig.server.ports[0]}"
        assert seen.all("Accept") == ["a", "b"]
        assert (seen["X-Forwarded-For"], seen["X-Forwarded-Proto"]) == ("127.0.0.1", "http")
        assert (seen["X-CF-ApplicationID"], seen["X-CF-InstanceID"]) == (app.guid, app.instance)
        assert seen["X-CF-InstanceIndex"] == "0"
        assert seen["X-Request-Start"].isdigit()
        assert seen.all("Connection") == []
        request_id = uuid.UUID(seen["X-Vcap-Request-Id"])
        assert request_id.version == 4
        assert got["X-Vcap-Request-Id"] == str(request_id)
        assert seen["X-B3-TraceId"] == request_id.hex
        assert seen["b3"] == f"{request_id.hex}-{seen['X-B3-SpanId']}"

    play(scenario)


def test_what_clients_claim_is_continued_or_replaced(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        await rig.ask(
            "GET /",
            "X-Forwarded-For: 10.0.0.1, 10.0.0.2",
            "X-Forwarded-For: 10.0.0.3",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: other",
            "Forwarded: for=x",
            "X-Request-Start: 5",
            "X-Vcap-Request-Id: mine",
            "X-CF-ApplicationID: mine",
            "X-CF-InstanceIndex: 9",
            "X-B3-TraceId: 463ac35c9f6413ad48485a3953bb6124",
            "X-B3-SpanId: a2fb4a1d1a96d312",
        )
        (seen,) = app.seen
        assert seen["X-Forwarded-For"] == "10.0.0.1, 10.0.0.2, 10.0.0.3, 127.0.0.1"
        assert (seen["X-Forwarded-Proto"], seen["X-Forwarded-Host"], seen["Forwarded"]) == ("https", "other", "for=x")
        assert seen["X-Request-Start"] == "5"
        assert seen["X-Vcap-Request-Id"] == "463ac35c-9f64-13ad-4848-5a3953bb6124"
        assert (seen["X-CF-ApplicationID"], seen["X-CF-InstanceIndex"]) == (app.guid, "0")
        assert seen["b3"] == "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312"

    play(scenario)


def test_hop_by_hop_headers_end_at_the_router(play: Play) -> None:
    async def respond(_message: Message, stream: Stream) -> None:
        own = [
            "Connection: X-Secret, keep-alive",
            "X-Secret: 1",
            "Keep-Alive: timeout=5",
            "X-Kept: 1",
            "Proxy-Authenticate: x",
        ]
        await stream.send(answer(b"", *own))

    async def scenario(rig: Rig) -> None:
        app = await rig.app("one", respond)
        rig.routes(rig.route(app))
        stream = await rig.connect()
        lines = [
            "Connection: keep-alive, X-Mine",
            "X-Mine: 1",
            "Keep-Alive: 5",
            "Proxy-Connection: x",
            "TE: trailers, gzip",
        ]
        lines += ["Proxy-Authorization: x", "HTTP2-Settings: x", "Upgrade: h2c", "X-Other: 1"]
        await stream.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n")
        got = await stream.message()
        (seen,) = app.seen
        names = {name.lower() for name, _ in seen.headers}
        assert not names & {"connection", "x-mine", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade"}
        assert (seen["TE"], seen["X-Other"]) == ("trailers", "1")
        answered = {name.lower() for name, _ in got.headers}
        assert not answered & {"connection", "x-secret", "keep-alive", "proxy-authenticate"}
        assert got["X-Kept"] == "1"

    play(scenario)


def test_both_sides_keep_their_connections(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        stream = await rig.connect()
        for number in range(5):
            body = b"x" * number
            await stream.send(
                b"POST /%d HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n\r\n" % (number, HOST.encode(), number), body
            )
            assert (await stream.message()).status == 200
        assert app.connections == 1
        assert [message.body for message in app.seen] == [b"x" * number for number in range(5)]

    play(scenario)


def test_pipelined_requests_are_answered_in_order(play: Play) -> None:
    async def respond(message: Message, stream: Stream) -> None:
        await stream.send(answer(message.first.encode() + message.body))

    async def scenario(rig: Rig) -> None:
        rig.routes(rig.route(await rig.app("one", respond)))
        stream = await rig.connect()
        host = HOST.encode()
        await stream.send(
            b"GET /1 HTTP/1.1\r\nHost: %b\r\n\r\n" % host
            + b"POST /2 HTTP/1.1\r\nHost: %b\r\nContent-Length: 3\r\n\r\nabc" % host
            + b"GET /none HTTP/1.1\r\nHost: other\r\n\r\n"
            + b"POST /3 HTTP/1.1\r\nHost: %b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n" % host
            + b"\r\nGET /4 HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % host
        )
        texts = [(await stream.message()).text for _ in range(5)]
        assert [text[:7] for text in texts] == ["GET /1 ", "POST /2", "404 Not", "POST /3", "GET /4 "]
        assert texts[1].endswith("abc")
        assert texts[3].endswith("xyz")
        assert await stream.end() == b""

    play(scenario)


def test_a_head_may_come_byte_by_byte(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        stream = await rig.connect()
        for round_ in range(2):
            for byte in b"\r\nGET /%d HTTP/1.1\r\nHost: %b\r\nX-Long: abcdef\r\n\r\n" % (round_, HOST.encode()):
                await stream.send(bytes([byte]))
                await asyncio.sleep(0)
            assert (await stream.message()).status == 200
        assert [message["X-Long"] for message in app.seen] == ["abcdef", "abcdef"]

    play(scenario)


def test_chunked_bodies_and_trailers_go_both_ways(play: Play) -> None:
    async def respond(message: Message, stream: Stream) -> None:
        assert message.trailers == ["X-Sum: 1"]
        await stream.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Back\r\n\r\n",
            b"%x;name=value\r\n%b\r\n" % (len(message.body), message.body),
            b"3\r\nend\r\n0\r\nX-Back: 2\r\nContent-Length: 7\r\n\r\n",
        )

    async def scenario(rig: Rig) -> None:
        app = await rig.app("one", respond)
        rig.routes(rig.route(app))
        stream = await rig.connect()
        head = b"POST / HTTP/1.1\r\nHost: %b\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" % HOST.encode()
        await stream.send(head, b"5;a=b\r\nhel", b"lo\r", b"\n1\r\n!\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n")
        got = await stream.message()
        assert (got.body, got.trailers) == (b"hello!end", ["X-Back: 2"])
        assert app.seen[0].body == b"hello!"

    play(scenario)


def test_bodies_stream_in_both_directions_at_once(play: Play) -> None:
    async def echo(stream: Stream) -> None:
        await stream.head()
        await stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send(await stream.reader.readuntil(b"\r\n") + await stream.reader.readuntil(b"\r\n"))

    async def scenario(rig: Rig) -> None:
        rig.routes(rig.route(await rig.app("echo", raw=echo)))
        stream = await rig.connect()
        await stream.send(b"POST / HTTP/1.1\r\nHost: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % HOST.encode())
        assert (await stream.head()).status == 200
        for word in (b"one", b"two", b"three"):
            sent = b"%x\r\n%b\r\n" % (len(word), word)
            await stream.send(sent)
            assert await stream.reader.readexactly(len(sent)) == sent

    play(scenario)


def test_expect_continue_is_the_apps_to_answer(play: Play) -> None:
    async def polite(stream: Stream) -> None:
        head = await stream.head()
        assert head["Expect"] == "100-continue"
        await stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await stream.send(answer(await stream.reader.readexactly(5)))

    async def stern(stream: Stream) -> None:
        await stream.head()
        await stream.send(answer(b"no", status="413 Content Too Large"))

    async def scenario(rig: Rig) -> None:
        rig.routes(
            rig.route(await rig.app("p", raw=polite)), rig.route(await rig.app("s", raw=stern), host="s.example")
        )
        stream = await rig.connect()
        head = b"PUT / HTTP/1.1\r\nHost: %b\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        await stream.send(head % HOST.encode())
        assert (await stream.message()).first == "HTTP/1.1 100 Continue"
        await stream.send(b"hello")
        assert (await stream.message()).body == b"hello"
        for host, status in (("s.example", 413), ("unknown", 404)):
            got, rest = await rig.raw(head % host.encode())
            assert (got.status, rest) == (status, b"")
        refused = await rig.ask("GET /", "Expect: a-miracle")
        assert refused.status == 417

    play(scenario)


def test_informational_responses_are_passed_on(play: Play) -> None:
    async def respond(_message: Message, stream: Stream) -> None:
        await stream.send(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + answer()
        )

    async def scenario(rig: Rig) -> None:
        rig.routes(rig.route(await rig.app("one", respond)))
        stream = await rig.connect()
        await stream.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode())
        early = await stream.message()
        assert (early.status, early["Link"]) == (103, "</a.css>")
        assert (await stream.message()).status == 102
        assert (await stream.message()).text == "hello"
        old = await rig.connect()
        await old.send(b"GET / HTTP/1.0\r\nHost: %b\r\n\r\n" % HOST.encode())
        assert (await old.message()).text == "hello"

    play(scenario)


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\nETag: x\r\n\r\n"),
        ("GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_responses_without_a_body(play: Play, method: str, head: bytes) -> None:
    async def respond(_message: Message, stream: Stream) -> None:
        await stream.send(head)

    async def scenario(rig: Rig) -> None:
        app = await rig.app("one", respond)
        rig.routes(rig.route(app))
        stream = await rig.connect()
        for _ in range(2):
            await stream.send(f"{method} / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            got = await stream.message(bodyless=True)
            assert got.first.startswith(head.split(b"\r\n")[0].decode())
            if b"1234" in head:
                assert got["Content-Length"] == "1234"
        assert app.connections == 1

    play(scenario)


def test_http_1_0_clients(play: Play) -> None:
    async def chunked(_message: Message, stream: Stream) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")

    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app), rig.route(await rig.app("chunked", chunked), host="c.example"))
        got, rest = await rig.raw(f"GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        assert (got["Connection"], got.text, rest) == ("close", "hello from one", b"")
        assert app.seen[0].first == "GET / HTTP/1.1"
        stream = await rig.connect()
        for _ in range(2):
            await stream.send(f"GET / HTTP/1.0\r\nHost: {HOST}\r\nConnection: Keep-Alive\r\n\r\n".encode())
            assert (await stream.message())["Connection"] == "keep-alive"
        got, _ = await rig.raw(b"GET / HTTP/1.0\r\nHost: c.example\r\nConnection: keep-alive\r\n\r\n")
        assert (got.all("Transfer-Encoding"), got["Connection"], got.body) == ([], "close", b"abcde")
        (missing, _) = await rig.raw(b"GET / HTTP/1.0\r\n\r\n")
        assert (missing.status, missing["X-Cf-RouterError"]) == (400, "empty_host")

    play(scenario)


def test_a_response_that_ends_with_its_connection(play: Play) -> None:
    async def old(stream: Stream) -> None:
        await stream.head()
        await stream.send(b"HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\n", b"some ", b"text")

    async def scenario(rig: Rig) -> None:
        rig.routes(rig.route(await rig.app("old", raw=old)))
        stream = await rig.connect()
        for _ in range(2):
            await stream.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            got = await stream.message()
            assert (got.first, got["Transfer-Encoding"], got.body) == ("HTTP/1.1 200 OK", "chunked", b"some text")

    play(scenario)


def test_a_broken_response_does_not_look_whole(play: Play) -> None:
    async def short(stream: Stream) -> None:
        head = await stream.head()
        if "/length" in head.first:
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        elif "/chunked" in head.first:
            await stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        else:
            await stream.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
            stream.writer.transport.abort()

    async def scenario(rig: Rig) -> None:
        rig.routes(rig.route(await rig.app("short", raw=short)))
        for path in ("/length", "/chunked"):
            stream = await rig.connect()
            await stream.send(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ValueError)):
                await stream.message()

    play(scenario)


def test_nonsense_from_an_instance_is_a_bad_gateway(play: Play) -> None:
    said = [
        b"hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
        b"HTTP/1.1 200 OK\r\nServer: a\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nServer : a\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"",
    ]

    async def scenario(rig: Rig) -> None:
        async def raw(stream: Stream) -> None:
            head = await stream.head()
            await stream.send(said[int(head.first.split("/")[1].split(" ")[0])])

        rig.routes(rig.route(await rig.app("odd", raw=raw)))
        # Twice: what was refused once must not be taken for known.
        for number in [*range(len(said))] * 2:
            got = await rig.ask(f"POST /{number}")
            assert (got.status, got.text) == (
                502,
                "502 Bad Gateway: Registered endpoint failed to handle the request.\n",
            )
            assert got["X-Cf-RouterError"].startswith("endpoint_failure (")

    play(scenario, max_header_bytes=65_536)


def test_what_an_instance_says_unasked_is_never_an_answer(play: Play) -> None:
    async def chatty(stream: Stream) -> None:
        while True:
            await stream.head()
            await stream.send(answer(b"mine") + answer(b"poison"))

    async def scenario(rig: Rig) -> None:
        app = await rig.app("chatty", raw=chatty)
        rig.routes(rig.route(app))
        stream = await rig.connect()
        for _ in range(3):
            await stream.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert (await stream.message()).text == "mine"
        assert app.connections == 3

    play(scenario)


def test_instances_behind_unix_sockets(play: Play, tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app("unix", path=tmp_path / "instance.sock")
        rig.routes(rig.route(app))
        assert (await rig.ask("GET /")).text == "hello from unix"
        assert (await rig.ask("POST /", body=b"x" * 100_000)).status == 200
        assert app.seen[1].body == b"x" * 100_000

    play(scenario)


def test_a_vanished_client_ends_the_request_at_the_instance(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        reached, ended = asyncio.Event(), asyncio.Event()

        async def silent(stream: Stream) -> None:
            await stream.head()
            reached.set()
            assert await stream.end() == b""
            ended.set()

        rig.routes(rig.route(await rig.app("silent", raw=silent)))
        stream = await rig.connect()
        await stream.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        await reached.wait()
        stream.writer.transport.abort()
        await ended.wait()
        assert " 499 " in rig.lines()[0][1]

    play(scenario, half_closed_timeout=0.1)


def test_a_client_that_closes_its_side_still_gets_its_answers(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = App("one")
        await app.start()
        rig.routes(rig.route(app))
        stream = await rig.connect()
        await stream.send(2 * f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        stream.writer.write_eof()
        for _ in range(2):
            assert (await stream.message()).text == "hello from one"
        assert await stream.end() == b""
        await app.stop()

    play(scenario)
