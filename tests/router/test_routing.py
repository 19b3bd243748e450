"""Which app a request reaches, and what is said when there is none."""

import asyncio

from cupola.router.messages import RouteDelta
from tests.router.conftest import Play
from tests.router.rig import HOST, App, Message, Rig, Stream, answer


def test_hosts_wildcards_and_paths(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        names = ["exact", "wild", "deep", "foo", "foobar", "empty"]
        apps = {name: await rig.app(name) for name in names}
        rig.routes(
            rig.route(apps["exact"], host="a.example.org"),
            rig.route(apps["wild"], host="*.example.org"),
            rig.route(apps["deep"], host="*.b.example.org"),
            rig.route(apps["foo"], host="a.example.org", path="/Foo"),
            rig.route(apps["foobar"], host="a.example.org", path="/foo/bar"),
            rig.route(host="a.example.org", path="/foo/bar/none"),
            rig.route(apps["foo"], host="only.example.net", path="/foo"),
            rig.route(apps["deep"], host="only.example.net", path="/" + "d" * 127),
        )
        wanted = {
            "a.example.org /": "exact",
            "A.Example.ORG:1234 /x": "exact",
            "a.example.org /foo": "foo",
            "a.example.org /foo?x=/y": "foo",
            "a.example.org /FOO/": "foo",
            "a.example.org /foo/x": "foo",
            "a.example.org /foobar": "exact",
            "a.example.org /foo/bar": "foobar",
            "a.example.org /foo/bar/none/x": "foobar",
            "z.example.org /": "wild",
            "y.z.example.org /": "wild",
            "x.b.example.org /": "deep",
            "b.example.org /": "wild",
            "only.example.net /foo": "foo",
            "only.example.net /foo" + "/x" * 30_000: "foo",
            "only.example.net /" + "d" * 127 + "/x": "deep",
            "only.example.net /" + "d" * 127 + "?x": "deep",
            "only.example.net /" + "d" * 127: "deep",
        }
        for where, name in wanted.items():
            host, path = where.split(" ")
            assert (await rig.ask(f"GET {path}", host=host)).text == f"hello from {name}", where
        for where in (
            "example.org /",
            "only.example.net /",
            "only.example.net /fo",
            "example.net /foo",
            f"only.example.net /{'d' * 128}",
        ):
            host, path = where.split(" ")
            assert (await rig.ask(f"GET {path}", host=host)).status == 404, where

    play(scenario)


def test_unknown_routes_and_routes_without_instances(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        assert (await rig.ask("GET /")).status == 503  # the table has not come yet
        rig.routes(rig.route(host="idle.example"), rig.route(await rig.app(), host="internal.example", internal=True))
        for host in ("unknown.example:8080", "internal.example:8080", "rebound.attacker.example", "127.0.0.1.nip.io"):
            name = host.split(":")[0]
            got = await rig.ask("GET /", host=host)
            assert (got.status, got["X-Cf-RouterError"]) == (404, "unknown_route")
            assert got.text == f"404 Not Found: Requested route ('{name}') does not exist.\n"
            assert (got["Cache-Control"], got["X-Content-Type-Options"]) == ("no-cache, no-store", "nosniff")
            assert got["Content-Type"].startswith("text/plain")
        got = await rig.ask("GET /", host="idle.example")
        assert (got.status, got["X-Cf-RouterError"]) == (503, "no_endpoints")
        assert got.text == "503 Service Unavailable: Requested route ('idle.example') has no available endpoints.\n"
        assert got["Cache-Control"] == "public,max-age=2"
        assert (await rig.ask("HEAD /", host="idle.example"))["Content-Length"] == str(len(got.body))
        got = await rig.ask("GET /", "Host:")
        assert (got.status, got["X-Cf-RouterError"]) == (400, "empty_host")
        assert rig.lines() == []

    play(scenario)


def test_absolute_form_reaches_only_what_the_table_knows(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        outside = await rig.app("outside")
        rig.routes(rig.route(app))
        got = await rig.ask(
            f"GET http://{HOST.upper()}:80/a?b", "Host: ignored.example", "Proxy-Connection: keep-alive"
        )
        assert got.text == "hello from one"
        assert (app.seen[0].first, app.seen[0]["Host"]) == ("GET /a?b HTTP/1.1", f"{HOST.upper()}:80")
        assert (await rig.ask(f"GET http://{HOST}?b")).status == 200
        assert app.seen[1].first == "GET /?b HTTP/1.1"
        port = outside.address.rpartition(":")[2]
        for target in (
            f"http://127.0.0.2:{port}/",
            "http://example.com/",
            "https://example.com/",
            f"http://[::2]:{port}/",
        ):
            got = await rig.ask(f"GET {target}")
            assert (got.status, got["X-Cf-RouterError"]) == (404, "unknown_route")
        for target in (f"http://user:secret@{HOST}/", "ftp://x/", "http:///x"):
            assert (await rig.ask(f"GET {target}")).status == 400
        got = await rig.ask(f"CONNECT {HOST}:443")
        assert (got.status, got["Connection"]) == (405, "close")
        assert outside.seen == []
        assert (await rig.ask("OPTIONS *")).status == 200
        assert app.seen[-1].first == "OPTIONS * HTTP/1.1"

    play(scenario)


def test_an_instance_is_named_by_header(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        apps = [await rig.app(f"i{index}") for index in range(3)]
        for index, app in enumerate(apps):
            app.guid, app.index = apps[0].guid, index
        rig.routes(rig.route(*apps))
        guid = apps[0].guid
        for index in (2, 0, 1):
            assert (await rig.ask("GET /", f"X-CF-App-Instance: {guid}:{index}")).text == f"hello from i{index}"
            assert (await rig.ask("GET /", f"X-CF-Process-Instance: {guid}:{index}")).text == f"hello from i{index}"
        assert (await rig.ask("GET /", f"X-CF-Process-Instance: {guid}")).status == 200
        assert apps[0].seen[0].all("X-CF-App-Instance") == []
        got = await rig.ask("GET /", f"X-CF-App-Instance: {guid}:7")
        assert (got.status, got["X-Cf-RouterError"]) == (400, "unknown_route")
        text = f"400 Bad Request: Requested instance ('7') with guid ('{guid}') does not exist for route ('{HOST}')\n"
        assert got.text == text
        got = await rig.ask("GET /", f"X-CF-Process-Instance: {guid}:8")
        assert got.text == text.replace("guid", "process guid").replace("'7'", "'8'")
        for wrong in ("", "x", guid, f"{guid}:x", f"{guid}:-1", f"{guid.upper()}:0"):
            got = await rig.ask("GET /", f"X-CF-App-Instance: {wrong}")
            assert (got.status, got["X-Cf-RouterError"]) == (400, "invalid_cf_app_instance_header")
            assert got.text == "400 Bad Request: Invalid X-CF-App-Instance Header\n"
        got = await rig.ask("GET /", "X-CF-Process-Instance: x")
        assert got["X-Cf-RouterError"] == "invalid_cf_process_instance_header"

    play(scenario)


def test_system_hosts_go_to_the_controller(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        async def respond(message: Message, stream: Stream) -> None:
            await stream.send(answer(message.first.encode(), "X-Vcap-Request-Id: own::id"))

        controller = await rig.app("controller", respond, path=rig.controller)
        rig.routes(rig.route(await rig.app()))
        for host in ("localhost:9080", "127.0.0.1", "[::1]:9080", "LOCALHOST"):
            got = await rig.ask("GET /v3/info", host=host)
            assert got.text == "GET /v3/info HTTP/1.1"
            assert got.all("X-Vcap-Request-Id") == ["own::id"]
        assert (await rig.ask("GET http://localhost:9080/v3", host="x")).text == "GET /v3 HTTP/1.1"
        seen = controller.seen[0]
        assert seen["X-Vcap-Request-Id"]
        assert seen.all("X-CF-ApplicationID") == []
        upload = bytes(range(256)) * 4096
        assert (await rig.ask("POST /v3/upload", host="localhost", body=upload)).status == 200
        assert controller.seen[-1].body == upload
        assert rig.lines() == []

    play(scenario)


def test_without_a_controller_its_clients_get_its_errors(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.routes()
        got = await rig.ask("GET /v3/apps", host="localhost:9080")
        assert (got.status, got["Retry-After"]) == (503, "1")
        assert '"title": "CF-ServiceUnavailable"' in got.text
        assert '"code": 10015' in got.text
        got = await rig.ask("POST /uaa/oauth/token", host="localhost:9080", body=b"grant_type=password")
        assert got.status == 503
        assert '"error": "temporarily_unavailable"' in got.text

    play(scenario, controller_hold_seconds=0.05)


def test_a_restarting_controller_is_waited_for(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.routes()
        asked = asyncio.create_task(rig.ask("POST /v3/apps", host="localhost", body=b"{}"))
        while not rig.service.controller.in_flight:  # noqa: ASYNC110 - the router has no event for tests
            await asyncio.sleep(0.001)
        await rig.app("controller", path=rig.controller)
        assert (await asked).text == "hello from controller"

    play(scenario, controller_hold_seconds=10)


def test_a_controller_that_dies_under_a_request(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        async def dies(stream: Stream) -> None:
            await stream.head()

        await rig.app("controller", raw=dies, path=rig.controller)
        got = await rig.ask("POST /v3/apps", host="localhost", body=b"{}")
        assert got.status == 502
        assert "look whether the request took effect" in got.text

    play(scenario)


def test_the_load_balancers_health_check(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.routes()
        got = await rig.ask("GET /", "User-Agent: HTTP-Monitor/1.1", host="anything")
        assert (got.status, got.text) == (200, "ok\n")
        rig.service.draining = True
        assert (await rig.ask("GET /", "User-Agent: HTTP-Monitor/1.1")).status == 503

    play(scenario)


def test_a_route_with_a_route_service_is_not_served_past_it(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app()
        rig.routes(rig.route(app, route_service="https://guard.example"))
        got = await rig.ask("GET /")
        assert (got.status, got["X-Cf-RouterError"]) == (502, "route_service_unsupported")
        assert app.seen == []

    play(scenario)


def test_semicolons_are_remarked_on(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.routes(rig.route(await rig.app()))
        assert (await rig.ask("GET /?a=1;b=2"))["X-Cf-RouterError"] == "deprecated-semicolon-params"

    play(scenario)


def test_changes_touch_nothing_else(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        entered, go_on = asyncio.Event(), asyncio.Event()

        async def slow(_message: Message, stream: Stream) -> None:
            entered.set()
            await go_on.wait()
            await stream.send(answer(b"finished"))

        stays, goes = await rig.app("stays"), await rig.app("goes", slow)
        rig.routes(rig.route(stays, host="stays.example"), rig.route(goes))
        kept = await rig.connect()
        await kept.send(b"GET / HTTP/1.1\r\nHost: stays.example\r\n\r\n")
        await kept.message()
        under_way = asyncio.create_task(rig.ask("GET /"))
        await entered.wait()
        table = rig.service.table
        new = App("new")
        await new.start()
        assert table.apply(RouteDelta(1, 2, [rig.route(new, host="new.example")], [HOST]))
        assert not table.apply(RouteDelta(1, 2, [], ["stays.example"]))
        assert (await rig.ask("GET /", host="new.example")).text == "hello from new"
        assert (await rig.ask("GET /")).status == 404
        go_on.set()
        assert (await under_way).text == "finished"
        await kept.send(b"GET / HTTP/1.1\r\nHost: stays.example\r\n\r\n")
        assert (await kept.message()).text == "hello from stays"
        assert stays.connections == 1
        await new.stop()

    play(scenario)
