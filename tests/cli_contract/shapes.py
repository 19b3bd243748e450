"""Shapes: what the CLI's decoder accepts, said as data, and the check of an answer against them.

A shape is a mapping of field names to types; `maybe` before a name lets the field be absent. Fields that a shape does not
name are ignored, as the CLI's decoder does, unless the shape says `only these: true`. A type is one of

* a word of `PLAIN` (`string`, `integer`, `time`, ...),
* `list of T`, `some T` (a list that is not empty), `map of T`, `page of T`, `jwt of T` (a token whose claims are T),
* `A | B | C` or `exactly A`: one of these strings,
* the name of a shape, or a mapping written in place,

each with ` or null` behind it if null is accepted.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

__all__ = ["PLAIN", "Shapes", "claims"]

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_SEMVER = re.compile(r"\d+\.\d+\.\d+([-+][0-9A-Za-z.-]+)?")
ONLY = "only these"


def _is_integer(value: Any) -> bool:
    """Go's integers take neither `true` nor `1.0`."""
    return isinstance(value, int) and not isinstance(value, bool)


def _matches(pattern: str | re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


PLAIN: Mapping[str, Callable[[Any], bool]] = {
    "any": lambda value: True,
    "string": lambda value: isinstance(value, str),
    "text": lambda value: isinstance(value, str) and value != "",
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_integer,
    "never true": lambda value: value is None or value is False,
    "natural": lambda value: _is_integer(value) and value >= 0,
    "number": lambda value: _is_integer(value) or isinstance(value, float),
    "digits": _matches(r"-?\d+"),
    "octal": _matches(r"[0-7]+"),
    "semver": _matches(_SEMVER),
    "time": _matches(_TIME),
    "url": _matches(r"(https?|wss)://\S+"),
    "base64": _matches(r"[A-Za-z0-9+/]*={0,2}"),
    "pair": lambda value: isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) for one in value),
}


def claims(token: str) -> dict[str, Any]:
    """The claims of a compact JWS, read as the CLI does: without looking at the signature."""
    part = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


class Shapes:
    """The named shapes, and `problems` of a value that should have one of them."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named

    def problems(self, value: Any, wanted: Any, at: str = "") -> Iterator[str]:
        """What is wrong with `value`, one line for each field; raises `KeyError` for a type that does not exist."""
        if isinstance(wanted, dict):
            yield from self._fields(value, wanted, at)
            return
        name = wanted.removesuffix(" or null")
        if value is None and name != wanted:
            return
        if name in PLAIN:
            if not PLAIN[name](value):
                yield f"{at or 'the answer'}: {value!r} is not {wanted}"
        elif name.startswith("exactly ") or " | " in name:
            if value not in name.removeprefix("exactly ").split(" | "):
                yield f"{at or 'the answer'}: {value!r} is not {wanted}"
        elif " of " in name or name.startswith("some "):
            yield from self._composed(value, name, at)
        else:
            yield from self.problems(value, self._named[name], at)

    def _composed(self, value: Any, name: str, at: str) -> Iterator[str]:
        kind, _, inner = name.partition(" ") if name.startswith("some ") else name.partition(" of ")
        if kind == "page":
            yield from self.problems(value, {"pagination": "pagination", "resources": f"list of {inner}"}, at)
        elif kind == "jwt":
            if not isinstance(value, str) or value.count(".") != 2:
                yield f"{at}: {value!r} is not a compact JWS"
            else:
                yield from self.problems(claims(value), inner, f"{at}.claims")
        elif kind == "map":
            yield from self._members(value, dict, inner, at)
        elif kind in {"list", "some"}:
            yield from self._members(value, list, inner, at)
            if kind == "some" and value == []:
                yield f"{at or 'the answer'}: the list is empty"
        else:
            raise KeyError(name)

    def _members(self, value: Any, kind: type[list[Any]] | type[dict[str, Any]], inner: str, at: str) -> Iterator[str]:
        if not isinstance(value, kind):
            yield f"{at or 'the answer'}: {value!r} is not a {'list' if kind is list else 'map'}"
            return
        pairs: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
        for key, member in pairs:
            yield from self.problems(member, inner, f"{at}.{key}".lstrip("."))

    def _fields(self, value: Any, shape: Mapping[str, Any], at: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{at or 'the answer'}: {value!r} is not an object"
            return
        known = {name.removeprefix("maybe "): name for name in shape if name != ONLY}
        for field, name in known.items():
            if field in value:
                yield from self.problems(value[field], shape[name], f"{at}.{field}".lstrip("."))
            elif not name.startswith("maybe "):
                yield f"{at or 'the answer'}: {field} is missing"
        if shape.get(ONLY):
            yield from (f"{at}: {field} is unknown to the CLI, which refuses it" for field in value.keys() - known)

    def unknown(self) -> Iterator[str]:
        """Types that no shape and no plain word stands for."""
        for name, shape in self._named.items():
            yield from (f"{name}: {one}" for one in self._unknown_in(shape))

    def _unknown_in(self, wanted: Any) -> Iterator[str]:
        if isinstance(wanted, dict):
            for field, inner in wanted.items():
                if field != ONLY:
                    yield from self._unknown_in(inner)
        elif not self.knows(wanted):
            yield str(wanted)

    def knows(self, wanted: str) -> bool:
        """Whether the type can be checked."""
        name = wanted.removesuffix(" or null")
        if name in PLAIN or name in self._named or name.startswith("exactly ") or " | " in name:
            return True
        for kind in ("list of ", "map of ", "page of ", "jwt of ", "some "):
            if name.startswith(kind):
                return self.knows(name.removeprefix(kind))
        return False
