"""Names of scopes, and who has which without being asked (reference/uaa.md sections 4 and 9)."""

from typing import Any

__all__ = ["ADMIN_GROUPS", "CLIENTS", "DEFAULT_GROUPS", "KNOWN_GROUPS", "audience"]

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
"""Every user is in these."""

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

KNOWN_GROUPS = frozenset({*DEFAULT_GROUPS, *ADMIN_GROUPS, *_CF_SCOPES, "uaa.admin", "uaa.resource", "clients.admin"})

CLIENTS: dict[str, dict[str, Any]] = {
    "cf": {
        "scope": list(_CF_SCOPES),
        "authorities": ["uaa.none"],
        "grant_types": ["password", "refresh_token"],
    },
    "ssh-proxy": {
        "scope": ["cloud_controller.admin", "cloud_controller.read", "cloud_controller.write", "openid"],
        "authorities": ["uaa.none"],
        "grant_types": ["authorization_code"],
        "autoapprove": ["true"],
    },
    "admin": {
        "scope": ["uaa.none"],
        "authorities": [
            "clients.admin",
            "clients.read",
            "clients.write",
            "cloud_controller.admin",
            "cloud_controller.read",
            "cloud_controller.write",
            "password.write",
            "scim.read",
            "scim.write",
            "uaa.admin",
            "uaa.resource",
        ],
        "grant_types": ["client_credentials"],
    },
}
"""Clients of the first start; `cf` is public (its secret is empty), the others get the secrets of the key file."""


def audience(scopes: list[str], client_id: str) -> list[str]:
    """The resources that scopes name (`cloud_controller.read` is for cloud_controller), and the client."""
    resources = {scope.rpartition(".")[0] or scope for scope in scopes}
    return sorted({*resources, client_id})
