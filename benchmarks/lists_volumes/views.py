"""Rows as the API shows them, written by hand: one plain function for each table, no declaration anywhere."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from cupola import clock

__all__ = ["VIEWS", "View"]

Values = Mapping[str, Any]
Related = Sequence[Sequence[Any]]
View = Callable[[Values, str, Related], dict[str, Any]]
"""From a row, the API's URL and the related rows that begin with its guid."""


def _common(row: Values) -> dict[str, Any]:
    created, updated = clock.format_api(row["created_at"]), clock.format_api(row["updated_at"])
    return {"guid": row["guid"], "created_at": created, "updated_at": updated}


def _metadata(row: Values) -> dict[str, Any]:
    return {"labels": msgspec.Raw(row["labels"].encode()), "annotations": msgspec.Raw(row["annotations"].encode())}


def _one(guid: str | None) -> dict[str, Any]:
    return {"data": {"guid": guid} if guid else None}


def _many(related: Related) -> dict[str, Any]:
    return {"data": [{"guid": one[1]} for one in related]}


def _organization(row: Values, api: str, related: Related) -> dict[str, Any]:
    path = f"{api}/v3/organizations/{row['guid']}"
    return {
        **_common(row),
        "name": row["name"],
        "suspended": bool(row["suspended"]),
        "relationships": {"quota": _one(row["quota_guid"])},
        "metadata": _metadata(row),
        "links": {
            "self": {"href": path},
            "domains": {"href": path + "/domains"},
            "default_domain": {"href": path + "/domains/default"},
            "quota": {"href": f"{api}/v3/organization_quotas/{row['quota_guid']}"},
        },
    }


def _space(row: Values, api: str, related: Related) -> dict[str, Any]:
    path = f"{api}/v3/spaces/{row['guid']}"
    return {
        **_common(row),
        "name": row["name"],
        "suspended": bool(row["suspended"]),
        "relationships": {"organization": _one(row["organization_guid"]), "quota": _one(row["quota_guid"])},
        "metadata": _metadata(row),
        "links": {
            "self": {"href": path},
            "organization": {"href": f"{api}/v3/organizations/{row['organization_guid']}"},
            "features": {"href": path + "/features"},
            "apply_manifest": {"href": path + "/actions/apply_manifest", "method": "POST"},
        },
    }


def _role(row: Values, api: str, related: Related) -> dict[str, Any]:
    user, organization, space = row["user_guid"], row["organization_guid"], row["space_guid"]
    links = {"self": {"href": f"{api}/v3/roles/{row['guid']}"}, "user": {"href": f"{api}/v3/users/{user}"}}
    if organization:
        links["organization"] = {"href": f"{api}/v3/organizations/{organization}"}
    if space:
        links["space"] = {"href": f"{api}/v3/spaces/{space}"}
    relationships = {"user": _one(user), "organization": _one(organization), "space": _one(space)}
    return {**_common(row), "type": row["type"], "relationships": relationships, "links": links}


def _limits(row: Values) -> dict[str, Any]:
    return {
        "apps": {
            "total_memory_in_mb": row["total_memory_in_mb"],
            "per_process_memory_in_mb": row["per_process_memory_in_mb"],
            "total_instances": row["total_instances"],
            "per_app_tasks": row["per_app_tasks"],
            "log_rate_limit_in_bytes_per_second": row["log_rate_limit_in_bytes_per_second"],
        },
        "services": {
            "paid_services_allowed": bool(row["paid_services_allowed"]),
            "total_service_instances": row["total_service_instances"],
            "total_service_keys": row["total_service_keys"],
        },
        "routes": {"total_routes": row["total_routes"], "total_reserved_ports": row["total_reserved_ports"]},
    }


def _organization_quota(row: Values, api: str, related: Related) -> dict[str, Any]:
    return {
        **_common(row),
        "name": row["name"],
        **_limits(row),
        "domains": {"total_domains": row["total_domains"]},
        "relationships": {"organizations": _many(related)},
        "links": {"self": {"href": f"{api}/v3/organization_quotas/{row['guid']}"}},
    }


