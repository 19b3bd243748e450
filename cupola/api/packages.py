"""Packages and the matching of files that the platform has already."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import msgspec
from sqlalchemy import Row, select
from starlette.responses import Response

from cupola import errors
from cupola.api import access
from cupola.api.apps import APPS
from cupola.blobs.archives import ArchiveError
from cupola.blobs.resources import build_package
from cupola.blobs.store import TooLarge
from cupola.domain import access as rules_of_access
from cupola.domain import feature_flags, visibility
from cupola.domain import packages as rules
from cupola.rest import listing, uploads
from cupola.rest.document import decode
from cupola.rest.message import Message, anything, metadata, nested, string, to_one
from cupola.rest.operation import Accepted, Call, Operation, Parameter, Reply, StreamCall, delete, list_, show, update
from cupola.rest.present import Links, Metadata, common, metadata_of
from cupola.rest.present import to_one as one
from cupola.rest.resource import Filter, Resource, World
from cupola.rest.stream import file_response, json_response, present_one
from cupola.store import jobs, rows, sealed
from cupola.store.apps import apps
from cupola.store.database import Tx
from cupola.store.orgs import spaces
from cupola.store.staging import packages

__all__ = ["OPERATIONS", "PACKAGES"]

_STATES = ("AWAITING_UPLOAD", "COPYING", "EXPIRED", "FAILED", "PROCESSING_UPLOAD", "READY")
_TYPES = ("bits", "docker")


class _Relationships(Message):
    app = to_one(required=True)


def _data_problems(value: Any) -> Iterator[str]:
    if value is not None and not isinstance(value, dict):
        yield "Data must be an object"


def _type_problems(value: Any) -> Iterator[str]:
    if value not in _TYPES:
        yield "Type must be one of 'bits, docker'"


class Create(Message):
    """A new package; bits are uploaded next, an image is ready at once."""

    relationships = nested(_Relationships, required=True)
    type = anything(_type_problems, {"type": "string", "enum": list(_TYPES)}, required=True, nullable=False)
    data = anything(_data_problems, {"type": "object"})
    metadata = metadata()

    def rules(self) -> Iterator[str]:
        data = self.given.get("data")
        if not isinstance(data, dict):
            data = {}
        if self.given.get("type") == "bits" and data:
            yield "Data must be empty if provided for bits packages"
        if self.given.get("type") == "docker":
            if not isinstance(data.get("image"), str) or not data["image"]:
                yield "Data Image required"
            password = data.get("password")
            if isinstance(password, str) and len(password) > 5000:
                yield "Data Password must be less than or equal to 5000 characters"


class Copy(Message):
    """Where a copy goes."""

    relationships = nested(_Relationships, required=True)


class Update(Message):
    """Metadata; user name and password of an image."""

    username = string(nullable=True)
    password = string(nullable=True, max_length=5000)
    metadata = metadata()


def _resources_problems(value: Any) -> Iterator[str]:
    if not isinstance(value, list) or not value:
        yield "Resources must be an array" if not isinstance(value, list) else "Resources must have at least 1 resource"
        return
    if len(value) > 5000:
        yield "Resources array can have at most 5000 resources"
    if not all(isinstance(resource, dict) for resource in value):
        yield "Resources must be objects"
        return
    found = dict.fromkeys(problem for resource in value for problem in _resource_problems(resource))
    yield from (f"Resources array contains at least one resource with {problem}" for problem in found)


def _resource_problems(resource: dict[str, Any]) -> Iterator[str]:
    checksum, size, mode = resource.get("checksum"), resource.get("size_in_bytes"), resource.get("mode")
    if not isinstance(checksum, dict):
        yield "a non-object checksum"
    elif not isinstance(checksum.get("value"), str):
        yield "a non-string checksum value"
    elif len(checksum["value"]) != 40:
        yield "a non-SHA1 checksum value"
    if isinstance(size, bool) or not isinstance(size, int):
        yield "a non-integer size_in_bytes"
    elif size < 0:
        yield "a negative size_in_bytes"
    if mode is not None and not isinstance(mode, str):
        yield "a non-string mode"
    elif mode is not None and not re.search(r"^[0-7]+$", mode, re.MULTILINE):
        yield "an incorrect mode"


class Matches(Message):
    """The files that a client is about to upload."""

    rejects_unknown = False
    resources = anything(_resources_problems, {"type": "array"}, required=True, nullable=False)


class Package(TypedDict):
    """A package as the API shows it."""

    guid: str
    created_at: str
    updated_at: str
    type: str
    state: str
    data: dict[str, Any]
    relationships: dict[str, Any]
    metadata: Metadata
    links: Links


def view(row: Row[Any], world: World) -> dict[str, Any]:
    path = f"/v3/packages/{row.guid}"
    links = {"self": world.link(path), "app": world.link(f"/v3/apps/{row.app_guid}")}
    if row.type == "bits":
        checksum = row.digest.removeprefix("sha256:") if row.digest else None
        data: dict[str, Any] = {"error": row.error, "checksum": {"type": "sha256", "value": checksum}}
        links["upload"] = world.link(path + "/upload", "POST")
        links["download"] = world.link(path + "/download")
    else:
        password = "***" if row.password is not None else None
        data = {"image": row.image, "username": row.username, "password": password}
    return {
        **common(row),
        "type": row.type,
        "state": row.state,
        "data": data,
        "relationships": {"app": one(row.app_guid)},
        "metadata": metadata_of(row),
        "links": links,
    }


def _in_spaces(guids: Any) -> Any:
    return packages.c.app_guid.in_(select(apps.c.guid).where(apps.c.space_guid.in_(guids)))


def _in_organizations(guids: Any) -> Any:
    inside = select(spaces.c.guid).where(spaces.c.organization_guid.in_(guids))
    return packages.c.app_guid.in_(select(apps.c.guid).where(apps.c.space_guid.in_(inside)))


PACKAGES = Resource(
    name="package",
    path="/v3/packages",
    table=packages,
    view=view,
    shape=Package,
    visible=visibility.by_app(packages.c.app_guid),
    filters=[
        Filter("states", packages.c.state, choices=_STATES),
        Filter("types", packages.c.type, choices=("bits", "docker")),
        Filter("app_guids", packages.c.app_guid),
        Filter("space_guids", _in_spaces),
        Filter("organization_guids", _in_organizations),
    ],
)


def create_or_copy(call: Call[None, Any]) -> Row[Any]:
    """Create a package for an app, or with `source_guid` copy one from another app."""
    source = call.query.get("source_guid")
    document = decode(call.raw_body)
    if source is None:
        return rules.create(call.tx, call.actor, Create.parse(document).given)
    body = Copy.parse(document)
    return rules.copy(call.tx, call.actor, source, body.relationships.app)


def update_package(call: Call[Row[Any], Update]) -> Row[Any]:
    """Relabel a package, or change an image's user name and password."""
    values: dict[str, Any] = {}
    if call.body.has("username") or call.body.has("password"):
        if call.row.type != "docker":
            raise errors.unprocessable("Cannot update Docker credentials for a buildpack app.")
        if call.body.has("username"):
            values["username"] = call.body.username
        if call.body.has("password"):
            values["password"] = sealed.seal(call.tx, packages.c.password, call.body.password)
    return rows.change(call.tx, packages, call.row, values, call.body.metadata)


