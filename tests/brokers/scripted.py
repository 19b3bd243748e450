"""A real broker over HTTP that does what a test says: slow, down, wrong, endless.

    with scripted() as broker:
        broker.on("PUT", "/v2/service_instances/*", Says(202, {"operation": "o"}))
        ...
        broker.asked("PUT", "/v2/service_instances/*")      # what it was asked, in order

Without a script it is a good synchronous broker. Several answers come one after the other, the last one again and again.
"""

import asyncio
import base64
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from aiohttp import web

__all__ = ["PASSWORD", "USERNAME", "Asked", "Broker", "Says", "catalog", "plan", "scripted", "service", "serving"]

USERNAME = "broker-user"
PASSWORD = "broker-secret!"


@dataclass(frozen=True)
class Says:
    """An answer. `body` is JSON, or bytes as they are."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    """Says nothing until the broker is closed."""
    drops: bool = False
    """Closes the connection instead."""
    endless: bool = False
    """The body goes on for ever."""
    short: bool = False
    """Promises more of a body than it sends."""
    until: threading.Event | None = None
    """Is said when this is set."""


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


def plan(name: str = "small", **more: Any) -> dict[str, Any]:
    """A plan of a catalog; its id is made of its name."""
    return {"id": f"{name}-id", "name": name, "description": f"The {name} plan", **more}


def service(name: str = "db", plans: Any = None, **more: Any) -> dict[str, Any]:
    """A service of a catalog; its id is made of its name."""
    return {
        "id": f"{name}-id",
        "name": name,
        "description": f"The {name} service",
        "bindable": True,
        "plans": [plan(f"{name}-small")] if plans is None else plans,
        **more,
    }


def catalog(*services: Any) -> dict[str, Any]:
    """A catalog."""
    return {"services": list(services or [service()])}


class Broker:
    """A running broker; `url` is where."""

    def __init__(self) -> None:
        self.url = ""
        self.catalog: Any = catalog()
        self.username, self.password = USERNAME, PASSWORD
        self._heard: list[Asked] = []
        self._changed = threading.Condition()
        self._script: list[tuple[str, str, list[Says]]] = []
        self._closing = asyncio.Event()

    def on(self, method: str, path: str, *answers: Says) -> None:
        """Answer requests for `path` (with `*`) so; an earlier script for it is forgotten."""
        with self._changed:
            self._script = [one for one in self._script if one[:2] != (method, path)]
            self._script.insert(0, (method, path, list(answers)))

    def asked(self, method: str = "*", path: str = "*") -> list[Asked]:
        """The requests so far."""
        with self._changed:
            return [one for one in self._heard if fnmatchcase(one.method, method) and fnmatchcase(one.path, path)]

    def wait(self, method: str, path: str, number: int = 1, seconds: float = 20) -> list[Asked]:
        """The requests, once there are so many."""

        def enough() -> bool:
            return len(self.asked(method, path)) >= number

        with self._changed:
            assert self._changed.wait_for(enough, seconds), f"nobody asked {method} {path}: {self._heard}"
        return self.asked(method, path)

    def body(self, name: str = "broker", **more: Any) -> dict[str, Any]:
        """What registers it."""
        credentials = {"username": self.username, "password": self.password}
        return {"name": name, "url": self.url, "authentication": {"type": "basic", "credentials": credentials}, **more}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        asked = Asked(
            request.method,
            request.path,
            dict(request.query),
            {name.lower(): value for name, value in request.headers.items()},
            msgspec.json.decode(raw) if raw else None,
        )
        with self._changed:
            self._heard.append(asked)
            says = self._choose(asked)
            self._changed.notify_all()
        return await self._say(request, says)

    def _choose(self, asked: Asked) -> Says:
        for method, path, answers in self._script:
            if method == asked.method and fnmatchcase(asked.path, path):
                return answers.pop(0) if len(answers) > 1 else answers[0]
        expected = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        if asked.headers.get("authorization") != f"Basic {expected}":
            return Says(401, {"description": "Who are you?"})
        if asked.path == "/v2/catalog":
            return Says(200, self.catalog)
        binds = "/service_bindings/" in asked.path
        if asked.method == "PUT":
            return Says(201, {"credentials": {"password": "bound"}} if binds else {})
        return Says(200, {})

    async def _say(self, request: web.Request, says: Says) -> web.StreamResponse:
        if says.until is not None:
            await asyncio.to_thread(says.until.wait, 30)
        if says.hangs:
            await self._closing.wait()
        if says.drops or says.hangs:
            assert request.transport is not None
            request.transport.abort()
        body = says.body if isinstance(says.body, bytes) else msgspec.json.encode(says.body)
        headers = {"Content-Type": "application/json", **says.headers}
        if not (says.endless or says.short):
            return web.Response(status=says.status, body=body, headers=headers)
        answer = web.StreamResponse(status=says.status, headers=headers)
        if says.short:
            answer.content_length = len(body) + 1000
        await answer.prepare(request)
        await answer.write(body)
        try:
            while says.endless and not self._closing.is_set():
                await answer.write(b" " * 65_536)
                await asyncio.sleep(0)
        except ConnectionError:
            return answer
        assert request.transport is not None
        request.transport.close()
        return answer

    def close(self) -> None:
        """Let those who wait go."""
        self._closing.set()


@contextmanager
def scripted(context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Broker]:
    """A broker in a thread of its own."""
    broker = Broker()
    with serving(broker, context, host):
        yield broker


@contextmanager
def serving(broker: Broker, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[None]:
    """Run this broker in a thread of its own."""
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", broker.handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        server: Any = site._server
        port = server.sockets[0].getsockname()[1]
        broker.url = f"{'https' if context else 'http'}://{host}:{port}"
        started.set()
        await stop.wait()
        broker.close()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert started.wait(20), "the broker did not start"
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()
