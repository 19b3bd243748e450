"""What to do, as a pure function of what should be and what is. No clock, no engine, no order of arrival."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cupola.runtime.messages import DesiredProcess, DesiredTask

__all__ = [
    "Capacity",
    "Forget",
    "Plan",
    "Refuse",
    "RefuseTask",
    "Slot",
    "Start",
    "StartTask",
    "Step",
    "Stop",
    "StopTask",
    "TaskSlot",
    "next_crash_count",
    "plan",
    "restart_delay",
]

_IMMEDIATE = 3
_BASE, _CAP = 30.0, 960.0
_GIVE_UP = 200
_RESET_AFTER = 300.0


def restart_delay(crash_count: int) -> float | None:
    """Seconds to wait after this many crashes: 0, 0, 30, 60, ... at most 16 minutes; None from 200 on: never again."""
    if crash_count >= _GIVE_UP:
        return None
    if crash_count < _IMMEDIATE:
        return 0.0
    return float(min(_BASE * 2 ** min(crash_count - _IMMEDIATE, 10), _CAP))


def next_crash_count(previous: int, ran_for: float) -> int:
    """The count after one more crash; an instance that was RUNNING for more than five minutes starts over."""
    return 1 if ran_for > _RESET_AFTER else previous + 1


@dataclass(frozen=True)
class Slot:
    """One index of a process as it is. `instance_guid` is empty while nothing runs."""

    process_guid: str
    index: int
    version: str
    instance_guid: str = ""
    memory_mb: int = 0
    retry_at: float | None = 0.0
    """When it may start again (same clock as `plan`'s `now`); None: never. Without meaning while something runs."""


@dataclass(frozen=True)
class TaskSlot:
    """A task that runs, or has ended and is not forgotten by the controller yet."""

    guid: str
    memory_mb: int = 0
    finished: bool = False
    stopping: bool = False


@dataclass(frozen=True)
class Capacity:
    """What all instances together may have."""

    memory_mb: int
    containers: int


@dataclass(frozen=True)
class Start:
    """Start this index of the process."""

    process_guid: str
    index: int


@dataclass(frozen=True)
class Stop:
    """Stop the instance that is in this slot; the slot is free at once."""

    process_guid: str
    index: int
    instance_guid: str


@dataclass(frozen=True)
class Forget:
    """The slot holds nothing and is not wanted any more."""

    process_guid: str
    index: int


@dataclass(frozen=True)
class Refuse:
    """There is no room for this index; `details` is the placement error. Asked again when something ends."""

    process_guid: str
    index: int
    details: str


@dataclass(frozen=True)
class StartTask:
    """Run this task."""

    guid: str


@dataclass(frozen=True)
class RefuseTask:
    """There is no room for this task, which ends it; `details` is the placement error."""

    guid: str
    details: str


@dataclass(frozen=True)
class StopTask:
    """The task is not wanted any more."""

    guid: str


Step = Start | Stop | Forget | Refuse | StartTask | RefuseTask | StopTask


@dataclass(frozen=True)
class Plan:
    """Steps in the order in which to begin them, and when to plan again though nothing happened (None: never)."""

    steps: list[Step]
    again_at: float | None = None


def plan(
    desired: Mapping[str, DesiredProcess],
    tasks: Mapping[str, DesiredTask],
    slots: Iterable[Slot],
    task_slots: Iterable[TaskSlot],
    terminate: frozenset[str],
    capacity: Capacity,
    now: float,
) -> Plan:
    """Compare. Stops come first, then starts by index, so that every process gets its first instance early."""
    stops: list[Step] = []
    held: dict[tuple[str, int], Slot] = {}
    memory = containers = 0
    for slot in sorted(slots, key=lambda slot: (slot.process_guid, slot.index)):
        wanted = desired.get(slot.process_guid)
        if (
            wanted is None
            or slot.index >= wanted.instances
            or slot.version != wanted.version
            or (slot.instance_guid and slot.instance_guid in terminate)
        ):
            stops.append(_leave(slot))
        else:
            held[slot.process_guid, slot.index] = slot
            memory += slot.memory_mb if slot.instance_guid else 0
            containers += bool(slot.instance_guid)
    room = _Room(capacity, memory, containers)
    task_steps = _plan_tasks(tasks, list(task_slots), room)
    starts: list[Step] = []
    again: list[float] = []
    missing = [(index, guid) for guid, wanted in desired.items() for index in range(wanted.instances)]
    for index, guid in sorted(missing):
        old = held.get((guid, index))
        if old is not None and (old.instance_guid or old.retry_at is None):
            continue
        if old is not None and old.retry_at is not None and old.retry_at > now:
            again.append(old.retry_at)
            continue
        details = room.take(desired[guid].memory_mb)
        starts.append(Refuse(guid, index, details) if details else Start(guid, index))
    return Plan([*stops, *task_steps, *starts], min(again, default=None))


def _leave(slot: Slot) -> Step:
    if slot.instance_guid:
        return Stop(slot.process_guid, slot.index, slot.instance_guid)
    return Forget(slot.process_guid, slot.index)


def _plan_tasks(tasks: Mapping[str, DesiredTask], running: list[TaskSlot], room: "_Room") -> list[Step]:
    known = {slot.guid: slot for slot in running}
    for slot in running:
        if not slot.finished:
            room.occupy(slot.memory_mb)
    steps: list[Step] = [
        StopTask(slot.guid) for slot in running if slot.guid not in tasks and not slot.finished and not slot.stopping
    ]
    building = {slot.guid for slot in running if slot.guid in tasks and not slot.finished}
    building = {guid for guid in building if tasks[guid].kind == "staging"}
    for guid, task in tasks.items():
        if guid in known:
            continue
        details = room.take(task.memory_mb)
        if not details:
            steps.append(StartTask(guid))
            building |= {guid} if task.kind == "staging" else set()
        elif task.kind == "task" or not building:
            steps.append(RefuseTask(guid, details))
        # Other builds end soon, and then there is room.
    return steps


class _Room:
    def __init__(self, capacity: Capacity, memory: int, containers: int) -> None:
        self._capacity = capacity
        self._memory = memory
        self._containers = containers

    def occupy(self, memory_mb: int) -> None:
        self._memory += memory_mb
        self._containers += 1

    def take(self, memory_mb: int) -> str:
        if self._containers + 1 > self._capacity.containers:
            return "insufficient resources: containers"
        if self._memory + memory_mb > self._capacity.memory_mb:
            return "insufficient resources: memory"
        self.occupy(memory_mb)
        return ""