def delete_package(call: Call[Row[Any], None]) -> Accepted:
    """Delete a package and its bits."""
    guid = jobs.enqueue(
        call.tx,
        "package.delete",
        {"guid": call.row.guid},
        actor=call.actor,
        resource_guid=call.row.guid,
        resource_type="packages",
    )
    return Accepted(guid)


def _visible_package(tx: Tx, call: StreamCall) -> Row[Any]:
    assert call.actor is not None
    row: Row[Any] | None = listing.find(PACKAGES, call.actor, tx, call.path["guid"])
    if row is None:
        raise errors.not_found("Package")
    return row


async def upload_package(call: StreamCall) -> Response:
    """Upload an app's files as a zip, as matched resources, or both."""
    actor = call.actor
    assert actor is not None

    def check(tx: Tx) -> None:
        rules.may_upload(tx, actor, _visible_package(tx, call))
        feature_flags.require(tx, actor, "app_bits_upload")

    await call.read(check)
    limits = call.services.settings.blobs
    temporary = await call.in_thread(call.services.resources.temporary_file)
    try:
        upload = await uploads.receive(
            call.request, {"bits": lambda: uploads.FileWriter(temporary, limits.max_package_bytes)}
        )
        unknown = [name for name in (*upload.fields, *upload.files) if name not in {"bits", "resources"}]
        if unknown:
            raise errors.unprocessable("Unknown field(s): " + ", ".join(f"'{name}'" for name in unknown))
        if "bits" not in upload.files and "resources" not in upload.fields:
            raise errors.unprocessable("Upload must include either resources or bits")
        bits = upload.files["bits"][0] if "bits" in upload.files else None
        resources = _resources(upload.fields.get("resources"))
        blob = await call.in_thread(_build, call, bits, resources)
    finally:
        await call.in_thread(lambda: temporary.unlink(missing_ok=True))

    def take(tx: Tx) -> Any:
        return present_one(call, tx, PACKAGES, rules.ready(tx, actor, call.path["guid"], blob.digest, blob.size))

    return json_response(200, await call.write(take))


