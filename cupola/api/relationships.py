"""Relationships as resources of their own: `{"data": {"guid": G}}` or `{"data": [{"guid": G}, ...]}`, in and out."""

from collections.abc import Iterator, Sequence
from typing import Any

from cupola.rest.message import Message, anything
from cupola.rest.operation import Call, Reply
from cupola.rest.present import to_many, to_one

__all__ = ["ToMany", "ToOne", "show_many", "show_one"]

_GUID = {"type": "object", "properties": {"guid": {"type": "string"}}, "required": ["guid"]}
_GUID_OR_NONE = {"type": "object", "properties": {"guid": {"type": ["string", "null"]}}, "required": ["guid"]}


def _many_problems(value: Any) -> Iterator[str]:
    if value in (None, "", [], {}):
        yield "Data can't be blank"
    if not isinstance(value, list):
        yield "Data must be an array"
        return
    for index, one in enumerate(value):
        if not isinstance(one, dict) or not isinstance(one.get("guid"), str):
            yield f"Invalid data type: Data[{index}] guid should be a string."


class ToMany(Message):
    """Guids to add to a to-many relationship; those that it has stay."""

    data = anything(_many_problems, {"type": "array", "items": _GUID, "minItems": 1}, required=True, nullable=False)

    @property
    def guids(self) -> list[str]:
        """What was named, each once."""
        return list(dict.fromkeys(one["guid"] for one in self.data))


def _one_problems(value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        yield "Data must be an object"
        return
    if len(value) != 1:
        yield "Data can only accept one key"
    if "guid" not in value:
        yield "Data can only accept key 'guid'"
        return
    guid = value["guid"]
    if guid is not None and not isinstance(guid, str):
        yield f"Data {guid} must be a string"
    elif guid == "":
        yield "Data guid can't be blank"


class ToOne(Message):
    """The guid that a to-one relationship shall have; null for none."""

    data = anything(_one_problems, {"anyOf": [_GUID_OR_NONE, {"type": "null"}]})

    @property
    def guid(self) -> str | None:
        """What was named."""
        return None if self.data is None else self.data["guid"]


def show_many(call: Call[Any, Any], path: str, guids: Sequence[str], related: str = "") -> Reply:
    """The relationship at `path`; `related` is the path of the resources themselves, where there is one."""
    return Reply(200, {**to_many(guids), "links": _links(call, path, related)})


def show_one(call: Call[Any, Any], path: str, guid: str | None, resources: str) -> Reply:
    """The relationship at `path`; `resources` is the path below which the resource is found."""
    return Reply(200, {**to_one(guid), "links": _links(call, path, f"{resources}/{guid}" if guid else "")})


def _links(call: Call[Any, Any], path: str, related: str) -> dict[str, Any]:
    world = call.world()
    links = {"self": world.link(path)}
    return {**links, "related": world.link(related)} if related else links
