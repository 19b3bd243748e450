"""What the JSON of every resource begins and ends with: guid, times, metadata, relationships."""

from typing import Any, TypedDict

import msgspec

from cupola import clock

__all__ = ["Link", "Links", "Metadata", "ToMany", "ToOne", "common", "metadata_of", "to_many", "to_one"]


class Link(TypedDict, total=False):
    """Where to go, and with which method if not GET."""

    href: str
    method: str


Links = dict[str, Link]


class Metadata(TypedDict):
    """Labels and annotations."""

    labels: dict[str, str]
    annotations: dict[str, str]


class _Guid(TypedDict):
    guid: str


class ToOne(TypedDict):
    """A relationship with at most one resource."""

    data: _Guid | None


class ToMany(TypedDict):
    """A relationship with any number of resources."""

    data: list[_Guid]


def common(row: Any) -> dict[str, Any]:
    """guid, created_at, updated_at."""
    return {
        "guid": row.guid,
        "created_at": clock.format_api(row.created_at),
        "updated_at": clock.format_api(row.updated_at),
    }


def metadata_of(row: Any) -> dict[str, Any]:
    """Labels and annotations, which the row holds as JSON text already."""
    return {"labels": msgspec.Raw(row.labels.encode()), "annotations": msgspec.Raw(row.annotations.encode())}


def to_one(guid: str | None) -> dict[str, Any]:
    """`{"data": {"guid": G}}` or `{"data": null}`."""
    return {"data": {"guid": guid} if guid else None}


def to_many(guids: Any) -> dict[str, Any]:
    """`{"data": [{"guid": G}, ...]}`."""
    return {"data": [{"guid": guid} for guid in guids]}
