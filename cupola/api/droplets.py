"""Droplets: what builds make and apps run."""

from collections.abc import Iterator
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Row, select
from starlette.responses import Response

from cupola import errors
from cupola.api import access
from cupola.api.apps import APPS
from cupola.api.packages import PACKAGES
from cupola.domain import access as rules_of_access
from cupola.domain import droplets as rules
from cupola.domain import visibility
from cupola.domain.buildpack_names import redacted
from cupola.errors import CloudError
from cupola.rest import listing, uploads
from cupola.rest.document import decode
from cupola.rest.message import Message, metadata, nested, object_, string, to_one
from cupola.rest.operation import Accepted, Call, Operation, Parameter, Reply, StreamCall, delete, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Resource, World
from cupola.rest.stream import file_response, json_response, present_one
from cupola.store import jobs, rows
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.orgs import spaces
from cupola.store.staging import droplets

__all__ = ["DROPLETS", "OPERATIONS"]

_STATES = ("AWAITING_UPLOAD", "COPYING", "EXPIRED", "FAILED", "PROCESSING_UPLOAD", "STAGED", "STAGING")


class _Relationships(Message):
    app = to_one(required=True)


def _string_values(value: dict[str, Any]) -> Iterator[str]:
    if not all(isinstance(command, str) for command in value.values()):
        yield "value must be a string"
    if not all(value):
        yield "key must not be empty"


class Create(Message):
    """A droplet that waits for its bits."""

    relationships = nested(_Relationships, required=True)
    process_types = object_(values={"type": "string"}, checks=[_string_values])


class Copy(Message):
    """Where a copy goes."""

    relationships = nested(_Relationships, required=True)


class Update(Message):
    """Labels and annotations; the image of a docker droplet, which the platform's own parts know."""

    image = string(nullable=True)
    metadata = metadata()


class Droplet(TypedDict):
    """A droplet as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    state: str
    error: str | None
    lifecycle: dict[str, Any]
    checksum: dict[str, Any] | None
    buildpacks: list[dict[str, Any]] | None
    stack: str | None
    image: str | None
    execution_metadata: str
    process_types: dict[str, str]
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def _links(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/droplets/{row.guid}"
    assign = f"/v3/apps/{row.app_guid}/relationships/current_droplet"
    links = {
        "self": world.link(path),
        "app": world.link(f"/v3/apps/{row.app_guid}"),
        "assign_current_droplet": world.link(assign, "PATCH"),
    }
    if row.package_guid:
        links["package"] = world.link(f"/v3/packages/{row.package_guid}")
    if row.state == "AWAITING_UPLOAD":
        links["upload"] = world.link(path + "/upload", "POST")
    if row.state == "STAGED" and row.lifecycle_type != "docker":
        links["download"] = world.link(path + "/download")
    return links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    secrets = world.single and row.app_guid in world.related["secrets"]
    hidden = "[PRIVATE DATA HIDDEN]" if world.single else "[PRIVATE DATA HIDDEN IN LISTS]"
    buildpacks = [
        {
            "name": redacted(buildpack.get("name") or ""),
            "detect_output": buildpack.get("detect_output"),
            "buildpack_name": buildpack.get("buildpack_name"),
            "version": buildpack.get("version"),
        }
        for buildpack in row.buildpacks or []
    ]
    return {
        **common(row),
        "state": row.state,
        "error": row.error,
        "lifecycle": {"type": row.lifecycle_type, "data": {}},
        "checksum": {"type": "sha256", "value": row.digest.removeprefix("sha256:")} if row.digest else None,
        "buildpacks": buildpacks,
        "stack": row.stack,
        "image": row.image,
        "execution_metadata": row.execution_metadata if secrets else hidden,
        "process_types": row.process_types if secrets else {"redacted_message": hidden},
        "relationships": {"app": one(row.app_guid)},
        "metadata": metadata_of(row),
        "links": _links(row, world),
    }


def _apps_with_secrets(world: World, page: Any) -> set[str]:
    """Guids of the page's apps whose secrets the caller may read."""
    guids = {row.app_guid for row in page}
    if world.actor is None or not world.single:
        return set()
    if world.actor.reads_secrets:
        return guids
    found = world.tx.all(select(apps.c.guid, apps.c.space_guid).where(apps.c.guid.in_(guids)))
    return {
        app.guid
        for app in found
        if rules_of_access.has_in_space(world.tx, world.actor, app.space_guid, rules_of_access.WRITE_IN_SPACE)
    }


