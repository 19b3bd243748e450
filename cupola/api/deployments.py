"""Deployments: replacing what an app runs without interrupting it, all at once in turn (rolling) or on trial (canary)."""

from collections.abc import Iterator
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, and_, case, or_, select

from cupola import errors
from cupola.api import access
from cupola.clock import format_api
from cupola.domain import access as rules_of_access
from cupola.domain import deployments as rules
from cupola.domain import visibility
from cupola.rest.message import Message, MetadataOnly, anything, integer, metadata, nested, to_one
from cupola.rest.operation import Call, Operation, Reply, create, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Resource, World
from cupola.store import rows
from cupola.store.apps import apps
from cupola.store.deployments import deployments

__all__ = ["DEPLOYMENTS", "OPERATIONS"]

_STRATEGIES = ("rolling", "canary")
_OPTIONS = (
    "canary",
    "max_in_flight",
    "web_instances",
    "memory_in_mb",
    "disk_in_mb",
    "log_rate_limit_in_bytes_per_second",
)
_WEIGHTS = "must be an Integer between 1-100 (inclusive)"


class _Relationships(Message):
    app = to_one(required=True)


class _Scale(Message):
    """Options that are worded like those of scaling a process."""

    rejects_unknown = False
    web_instances = integer(nullable=True, at_least=0, at_most=2_147_483_647)
    memory_in_mb = integer(nullable=True, more_than=0, at_most=2_147_483_647)
    disk_in_mb = integer(nullable=True, more_than=0, at_most=2_147_483_647)
    log_rate_limit_in_bytes_per_second = integer(nullable=True, at_least=-1, at_most=9_223_372_036_854_775_807)


def _named(field: str, value: Any) -> Iterator[str]:
    if not isinstance(value, dict) or not isinstance(value.get("guid"), str):
        yield f'{field} must be structured like this: "{field.lower()}: {{"guid": "valid-guid"}}"'


def _option_problems(options: Any) -> Iterator[str]:
    if not isinstance(options, dict):
        yield "Options must be an object"
        return
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        yield f"Options has unsupported key(s): {', '.join(unknown)}"
    yield from _Scale(options).problems()
    most = options.get("max_in_flight")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        yield "Max in flight must be an integer greater than 0"


def _canary_problems(canary: Any) -> Iterator[str]:
    if not isinstance(canary, dict):
        yield "Options canary must be an object"
        return
    unknown = [name for name in canary if name != "steps"]
    if unknown:
        yield f"Options canary has unsupported key(s): {', '.join(unknown)}"
    steps = canary.get("steps")
    if steps is None:
        return
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        yield "Options canary steps must be an array of objects"
        return
    for step in steps:
        unknown = [name for name in step if name != "instance_weight"]
        if unknown:
            yield f"Options canary steps has unsupported key(s): {', '.join(unknown)}"
    if any("instance_weight" not in step for step in steps):
        yield 'Options canary steps missing key: "instance_weight"'
    weights = [step.get("instance_weight") for step in steps]
    if any(isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= 100 for weight in weights):
        yield f"Options canary steps instance weight {_WEIGHTS}"
    elif weights != sorted(weights):
        yield "Options canary steps instance weight must be sorted in ascending order"


def _strategy_problems(value: Any) -> Iterator[str]:
    if value not in _STRATEGIES:
        yield f"Strategy '{value}' is not a supported deployment strategy"


