"""Usage summaries: how much of what quotas limit an organization or a space uses now."""

from typing import Any, TypedDict

from sqlalchemy import Row

from cupola import errors
from cupola.api.organizations import ORGANIZATIONS
from cupola.api.spaces import SPACES
from cupola.domain import usage_summary
from cupola.rest.operation import Call, Operation, Reply
from cupola.rest.present import Links

__all__ = ["OPERATIONS"]


class Usage(TypedDict):
    """What is used; memory in MiB."""

    started_instances: int
    memory_in_mb: int
    routes: int
    service_instances: int
    reserved_ports: int
    domains: int
    per_app_tasks: int
    service_keys: int


class UsageSummary(TypedDict):
    """A usage summary as the API shows it."""

    usage_summary: Usage
    links: Links


def of_organization(call: Call[Row[Any], None]) -> Reply:
    """Get how much an organization uses of what quotas limit."""
    world, path = call.world(), f"/v3/organizations/{call.row.guid}"
    links = {"self": world.link(path + "/usage_summary"), "organization": world.link(path)}
    return Reply(200, {"usage_summary": usage_summary.of_organization(call.tx, call.row.guid), "links": links})


def of_space(call: Call[Row[Any], None]) -> Reply:
    """Get how much a space uses of what quotas limit; `domains` is that of its organization."""
    world, path = call.world(), f"/v3/spaces/{call.row.guid}"
    links = {"self": world.link(path + "/usage_summary"), "space": world.link(path)}
    used = usage_summary.of_space(call.tx, call.row.organization_guid, call.row.guid)
    return Reply(200, {"usage_summary": used, "links": links})


def of_platform(call: Call[None, None]) -> Reply:
    """Get how much of what quotas limit the whole platform uses."""
    if not call.actor.reads_everything:
        raise errors.unknown_request()
    links = {"self": call.world().link("/v3/info/usage_summary")}
    return Reply(200, {"usage_summary": usage_summary.of_platform(call.tx), "links": links})


OPERATIONS: list[Operation] = [
    Operation("GET", "/v3/info/usage_summary", of_platform, shape=UsageSummary),
    Operation(
        "GET", ORGANIZATIONS.path + "/{guid}/usage_summary", of_organization, target=ORGANIZATIONS, shape=UsageSummary
    ),
    Operation("GET", SPACES.path + "/{guid}/usage_summary", of_space, target=SPACES, shape=UsageSummary),
]