def _in_spaces(guids: Any) -> ColumnElement[bool]:
    return droplets.c.app_guid.in_(select(apps.c.guid).where(apps.c.space_guid.in_(guids)))


def _in_organizations(guids: Any) -> ColumnElement[bool]:
    inside = select(spaces.c.guid).where(spaces.c.organization_guid.in_(guids))
    return droplets.c.app_guid.in_(select(apps.c.guid).where(apps.c.space_guid.in_(inside)))


def _current(wanted: Any) -> ColumnElement[bool]:
    current = droplets.c.guid.in_(select(apps.c.droplet_guid).where(apps.c.droplet_guid.is_not(None)))
    same: ColumnElement[bool] = current == wanted
    return same


DROPLETS = Resource(
    name="droplet",
    path="/v3/droplets",
    table=droplets,
    view=view,
    shape=Droplet,
    visible=visibility.by_app(droplets.c.app_guid),
    related={"secrets": _apps_with_secrets},
    filters=[
        Filter("app_guids", droplets.c.app_guid),
        Filter("organization_guids", _in_organizations),
        Filter("space_guids", _in_spaces),
        Filter("states", droplets.c.state, choices=_STATES),
        Filter("current", _current, kind="bool"),
    ],
)
_EVERYWHERE = ["states", "app_guids", "space_guids", "organization_guids"]


def create_or_copy(call: Call[None, Any]) -> Row[Any]:
    """Create a droplet that waits for its bits, or with `source_guid` copy one from another app."""
    source = call.query.get("source_guid")
    document = decode(call.raw_body)
    if source is not None:
        return rules.copy(call.tx, call.actor, source, Copy.parse(document).relationships.app)
    body = Create.parse(document)
    return rules.create(call.tx, call.actor, body.relationships.app, body.process_types)


def may_update(call: Call[Row[Any], Update]) -> None:
    """Developers relabel; only admins say what the image is, as only the platform's components do elsewhere."""
    if call.body.has("image"):
        access.ADMIN(call)
    else:
        _WRITE(call)


def update_droplet(call: Call[Row[Any], Update]) -> Row[Any]:
    """Relabel a droplet, or say which image a docker droplet is."""
    values: dict[str, Any] = {}
    if call.body.has("image"):
        if call.row.state != "STAGED":
            raise errors.unprocessable("Droplet image can only be updated on staged droplets")
        if call.row.lifecycle_type != "docker":
            raise errors.unprocessable("Images can only be updated for docker droplets")
        values["image"] = call.body.image
    return rows.change(call.tx, droplets, call.row, values, call.body.metadata)


def delete_droplet(call: Call[Row[Any], None]) -> Accepted:
    """Delete a droplet that no app runs, and its bits."""
    rules.require_not_current(call.tx, call.row)
    guid = jobs.enqueue(
        call.tx,
        "droplet.delete",
        {"guid": call.row.guid},
        actor=call.actor,
        resource_guid=call.row.guid,
        resource_type="droplets",
    )
    return Accepted(guid)


def current_droplet(call: Call[Row[Any], None]) -> Row[Any]:
    """Get the droplet that an app runs."""
    droplet = rows.by_guid(call.tx, droplets, call.row.droplet_guid)
    if droplet is None:
        raise errors.not_found("Droplet")
    return droplet


def _visible_droplet(tx: Tx, call: StreamCall) -> Row[Any]:
    assert call.actor is not None
    row: Row[Any] | None = listing.find(DROPLETS, call.actor, tx, call.path["guid"])
    if row is None:
        raise errors.not_found("Droplet")
    return row


def _invalid(problem: str) -> CloudError:
    return errors.unprocessable(f"Uploaded droplet file is invalid: {problem}")


