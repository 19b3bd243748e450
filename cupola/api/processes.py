"""Processes: how an app runs. Every operation is reached by guid, and by app and type."""

from collections.abc import Callable, Iterator
from typing import Any, TypedDict

from sqlalchemy import Row, select

from cupola import errors
from cupola.api import access
from cupola.api.apps import APPS
from cupola.domain import instances, visibility
from cupola.domain import processes as rules
from cupola.domain.access import has_in_space
from cupola.rest import listing
from cupola.rest.message import Message, anything, integer, metadata, string
from cupola.rest.operation import Call, Operation, Parameter, Reply, list_, update
from cupola.rest.present import Links, Metadata, common, metadata_of, to_one
from cupola.rest.resource import Embed, Filter, Resource, World
from cupola.store.apps import apps, processes
from cupola.store.orgs import spaces

__all__ = ["OPERATIONS", "PROCESSES"]

_TYPES = ("http", "port", "process")
_HIDDEN_IN_LISTS = "[PRIVATE DATA HIDDEN IN LISTS]"
_HIDDEN = "[PRIVATE DATA HIDDEN]"


class _CheckData(Message):
    timeout = integer(nullable=True, at_least=1, at_most=2147483647)
    invocation_timeout = integer(nullable=True, at_least=1, at_most=2147483647)
    interval = integer(nullable=True, at_least=1, at_most=2147483647)
    endpoint = string(nullable=True, max_length=255)


class _ReadinessData(Message):
    invocation_timeout = integer(nullable=True, at_least=1, at_most=2147483647)
    interval = integer(nullable=True, at_least=1, at_most=2147483647)
    endpoint = string(nullable=True, max_length=255)


def _check(data: type[Message], label: str) -> Any:
    def problems(value: Any) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{label} must be an object"
            return
        unknown = [name for name in value if name not in {"type", "data"}]
        if unknown:
            yield f"{label} Unknown field(s): " + ", ".join(f"'{name}'" for name in unknown)
        kind = value.get("type")
        if "type" in value and kind not in _TYPES:
            yield f'{label} type must be "port", "process", or "http"'
        settings = value.get("data", {})
        if not isinstance(settings, dict):
            yield f"{label} data must be an object"
            return
        for problem in data(settings).problems():
            yield f"{label} {problem[0].lower()}{problem[1:]}"
        endpoint = settings.get("endpoint")
        if isinstance(endpoint, str) and not rules.ENDPOINT.fullmatch(endpoint):
            yield f"{label} endpoint must be a valid URI path"
        if endpoint is not None and kind is not None and kind != "http":
            yield f'{label} type must be "http" to set a health check HTTP endpoint'

    schema = {
        "type": "object",
        "properties": {"type": {"type": "string", "enum": list(_TYPES)}, "data": data.schema()},
        "additionalProperties": False,
    }
    return anything(problems, schema, nullable=False)


class Update(Message):
    """Command, user, health checks, metadata."""

    command = string(nullable=True, min_length=1, max_length=4096, range_at_once=True)
    user = string(nullable=True, min_length=1, max_length=255, range_at_once=True)
    health_check = _check(_CheckData, "Health check")
    readiness_health_check = _check(_ReadinessData, "Readiness health check")
    metadata = metadata()


class Scale(Message):
    """How many instances, and how much each of them may have."""

    instances = integer(nullable=True, at_least=0, at_most=2147483647)
    memory_in_mb = integer(nullable=True, more_than=0, at_most=2147483647)
    disk_in_mb = integer(nullable=True, more_than=0, at_most=2147483647)
    log_rate_limit_in_bytes_per_second = integer(nullable=True, at_least=-1, at_most=9223372036854775807)


