"""Registry credentials, of every scope that the API makes."""

from collections.abc import Callable
from typing import Any

from tests.house.town import Recipe, Town


def _body(location: str, **target: str) -> dict[str, Any]:
    given: dict[str, Any] = {"location": location, "username": "puller", "password": "secret"}
    if target:
        given["relationships"] = {kind: {"data": {"guid": guid}} for kind, guid in target.items()}
    return given


def _made(town: Town, body: dict[str, Any]) -> str:
    return str(town.cloud.admin.ok("POST", "/v3/registry_credentials", body, 201)["guid"])


def _platform(town: Town) -> str:
    return _made(town, _body("platform.example.com"))


def _of_organization(town: Town) -> str:
    return _made(town, _body("town.example.com", organization=town["organization"]))


def _of_space(town: Town) -> str:
    return _made(town, _body("town.example.com", space=town["space"]))


MAKERS: dict[str, Callable[[Town], str]] = {
    "registry_credential": _of_space,
    "organization_registry_credential": _of_organization,
    "platform_registry_credential": _platform,
}

_ONE = "/v3/registry_credentials/{guid}"
_CHANGE = {"username": "other"}

RECIPES = {
    "GET /v3/registry_credentials": Recipe(sees="registry_credential"),
    "GET /v3/registry_credentials?organization": Recipe(sees="organization_registry_credential"),
    "GET /v3/registry_credentials?platform": Recipe(sees="platform_registry_credential"),
    f"GET {_ONE}": Recipe("registry_credential"),
    f"GET {_ONE}?organization": Recipe("organization_registry_credential"),
    f"GET {_ONE}?platform": Recipe("platform_registry_credential"),
    "POST /v3/registry_credentials": Recipe(body=_body("new.example.com", space="$space")),
    "POST /v3/registry_credentials?organization": Recipe(body=_body("new.example.com", organization="$organization")),
    "POST /v3/registry_credentials?platform": Recipe(body=_body("new.example.com")),
    f"PATCH {_ONE}": Recipe("registry_credential", _CHANGE),
    f"PATCH {_ONE}?organization": Recipe("organization_registry_credential", _CHANGE),
    f"PATCH {_ONE}?platform": Recipe("platform_registry_credential", _CHANGE),
    f"DELETE {_ONE}": Recipe("registry_credential"),
    f"DELETE {_ONE}?organization": Recipe("organization_registry_credential"),
    f"DELETE {_ONE}?platform": Recipe("platform_registry_credential"),
}
