"""Every line of an instance arrives, whatever happens to the cell that reads it; in every mode of isolation."""

import asyncio
import functools
import os
import random
import select
import signal
from pathlib import Path
from typing import Any

import pytest

from cupola.blobs.store import LocalStore
from cupola.config import Settings
from cupola.endpoints import dial
from cupola.runtime.engine import Program
from cupola.runtime.local import droplets, probe, record
from cupola.runtime.local.engine import LocalEngine
from cupola.runtime.local.output import MAX_LINE, Output, RateLimit
from cupola.runtime.messages import DesiredTask, InstanceCrashed, StagingInput, TaskFinished
from cupola.staging.cell import CellStager
from tests.runtime.conftest import Recorder, find_modes, until
from tests.runtime.test_cell import Controller, end, platform, start_cell, wanted
from tests.runtime.test_local_engine import container
from tests.staging.staged import archive, buildpack


@pytest.fixture(params=find_modes())
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Reader:
    """A FIFO with a writer, and the cell's end of it; `again` is what the next cell does when this one was killed."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "out.0")
        os.mkfifo(self.path)
        self.writer = os.open(self.path, os.O_RDWR)
        self.lines: list[bytes] = []
        self.begin()

    def begin(self, emit: Any = None) -> None:
        self.output = Output(self.path, RateLimit(-1), emit or self.lines.extend)

    def kill(self) -> None:
        """Its memory is gone, its files and the pipe are as they were."""
        self.output._loop.remove_reader(self.output._descriptor)
        os.close(self.output._descriptor)

    async def write(self, data: bytes) -> None:
        os.write(self.writer, data)
        await asyncio.sleep(0.02)


async def test_a_line_that_was_begun_outlives_its_reader(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    await reader.write(b"one\ntwo and ")
    assert reader.lines == [b"one"]
    await reader.write("a hälf ".encode())
    reader.kill()
    await reader.write(b"more\nthree")
    reader.begin()
    await reader.write(b"!\r\n")
    assert reader.lines == [b"one", "two and a hälf more".encode(), b"three!"]
    await reader.write(b"last")
    reader.kill()
    os.close(reader.writer)
    reader.begin()
    reader.output.finish()
    reader.output.finish()
    assert reader.lines[3:] == [b"last"]
    reader.begin()
    reader.output.finish()
    assert reader.lines[4:] == []


async def test_what_was_not_kept_is_told_again(tmp_path: Path) -> None:
    """A cell that is killed while it handles lines: they are still in the pipe."""
    reader = Reader(tmp_path)
    reader.kill()
    os.write(reader.writer, b"begun")
    reader.begin()
    await asyncio.sleep(0.02)
    reader.output._loop.remove_reader(reader.output._descriptor)
    os.write(reader.writer, b" and ended\nnext\nand")
    assert await asyncio.to_thread(_die_reading, reader.output) == -signal.SIGKILL
    reader.kill()
    reader.begin()
    await asyncio.sleep(0.02)
    assert reader.lines == [b"begun and ended", b"next"]
    reader.output.finish()
    assert reader.lines[2:] == [b"and"]


def _die_reading(output: Output) -> int:
    """In a child: what a cell does, and its death where the lines go. Returns how the child ended."""
    pid = os.fork()
    if pid == 0:
        output._emit = lambda _lines: os.kill(os.getpid(), signal.SIGKILL)
        output._read()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def test_long_lines_are_cut_between_characters(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    text = "x" + "ä" * 100_000
    sender = asyncio.create_task(asyncio.to_thread(_write_all, reader.writer, text.encode() + b"\nnext\n"))
    await until(lambda: reader.lines[-1:] == [b"next"])
    await sender
    *pieces, _ = reader.lines
    assert b"".join(pieces).decode() == text
    assert [len(piece.decode().encode()) <= MAX_LINE for piece in pieces] == [True] * 4
    reader.output.finish()


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


async def test_a_full_disk_only_weakens_it(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    (tmp_path / "out.0.rest").mkdir()  # no file can be made there
    await reader.write(b"one\ntw")
    await reader.write(b"o\n")
    assert reader.lines == [b"one", b"two"]
    reader.output.finish()


SAYING = (
    "printf 'begun,'; sleep 1; echo ' ended'; for i in $(seq 500); do echo out $i; done;"
    "for i in $(seq 500); do echo err $i >&2; done; printf 'unfinished'; exit 9"
)


@pytest.mark.parametrize("kind", ["process", "task"])
async def test_what_is_written_while_no_cell_reads_waits_for_the_next(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder, kind: str
) -> None:
    said = Program(name="", command=SAYING, source="APP")
    helper = Program(name="helper", command="sleep 0.7; echo helped; sleep 100", source="HELPER")
    one = container(droplet, "", kind=kind, programs=[said, helper], ports=[8080] if kind == "process" else [])
    first = LocalEngine(settings, choice, launcher=launcher)
    before = Recorder()
    await first.open(before)
    await first.create(one, lambda _: None)
    directory = settings.data_dir / "cell/instances" / one.guid
    await until(lambda: (rest := directory / "out.0.rest").exists() and rest.read_bytes() == b"begun,")
    await first.close()
    assert ("APP", "OUT", "begun,") not in before.lines
    await until(lambda: record.read_statuses(directory)[0])
    await asyncio.sleep(0.3)
    assert record.is_alive(directory), "its init waits"
    second = LocalEngine(settings, choice, launcher=launcher)
    await second.open(recorder)
    await until(lambda: one.guid in recorder.exits)
    try:
        assert recorder.exits[one.guid].statuses[0] == ("APP", 9)
        told = before.lines + recorder.lines
        out = [line for source, stream, line in told if (source, stream) == ("APP", "OUT")]
        err = [line for source, stream, line in told if (source, stream) == ("APP", "ERR")]
        assert out == ["begun, ended", *(f"out {i}" for i in range(1, 501)), "unfinished"]
        assert err == [f"err {i}" for i in range(1, 501)]
        assert [line for source, _, line in told if source == "HELPER"] == ["helped"]
        assert not record.is_alive(directory)
    finally:
        await second.destroy(one.guid)
        await second.close()


async def test_who_has_ended_and_waits_is_not_reached_any_more(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    if not choice.own_network:
        pytest.skip("there is an ingress socket only where instances have a network of their own")
    one = container(droplet, "sleep 0.5; echo end")
    engine = LocalEngine(settings, choice, launcher=launcher)
    await engine.open(recorder)
    address = await engine.create(one, lambda _: None)
    await engine.close()
    directory = settings.data_dir / "cell/instances" / one.guid
    await until(lambda: record.read_statuses(directory)[0])
    await asyncio.sleep(0.1)
    with pytest.raises(ConnectionRefusedError):
        await dial(address.endpoints["8080"])
    again = LocalEngine(settings, choice, launcher=launcher)
    await again.open(recorder)
    await until(lambda: one.guid in recorder.exits)
    await again.destroy(one.guid)
    await again.close()
    assert recorder.text() == "end"


async def test_nobody_waits_where_the_record_is_gone(
    settings: Settings, choice: probe.Choice, launcher: Path, droplet: str, recorder: Recorder
) -> None:
    one = container(droplet, "sleep 0.5; echo end")
    engine = LocalEngine(settings, choice, launcher=launcher)
    await engine.open(recorder)
    await engine.create(one, lambda _: None)
    directory = settings.data_dir / "cell/instances" / one.guid
    pid, descriptor = record.open_process(directory)
    assert pid > 0
    await engine.close()
    await until(lambda: record.read_statuses(directory)[0])
    droplets.remove_tree(directory)
    try:
        await until(lambda: _has_ended(descriptor))
    finally:
        os.close(descriptor)
        if choice.groups is not None:
            group = choice.groups.group(one.guid)
            assert group is not None
            group.remove()


def _has_ended(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


async def test_a_build_that_ends_without_a_cell_shows_its_lines(
    settings: Settings, choice: probe.Choice, recorder: Recorder
) -> None:
    blobs = LocalStore(settings.data_dir / "blobs")
    script = "echo first; sleep 1; for i in $(seq 200); do echo line $i; echo problem $i >&2; done"
    pack = buildpack(blobs, "late", {"compile": script, "release": "echo 'default_process_types: {web: ./x}'"})
    package = blobs.put_stream([archive({"a": "b"})]).digest
    task = DesiredTask(
        guid="build-1", kind="staging", app_guid="app", memory_mb=512, disk_mb=512, env={"VCAP_SERVICES": "{}"},
        staging=StagingInput(package=package, buildpacks=[pack], skip_detect=True),
    )  # fmt: skip
    build = container(
        "", "", guid=task.guid, kind="staging", owner=task.guid, memory_mb=512, disk_mb=512, ports=[], task=task,
        programs=[Program(name="", command="", source="STG")],
    )  # fmt: skip
    first = LocalEngine(settings, choice, stager=CellStager(settings, blobs))
    before = Recorder()
    await first.open(before)
    await first.create(build, lambda _: None)
    await until(lambda: "first" in before.text())
    await first.close()
    await until(lambda: record.read_statuses(settings.data_dir / "cell/instances" / build.guid)[0])
    second = LocalEngine(settings, choice, stager=CellStager(settings, blobs))
    await second.open(recorder)
    try:
        await until(lambda: build.guid in recorder.exits)
        assert recorder.exits[build.guid].staging is not None, recorder.text()
        for stream, word in (("OUT", "line"), ("ERR", "problem")):
            seen = [line for _, name, line in recorder.lines if name == stream and line.startswith(f"{word} ")]
            assert seen == [f"{word} {i}" for i in range(1, 201)]
    finally:
        await second.destroy(build.guid)
        await second.close()


def job(droplet: str, command: str) -> DesiredTask:
    return DesiredTask(
        guid="job", kind="task", app_guid="app-1", memory_mb=64, disk_mb=64, droplet=droplet, command=command, env={},
        log_source="APP/TASK/job",
    )  # fmt: skip


async def test_an_app_and_a_task_that_end_while_the_cell_is_dead_lose_nothing(
    settings: Settings, mode: str, droplet: str
) -> None:
    command = "sleep 1; for i in $(seq 1000); do echo line $i; done; exit 3"
    async with platform(settings, mode) as controller:
        cell = start_cell(settings)
        await until(lambda: controller.peer is not None)
        await controller.want([wanted(droplet, command)], [job(droplet, command)])
        instances = settings.data_dir / "cell/instances"
        await until(lambda: len(list(instances.glob("*/pid"))) == 2)
        await end(cell, signal.SIGKILL)
        await until(lambda: all(record.read_statuses(one)[0] for one in instances.iterdir()))
        # Of the app only what the first instance says is of interest.
        controller.desired.processes.clear()
        cell = start_cell(settings)
        try:
            await until(lambda: controller.bodies(TaskFinished) and list(instances.iterdir()) == [])
            await until(lambda: len([line for line in controller.lines if line[1].startswith("line ")]) >= 2000)
            for source in ("APP/TASK/job", "APP/PROC/WEB"):
                seen = [text for name, text in controller.lines if name == source and text.startswith("line ")]
                assert seen == [f"line {i}" for i in range(1, 1001)]
            (finished,) = controller.bodies(TaskFinished)
            assert finished.exit_status == 3
            assert len(controller.bodies(InstanceCrashed)) <= 1
        finally:
            await end(cell, signal.SIGTERM)


BLOCKS = """exec python3 -c "
import sys, time
for number in range(30000):
    # In blocks, as programs write to a pipe: most end within a line.
    sys.stdout.write('line %d of thirty thousand\\n' % number)
    if number % 100 == 0:
        time.sleep(0.01)