class Process(TypedDict, total=False):
    """A process as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    version: str
    type: str
    command: str | None
    user: str
    instances: int
    memory_in_mb: int
    disk_in_mb: int
    log_rate_limit_in_bytes_per_second: int
    health_check: dict[str, Any]
    readiness_health_check: dict[str, Any]
    relationships: dict[str, Any]
    process_instances: list[Any]
    metadata: Metadata
    links: Links


def _health_check(row: Row[Any]) -> dict[str, Any]:
    data = {
        "timeout": row.health_check_timeout,
        "invocation_timeout": row.health_check_invocation_timeout,
        "interval": row.health_check_interval,
    }
    if row.health_check_type == "http":
        data["endpoint"] = row.health_check_endpoint
    return {"type": row.health_check_type, "data": data}


def _readiness(row: Row[Any]) -> dict[str, Any]:
    data = {"invocation_timeout": row.readiness_invocation_timeout, "interval": row.readiness_interval}
    if row.readiness_type == "http":
        data["endpoint"] = row.readiness_endpoint
    return {"type": row.readiness_type, "data": data}


def _command(row: Row[Any], world: World) -> str | None:
    if not world.single:
        return _HIDDEN_IN_LISTS
    command: str | None = row.command or world.related["detected"].get((row.app_guid, row.type))
    space_guid = world.related["spaces"].get(row.app_guid)
    actor = world.actor
    if actor is None or not (
        actor.reads_secrets or (space_guid is not None and has_in_space(world.tx, actor, space_guid, access.DEVELOPER))
    ):
        return _HIDDEN
    return command


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/processes/{row.guid}"
    relationships = {"app": to_one(row.app_guid), "revision": to_one(row.revision_guid)}
    return {
        **common(row),
        "version": row.version,
        "type": row.type,
        "command": _command(row, world),
        "user": row.user or "vcap",
        "instances": row.instances,
        "memory_in_mb": row.memory_mb,
        "disk_in_mb": row.disk_mb,
        "log_rate_limit_in_bytes_per_second": row.log_rate,
        "health_check": _health_check(row),
        "readiness_health_check": _readiness(row),
        "relationships": relationships,
        "metadata": metadata_of(row),
        "links": {
            "self": world.link(path),
            "scale": world.link(path + "/actions/scale", "POST"),
            "app": world.link(f"/v3/apps/{row.app_guid}"),
            "space": world.link(f"/v3/spaces/{world.related['spaces'].get(row.app_guid, '')}"),
            "stats": world.link(path + "/stats"),
            "process_instances": world.link(path + "/process_instances"),
        },
    }


def _spaces_of_apps(world: World, page: Any) -> dict[str, str]:
    statement = select(apps.c.guid, apps.c.space_guid).where(apps.c.guid.in_({row.app_guid for row in page}))
    return {row.guid: row.space_guid for row in world.tx.all(statement)}


def _detected(world: World, page: Any) -> dict[tuple[str, str], str]:
    """Commands that the current droplets name, for single processes only: lists hide commands."""
    return rules.detected_commands(world.tx, {row.app_guid for row in page}) if world.single else {}


PROCESSES = Resource(
    name="process",
    path="/v3/processes",
    table=processes,
    view=view,
    shape=Process,
    visible=visibility.by_app(processes.c.app_guid),
    related={"spaces": _spaces_of_apps, "detected": _detected},
    filters=[
        Filter("types", processes.c.type),
        Filter(
            "space_guids",
            lambda guids: processes.c.app_guid.in_(select(apps.c.guid).where(apps.c.space_guid.in_(guids))),
        ),
        Filter(
            "organization_guids",
            lambda guids: processes.c.app_guid.in_(
                select(apps.c.guid)
                .join(spaces, spaces.c.guid == apps.c.space_guid)
                .where(spaces.c.organization_guid.in_(guids))
            ),
        ),
        Filter("app_guids", processes.c.app_guid),
    ],
    embeds=[Embed("process_instances", lambda world, rows: instances.briefs(world.tx, rows))],
)

Verb = Callable[[Call[Any, Any], Row[Any]], Any]


def of_app(verb: Verb) -> Callable[[Call[Any, Any]], Any]:
    """A verb of one process, for the paths that name it by app and type."""

    def run(call: Call[Row[Any], Any]) -> Any:
        process = rules.newest(call.tx, call.row.guid, call.path["type"])
        if process is None:
            raise errors.not_found("Process")
        return verb(call, process)

    run.__doc__ = verb.__doc__
    return run


def itself(verb: Verb) -> Callable[[Call[Any, Any]], Any]:
    """A verb of one process, for the paths that name it by guid."""

    def run(call: Call[Row[Any], Any]) -> Any:
        return verb(call, call.row)

    run.__doc__ = verb.__doc__
    return run


def show_process(call: Call[Any, None], process: Row[Any]) -> Any:
    """Get one process."""
    shown = [call.present(PROCESSES, process)]
    for embed in listing.wanted_embeds_of(PROCESSES, call.query):
        shown = listing.embedded(embed, call.world(), [process], shown)
    return Reply(200, shown[0])


def update_process(call: Call[Any, Update], process: Row[Any]) -> Row[Any]:
    """Change a process's command, user, health checks or metadata."""
    return rules.update(call.tx, call.settings, call.actor, process, call.body.given)


