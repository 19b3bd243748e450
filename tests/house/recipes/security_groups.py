"""Security groups."""

from collections.abc import Callable

from tests.house.town import Recipe, Town


def _group(town: Town) -> str:
    bound = {"data": [{"guid": town["space"]}]}
    body = {"name": "town-group", "relationships": {"running_spaces": bound, "staging_spaces": bound}}
    return str(town.cloud.admin.ok("POST", "/v3/security_groups", body, 201)["guid"])


MAKERS: dict[str, Callable[[Town], str]] = {"security_group": _group}

_SPACE = {"space_guid": "$space"}
_BASE = "/v3/security_groups/{guid}/relationships"

RECIPES = {
    "GET /v3/security_groups": Recipe(sees="security_group"),
    "GET /v3/security_groups/{guid}": Recipe("security_group"),
    "POST /v3/security_groups": Recipe(body={"name": "new"}),
    "PATCH /v3/security_groups/{guid}": Recipe("security_group", {"name": "renamed"}),
    "DELETE /v3/security_groups/{guid}": Recipe("security_group"),
    f"POST {_BASE}/running_spaces": Recipe("security_group", {"data": [{"guid": "$space"}]}),
    f"POST {_BASE}/staging_spaces": Recipe("security_group", {"data": [{"guid": "$space"}]}),
    f"DELETE {_BASE}/running_spaces/{{space_guid}}": Recipe("security_group", path=_SPACE),
    f"DELETE {_BASE}/staging_spaces/{{space_guid}}": Recipe("security_group", path=_SPACE),
    "GET /v3/spaces/{guid}/running_security_groups": Recipe("space", sees="security_group"),
    "GET /v3/spaces/{guid}/staging_security_groups": Recipe("space", sees="security_group"),
}
