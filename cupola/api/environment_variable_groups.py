"""Environment variable groups: running and staging."""

from collections.abc import Iterator
from typing import Any

from cupola import clock, errors
from cupola.api import access
from cupola.domain import variable_groups as rules
from cupola.domain.apps import forbidden_names
from cupola.rest.message import Message, object_
from cupola.rest.operation import Call, Operation, Reply

__all__ = ["OPERATIONS"]


class Update(Message):
    """`var` is merged into the group; null removes."""

    var = object_(checks=[forbidden_names], values={"type": ["string", "null"]})

    def rules(self) -> Iterator[str]:
        variables = self.given.get("var")
        if isinstance(variables, dict):
            for name, value in variables.items():
                if value is not None and not isinstance(value, str):
                    yield f"Non-string value in environment variable for key '{name}', value '{value}'"


def _known(call: Call[Any, Any]) -> str:
    if call.path["name"] not in rules.NAMES:
        raise errors.not_found("Environment variable group")
    return call.path["name"]


def show_group(call: Call[None, None]) -> Reply:
    """Get the variables that all apps have while running, or while staging."""
    name = _known(call)
    row = rules.find(call.tx, name)
    body = {
        "name": name,
        "updated_at": None if row is None else clock.format_api(row.updated_at),
        "var": rules.variables(call.tx, name),
        "links": {"self": {"href": f"{call.settings.api_url}/v3/environment_variable_groups/{name}"}},
    }
    return Reply(200, body)


def update_group(call: Call[None, Update]) -> Reply:
    """Change the variables that all apps have; they take effect when apps start or are staged."""
    rules.update(call.tx, _known(call), call.body.var or {})
    return show_group(call)  # type: ignore[arg-type]  # the body makes no difference to what is shown


_PATH = "/v3/environment_variable_groups/{name}"

OPERATIONS: list[Operation] = [
    Operation("GET", _PATH, show_group),
    Operation("PATCH", _PATH, update_group, body=Update, allow=access.ADMIN),
]
