"""Request bodies, declared once: Cloud Foundry's checks in its words and order, and the JSON schema for OpenAPI.

    class Create(Message):
        name = string(required=True, max_length=250)
        suspended = boolean()
        relationships = nested(Relationships, required=True)

A message collects every problem of a body into one sentence list (reference/behaviours.md section 1) and tells a
missing field from a null one: `message.has("name")`. Attribute access gives the value, or None where it is missing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, overload

from cupola import errors
from cupola.store import labels as label_rules

__all__ = [
    "Field",
    "Message",
    "MetadataOnly",
    "anything",
    "array",
    "boolean",
    "integer",
    "metadata",
    "nested",
    "object_",
    "string",
    "to_many",
    "to_one",
    "unknown_fields",
]

T = TypeVar("T")
M = TypeVar("M", bound="Message")
Check = Callable[[Any], Iterable[str]]
"""Given a value of the right type, what is wrong with it; each text follows the field's label."""


def humanized(name: str) -> str:
    """`memory_in_mb` as messages begin: `Memory in mb`."""
    return name.replace("_", " ").capitalize()


def unknown_fields(names: Iterable[str]) -> str:
    """The message for fields that nobody declared."""
    return "Unknown field(s): " + ", ".join(f"'{name}'" for name in names)


class Field(Generic[T]):
    """One field of a message. `problems` yields complete sentences; `value` is what attribute access gives."""

    def __init__(
        self,
        problems: Callable[[Any, str], Iterable[str]],
        schema: Callable[[], dict[str, Any]],
        *,
        required: bool = False,
        nullable: bool = False,
        value: Callable[[Any], T] | None = None,
        missing: Callable[[str], Iterable[str]] | None = None,
        default: T | None = None,
    ) -> None:
        self.name = ""
        self.required = required
        self.nullable = nullable
        self.schema = schema
        self._problems = problems
        self._value = value
        self._missing = missing
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name.removesuffix("_")

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "Message", owner: type) -> T: ...
    def __get__(self, instance: "Message | None", owner: type) -> Self | T:
        if instance is None:
            return self
        raw = instance.given.get(self.name)
        if raw is None:
            return self._default  # type: ignore[return-value]  # T includes None for fields that may be missing
        return self._value(raw) if self._value is not None else raw

    def problems(self, given: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with this field of a body."""
        label = humanized(self.name)
        if self.name not in given:
            if self.required:
                yield from self._missing(label) if self._missing else self._problems(None, label)
        elif given[self.name] is not None or not self.nullable:
            yield from self._problems(given[self.name], label)


class Message:
    """A body. Subclasses list fields; `rules` adds what concerns several fields, after all of them."""

    rejects_unknown: ClassVar[bool] = True
    fields: ClassVar[dict[str, Field[Any]]] = {}

    def __init_subclass__(cls) -> None:
        declared = {value.name: value for value in vars(cls).values() if isinstance(value, Field)}
        cls.fields = {**cls.fields, **declared}

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given

    @classmethod
    def parse(cls, document: Any) -> Self:
        """Check a decoded body. Raises 422 with all problems in one detail."""
        if not isinstance(document, dict):
            raise errors.message_parse()
        message = cls(document)
        problems = list(message.problems())
        if problems:
            raise errors.unprocessable(", ".join(problems))
        return message

    def problems(self) -> Iterator[str]:
        """All complaints, in order of declaration."""
        if self.rejects_unknown:
            unknown = [name for name in self.given if name not in self.fields]
            if unknown:
                yield unknown_fields(unknown)
        for field in self.fields.values():
            yield from field.problems(self.given)
        yield from self.rules()

    def rules(self) -> Iterable[str]:
        """Problems between fields; values may be of any type here when another problem was found already."""
        return ()

    def has(self, name: str) -> bool:
        """Whether the body names the field, null or not."""
        return name in self.given

    def only(self, *names: str) -> dict[str, Any]:
        """The named fields that are in the body, as given."""
        return {name: self.given[name] for name in names if name in self.given}

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """JSON schema of the body."""
        properties = {}
        for name, field in cls.fields.items():
            schema = field.schema()
            if field.nullable and "type" in schema:
                kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
                schema = {**schema, "type": [*kinds, "null"]}
                if "enum" in schema:
                    schema["enum"] = [*schema["enum"], None]
            properties[name] = schema
        result: dict[str, Any] = {"type": "object", "properties": properties}
        required = [name for name, field in cls.fields.items() if field.required]
        if required:
            result["required"] = required
        if cls.rejects_unknown:
            result["additionalProperties"] = False
        return result


def _checked(value: Any, label: str, checks: Sequence[Check]) -> Iterator[str]:
    for check in checks:
        for problem in check(value):
            yield f"{label} {problem}"


@overload
def string(*, required: Literal[True], nullable: Literal[False] = ..., **limits: Any) -> Field[str]: ...
@overload
def string(*, required: bool = ..., nullable: bool = ..., **limits: Any) -> Field[str | None]: ...
def string(*, required: bool = False, nullable: bool = False, **limits: Any) -> Field[Any]:
    """Text. `blank` is said of a missing or empty value in place of `must be a string` (`can't be blank`).

    With `range_at_once` a wrong length is told with both limits.
    """
    return _string(required, nullable, **limits)


def _string(
    required: bool,
    nullable: bool,
    *,
    min_length: int = 0,
    max_length: int | None = None,
    one_of: Sequence[str] = (),
    one_of_message: str = "",
    blank: str = "",
    range_at_once: bool = False,
    checks: Sequence[Check] = (),
) -> Field[Any]:

    def problems(value: Any, label: str) -> Iterator[str]:
        if blank and (value is None or (isinstance(value, str) and not value.strip())):
            yield f"{label} {blank}"
            return
        if not isinstance(value, str):
            yield f"{label} must be a string"
            return
        if range_at_once:
            if not min_length <= len(value) <= (max_length or 0):
                yield f"{label} must be between {min_length} and {max_length} characters"
        elif len(value) < min_length:
            yield f"{label} is too short (minimum is {min_length} character{'s' if min_length != 1 else ''})"
        elif max_length is not None and len(value) > max_length:
            yield f"{label} is too long (maximum is {max_length} characters)"
        if one_of and value not in one_of:
            yield f"{label} {one_of_message or 'must be one of ' + str(list(one_of))[1:-1]}"
        yield from _checked(value, label, checks)

    def schema() -> dict[str, Any]:
        result: dict[str, Any] = {"type": "string"}
        if min_length:
            result["minLength"] = min_length
        if max_length is not None:
            result["maxLength"] = max_length
        if one_of:
            result["enum"] = list(one_of)
        return result

    return Field(problems, schema, required=required, nullable=nullable)


@overload
def boolean(*, required: Literal[True], nullable: Literal[False] = ...) -> Field[bool]: ...
@overload
def boolean(*, required: bool = ..., nullable: bool = ...) -> Field[bool | None]: ...
def boolean(*, required: bool = False, nullable: bool = False) -> Field[Any]:
    """True or false."""

    def problems(value: Any, label: str) -> Iterator[str]:
        if not isinstance(value, bool):
            yield f"{label} must be a boolean"

    return Field(problems, lambda: {"type": "boolean"}, required=required, nullable=nullable)


@overload
def integer(*, required: Literal[True], nullable: Literal[False] = ..., **limits: Any) -> Field[int]: ...
@overload
def integer(*, required: bool = ..., nullable: bool = ..., **limits: Any) -> Field[int | None]: ...
def integer(*, required: bool = False, nullable: bool = False, **limits: Any) -> Field[Any]:
    """A whole number; limits are worded as upstream's numericality checks are."""
    return _integer(required, nullable, **limits)


def _integer(
    required: bool,
    nullable: bool,
    *,
    more_than: int | None = None,
    at_least: int | None = None,
    at_most: int | None = None,
    checks: Sequence[Check] = (),
) -> Field[Any]:

    def problems(value: Any, label: str) -> Iterator[str]:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            yield f"{label} is not a number"
            return
        if not isinstance(value, int):
            yield f"{label} must be an integer"
            return
        if more_than is not None and value <= more_than:
            yield f"{label} must be greater than {more_than}"
        if at_least is not None and value < at_least:
            yield f"{label} must be greater than or equal to {at_least}"
        if at_most is not None and value > at_most:
            yield f"{label} must be less than or equal to {at_most}"
        yield from _checked(value, label, checks)

    def schema() -> dict[str, Any]:
        result: dict[str, Any] = {"type": "integer"}
        if more_than is not None:
            result["minimum"] = more_than + 1
        if at_least is not None:
            result["minimum"] = at_least
        if at_most is not None:
            result["maximum"] = at_most
        return result

    return Field(problems, schema, required=required, nullable=nullable)


def array(
    *,
    required: bool = False,
    nullable: bool = False,
    items: Mapping[str, Any] | None = None,
    checks: Sequence[Check] = (),
) -> Field[list[Any] | None]:
    """A list; `items` is the JSON schema of its elements, `checks` see the whole list."""

    def problems(value: Any, label: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{label} must be an array"
        else:
            yield from _checked(value, label, checks)

    return Field(problems, lambda: {"type": "array", "items": dict(items or {})}, required=required, nullable=nullable)


def object_(
    *,
    required: bool = False,
    nullable: bool = False,
    values: Mapping[str, Any] | None = None,
    checks: Sequence[Check] = (),
) -> Field[dict[str, Any] | None]:
    """A free object; `values` is the JSON schema of its values, `checks` see the whole object."""

    def problems(value: Any, label: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{label} must be an object"
        else:
            yield from _checked(value, label, checks)

    def schema() -> dict[str, Any]:
        return {"type": "object", "additionalProperties": dict(values) if values else True}

    return Field(problems, schema, required=required, nullable=nullable)


def anything(
    problems: Callable[[Any], Iterable[str]] = lambda value: (),
    schema: Mapping[str, Any] | None = None,
    *,
    required: bool = False,
    nullable: bool = True,
) -> Field[Any]:
    """A field with checks of its own, which yield complete sentences."""
    return Field(lambda value, label: problems(value), lambda: dict(schema or {}), required=required, nullable=nullable)


def nested(kind: type[M], *, required: bool = False, nullable: bool = False, not_object: str = "") -> Field[M]:
    """A message within a message; its problems begin with this field's label. Missing reads as an empty message."""

    def problems(value: Any, label: str) -> Iterator[str]:
        # Upstream's wording for relationships differs from that of other objects (behaviours.md section 1).
        relationships = label == "Relationships"
        if not isinstance(value, dict):
            yield (
                f"{label} 'relationships' is not an object"
                if relationships
                else f"{label} {not_object or 'must be an object'}"
            )
            return
        if relationships and not value:
            yield f"{label} 'relationships' must include one or more valid relationships"
            return
        for problem in kind(value).problems():
            yield f"{label} {problem}"

    empty = kind({})
    return Field(
        problems, kind.schema, required=required, nullable=nullable, value=lambda raw: kind(raw), default=empty
    )


def _guid_problems(value: Any, label: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{label} guid must be a string"
    if not isinstance(value, str) or not 1 <= len(value) <= 200:
        yield f"{label} guid must be between 1 and 200 characters"


_ONE = {
    "type": "object",
    "properties": {"guid": {"type": "string"}},
    "required": ["guid"],
    "additionalProperties": False,
}


@overload
def to_one(*, required: Literal[True], data_nullable: Literal[False] = ...) -> Field[str]: ...
@overload
def to_one(*, required: bool = ..., data_nullable: bool = ...) -> Field[str | None]: ...
def to_one(*, required: bool = False, data_nullable: bool = False) -> Field[Any]:
    """`{"data": {"guid": G}}`; reads as G, or None for `{"data": null}` where that is allowed."""

    def problems(value: Any, label: str) -> Iterator[str]:
        name = label.lower().replace(" ", "_")
        if data_nullable and isinstance(value, dict) and set(value) == {"data"} and value["data"] is None:
            return
        data = value.get("data") if isinstance(value, dict) and set(value) == {"data"} else None
        if not isinstance(data, dict) or set(data) != {"guid"}:
            yield f'{label} must be structured like this: "{name}: {{"data": {{"guid": "valid-guid"}}}}"'
            return
        yield from _guid_problems(data["guid"], label)

    def missing(label: str) -> Iterator[str]:
        yield f"{label} can't be blank"
        yield from problems(None, label)

    def guid(raw: Any) -> Any:
        data = raw.get("data") if isinstance(raw, dict) else None
        return data.get("guid") if isinstance(data, dict) else None

    data = {"anyOf": [_ONE, {"type": "null"}]} if data_nullable else _ONE
    return Field(
        problems,
        lambda: {"type": "object", "properties": {"data": data}, "required": ["data"]},
        required=required,
        value=guid,
        missing=missing,
    )


def to_many(*, required: bool = False) -> Field[list[str] | None]:
    """`{"data": [{"guid": G}, ...]}`; reads as a list of guids."""

    def problems(value: Any, label: str) -> Iterator[str]:
        name = label.lower().replace(" ", "_")
        data = value.get("data") if isinstance(value, dict) and set(value) == {"data"} else None
        well_formed = isinstance(data, list) and all(isinstance(one, dict) and set(one) == {"guid"} for one in data)
        if not well_formed:
            example = '{"guid": "valid-guid"},{"guid": "valid-guid"}'
            yield f'{label} must be structured like this: "{name}: {{"data": [{example}]}}"'
            return
        assert isinstance(data, list)
        for index, one in enumerate(data):
            yield from _guid_problems(one["guid"], f"{label} {index}:" if not isinstance(one["guid"], str) else label)

    def missing(label: str) -> Iterator[str]:
        yield f"{label} can't be blank"
        yield from problems(None, label)

    def guids(raw: Any) -> list[str]:
        data = raw.get("data") if isinstance(raw, dict) else None
        if not isinstance(data, list):
            return []
        return list(dict.fromkeys(one["guid"] for one in data if isinstance(one, dict) and "guid" in one))

    def schema() -> dict[str, Any]:
        return {"type": "object", "properties": {"data": {"type": "array", "items": _ONE}}, "required": ["data"]}

    return Field(problems, schema, required=required, value=guids, missing=missing)


def metadata() -> Field[dict[str, Any] | None]:
    """`{"labels": {...}, "annotations": {...}}` by the rules of behaviours.md section 3."""

    def problems(value: Any, label: str) -> Iterable[str]:
        return label_rules.problems(value)

    pairs = {"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"]}}
    return Field(
        problems,
        lambda: {
            "type": "object",
            "properties": {"labels": pairs, "annotations": pairs},
            "additionalProperties": False,
        },
    )


class MetadataOnly(Message):
    """The body of an update that changes nothing but labels and annotations."""

    metadata = metadata()
