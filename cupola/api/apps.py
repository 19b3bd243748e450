"""Apps: what they are, their environment, their current droplet. Starting and stopping is in api/app_actions.py."""

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

from sqlalchemy import Row, select

from cupola import errors
from cupola.api import access
from cupola.api.organizations import ORGANIZATIONS, printable
from cupola.api.spaces import SPACES
from cupola.api.stacks import STACKS
from cupola.domain import apps as rules
from cupola.domain import audit, feature_flags, locks, visibility
from cupola.domain.access import MANAGE_APPS, has_in_space
from cupola.domain.deletion_lanes import lane_of
from cupola.rest.message import Message, anything, metadata, nested, object_, string, to_one
from cupola.rest.operation import Accepted, Call, Operation, Reply, create, delete, list_, present, show, update
from cupola.rest.present import Links, LinkTemplate, Metadata, common, metadata_of
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Include, Resource, World
from cupola.store import jobs, rows
from cupola.store.apps import apps
from cupola.store.orgs import organizations, spaces
from cupola.store.platform import stacks

__all__ = ["APPS", "LIFECYCLE_SCHEMA", "OPERATIONS", "lifecycle_problems"]

_LIFECYCLES = ("buildpack", "cnb", "docker")


def lifecycle_problems(value: Any) -> Iterator[str]:
    """What is wrong with the form of a `lifecycle` object."""
    if not isinstance(value, dict):
        yield "Lifecycle must be an object"
        return
    kind = value.get("type") or "buildpack"
    if kind not in _LIFECYCLES:
        yield f"Lifecycle type is not included in the list: {', '.join(_LIFECYCLES)}"
        return
    data = value.get("data")
    if not isinstance(data, dict):
        yield "Lifecycle data must be an object"
        return
    yield from _lifecycle_data_problems(kind, data)


def _lifecycle_data_problems(lifecycle: str, data: dict[str, Any]) -> Iterator[str]:
    known = {"buildpack": {"buildpacks", "stack"}, "cnb": {"buildpacks", "stack", "credentials"}, "docker": set()}
    unknown = [name for name in data if name not in known[lifecycle]]
    if unknown:
        yield "Lifecycle Unknown field(s): " + ", ".join(f"'{name}'" for name in unknown)
    names = data.get("buildpacks")
    if names is not None and not isinstance(names, list):
        yield "Lifecycle Buildpacks must be an array"
    elif names is not None:
        if not all(isinstance(name, str) for name in names):
            yield "Lifecycle Buildpacks can only contain strings"
        if any(isinstance(name, str) and not (name.strip() and len(name) <= 4096) for name in names):
            yield "Lifecycle Buildpacks entries must be between 1 and 4096 characters"
    stack = data.get("stack")
    if stack is not None and not isinstance(stack, str):
        yield "Lifecycle Stack must be a string"
    elif stack is not None and not 1 <= len(stack) <= 4096:
        yield "Lifecycle Stack must be between 1 and 4096 characters"
    credentials = data.get("credentials")
    if credentials is not None and not isinstance(credentials, dict):
        yield "Lifecycle Credentials must be an object"
    elif credentials is not None and not all(isinstance(one, dict) for one in credentials.values()):
        yield "Lifecycle Credentials credentials value must be a hash"


LIFECYCLE_SCHEMA = {
    "type": "object",
    "properties": {"type": {"type": ["string", "null"], "enum": [*_LIFECYCLES, None]}, "data": {"type": "object"}},
    "required": ["data"],
}


class _Relationships(Message):
    space = to_one(required=True)


class Create(Message):
    """A new app."""

    relationships = nested(_Relationships, required=True)
    lifecycle = anything(lifecycle_problems, LIFECYCLE_SCHEMA, nullable=False)
    name = string(required=True, min_length=1, max_length=255, checks=[printable])
    environment_variables = object_(checks=[rules.forbidden_names], values={})
    metadata = metadata()


class Update(Message):
    """Name, lifecycle data and metadata."""

    name = string(min_length=1, max_length=255, checks=[printable])
    lifecycle = anything(lifecycle_problems, LIFECYCLE_SCHEMA, nullable=False)
    metadata = metadata()


def _strings_or_null(variables: dict[str, Any]) -> Iterator[str]:
    yield from rules.forbidden_names(variables)


