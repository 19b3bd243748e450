"""Options of a route: how requests are spread over its destinations (reference/behaviours.md section 12)."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from cupola import errors
from cupola.domain import feature_flags
from cupola.store.database import Tx

__all__ = ["SCHEMA", "form_problems", "hashing", "merged", "problems_in_manifest"]

_MAX_BYTES = 1024
_ALGORITHMS = ("round-robin", "least-connection")
_HASH = ("hash_header", "hash_balance")

SCHEMA = {
    "type": "object",
    "properties": {
        "loadbalancing": {"type": ["string", "null"], "enum": [*_ALGORITHMS, "hash", None]},
        "hash_header": {"type": ["string", "null"], "maxLength": 128},
        "hash_balance": {"type": ["string", "number", "null"]},
    },
    "additionalProperties": False,
}
"""JSON schema of options in a body."""


def form_problems(options: Any) -> Iterator[str]:
    """What is wrong with the form of options, whatever the feature flags say; complete sentences."""
    if not isinstance(options, dict):
        yield "Options 'options' is not a valid object"
        return
    size = len(msgspec.json.encode(options))
    if size > _MAX_BYTES:
        yield f"Options must be smaller than {_MAX_BYTES} bytes (actual size is {size} bytes)"


def merged(tx: Tx, now: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """The options after a change; null removes one. Raises 422."""
    bad = list(_problems(change, hashing=hashing(tx)))
    if bad:
        raise errors.unprocessable(", ".join(f"Options {problem}" for problem in bad))
    both = {**now, **change}
    if both.get("loadbalancing") != "hash":
        both = {name: value for name, value in both.items() if name not in _HASH}
    if not _is_blank(both.get("hash_balance")):
        both["hash_balance"] = str(math.floor(float(both["hash_balance"]) * 10 + 0.5) / 10)
    kept = {name: value for name, value in both.items() if not _is_blank(value)}
    if len(msgspec.json.encode(kept)) > _MAX_BYTES:
        raise errors.unprocessable(f"Route options size exceeded: options must be smaller than {_MAX_BYTES} bytes.")
    if kept.get("loadbalancing") == "hash" and "hash_header" not in kept:
        raise errors.unprocessable("Hash header must be present when loadbalancing is set to hash.")
    return kept


def hashing(tx: Tx) -> bool:
    """Whether requests may be spread by a header."""
    return feature_flags.is_enabled(tx, "hash_based_routing")


def problems_in_manifest(route: str, options: Any, *, hashing: bool) -> Iterator[str]:
    """What is wrong with the options of a route in a manifest; complete sentences, in other words than elsewhere."""
    if not isinstance(options, dict):
        yield f"Route '{route}': options must be an object"
        return
    keys = ("loadbalancing", *_HASH) if hashing else ("loadbalancing",)
    for name in options:
        if name not in keys:
            yield f"Route '{route}' contains invalid route option '{name}'. Valid keys: '{', '.join(keys)}'"
    if "loadbalancing" in options:
        balancing = options["loadbalancing"]
        allowed = (*_ALGORITHMS, "hash") if hashing else _ALGORITHMS
        valid = f"Valid values are: '{', '.join(allowed)}'"
        if not isinstance(balancing, str):
            yield f"Invalid value for 'loadbalancing' for Route '{route}'; {valid}"
        elif balancing not in allowed:
            yield f"Cannot use loadbalancing value '{balancing}' for Route '{route}'; {valid}"
    if hashing:
        yield from (f"Route '{route}': {problem}" for problem in _hash_problems(options))


def _is_blank(value: Any) -> bool:
    return value is None or value == ""


def _problems(options: Mapping[str, Any], *, hashing: bool) -> Iterator[str]:
    unknown = [name for name in options if name not in {"loadbalancing", *_HASH}]
    if unknown:
        yield "Unknown field(s): " + ", ".join(f"'{name}'" for name in unknown)
    balancing = options.get("loadbalancing")
    allowed = (*_ALGORITHMS, "hash") if hashing else _ALGORITHMS
    if not _is_blank(balancing) and balancing not in allowed:
        yield f"Loadbalancing must be one of '{', '.join(allowed)}' if present"
    if hashing:
        yield from _hash_problems(options)
        return
    given = [name for name in _HASH if not _is_blank(options.get(name))]
    if given:
        yield "Unknown field(s): " + ", ".join(f"'{name}'" for name in given)


def _hash_problems(options: Mapping[str, Any]) -> Iterator[str]:
    given, balancing = [name for name in _HASH if not _is_blank(options.get(name))], options.get("loadbalancing")
    if "hash_header" in given:
        header = options["hash_header"]
        if not isinstance(header, str):
            yield "Hash header must be a string"
        elif len(header) > 128:
            yield "Hash header must be at most 128 characters"
    if "hash_balance" in given:
        yield from _balance_problems(options["hash_balance"])
    if not _is_blank(balancing) and balancing != "hash":
        for name in given:
            yield f"{name.replace('_', ' ').capitalize()} can only be set when loadbalancing is hash"


def _balance_problems(balance: Any) -> Iterator[str]:
    if len(str(balance)) > 16:
        yield "Hash balance must be at most 16 characters"
        return
    try:
        number = float("x" if isinstance(balance, (bool, list, dict)) else balance)
    except ValueError:
        yield "Hash balance must be a numeric value"
        return
    if number != 0 and not 1.1 <= number <= 10:
        yield "Hash balance must be either 0 or between 1.1 and 10.0"
