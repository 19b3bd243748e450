"""Brings what is to what should be: asks the planner, tells the engine, watches health, reports each change.

All state is in the event loop's thread. Starts run side by side, a few at a time; the rest of a step is immediate.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from cupola import clock, guid
from cupola.runtime import words
from cupola.runtime.engine import Address, Container, Engine, EngineError, Exit, PlacementError, Program
from cupola.runtime.healthy import Healthy
from cupola.runtime.instances import InstanceSlot, Monitor
from cupola.runtime.messages import (
    Actual,
    Desired,
    DesiredDelta,
    DesiredProcess,
    Instance,
    InstanceChanged,
    InstanceCrashed,
    InstanceGone,
    InstanceMetrics,
    ReadinessChanged,
)
from cupola.runtime.outbox import Outbox
from cupola.runtime.planner import (
    Capacity,
    Forget,
    Refuse,
    RefuseTask,
    Slot,
    Start,
    StartTask,
    Step,
    Stop,
    StopTask,
    next_crash_count,
    plan,
    restart_delay,
)
from cupola.runtime.tasks import Tasks

__all__ = ["Lines", "Reconciler"]

_PARALLEL = 16
_REFUSED_AGAIN = 10.0


class _Crash(msgspec.Struct, frozen=True):
    """What must outlive the cell process of an index that crashed."""

    version: str
    count: int
    at: float


class Lines(Protocol):
    """Where lines of containers' logs go."""

    def __call__(self, container: Container, source: str, stream: Literal["OUT", "ERR"], lines: list[bytes]) -> None:
        """Keep lines of a container: `source` is their source type."""