async def upload_droplet(call: StreamCall) -> Response:
    """Upload a droplet's bits, a gzipped tar file."""
    actor = call.actor
    assert actor is not None
    await call.read(lambda tx: rules.app_for_upload(tx, actor, _visible_droplet(tx, call)))
    limit = call.services.settings.blobs.max_droplet_bytes
    upload = await uploads.receive(call.request, {"bits": lambda: call.services.blobs.writer(limit)})
    if "bits" not in upload.files:
        raise _invalid("A droplet tgz file must be uploaded as 'bits'")
    blob, filename = upload.files["bits"]
    if not filename.endswith((".tgz", ".tar.gz")):
        raise _invalid(f"{filename or 'The file'} is not a tgz")
    if blob.size == 0:
        raise _invalid(f"{filename} cannot be empty")

    def take(tx: Tx) -> tuple[Any, str]:
        row = rules.take_bits(tx, actor, call.path["guid"], blob.digest, blob.sha1, blob.size)
        job = jobs.completed(tx, "droplet.upload", actor=actor, resource_guid=row.guid, resource_type="droplets")
        return present_one(call, tx, DROPLETS, row), job

    shown, job = await call.write(take)
    return json_response(202, shown, {"Location": f"{call.services.settings.api_url}/v3/jobs/{job}"})


_READERS = ("organization_manager", "space_auditor", "space_developer", "space_manager")


async def download_droplet(call: StreamCall) -> Response:
    """Download a staged droplet."""
    actor = call.actor
    assert actor is not None

    def find(tx: Tx) -> Row[Any]:
        row = _visible_droplet(tx, call)
        app = rows.by_guid(tx, apps, row.app_guid)
        assert app is not None
        if not actor.reads_everything and not rules_of_access.has_in_space(tx, actor, app.space_guid, _READERS):
            raise errors.not_authorized()
        if row.lifecycle_type == "docker":
            raise errors.unprocessable("Cannot download droplets with 'docker' lifecycle.")
        if row.state != "STAGED" or row.digest is None:
            raise errors.unprocessable("Only staged droplets can be downloaded.")
        rules.record(tx, "audit.app.droplet.download", actor, app, row)
        return row

    row = await call.write(find)
    file = await call.in_thread(call.services.blobs.open, row.digest)
    return file_response(call, file, row.size, f"droplet_{row.guid}.tgz", "application/gzip")


def current_relationship(call: Call[Row[Any], None]) -> Reply:
    """Which droplet an app runs."""
    if call.row.droplet_guid is None:
        raise errors.not_found("Droplet")
    return Reply(200, _relationship(call, call.row))


def _relationship(call: Call[Any, Any], app: Row[Any]) -> dict[str, Any]:
    world = call.world()
    path = f"/v3/apps/{app.guid}"
    links = {
        "self": world.link(path + "/relationships/current_droplet"),
        "related": world.link(path + "/droplets/current"),
    }
    return {**one(app.droplet_guid), "links": links}


_ONE = DROPLETS.path + "/{guid}"
_WRITE = access.in_space_of_app(*access.DEVELOPER)

OPERATIONS: list[Operation] = [
    list_(DROPLETS, filters=_EVERYWHERE),
    list_(
        DROPLETS,
        path="/v3/apps/{guid}/droplets",
        parent=APPS,
        within=lambda app: droplets.c.app_guid == app,
        filters=["states", "current"],
        doc="List the droplets of an app.",
    ),
    list_(
        DROPLETS,
        path="/v3/packages/{guid}/droplets",
        parent=PACKAGES,
        within=lambda package: droplets.c.package_guid == package,
        filters=_EVERYWHERE,
        doc="List the droplets made from a package.",
    ),
    show(DROPLETS),
    Operation("GET", "/v3/apps/{guid}/droplets/current", current_droplet, target=APPS, returns=DROPLETS),
    Operation("GET", "/v3/apps/{guid}/relationships/current_droplet", current_relationship, target=APPS),
    Operation(
        "POST",
        DROPLETS.path,
        create_or_copy,
        bodies=(Create, Copy),
        returns=DROPLETS,
        status=201,
        query=(Parameter("source_guid", "Droplet to copy."),),
    ),
    update(DROPLETS, Update, update_droplet, allow=may_update),
    delete(DROPLETS, delete_droplet, allow=_WRITE),
    Operation(
        "POST",
        _ONE + "/upload",
        stream=upload_droplet,
        returns=DROPLETS,
        status=202,
        job=True,
        consumes="multipart/form-data",
    ),
    Operation("GET", _ONE + "/download", stream=download_droplet, produces="application/gzip"),
]
