"""What makes an app run: its current droplet, start, stop, restart, and the environment it runs in."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row

from cupola import errors
from cupola.api import access
from cupola.api.apps import APPS, may_read_environment
from cupola.domain import audit, environments, feature_flags, lifecycle
from cupola.domain.access import has_in_space
from cupola.rest.message import Message, anything
from cupola.rest.operation import Call, Operation, Reply
from cupola.rest.present import to_one
from cupola.store import rows
from cupola.store.staging import droplets

__all__ = ["OPERATIONS"]


def _droplet_problems(value: Any) -> Iterator[str]:
    if value is None:
        yield "Current droplet cannot be removed. Replace it with a preferred droplet."
    elif not isinstance(value, dict) or not isinstance(value.get("guid"), str):
        yield 'Data must be structured like this: "data": {"guid": "valid-guid"}'


class SetDroplet(Message):
    """The droplet that the app shall run."""

    rejects_unknown = False
    data = anything(_droplet_problems, {"type": "object"}, required=True, nullable=False)


def _lifecycle_allowed(call: Call[Row[Any], Any]) -> None:
    if call.row.lifecycle_type in {"docker", "cnb"}:
        feature_flags.require(call.tx, call.actor, f"diego_{call.row.lifecycle_type}")


def _has_droplet(call: Call[Row[Any], Any]) -> None:
    # Tested before the role, as upstream.
    if call.row.droplet_guid is None:
        raise errors.unprocessable("Assign a droplet before starting this app.")
    _MANAGE(call)


def start(call: Call[Row[Any], None]) -> Row[Any]:
    """Start an app's processes."""
    _lifecycle_allowed(call)
    return lifecycle.start_app(call.tx, call.row, call.actor)


def stop(call: Call[Row[Any], None]) -> Row[Any]:
    """Stop an app's processes."""
    return lifecycle.stop_app(call.tx, call.row, call.actor)


def restart(call: Call[Row[Any], None]) -> Row[Any]:
    """Replace an app's instances by new ones."""
    _lifecycle_allowed(call)
    return lifecycle.restart_app(call.tx, call.row, call.actor)


def set_droplet(call: Call[Row[Any], SetDroplet]) -> Reply:
    """Choose the droplet that an app runs from its next start on."""
    droplet = rows.by_guid(call.tx, droplets, call.body.data["guid"])
    if droplet is None:
        raise errors.unprocessable(
            "Unable to assign current droplet. Ensure the droplet exists and belongs to this app."
        )
    app = lifecycle.set_current_droplet(call.tx, call.settings, call.actor, call.row, droplet)
    world, path = call.world(), f"/v3/apps/{app.guid}"
    links = {
        "self": world.link(path + "/relationships/current_droplet"),
        "related": world.link(path + "/droplets/current"),
    }
    return Reply(200, {**to_one(app.droplet_guid), "links": links})


def show_env(call: Call[Row[Any], None]) -> Reply:
    """The complete environment of an app: its own variables, the groups', and what the platform adds."""
    app = call.row
    event = "audit.app.environment.show"
    audit.record(call.tx, event, call.actor, app.guid, "app", app.name, {}, space_guid=app.space_guid)
    body = environments.document(call.tx, call.settings, app)
    developer = call.actor.reads_secrets or has_in_space(call.tx, call.actor, app.space_guid, access.DEVELOPER)
    if not developer:
        body["system_env_json"] = {"redacted_message": "[PRIVATE DATA HIDDEN]"}
    return Reply(200, body)


_MANAGE = access.in_space(*access.MANAGE_APPS)
_BASE = "/v3/apps/{guid}"

OPERATIONS: list[Operation] = [
    Operation("POST", _BASE + "/actions/start", start, target=APPS, allow=_has_droplet),
    Operation("POST", _BASE + "/actions/stop", stop, target=APPS, allow=_MANAGE),
    Operation("POST", _BASE + "/actions/restart", restart, target=APPS, allow=_has_droplet),
    Operation(
        "PATCH", _BASE + "/relationships/current_droplet", set_droplet, target=APPS, body=SetDroplet, allow=_MANAGE
    ),
    Operation("GET", _BASE + "/env", show_env, target=APPS, allow=may_read_environment, writes=True),
]