class Reconciler:
    """One per cell. `directory` keeps crash counts, what runs, finished tasks and the last desired state."""

    def __init__(
        self,
        engine: Engine,
        outbox: Outbox,
        lines: Lines,
        directory: Path,
        *,
        cell_id: str,
        capacity: Capacity,
        grace: float = 10.0,
    ) -> None:
        self.cell_id = cell_id
        self.revision = -1
        self.desired: dict[str, DesiredProcess] = {}
        self._engine = engine
        self._outbox = outbox
        self._lines = lines
        self._directory = directory
        self._capacity = capacity
        self._grace = grace
        self._slots: dict[tuple[str, int], InstanceSlot] = {}
        self._by_guid: dict[str, InstanceSlot] = {}
        self._terminate: set[str] = set()
        self._surplus: list[InstanceSlot] = []
        self._informed = False
        self._stopping = False
        self._wake = asyncio.Event()
        self._gate = asyncio.Semaphore(_PARALLEL)
        self._work: set[asyncio.Task[None]] = set()
        self._crashes = self._load_crashes()
        self._healthy = Healthy(directory / "healthy")
        self.tasks = Tasks(self, engine, outbox, directory / "finished")

    # What the controller says.

    def set_full(self, desired: Desired) -> None:
        """Replace everything that should be."""
        self.revision = desired.revision
        self.desired = {process.process_guid: process for process in desired.processes}
        self.tasks.set_desired({task.guid: task for task in desired.tasks})
        self._terminate |= set(desired.terminate)
        self._accept()

    def apply(self, delta: DesiredDelta) -> bool:
        """Apply a change; False when it does not build on what is known, and `desired.request` is due."""
        if delta.base != self.revision:
            return False
        self.revision = delta.revision
        for process in delta.set_processes:
            self.desired[process.process_guid] = process
        for process_guid in delta.remove_processes:
            self.desired.pop(process_guid, None)
        tasks = {key: task for key, task in self.tasks.desired.items() if key not in delta.remove_tasks}
        self.tasks.set_desired(tasks | {task.guid: task for task in delta.set_tasks})
        self._terminate |= set(delta.terminate)
        self._accept()
        return True

    def _accept(self) -> None:
        self._informed = True
        self._terminate &= set(self._by_guid)
        self._save("desired", Desired(self.revision, list(self.desired.values()), list(self.tasks.desired.values())))
        for slot in self._by_guid.values():
            self._keep_open(slot)
        self.wake()

    def _keep_open(self, slot: InstanceSlot) -> None:
        """An instance reaches the services to which its app is bound now."""
        process = self.desired.get(slot.process_guid)
        if process is not None and slot.container is not None:
            self._engine.reach(slot.container.guid, process.endpoints)

    def wake(self) -> None:
        """Plan again soon."""
        self._wake.set()

    # What is reported.

    def actual(self) -> Actual:
        """Everything there is, for `actual.full`."""
        current = {id(slot) for slot in self._slots.values()}
        # Those that are being stopped come first: the one in the slot is to win where both have one key.
        stopping = [slot for slot in self._by_guid.values() if id(slot) not in current]
        instances = [slot.report() for slot in (*stopping, *self._slots.values())]
        return Actual(self.cell_id, self._outbox.last, instances, self.tasks.running())

    def metrics(self) -> list[InstanceMetrics]:
        """What the running instances use."""
        now = clock.micros()
        found = (slot.measure(self._engine.usage(key), now) for key, slot in self._by_guid.items())
        return [metrics for metrics in found if metrics is not None]

    def say(self, container: Container, text: str, source: str = "", stream: Literal["OUT", "ERR"] = "OUT") -> None:
        """Write a line of the platform's into a container's log; source CELL, or STG for a staging."""
        source = source or ("STG" if container.kind == "staging" else "CELL")
        self._lines(container, source, stream, [text.encode()])

    # The engine's observer.

    def exited(self, container: Container, exit: Exit) -> None:
        """A container ended (engine.Observer)."""
        self._spawn(self._exited(container, exit))

    def output(self, container: Container, source: str, stream: Literal["OUT", "ERR"], lines: list[bytes]) -> None:
        """Lines of output (engine.Observer)."""
        self._lines(container, source, stream, lines)

    # The loop.

    def adopt(self, found: list[tuple[Container, Address]]) -> None:
        """Take over what runs from an earlier cell process, before `run`."""
        for container, address in found:
            if container.kind == "process":
                self._adopt(container, address)
            else:
                self.tasks.adopt(container)
        self._healthy.keep(self._by_guid)
        self._load_desired()

    def _adopt(self, container: Container, address: Address) -> None:
        slot = InstanceSlot(self.cell_id, container.owner, container.index, container.version)
        slot.occupy(container, address, self._known_count(container))
        if (health := self._healthy.of(container.guid)) is not None:
            slot.resume(health.since, routable=health.routable)
        self._by_guid[container.guid] = slot
        key = (container.owner, container.index)
        other = self._slots.get(key)
        # The cell died while one was being replaced by the other: the younger stays.
        if other is not None and other.container is not None and other.container.created > container.created:
            self._surplus.append(slot)
            return
        if other is not None:
            self._surplus.append(other)
        self._slots[key] = slot

    def _known_count(self, container: Container) -> int:
        crash = self._crashes.get(f"{container.owner}/{container.index}")
        return crash.count if crash and crash.version == container.version else 0

    async def run(self, ready: Callable[[], None] | None = None, patience: float = 5.0) -> None:
        """Reconcile until cancelled. Without a controller, what it last wanted holds after `patience` seconds."""
        if not self._informed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience if self.revision >= 0 else None):
                    await self._wake.wait()
        self._resume_monitors()
        for slot in self._surplus:
            self._begin_stop(slot)
        self._surplus.clear()
        while True:
            self._wake.clear()
            again = self._reconcile()
            if ready is not None:
                ready()
                ready = None
            with contextlib.suppress(TimeoutError):
                # Not wait_for: in Python 3.11 it may swallow a cancellation, and this would never end.
                async with asyncio.timeout(again):
                    await self._wake.wait()

    def _resume_monitors(self) -> None:
        for slot in list(self._by_guid.values()):
            process = self.desired.get(slot.process_guid)
            if process is not None and slot.monitor is None and slot.container is not None:
                slot.monitor = self._spawn(self._monitor(slot, process))

    def _reconcile(self) -> float | None:
        if self._stopping:
            return None
        slots = [
            Slot(guid_, index, slot.version, slot.instance_guid, slot.memory_mb, slot.retry_at)
            for (guid_, index), slot in self._slots.items()
        ]
        now = clock.seconds()
        made = plan(
            self.desired, self.tasks.desired, slots, self.tasks.slots(), frozenset(self._terminate), self._capacity, now
        )
        for step in made.steps:
            self._do(step)
        if any(isinstance(step, Refuse) for step in made.steps):
            return _REFUSED_AGAIN
        return None if made.again_at is None else max(made.again_at - now, 0.05)

    def _do(self, step: Step) -> None:
        match step:
            case Start(process_guid, index):
                self._begin(self.desired[process_guid], index)
            case Stop(process_guid, index):
                self._begin_stop(self._slots.pop((process_guid, index)))
            case Forget(process_guid, index):
                self._slots.pop((process_guid, index))
                self._forget_crash(process_guid, index)
                self._outbox.put(InstanceGone("", process_guid, index, clock.micros()))
            case Refuse(process_guid, index, details):
                self._refuse(self.desired[process_guid], index, details)
            case StartTask(task_guid):
                self._spawn(self.tasks.run(self.tasks.desired[task_guid], self._gate))
            case RefuseTask(task_guid, details):
                self.tasks.refuse(self.tasks.desired[task_guid], details)
            case StopTask(task_guid):
                self._spawn(self.tasks.cancel(task_guid))

    def _refuse(self, process: DesiredProcess, index: int, details: str) -> None:
        slot = self._slot(process, index)
        if slot.details != details:
            slot.details = details
            slot.set_state("DOWN")
            self._report(slot)

    def _slot(self, process: DesiredProcess, index: int) -> InstanceSlot:
        slot = self._slots.get((process.process_guid, index))
        if slot is None:
            slot = InstanceSlot(self.cell_id, process.process_guid, index, process.version)
            crash = self._crashes.get(f"{process.process_guid}/{index}")
            if crash is not None and crash.version == process.version:
                slot.crash_count = crash.count
            self._slots[process.process_guid, index] = slot
        return slot

    def _begin(self, process: DesiredProcess, index: int) -> None:
        slot = self._slot(process, index)
        container = _container(process, index)
        slot.begin(container)
        self._by_guid[container.guid] = slot
        self._report(slot)
        slot.monitor = self._spawn(self._start(slot, process, container))

    async def _start(self, slot: InstanceSlot, process: DesiredProcess, container: Container) -> None:
        async with self._gate:
            self.say(container, f"Cell {self.cell_id} creating container for instance {container.guid}")
            try:
                address = await self._engine.create(container, lambda text: self.say(container, text))
            except EngineError as error:
                self._not_made(slot, container, error)
                return
            self.say(container, f"Cell {self.cell_id} successfully created container for instance {container.guid}")
        if slot.container is not container:
            return
        slot.address = address
        # It may have been unbound while it was made.
        self._keep_open(slot)
        self._report(slot)
        await self._monitor(slot, process)

    def _not_made(self, slot: InstanceSlot, container: Container, error: EngineError) -> None:
        self._by_guid.pop(container.guid, None)
        if slot.container is not container:
            return
        self.say(
            container,
            f"Cell {self.cell_id} failed to create container for instance {container.guid}: {error}",
            "",
            "ERR",
        )
        if isinstance(error, PlacementError):
            slot.vacate("DOWN", details=str(error), retry_at=clock.seconds() + _REFUSED_AGAIN)
            self._report(slot)
            self.wake()
            return
        self._crashed(slot, container, f"failed to create container: {error}")

    async def _monitor(self, slot: InstanceSlot, process: DesiredProcess) -> None:
        container = slot.container
        assert container is not None
        monitor = Monitor(slot, process, lambda text, source, stream: self.say(container, text, source, stream))
        async for change in monitor.watch():
            if change.failure is not None:
                slot.failure = change.failure
                await self._engine.stop(container.guid, self._grace)
                return
            self._report(slot)
            if change.ready is not None:
                self._outbox.put(
                    ReadinessChanged(
                        slot.process_guid,
                        slot.version,
                        container.guid,
                        slot.index,
                        clock.micros(),
                        change.ready,
                        self.cell_id,
                    )
                )

    def _begin_stop(self, slot: InstanceSlot) -> None:
        # Reported before its successor is: both have one key in the controller's table.
        slot.set_state("STOPPING")
        slot.routable = False
        slot.wanted = False
        self._report(slot)
        self._spawn(self._stop(slot))

    async def _stop(self, slot: InstanceSlot) -> None:
        container = slot.container
        if container is None:
            return
        if slot.monitor is not None and not slot.made:
            # Being made: it cannot be interrupted, but it does not take long.
            with contextlib.suppress(asyncio.CancelledError):
                while not slot.made and container.guid in self._by_guid and not slot.monitor.done():  # noqa: ASYNC110 - three things end this wait
                    await asyncio.sleep(0.02)
        if slot.monitor is not None:
            slot.monitor.cancel()
        self.say(container, f"Cell {self.cell_id} stopping instance {container.guid}")
        await self._engine.stop(container.guid, self._grace)
        if container.guid in self._by_guid and not slot.made:
            self._gone(slot, container)

    async def _exited(self, container: Container, exit: Exit) -> None:
        if container.kind != "process":
            await self.tasks.exited(container, exit)
            self.wake()
            return
        for source, text in words.exit_lines(exit, self._grace):
            self.say(container, text, source)
        slot = self._by_guid.get(container.guid)
        if slot is None:
            # Ended while no cell process watched.
            slot = InstanceSlot(self.cell_id, container.owner, container.index, container.version)
            slot.occupy(container, Address(), self._known_count(container))
            if (container.owner, container.index) not in self._slots:
                self._slots[container.owner, container.index] = slot
        if slot.monitor is not None and slot.monitor is not asyncio.current_task():
            slot.monitor.cancel()
        if slot.wanted and not self._stopping:
            description = slot.failure or words.exit_description(exit, container.programs[0].source)
            if slot.failure is None:
                self.say(container, f"Cell {self.cell_id} stopping instance {container.guid}")
            self._crashed(slot, container, description)
        else:
            self._gone(slot, container)
        self.say(container, f"Cell {self.cell_id} destroying container for instance {container.guid}")
        with contextlib.suppress(EngineError):
            await self._engine.destroy(container.guid)
        self.say(container, f"Cell {self.cell_id} successfully destroyed container for instance {container.guid}")

    def _gone(self, slot: InstanceSlot, container: Container) -> None:
        self._by_guid.pop(container.guid, None)
        self._terminate.discard(container.guid)
        self._healthy.forget(container.guid)
        self._outbox.put(InstanceGone(container.guid, slot.process_guid, slot.index, clock.micros()))
        self.wake()

    def _crashed(self, slot: InstanceSlot, container: Container, description: str) -> None:
        self._by_guid.pop(container.guid, None)
        self._terminate.discard(container.guid)
        self._healthy.forget(container.guid)
        now = clock.seconds()
        count = next_crash_count(slot.crash_count, slot.ran_for(now))
        delay = restart_delay(count)
        slot.crash_count = count
        self._remember_crash(slot, now)
        self._outbox.put(
            InstanceCrashed(
                slot.process_guid,
                slot.version,
                container.guid,
                slot.index,
                clock.micros(),
                description,
                count,
                self.cell_id,
            )
        )
        slot.vacate("CRASHED", details="", retry_at=None if delay is None else now + delay)
        if delay != 0:
            self._report(slot)
        self.wake()

    def _report(self, slot: InstanceSlot) -> None:
        self._healthy.note(slot)
        self._outbox.put(InstanceChanged(slot.report()))

    def report_of(self, instance_guid: str) -> Instance | None:
        """One instance as it is now."""
        slot = self._by_guid.get(instance_guid)
        return None if slot is None else slot.report()

    async def stop_all(self) -> None:
        """Stop every instance and task gracefully; nothing is started again."""
        self._stopping = True
        for slot in list(self._by_guid.values()):
            if slot.wanted:
                self._begin_stop(slot)
        await asyncio.gather(*(self.tasks.cancel(key) for key in self.tasks.running()))
        deadline = asyncio.get_running_loop().time() + self._grace + 10
        while (self._by_guid or self.tasks.running()) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - many things end this wait
            await asyncio.sleep(0.02)
        while self._work and asyncio.get_running_loop().time() < deadline:
            await asyncio.wait(set(self._work), timeout=1)

    async def close(self) -> None:
        """Stop reconciling; instances keep running."""
        self._stopping = True
        work = [task for task in self._work if task is not asyncio.current_task()]
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a step of the reconciler failed", "exception": error}
            )
            self.wake()

    # What is kept on disk.

    def _save(self, name: str, value: object) -> None:
        temporary = self._directory / f"{name}.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.msgpack.encode(value))
        temporary.rename(self._directory / name)

    def _load_desired(self) -> None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            desired = msgspec.msgpack.decode((self._directory / "desired").read_bytes(), type=Desired)
            self.revision = desired.revision
            self.desired = {process.process_guid: process for process in desired.processes}
            self.tasks.set_desired({task.guid: task for task in desired.tasks})

    def _load_crashes(self) -> dict[str, _Crash]:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.msgpack.decode((self._directory / "crashes").read_bytes(), type=dict[str, _Crash])
        return {}

    def _remember_crash(self, slot: InstanceSlot, now: float) -> None:
        self._crashes[f"{slot.process_guid}/{slot.index}"] = _Crash(slot.version, slot.crash_count, now)
        self._save("crashes", self._crashes)

    def _forget_crash(self, process_guid: str, index: int) -> None:
        if self._crashes.pop(f"{process_guid}/{index}", None) is not None:
            self._save("crashes", self._crashes)


def _container(process: DesiredProcess, index: int) -> Container:
    sidecars = [
        Program(
            name=sidecar.name,
            command=sidecar.command,
            source=f"{process.log_source}/SIDECAR/{sidecar.name.upper()}",
            memory_mb=sidecar.memory_mb or process.memory_mb,
        )
        for sidecar in process.sidecars
    ]
    return Container(
        guid=guid.new(),
        kind="process",
        owner=process.process_guid,
        version=process.version,
        index=index,
        app_guid=process.app_guid,
        memory_mb=process.memory_mb,
        disk_mb=process.disk_mb,
        log_rate=process.log_rate,
        droplet=process.droplet,
        made_on=process.stack_fingerprint,
        programs=[Program(name="", command=process.command, source=process.log_source), *sidecars],
        env=process.env,
        ports=process.ports or [8080],
        tags=process.tags,
        user=process.user,
        created=clock.micros(),
        files=process.files,
        volumes=process.volumes,
        endpoints=process.endpoints,
    )
