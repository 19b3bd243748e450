"""Buildpacks: in order of lifecycle, then position."""

from typing import Any, TypedDict

from sqlalchemy import Row
from starlette.responses import Response

from cupola import errors
from cupola.api import access
from cupola.domain import access as rules_of_access
from cupola.domain import buildpacks as rules
from cupola.domain import visibility
from cupola.errors import CloudError
from cupola.rest import uploads
from cupola.rest.message import Message, boolean, integer, metadata, string
from cupola.rest.operation import Accepted, Call, Operation, StreamCall, create, delete, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.resource import Filter, Resource, World
from cupola.rest.stream import json_response, present_one
from cupola.store import jobs, rows
from cupola.store.database import Tx
from cupola.store.platform import buildpacks

__all__ = ["BUILDPACKS", "OPERATIONS"]

_LIFECYCLES = ("buildpack", "cnb")


class Create(Message):
    """A new buildpack, without its bits."""

    name = string(required=True, min_length=1, max_length=250, checks=[rules.name_problems])
    stack = string(nullable=True, min_length=1, max_length=250)
    position = integer(at_least=1)
    lifecycle = string(nullable=True, one_of=_LIFECYCLES, one_of_message='must be either "buildpack" or "cnb"')
    enabled = boolean()
    locked = boolean()
    # Named by the OpenAPI rendering of the API: what the bits will be called, and the state that a new one has.
    filename = string(nullable=True, max_length=255)
    state = string(one_of=("AWAITING_UPLOAD",))
    metadata = metadata()


class Update(Message):
    """Everything but the bits and the lifecycle."""

    name = string(min_length=1, max_length=250, checks=[rules.name_problems])
    stack = string(nullable=True, min_length=1, max_length=250)
    position = integer(at_least=1)
    enabled = boolean()
    locked = boolean()
    filename = string(nullable=True, max_length=255)
    metadata = metadata()


class Buildpack(TypedDict):
    """A buildpack as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    name: str
    stack: str | None
    state: str
    lifecycle: str
    filename: str | None
    position: int
    enabled: bool
    locked: bool
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/buildpacks/{row.guid}"
    return {
        **common(row),
        "name": row.name,
        "stack": row.stack,
        "state": row.state,
        "lifecycle": row.lifecycle,
        "filename": row.filename,
        "position": row.position,
        "enabled": row.enabled,
        "locked": row.locked,
        "metadata": metadata_of(row),
        "links": {"self": world.link(path), "upload": world.link(path + "/upload", "POST")},
    }


BUILDPACKS = Resource(
    name="buildpack",
    path="/v3/buildpacks",
    table=buildpacks,
    view=view,
    shape=Buildpack,
    visible=visibility.everyone,
    filters=[
        Filter("stacks", buildpacks.c.stack),
        Filter("names", buildpacks.c.name),
        Filter("lifecycle", buildpacks.c.lifecycle, kind="one", choices=_LIFECYCLES),
    ],
    order_by=["created_at", "updated_at", "position", "lifecycle"],
    default_order=["lifecycle", "position", "id"],
    aliases={"name": "names"},
)


def create_buildpack(call: Call[None, Create]) -> Row[Any]:
    """Create a buildpack; its bits are uploaded next."""
    return rules.create(call.tx, call.actor, call.body.given)


def update_buildpack(call: Call[Row[Any], Update]) -> Row[Any]:
    """Rename, move, enable or lock a buildpack."""
    return rules.change(call.tx, call.actor, call.row, call.body.given)


def delete_buildpack(call: Call[Row[Any], None]) -> Accepted:
    """Delete a buildpack."""
    guid = jobs.enqueue(
        call.tx,
        "buildpack.delete",
        {"guid": call.row.guid},
        actor=call.actor,
        resource_guid=call.row.guid,
        resource_type="buildpacks",
    )
    return Accepted(guid)


def _invalid(problem: str) -> CloudError:
    return errors.unprocessable(f"Uploaded buildpack file is invalid: {problem}")


async def upload_buildpack(call: StreamCall) -> Response:
    """Upload a buildpack's zip."""
    actor = call.actor
    assert actor is not None

    def check(tx: Tx) -> str:
        rules_of_access.require_admin(actor)
        row = rows.by_guid(tx, buildpacks, call.path["guid"])
        if row is None:
            raise errors.not_found("Buildpack")
        if row.locked:
            raise errors.unprocessable("Buildpack is locked")
        return str(row.lifecycle)

    lifecycle = await call.read(check)
    settings = call.services.settings
    limit = settings.blobs.max_buildpack_bytes
    upload = await uploads.receive(call.request, {"bits": lambda: call.services.blobs.writer(limit)})
    if "bits" not in upload.files:
        raise _invalid("A buildpack zip file must be uploaded as 'bits'")
    blob, filename = upload.files["bits"]
    if blob.size == 0:
        raise _invalid(f"{filename} cannot be empty")

    def stack() -> str | None:
        with call.services.blobs.open(blob.digest) as bits:
            bad = rules.form_problem(bits.read(512), lifecycle)
            if bad:
                raise _invalid(f"{filename} {bad}")
            bits.seek(0)
            return rules.stack_in_zip(bits) if lifecycle == "buildpack" else None

    found = await call.in_thread(stack)

    def take(tx: Tx) -> tuple[Any, str]:
        row = rules.store_bits(tx, actor, call.path["guid"], blob.digest, filename, found)
        # The bits are in place when this commits; the job is there for clients, which poll it.
        job = jobs.completed(tx, "buildpack.upload", actor=actor, resource_guid=row.guid, resource_type="buildpacks")
        return present_one(call, tx, BUILDPACKS, row), job

    shown, job = await call.write(take)
    return json_response(202, shown, {"Location": f"{settings.api_url}/v3/jobs/{job}"})


OPERATIONS: list[Operation] = [
    list_(BUILDPACKS),
    show(BUILDPACKS),
    create(BUILDPACKS, Create, create_buildpack, allow=access.ADMIN),
    update(BUILDPACKS, Update, update_buildpack, allow=access.ADMIN),
    delete(BUILDPACKS, delete_buildpack, allow=access.ADMIN),
    Operation(
        "POST",
        BUILDPACKS.path + "/{guid}/upload",
        stream=upload_buildpack,
        returns=BUILDPACKS,
        status=202,
        job=True,
        consumes="multipart/form-data",
    ),
]
