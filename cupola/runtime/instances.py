"""One index of a process: its state, and the monitoring of its health (reference/app-runtime.md sections 8 and 9)."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

from cupola import clock
from cupola.runtime.engine import Address, Container, Usage
from cupola.runtime.health import check, format_duration
from cupola.runtime.messages import DesiredProcess, Instance, InstanceMetrics

__all__ = ["Change", "InstanceSlot", "Monitor"]

_MIB = 1024 * 1024
_POLL = 2.0
"""Seconds between checks until the first that passes."""
_FIRST = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Shorter waits before the first checks: most apps listen within a second, and a push waits for them."""

State = Literal["STARTING", "RUNNING", "CRASHED", "DOWN", "STOPPING"]


class InstanceSlot:
    """What is known of one index. Changes come from the reconciler and the monitor, in the event loop."""

    def __init__(self, cell_id: str, process_guid: str, index: int, version: str) -> None:
        self.cell_id = cell_id
        self.process_guid = process_guid
        self.index = index
        self.version = version
        self.state: State = "DOWN"
        self.since = clock.micros()
        self.routable = False
        self.details = ""
        self.crash_count = 0
        self.retry_at: float | None = 0.0
        self.container: Container | None = None
        self.address = Address()
        self.monitor: asyncio.Task[None] | None = None
        self.failure: str | None = None
        """Why the health monitor had it stopped."""
        self.wanted = True
        """False once it is being stopped on purpose."""
        self.made = False
        self._measured: tuple[float, float] | None = None

    @property
    def instance_guid(self) -> str:
        """Of the instance that is in the slot; empty without one."""
        return self.container.guid if self.container is not None else ""

    @property
    def memory_mb(self) -> int:
        """Memory that it holds."""
        return self.container.memory_mb if self.container is not None else 0

    def set_state(self, state: State) -> None:
        """Change the state; `since` moves only with a change."""
        if state != self.state:
            self.state = state
            self.since = clock.micros()

    def begin(self, container: Container) -> None:
        """An instance is being made for this slot."""
        self.container = container
        self.version = container.version
        self.address = Address()
        self.details = ""
        self.failure = None
        self.wanted = True
        self.made = False
        self.routable = False
        self._measured = None
        self.set_state("STARTING")

    def occupy(self, container: Container, address: Address, crash_count: int) -> None:
        """Take over an instance that was made by an earlier cell process; what it did not know is found out."""
        self.begin(container)
        self.since = container.created
        self.address = address
        self.crash_count = crash_count
        self.made = True

    def resume(self, since: int, *, routable: bool) -> None:
        """The earlier cell process saw the instance running: routes keep it, and its checks go on where they were."""
        self.state = "RUNNING"
        self.since = since
        self.routable = routable

    def vacate(self, state: State, *, details: str, retry_at: float | None) -> None:
        """Nothing runs here any more; it may start again at `retry_at` (seconds since 1970; None: never)."""
        self.container = None
        self.address = Address()
        self.routable = False
        self.details = details
        self.retry_at = retry_at
        self.monitor = None
        self.set_state(state)

    def ran_for(self, now: float) -> float:
        """Seconds for which it has been RUNNING."""
        return now - self.since / 1e6 if self.state == "RUNNING" else 0.0

    def report(self) -> Instance:
        """As the controller sees it."""
        ports = self.address.ports
        first = str(ports[0].internal) if ports else ""
        return Instance(
            instance_guid=self.instance_guid,
            process_guid=self.process_guid,
            version=self.version,
            index=self.index,
            state=self.state,
            since=self.since,
            routable=self.routable,
            endpoint=self.address.endpoints.get(first, ""),
            endpoints=self.address.endpoints,
            host=self.address.host,
            internal_ip=self.address.internal_ip,
            ports=ports,
            details=self.details,
            crash_count=self.crash_count,
        )

    def measure(self, usage: Usage | None, now: int) -> InstanceMetrics | None:
        """Turn a measurement into rates; None before there is one."""
        container = self.container
        if usage is None or container is None:
            return None
        seconds = now / 1e6
        before, at = self._measured or (usage.cpu_seconds, container.created / 1e6)
        if self._measured is None:
            before = 0.0
        self._measured = (usage.cpu_seconds, seconds)
        cpu = max(usage.cpu_seconds - before, 0.0) / max(seconds - at, 0.001)
        share = min(max(container.memory_mb, 128), 8192) / 8192
        return InstanceMetrics(
            instance_guid=container.guid,
            process_guid=self.process_guid,
            app_guid=container.app_guid,
            index=self.index,
            at=now,
            cpu=cpu,
            cpu_entitlement=cpu / share,
            memory=usage.memory,
            memory_quota=container.memory_mb * _MIB,
            disk=usage.disk,
            disk_quota=container.disk_mb * _MIB,
            log_rate=usage.log_rate,
            log_rate_limit=container.log_rate,
            age=(now - container.created) * 1000,
            tags={**container.tags, "process_instance_id": container.guid, "instance_id": str(self.index)},
        )


