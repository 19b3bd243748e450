"""The body of requests that add to a to-many relationship: `{"data": [{"guid": G}, ...]}` at the top."""

from collections.abc import Iterator
from typing import Any

from cupola.rest.message import Message, anything

__all__ = ["ToMany"]

_SCHEMA = {
    "type": "array",
    "items": {"type": "object", "properties": {"guid": {"type": "string"}}, "required": ["guid"]},
    "minItems": 1,
}


def _problems(value: Any) -> Iterator[str]:
    if value in (None, "", [], {}):
        yield "Data can't be blank"
    if not isinstance(value, list):
        yield "Data must be an array"
        return
    for index, one in enumerate(value):
        if not isinstance(one, dict) or not isinstance(one.get("guid"), str):
            yield f"Invalid data type: Data[{index}] guid should be a string."


class ToMany(Message):
    """Guids to add to a relationship; those that it has stay."""

    data = anything(_problems, _SCHEMA, required=True, nullable=False)

    @property
    def guids(self) -> list[str]:
        """What was named, each once."""
        return list(dict.fromkeys(one["guid"] for one in self.data))
