"""The planner: which steps follow from desired and actual."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.runtime.messages import DesiredProcess, DesiredTask
from cupola.runtime.planner import (
    Capacity,
    Forget,
    Refuse,
    RefuseTask,
    Slot,
    Start,
    StartTask,
    Stop,
    StopTask,
    TaskSlot,
    next_crash_count,
    plan,
    restart_delay,
)

ROOM = Capacity(memory_mb=10_000, containers=100)


def process(guid: str = "p", instances: int = 1, version: str = "v1", memory_mb: int = 100) -> DesiredProcess:
    return DesiredProcess(
        process_guid=guid, version=version, instances=instances, memory_mb=memory_mb, disk_mb=100, droplet="sha256:0",
        command="run", env={}, app_guid="a",
    )  # fmt: skip


def task(guid: str, kind: Literal["task", "staging"] = "task") -> DesiredTask:
    return DesiredTask(guid=guid, kind=kind, app_guid="a", memory_mb=10, disk_mb=10, env={})


def steps(desired: list[DesiredProcess], slots: list[Slot], now: float = 1000, **more: Any) -> list[Any]:
    made = plan(
        {p.process_guid: p for p in desired}, more.get("tasks", {}), slots, more.get("task_slots", []),
        frozenset(more.get("terminate", ())), more.get("capacity", ROOM), now,
    )  # fmt: skip
    return made.steps


def test_missing_instances_are_started_the_first_of_every_process_first() -> None:
    assert steps([process("a", 2), process("b", 2)], []) == [Start("a", 0), Start("b", 0), Start("a", 1), Start("b", 1)]


def test_what_runs_as_wanted_is_left_alone() -> None:
    assert steps([process("a")], [Slot("a", 0, "v1", "g", 100)]) == []


def test_scaling_down_stops_the_highest_indexes() -> None:
    slots = [Slot("a", index, "v1", f"g{index}", 100) for index in range(3)]
    assert steps([process("a", 1)], slots) == [Stop("a", 1, "g1"), Stop("a", 2, "g2")]


def test_a_new_version_replaces() -> None:
    assert steps([process("a", version="v2")], [Slot("a", 0, "v1", "g")]) == [Stop("a", 0, "g"), Start("a", 0)]


def test_a_terminated_instance_is_replaced() -> None:
    assert steps([process("a")], [Slot("a", 0, "v1", "g")], terminate=["g"]) == [Stop("a", 0, "g"), Start("a", 0)]


def test_a_crashed_index_waits_and_says_until_when() -> None:
    waiting = [Slot("a", 0, "v1", retry_at=1030)]
    made = plan({"a": process("a")}, {}, waiting, [], frozenset(), ROOM, 1000)
    assert (made.steps, made.again_at) == ([], 1030)
    assert steps([process("a")], waiting, now=1030) == [Start("a", 0)]


def test_an_index_that_was_given_up_stays_down_until_the_version_changes() -> None:
    given_up = [Slot("a", 0, "v1", retry_at=None)]
    assert steps([process("a")], given_up) == []
    assert steps([process("a", version="v2")], given_up) == [Forget("a", 0), Start("a", 0)]


def test_what_has_no_room_is_refused_with_cloud_foundrys_words() -> None:
    tight = Capacity(memory_mb=150, containers=100)
    assert steps([process("a", 2)], [], capacity=tight) == [
        Start("a", 0),
        Refuse("a", 1, "insufficient resources: memory"),
    ]
    one = Capacity(memory_mb=1000, containers=1)
    assert steps([process("a", 2)], [], capacity=one)[1] == Refuse("a", 1, "insufficient resources: containers")


def test_tasks_start_once_and_end_when_they_are_not_wanted() -> None:
    wanted = {"new": task("new"), "runs": task("runs"), "done": task("done")}
    running = [
        TaskSlot("runs", 10),
        TaskSlot("done", finished=True),
        TaskSlot("old", 10),
        TaskSlot("ending", stopping=True),
    ]
    assert steps([], [], tasks=wanted, task_slots=running) == [StopTask("old"), StartTask("new")]


def test_a_task_without_room_is_refused_and_a_build_waits_for_other_builds() -> None:
    tight = Capacity(memory_mb=15, containers=100)
    none = "insufficient resources: memory"
    tasks = {"a": task("a"), "b": task("b")}
    assert steps([], [], tasks=tasks, capacity=tight) == [StartTask("a"), RefuseTask("b", none)]
    builds = {"c": task("c", "staging"), "d": task("d", "staging")}
    assert steps([], [], tasks=builds, capacity=tight) == [StartTask("c")]
    assert steps([], [], tasks=builds, capacity=tight, task_slots=[TaskSlot("c", 10)]) == []
    ended = [TaskSlot("c", finished=True)]
    assert steps([], [], tasks=builds, capacity=tight, task_slots=ended) == [StartTask("d")]
    full = [TaskSlot("a", 10)]
    assert steps([], [], tasks={**tasks, "d": task("d", "staging")}, capacity=tight, task_slots=full) == [
        RefuseTask("b", none),
        RefuseTask("d", none),
    ]


@pytest.mark.parametrize(
    ("count", "delay"), [(1, 0), (2, 0), (3, 30), (4, 60), (7, 480), (8, 960), (199, 960), (200, None)]
)
def test_restarts_wait_as_diego_does(count: int, delay: float | None) -> None:
    assert restart_delay(count) == delay


def test_the_crash_count_starts_over_after_five_minutes() -> None:
    assert (next_crash_count(7, 301), next_crash_count(7, 299), next_crash_count(0, 0)) == (1, 8, 1)


SLOTS = st.lists(
    st.builds(
        Slot, st.sampled_from("abc"), st.integers(0, 4), st.sampled_from(["v1", "v2"]), st.sampled_from(["", "g"]),
        st.just(100), st.sampled_from([0.0, 2000.0, None]),
    ),
    unique_by=lambda slot: (slot.process_guid, slot.index),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 5)), SLOTS)
def test_following_the_plan_leads_to_what_is_wanted_and_then_to_nothing_more(
    counts: dict[str, int], slots: list[Slot]
) -> None:
    desired = {guid: process(guid, count) for guid, count in counts.items()}
    world = {(slot.process_guid, slot.index): slot for slot in slots}
    for step in plan(desired, {}, world.values(), [], frozenset(), ROOM, 1000).steps:
        match step:
            case Stop(guid, index) | Forget(guid, index):
                del world[guid, index]
            case Start(guid, index):
                assert (guid, index) not in world or not world[guid, index].instance_guid
                world[guid, index] = Slot(guid, index, "v1", "new", 100)
    assert plan(desired, {}, world.values(), [], frozenset(), ROOM, 1000).steps == []
    assert all(index < counts.get(guid, 0) and slot.version == "v1" for (guid, index), slot in world.items())