"
"""


def _is_connected(controller: Controller, before: int) -> bool:
    return controller.connections > before


async def test_a_cell_that_is_killed_again_and_again_loses_no_line(settings: Settings, mode: str, droplet: str) -> None:
    async with platform(settings, mode) as controller:
        cell = start_cell(settings)
        await until(lambda: controller.peer is not None)
        await controller.want([], [job(droplet, BLOCKS)])
        await until(lambda: any(text.startswith("line ") for _, text in controller.lines))
        for _ in range(4):
            await asyncio.sleep(random.uniform(0.1, 0.3))
            await end(cell, signal.SIGKILL)
            connections = controller.connections
            cell = start_cell(settings)
            await until(functools.partial(_is_connected, controller, connections))
        try:
            await until(lambda: controller.bodies(TaskFinished), 60)
            await until(lambda: ("APP/TASK/job", "line 29999 of thirty thousand") in controller.lines)
        finally:
            await end(cell, signal.SIGTERM)
        said = [text for source, text in controller.lines if source == "APP/TASK/job" and text.startswith("line ")]
        # Dying between keeping lines and taking them from the pipe tells them twice: rare, and better than never.
        assert list(dict.fromkeys(said)) == [f"line {number} of thirty thousand" for number in range(30000)]
        assert len(said) - 30000 < 5000
