"""What the JSON of every resource begins and ends with: guid, times, metadata, relationships."""

import re
from collections.abc import Mapping
from typing import Any, TypedDict

import msgspec

from cupola import clock

__all__ = [
    "Link",
    "LinkTemplate",
    "Links",
    "Metadata",
    "ToMany",
    "ToOne",
    "common",
    "metadata_of",
    "to_many",
    "to_one",
]


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


class LinkTemplate:
    """All links of a resource as JSON text, for nouns whose lists are long: links are most of what they show.

        LINKS = LinkTemplate({"self": "/v3/apps/{0}", "start": ("/v3/apps/{0}/actions/start", "POST")})
        "links": LINKS.of(world.api, row.guid)

    The values must be guids that the platform made: they are put in as they are.
    """

    def __init__(self, links: Mapping[str, str | tuple[str, str]]) -> None:
        self._links = {name: link if isinstance(link, tuple) else (link, "") for name, link in links.items()}
        self._by_api: dict[str, tuple[list[str], list[tuple[int, int]]]] = {}

    def of(self, api: str, *values: str) -> msgspec.Raw:
        """The `links` object with these values in the paths."""
        known = self._by_api.get(api)
        if known is None:
            known = self._by_api[api] = self._parts(api)
        parts, places = known
        filled = parts.copy()
        for place, number in places:
            filled[place] = values[number]
        return msgspec.Raw("".join(filled).encode())

    def _parts(self, api: str) -> tuple[list[str], list[tuple[int, int]]]:
        """The text cut at its values, and where which value goes."""
        found = {
            name: {"href": api + path, **({"method": method} if method else {})}
            for name, (path, method) in self._links.items()
        }
        parts = re.split(r"\{(\d)\}", msgspec.json.encode(found).decode())
        return parts, [(place, int(parts[place])) for place in range(1, len(parts), 2)]


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