class UpdateEnvironment(Message):
    """`var` is merged into the app's variables; null removes."""

    var = object_(required=True, checks=[_strings_or_null], values={"type": ["string", "null"]})

    def rules(self) -> Iterator[str]:
        variables = self.given.get("var")
        if isinstance(variables, dict):
            for name, value in variables.items():
                if value is not None and not isinstance(value, str):
                    yield f"Non-string value in environment variable for key '{name}', value '{value}'"


class App(TypedDict):
    """An app as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    name: str
    state: str
    lifecycle: dict[str, Any]
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


_LINKS = LinkTemplate(
    {
        "self": "/v3/apps/{0}",
        "environment_variables": "/v3/apps/{0}/environment_variables",
        "space": "/v3/spaces/{1}",
        "processes": "/v3/apps/{0}/processes",
        "packages": "/v3/apps/{0}/packages",
        "current_droplet": "/v3/apps/{0}/droplets/current",
        "droplets": "/v3/apps/{0}/droplets",
        "tasks": "/v3/apps/{0}/tasks",
        "start": ("/v3/apps/{0}/actions/start", "POST"),
        "stop": ("/v3/apps/{0}/actions/stop", "POST"),
        "clear_buildpack_cache": ("/v3/apps/{0}/actions/clear_buildpack_cache", "POST"),
        "revisions": "/v3/apps/{0}/revisions",
        "deployed_revisions": "/v3/apps/{0}/revisions/deployed",
        "features": "/v3/apps/{0}/features",
    }
)


def view(row: Row[Any], world: World) -> dict[str, Any]:
    return {
        **common(row),
        "name": row.name,
        "state": row.state,
        "lifecycle": rules.lifecycle_data(world.tx, row),
        "relationships": {"space": one(row.space_guid), "current_droplet": one(row.droplet_guid)},
        "metadata": metadata_of(row),
        "links": _LINKS.of(world.api, row.guid, row.space_guid),
    }


def their_spaces(world: World, page: Sequence[Row[Any]]) -> list[Any]:
    """The spaces of rows with a space_guid, for `include`."""
    found = rows.by_guids(world.tx, spaces, [row.space_guid for row in page])
    return present(world, SPACES, list(found.values()))


def their_organizations(world: World, page: Sequence[Row[Any]]) -> list[Any]:
    """The organizations of the spaces of rows with a space_guid, for `include`."""
    found = rows.by_guids(world.tx, spaces, [row.space_guid for row in page])
    owners = rows.by_guids(world.tx, organizations, [space.organization_guid for space in found.values()])
    return present(world, ORGANIZATIONS, list(owners.values()))


APPS = Resource(
    name="app",
    path="/v3/apps",
    table=apps,
    view=view,
    shape=App,
    visible=visibility.by_space(apps.c.space_guid),
    parameter_order=["names", "organization_guids", "space_guids", "stacks", "include", "lifecycle_type"],
    filters=[
        Filter("names", apps.c.name_key, fold=True),
        Filter(
            "organization_guids",
            lambda guids: apps.c.space_guid.in_(select(spaces.c.guid).where(spaces.c.organization_guid.in_(guids))),
        ),
        Filter("space_guids", apps.c.space_guid),
        Filter("stacks", apps.c.stack),
        Filter("lifecycle_type", apps.c.lifecycle_type, kind="one", choices=_LIFECYCLES),
    ],
    order_by=["created_at", "updated_at", "name", "state"],
    includes=[
        Include("space", "spaces", their_spaces),
        Include("org", "organizations", their_organizations),
        Include("space.organization", "organizations", their_organizations),
    ],
)


def create_app(call: Call[None, Create]) -> Row[Any]:
    """Create an app in a space."""
    return rules.create(call.tx, call.settings, call.actor, call.body.given, call.warnings)


def update_app(call: Call[Row[Any], Update]) -> Row[Any]:
    """Rename an app, change how it is built, or relabel it."""
    return rules.update(call.tx, call.settings, call.actor, call.row, call.body.given, call.warnings)


def delete_app(call: Call[Row[Any], None]) -> Accepted:
    """Delete an app and everything that belongs to it; its routes stay."""
    locks.require_app_unlocked(call.tx, call.row)
    return Accepted(_job(call, "app.delete", lane_of(call.tx, "app.delete", call.row.guid)))


def clear_cache(call: Call[Row[Any], None]) -> Accepted:
    """Delete the app's buildpack caches."""
    return Accepted(_job(call, "app.clear_buildpack_cache"))


