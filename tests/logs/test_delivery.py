"""The whole way of a line: spool, socket, ring; with a controller that is killed on the way."""

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import msgspec

from cupola import clock, wire
from cupola.config import Logs
from cupola.logs.envelope import Batch, Envelope
from cupola.logs.ring import Ring
from cupola.logs.spool import Spool

CONTROLLER = """
import asyncio, sys
from pathlib import Path
import msgspec
from cupola import wire
from cupola.config import Logs
from cupola.logs.envelope import Batch
from cupola.logs.ring import Ring

ring = Ring(Path(sys.argv[1]) / "ring", Logs(max_lines_per_source=100_000))

async def handle(peer):
    while True:
        kind, body = await peer.receive()
        await peer.send("logs.ack", ring.take(msgspec.convert(body, Batch)))

async def main():
    server = await wire.serve(Path(sys.argv[1]) / "sock", {"cell": "token"}, handle)
    print("ready", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def test_nothing_in_the_spool_needs_a_database() -> None:
    program = "import sys, cupola.logs.spool, cupola.blobs.archives; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_controller_killed_again_and_again_misses_and_doubles_no_line(tmp_path: Path) -> None:
    async def controller() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CONTROLLER, str(tmp_path), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        return process

    async def deliver(spool: Spool) -> None:
        while True:
            try:
                peer = await wire.connect(tmp_path / "sock", "cell", "token")
            except (OSError, EOFError):
                await asyncio.sleep(0.02)
                continue
            sender = asyncio.create_task(spool.run(peer))
            try:
                with contextlib.suppress(EOFError, OSError):
                    while True:
                        _kind, number = await peer.receive()
                        spool.ack(number)
            finally:
                sender.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await sender
                await peer.close()

    async def scenario() -> None:
        spool = Spool(tmp_path / "spool", "cell/1", segment_bytes=50_000)
        task = asyncio.create_task(deliver(spool))
        process = await controller()
        for n in range(12_000):
            spool.put(Envelope(clock.nanos(), f"app-{n % 5}", "0", {}, b"%d" % n))
            if n % 40 == 0:
                await asyncio.sleep(0.001)
            if n % 3000 == 2999:
                process.kill()
                await process.wait()
                process = await controller()
        async with asyncio.timeout(60):
            while spool.pending:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.02)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        process.kill()
        await process.wait()

    asyncio.run(scenario())
    ring = Ring(tmp_path / "ring", Logs(max_lines_per_source=100_000))
    for rest in range(5):
        got = [int(envelope.payload or b"") for envelope in ring.query(f"app-{rest}", limit=100_000)]
        assert got == list(range(rest, 12_000, 5))


def test_a_batch_travels_as_the_message_type_says() -> None:
    batch = Batch(
        "cell/1@x",
        5,
        [Envelope(1, "app", "0", {"a": "b"}, b"\xff"), Envelope(2, "app", "0", {}, gauge={"cpu": (0.5, "%")})],
    )
    assert msgspec.convert(msgspec.msgpack.decode(msgspec.msgpack.encode(batch)), Batch) == batch
