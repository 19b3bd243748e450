"""Tasks and stagings: containers that run once, end, and are reported exactly as they ended."""

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from cupola import clock
from cupola.runtime import words
from cupola.runtime.engine import Container, Engine, EngineError, Exit, PlacementError, Program
from cupola.runtime.messages import DesiredTask, TaskFinished, TaskStarted
from cupola.runtime.outbox import Outbox
from cupola.runtime.planner import TaskSlot

if TYPE_CHECKING:
    from cupola.runtime.reconciler import Reconciler

__all__ = ["Tasks"]


_READING_SECONDS = 2.5
"""How long the end of a failed build is held back: clients stop reading when they learn of it, and show lines that are
two seconds old (reference/cf-cli.md section c), so its last lines, which say why, would not be seen."""


class _Running:
    def __init__(self, container: Container) -> None:
        self.container = container
        self.cancelled = False
        self.timed_out = False
        self.made = False
        self.timer: asyncio.Task[None] | None = None


class Tasks:
    """The tasks of a cell. `directory` has a file per finished task that the controller has not taken away yet."""

    def __init__(self, owner: "Reconciler", engine: Engine, outbox: Outbox, directory: Path) -> None:
        self.desired: dict[str, DesiredTask] = {}
        self._owner = owner
        self._engine = engine
        self._outbox = outbox
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._finished = {path.name for path in directory.iterdir()}
        self._running: dict[str, _Running] = {}

    def set_desired(self, desired: dict[str, DesiredTask]) -> None:
        """What should run; finished tasks that are not named any more are forgotten."""
        self.desired = desired
        for guid in self._finished - set(desired):
            (self._directory / guid).unlink(missing_ok=True)
        self._finished &= set(desired)
        for guid, task in self._running.items():
            if guid in desired:
                self._engine.reach(task.container.guid, desired[guid].endpoints)

    def slots(self) -> list[TaskSlot]:
        """For the planner."""
        live = [
            TaskSlot(guid, task.container.memory_mb, stopping=task.cancelled or task.timed_out)
            for guid, task in self._running.items()
        ]
        return [*live, *(TaskSlot(guid, finished=True) for guid in self._finished if guid not in self._running)]

    def running(self) -> list[str]:
        """Guids of tasks that have a container."""
        return list(self._running)

    def adopt(self, container: Container) -> None:
        """Take over a task's container from an earlier cell process."""
        task = _Running(container)
        task.made = True
        self._running[container.owner] = task
        self._arm(task)

    async def run(self, desired: DesiredTask, gate: asyncio.Semaphore) -> None:
        """Make the container of a task; its end is told by `exited`."""
        if desired.guid in self._running:
            return
        container = _container(desired)
        task = _Running(container)
        self._running[desired.guid] = task
        cell = self._owner.cell_id
        async with gate:
            if self._is_cancelled(task):
                self._finish(task, 255, "task was cancelled", "")
                return
            self._owner.say(container, f"Cell {cell} creating container for instance {container.guid}")
            try:
                await self._engine.create(container, lambda text: self._owner.say(container, text))
            except EngineError as error:
                self._owner.say(
                    container,
                    f"Cell {cell} failed to create container for instance {container.guid}: {error}",
                    "",
                    "ERR",
                )
                error_id = "InsufficientResources" if isinstance(error, PlacementError) else "StagingError"
                self._finish(task, 255, str(error), error_id if container.kind == "staging" else "")
                return
        self._owner.say(container, f"Cell {cell} successfully created container for instance {container.guid}")
        task.made = True
        self._outbox.put(TaskStarted(desired.guid, clock.micros()))
        self._arm(task)
        if self._is_cancelled(task):
            await self._engine.stop(container.guid, 0)

    def refuse(self, desired: DesiredTask, details: str) -> None:
        """End a task for which there is no room."""
        container = _container(desired)
        text = f"Cell {self._owner.cell_id} failed to create container for instance {container.guid}: {details}"
        self._owner.say(container, text, "", "ERR")
        self._finish(_Running(container), 255, details, "InsufficientResources" if desired.kind == "staging" else "")

    def _is_cancelled(self, task: _Running) -> bool:
        # A method, because it changes while others run.
        return task.cancelled

    def _arm(self, task: _Running) -> None:
        if task.container.timeout > 0:
            left = task.container.timeout - (clock.seconds() - task.container.created / 1e6)
            task.timer = asyncio.create_task(self._expire(task, max(left, 0)))

    async def _expire(self, task: _Running, seconds: float) -> None:
        await asyncio.sleep(seconds)
        task.timed_out = True
        self._owner.say(task.container, f"The time limit of {task.container.timeout:g} seconds is over", "", "ERR")
        await self._engine.stop(task.container.guid, 0)

    async def cancel(self, guid: str) -> None:
        """End a task that is not wanted any more."""
        task = self._running.get(guid)
        if task is None or task.cancelled:
            return
        task.cancelled = True
        if task.made:
            self._owner.say(task.container, f"Cell {self._owner.cell_id} stopping instance {task.container.guid}")
            await self._engine.stop(task.container.guid, 10)

    async def exited(self, container: Container, exit: Exit) -> None:
        """Its container ended."""
        task = self._running.get(container.owner) or _Running(container)
        if task.timer is not None:
            task.timer.cancel()
        if container.kind == "task":
            for source, text in words.exit_lines(exit, 10):
                self._owner.say(container, text, source)
        failure = words.task_failure(container, exit, cancelled=task.cancelled, timed_out=task.timed_out)
        error_id = ""
        if container.kind == "staging" and failure:
            error_id = "StagingTimeExpired" if task.timed_out else exit.error_id or "StagingError"
        if exit.staging is not None and not failure:
            self._owner.say(container, "Uploading complete")
        if container.kind == "staging" and failure and not task.cancelled:
            await asyncio.sleep(_READING_SECONDS)
        self._finish(task, exit.status, failure, error_id, exit)
        cell = self._owner.cell_id
        if container.kind == "staging":
            self._owner.say(container, f"Cell {cell} stopping instance {container.guid}")
        self._owner.say(container, f"Cell {cell} destroying container for instance {container.guid}")
        with contextlib.suppress(EngineError):
            await self._engine.destroy(container.guid)
        self._owner.say(container, f"Cell {cell} successfully destroyed container for instance {container.guid}")

    def _finish(self, task: _Running, status: int, failure: str, error_id: str, exit: Exit | None = None) -> None:
        guid = task.container.owner
        if guid not in self._finished:
            self._outbox.put(
                TaskFinished(
                    guid=guid,
                    at=clock.micros(),
                    exit_status=status,
                    failure_reason=failure,
                    error_id=error_id,
                    staging=exit.staging if exit is not None else None,
                )
            )
            # After the event is kept: dying in between reports it twice, which the controller can tell.
            (self._directory / guid).touch(mode=0o600)
            self._finished.add(guid)
        self._running.pop(guid, None)


def _container(task: DesiredTask) -> Container:
    return Container(
        guid=task.guid,
        kind=task.kind,
        owner=task.guid,
        app_guid=task.app_guid,
        memory_mb=task.memory_mb,
        disk_mb=task.disk_mb,
        log_rate=task.log_rate,
        droplet=task.droplet,
        programs=[Program(name="", command=task.command, source=task.log_source)],
        env=task.env,
        tags=task.tags,
        user=task.user,
        timeout=task.timeout,
        created=clock.micros(),
        task=task if task.kind == "staging" else None,
        files=task.files,
        volumes=task.volumes,
        endpoints=task.endpoints,
    )
