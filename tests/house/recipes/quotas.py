"""Organization and space quotas, isolation segments, space features, usage summaries."""

from collections.abc import Callable
from typing import Any

from tests.house.town import Recipe, Town


def _made(path: str, name: str, **relationships: Any) -> Callable[[Town], str]:
    def make(town: Town) -> str:
        body: dict[str, Any] = {"name": name}
        if relationships:
            body["relationships"] = town.filled(relationships)
        return str(town.cloud.admin.ok("POST", path, body, 201)["guid"])

    return make


def _segment(town: Town) -> str:
    guid = _made("/v3/isolation_segments", "town-segment")(town)
    entitled = {"data": [{"guid": town["organization"]}]}
    town.cloud.admin.ok("POST", f"/v3/isolation_segments/{guid}/relationships/organizations", entitled)
    return guid


_OWNER = {"data": {"guid": "$organization"}}
_ORGANIZATIONS = {"data": [{"guid": "$organization"}]}
_SPACES = {"data": [{"guid": "$space"}]}
_SEGMENT = {"data": {"guid": "$isolation_segment"}}

MAKERS: dict[str, Callable[[Town], str]] = {
    "organization_quota": _made("/v3/organization_quotas", "town-quota"),
    "space_quota": _made("/v3/space_quotas", "town-quota", organization=_OWNER, spaces=_SPACES),
    "unused_space_quota": _made("/v3/space_quotas", "spare-quota", organization=_OWNER),
    "isolation_segment": _segment,
    "unused_isolation_segment": _made("/v3/isolation_segments", "spare-segment"),
}

_QUOTAS = "/v3/organization_quotas"
_SPACE_QUOTAS = "/v3/space_quotas"
_SEGMENTS = "/v3/isolation_segments"
_DEFAULT = "/v3/organizations/{guid}/relationships/default_isolation_segment"
_ASSIGNED = "/v3/spaces/{guid}/relationships/isolation_segment"
_SSH = {"name": "ssh"}

RECIPES = {
    f"GET {_QUOTAS}": Recipe(sees="organization_quota"),
    f"GET {_QUOTAS}/{{guid}}": Recipe("organization_quota"),
    f"POST {_QUOTAS}": Recipe(body={"name": "new"}),
    f"PATCH {_QUOTAS}/{{guid}}": Recipe("organization_quota", {"name": "renamed"}),
    f"DELETE {_QUOTAS}/{{guid}}": Recipe("organization_quota"),
    f"POST {_QUOTAS}/{{guid}}/relationships/organizations": Recipe("organization_quota", _ORGANIZATIONS),
    f"GET {_SPACE_QUOTAS}": Recipe(sees="space_quota"),
    f"GET {_SPACE_QUOTAS}/{{guid}}": Recipe("space_quota"),
    f"POST {_SPACE_QUOTAS}": Recipe(body={"name": "new", "relationships": {"organization": _OWNER}}),
    f"PATCH {_SPACE_QUOTAS}/{{guid}}": Recipe("space_quota", {"name": "renamed"}),
    f"DELETE {_SPACE_QUOTAS}/{{guid}}": Recipe("unused_space_quota"),
    f"POST {_SPACE_QUOTAS}/{{guid}}/relationships/spaces": Recipe("space_quota", _SPACES),
    f"DELETE {_SPACE_QUOTAS}/{{guid}}/relationships/spaces/{{space_guid}}": Recipe(
        "space_quota", path={"space_guid": "$space"}
    ),
    f"GET {_SEGMENTS}": Recipe(sees="isolation_segment"),
    f"GET {_SEGMENTS}/{{guid}}": Recipe("isolation_segment"),
    f"POST {_SEGMENTS}": Recipe(body={"name": "new"}),
    f"PATCH {_SEGMENTS}/{{guid}}": Recipe("isolation_segment", {"name": "renamed"}),
    f"DELETE {_SEGMENTS}/{{guid}}": Recipe("unused_isolation_segment"),
    f"GET {_SEGMENTS}/{{guid}}/organizations": Recipe("isolation_segment", sees="organization"),
    f"GET {_SEGMENTS}/{{guid}}/relationships/organizations": Recipe("isolation_segment"),
    f"POST {_SEGMENTS}/{{guid}}/relationships/organizations": Recipe("isolation_segment", _ORGANIZATIONS),
    f"DELETE {_SEGMENTS}/{{guid}}/relationships/organizations/{{org_guid}}": Recipe(
        "isolation_segment", path={"org_guid": "$organization"}
    ),
    f"GET {_SEGMENTS}/{{guid}}/relationships/spaces": Recipe("isolation_segment"),
    f"GET {_DEFAULT}": Recipe("organization"),
    f"PATCH {_DEFAULT}": Recipe("organization", _SEGMENT),
    f"GET {_ASSIGNED}": Recipe("space"),
    f"PATCH {_ASSIGNED}": Recipe("space", _SEGMENT),
    "GET /v3/spaces/{guid}/features": Recipe("space"),
    "GET /v3/spaces/{guid}/features/{name}": Recipe("space", path=_SSH),
    "PATCH /v3/spaces/{guid}/features/{name}": Recipe("space", {"enabled": False}, path=_SSH),
    "GET /v3/organizations/{guid}/usage_summary": Recipe("organization"),
    "GET /v3/spaces/{guid}/usage_summary": Recipe("space"),
}