@dataclass(frozen=True)
class Change:
    """What the monitor found: the slot changed; `failure` set: stop the instance; `ready`: readiness changed."""

    failure: str | None = None
    ready: bool | None = None


Say = Callable[[str, str, Literal["OUT", "ERR"]], None]
"""Text, source (empty: CELL), stream."""


class Monitor:
    """Watches one instance from its start. `poll`: seconds between start checks."""

    def __init__(self, slot: InstanceSlot, process: DesiredProcess, say: Say, *, poll: float = _POLL) -> None:
        self._slot = slot
        self._liveness = process.health_check
        self._readiness = process.readiness
        self._say = say
        self._poll = poll

    async def watch(self) -> AsyncIterator[Change]:
        """Yield each change, for ever, or until a failure is yielded."""
        self._slot.made = True
        checks_readiness = self._readiness.type != "process"
        if self._slot.state != "RUNNING":
            self._say("Starting health monitoring of container", "", "OUT")
            failure = await self._start_phase()
            if failure is not None:
                yield Change(failure=failure)
                return
            self._slot.set_state("RUNNING")
            self._say("Container became healthy", "", "OUT")
            self._slot.routable = not checks_readiness
            yield Change()
        interval = max(self._liveness.interval or 30.0, 1.0)
        now = asyncio.get_running_loop().time
        next_live = now() + interval if self._liveness.type != "process" else None
        next_ready: float | None = now() if checks_readiness else None
        while True:
            due = min((at for at in (next_live, next_ready) if at is not None), default=None)
            if due is None:
                return
            await asyncio.sleep(max(due - now(), 0))
            if next_ready is not None and now() >= next_ready:
                change = await self._check_readiness()
                next_ready = now() + (max(self._readiness.interval or 30.0, 1.0) if self._slot.routable else self._poll)
                if change is not None:
                    yield change
            if next_live is not None and now() >= next_live:
                problem = await check(self._liveness, self._slot.address)
                if problem is not None:
                    self._say(f"Liveness check unsuccessful: {problem}", "HEALTH", "ERR")
                    self._say("Container became unhealthy", "", "ERR")
                    yield Change(failure=f"Instance became unhealthy: Liveness check unsuccessful: {problem}")
                    return
                next_live = now() + interval

    async def _start_phase(self) -> str | None:
        now = asyncio.get_running_loop().time
        start = now()
        timeout = self._liveness.timeout or 60.0
        waits = itertools.chain((min(wait, self._poll) for wait in _FIRST), itertools.repeat(self._poll))
        for attempts, wait in enumerate(waits, 1):
            problem = await check(self._liveness, self._slot.address)
            if problem is None:
                return None
            took = now() - start
            if took >= timeout:
                prefix = f"Timed out after {format_duration(timeout)} ({attempts} attempts) waiting for startup check to succeed: "
                self._say(prefix + problem, "HEALTH", "ERR")
                self._say(f"Failed after {format_duration(took)}: startup health check never passed.", "", "ERR")
                return f"Instance never healthy after {format_duration(took)}: {prefix}{problem}"
            await asyncio.sleep(min(wait, max(timeout - took, 0.01)))
        return None

    async def _check_readiness(self) -> Change | None:
        problem = await check(self._readiness, self._slot.address)
        ready = problem is None
        if ready == self._slot.routable:
            return None
        self._slot.routable = ready
        if ready:
            self._say(
                "Container passed the readiness health check. Container marked ready and added to route pool.",
                "",
                "OUT",
            )
        else:
            self._say(problem or "", "HEALTH", "ERR")
            self._say(
                "Container failed the readiness health check. Container marked not ready and removed from route pool.",
                "",
                "OUT",
            )
        return Change(ready=ready)
