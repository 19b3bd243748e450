"""What the controller and a cell say to each other (role `cell` on the platform's socket, see wire.py).

Controller to cell: `desired.full` (Desired) after `welcome`, then `desired.delta` (DesiredDelta) after each change;
`event.ack` (the highest event number that is stored); `logs.ack` (the highest log number that is taken).
Cell to controller: `actual.full` (Actual) after `welcome` and whenever asked by `actual.request`; `event` (Event,
numbered, delivered at least once); `metrics` (list of InstanceMetrics, every few seconds); `logs` (cupola.logs).

A process's instances are replaced when its `version` changes. Everything here must be possible for an engine that is
not one machine.
"""

from typing import Literal

import msgspec

__all__ = [
    "Actual",
    "Desired",
    "DesiredDelta",
    "DesiredProcess",
    "DesiredTask",
    "Endpoint",
    "Event",
    "HealthCheck",
    "Instance",
    "InstanceChanged",
    "InstanceCrashed",
    "InstanceMetrics",
    "Port",
    "Sidecar",
    "StagingInput",
    "StagingResult",
    "TaskFinished",
    "TaskStarted",
    "Volume",
]


class HealthCheck(msgspec.Struct, frozen=True, omit_defaults=True):
    """Liveness or readiness. Times in seconds; None means the default (reference/app-runtime.md section 8)."""

    type: Literal["port", "http", "process"] = "port"
    endpoint: str | None = None
    timeout: float | None = None
    invocation_timeout: float | None = None
    interval: float | None = None


class Sidecar(msgspec.Struct, frozen=True):
    """An extra process of an instance's container. `memory_mb` 0: shares the process's memory."""

    name: str
    command: str
    memory_mb: int = 0


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A directory that outlives instances and that several see: mounted at `place` (absolute)."""

    id: str
    place: str
    read_only: bool = False


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a bound service is reached at. `ports` are numbers or ranges, as `5432` and `9000-9010`."""

    host: str
    ports: list[str]
    protocol: str = "tcp"


class DesiredProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A desired LRP: what should run, `instances` times, until it is taken away."""

    process_guid: str
    version: str
    """Changes at each restart; part of VCAP_APPLICATION."""
    instances: int
    memory_mb: int
    disk_mb: int
    log_rate: int = -1
    """Bytes per second; -1 unlimited, 0 none."""
    droplet: str
    """Digest (`sha256:...`) of the droplet in the blob store."""
    command: str
    """Start command; empty: the launcher takes the one in staging_info.yml."""
    env: dict[str, str]
    """Complete but for what only the cell knows (CF_INSTANCE_*, PORT, INSTANCE_*); VCAP_APPLICATION included."""
    ports: list[int] = []
    health_check: HealthCheck = HealthCheck()
    readiness: HealthCheck = HealthCheck(type="process")
    sidecars: list[Sidecar] = []
    user: str = "vcap"
    log_source: str = "APP/PROC/WEB"
    app_guid: str
    """Source id of its logs and metrics."""
    tags: dict[str, str] = {}
    """Tags of its logs and metrics, but for instance_id and process_instance_id."""
    egress: list[dict[str, object]] = []
    """Security group rules; not enforced by every engine."""
    files: dict[str, str] = {}
    """Path below /etc/cf-service-bindings to content; they hold credentials."""
    volumes: list[Volume] = []
    endpoints: list[Endpoint] = []
    """Of services that the app is bound to: on the loopback of the cell, they are opened to its instances."""
    stack_fingerprint: str = ""


class StagingInput(msgspec.Struct, frozen=True, kw_only=True):
    """What a staging task works on; digests are blobs."""

    package: str
    buildpacks: list[dict[str, str]]
    """In order: {key, name, digest} for a system buildpack, {key, name, url} for a custom one."""
    skip_detect: bool
    cache: str = ""
    """Digest of the buildpack cache of the last staging, or empty."""
    stack: str = ""
    anywhere: bool = False
    """Whether addresses of buildpacks may name any host (outbound.py): an admin asked."""


class DesiredTask(msgspec.Struct, frozen=True, kw_only=True):
    """Something that runs once: a task of an app (`command`) or a staging (`staging`)."""

    guid: str
    kind: Literal["task", "staging"]
    app_guid: str
    memory_mb: int
    disk_mb: int
    log_rate: int = -1
    droplet: str = ""
    command: str = ""
    env: dict[str, str]
    user: str = "vcap"
    log_source: str = "STG"
    tags: dict[str, str] = {}
    timeout: float = 0
    """Seconds; 0 for none."""
    staging: StagingInput | None = None
    egress: list[dict[str, object]] = []
    files: dict[str, str] = {}
    volumes: list[Volume] = []
    endpoints: list[Endpoint] = []


class Desired(msgspec.Struct, frozen=True):
    """Everything that should exist on this cell."""

    revision: int
    processes: list[DesiredProcess]
    tasks: list[DesiredTask]
    terminate: list[str] = []
    """Instance guids that are to be stopped and replaced."""


class DesiredDelta(msgspec.Struct, frozen=True):
    """The change from `base` to `revision`; a cell that is not at `base` asks again with `desired.request`."""

    base: int
    revision: int
    set_processes: list[DesiredProcess] = []
    remove_processes: list[str] = []
    set_tasks: list[DesiredTask] = []
    remove_tasks: list[str] = []
    terminate: list[str] = []


class Port(msgspec.Struct, frozen=True):
    """One port of an instance: the number inside and the one the cell allotted on the host."""

    internal: int
    external: int


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """An actual LRP: one instance as the cell sees it. Times are microseconds since 1970."""

    instance_guid: str
    """Empty while CRASHED and waiting."""
    process_guid: str
    version: str
    index: int
    state: Literal["STARTING", "RUNNING", "CRASHED", "DOWN", "STOPPING"]
    since: int
    routable: bool = False
    endpoint: str = ""
    """Where the router reaches the first port: `tcp:ip:port` or `unix:/path`."""
    endpoints: dict[str, str] = {}
    """The same for every port, by internal number."""
    host: str = ""
    internal_ip: str = ""
    ports: list[Port] = []
    details: str = ""
    """Placement error, for stats."""
    crash_count: int = 0


class Actual(msgspec.Struct, frozen=True):
    """Everything on a cell; replaces what was known of it. `seq` is the last event number it includes."""

    cell_id: str
    seq: int
    instances: list[Instance]
    tasks: list[str]
    """Guids of tasks that are running."""


class InstanceChanged(msgspec.Struct, frozen=True, tag="instance"):
    """An instance appeared or changed."""

    instance: Instance


class InstanceGone(msgspec.Struct, frozen=True, tag="gone"):
    """An instance was stopped and is no more."""

    instance_guid: str
    process_guid: str
    index: int
    at: int


class InstanceCrashed(msgspec.Struct, frozen=True, tag="crash"):
    """A crash, for the audit events; the state change is a message of its own."""

    process_guid: str
    version: str
    instance_guid: str
    index: int
    at: int
    exit_description: str
    crash_count: int
    cell_id: str


class ReadinessChanged(msgspec.Struct, frozen=True, tag="readiness"):
    """An instance passed or failed its readiness check, for the audit events."""

    process_guid: str
    version: str
    instance_guid: str
    index: int
    at: int
    ready: bool
    cell_id: str


class TaskStarted(msgspec.Struct, frozen=True, tag="task.started"):
    """A task is running."""

    guid: str
    at: int


class StagingResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a staging made. `result` is the builder's result.json (reference/app-runtime.md section 5)."""

    droplet: str
    """Digest of the droplet, already in the blob store; empty when staging failed."""
    droplet_sha1: str = ""
    droplet_bytes: int = 0
    cache: str = ""
    result: dict[str, object] = {}
    stack_fingerprint: str = ""


class TaskFinished(msgspec.Struct, frozen=True, tag="task.finished", kw_only=True):
    """A task ended. `failure_reason` is empty for success; `error_id` is a builder error such as NoAppDetectedError."""

    guid: str
    at: int
    exit_status: int
    failure_reason: str = ""
    error_id: str = ""
    staging: StagingResult | None = None


class Event(msgspec.Struct, frozen=True):
    """A numbered event; numbers of one cell never repeat and never go back."""

    seq: int
    cell_id: str
    body: InstanceChanged | InstanceGone | InstanceCrashed | ReadinessChanged | TaskStarted | TaskFinished


class InstanceMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """What one instance uses. `cpu` is a fraction of one core; memory and disk in bytes; rate in bytes per second."""

    instance_guid: str
    process_guid: str
    app_guid: str
    index: int
    at: int
    cpu: float
    cpu_entitlement: float
    memory: int
    memory_quota: int
    disk: int
    disk_quota: int
    log_rate: int
    log_rate_limit: int
    age: int
    """Nanoseconds since the container was made."""
    tags: dict[str, str] = {}
