"""Who may use a service plan: shown and set."""

from collections.abc import Iterator
from typing import Any, TypedDict

from sqlalchemy import Row

from cupola import errors
from cupola.api.service_plans import SERVICE_PLANS, writable
from cupola.domain import service_plan_visibility as rules
from cupola.errors import CloudError
from cupola.rest.document import decode
from cupola.rest.message import Message, anything, string
from cupola.rest.operation import Call, Operation, Reply
from cupola.store import rows
from cupola.store.orgs import spaces

__all__ = ["OPERATIONS"]

_TYPES = ("public", "admin", "organization")
_ORGANIZATIONS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"guid": {"type": "string"}},
        "required": ["guid"],
        "additionalProperties": False,
    },
}


def _organization_problems(value: Any) -> Iterator[str]:
    if not isinstance(value, list) or not value:
        yield "Organizations must be a non-empty array"
    elif not all(isinstance(one, dict) and set(one) == {"guid"} and isinstance(one["guid"], str) for one in value):
        yield 'Organizations must be an array of objects like {"guid": "valid-guid"}'


class Visibility(Message):
    """Everybody, nobody but admins, or some organizations."""

    type = string(required=True, one_of=_TYPES)
    organizations = anything(_organization_problems, _ORGANIZATIONS, nullable=False)

    def rules(self) -> Iterator[str]:
        restricted = self.given.get("type") == "organization"
        if restricted and not self.has("organizations"):
            yield "Organizations must be a non-empty array"
        if not restricted and self.has("organizations"):
            yield "Organizations must be blank"


class _Named(TypedDict):
    guid: str
    name: str


class ServicePlanVisibility(TypedDict, total=False):
    """Who may use a plan, as the API shows it."""

    type: str
    organizations: list[_Named]
    space: _Named


def shown(call: Call[Any, Any], plan: Row[Any], *, with_organizations: bool = True) -> Reply:
    """The answer of all operations on a visibility."""
    body: dict[str, Any] = {"type": plan.visibility_type}
    if plan.visibility_type == "organization" and with_organizations:
        found = rules.organizations_of(call.tx, call.actor, plan)
        body["organizations"] = [{"guid": row.guid, "name": row.name} for row in found]
    if plan.visibility_type == "space":
        space = rows.by_guid(call.tx, spaces, plan.space_guid)
        assert space is not None, "a space-scoped broker never outlives its space"
        body["space"] = {"guid": space.guid, "name": space.name}
    return Reply(200, body)


def show_visibility(call: Call[Row[Any], None]) -> Reply:
    """Get who may use a service plan."""
    return shown(call, call.row)


def _parsed(call: Call[Any, Any]) -> Visibility:
    """The body. What is wrong with it is a 400 here, as upstream."""
    try:
        return Visibility.parse(decode(call.raw_body))
    except CloudError as error:
        raise errors.bad_request(error.detail) if error.status == 422 else error from None


def _change(call: Call[Row[Any], Any], *, append: bool) -> Row[Any]:
    body = _parsed(call)
    guids = list(dict.fromkeys(one["guid"] for one in body.organizations or []))
    assert body.type is not None
    return rules.change(call.tx, call.actor, call.row, body.type, guids, append=append)


def set_visibility(call: Call[Row[Any], Any]) -> Reply:
    """Set who may use a service plan; the list of organizations is replaced."""
    return shown(call, _change(call, append=False))


def extend_visibility(call: Call[Row[Any], Any]) -> Reply:
    """Set who may use a service plan; organizations are added to those that may already."""
    return shown(call, _change(call, append=True), with_organizations=False)


def remove_organization(call: Call[Row[Any], None]) -> None:
    """Take a service plan from an organization."""
    rules.remove_organization(call.tx, call.actor, call.row, call.path["org_guid"])


_PATH = SERVICE_PLANS.path + "/{guid}/visibility"


def _operation(method: str, run: Any, **more: Any) -> Operation:
    return Operation(method, _PATH, run, target=SERVICE_PLANS, shape=ServicePlanVisibility, **more)


OPERATIONS: list[Operation] = [
    _operation("GET", show_visibility),
    _operation("PATCH", set_visibility, bodies=(Visibility,), allow=writable),
    _operation("POST", extend_visibility, bodies=(Visibility,), allow=writable),
    Operation("DELETE", _PATH + "/{org_guid}", remove_organization, target=SERVICE_PLANS, allow=writable, status=204),
]
