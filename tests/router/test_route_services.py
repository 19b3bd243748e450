"""Route services: the way to them and back, what they may be, and signatures that are not good."""

import asyncio
import base64
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from cupola.config import Settings
from cupola.router import signatures
from cupola.router.route_services import RouteServices
from cupola.tls.authority import Authority
from tests.router.conftest import Play
from tests.router.rig import HOST, App, Message, Rig, Stream, answer, field_of

KEY = b"k" * 32
SERVICE = "service.apps.localhost"
URL = f"https://{SERVICE}/check?x=1"


def guard(rig: Rig, **services: Any) -> None:
    """Let the router know route services; `services` are settings."""
    rig.keys = [KEY]
    settings = Settings(services=msgspec.structs.replace(Settings().services, **services))
    rig.service.route_services = RouteServices(settings)
    rig.service.strict_signatures = settings.services.strict_route_service_signatures


def passing(rig: Rig) -> Any:
    """A service that sends every request on, and gives back what it gets."""

    async def respond(message: Message, stream: Stream) -> None:
        url = urlsplit(message["X-CF-Forwarded-Url"])
        signed = [f"{name}: {message[name]}" for name in ("X-CF-Proxy-Signature", "X-CF-Proxy-Metadata")]
        method = message.first.split(" ")[0]
        target = url.path + (f"?{url.query}" if url.query else "")
        first = f"{method} {target}"
        extra = [f"X-CF-Forwarded-Url: {url.geturl()}", "X-Seen-By: service"]
        got = await rig.ask(first, *signed, *extra, body=message.body, host=url.netloc)
        await stream.send(answer(got.body, "X-Passed: yes", status=got.first.partition(" ")[2]))

    return respond


Headers = Callable[[], list[str]]
"""Made when a test runs: signatures age."""
JUNK = ["X-CF-Proxy-Signature: junk"]
NO_BASE64 = ["X-CF-Proxy-Signature: !!!", "X-CF-Proxy-Metadata: ???"]


def signed(url: str, key: bytes = KEY, age: float = 0) -> list[str]:
    signature, metadata = signatures.sign(key, url, time.time() - age)
    return [f"X-CF-Proxy-Signature: {signature.decode()}", f"X-CF-Proxy-Metadata: {metadata.decode()}"]


