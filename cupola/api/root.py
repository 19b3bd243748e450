"""The front page of the API: where everything is, which version it is, and whether it is well."""

from typing import Any, TypedDict

from cupola import __version__
from cupola.rest.operation import Call, Operation, Reply

__all__ = ["API_VERSION", "OPERATIONS"]

API_VERSION = "3.228.0"
"""The Cloud Controller API version whose features are served; clients switch features on by it."""

_LINKED = (
    "app_usage_events",
    "apps",
    "audit_events",
    "buildpacks",
    "builds",
    "deployments",
    "domains",
    "droplets",
    "environment_variable_groups",
    "feature_flags",
    "info",
    "isolation_segments",
    "organization_quotas",
    "organizations",
    "packages",
    "processes",
    "resource_matches",
    "roles",
    "routes",
    "security_groups",
    "service_brokers",
    "service_credential_bindings",
    "service_instances",
    "service_offerings",
    "service_plans",
    "service_route_bindings",
    "service_usage_events",
    "space_quotas",
    "spaces",
    "stacks",
    "tasks",
    "users",
)
"""Names that upstream's /v3 document links; those that are not served are left out."""


class Identity(TypedDict):
    """Who is calling."""

    name: str
    kind: str


def root(call: Call[None, None]) -> Reply:
    """Where the parts of the platform are."""
    settings = call.settings
    api = settings.api_url
    links: dict[str, Any] = {
        "self": {"href": api},
        "cloud_controller_v2": None,
        "cloud_controller_v3": {"href": f"{api}/v3", "meta": {"version": API_VERSION}},
        "network_policy_v0": {"href": f"{api}/networking/v0/external"},
        "network_policy_v1": {"href": f"{api}/networking/v1/external"},
        "login": {"href": settings.login_url},
        "uaa": {"href": settings.uaa_url},
        "credhub": None,
        "routing": {"href": f"{api}/routing"},
        "logging": None,
        "log_cache": {"href": settings.log_cache_url},
        "log_stream": None,
        # The way into an instance is not served yet: no link is better than one that leads nowhere.
        "app_ssh": None,
    }
    return Reply(200, {"links": links})


def v3_root(call: Call[None, None]) -> Reply:
    """Which resources there are."""
    api = call.settings.api_url
    served = call.services.extra.get("paths", frozenset())
    links = {"self": {"href": f"{api}/v3"}}
    for name in _LINKED:
        if f"/v3/{name}" in served or name == "environment_variable_groups":
            links[name] = {"href": f"{api}/v3/{name}"}
    return Reply(200, {"links": links})


def info(call: Call[None, None]) -> Reply:
    """What this platform is."""
    settings = call.settings
    limits = settings.rate_limits
    body = {
        "build": f"cupola-{__version__}",
        "cli_version": {
            "minimum": settings.platform.min_cli_version,
            "recommended": settings.platform.recommended_cli_version,
        },
        "custom": {},
        "description": settings.platform.description,
        "name": settings.platform.name,
        "version": 0,
        "osbapi_version": "2.17",
        "rate_limits": {
            "enabled": limits.enabled,
            "general_limit": limits.general_limit if limits.enabled else 0,
            "reset_interval_in_minutes": limits.reset_minutes if limits.enabled else 0,
        },
        "links": {"self": {"href": f"{settings.api_url}/v3/info"}, "support": {"href": ""}},
    }
    return Reply(200, body)


def whoami(call: Call[None, None]) -> Reply:
    """Who the token is for (as Korifi answers)."""
    kind = "ServiceAccount" if call.actor.is_client else "User"
    return Reply(200, {"name": call.actor.name, "kind": kind})


def health(call: Call[None, None]) -> Reply:
    """`OK` while the API answers and its database does."""
    return Reply(200, b"OK", {"Content-Type": "text/plain; charset=utf-8"})


OPERATIONS: list[Operation] = [
    Operation("GET", "/", root, auth="none"),
    Operation("GET", "/v3", v3_root, auth="none"),
    Operation("GET", "/v3/info", info, auth="none"),
    Operation("GET", "/healthz", health, auth="none", produces="text/plain"),
    Operation("GET", "/whoami", whoami, shape=Identity),
]
