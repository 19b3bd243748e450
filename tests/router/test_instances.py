"""Which instance of an app gets a request, and what happens when one is dead or busy."""

import asyncio
import socket
from collections import Counter

import pytest

from cupola.router.backends import Backend
from cupola.router.balance import Pool, choose
from cupola.router.messages import Endpoint, Route
from tests.router.conftest import Play
from tests.router.rig import HOST, App, Message, Rig, Stream, answer, field_of

SESSION = "Set-Cookie: JSESSIONID=abc; Path=/; Secure; SameSite=None; Max-Age=3600"


def counted(messages: list[Message]) -> Counter[str]:
    return Counter(message.text.removeprefix("hello from ") for message in messages)


def dead_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_round_robin(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.routes(rig.route(*[await rig.app(name) for name in "abc"]))
        assert counted([await rig.ask("GET /") for _ in range(9)]) == {"a": 3, "b": 3, "c": 3}

    play(scenario)


def test_least_connections(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        entered, go_on = asyncio.Event(), asyncio.Event()

        async def slow(_message: Message, stream: Stream) -> None:
            entered.set()
            await go_on.wait()
            await stream.send(answer(b"hello from busy"))

        busy = await rig.app("busy", slow)
        rig.routes(rig.route(busy))
        waiting = asyncio.create_task(rig.ask("GET /"))
        await entered.wait()
        rig.routes(rig.route(busy, await rig.app("free"), balancing="least-connection"))
        assert counted([await rig.ask("GET /") for _ in range(6)]) == {"free": 6}
        go_on.set()
        await waiting

    play(scenario)


def test_hashed_by_header(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        apps = [await rig.app(name) for name in "abcd"]
        rig.routes(rig.route(*apps, balancing="hash", hash_header="X-Tenant"))
        chosen = set()
        for tenant in range(40):
            texts = {(await rig.ask("GET /", f"x-tenant: {tenant}")).text for _ in range(2)}
            assert len(texts) == 1
            chosen |= texts
        assert len(chosen) == 4
        assert len(counted([await rig.ask("GET /") for _ in range(8)])) == 4

    play(scenario)


def backends(*in_flight: int) -> list[Backend]:
    made = []
    for number, busy in enumerate(in_flight):
        address = f"tcp:127.0.0.1:{1000 + number}"
        endpoint = Endpoint(address=address, app_guid="a", process_guid="p", instance_guid=f"i{number}", index=number)
        backend = Backend(address, endpoint, 500)
        backend.in_flight = busy
        made.append(backend)
    return made


def test_a_hash_moves_few_keys_and_spreads_them_evenly() -> None:
    four = backends(0, 0, 0, 0)
    route = Route(guid="g", host="h", balancing="hash", hash_header="X")
    large, small = Pool(route, four, "round-robin"), Pool(route, four[:3], "round-robin")
    keys = [b"key-%d" % number for number in range(4000)]
    first = {key: choose(large, (), key, "round-robin") for key in keys}
    counts = Counter(backend.endpoint.index for backend in first.values() if backend and backend.endpoint)
    assert all(800 < count < 1200 for count in counts.values())
    stay = [key for key, backend in first.items() if backend is not four[3]]
    moved = sum(choose(small, (), key, "round-robin") is not first[key] for key in stay)
    assert moved / len(stay) < 0.1


def test_an_overloaded_instance_spills() -> None:
    four = backends(0, 0, 0, 0)
    key = b"tenant"
    route = Route(guid="g", host="h", balancing="hash", hash_header="X", hash_balance=1.5)
    pool = Pool(route, four, "round-robin")
    usual = choose(pool, (), key, "round-robin")
    assert usual is not None
    usual.in_flight = 40
    for backend in four:
        backend.in_flight = backend.in_flight or 10
    assert choose(pool, (), key, "round-robin") not in (usual, None)
    usual.in_flight = 12
    assert choose(pool, (), key, "round-robin") is usual


def test_sticky_sessions(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        async def respond(message: Message, stream: Stream) -> None:
            app = next(one for one in apps if stream in one.streams)
            headers = [SESSION] if "/login" in message.first else []
            await stream.send(answer(app.name.encode(), *headers))

        apps = [await rig.app(name, respond) for name in "abc"]
        rig.routes(rig.route(*apps, path="/shop"))
        first = await rig.ask("GET /shop/login")
        cookies = first.all("Set-Cookie")
        assert cookies[0] == SESSION.partition(": ")[2]
        chosen = next(app for app in apps if app.name == first.text)
        assert cookies[1] == f"__VCAP_ID__={chosen.instance}; Path=/shop; HttpOnly; Secure; SameSite=None"
        cookie = f"Cookie: x=y; JSESSIONID=abc; __VCAP_ID__={chosen.instance}"
        for _ in range(5):
            again = await rig.ask("GET /shop", cookie)
            assert (again.text, again.all("Set-Cookie")) == (chosen.name, [])
        lone = [(await rig.ask("GET /shop", f"Cookie: __VCAP_ID__={chosen.instance}")).text for _ in range(3)]
        assert sorted(lone) == ["a", "b", "c"]
        rig.routes(rig.route(*[app for app in apps if app is not chosen], path="/shop"))
        moved = await rig.ask("GET /shop", cookie)
        new = next(app for app in apps if app.name == moved.text)
        assert new is not chosen
        assert moved["Set-Cookie"] == f"__VCAP_ID__={new.instance}; Path=/shop; HttpOnly"

    play(scenario)


def test_an_apps_own_sticky_cookie_is_left_alone(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        async def respond(_message: Message, stream: Stream) -> None:
            await stream.send(answer(b"", SESSION, "Set-Cookie: __VCAP_ID__=mine"))

        rig.routes(rig.route(await rig.app("one", respond)))
        assert (await rig.ask("GET /")).all("Set-Cookie") == [SESSION.partition(": ")[2], "__VCAP_ID__=mine"]

    play(scenario)


def test_a_dead_instance_is_passed_over(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        alive, dead = await rig.app("alive"), App("dead")
        dead.address = f"tcp:127.0.0.1:{dead_port()}"
        rig.routes(rig.route(dead, alive))
        for _ in range(6):
            assert (await rig.ask("POST /", body=b"data")).text == "hello from alive"
        assert [message.body for message in alive.seen] == [b"data"] * 6
        gone = next(backend for backend in rig.service.backends if backend.address[2] == int(dead.address[14:]))
        assert not gone.usable
        assert all(backend.in_flight == 0 for backend in rig.service.backends)

    play(scenario)


def test_nobody_alive_is_a_bad_gateway(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        dead = App("dead")
        dead.address = f"unix:{rig.directory}/none.sock"
        rig.routes(rig.route(dead))
        got = await rig.ask("GET /")
        assert (got.status, got["X-Cf-RouterError"]) == (502, "endpoint_failure (no such socket)")
        source, line = rig.lines()[0]
        assert source == dead.guid
        assert field_of(line, "x_cf_routererror") == "endpoint_failure"
        # It may be back before the 30 seconds are over: alone, it is tried all the same.
        back = App("dead")
        await back.start(rig.directory / "none.sock")
        assert (await rig.ask("GET /")).status == 200
        await back.stop()

    play(scenario)


@pytest.mark.parametrize(
    ("method", "headers", "sent_again"),
    [("GET", [], True), ("POST", [], False), ("POST", ["Idempotency-Key: 1"], True), ("DELETE", [], False)],
)
def test_a_kept_connection_that_dies_under_a_request(
    play: Play, method: str, headers: list[str], sent_again: bool
) -> None:
    async def scenario(rig: Rig) -> None:
        async def respond(message: Message, stream: Stream) -> None:
            if len(app.seen) == 2:
                stream.writer.transport.abort()
            else:
                await stream.send(answer())

        app = await rig.app("one", respond)
        rig.routes(rig.route(app))
        assert (await rig.ask("GET /")).status == 200
        got = await rig.ask(f"{method} /", *headers)
        assert got.status == (200 if sent_again else 502)
        assert len(app.seen) == (3 if sent_again else 2)

    play(scenario)


def test_a_body_that_was_sent_is_not_sent_again(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        async def dies(stream: Stream) -> None:
            await stream.message()

        app = await rig.app("one", raw=dies)
        rig.routes(rig.route(app))
        got = await rig.ask("PUT /", "Idempotency-Key: 1", body=b"x")
        assert (got.status, got["X-Cf-RouterError"]) == (502, "endpoint_failure (EOF)")
        assert app.connections == 1

    play(scenario)


def test_connections_closed_by_an_idle_instance_are_not_used(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app))
        await rig.ask("GET /")
        (backend,) = list(rig.service.table.backends)
        assert len(backend.idle) == 1
        app.streams[0].writer.close()
        while backend.idle:  # noqa: ASYNC110 - the router has no event for tests
            await asyncio.sleep(0.001)
        assert (await rig.ask("POST /", body=b"x")).status == 200

    play(scenario)


def test_the_connection_limit(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        both, go_on = asyncio.Semaphore(0), asyncio.Event()

        async def slow(_message: Message, stream: Stream) -> None:
            both.release()
            await go_on.wait()
            await stream.send(answer())

        rig.routes(rig.route(await rig.app("one", slow)))
        waiting = [asyncio.create_task(rig.ask("GET /")) for _ in range(2)]
        await both.acquire()
        await both.acquire()
        got = await rig.ask("GET /")
        assert (got.status, got["X-Cf-RouterError"]) == (503, "Connection Limit Reached")
        assert got.text == f"503 Service Unavailable: Requested route ('{HOST}') has reached the connection limit.\n"
        go_on.set()
        assert [(await task).status for task in waiting] == [200, 200]
        assert (await rig.ask("GET /")).status == 200

    play(scenario, max_connections_per_backend=2)
