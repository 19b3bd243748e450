"""The ring, on real files, with crashes."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cupola import clock
from cupola.config import Logs
from cupola.logs.envelope import Batch, Envelope
from cupola.logs.ring import Ring, envelope_type
from cupola.logs.segments import Segments, list_sources


def line(timestamp: int, text: str, source: str = "app") -> Envelope:
    return Envelope(timestamp, source, "0", {"source_type": "APP/PROC/WEB"}, text.encode())


def gauge(timestamp: int, source: str = "app") -> Envelope:
    return Envelope(timestamp, source, "0", {}, gauge={"cpu": (0.5, "percentage")})


def texts(envelopes: list[Envelope]) -> list[str]:
    return [(envelope.payload or b"-").decode() for envelope in envelopes]


def everything(ring: Ring, source: str = "app") -> list[str]:
    return texts(ring.query(source, limit=1_000_000))


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path / "ring", Logs())


def reopened(ring: Ring, settings: Logs | None = None) -> Ring:
    ring.close()
    return Ring(ring._directory, settings or Logs())


def test_reads_are_half_open_limited_and_in_either_order(ring: Ring) -> None:
    ring.take(Batch("cell", 1, [line(100 * n, f"line {n}") for n in range(1, 6)]))
    assert everything(ring) == [f"line {n}" for n in range(1, 6)]
    assert texts(ring.query("app", 200, 400)) == ["line 2", "line 3"]
    assert texts(ring.query("app", -6795364578871345152, None, 2)) == ["line 1", "line 2"]
    assert texts(ring.query("app", None, None, 2, descending=True)) == ["line 5", "line 4"]
    assert ring.query("unknown") == []
    assert ring.query("app", 400, 200) == []


def test_timestamps_are_unique_increasing_and_never_in_the_future(ring: Ring) -> None:
    now = clock.nanos()
    late = [line(500, "a"), line(500, "b"), line(400, "late"), line(now + 10**12, "future"), line(now, "c")]
    ring.take(Batch("cell", 1, late))
    times = [envelope.timestamp for envelope in ring.query("app")]
    assert times[:3] == [500, 501, 502]
    assert times == sorted(set(times))
    assert times[3] <= clock.nanos()
    assert times[4] > times[3]
    assert everything(ring) == ["a", "b", "late", "future", "c"]


def test_a_batch_that_comes_again_is_passed_over_also_in_part(ring: Ring) -> None:
    lines = [line(n, f"line {n}") for n in range(1, 11)]
    assert ring.take(Batch("cell", 1, lines[:6])) == 6
    assert ring.take(Batch("cell", 4, lines[3:])) == 10
    assert ring.take(Batch("cell", 1, lines[:6])) == 10
    assert ring.take(Batch("router", 1, [line(20, "other producer")])) == 1
    again = reopened(ring)
    assert again.take(Batch("cell", 1, lines)) == 10
    assert everything(again) == [f"line {n}" for n in range(1, 11)] + ["other producer"]


def test_lines_stored_but_not_noted_are_known_after_a_crash(ring: Ring) -> None:
    lines = [line(n, f"line {n}", f"app-{n % 3}") for n in range(1, 31)]
    ring.take(Batch("cell", 1, lines[:10]))
    progress = (ring._directory / "progress").read_bytes()
    ring.take(Batch("cell", 11, lines[10:20]))
    # As if the process had died after it stored the second batch, before it noted that.
    (ring._directory / "progress").write_bytes(progress)
    again = reopened(reopened(ring))
    assert again.take(Batch("cell", 11, lines[10:15])) == 15
    assert again.take(Batch("cell", 11, lines[10:])) == 30
    for rest in range(3):
        assert everything(again, f"app-{rest}") == [f"line {n}" for n in range(1, 31) if n % 3 == rest]


def test_after_a_restart_lines_are_there_and_time_goes_on(ring: Ring) -> None:
    ring.take(Batch("cell", 1, [line(10**15 + n, f"line {n}", "a/../b ü") for n in range(100)]))
    again = reopened(ring)
    assert again.sources() == {"a/../b ü"}
    again.add([line(5, "after", "a/../b ü")])
    assert again.query("a/../b ü", limit=1, descending=True)[0].timestamp == 10**15 + 100
    assert everything(again, "a/../b ü") == [f"line {n}" for n in range(100)] + ["after"]
    assert {path.parent for path in ring._directory.rglob("*")} == {ring._directory}


def test_long_source_ids_are_kept_apart_and_found_again(ring: Ring) -> None:
    ids = ["x" * 300, "x" * 301]
    for source in ids:
        ring.add([line(1, source, source)])
    again = reopened(ring)
    assert again.sources() == set(ids)
    assert [everything(again, source) for source in ids] == [[source] for source in ids]


def test_kill_9_while_taking_loses_and_doubles_nothing(tmp_path: Path) -> None:
    program = """
