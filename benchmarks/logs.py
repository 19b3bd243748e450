"""Log lines per second through the spool and the ring, beside plain appends to a file in the same run.

    python -m benchmarks.logs [lines]

Times are CPU seconds of this process (all threads), the best of three rounds; the ratio is to the plain append of the
row's group. The lines are 120 bytes with the ten tags of a real app line.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import Route

from cupola import wire
from cupola.config import Logs
from cupola.logcache.routes import routes
from cupola.logs.envelope import Batch, Envelope
from cupola.logs.ring import Ring
from cupola.logs.spool import Spool

TEXT = b"2026-11-24T10:00:00Z INFO request handled path=/api/items status=200 duration=0.012345 user=someone id=0123456789abc"
GUID = "0f2b8f0e-6a5c-4c39-9d2e-0d7d4f5b8a11"
TAGS = {
    "app_id": GUID,
    "app_name": "dora",
    "space_id": GUID,
    "space_name": "dev",
    "organization_id": GUID,
    "organization_name": "default",
    "process_id": GUID,
    "process_type": "web",
    "process_instance_id": GUID,
    "source_type": "APP/PROC/WEB",
}


def envelope(number: int) -> Envelope:
    return Envelope(number, GUID, "0", TAGS, TEXT)


def best(run: Callable[[Path], None], rounds: int = 3) -> float:
    """CPU seconds of the fastest round, each in a new directory."""
    results = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            start = time.process_time()
            run(Path(name))
            results.append(time.process_time() - start)
    return min(results)


def plain(lines: list[Envelope]) -> Callable[[Path], None]:
    def run(directory: Path) -> None:
        descriptor = os.open(directory / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for _ in lines:
            os.write(descriptor, TEXT + b"\n")
        os.close(descriptor)

    return run


def plain_blocks(lines: list[Envelope]) -> Callable[[Path], None]:
    def run(directory: Path) -> None:
        with (directory / "log").open("ab") as file:
            for _ in lines:
                file.write(TEXT + b"\n")

    return run


def encoded(lines: list[Envelope]) -> Callable[[Path], None]:
    def run(directory: Path) -> None:
        encoder = msgspec.msgpack.Encoder()
        descriptor = os.open(directory / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for line in lines:
            os.write(descriptor, encoder.encode(line))
        os.close(descriptor)

    return run


def spooled(lines: list[Envelope]) -> Callable[[Path], None]:
    def run(directory: Path) -> None:
        spool = Spool(directory / "spool", "cell", max_bytes=2**30)
        for line in lines:
            spool.put(line)
        spool.close()

    return run


def taken(lines: list[Envelope], size: int) -> Callable[[Path], None]:
    def run(directory: Path) -> None:
        ring = Ring(directory / "ring", Logs())
        for first in range(0, len(lines), size):
            ring.take(Batch("cell", first + 1, lines[first : first + size]))
        ring.close()

    return run


def whole_way(lines: list[Envelope]) -> Callable[[Path], None]:
    """Spool, socket, ring, acknowledgement: both processes' work in this one."""

    async def travel(directory: Path) -> None:
        ring = Ring(directory / "ring", Logs())

        async def controller(peer: wire.Peer) -> None:
            while True:
                _kind, body = await peer.receive()
                await peer.send("logs.ack", ring.take(msgspec.convert(body, Batch)))

        server = await wire.serve(directory / "s", {"cell": "token"}, controller)
        spool = Spool(directory / "spool", "cell", max_bytes=2**30)
        peer = await wire.connect(directory / "s", "cell", "token")
        sender = asyncio.create_task(spool.run(peer))
        for start in range(0, len(lines), 200):
            for line in lines[start : start + 200]:
                spool.put(line)
            await asyncio.sleep(0)
        while spool.pending:
            _kind, number = await peer.receive()
            spool.ack(number)
        sender.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sender
        await peer.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.1)
        spool.close()
        ring.close()

    return lambda directory: asyncio.run(travel(directory))


def reads(lines: list[Envelope]) -> tuple[float, float]:
    """Milliseconds of CPU of a read of 1000 lines: the ring alone, and as HTTP's JSON."""

    async def everybody(_headers: Headers, _source: str) -> bool:
        return True

    async def ask(application: Starlette, count: int) -> None:
        (route,) = [one for one in application.routes if isinstance(one, Route) and "read" in one.path]
        for _ in range(count):
            scope = {
                "type": "http",
                "method": "GET",
                "path_params": {"source_id": GUID},
                "query_string": b"descending=true&limit=1000&envelope_types=LOG",
                "headers": [(b"authorization", b"bearer x")],
            }
            response = await route.endpoint(Request(scope))
            assert response.status_code == 200

    with tempfile.TemporaryDirectory() as name:
        ring = Ring(Path(name), Logs())
        ring.take(Batch("cell", 1, lines[:10_000]))
        start = time.process_time()
        for _ in range(50):
            assert len(ring.query(GUID, limit=1000, descending=True)) == 1000
        alone = time.process_time() - start
        start = time.process_time()
        asyncio.run(ask(Starlette(routes=routes(ring, everybody, "3.0.0")), 50))
        return alone * 20, (time.process_time() - start) * 20


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    lines = [envelope(number) for number in range(1, count + 1)]
    rows = {
        "plain append, one write a line": plain(lines),
        "plain append, buffered": plain_blocks(lines),
        "envelope encoded, one write a line": encoded(lines),
        "spool.put": spooled(lines),
        "ring.take, batches of 1": taken(lines, 1),
        "ring.take, batches of 1000": taken(lines, 1000),
        "spool, socket, ring, acknowledgement": whole_way(lines),
    }
    base = 0.0
    print(f"{'':40} {'lines/s':>12} {'us/line':>9} {'ratio':>7}")
    for name, run in rows.items():
        seconds = best(run)
        base = base or seconds
        print(f"{name:40} {count / seconds:12,.0f} {seconds / count * 1e6:9.2f} {seconds / base:7.2f}")
    alone, http = reads(lines)
    print(f"\nread of the newest 1000 lines: {alone:.2f} ms in the ring, {http:.2f} ms with its JSON")


if __name__ == "__main__":
    main()
