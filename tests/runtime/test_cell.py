"""The cell process from outside: a controller of the test's own speaks to it over the socket."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from cupola import wire
from cupola.config import Settings, write_resolved
from cupola.endpoints import dial
from cupola.runtime.messages import (
    Actual,
    Desired,
    DesiredDelta,
    DesiredProcess,
    DesiredTask,
    Event,
    HealthCheck,
    Instance,
    InstanceChanged,
    InstanceCrashed,
    InstanceGone,
    TaskFinished,
)
from tests.runtime.conftest import find_modes, until


class Controller:
    """What the controller would know."""

    def __init__(self) -> None:
        self.peer: wire.Peer | None = None
        self.actual: Actual | None = None
        self.events: dict[int, Event] = {}
        self.lines: list[tuple[str, str]] = []
        self._taken = 0
        self.metrics: list[Any] = []
        self.desired = Desired(1, [], [])
        self.connections = 0

    async def handle(self, peer: wire.Peer) -> None:
        self.peer = peer
        self.connections += 1
        await peer.send("desired.full", self.desired)
        while True:
            kind, body = await peer.receive()
            if kind == "actual.full":
                self.actual = msgspec.convert(body, Actual)
            elif kind == "event":
                event = msgspec.convert(body, Event)
                self.events[event.seq] = event
                await peer.send("event.ack", event.seq)
            elif kind == "logs":
                # What was under way when a cell died comes twice, and is known by its number.
                fresh = body["envelopes"][max(self._taken + 1 - body["first"], 0) :]
                self.lines += [(e[3]["source_type"], bytes(e[4]).decode()) for e in fresh]
                self._taken = max(self._taken, body["first"] + len(body["envelopes"]) - 1)
                await peer.send("logs.ack", self._taken)
            elif kind == "metrics":
                self.metrics += body
            elif kind == "desired.request":
                await peer.send("desired.full", self.desired)

    async def want(self, processes: list[DesiredProcess], tasks: list[DesiredTask] | None = None) -> None:
        self.desired = Desired(self.desired.revision + 1, processes, tasks or [])
        assert self.peer is not None
        await self.peer.send("desired.full", self.desired)

    def bodies(self, kind: type) -> list[Any]:
        return [event.body for _, event in sorted(self.events.items()) if isinstance(event.body, kind)]

    def latest(self, index: int = 0) -> Instance | None:
        found = [body.instance for body in self.bodies(InstanceChanged) if body.instance.index == index]
        return found[-1] if found else None

    def told(self) -> Actual:
        assert self.actual is not None
        return self.actual

    def instance_guids(self) -> list[str]:
        return [instance.instance_guid for instance in self.actual.instances] if self.actual else []

    def is_running(self, index: int = 0) -> bool:
        latest = self.latest(index)
        return latest is not None and latest.state == "RUNNING" and latest.routable

    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)


def wanted(droplet: str, command: str = "exec python3 server.py", **more: Any) -> DesiredProcess:
    fields: dict[str, Any] = {
        "process_guid": "process-1", "version": "v1", "instances": 1, "memory_mb": 128, "disk_mb": 64, "droplet": droplet,
        "command": command, "env": {"VCAP_APPLICATION": "{}"}, "ports": [8080], "app_guid": "app-1",
    }  # fmt: skip
    return DesiredProcess(**fields | more)


def start_cell(settings: Settings) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "CUPOLA_SETTINGS": str(settings.run_dir / "settings.json")}
    return subprocess.Popen([sys.executable, "-m", "cupola.processes.cell"], env=environment, start_new_session=True)


@contextlib.asynccontextmanager
async def platform(settings: Settings, mode: str) -> AsyncIterator[Controller]:
    settings.runtime.isolation = mode  # type: ignore[assignment]  # one of the literals
    write_resolved(settings, settings.run_dir / "settings.json")
    (settings.run_dir / "cell.token").write_text("token")
    controller = Controller()
    server = await wire.serve(settings.run_dir / "control.sock", {"cell": "token"}, controller.handle)
    try:
        yield controller
    finally:
        (settings.run_dir / "stop-apps").touch()
        cell = start_cell(settings)
        await until(lambda: (settings.run_dir / "cell.ready").exists() or cell.poll() is not None)
        cell.send_signal(signal.SIGTERM)
        await asyncio.to_thread(cell.wait, 60)
        server.close()
        if controller.peer is not None:
            await controller.peer.close()
        assert list((settings.data_dir / "cell/instances").iterdir()) == []


async def end(cell: subprocess.Popen[bytes], number: signal.Signals) -> None:
    cell.send_signal(number)
    await asyncio.to_thread(cell.wait, 60)


@pytest.fixture(params=find_modes())
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_an_app_is_started_scaled_terminated_and_stopped(settings: Settings, mode: str, droplet: str) -> None:
    async with platform(settings, mode) as controller:
        cell = start_cell(settings)
        try:
            await until(lambda: controller.peer is not None)
            await controller.want([wanted(droplet)])
            await until(controller.is_running)
            first = controller.latest()
            assert first is not None
            with await dial(first.endpoint) as connection:
                connection.setblocking(True)
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert connection.makefile("rb").read().endswith(b"0")
            two = wanted(droplet, instances=2)
            assert controller.peer is not None
            await controller.peer.send(
                "desired.delta", DesiredDelta(controller.desired.revision, 77, set_processes=[two])
            )
            controller.desired = Desired(77, [two], [])
            await until(lambda: controller.is_running(1))
            await controller.peer.send("desired.delta", DesiredDelta(77, 78, terminate=[first.instance_guid]))
            await until(lambda: controller.is_running() and controller.latest().instance_guid != first.instance_guid)  # type: ignore[union-attr]  # is_running says it is there
            await until(lambda: first.instance_guid in [gone.instance_guid for gone in controller.bodies(InstanceGone)])
            await until(lambda: controller.metrics, 30)
            await controller.want([])
            await until(lambda: len(controller.bodies(InstanceGone)) == 3)
            assert controller.bodies(InstanceCrashed) == []
            assert "Container became healthy" in controller.text()
            assert "successfully destroyed container" in controller.text()
        finally:
            await end(cell, signal.SIGTERM)


async def test_crashes_are_counted_and_the_third_waits(settings: Settings, mode: str, droplet: str) -> None:
    async with platform(settings, mode) as controller:
        cell = start_cell(settings)
        try:
            await until(lambda: controller.peer is not None)
            await controller.want([wanted(droplet, "exit 4", health_check=HealthCheck(type="process"))])
            await until(lambda: (latest := controller.latest()) is not None and latest.state == "CRASHED")
            crashes = controller.bodies(InstanceCrashed)
            assert [crash.crash_count for crash in crashes] == [1, 2, 3]
            assert {crash.exit_description for crash in crashes} == {"APP/PROC/WEB: Exited with status 4"}
            latest = controller.latest()
            assert latest is not None
            assert (latest.instance_guid, latest.ports, latest.crash_count) == ("", [], 3)
            assert ("APP/PROC/WEB", "Exit status 4") in controller.lines
            await controller.want([wanted(droplet, version="v2")])
            await until(controller.is_running)
        finally:
            await end(cell, signal.SIGTERM)


async def test_instances_survive_the_cell_and_are_adopted(settings: Settings, mode: str, droplet: str) -> None:
    async with platform(settings, mode) as controller:
        cell = start_cell(settings)
        await until(lambda: controller.peer is not None)
        await controller.want([wanted(droplet)])
        await until(controller.is_running)
        first = controller.latest()
        assert first is not None
        connections: list[int] = []
        for number in (signal.SIGKILL, signal.SIGTERM):
            await end(cell, number)
            (await dial(first.endpoint)).close()
            connections.append(controller.connections)
            controller.actual = None
            cell = start_cell(settings)
            await until(lambda: controller.connections > connections[-1] and controller.actual is not None)
            assert controller.instance_guids() == [first.instance_guid]
            # Not for a moment is it one that only starts: its routes would lose it.
            (adopted,) = controller.told().instances
            assert (adopted.state, adopted.routable, adopted.since) == ("RUNNING", True, first.since)
            await until(controller.is_running)
        await end(cell, signal.SIGTERM)
        assert controller.bodies(InstanceCrashed) == []


async def test_tasks_run_once_and_their_ends_are_told(settings: Settings, mode: str, droplet: str) -> None:
    def task(guid: str, command: str, timeout: float = 0) -> DesiredTask:
        return DesiredTask(
            guid=guid, kind="task", app_guid="app-1", memory_mb=64, disk_mb=64, droplet=droplet, command=command, env={},
            log_source="APP/TASK/job", timeout=timeout,
        )  # fmt: skip

    async with platform(settings, mode) as controller:
        cell = start_cell(settings)
        try:
            await until(lambda: controller.peer is not None)
            tasks = [
                task("good", "echo ran"),
                task("bad", "exit 2"),
                task("slow", "sleep 100", 0.5),
                task("long", "sleep 100"),
            ]
            await controller.want([], tasks)
            await until(lambda: len(controller.bodies(TaskFinished)) == 3)
            await controller.want([], tasks[:3])
            await until(lambda: len(controller.bodies(TaskFinished)) == 4)
            reasons = {done.guid: done.failure_reason for done in controller.bodies(TaskFinished)}
            assert reasons == {
                "good": "", "bad": "APP/TASK/job: Exited with status 2", "slow": "exceeded the time limit of 0.5 seconds",
                "long": "task was cancelled",
            }  # fmt: skip
            assert controller.lines.count(("APP/TASK/job", "ran")) == 1
        finally:
            await end(cell, signal.SIGTERM)


async def test_an_app_that_never_listens_and_one_that_sickens_crash(settings: Settings, droplet: str) -> None:
    async with platform(settings, find_modes()[-1]) as controller:
        cell = start_cell(settings)
        try:
            await until(lambda: controller.peer is not None)
            deaf = wanted(droplet, "exec sleep 1000", health_check=HealthCheck(timeout=1.0))
            await controller.want([deaf])
            await until(lambda: controller.bodies(InstanceCrashed))
            crash = controller.bodies(InstanceCrashed)[0]
            assert crash.exit_description.startswith("Instance never healthy after 1")
            assert "failed to make TCP connection to " in crash.exit_description
            sick = wanted(
                droplet, "(sleep 2; touch sick) & exec python3 server.py", version="v2",
                health_check=HealthCheck(type="http", endpoint="/", interval=1.0, invocation_timeout=5.0),
            )  # fmt: skip
            controller.events.clear()
            await controller.want([sick])
            await until(lambda: controller.bodies(InstanceCrashed))
            crash = controller.bodies(InstanceCrashed)[0]
            assert (
                "Instance became unhealthy: Liveness check unsuccessful: failed to make HTTP request to '/'"
                in crash.exit_description
            )
            assert "received status code 500" in crash.exit_description
        finally:
            await end(cell, signal.SIGTERM)


def test_the_cell_imports_no_database() -> None:
    program = "import sys, cupola.processes.cell; print([name for name in sys.modules if 'sqlalchemy' in name])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


async def test_there_is_one_cell_per_data_directory(settings: Settings, droplet: str) -> None:
    async with platform(settings, find_modes()[-1]) as controller:
        cell = start_cell(settings)
        try:
            await until(lambda: controller.peer is not None)
            second = start_cell(settings)
            assert await asyncio.to_thread(second.wait, 30) == 3
            assert cell.poll() is None
        finally:
            await end(cell, signal.SIGTERM)
