"""A cell that does what a test says, through the events that real cells send; and apps that can be started on it."""

import itertools
import uuid
from typing import Any, Literal

from cupola.config import Settings
from cupola.runtime import desired, feed
from cupola.runtime.messages import (
    Desired,
    DesiredProcess,
    DesiredTask,
    Event,
    Instance,
    InstanceChanged,
    InstanceCrashed,
    InstanceGone,
    Port,
    TaskFinished,
    TaskStarted,
)
from cupola.store import rows
from cupola.store.database import Database
from cupola.store.staging import droplets

__all__ = ["ScriptedCell", "staged_droplet"]

State = Literal["STARTING", "RUNNING", "CRASHED", "DOWN", "STOPPING"]
Slot = tuple[str, int, str]
"""Process guid, index, version."""


def staged_droplet(database: Database, app_guid: str, **more: Any) -> str:
    """The guid of a new droplet that can be run, of an app with a web and a worker process."""
    values = {
        "app_guid": app_guid,
        "state": "STAGED",
        "lifecycle_type": "buildpack",
        "digest": f"sha256:{uuid.uuid4().hex}",
        "process_types": {"web": "run web", "worker": "run worker"},
        "sidecars": [],
    }
    with database.write() as tx:
        return str(rows.add(tx, droplets, {**values, **more}).guid)


class ScriptedCell:
    """`instances` is what it runs, by slot; nothing changes but by its methods."""

    def __init__(self, database: Database, settings: Settings, cell_id: str = "cell-1") -> None:
        self.instances: dict[Slot, Instance] = {}
        self._database = database
        self._settings = settings
        self._id = cell_id
        self._numbers = itertools.count(1)

    def desired(self) -> Desired:
        """What it is told to run."""
        with self._database.read() as tx:
            return desired.compute(tx, self._settings, self._id, 1)

    def process(self, guid: str) -> DesiredProcess:
        """One of the processes that it is told to run."""
        (found,) = [one for one in self.desired().processes if one.process_guid == guid]
        return found

    def task(self, guid: str) -> DesiredTask | None:
        """One of the tasks that it is told to run."""
        return next((one for one in self.desired().tasks if one.guid == guid), None)

    def missing(self) -> list[Slot]:
        """Slots that should run and do not, or not well."""
        return [slot for slot in self._wanted() if not self._serves(slot)]

    def surplus(self) -> list[Slot]:
        """Slots that should not run any more."""
        wanted = set(self._wanted())
        return [slot for slot in self.instances if slot not in wanted]

    def _wanted(self) -> list[Slot]:
        return [
            (one.process_guid, index, one.version) for one in self.desired().processes for index in range(one.instances)
        ]

    def _serves(self, slot: Slot) -> bool:
        found = self.instances.get(slot)
        return found is not None and found.state == "RUNNING" and found.routable

    def run(
        self, slot: Slot, state: State = "RUNNING", *, routable: bool | None = None, details: str = "", crashes: int = 0
    ) -> None:
        """Say that the instance of a slot is in a state."""
        process_guid, index, version = slot
        now = self._now()
        running = state == "RUNNING"
        instance = Instance(
            instance_guid=f"{process_guid[:8]}-{index}-{version[:8]}" if state not in {"CRASHED", "DOWN"} else "",
            process_guid=process_guid,
            version=version,
            index=index,
            state=state,
            since=now,
            routable=running if routable is None else routable,
            endpoint=f"tcp:10.0.0.1:{6000 + index}",
            host="10.0.0.1",
            ports=[Port(8080, 6000 + index)],
            details=details,
            crash_count=crashes,
        )
        self.instances[slot] = instance
        self._send(InstanceChanged(instance))

    def crash(self, slot: Slot, description: str, crashes: int = 3) -> None:
        """Say that the instance of a slot crashed so many times, and waits."""
        process_guid, index, version = slot
        crash = InstanceCrashed(
            process_guid=process_guid,
            version=version,
            instance_guid="instance",
            index=index,
            at=self._now(),
            exit_description=description,
            crash_count=crashes,
            cell_id=self._id,
        )
        self._send(crash)
        self.run(slot, "CRASHED", crashes=crashes)

    def stop(self, slot: Slot) -> None:
        """Say that the instance of a slot is gone."""
        instance = self.instances.pop(slot)
        self._send(InstanceGone(instance.instance_guid, slot[0], slot[1], self._now()))

    def keep_up(self) -> None:
        """Run everything that should run, and nothing else."""
        for slot in self.missing():
            self.run(slot)
        for slot in self.surplus():
            self.stop(slot)

    def start_task(self, guid: str) -> None:
        """Say that a task runs."""
        self._send(TaskStarted(guid, self._now()))

    def end_task(self, guid: str, failure: str = "", status: int = 0) -> None:
        """Say how a task ended."""
        self._send(TaskFinished(guid=guid, at=self._now(), exit_status=status, failure_reason=failure))

    def _now(self) -> int:
        with self._database.read() as tx:
            return tx.now

    def _send(self, body: Any) -> None:
        with self._database.write() as tx:
            feed.apply(tx, self._settings, Event(next(self._numbers), self._id, body))