def _space_quota(row: Values, api: str, related: Related) -> dict[str, Any]:
    return {
        **_common(row),
        "name": row["name"],
        **_limits(row),
        "relationships": {"organization": _one(row["organization_guid"]), "spaces": _many(related)},
        "links": {
            "self": {"href": f"{api}/v3/space_quotas/{row['guid']}"},
            "organization": {"href": f"{api}/v3/organizations/{row['organization_guid']}"},
        },
    }


def _domain(row: Values, api: str, related: Related) -> dict[str, Any]:
    path, organization = f"{api}/v3/domains/{row['guid']}", row["organization_guid"]
    links = {"self": {"href": path}, "route_reservations": {"href": path + "/route_reservations"}}
    if organization:
        links["organization"] = {"href": f"{api}/v3/organizations/{organization}"}
        links["shared_organizations"] = {"href": path + "/relationships/shared_organizations"}
    return {
        **_common(row),
        "name": row["name"],
        "internal": bool(row["internal"]),
        "router_group": None,
        "supported_protocols": ["http"],
        "relationships": {"organization": _one(organization), "shared_organizations": _many(related)},
        "metadata": _metadata(row),
        "links": links,
    }


def _security_group(row: Values, api: str, related: Related) -> dict[str, Any]:
    return {
        **_common(row),
        "name": row["name"],
        "rules": msgspec.Raw(row["rules"].encode()),
        "globally_enabled": {"running": bool(row["running_default"]), "staging": bool(row["staging_default"])},
        "relationships": {"running_spaces": _many(related), "staging_spaces": {"data": []}},
        "links": {"self": {"href": f"{api}/v3/security_groups/{row['guid']}"}},
    }


def _segment(row: Values, api: str, related: Related) -> dict[str, Any]:
    path = f"{api}/v3/isolation_segments/{row['guid']}"
    links = {"self": {"href": path}, "organizations": {"href": path + "/organizations"}}
    return {**_common(row), "name": row["name"], "metadata": _metadata(row), "links": links}


def _event(row: Values, api: str, related: Related) -> dict[str, Any]:
    at = clock.format_api(row["created_at"])
    return {
        "guid": row["guid"],
        "created_at": at,
        "updated_at": at,
        "type": row["type"],
        "actor": {"guid": row["actor_guid"], "type": row["actor_type"], "name": row["actor_name"]},
        "target": {"guid": row["target_guid"], "type": row["target_type"], "name": row["target_name"]},
        "data": msgspec.Raw(row["data"].encode()),
        "space": {"guid": row["space_guid"]} if row["space_guid"] else None,
        "organization": {"guid": row["organization_guid"]} if row["organization_guid"] else None,
        "links": {"self": {"href": f"{api}/v3/audit_events/{row['guid']}"}},
    }


def _user(row: Values, api: str, related: Related) -> dict[str, Any]:
    _, name, origin = related[0] if related else (None, None, None)
    return {
        **_common(row),
        "username": name,
        "presentation_name": name or row["guid"],
        "origin": origin,
        "metadata": _metadata(row),
        "links": {"self": {"href": f"{api}/v3/users/{row['guid']}"}},
    }