def _resources(text: str | None) -> list[Any]:
    if not text:
        return []
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise errors.unprocessable("Resources must be valid JSON.") from None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise errors.unprocessable("Resources must be an array of objects.")
    return found


def _build(call: StreamCall, bits: Path | None, resources: list[Any]) -> Any:
    services = call.services
    if bits is None and not resources:
        raise errors.unprocessable("Upload must include either resources or bits")
    if bits is not None and bits.stat().st_size == 0:
        bits = None
    try:
        return build_package(bits, resources, services.resources, services.blobs, services.settings.blobs)
    except ArchiveError as error:
        raise errors.unprocessable(f"The app package is invalid: {error}") from error
    except ValueError:
        raise errors.unprocessable("The app package is invalid: bits have not been uploaded") from None
    except TooLarge as error:
        raise errors.unprocessable(
            f"The app package is invalid: Package may not be larger than {error.limit} bytes"
        ) from error


async def download_package(call: StreamCall) -> Response:
    """Download the bits of a package."""
    actor = call.actor
    assert actor is not None

    def find(tx: Tx) -> Row[Any]:
        row = _visible_package(tx, call)
        app = rows.by_guid(tx, apps, row.app_guid)
        assert app is not None
        if not actor.reads_secrets:
            rules_of_access.require_in_space(tx, actor, app.space_guid, access.DEVELOPER, also_suspended=True)
        if row.type != "bits":
            raise errors.unprocessable("Package type must be bits.")
        if row.state != "READY":
            raise errors.unprocessable("Package has no bits to download.")
        rules.record(tx, "audit.app.package.download", actor, app, row)
        return row

    row = await call.write(find)
    file = await call.in_thread(call.services.blobs.open, row.digest)
    return file_response(call, file, row.size, f"{row.guid}.zip", "application/zip")


def match(call: Call[None, Matches]) -> Reply:
    """Which files of an app need not be uploaded because the platform has them."""
    feature_flags.require(call.tx, call.actor, "app_bits_upload")
    if not feature_flags.is_enabled(call.tx, "resource_matching"):
        return Reply(201, {"resources": []})
    given = call.body.resources
    known = set(
        call.services.resources.match((one["checksum"]["value"].lower(), one["size_in_bytes"]) for one in given)
    )
    found = [one for one in given if (one["checksum"]["value"].lower(), one["size_in_bytes"]) in known]
    return Reply(201, {"resources": found})


_ONE = PACKAGES.path + "/{guid}"
_WRITE = access.in_space_of_app(*access.DEVELOPER)

OPERATIONS: list[Operation] = [
    list_(PACKAGES),
    list_(
        PACKAGES,
        path="/v3/apps/{guid}/packages",
        parent=APPS,
        within=lambda app: packages.c.app_guid == app,
        filters=["states", "types"],
        doc="List the packages of an app.",
    ),
    show(PACKAGES),
    Operation(
        "POST",
        PACKAGES.path,
        create_or_copy,
        bodies=(Create, Copy),
        returns=PACKAGES,
        status=201,
        query=(Parameter("source_guid", "Package to copy."),),
    ),
    update(PACKAGES, Update, update_package, allow=_WRITE),
    delete(PACKAGES, delete_package, allow=_WRITE),
    Operation("POST", _ONE + "/upload", stream=upload_package, returns=PACKAGES, consumes="multipart/form-data"),
    Operation("GET", _ONE + "/download", stream=download_package, produces="application/zip"),
    Operation("POST", "/v3/resource_matches", match, body=Matches, status=201, writes=False),
]
