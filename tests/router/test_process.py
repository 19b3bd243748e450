"""The router's process: its table over the platform's socket, its table on disk, its lines, its end."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from cupola import wire
from cupola.config import Settings, load, write_resolved
from cupola.logs.envelope import Batch, Envelope
from cupola.processes.router import CANNOT_START
from cupola.router.messages import Route, RouteDelta, RouteTable
from tests.router.rig import App, Message, Stream, answer

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Controller:
    """The other end of the router's connection: what it sends is awaited, what it gets is kept."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "control.sock"
        self.peers: asyncio.Queue[wire.Peer] = asyncio.Queue()
        self.lines: list[Envelope] = []
        self.requested = asyncio.Event()
        self.got_line = asyncio.Event()
        self._server: asyncio.AbstractServer | None = None
        self._connected: set[wire.Peer] = set()

    async def start(self) -> None:
        self._server = await wire.serve(self.path, {"router": "token"}, self._handle)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for peer in self._connected:
            await peer.close()
        await self._server.wait_closed()
        self.path.unlink(missing_ok=True)

    async def _handle(self, peer: wire.Peer) -> None:
        self._connected.add(peer)
        self.peers.put_nowait(peer)
        while True:
            kind, body = await peer.receive()
            if kind == "routes.request":
                self.requested.set()
            else:
                batch = msgspec.convert(body, Batch)
                self.lines += batch.envelopes
                self.got_line.set()
                await peer.send("logs.ack", batch.first + len(batch.envelopes) - 1)


class Platform:
    def __init__(self, directory: Path, **router: Any) -> None:
        flags = {"data_dir": str(directory), "platform.port": free_port()}
        self.settings: Settings = load(
            flags=flags | {f"router.{key}": value for key, value in router.items()}, environment={}
        )
        self.run_dir = self.settings.run_dir
        self.run_dir.mkdir(parents=True, mode=0o700)
        (self.run_dir / "router.token").write_text("token\n")
        write_resolved(self.settings, self.run_dir / "settings.json")
        self.controller = Controller(self.run_dir)
        self.port = self.settings.platform.port
        self.process: asyncio.subprocess.Process | None = None

    async def start_router(self) -> asyncio.subprocess.Process:
        (self.run_dir / "router.ready").unlink(missing_ok=True)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "cupola.processes.router"),
            cwd=ROOT,
            env={**os.environ, "CUPOLA_SETTINGS": str(self.run_dir / "settings.json")},
            stderr=subprocess.PIPE,
        )
        while not (self.run_dir / "router.ready").exists():
            assert self.process.returncode is None, (await self.process.communicate())[1].decode()
            await asyncio.sleep(0.005)
        return self.process

    async def end_router(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode

    async def connect(self) -> Stream:
        return Stream(*await asyncio.open_connection("127.0.0.1", self.port))

    async def ask(self, host: str, path: str = "/") -> Message:
        stream = await self.connect()
        await stream.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        got = await stream.message()
        await stream.close()
        return got


@contextlib.asynccontextmanager
async def platform(directory: Path, **router: Any) -> AsyncIterator[Platform]:
    made = Platform(directory, **router)
    async with asyncio.timeout(60):
        try:
            yield made
        finally:
            if made.process is not None and made.process.returncode is None:
                await made.end_router(signal.SIGKILL)


def route(app: App, host: str) -> Route:
    return Route(guid=host, host=host, endpoints=[app.endpoint()])


def test_the_table_arrives_changes_and_is_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with platform(tmp_path) as one:
            app = App("one")
            await app.start()
            await one.start_router()
            got = await one.ask("a.apps.localhost")
            assert (got.status, got["X-Cf-RouterError"]) == (503, "no_endpoints")
            await one.controller.start()
            peer = await one.controller.peers.get()
            await peer.send("routes.full", RouteTable(1, [route(app, "a.apps.localhost")]))
            await until(one, "a.apps.localhost", 200)
            started = time.monotonic()
            await peer.send("routes.delta", RouteDelta(1, 2, [route(app, "b.apps.localhost")], ["a.apps.localhost"]))
            await until(one, "b.apps.localhost", 200)
            assert time.monotonic() - started < 0.1
            assert (await one.ask("a.apps.localhost")).status == 404
            await peer.send("routes.delta", RouteDelta(7, 8, [], ["b.apps.localhost"]))
            await one.controller.requested.wait()
            assert (await one.ask("b.apps.localhost")).status == 200
            await one.controller.stop()
            assert await one.end_router() == 0
            assert not (one.run_dir / "router.ready").exists()
            await one.start_router()
            assert (await one.ask("b.apps.localhost")).text == "hello from one"
            assert (await one.ask("a.apps.localhost")).status == 404
            # Killed as well: what was known is known again.
            await one.end_router(signal.SIGKILL)
            await one.start_router()
            assert (await one.ask("b.apps.localhost")).status == 200
            await one.end_router()
            await app.stop()

    uvloop.run(scenario())


async def until(one: Platform, host: str, status: int) -> None:
    while (await one.ask(host)).status != status:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.002)