def _app(row: Values, api: str, related: Related) -> dict[str, Any]:
    path = f"{api}/v3/apps/{row['guid']}"
    return {
        **_common(row),
        "name": row["name"],
        "state": row["state"],
        "lifecycle": {"type": "buildpack", "data": {"buildpacks": [], "stack": row["stack"]}},
        "relationships": {"space": _one(row["space_guid"]), "current_droplet": _one(row["droplet_guid"])},
        "metadata": _metadata(row),
        "links": {
            "self": {"href": path},
            "environment_variables": {"href": path + "/environment_variables"},
            "space": {"href": f"{api}/v3/spaces/{row['space_guid']}"},
            "processes": {"href": path + "/processes"},
            "packages": {"href": path + "/packages"},
            "current_droplet": {"href": path + "/droplets/current"},
            "droplets": {"href": path + "/droplets"},
            "tasks": {"href": path + "/tasks"},
            "start": {"href": path + "/actions/start", "method": "POST"},
            "stop": {"href": path + "/actions/stop", "method": "POST"},
            "clear_buildpack_cache": {"href": path + "/actions/clear_buildpack_cache", "method": "POST"},
            "revisions": {"href": path + "/revisions"},
            "deployed_revisions": {"href": path + "/revisions/deployed"},
            "features": {"href": path + "/features"},
        },
    }


def _process(row: Values, api: str, related: Related) -> dict[str, Any]:
    path = f"{api}/v3/processes/{row['guid']}"
    data = {
        "timeout": row["health_check_timeout"],
        "invocation_timeout": row["health_check_invocation_timeout"],
        "interval": row["health_check_interval"],
    }
    ready = {"invocation_timeout": row["readiness_invocation_timeout"], "interval": row["readiness_interval"]}
    return {
        **_common(row),
        "version": row["version"],
        "type": row["type"],
        "command": "[PRIVATE DATA HIDDEN IN LISTS]",
        "user": row["user"] or "vcap",
        "instances": row["instances"],
        "memory_in_mb": row["memory_mb"],
        "disk_in_mb": row["disk_mb"],
        "log_rate_limit_in_bytes_per_second": row["log_rate"],
        "health_check": {"type": row["health_check_type"], "data": data},
        "readiness_health_check": {"type": row["readiness_type"], "data": ready},
        "relationships": {"app": _one(row["app_guid"]), "revision": _one(row["revision_guid"])},
        "metadata": _metadata(row),
        "links": {
            "self": {"href": path},
            "scale": {"href": path + "/actions/scale", "method": "POST"},
            "app": {"href": f"{api}/v3/apps/{row['app_guid']}"},
            "space": {"href": f"{api}/v3/spaces/{row['space_guid']}"},
            "stats": {"href": path + "/stats"},
            "process_instances": {"href": path + "/process_instances"},
        },
    }


def _destination(one: Sequence[Any]) -> dict[str, Any]:
    _, guid, created, updated, app, type_, weight, port, protocol = one
    return {
        "guid": guid,
        "created_at": clock.format_api(created),
        "updated_at": clock.format_api(updated),
        "app": {"guid": app, "process": {"type": type_}},
        "weight": weight,
        "port": port or 8080,
        "protocol": protocol or "http1",
    }


def _route(row: Values, api: str, related: Related) -> dict[str, Any]:
    path = f"{api}/v3/routes/{row['guid']}"
    return {
        **_common(row),
        "protocol": "http",
        "host": row["host"],
        "path": row["path"],
        "port": row["port"] or None,
        "url": f"{row['host']}.{row['domain_name']}{row['path']}",
        "destinations": [_destination(one) for one in related],
        "options": msgspec.Raw(row["options"].encode()),
        "relationships": {"space": _one(row["space_guid"]), "domain": _one(row["domain_guid"])},
        "metadata": _metadata(row),
        "links": {
            "self": {"href": path},
            "space": {"href": f"{api}/v3/spaces/{row['space_guid']}"},
            "destinations": {"href": path + "/destinations"},
            "domain": {"href": f"{api}/v3/domains/{row['domain_guid']}"},
        },
    }


