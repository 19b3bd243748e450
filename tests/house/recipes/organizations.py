"""Organizations, spaces, users, roles."""

from collections.abc import Callable

from tests.house.town import Recipe, Town


def _other_space(town: Town) -> str:
    return str(town.cloud.space("other-space", town["organization"])["guid"])


def _plain_user(town: Town) -> str:
    user = town.cloud.user(organization_user=town["organization"])
    assert user.actor is not None
    return user.actor.guid


def _free(town: Town) -> None:
    """Unshare and unlock what keeps the organization from being deleted."""
    path = f"/v3/domains/{town['private_domain']}/relationships/shared_organizations/{town['other_organization']}"
    town.cloud.admin.ok("DELETE", path, status=204)
    town.cloud.admin.ok("DELETE", f"/v3/locks/{town['lock']}", status=202)


def _role(town: Town) -> str:
    links = {"user": {"data": {"guid": town["user"]}}, "space": {"data": {"guid": town["space"]}}}
    body = {"type": "space_auditor", "relationships": links}
    return str(town.cloud.admin.ok("POST", "/v3/roles", body, 201)["guid"])


MAKERS: dict[str, Callable[[Town], str]] = {
    "organization": lambda town: str(town.cloud.org("town")["guid"]),
    "space": lambda town: str(town.cloud.space("square", town["organization"])["guid"]),
    "other_space": _other_space,
    "other_organization": lambda town: str(town.cloud.org("village")["guid"]),
    "user": _plain_user,
    "role": _role,
}

_IN_ORGANIZATION = {"organization": {"data": {"guid": "$organization"}}}
_ROLE = {"user": {"data": {"guid": "$user"}}}

RECIPES = {
    "GET /v3/organizations": Recipe(sees="organization"),
    "GET /v3/organizations/{guid}": Recipe("organization"),
    "POST /v3/organizations": Recipe(body={"name": "new"}),
    "PATCH /v3/organizations/{guid}": Recipe("organization", {"name": "renamed"}),
    "DELETE /v3/organizations/{guid}": Recipe("organization", first=_free),
    "GET /v3/organizations/{guid}/users": Recipe("organization", sees="user"),
    "GET /v3/spaces": Recipe(sees="space"),
    "GET /v3/spaces/{guid}": Recipe("space"),
    "POST /v3/spaces": Recipe(body={"name": "new", "relationships": _IN_ORGANIZATION}),
    "PATCH /v3/spaces/{guid}": Recipe("space", {"name": "renamed"}),
    "DELETE /v3/spaces/{guid}": Recipe("space"),
    "GET /v3/spaces/{guid}/users": Recipe("space", sees="user"),
    "GET /v3/users": Recipe(sees="user"),
    "GET /v3/users/{guid}": Recipe("user"),
    "POST /v3/users": Recipe(body={"guid": "somebody-new"}),
    "PATCH /v3/users/{guid}": Recipe("user", {"metadata": {"labels": {"tier": "gold"}}}),
    "DELETE /v3/users/{guid}": Recipe("user"),
    "GET /v3/roles": Recipe(sees="role"),
    "GET /v3/roles/{guid}": Recipe("role"),
    "POST /v3/roles": Recipe(
        body={
            "type": "space_developer",
            "relationships": {**_ROLE, "space": {"data": {"guid": "$space"}}},
        }
    ),
    "DELETE /v3/roles/{guid}": Recipe("role"),
}