_GUID_SCHEMA = {"type": "object", "properties": {"guid": {"type": "string"}}, "required": ["guid"]}
_OPTIONS_SCHEMA = {
    "type": "object",
    "properties": {
        "max_in_flight": {"type": ["integer", "null"], "minimum": 1},
        **_Scale.schema()["properties"],
        "canary": {
            "type": ["object", "null"],
            "properties": {
                "steps": {
                    "type": ["array", "null"],
                    "items": {
                        "type": "object",
                        "properties": {"instance_weight": {"type": "integer", "minimum": 1, "maximum": 100}},
                        "required": ["instance_weight"],
                        "additionalProperties": False,
                    },
                }
            },
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}


class Create(Message):
    """What to deploy (a droplet, a revision, or the app's current droplet) and how."""

    relationships = nested(_Relationships, required=True)
    droplet = anything(lambda value: _named("Droplet", value), _GUID_SCHEMA)
    revision = anything(lambda value: _named("Revision", value), _GUID_SCHEMA)
    strategy = anything(_strategy_problems, {"type": ["string", "null"], "enum": [*_STRATEGIES, None]})
    options = anything(_option_problems, _OPTIONS_SCHEMA)
    metadata = metadata()

    def rules(self) -> Iterator[str]:
        if self.given.get("droplet") and self.given.get("revision"):
            yield "Droplet Cannot set both fields 'droplet' and 'revision'"
        options = self.given.get("options")
        canary = options.get("canary") if isinstance(options, dict) else None
        if canary is not None and self.given.get("strategy") != "canary":
            yield "Options canary are only valid for Canary deployments"
        elif canary is not None:
            yield from _canary_problems(canary)


class Deployment(TypedDict):
    """A deployment as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    status: dict[str, Any]
    strategy: str
    options: dict[str, Any]
    droplet: dict[str, str | None]
    previous_droplet: dict[str, str | None]
    new_processes: list[dict[str, str]]
    revision: dict[str, Any] | None
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def _moment(value: int | None) -> str | None:
    return None if value is None else format_api(value)


def _status(row: Row[Any]) -> dict[str, Any]:
    details = {
        "last_successful_healthcheck": _moment(row.last_healthy_at),
        "last_status_change": _moment(row.status_changed_at),
    }
    if row.error:
        details["error"] = row.error
    status: dict[str, Any] = {"value": row.status_value, "reason": row.status_reason, "details": details}
    if row.canary_step is not None:
        current = min(row.canary_step, row.canary_total)
        status["canary"] = {"steps": {"current": current, "total": row.canary_total}}
    return status


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/deployments/{row.guid}"
    links = {"self": world.link(path), "app": world.link(f"/v3/apps/{row.app_guid}")}
    if row.status_value == "ACTIVE":
        links["cancel"] = world.link(path + "/actions/cancel", "POST")
    if row.status_reason == "PAUSED":
        links["continue"] = world.link(path + "/actions/continue", "POST")
    revision = None
    if row.revision_guid is not None and row.app_guid in world.related["with_revisions"]:
        revision = {"guid": row.revision_guid, "version": row.revision_version}
    return {
        **common(row),
        "status": _status(row),
        "strategy": row.strategy,
        "options": {"max_in_flight": 1, **row.options},
        "droplet": {"guid": row.droplet_guid},
        "previous_droplet": {"guid": row.previous_droplet_guid},
        "new_processes": row.new_processes,
        "revision": revision,
        "relationships": {"app": one(row.app_guid)},
        "metadata": metadata_of(row),
        "links": links,
    }


def _with_revisions(world: World, page: Any) -> set[str]:
    """Guids of the page's apps whose feature `revisions` is on."""
    guids = {row.app_guid for row in page}
    return set(world.tx.scalars(select(apps.c.guid).where(apps.c.guid.in_(guids), apps.c.revisions_enabled.is_(True))))


def _state() -> ColumnElement[str]:
    """What `states` filters by: the one word that older clients know a deployment's state by."""
    columns = deployments.c
    # Before and at a pause, a superseded canary had not been rolled out.
    pausing = columns.canary_step <= columns.canary_total
    undone = or_(columns.kept_process_guid.is_not(None), pausing)
    superseded = columns.status_reason == "SUPERSEDED"
    return case(
        (and_(columns.status_reason == "DEPLOYING", pausing), "PREPAUSED"),
        (and_(superseded, undone), "CANCELED"),
        (superseded, "DEPLOYED"),
        else_=columns.status_reason,
    )


DEPLOYMENTS = Resource(
    name="deployment",
    path="/v3/deployments",
    table=deployments,
    view=view,
    shape=Deployment,
    visible=visibility.by_app(deployments.c.app_guid),
    related={"with_revisions": _with_revisions},
    filters=[
        Filter("app_guids", deployments.c.app_guid),
        Filter("states", _state()),
        Filter("status_reasons", deployments.c.status_reason),
        Filter("status_values", deployments.c.status_value),
    ],
)


def create_deployment(call: Call[None, Create]) -> Row[Any]:
    """Deploy a droplet, a revision, or the app's current droplet, without interrupting the app."""
    row = rules.create(call.tx, call.settings, call.actor, call.body.given)
    _say(call, row, f"Creating deployment for app with guid {row.app_guid}")
    return row


def update_deployment(call: Call[Row[Any], MetadataOnly]) -> Row[Any]:
    """Relabel a deployment."""
    return rows.change(call.tx, deployments, call.row, {}, call.body.metadata)


def cancel(call: Call[Row[Any], None]) -> Reply:
    """Cancel a deployment: the instances that ran before come back."""
    rules.cancel(call.tx, call.actor, call.row)
    _say(call, call.row, f"Cancelling deployment for app with guid {call.row.app_guid}")
    return Reply(200)


def continue_(call: Call[Row[Any], None]) -> Reply:
    """Take a paused canary deployment to its next step."""
    rules.continue_(call.tx, call.actor, call.row)
    _say(call, call.row, f"Continuing deployment for app with guid {call.row.app_guid}")
    return Reply(200)


def _say(call: Call[Any, Any], deployment: Row[Any], text: str) -> None:
    log = call.services.app_log
    if log is not None:
        call.tx.after_commit(lambda: log.line(deployment.app_guid, "API", "0", text))


def _may_steer(call: Call[Row[Any], Any]) -> None:
    # As upstream, who may not steer a deployment is told that there is none.
    space_guid = access.space_of_app(call, call.row.app_guid)
    if not rules_of_access.has_in_space(call.tx, call.actor, space_guid, access.MANAGE_APPS):
        raise errors.not_found(DEPLOYMENTS.shown)
    rules_of_access.require_active(call.tx, call.actor, space_guid)


_ONE = DEPLOYMENTS.path + "/{guid}"


def show_deployment(call: Call[Row[Any], None]) -> Reply:
    """Get one deployment."""
    deploying = call.row.status_value == "ACTIVE" and call.row.status_reason == "DEPLOYING"
    return Reply(200, call.present(DEPLOYMENTS, call.row), early=deploying)


OPERATIONS: list[Operation] = [
    list_(DEPLOYMENTS),
    show(DEPLOYMENTS, run=show_deployment, bells=["deployments", "instances"]),
    create(DEPLOYMENTS, Create, create_deployment),
    update(DEPLOYMENTS, MetadataOnly, update_deployment, allow=access.in_space_of_app(*access.DEVELOPER)),
    Operation("POST", _ONE + "/actions/cancel", cancel, target=DEPLOYMENTS, allow=_may_steer, produces=""),
    Operation("POST", _ONE + "/actions/continue", continue_, target=DEPLOYMENTS, allow=_may_steer, produces=""),
]
