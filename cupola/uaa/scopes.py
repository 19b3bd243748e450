"""Names of scopes, who has which without being asked, and the clients of a Cloud Foundry deployment."""

import re
from collections.abc import Collection, Iterable
from typing import Any

__all__ = [
    "ADMIN_GROUPS",
    "CLIENTS",
    "DEFAULT_GROUPS",
    "JWT_BEARER",
    "KNOWN_GROUPS",
    "TOKEN_EXCHANGE",
    "audience",
    "covers",
    "granted",
]

DEFAULT_GROUPS = frozenset(
    {
        "approvals.me",
        "cloud_controller.read",
        "cloud_controller.write",
        "cloud_controller_service_permissions.read",
        "oauth.approvals",
        "openid",
        "password.write",
        "profile",
        "roles",
        "scim.me",
        "scim.userids",
        "uaa.offline_token",
        "uaa.user",
        "user_attributes",
    }
)
"""Every user is in these, without a stored membership."""

ADMIN_GROUPS = frozenset(
    {
        "clients.read",
        "cloud_controller.admin",
        "doppler.firehose",
        "network.admin",
        "openid",
        "routing.router_groups.read",
        "routing.router_groups.write",
        "scim.read",
        "scim.write",
    }
)
"""Groups of the first user."""

_CF_SCOPES = (
    "clients.read",
    "cloud_controller.admin",
    "cloud_controller.admin_read_only",
    "cloud_controller.global_auditor",
    "cloud_controller.read",
    "cloud_controller.write",
    "doppler.firehose",
    "network.admin",
    "network.write",
    "openid",
    "password.write",
    "perm.admin",
    "routing.router_groups.read",
    "routing.router_groups.write",
    "scim.read",
    "scim.write",
    "uaa.user",
)

KNOWN_GROUPS = frozenset(
    {
        *DEFAULT_GROUPS,
        *ADMIN_GROUPS,
        *_CF_SCOPES,
        "clients.admin",
        "clients.secret",
        "clients.write",
        "groups.update",
        "idps.read",
        "idps.write",
        "scim.create",
        "scim.invite",
        "tokens.list",
        "tokens.revoke",
        "uaa.account_status.write",
        "uaa.admin",
        "uaa.resource",
    }
)
"""Groups of the first start."""

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105  # the name of a grant, not a secret


def _service(*authorities: str) -> dict[str, Any]:
    return {"scope": ["uaa.none"], "authorities": list(authorities), "grant_types": ["client_credentials"]}


CLIENTS: dict[str, dict[str, Any]] = {
    "cf": {
        "name": "The cf command line",
        "scope": list(_CF_SCOPES),
        "authorities": ["uaa.none"],
        "grant_types": ["password", "refresh_token", JWT_BEARER],
    },
    "ssh-proxy": {
        "name": "Access to app instances by ssh",
        "scope": ["cloud_controller.admin", "cloud_controller.read", "cloud_controller.write", "openid"],
        "authorities": ["uaa.none"],
        "grant_types": ["authorization_code"],
        "redirect_uris": ["/login"],
        "autoapprove": ["true"],
    },
    "admin": _service(
        "clients.admin",
        "clients.read",
        "clients.secret",
        "clients.write",
        "cloud_controller.admin",
        "cloud_controller.read",
        "cloud_controller.write",
        "password.write",
        "scim.read",
        "scim.write",
        "tokens.list",
        "tokens.revoke",
        "uaa.admin",
        "uaa.resource",
    ),
    "cc-service-dashboards": _service("clients.admin", "clients.read", "clients.write"),
    "cloud_controller_username_lookup": _service("scim.read", "scim.userids"),
    "cf_smoke_tests": _service(
        "clients.read", "cloud_controller.admin", "cloud_controller.read", "cloud_controller.write"
    ),
    "doppler": _service("uaa.resource"),
    "network-policy": _service("cloud_controller.admin_read_only", "uaa.resource"),
    "routing_api_client": _service("routing.router_groups.read", "routing.router_groups.write"),
}
"""Clients of the first start: `cf` is public (its secret is empty), the others get the secrets of keys/clients.json.

A redirect that begins with `/` is a path of the identity server.
"""


def audience(scopes: Iterable[str], client_id: str) -> list[str]:
    """The resources that scopes name (`cloud_controller.read` is for cloud_controller), and the client."""
    resources = {scope.rpartition(".")[0] or scope for scope in scopes}
    return sorted({*resources, client_id})


def covers(pattern: str, scope: str) -> bool:
    """Whether a client's scope, such as `zones.*.admin`, allows `scope`; a `*` stands for one segment."""
    if "*" not in pattern:
        return pattern == scope
    return re.fullmatch(re.escape(pattern).replace(r"\*", r"[^.]+"), scope) is not None


def granted(patterns: Collection[str], scopes: Iterable[str]) -> list[str]:
    """Those of `scopes` that a client's scopes allow, in order of name; never `uaa.none`."""
    plain = set(patterns)
    wild = [pattern for pattern in patterns if "*" in pattern]
    return sorted(
        scope
        for scope in set(scopes)
        if scope != "uaa.none" and (scope in plain or any(covers(pattern, scope) for pattern in wild))
    )
