"""Builds: from a package to a droplet."""

from collections.abc import Iterator
from typing import Any, TypedDict

from sqlalchemy import Row, select

from cupola import errors
from cupola.api import access
from cupola.api.apps import APPS, LIFECYCLE_SCHEMA, lifecycle_problems
from cupola.domain import builds as rules
from cupola.domain import builds_outcome, visibility
from cupola.domain.buildpack_names import redacted
from cupola.rest.message import Message, MetadataOnly, anything, integer, metadata, object_, string
from cupola.rest.operation import Call, Operation, create, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of, to_one
from cupola.rest.resource import Filter, Resource, World
from cupola.store import rows, sealed
from cupola.store.staging import builds

__all__ = ["BUILDS", "OPERATIONS"]

_STATES = ("FAILED", "STAGED", "STAGING")
_PACKAGE_SCHEMA = {"type": "object", "properties": {"guid": {"type": "string"}}, "required": ["guid"]}


def _package_problems(value: Any) -> Iterator[str]:
    guid = value.get("guid") if isinstance(value, dict) else None
    if not guid:
        yield "Package guid can't be blank"
    if not isinstance(guid, str):
        yield "Package guid must be a string"
    if not isinstance(guid, str) or not 1 <= len(guid) <= 200:
        yield "Package guid must be between 1 and 200 characters"


class Create(Message):
    """Which package, and how to build it where that differs from the app's lifecycle."""

    package = anything(_package_problems, _PACKAGE_SCHEMA, required=True, nullable=False)
    lifecycle = anything(lifecycle_problems, LIFECYCLE_SCHEMA)
    staging_memory_in_mb = integer(nullable=True, more_than=0, at_most=2147483647)
    staging_disk_in_mb = integer(nullable=True, more_than=0, at_most=2147483647)
    staging_log_rate_limit_bytes_per_second = integer(nullable=True, at_least=-1, at_most=9223372036854775807)
    environment_variables = object_(nullable=True, values={})
    metadata = metadata()


class Update(Message):
    """Metadata; from admins also the end of a build that no cell will end."""

    metadata = metadata()
    state = string(one_of=("FAILED",), one_of_message="can only be set to 'FAILED': a droplet is what makes it STAGED")
    error = string(nullable=True, max_length=4096)

    def rules(self) -> Iterator[str]:
        if self.has("error") and not self.has("state"):
            yield "Error is only set together with state 'FAILED'"


class Build(TypedDict):
    """A build as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    state: str
    staging_memory_in_mb: int
    staging_disk_in_mb: int
    staging_log_rate_limit_bytes_per_second: int
    error: str | None
    lifecycle: dict[str, Any]
    package: dict[str, str]
    droplet: dict[str, str] | None
    created_by: dict[str, str | None]
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def _lifecycle(row: Row[Any], world: World) -> dict[str, Any]:
    if row.lifecycle_type == "docker":
        return {"type": "docker", "data": {}}
    names = sealed.opened(world.tx, builds.c.buildpacks, row.buildpacks, [])
    data = {"buildpacks": [redacted(name) for name in names], "stack": row.stack}
    return {"type": row.lifecycle_type, "data": data}


def view(row: Row[Any], world: World) -> dict[str, Any]:
    links = {"self": world.link(f"/v3/builds/{row.guid}"), "app": world.link(f"/v3/apps/{row.app_guid}")}
    if row.droplet_guid:
        links["droplet"] = world.link(f"/v3/droplets/{row.droplet_guid}")
    error = f"{row.error_id} - {row.error_description}" if row.error_id else None
    return {
        **common(row),
        "state": row.state,
        "staging_memory_in_mb": row.memory_mb,
        "staging_disk_in_mb": row.disk_mb,
        "staging_log_rate_limit_bytes_per_second": row.log_rate,
        "error": error,
        "lifecycle": _lifecycle(row, world),
        "package": {"guid": row.package_guid},
        "droplet": {"guid": row.droplet_guid} if row.droplet_guid else None,
        "created_by": {
            "guid": row.created_by_guid,
            "name": row.created_by_name,
            "email": row.created_by_email,
        },
        "relationships": {"app": to_one(row.app_guid)},
        "metadata": metadata_of(row),
        "links": links,
    }


BUILDS = Resource(
    name="build",
    path="/v3/builds",
    table=builds,
    view=view,
    shape=Build,
    visible=visibility.by_app(builds.c.app_guid),
    filters=[
        Filter("app_guids", builds.c.app_guid),
        Filter("package_guids", builds.c.package_guid),
        Filter("states", builds.c.state, choices=_STATES),
    ],
)


def create_build(call: Call[None, Create]) -> Row[Any]:
    """Stage a package: build a droplet from it."""
    return rules.create(call.tx, call.settings, call.actor, call.body.given, call.warnings)


def _may_update(call: Call[Row[Any], Update]) -> None:
    """Developers relabel; only admins change the state, as only the platform's components do elsewhere."""
    if call.body.has("state"):
        access.ADMIN(call)
    else:
        _DEVELOPER(call)


def update_build(call: Call[Row[Any], Update]) -> Row[Any]:
    """Relabel a build; admins can also end one as FAILED that would never end."""
    row = rows.change(call.tx, builds, call.row, {}, call.body.metadata)
    if not call.body.has("state"):
        return row
    if row.state != "STAGING":
        raise errors.unprocessable(f"The build cannot be changed to FAILED: it has ended as {row.state}.")
    reason = call.body.error or f"ended by {call.actor.name or call.actor.guid}"
    builds_outcome.fail(call.tx, row.guid, "StagingError", reason)
    return _again(call, row.guid)


def update_newest_build(call: Call[Row[Any], MetadataOnly]) -> Row[Any]:
    """Relabel the newest build of an app."""
    own = select(builds).where(builds.c.app_guid == call.row.guid).order_by(builds.c.id.desc())
    newest = call.tx.one(own.limit(1))
    if newest is None:
        raise errors.not_found("Build")
    return rows.change(call.tx, builds, newest, {}, call.body.metadata)


def _again(call: Call[Any, Any], guid: str) -> Row[Any]:
    row = rows.by_guid(call.tx, builds, guid)
    assert row is not None
    return row


_DEVELOPER = access.in_space_of_app(*access.DEVELOPER)

OPERATIONS: list[Operation] = [
    list_(BUILDS),
    list_(
        BUILDS,
        path="/v3/apps/{guid}/builds",
        parent=APPS,
        within=lambda app: builds.c.app_guid == app,
        filters=["states"],
        quiet=["app_guids", "package_guids"],
        doc="List the builds of an app.",
    ),
    show(BUILDS),
    create(BUILDS, Create, create_build),
    update(BUILDS, Update, update_build, allow=_may_update),
    update(BUILDS, Update, update_build, path="/v3/internal/builds/{guid}", allow=access.ADMIN),
    Operation(
        "PATCH",
        "/v3/apps/{guid}/builds",
        update_newest_build,
        target=APPS,
        returns=BUILDS,
        body=MetadataOnly,
        allow=access.in_space(*access.DEVELOPER),
    ),
]
