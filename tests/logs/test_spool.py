"""The spool, on real files and with a real kill -9."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cupola.logs.envelope import Batch, Envelope
from cupola.logs.spool import Spool, SpoolError
from cupola.wire import Peer, connect, serve


def line(text: str, source: str = "app-1") -> Envelope:
    return Envelope(1, source, "0", {"source_type": "APP/PROC/WEB"}, text.encode())


def texts(spool: Spool) -> list[str]:
    return [(e.payload or b"").decode() for batch in spool.pending_batches() for e in batch.envelopes]


def test_numbers_go_on_after_a_restart_and_nothing_is_lost(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "cell/1")
    assert [spool.put(line(f"line {n}")) for n in range(3)] == [1, 2, 3]
    name = spool.producer
    spool.close()
    again = Spool(tmp_path / "spool", "cell/1")
    assert again.producer == name
    assert again.put(line("line 3")) == 4
    assert texts(again) == ["line 0", "line 1", "line 2", "line 3"]
    assert again.pending == 4


def test_a_new_directory_is_a_new_producer(tmp_path: Path) -> None:
    assert Spool(tmp_path / "a", "cell/1").producer != Spool(tmp_path / "b", "cell/1").producer


def test_what_put_returned_for_survives_kill_9(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from cupola.logs.spool import Spool; from cupola.logs.envelope import Envelope\n"
        "spool = Spool(Path(sys.argv[1]), 'cell/1')\n"
        "for n in range(5000): spool.put(Envelope(n, 'app', '0', {}, b'line %d' % n))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "spool")], check=False)
    assert done.returncode == -9
    assert texts(Spool(tmp_path / "spool", "cell/1")) == [f"line {n}" for n in range(5000)]


def test_a_torn_frame_is_cut_off_and_its_number_used_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "cell/1")
    spool.put(line("whole"))
    spool.put(line("torn"))
    spool.close()
    (segment,) = tmp_path.glob("*.seg")
    segment.write_bytes(segment.read_bytes()[:-3])
    again = Spool(tmp_path, "cell/1")
    assert again.put(line("next")) == 2
    assert texts(again) == ["whole", "next"]


def test_after_a_restart_of_the_machine_numbers_leave_a_gap(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "cell/1")
    spool.put(line("before"))
    spool.close()
    identity = (tmp_path / "id").read_text().split()[0]
    (tmp_path / "id").write_text(f"{identity} another-boot\n")
    again = Spool(tmp_path, "cell/1")
    assert again.put(line("after")) > 1000
    assert [(b.first, len(b.envelopes)) for b in again.pending_batches()] == [(1, 1), (again.next_number - 1, 1)]
    assert again.pending == 2
    again.ack(again.next_number - 1)
    assert again.pending == 0


def test_acknowledged_segments_are_deleted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "cell/1", segment_bytes=1000)
    for n in range(100):
        spool.put(line(f"line {n}"))
    before = len(list(tmp_path.glob("*.seg")))
    assert before > 3
    spool.ack(50)
    assert len(list(tmp_path.glob("*.seg"))) < before
    spool.ack(10_000)
    assert texts(spool) == []
    assert spool.put(line("on")) == 101
    assert texts(spool) == ["on"]
    assert len(list(tmp_path.glob("*.seg"))) == 1


def test_a_full_spool_drops_the_oldest_and_says_so(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "cell/1", max_bytes=20_000, segment_bytes=2000)
    for n in range(1000):
        spool.put(line(f"line {n}"))
    assert sum(path.stat().st_size for path in tmp_path.glob("*.seg")) <= 22_000
    kept = texts(spool)
    assert kept[-1] == "line 999" or "dropped" in kept[-1]
    notices = [e for b in spool.pending_batches() for e in b.envelopes if e.tags["source_type"] == "LGR"]
    assert notices
    assert notices[0].source_id == "app-1"
    assert b"Log message output is too high" in (notices[0].payload or b"")
    assert spool.put(line("next")) == spool.next_number - 1


def test_lines_of_before_a_restart_are_counted_too_when_they_are_dropped(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "cell/1", max_bytes=20_000, segment_bytes=2000)
    for n in range(50):
        spool.put(line(f"line {n}", f"app-{n % 2}"))
    spool.close()
    spool = Spool(tmp_path, "cell/1", max_bytes=20_000, segment_bytes=2000)
    for n in range(320):
        spool.put(line(f"line {n}", "app-2"))
    envelopes = [e for b in spool.pending_batches() for e in b.envelopes]
    dropped: dict[str, int] = {}
    for envelope in envelopes:
        if envelope.tags["source_type"] == "LGR":
            count = int((envelope.payload or b"").split(b". ")[1].split()[0])
            dropped[envelope.source_id] = dropped.get(envelope.source_id, 0) + count
    kept = sum(envelope.tags["source_type"] != "LGR" for envelope in envelopes)
    assert dropped["app-0"] >= 5
    assert kept + sum(dropped.values()) == 370


def test_a_full_disk_drops_lines_then_tells_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, "cell/1")
    spool.put(line("first"))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("cupola.logs.spool.os.write", full)
        assert [spool.put(line("lost")) for _ in range(3)] == [0, 0, 0]
    spool.put(line("second"))
    assert texts(spool) == [
        "first",
        "second",
        "Log message output is too high. 3 messages dropped, because the log spool is full.",
    ]


def test_two_processes_cannot_use_one_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "cell/1")
    program = "import sys; from pathlib import Path; from cupola.logs.spool import Spool; Spool(Path(sys.argv[1]), 'c')"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"the log spool {tmp_path} is in use" in done.stderr
    spool.close()
    with pytest.raises(SpoolError, match="is closed"):
        spool.put(line("late"))


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match=r"file/spool as log spool: Not a directory"):
        Spool(tmp_path / "file" / "spool", "cell/1")


class Controller:
    """Takes batches over a real socket; drops the connection on demand."""

    def __init__(self) -> None:
        self.taken: dict[int, Envelope] = {}
        self.drop_after = 0
        self.acknowledge = True

    async def handle(self, peer: Peer) -> None:
        while True:
            kind, body = await peer.receive()
            assert kind == "logs"
            batch = msgspec.convert(body, Batch)
            for number, envelope in enumerate(batch.envelopes, batch.first):
                self.taken.setdefault(number, envelope)
            if self.drop_after and len(self.taken) >= self.drop_after:
                self.drop_after = 0
                return
            if self.acknowledge:
                await peer.send("logs.ack", batch.first + len(batch.envelopes) - 1)


async def client(spool: Spool, path: Path) -> None:
    while True:
        peer = await connect(path, "cell", "secret")
        sender = asyncio.create_task(spool.run(peer))
        try:
            with contextlib.suppress(EOFError):
                while True:
                    _kind, number = await peer.receive()
                    spool.ack(number)
        finally:
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await sender
            await peer.close()


async def stop(task: asyncio.Task[None], server: asyncio.AbstractServer) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.05)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def test_every_line_arrives_once_and_in_order_although_the_connection_breaks(tmp_path: Path) -> None:
    async def scenario() -> None:
        controller = Controller()
        controller.drop_after = 2500
        server = await serve(tmp_path / "s", {"cell": "secret"}, controller.handle)
        spool = Spool(tmp_path / "spool", "cell/1", segment_bytes=20_000, memory_bytes=10_000)
        for n in range(2000):
            spool.put(line(f"line {n}"))
        task = asyncio.create_task(client(spool, tmp_path / "s"))
        for n in range(2000, 6000):
            spool.put(line(f"line {n}"))
            if n % 100 == 0:
                await asyncio.sleep(0)
        await until(lambda: spool.pending == 0)
        await asyncio.to_thread(spool.put, line("from a thread"))
        await until(lambda: spool.pending == 0)
        await stop(task, server)
        assert [controller.taken[n].payload for n in range(1, 6001)] == [f"line {n}".encode() for n in range(6000)]
        assert controller.taken[6001].payload == b"from a thread"
        assert len(list((tmp_path / "spool").glob("*.seg"))) == 1

    asyncio.run(scenario())


def test_a_silent_controller_is_not_flooded(tmp_path: Path) -> None:
    async def scenario() -> None:
        controller = Controller()
        controller.acknowledge = False
        server = await serve(tmp_path / "s", {"cell": "secret"}, controller.handle)
        spool = Spool(tmp_path / "spool", "cell/1")
        for n in range(40_000):
            spool.put(line(f"line {n}"))
        task = asyncio.create_task(client(spool, tmp_path / "s"))
        await until(lambda: len(controller.taken) >= 20_000)
        await asyncio.sleep(0.2)
        assert len(controller.taken) < 40_000
        spool.ack(len(controller.taken))
        await until(lambda: len(controller.taken) >= 30_000)
        await stop(task, server)

    asyncio.run(scenario())
