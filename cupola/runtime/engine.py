"""What an engine is: it makes containers, says when they end, and stops them. It decides nothing.

    EngineError          a container could not be made; the text is shown to the app's developer
    `- PlacementError    there is no room now; the text is the `details` of the instance's stats

The local engine is one, Kubernetes is to be another, so nothing here speaks of pids, cgroups or paths, but for
`StagingPlan`, which only engines that stage on a machine use.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from cupola.runtime.messages import DesiredTask, Endpoint, Port, StagingResult, Volume

__all__ = [
    "Address",
    "Container",
    "Engine",
    "EngineError",
    "Exit",
    "Observer",
    "PlacementError",
    "Program",
    "Stager",
    "StagingFailure",
    "StagingPlan",
    "Usage",
]


class EngineError(Exception):
    """A container could not be made."""


class PlacementError(EngineError):
    """There is no room: words of Cloud Foundry such as `insufficient resources: memory`."""


@dataclass(frozen=True)
class StagingPlan:
    """How the builder is started in the directory that was prepared for it."""

    argv: list[str]
    """`@TMP@` stands for the container's /tmp, which has another name where there is no mount namespace."""
    env: dict[str, str]
    """Complete, but for what only the cell knows (CF_INSTANCE_*, MEMORY_LIMIT)."""
    read_only_mounts: list[tuple[Path, str]] = field(default_factory=list)
    """Host path and the path inside; modes without a mount namespace allow reading the host path instead."""
    loopback: list[str] = field(default_factory=list)
    """`host:port` on the host's loopback that the build may reach, where it has a network of its own; others are no harm."""


@dataclass(frozen=True)
class StagingFailure:
    """Why a staging made nothing: `error_id` is a builder error such as NoAppDetectedError."""

    error_id: str
    reason: str


class Stager(Protocol):
    """What prepares a staging and collects its result (cupola.staging.cell). Blocking; called in a worker thread."""

    def prepare(self, task: DesiredTask, directory: Path) -> StagingPlan:
        """Fill the instance's root directory: app bits, buildpacks, cache, builder."""

    def collect(self, task: DesiredTask, directory: Path, ended: "Exit") -> StagingResult | StagingFailure:
        """Pack droplet and cache into the blob store and read the builder's result; `ended` is how the builder ended."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One top process of a container. `command` empty: the droplet's own start command."""

    name: str
    """Empty for the main program, else the sidecar's name."""
    command: str
    source: str
    """Source type of its lines, such as APP/PROC/WEB."""
    memory_mb: int = 0
    """Memory of its own, shown to it as MEMORY_LIMIT; 0: the container's."""


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be made. Engines keep it with the container, so that another cell process can adopt it."""

    guid: str
    kind: Literal["process", "task", "staging"]
    owner: str
    """Guid of the process or task."""
    version: str = ""
    index: int = 0
    app_guid: str
    memory_mb: int
    disk_mb: int
    log_rate: int = -1
    droplet: str = ""
    made_on: str = ""
    """Fingerprint of the stack that the droplet was made on."""
    programs: list[Program]
    env: dict[str, str]
    ports: list[int] = []
    """Ports that the app listens on, by their inside number."""
    tags: dict[str, str] = {}
    user: str = "vcap"
    timeout: float = 0
    """Seconds after which it is ended; 0 for none."""
    created: int
    """Microseconds since 1970."""
    task: DesiredTask | None = None
    """What a task or staging container was made for."""
    files: dict[str, str] = {}
    """Path below /etc/cf-service-bindings to content."""
    volumes: list[Volume] = []
    endpoints: list[Endpoint] = []
    """Of bound services; those on the loopback of the machine are opened to it."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a container is reached."""

    host: str = ""
    internal_ip: str = ""
    ports: list[Port] = []
    endpoints: dict[str, str] = {}
    """By inside port: where router, health checks and ssh connect (cupola/endpoints.py)."""


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How a container ended. Statuses are a shell's: 128 + signal for a process that a signal ended."""

    statuses: list[tuple[str, int]]
    """Source type and exit status of each program, in the order in which they ended."""
    out_of_memory: bool = False
    out_of_disk: bool = False
    killed: bool = False
    """It did not end within the graceful interval."""
    staging: StagingResult | None = None
    error_id: str = ""
    reason: str = ""
    """Why staging failed, in words."""

    @property
    def status(self) -> int:
        """Of the program that ended first; 255 when none is known."""
        return self.statuses[0][1] if self.statuses else 255


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a container uses: seconds of CPU since its start, bytes of memory and disk, bytes per second of logs."""

    cpu_seconds: float
    memory: int
    disk: int
    log_rate: int


class Observer(Protocol):
    """Whom an engine tells. Called in the event loop."""

    def exited(self, container: Container, exit: Exit) -> None:
        """A container ended by itself or was stopped; told once per container and cell process."""

    def output(self, container: Container, source: str, stream: Literal["OUT", "ERR"], lines: list[bytes]) -> None:
        """Lines of output, each at most 61440 bytes, not empty. They are kept when this returns, or told again."""


Progress = Callable[[str], None]
"""Takes one line about the making of a container, for its log."""


class Engine(Protocol):
    """Makes and ends containers. All methods are for the event loop; none blocks it."""

    async def open(self, observer: Observer) -> list[tuple[Container, Address]]:
        """Start, and return the containers that run already. Ends of those that ended meanwhile are told."""

    async def create(self, container: Container, progress: Progress) -> Address:
        """Make and start a container. Raises EngineError; then nothing of it is left."""

    async def stop(self, guid: str, grace: float) -> None:
        """Ask it to end, and end it after `grace` seconds; returns when it is gone. Unknown guids are gone."""

    async def destroy(self, guid: str) -> None:
        """Remove what is left of an ended container: files and accounting."""

    def reach(self, guid: str, endpoints: list[Endpoint]) -> None:
        """What its services are at now: of what was opened to it when it was made, only this stays open."""

    def usage(self, guid: str) -> Usage | None:
        """The last measurement, or None when there is none yet."""

    async def close(self) -> None:
        """Let go of the containers; they keep running."""
