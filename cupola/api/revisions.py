"""Revisions: what an app ran; by guid, and by app and version number."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, and_, exists, select

from cupola import errors
from cupola.api import access
from cupola.api.apps import APPS
from cupola.domain import audit, visibility
from cupola.domain.access import has_in_space, require_in_space
from cupola.rest.message import MetadataOnly, boolean, string
from cupola.rest.operation import Call, Operation, Reply, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of, to_one
from cupola.rest.resource import Filter, Resource, World
from cupola.store import rows, sealed
from cupola.store.apps import apps, processes, revisions
from cupola.store.staging import droplets

__all__ = ["OPERATIONS", "REVISIONS"]


class UpdateByVersion(MetadataOnly):
    """What the OpenAPI rendering of the API lets one change: a disabled revision is not rolled back to."""

    description = string(nullable=True, max_length=4096)
    enabled = boolean(nullable=True)


class Revision(TypedDict):
    """A revision as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    version: int
    droplet: dict[str, str]
    processes: dict[str, Any]
    sidecars: list[dict[str, Any]]
    description: str
    deployable: bool
    enabled: bool
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/revisions/{row.guid}"
    return {
        **common(row),
        "version": row.version,
        "droplet": {"guid": row.droplet_guid},
        "processes": {type_: {"command": command} for type_, command in row.processes.items()},
        "sidecars": row.sidecars,
        "description": row.description,
        "deployable": row.enabled and row.droplet_guid in world.related["staged"],
        "enabled": row.enabled,
        "relationships": {"app": to_one(row.app_guid)},
        "metadata": metadata_of(row),
        "links": {
            "self": world.link(path),
            "app": world.link(f"/v3/apps/{row.app_guid}"),
            "environment_variables": world.link(path + "/environment_variables"),
        },
    }


def _staged(world: World, page: Sequence[Row[Any]]) -> set[str]:
    """Guids of the page's droplets that can still be run."""
    wanted = [row.droplet_guid for row in page]
    return set(
        world.tx.scalars(select(droplets.c.guid).where(droplets.c.guid.in_(wanted), droplets.c.state == "STAGED"))
    )


def _deployable(wanted: Any) -> ColumnElement[bool]:
    staged = exists().where(droplets.c.guid == revisions.c.droplet_guid, droplets.c.state == "STAGED")
    same: ColumnElement[bool] = and_(revisions.c.enabled, staged) == wanted
    return same


REVISIONS = Resource(
    name="revision",
    path="/v3/revisions",
    table=revisions,
    view=view,
    shape=Revision,
    visible=visibility.by_app(revisions.c.app_guid),
    related={"staged": _staged},
    filters=[
        Filter("versions", revisions.c.version, convert=int),
        Filter("deployable", _deployable, kind="bool"),
    ],
)

Verb = Callable[[Call[Any, Any], Row[Any]], Any]


def _by_version(verb: Verb) -> Callable[[Call[Any, Any]], Any]:
    def run(call: Call[Row[Any], Any]) -> Any:
        version = call.path["version"]
        row = None
        if version.isascii() and version.isdigit():
            statement = select(revisions).where(
                revisions.c.app_guid == call.row.guid, revisions.c.version == int(version[:9])
            )
            row = call.tx.one(statement.order_by(revisions.c.id.desc()))
        if row is None:
            raise errors.not_found("Revision")
        return verb(call, row)

    run.__doc__ = verb.__doc__
    return run


def _itself(verb: Verb) -> Callable[[Call[Any, Any]], Any]:
    def run(call: Call[Row[Any], Any]) -> Any:
        return verb(call, call.row)

    run.__doc__ = verb.__doc__
    return run


def show_revision(call: Call[Any, None], revision: Row[Any]) -> Row[Any]:
    """Get one revision of an app."""
    return revision


def update_revision(call: Call[Any, MetadataOnly], revision: Row[Any]) -> Row[Any]:
    """Relabel a revision."""
    require_in_space(call.tx, call.actor, access.space_of_app(call, revision.app_guid), access.DEVELOPER)
    given = {name: value for name, value in call.body.given.items() if name != "metadata" and value is not None}
    return rows.change(call.tx, revisions, revision, given, call.body.metadata)


def environment(call: Call[Any, None], revision: Row[Any]) -> Reply:
    """The environment variables of a revision."""
    space = access.space_of_app(call, revision.app_guid)
    if not call.actor.reads_secrets and not has_in_space(call.tx, call.actor, space, access.DEVELOPER):
        raise errors.not_authorized()
    app = rows.by_guid(call.tx, apps, revision.app_guid)
    assert app is not None
    data = {"revision_guid": revision.guid, "revision_version": revision.version}
    event = "audit.app.revision.environment_variables.show"
    audit.record(call.tx, event, call.actor, app.guid, "app", app.name, data, space_guid=space)
    world, path = call.world(), f"/v3/revisions/{revision.guid}"
    links = {
        "self": world.link(path + "/environment_variables"),
        "revision": world.link(path),
        "app": world.link(f"/v3/apps/{app.guid}"),
    }
    variables = sealed.opened(call.tx, revisions.c.environment, revision.environment, {})
    return Reply(200, {"var": variables, "links": links})


def _deployed(app: Any) -> ColumnElement[bool]:
    running = select(processes.c.revision_guid).where(
        processes.c.app_guid == app, processes.c.state == "STARTED", processes.c.revision_guid.is_not(None)
    )
    return revisions.c.guid.in_(running)


_OF_APP = "/v3/apps/{guid}/revisions"
_ENVIRONMENT = "/environment_variables"

OPERATIONS: list[Operation] = [
    list_(
        REVISIONS,
        path=_OF_APP,
        parent=APPS,
        within=lambda app: revisions.c.app_guid == app,
        doc="List the revisions of an app.",
    ),
    list_(
        REVISIONS,
        path=_OF_APP + "/deployed",
        parent=APPS,
        within=_deployed,
        filters=[],
        quiet=["versions"],
        doc="List the revisions that an app runs now.",
    ),
    show(REVISIONS),
    update(REVISIONS, MetadataOnly, _itself(update_revision)),
    Operation("GET", REVISIONS.path + "/{guid}" + _ENVIRONMENT, _itself(environment), target=REVISIONS, writes=True),
    Operation("GET", _OF_APP + "/{version}", _by_version(show_revision), target=APPS, returns=REVISIONS),
    Operation(
        "PATCH",
        _OF_APP + "/{version}",
        _by_version(update_revision),
        target=APPS,
        returns=REVISIONS,
        body=UpdateByVersion,
    ),
    Operation("GET", _OF_APP + "/{version}" + _ENVIRONMENT, _by_version(environment), target=APPS, writes=True),
]
