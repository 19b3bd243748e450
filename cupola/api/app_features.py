"""App features: switches of one app, in a fixed order."""

from typing import Any

from sqlalchemy import Row

from cupola import errors
from cupola.api.apps import APPS
from cupola.domain.access import MANAGE_APPS, WRITE_IN_SPACE, require_in_space
from cupola.rest import listing
from cupola.rest.message import Message, boolean
from cupola.rest.operation import Call, Operation, Reply
from cupola.store import rows
from cupola.store.apps import apps

__all__ = ["OPERATIONS"]

_COLUMNS = {
    "ssh": ("ssh_enabled", "Enable SSHing into the app."),
    "revisions": ("revisions_enabled", "Enable versioning of an application"),
    "service-binding-k8s": ("service_binding_k8s", "Enable k8s service bindings for the app"),
    "file-based-vcap-services": ("file_based_vcap_services", "Enable file-based VCAP service bindings for the app"),
}
_EXCLUSIVE = {"service-binding-k8s": "file-based-vcap-services", "file-based-vcap-services": "service-binding-k8s"}


class Update(Message):
    """On or off."""

    enabled = boolean(required=True)


def _shown(app: Row[Any], name: str) -> dict[str, Any]:
    column, description = _COLUMNS[name]
    return {"name": name, "description": description, "enabled": app._mapping[column]}


def _known(call: Call[Row[Any], Any]) -> str:
    name = call.path["name"]
    if name not in _COLUMNS:
        raise errors.not_found("Feature")
    return name


def list_features(call: Call[Row[Any], None]) -> Reply:
    """List an app's features."""
    url = f"{call.settings.api_url}/v3/apps/{call.row.guid}/features"
    return Reply(200, listing.page_of(call.query, url, [_shown(call.row, name) for name in _COLUMNS]))


def show_feature(call: Call[Row[Any], None]) -> Reply:
    """Get one feature of an app."""
    return Reply(200, _shown(call.row, _known(call)))


def may_update(call: Call[Row[Any], Update]) -> None:
    """Developers; supporters change `revisions` only."""
    roles = MANAGE_APPS if call.path["name"] == "revisions" else WRITE_IN_SPACE
    require_in_space(call.tx, call.actor, call.row.space_guid, roles)


def update_feature(call: Call[Row[Any], Update]) -> Reply:
    """Switch a feature of an app on or off."""
    name = _known(call)
    other = _EXCLUSIVE.get(name)
    if other and call.body.enabled and call.row._mapping[_COLUMNS[other][0]]:
        raise errors.unprocessable(f"'{name}' feature cannot be enabled when '{other}' feature is enabled.")
    changed = rows.change(call.tx, apps, call.row, {_COLUMNS[name][0]: call.body.enabled})
    return Reply(200, _shown(changed, name))


_BASE = "/v3/apps/{guid}/features"

OPERATIONS: list[Operation] = [
    Operation("GET", _BASE, list_features, target=APPS),
    Operation("GET", _BASE + "/{name}", show_feature, target=APPS),
    Operation("PATCH", _BASE + "/{name}", update_feature, target=APPS, body=Update, allow=may_update),
]