import os, signal, sys, threading
from pathlib import Path
from cupola.config import Logs
from cupola.logs.envelope import Batch, Envelope
from cupola.logs.ring import Ring
ring = Ring(Path(sys.argv[1]), Logs(max_lines_per_source=10**6))
start, stop_after = int(sys.argv[2]), float(sys.argv[3])
threading.Timer(stop_after, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
number = start
while True:
    lines = [Envelope(n, f"app-{n % 7}", "0", {}, b"%d" % n) for n in range(number, number + 50)]
    number = ring.take(Batch("cell", number, lines)) + 1
    print(number - 1, flush=True)
"""
    acknowledged = 0
    for attempt in range(4):
        command = [
            sys.executable,
            "-c",
            program,
            str(tmp_path / "ring"),
            str(acknowledged + 1),
            str(0.2 + attempt / 20),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == -9, done.stderr
        lines = [part for part in done.stdout.split("\n")[:-1] if part]
        acknowledged = int(lines[-1]) if lines else acknowledged
    assert acknowledged > 100
    ring = Ring(tmp_path / "ring", Logs(max_lines_per_source=10**6))
    batch = [Envelope(n, f"app-{n % 7}", "0", {}, b"%d" % n) for n in range(1, acknowledged + 200)]
    ring.take(Batch("cell", 1, batch))
    got = [int(text) for rest in range(7) for text in everything(ring, f"app-{rest}")]
    assert len(got) == len(set(got))
    assert set(range(1, acknowledged + 200)) <= set(got)


def test_the_oldest_lines_of_a_source_are_dropped_in_memory_and_on_disk(tmp_path: Path) -> None:
    settings = Logs(max_lines_per_source=1000)
    ring = Ring(tmp_path / "ring", settings)
    ring.add([line(1, "quiet", "quiet")])
    for start in range(1, 10_001, 100):
        ring.take(Batch("cell", start, [line(n, f"line {n}") for n in range(start, start + 100)]))
    assert 1000 <= len(everything(ring)) <= 1125
    assert everything(ring)[-1] == "line 10000"
    meta = ring.meta()["app"]
    assert meta.count + meta.expired == 10_000
    assert (meta.oldest, meta.newest) == (10_001 - meta.count, 10_000)
    again = reopened(ring, settings)
    assert 1000 <= len(everything(again)) <= 1250
    assert everything(again)[-1] == "line 10000"
    assert everything(again, "quiet") == ["quiet"]


def test_a_source_is_bounded_in_bytes(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring", Logs(max_bytes_per_source=100_000))
    for start in range(1, 1001, 10):
        ring.take(Batch("cell", start, [line(n, "x" * 1000) for n in range(start, start + 10)]))
    assert 60 <= len(everything(ring)) <= 100
    assert sum(path.stat().st_size for path in (tmp_path / "ring").glob("app.*.seg")) < 150_000


def test_memory_is_bounded_over_all_sources_and_the_disk_has_the_rest(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring", Logs(memory_mb=1))
    for source in range(20):
        ring.add([line(n, "x" * 1000, f"app-{source}") for n in range(1, 201)])
    assert ring._memory <= 1024 * 1024
    assert sum(source.logs is not None for source in ring._sources.values()) < 20
    for source in range(20):
        ring.add([line(1000, "last", f"app-{source}")])
        assert len(everything(ring, f"app-{source}")) == 201
        assert everything(ring, f"app-{source}")[-1] == "last"
    assert ring._memory <= 1024 * 1024


def test_metrics_do_not_push_out_lines_and_are_asked_by_type(ring: Ring) -> None:
    ring.add([line(1, "first")])
    ring.add([gauge(n) for n in range(2, 5002)])
    ring.add([Envelope(n, "app", "0", {}, timer=("http", 1, n)) for n in range(6000, 7000)])
    ring.add([Envelope(8000, "app", "0", {}, counter=("c", 1, 2))])
    assert everything(ring)[0] == "first"
    assert 500 <= len(everything(ring)) <= 600
    meta = ring.meta()["app"]
    assert (meta.count + meta.expired, meta.oldest, meta.newest) == (6002, 1, 8000)
    assert texts(ring.query("app", types=frozenset({"LOG"}))) == ["first"]
    assert [envelope_type(e) for e in ring.query("app", limit=3, descending=True)] == ["COUNTER", "TIMER", "TIMER"]
    timers = ring.query("app", types=frozenset({"TIMER"}), limit=1)
    assert [e.timer for e in timers] == [("http", 1, timers[0].timestamp)]
    assert ring.query("app", types=frozenset({"GAUGE"}), limit=1, descending=True)[0].timestamp == 5001
    mixed = ring.query("app", types=frozenset({"LOG", "COUNTER"}), limit=2)
    assert [envelope_type(e) for e in mixed] == ["LOG", "COUNTER"]


def test_metrics_count_for_the_bound_on_memory(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring", Logs(memory_mb=1))
    for source in range(30):
        ring.add([gauge(n, f"app-{source}") for n in range(1, 401)])
    assert ring._memory <= 1024 * 1024
    assert ring._memory == sum(source.size() for source in ring._sources.values())
    assert ring.query("app-0") == []
    assert len(ring.query("app-29")) == 100
    meta = ring.meta(["app-29"])["app-29"]
    assert meta.count + meta.expired == 400


def test_a_torn_frame_is_cut_off_before_anything_is_appended(ring: Ring) -> None:
    ring.add([line(1, "whole"), line(2, "torn")])
    (path,) = ring._directory.glob("app.*.seg")
    path.write_bytes(path.read_bytes()[:-1])
    again = reopened(ring)
    again.add([line(3, "next")])
    assert everything(reopened(again)) == ["whole", "next"]


def test_a_full_disk_keeps_lines_in_memory(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    ring.add([line(1, "before")])
    with monkeypatch.context() as patched:
        patched.setattr("cupola.logs.segments.os.write", full)
        assert ring.take(Batch("cell", 1, [line(2, "while full")])) == 1
    ring.add([line(3, "after")])
    assert everything(ring) == ["before", "while full", "after"]
    assert everything(reopened(ring)) == ["before", "after"]


def test_sources_are_forgotten_and_expire(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    ring.add([line(clock.nanos(), "a", "a"), line(clock.nanos(), "b", "b")])
    ring.forget("a")
    assert everything(ring, "a") == []
    assert list_sources(ring._directory) == {"b"}
    assert ring.expire(60) == []
    later = clock.nanos() + 3600 * 10**9
    monkeypatch.setattr("cupola.clock.nanos", lambda: later)
    assert ring.expire(60) == ["b"]
    assert reopened(ring).sources() == set()


def test_followers_get_every_line_from_then_on(ring: Ring) -> None:
    async def scenario() -> list[str]:
        ring.add([line(1, "before")])
        got = []
        with ring.subscribe("app") as subscription:
            writers = asyncio.gather(*(asyncio.to_thread(ring.add, [line(n, f"line {n}")]) for n in range(2, 50)))
            async for envelope in subscription:
                got.append((envelope.payload or b"").decode())
                if len(got) == 48:
                    subscription.close()
            await writers
            assert subscription.missed == 0
        ring.add([line(100, "after")])
        return got

    assert sorted(asyncio.run(scenario())) == sorted(f"line {n}" for n in range(2, 50))
    assert ring._subscriptions == {}


def test_a_slow_follower_misses_lines_and_is_told(ring: Ring) -> None:
    async def scenario() -> tuple[int, int]:
        subscription = ring.subscribe("app", max_waiting=10)
        ring.add([line(n, "x") for n in range(1, 31)])
        subscription.close()
        return len([envelope async for envelope in subscription]), subscription.missed

    assert asyncio.run(scenario()) == (10, 20)


def test_many_threads_write_and_read(ring: Ring) -> None:
    def write(name: str) -> None:
        for start in range(1, 2001, 50):
            ring.take(Batch(name, start, [line(clock.nanos(), f"{name} {n}") for n in range(start, start + 50)]))

    threads = [threading.Thread(target=write, args=(f"cell-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    seen = 0
    while any(thread.is_alive() for thread in threads):
        now = len(ring.query("app", limit=10**6))
        assert now >= seen
        seen = now
    got = ring.query("app", limit=10**6)
    assert len(got) == 8000
    assert len({envelope.timestamp for envelope in got}) == 8000
    for name in ("cell-0", "cell-3"):
        mine = [text for text in texts(got) if text.startswith(name)]
        assert mine == [f"{name} {n}" for n in range(1, 2001)]


def test_progress_is_compacted(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cupola.logs.ring._COMPACT", 1000)
    for n in range(1, 500):
        ring.take(Batch("cell", n, [line(n, "x")]))
    assert (ring._directory / "progress").stat().st_size < 1100
    assert reopened(ring).take(Batch("cell", 1, [line(1, "again")])) == 499


def test_segments_of_similar_names_are_kept_apart(tmp_path: Path) -> None:
    one = Segments(tmp_path, "a", max_lines=10, max_bytes=1000)
    two = Segments(tmp_path, "a.00000001", max_lines=10, max_bytes=1000)
    one.append([b""])
    two.append([b""])
    one.delete()
    assert Segments(tmp_path, "a", max_lines=10, max_bytes=1000).modified() == 0
    assert Segments(tmp_path, "a.00000001", max_lines=10, max_bytes=1000).modified() > 0
