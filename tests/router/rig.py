"""A router in this process on real sockets, apps behind it, and clients that see every byte."""

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from cupola.config import Settings
from cupola.logs.spool import Spool
from cupola.router.messages import Endpoint, Route, RouteTable
from cupola.router.server import Listener, Server
from cupola.router.service import Service

HOST = "app.apps.localhost"


@dataclass
class Message:
    """A request or response as it came over the wire."""

    first: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[str] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1])

    @property
    def text(self) -> str:
        return self.body.decode()


class Stream:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def head(self) -> Message:
        raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return Message(first, headers)

    async def message(self, *, bodyless: bool = False) -> Message:
        """The next request or response with its body."""
        message = await self.head()
        if bodyless:
            return message
        response = message.first.startswith("HTTP/")
        if response and (message.status in (204, 304) or message.status < 200):
            return message
        if "chunked" in message.all("Transfer-Encoding"):
            message.body = await self._chunked(message)
        elif message.all("Content-Length"):
            message.body = await self.reader.readexactly(int(message["Content-Length"]))
        elif response:
            message.body = await self.reader.read()
        return message

    async def _chunked(self, message: Message) -> bytes:
        body = b""
        while size := int((await self.reader.readline()).split(b";")[0], 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        while (line := await self.reader.readline()) != b"\r\n":
            message.trailers.append(line.decode().strip())
        return body

    async def end(self) -> bytes:
        """Everything until the other side closes; a reset counts as the end."""
        got = b""
        with contextlib.suppress(ConnectionError):
            while piece := await self.reader.read(65536):
                got += piece
        return got

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


Respond = Callable[[Message, Stream], Awaitable[Any]]


def answer(body: bytes = b"hello", *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class App:
    """An instance. `respond` is called for each request; without it every request gets `hello` and the app's name."""

    def __init__(
        self, name: str, respond: Respond | None = None, *, raw: Callable[[Stream], Awaitable[Any]] | None = None
    ) -> None:
        self.name = name
        self.guid = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        self.instance = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"instance of {name}"))
        self.index = 0
        self.seen: list[Message] = []
        self.connections = 0
        self.address = ""
        self.streams: list[Stream] = []
        self._respond = respond
        self._raw = raw
        self._server: asyncio.AbstractServer | None = None

    async def start(self, path: Path | None = None, port: int = 0) -> None:
        if path is not None:
            self._server = await asyncio.start_unix_server(self._accept, str(path))
            self.address = f"unix:{path}"
            return
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port, limit=1024 * 1024)
        self.address = f"tcp:127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for stream in self.streams:
                stream.writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    def endpoint(self, **values: Any) -> Endpoint:
        fixed = {"tags": {"app_name": self.name}, "process_guid": self.guid, "index": self.index}
        return Endpoint(
            **{"address": self.address, "app_guid": self.guid, "instance_guid": self.instance, **fixed, **values}
        )

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = Stream(reader, writer)
        self.connections += 1
        self.streams.append(stream)
        with contextlib.suppress(EOFError, OSError, ValueError):
            if self._raw is not None:
                await self._raw(stream)
            else:
                while True:
                    await self._serve_one(stream)
        writer.close()

    async def _serve_one(self, stream: Stream) -> None:
        message = await stream.message()
        self.seen.append(message)
        if self._respond is None:
            await stream.send(answer(f"hello from {self.name}".encode()))
        else:
            await self._respond(message, stream)


class Rig:
    """The router. `ready` apps are started by `app`; `routes` sets the table."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.directory = directory
        self.settings = settings
        self.controller = directory / "api.sock"
        self.spool = Spool(directory / "logs", "router")
        self.service = Service(
            settings.router, settings.system_hosts, str(self.controller), self.spool, asyncio.get_running_loop()
        )
        self.server = Server(self.service)
        self._apps: list[App] = []
        self._streams: list[Stream] = []
        self._revision = 0
        self.keys: list[bytes] = []

    async def app(self, name: str = "one", respond: Respond | None = None, **options: Any) -> App:
        path = options.pop("path", None)
        app = App(name, respond, **options)
        await app.start(path)
        self._apps.append(app)
        return app

    def routes(self, *routes: Route) -> None:
        self._revision += 1
        self.service.table.replace(RouteTable(self._revision, list(routes), self.keys))

    def route(self, *apps: App, host: str = HOST, path: str = "", **options: Any) -> Route:
        endpoints = [app.endpoint() for app in apps]
        return Route(guid=f"{host}{path}", host=host, path=path, endpoints=endpoints, **options)

    async def connect(self) -> Stream:
        stream = Stream(*await asyncio.open_connection("127.0.0.1", self.server.ports[0]))
        self._streams.append(stream)
        return stream

    async def ask(self, *lines: str, body: bytes = b"", host: str = HOST) -> Message:
        """One request on a connection of its own: `ask("GET /", "Accept: x")`."""
        stream = await self.connect()
        first, *headers = lines or ("GET /",)
        if not any(line.lower().startswith("host:") for line in headers):
            headers.insert(0, f"Host: {host}")
        if body:
            headers.append(f"Content-Length: {len(body)}")
        await stream.send(
            "\r\n".join([f"{first} HTTP/1.1", *headers, "Connection: close"]).encode() + b"\r\n\r\n" + body
        )
        answered = await stream.message(bodyless=first.startswith("HEAD"))
        assert await stream.end() == b""
        return answered

    async def raw(self, sent: bytes) -> tuple[Message, bytes]:
        """What comes back for these bytes until the router closes: the first response, and all that follows it."""
        stream = await self.connect()
        await stream.send(sent)
        return await stream.message(), await stream.end()

    def lines(self) -> list[tuple[str, str]]:
        """Source id and text of the access lines so far."""
        self.service.access_log.flush()
        batches = list(self.spool.pending_batches())
        return [(one.source_id, (one.payload or b"").decode("latin-1")) for batch in batches for one in batch.envelopes]

    async def close(self) -> None:
        for stream in self._streams:
            await stream.close()
        await self.server.drain(0.5)
        for app in self._apps:
            await app.stop()
        self.spool.close()


@contextlib.asynccontextmanager
async def rig(directory: Path, **router: Any) -> AsyncIterator[Rig]:
    """A router whose `[router]` settings differ from the defaults in these."""
    settings = Settings(router=msgspec.structs.replace(Settings().router, **router))
    made = Rig(directory, settings)
    async with asyncio.timeout(30):
        await made.server.open([Listener("127.0.0.1", 0)])
        try:
            yield made
        finally:
            await made.close()


def field_of(line: str, name: str) -> str:
    """The value of `name:"..."` or `name:number` in an access line."""
    match = re.search(rf' {name}:"?([^" ]*)', line)
    assert match is not None, f"no {name} in {line}"
    return match[1]


def numbers(values: Sequence[str]) -> dict[str, int]:
    return {value: list(values).count(value) for value in values}
