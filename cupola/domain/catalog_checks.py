"""Checks of single values of a catalog, each worded as upstream words it; `label` is how it calls the value."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from cupola.domain.ruby import inspected

__all__ = [
    "boolean",
    "description",
    "hashed",
    "integer",
    "maintenance_info",
    "objects",
    "requires",
    "shareable",
    "storable",
    "string",
    "strings",
]

_REQUIRES = ("syslog_drain", "route_forwarding", "volume_mount")
_MAX_DESCRIPTION = 10_000
_MAX_NAME = 255
_MAX_MAINTENANCE = 2000
# semver.org's own expression.
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)


def _wrong(label: str, what: str, value: Any) -> str:
    shown = inspected(value)
    return f"{label} must be {what}, but has value {shown if len(shown) <= 1000 else shown[:1000] + '...'}"


def string(label: str, value: Any, *, required: bool = False) -> Iterator[str]:
    if value is None or value == "":
        if required:
            yield f"{label} is required"
    elif not isinstance(value, str):
        yield _wrong(label, "a string", value)


def description(label: str, value: Any) -> Iterator[str]:
    yield from string(label, value, required=True)
    if isinstance(value, str) and len(value) > _MAX_DESCRIPTION:
        yield f"{label} may not have more than {_MAX_DESCRIPTION} characters"


def boolean(label: str, value: Any, *, required: bool = False) -> Iterator[str]:
    if value is None:
        if required:
            yield f"{label} is required"
    elif not isinstance(value, bool):
        yield _wrong(label, "a boolean", value)


def integer(label: str, value: Any) -> Iterator[str]:
    if value is not None and type(value) is not int:
        yield _wrong(label, "an integer", value)


def hashed(label: str, value: Any) -> Iterator[str]:
    if value is not None and not isinstance(value, dict):
        yield _wrong(label, "a hash", value)


def strings(label: str, value: Any) -> Iterator[str]:
    if value is not None and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        yield _wrong(label, "an array of strings", value)


def objects(label: str, value: Any) -> Iterator[str]:
    if not (isinstance(value, list) and all(isinstance(one, dict) for one in value)):
        yield _wrong(label, "an array of hashes", value)


def requires(value: Any) -> Iterator[str]:
    """Permissions that a platform knows."""
    for one in value if isinstance(value, list) else ():
        if isinstance(one, str) and one not in _REQUIRES:
            yield f'Service "requires" field contains unsupported value {inspected(one)}'


def shareable(metadata: Any) -> Iterator[str]:
    """`metadata.shareable` of a service."""
    if isinstance(metadata, dict):
        yield from boolean("Service metadata shareable", metadata.get("shareable"))


def maintenance_info(value: Any) -> Iterator[str]:
    """`maintenance_info` of a plan: {version, description?}."""
    if value is None:
        return
    if not isinstance(value, dict):
        yield from hashed("Maintenance info", value)
        return
    version = value.get("version")
    yield from string("Maintenance info version", version, required=True)
    if not isinstance(version, str) or not _SEMVER.fullmatch(version):
        yield f"Maintenance info version must be a Semantic Version, but has value {inspected(version)}"
    yield from string("Maintenance info description", value.get("description"))
    size = len(msgspec.json.encode(value).decode())
    if size > _MAX_MAINTENANCE:
        yield (
            f"Maintenance info must serialize to {_MAX_MAINTENANCE} characters or fewer in JSON, but serializes to "
            f"{size} characters"
        )
    unknown = [key for key in value if key not in {"version", "description"}]
    if unknown:
        yield f"Maintenance info contains invalid key(s): {', '.join(unknown)}"


def storable(kind: str, given: Mapping[str, Any]) -> Iterator[str]:
    """What our database does not keep: longer names than anybody reads, and NUL characters."""
    for name in ("id", "name"):
        value = given.get(name)
        if isinstance(value, str) and len(value) > _MAX_NAME:
            yield f"{kind} {name} may not have more than {_MAX_NAME} characters"
    for name in ("id", "name", "description"):
        if isinstance(given.get(name), str) and "\0" in given[name]:
            yield f"{kind} {name} must not contain the NUL character"