def test_access_lines_reach_the_controller_also_after_its_absence(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with platform(tmp_path) as one:
            app = App("one")
            await app.start()
            await one.controller.start()
            await one.start_router()
            peer = await one.controller.peers.get()
            await peer.send("routes.full", RouteTable(1, [route(app, "a.apps.localhost")]))
            await until(one, "a.apps.localhost", 200)
            await one.controller.got_line.wait()
            first = one.controller.lines[0]
            assert (first.source_id, first.tags["source_type"]) == (app.guid, "RTR")
            assert b'"GET / HTTP/1.1" 200' in (first.payload or b"")
            await one.controller.stop()
            await one.ask("a.apps.localhost", "/while-away")
            one.controller.got_line.clear()
            await one.controller.start()
            while b"/while-away" not in (one.controller.lines[-1].payload or b""):
                one.controller.got_line.clear()
                await one.controller.got_line.wait()
            await one.end_router()
            await one.controller.stop()
            await app.stop()

    uvloop.run(scenario())


def test_changes_under_load_drop_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with platform(tmp_path) as one:
            steady, moving = App("steady"), [App("x"), App("y")]
            for app in (steady, *moving):
                await app.start()
            await one.controller.start()
            await one.start_router()
            peer = await one.controller.peers.get()
            host, other = "steady.apps.localhost", "moving.apps.localhost"
            await peer.send("routes.full", RouteTable(1, [route(steady, host), route(moving[0], other)]))
            await until(one, host, 200)
            over = asyncio.Event()
            loads = [asyncio.create_task(load_on(one, name, over)) for name in (host, host, other, other)]
            for revision in range(1, 100):
                target = moving[revision % 2]
                routes = [route(target, other), route(target, f"new-{revision}.apps.localhost")]
                await peer.send("routes.delta", RouteDelta(revision, revision + 1, routes, []))
                await asyncio.sleep(0.005)
            over.set()
            counts = await asyncio.gather(*loads)
            assert all(count > 20 for count in counts)
            assert (await one.ask("new-99.apps.localhost")).status == 200
            await one.end_router()
            for app in (steady, *moving):
                await app.stop()
            await one.controller.stop()

    uvloop.run(scenario())


async def load_on(one: Platform, host: str, over: asyncio.Event) -> int:
    """Requests on one connection, which must never end."""
    stream = await one.connect()
    count = 0
    while not over.is_set():
        await stream.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert (await stream.message()).status == 200
        count += 1
    await stream.close()
    return count


def test_a_stopping_router_finishes_what_it_has(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with platform(tmp_path, drain_seconds=20.0) as one:
            entered, go_on = asyncio.Event(), asyncio.Event()

            async def slow(_message: Message, stream: Stream) -> None:
                entered.set()
                await go_on.wait()
                await stream.send(answer(b"finished"))

            app = App("slow", slow)
            await app.start()
            await one.controller.start()
            process = await one.start_router()
            peer = await one.controller.peers.get()
            await peer.send("routes.full", RouteTable(1, [route(app, "a.apps.localhost")]))
            while (await one.ask("none.apps.localhost")).status != 404:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.002)
            asked = asyncio.create_task(one.ask("a.apps.localhost"))
            await entered.wait()
            process.send_signal(signal.SIGTERM)
            while (one.run_dir / "router.ready").exists():  # noqa: ASYNC110 - a file of another process
                await asyncio.sleep(0.002)
            go_on.set()
            assert (await asked).text == "finished"
            assert await one.end_router() == 0
            while not one.controller.lines:
                one.controller.got_line.clear()
                await one.controller.got_line.wait()
            await one.controller.stop()
            await app.stop()

    uvloop.run(scenario())


def test_a_port_in_use_and_a_second_router(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with platform(tmp_path / "one") as one:
            await one.start_router()
            status, said = await run_briefly(one)
            assert status == CANNOT_START
            assert f"another router uses {tmp_path}/one/router" in said
            other = Platform(tmp_path / "other")
            other.settings.platform.port = one.port
            write_resolved(other.settings, other.run_dir / "settings.json")
            status, said = await run_briefly(other)
            assert status == CANNOT_START
            assert (
                f"port {one.port} of 127.0.0.1 is in use by another program: stop that one, or set platform.port"
                in said
            )
            await one.end_router()

    uvloop.run(scenario())


async def run_briefly(one: Platform) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cupola.processes.router"),
        cwd=ROOT,
        env={**os.environ, "CUPOLA_SETTINGS": str(one.run_dir / "settings.json")},
        stderr=subprocess.PIPE,
    )
    _, said = await process.communicate()
    return process.returncode, said.decode()


def test_a_damaged_table_is_as_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with platform(tmp_path) as one:
            (tmp_path / "router").mkdir()
            (tmp_path / "router" / "table.msgpack").write_bytes(b"\x93\xff")
            await one.start_router()
            assert (await one.ask("a.apps.localhost")).status == 503
            await one.end_router()

    uvloop.run(scenario())


def test_the_router_knows_no_database() -> None:
    code = (
        "import sys, cupola.processes.router; "
        "print([name for name in sys.modules if name.split('.')[0] in ('sqlalchemy', 'starlette', 'alembic', 'psycopg')"
        " or name.startswith(('cupola.store', 'cupola.domain', 'cupola.api', 'cupola.rest'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