def scale_process(call: Call[Any, Scale], process: Row[Any]) -> Row[Any]:
    """Change how many instances run and how much each may have."""
    return rules.scale(call.tx, call.settings, call.actor, process, call.body.given)


def stats(call: Call[Any, None], process: Row[Any]) -> Reply:
    """What the instances of a process are doing and using."""
    found = instances.stats(call.tx, process, call.services.metrics(), call.settings.defaults.instance_file_descriptors)
    return Reply(200, {"resources": found}, early=instances.is_starting(call.tx, process, found))


def process_instances(call: Call[Any, None], process: Row[Any]) -> Reply:
    """The instances of a process: index, state, since."""
    world = call.world()
    path = f"/v3/processes/{process.guid}"
    links = {"self": world.link(path + "/process_instances"), "process": world.link(path)}
    return Reply(200, {"resources": instances.briefs(call.tx, [process])[process.guid], "links": links})


def terminate(call: Call[Any, None], process: Row[Any]) -> None:
    """Stop one instance; the runtime replaces it."""
    index = call.path["index"]
    if not index.isascii() or not index.isdigit() or not int(index[:10]) < process.instances:
        raise errors.not_found("Instance")
    instances.terminate(call.tx, call.actor, process, int(index))


_MANAGE_OWN = access.in_space(*access.MANAGE_APPS)
_MANAGE = access.in_space_of_app(*access.MANAGE_APPS)
_ONE = PROCESSES.path + "/{guid}"
_OF_APP = "/v3/apps/{guid}/processes/{type}"
_EMBED = (Parameter("embed", "Adds the instances.", ("process_instances",)),)

OPERATIONS: list[Operation] = [
    list_(PROCESSES),
    list_(
        PROCESSES,
        path="/v3/apps/{guid}/processes",
        parent=APPS,
        within=lambda app: processes.c.app_guid == app,
        filters=["types"],
        doc="List the processes of an app.",
    ),
    Operation("GET", _ONE, itself(show_process), target=PROCESSES, query=_EMBED, query_status=400),
    Operation("GET", _OF_APP, of_app(show_process), target=APPS, returns=PROCESSES, query=_EMBED, query_status=400),
    update(PROCESSES, Update, itself(update_process), allow=_MANAGE),
    Operation("PATCH", _OF_APP, of_app(update_process), target=APPS, returns=PROCESSES, body=Update, allow=_MANAGE_OWN),
    Operation(
        "POST", _ONE + "/actions/scale", itself(scale_process), target=PROCESSES, body=Scale, allow=_MANAGE, status=202
    ),
    Operation(
        "POST",
        _OF_APP + "/actions/scale",
        of_app(scale_process),
        target=APPS,
        returns=PROCESSES,
        body=Scale,
        allow=_MANAGE_OWN,
        status=202,
    ),
    Operation("GET", _ONE + "/stats", itself(stats), target=PROCESSES, bells=["instances"]),
    Operation("GET", _OF_APP + "/stats", of_app(stats), target=APPS, bells=["instances"]),
    Operation("GET", _ONE + "/process_instances", itself(process_instances), target=PROCESSES),
    Operation("DELETE", _ONE + "/instances/{index}", itself(terminate), target=PROCESSES, allow=_MANAGE, status=204),
    Operation("DELETE", _OF_APP + "/instances/{index}", of_app(terminate), target=APPS, allow=_MANAGE_OWN, status=204),
]
