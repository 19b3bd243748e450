"""Feature flags: always the full known set, with upstream's defaults until somebody sets one."""

from typing import Any

from sqlalchemy import Row, delete, insert

from cupola import clock, errors
from cupola.api import access
from cupola.domain import feature_flags as rules
from cupola.rest import listing
from cupola.rest.message import Message, boolean, string
from cupola.rest.operation import Call, Operation, Parameter, Reply
from cupola.store.platform import feature_flags

__all__ = ["OPERATIONS"]


class Update(Message):
    """On or off, and what is said when it is off."""

    enabled = boolean()
    custom_error_message = string(nullable=True, min_length=1, max_length=250)


class Create(Message):
    """A flag by its name, and what it is to be."""

    name = string(required=True, one_of=tuple(rules.DEFAULTS))
    enabled = boolean(required=True)
    custom_error_message = string(nullable=True, min_length=1, max_length=250)


def _shown(api: str, name: str, row: Row[Any] | None) -> dict[str, Any]:
    return {
        "name": name,
        "enabled": rules.DEFAULTS[name] if row is None else row.enabled,
        "updated_at": None if row is None else clock.format_api(row.updated_at),
        "custom_error_message": None if row is None else row.custom_error_message,
        "links": {"self": {"href": f"{api}/v3/feature_flags/{name}"}},
    }


def list_flags(call: Call[None, None]) -> Reply:
    """List all feature flags."""
    if "created_ats" in call.query:
        raise call.query.bad("Filtering by 'created_ats' is not allowed on this resource.")
    order = call.query.order(["name"])
    known = rules.all_flags(call.tx)
    names = sorted(rules.DEFAULTS, reverse=bool(order and order[1]))
    moments = call.query.timestamps("updated_ats")
    if moments:
        names = [
            name for name in names if name in known and all(_holds(known[name].updated_at, one) for one in moments)
        ]
    shown = [_shown(call.settings.api_url, name, known.get(name)) for name in names]
    return Reply(200, listing.page_of(call.query, f"{call.settings.api_url}/v3/feature_flags", shown))


def _holds(value: int, condition: Any) -> bool:
    second = value // 1_000_000 * 1_000_000
    if condition.operator == "":
        return bool(second in condition.values)
    (limit,) = condition.values
    holds = {"gt": second > limit, "gte": second >= limit, "lt": second < limit, "lte": second <= limit}
    return bool(holds[condition.operator])


def _known(call: Call[Any, Any]) -> str:
    name = call.path["name"]
    if name not in rules.DEFAULTS:
        raise errors.not_found("Feature flag")
    return name


def show_flag(call: Call[None, None]) -> Reply:
    """Get one feature flag."""
    name = _known(call)
    return Reply(200, _shown(call.settings.api_url, name, rules.all_flags(call.tx).get(name)))


def update_flag(call: Call[None, Update]) -> Reply:
    """Switch a feature flag, or change what is said when it is off."""
    return _set(call, _known(call), 200)


def create_flag(call: Call[None, Create]) -> Reply:
    """Set a feature flag by its name; all of them exist from the start."""
    return _set(call, call.body.name, 201)


def _set(call: Call[None, Any], name: str, status: int) -> Reply:
    if call.body.enabled and name in rules.UNAVAILABLE:
        raise errors.unprocessable(f"{name} cannot be enabled: {rules.UNAVAILABLE[name]}.")
    now = rules.all_flags(call.tx).get(name)
    message = now.custom_error_message if now is not None else None
    values = {
        "name": name,
        "enabled": (now.enabled if now is not None else rules.DEFAULTS[name]),
        "custom_error_message": call.body.custom_error_message if call.body.has("custom_error_message") else message,
        "updated_at": call.tx.now,
    }
    if call.body.enabled is not None:
        values["enabled"] = call.body.enabled
    call.tx.run(delete(feature_flags).where(feature_flags.c.name == name))
    call.tx.run(insert(feature_flags).values(values))
    return Reply(status, _shown(call.settings.api_url, name, rules.all_flags(call.tx)[name]))


_PATH = "/v3/feature_flags"
_QUERY = tuple(Parameter(name) for name in ("page", "per_page", "order_by", "created_ats", "updated_ats", "guids"))

OPERATIONS: list[Operation] = [
    Operation("GET", _PATH, list_flags, query=_QUERY, query_status=400),
    Operation("POST", _PATH, create_flag, body=Create, allow=access.ADMIN, status=201),
    Operation("GET", _PATH + "/{name}", show_flag),
    Operation("PATCH", _PATH + "/{name}", update_flag, body=Update, allow=access.ADMIN),
]