def test_a_request_goes_through_the_service_to_the_app(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        guard(rig)
        app, service = await rig.app("one"), await rig.app("two", passing(rig))
        rig.routes(rig.route(app, route_service=URL), rig.route(service, host=SERVICE))
        host = f"{HOST}:9080"
        got = await rig.ask("POST /shop/1?a=b", "Cookie: c=1", body=b"order", host=host)
        assert (got.status, got.body, got["X-Passed"]) == (200, b"hello from one", "yes")

        (first,) = service.seen
        assert first.first == "POST /check?x=1 HTTP/1.1"
        assert first["Host"] == SERVICE
        assert first["X-CF-Forwarded-Url"] == f"http://{HOST}:9080/shop/1?a=b"
        assert (first["Cookie"], first.body) == ("c=1", b"order")
        assert list(json.loads(base64.urlsafe_b64decode(first["X-CF-Proxy-Metadata"]))) == ["nonce"]

        (second,) = app.seen
        assert (second.first, second["Host"], second.body) == ("POST /shop/1?a=b HTTP/1.1", host, b"order")
        assert second["X-Seen-By"] == "service"
        for name in ("X-CF-Forwarded-Url", "X-CF-Proxy-Signature", "X-CF-Proxy-Metadata"):
            assert second.all(name) == []

        lines = [line for source, line in rig.lines() if source == app.guid]
        assert len(lines) == 2
        assert all('"POST /shop/1?a=b HTTP/1.1" 200 5 ' in line for line in lines)
        assert sorted(field_of(line, "app_index") for line in lines) == ["-", "0"]
        assert [source for source, _ in rig.lines()].count(service.guid) == 1

    play(scenario)


def test_with_a_system_domain_services_send_back_by_https(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        guard(rig)
        platform = msgspec.structs.replace(Settings().platform, system_domain="cf.example.com", https_port=8443)
        rig.service.route_services = RouteServices(Settings(platform=platform))
        app, service = await rig.app("one"), await rig.app("two")
        rig.routes(rig.route(app, route_service=URL), rig.route(service, host=SERVICE))
        await rig.ask("GET /a", host=f"{HOST}:80")
        assert service.seen[0]["X-CF-Forwarded-Url"] == f"https://{HOST}:8443/a"
        assert app.seen == []

    play(scenario)


def test_a_service_that_answers_itself_keeps_the_app_from_the_request(play: Play) -> None:
    async def refuse(message: Message, stream: Stream) -> None:
        await stream.send(answer(b"who are you?", "Set-Cookie: JSESSIONID=1", status="401 Unauthorized"))

    async def scenario(rig: Rig) -> None:
        guard(rig)
        app, service = await rig.app("one"), await rig.app("two", refuse)
        rig.routes(rig.route(app, route_service=URL), rig.route(service, host=SERVICE))
        got = await rig.ask("GET /")
        assert (got.status, got.text) == (401, "who are you?")
        assert app.seen == []
        # The cookie of the service must not pin the client to an instance of it.
        assert got.all("Set-Cookie") == ["JSESSIONID=1"]

    play(scenario)


@pytest.mark.parametrize(
    ("headers", "status", "why"),
    [
        (lambda: JUNK, 502, "the headers are not as the router made them"),
        (lambda: NO_BASE64, 502, "the headers are not as the router made them"),
        (lambda: signed(f"http://{HOST}/")[:1] + signed(f"http://{HOST}/")[1:], 502, "it was not made by this router"),
        (lambda: signed(f"http://{HOST}/", b"x" * 32), 502, "it was not made by this router"),
        (lambda: signed(f"http://{HOST}/", age=61), 504, "it is older than 60 seconds"),
        (lambda: signed("http://other.apps.localhost/"), 502, "it was made for another route"),
        (lambda: signed("nonsense"), 502, "it was made for another route"),
    ],
    ids=["junk", "no base64", "nonce of another", "other key", "old", "other route", "no address"],
)
def test_signatures_that_are_not_good_are_refused(play: Play, headers: Headers, status: int, why: str) -> None:
    async def scenario(rig: Rig) -> None:
        guard(rig)
        app, other = await rig.app("one"), await rig.app("two")
        rig.routes(rig.route(app, route_service=URL), rig.route(other, host="other.apps.localhost"))
        got = await rig.ask("GET /", *headers())
        assert (got.status, got.all("X-Cf-RouterError")) == (status, [])
        assert got.text.endswith(f"Failed to validate Route Service Signature: {why}\n")
        assert app.seen == other.seen == []

    play(scenario)


def test_signatures_of_an_older_key_are_good(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        guard(rig)
        rig.keys = [b"n" * 32, KEY]
        app = await rig.app("one")
        rig.routes(rig.route(app, route_service=URL))
        assert (await rig.ask("GET /", *signed(f"http://{HOST}/"))).status == 200

    play(scenario)


@pytest.mark.parametrize(
    ("headers", "strict", "status", "error"),
    [
        (lambda: signed(f"http://{HOST}/"), True, 200, []),
        (lambda: JUNK, True, 400, ["invalid_route_service_signature"]),
        (lambda: signed(f"http://{HOST}/", age=61), True, 504, ["expired_route_service_signature"]),
        (lambda: JUNK, False, 200, []),
    ],
    ids=["good", "junk", "old", "junk that nobody minds"],
)
def test_signatures_on_routes_without_a_service(
    play: Play, headers: Headers, strict: bool, status: int, error: list[str]
) -> None:
    async def scenario(rig: Rig) -> None:
        guard(rig, strict_route_service_signatures=strict)
        app = await rig.app("one")
        rig.routes(rig.route(app))
        got = await rig.ask("GET /", *headers())
        assert (got.status, got.all("X-Cf-RouterError")) == (status, error)
        assert len(app.seen) == (status == 200)
        assert all(one.all("X-CF-Proxy-Signature") == [] for one in app.seen)

    play(scenario)


def test_what_cannot_go_through_a_service(play: Play) -> None:
    async def scenario(rig: Rig) -> None:
        app = await rig.app("one")
        route = rig.route(app, route_service=URL)
        rig.routes(route)
        got = await rig.ask("GET /")
        assert (got.status, got["X-Cf-RouterError"]) == (502, "route_service_unsupported")
        assert got.text == "502 Bad Gateway: Support for route services is disabled.\n"

        guard(rig)
        got = await rig.ask("GET /")
        assert (got.status, got["X-Cf-RouterError"]) == (503, "no_endpoints"), "the router has no keys yet"

        rig.routes(route, rig.route(host=SERVICE))
        for headers in ([], signed(f"http://{HOST}/")):
            got = await rig.ask("GET /", "Upgrade: websocket", "Connection: upgrade", *headers)
            assert (got.status, got["X-Cf-RouterError"]) == (503, "route_service_unsupported")
        got = await rig.ask("GET /")
        assert (got.status, got["X-Cf-RouterError"]) == (503, "no_endpoints")
        assert SERVICE in got.text

        rig.routes(rig.route(route_service=URL))
        assert HOST in (await rig.ask("GET /")).text, "an app that does not run is not hidden by its service"
        assert app.seen == []

    play(scenario)


class Elsewhere:
    """A service with TLS that is no app."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority.load_or_create(directory / "ca.key", directory / "ca.pem", ["localhost"])
        self.ca_file = str(directory / "ca.pem")
        self.app = App("elsewhere")
        self.port = 0
        certificate = directory / "service.pem"
        certificate.write_bytes(self.authority.issue(["service.localhost"]))
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate)
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Elsewhere":
        self._server = await asyncio.start_server(self.app._accept, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for stream in self.app.streams:
            stream.writer.transport.abort()
        await self._server.wait_closed()

    def url(self, name: str = "service.localhost") -> str:
        return f"https://{name}:{self.port}"


def test_a_service_elsewhere_is_asked_by_tls(play: Play, tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        async with Elsewhere(tmp_path) as elsewhere:
            guard(rig, ca_file=elsewhere.ca_file)
            app = await rig.app("one")
            rig.routes(rig.route(app, route_service=elsewhere.url(), route_service_anywhere=True))
            for _ in range(2):
                got = await rig.ask("POST /x", body=b"abc" * 50_000)
                assert (got.status, got.text) == (200, "hello from elsewhere")
            first, _ = elsewhere.app.seen
            assert (first["Host"], len(first.body)) == (f"service.localhost:{elsewhere.port}", 150_000)
            assert first["X-CF-Forwarded-Url"] == f"http://{HOST}/x"
            assert elsewhere.app.connections == 1
            source, line = rig.lines()[0]
            assert source == app.guid
            assert f'"service.localhost:{elsewhere.port}"' in line
            assert app.seen == []

    play(scenario)


def test_services_elsewhere_that_cannot_be_asked(play: Play, tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        async with Elsewhere(tmp_path) as elsewhere:
            app = await rig.app("one")

            async def ask(url: str, *, anywhere: bool = True, **settings: Any) -> tuple[int, str]:
                guard(rig, **settings)
                rig.routes(rig.route(app, route_service=url, route_service_anywhere=anywhere))
                got = await rig.ask("GET /")
                return got.status, got.all("X-Cf-RouterError")[0] if got.all("X-Cf-RouterError") else ""

            assert await ask(elsewhere.url()) == (526, "endpoint_failure (x509)")
            named_wrongly = elsewhere.url("other.localhost")
            assert await ask(named_wrongly, ca_file=elsewhere.ca_file) == (526, "endpoint_failure (x509)")
            missing = str(tmp_path / "missing.pem")
            assert await ask(elsewhere.url(), ca_file=missing) == (526, "endpoint_failure (x509)")
            plain = await rig.app("plain", raw=lambda stream: stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
            without_tls = f"https://service.localhost:{plain.address.rpartition(':')[2]}"
            assert await ask(without_tls) == (525, "endpoint_failure (tls handshake)")
            refused = "endpoint_failure (address not allowed)"
            assert await ask(elsewhere.url(), anywhere=False, ca_file=elsewhere.ca_file) == (502, refused)
            assert await ask(f"https://{'x' * 64}.example.com") == (502, refused)
            assert elsewhere.app.seen == []
            assert await ask(named_wrongly, skip_tls_verification=["other.localhost"]) == (200, "")
        status, error = await ask(elsewhere.url())
        assert (status, error) == (502, "endpoint_failure (connection refused)")
        assert app.seen == []

    play(scenario)
