"""Space features: switches of a space. There is one, `ssh`: whether `cf ssh` may reach the space's apps."""

from typing import Any, TypedDict

from sqlalchemy import Row

from cupola import errors
from cupola.api import access
from cupola.api.spaces import SPACES
from cupola.rest.message import Message, boolean
from cupola.rest.operation import Call, Operation, Reply
from cupola.store import rows
from cupola.store.orgs import spaces

__all__ = ["OPERATIONS"]


class Update(Message):
    """On or off."""

    enabled = boolean(required=True)


class SpaceFeature(TypedDict):
    """A feature as the API shows it."""

    name: str
    description: str
    enabled: bool


class SpaceFeatures(TypedDict):
    """All features of a space; no pages."""

    resources: list[SpaceFeature]


def _ssh(space: Row[Any]) -> SpaceFeature:
    return {"name": "ssh", "description": "Enable SSHing into apps in the space.", "enabled": space.ssh_enabled}


def _require_known(call: Call[Row[Any], Any]) -> None:
    if call.path["name"] != "ssh":
        raise errors.not_found("Feature")


def list_features(call: Call[Row[Any], None]) -> Reply:
    """List a space's features."""
    return Reply(200, {"resources": [_ssh(call.row)]})


def show_feature(call: Call[Row[Any], None]) -> Reply:
    """Get one feature of a space."""
    _require_known(call)
    return Reply(200, _ssh(call.row))


def may_update(call: Call[Row[Any], Update]) -> None:
    """Managers of the space or its organization."""
    _require_known(call)
    access.in_space("organization_manager", "space_manager")(call)


def update_feature(call: Call[Row[Any], Update]) -> Reply:
    """Switch a feature of a space on or off; it concerns connections that are made from then on."""
    return Reply(200, _ssh(rows.change(call.tx, spaces, call.row, {"ssh_enabled": call.body.enabled})))


_BASE = SPACES.path + "/{guid}/features"

OPERATIONS: list[Operation] = [
    Operation("GET", _BASE, list_features, target=SPACES, shape=SpaceFeatures),
    Operation("GET", _BASE + "/{name}", show_feature, target=SPACES, shape=SpaceFeature),
    Operation(
        "PATCH",
        _BASE + "/{name}",
        update_feature,
        target=SPACES,
        body=Update,
        allow=may_update,
        shape=SpaceFeature,
    ),
]