def _job(call: Call[Row[Any], Any], operation: str, lane: str = "default") -> str:
    return jobs.enqueue(
        call.tx,
        operation,
        {"guid": call.row.guid, "request_id": call.request_id},
        actor=call.actor,
        lane=lane,
        resource_guid=call.row.guid,
        resource_type="apps",
    )


def may_read_environment(call: Call[Row[Any], Any]) -> None:
    """admin, admin_read_only, developers and supporters, as far as the two feature flags let them."""
    feature_flags.require(call.tx, call.actor, "env_var_visibility")
    if call.actor.reads_secrets:
        return
    if not has_in_space(call.tx, call.actor, call.row.space_guid, MANAGE_APPS):
        raise errors.not_authorized()
    feature_flags.require(call.tx, call.actor, "space_developer_env_var_visibility")


def _environment_reply(call: Call[Row[Any], Any], variables: dict[str, Any]) -> Reply:
    world = call.world()
    path = f"/v3/apps/{call.row.guid}"
    links = {"self": world.link(path + "/environment_variables"), "app": world.link(path)}
    return Reply(200, {"var": variables, "links": links})


def show_environment(call: Call[Row[Any], None]) -> Reply:
    """Get an app's own environment variables."""
    app = call.row
    event = "audit.app.environment_variables.show"
    audit.record(call.tx, event, call.actor, app.guid, "app", app.name, {}, space_guid=app.space_guid)
    return _environment_reply(call, rules.environment(call.tx, app))


def update_environment(call: Call[Row[Any], UpdateEnvironment]) -> Reply:
    """Change an app's own environment variables; they take effect at its next start."""
    return _environment_reply(call, rules.set_environment(call.tx, call.actor, call.row, call.body.var or {}))


def permissions(call: Call[Row[Any], None]) -> Reply:
    """What the caller may read of an app; log cache asks this before it shows logs."""
    sensitive = call.actor.reads_secrets or has_in_space(call.tx, call.actor, call.row.space_guid, access.DEVELOPER)
    return Reply(200, {"read_basic_data": True, "read_sensitive_data": sensitive})


def ssh_enabled(call: Call[Row[Any], None]) -> Reply:
    """Whether ssh into the app is possible, and why not."""
    space = rows.by_guid(call.tx, spaces, call.row.space_guid)
    assert space is not None
    enabled, reason = rules.ssh_enabled(call.settings, call.row, space)
    return Reply(200, {"enabled": enabled, "reason": reason})


_MANAGE = access.in_space(*MANAGE_APPS)
_BASE = APPS.path + "/{guid}"

OPERATIONS: list[Operation] = [
    list_(APPS),
    show(APPS, includes=["space", "org", "space.organization"], query_status=400),
    create(APPS, Create, create_app),
    update(APPS, Update, update_app, allow=access.in_space(*access.DEVELOPER)),
    delete(APPS, delete_app, allow=access.in_space(*access.DEVELOPER)),
    Operation(
        "POST", _BASE + "/actions/clear_buildpack_cache", clear_cache, target=APPS, allow=_MANAGE, status=202, job=True
    ),
    Operation(
        "GET",
        _BASE + "/environment_variables",
        show_environment,
        target=APPS,
        allow=may_read_environment,
        writes=True,
    ),
    Operation(
        "PATCH",
        _BASE + "/environment_variables",
        update_environment,
        target=APPS,
        body=UpdateEnvironment,
        allow=_MANAGE,
    ),
    Operation("GET", _BASE + "/permissions", permissions, target=APPS),
    Operation("GET", _BASE + "/ssh_enabled", ssh_enabled, target=APPS),
    list_(
        APPS,
        path="/v3/stacks/{guid}/apps",
        parent=STACKS,
        within=lambda stack: apps.c.stack.in_(select(stacks.c.name).where(stacks.c.guid == stack)),
        doc="List the apps that use a stack.",
    ),
]