def _plan(row: Values, api: str, related: Related) -> dict[str, Any]:
    path, offering = f"{api}/v3/service_plans/{row['guid']}", row["service_offering_guid"]
    empty: dict[str, Any] = {"parameters": {}}
    return {
        **_common(row),
        "name": row["name"],
        "visibility_type": row["visibility_type"],
        "available": bool(row["available"]),
        "free": bool(row["free"]),
        "costs": [],
        "description": row["description"],
        "maintenance_info": msgspec.Raw(row["maintenance_info"].encode()),
        "broker_catalog": {
            "id": row["catalog_id"],
            "metadata": msgspec.Raw(row["catalog_metadata"].encode()),
            "maximum_polling_duration": row["maximum_polling_duration"],
            "features": {"plan_updateable": bool(row["plan_updateable"]), "bindable": bool(row["bindable"])},
        },
        "schemas": {"service_instance": {"create": empty, "update": empty}, "service_binding": {"create": empty}},
        "relationships": {"service_offering": _one(offering)},
        "metadata": _metadata(row),
        "links": {
            "self": {"href": path},
            "service_offering": {"href": f"{api}/v3/service_offerings/{offering}"},
            "visibility": {"href": path + "/visibility"},
        },
    }


def _offering(row: Values, api: str, related: Related) -> dict[str, Any]:
    path, broker = f"{api}/v3/service_offerings", row["service_broker_guid"]
    flags = ("plan_updateable", "bindable", "instances_retrievable", "bindings_retrievable", "allow_context_updates")
    return {
        **_common(row),
        "name": row["name"],
        "description": row["description"],
        "available": bool(row["available"]),
        "tags": msgspec.Raw(row["tags"].encode()),
        "requires": msgspec.Raw(row["requires"].encode()),
        "shareable": bool(row["shareable"]),
        "documentation_url": row["documentation_url"],
        "broker_catalog": {
            "id": row["catalog_id"],
            "metadata": msgspec.Raw(row["catalog_metadata"].encode()),
            "features": {name: bool(row[name]) for name in flags},
        },
        "relationships": {"service_broker": _one(broker)},
        "metadata": _metadata(row),
        "links": {
            "self": {"href": f"{path}/{row['guid']}"},
            "service_plans": {"href": f"{api}/v3/service_plans?service_offering_guids={row['guid']}"},
            "service_broker": {"href": f"{api}/v3/service_brokers/{broker}"},
        },
    }


def _instance(row: Values, api: str, related: Related) -> dict[str, Any]:
    path, guid = f"{api}/v3/service_instances/{row['guid']}", row["guid"]
    return {
        **_common(row),
        "name": row["name"],
        "type": row["type"],
        "tags": msgspec.Raw(row["tags"].encode()),
        "last_operation": {
            "type": row["operation_type"],
            "state": row["operation_state"],
            "description": row["operation_description"],
            "created_at": clock.format_api(row["operation_created_at"]),
            "updated_at": clock.format_api(row["operation_updated_at"]),
        },
        "maintenance_info": msgspec.Raw(row["maintenance_info"].encode()),
        "upgrade_available": False,
        "dashboard_url": row["dashboard_url"],
        "relationships": {"space": _one(row["space_guid"]), "service_plan": _one(row["service_plan_guid"])},
        "metadata": _metadata(row),
        "links": {
            "self": {"href": path},
            "space": {"href": f"{api}/v3/spaces/{row['space_guid']}"},
            "service_credential_bindings": {
                "href": f"{api}/v3/service_credential_bindings?service_instance_guids={guid}"
            },
            "service_route_bindings": {"href": f"{api}/v3/service_route_bindings?service_instance_guids={guid}"},
            "service_plan": {"href": f"{api}/v3/service_plans/{row['service_plan_guid']}"},
            "parameters": {"href": path + "/parameters"},
            "shared_spaces": {"href": path + "/relationships/shared_spaces"},
        },
    }


VIEWS: Mapping[str, View] = {
    "organizations": _organization,
    "spaces": _space,
    "roles": _role,
    "organization_quotas": _organization_quota,
    "space_quotas": _space_quota,
    "domains": _domain,
    "security_groups": _security_group,
    "isolation_segments": _segment,
    "audit_events": _event,
    "users": _user,
    "apps": _app,
    "processes": _process,
    "routes": _route,
    "service_plans": _plan,
    "service_offerings": _offering,
    "service_instances": _instance,
}
