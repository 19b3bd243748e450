"""Values in messages as upstream, which is written in Ruby, shows them."""

from typing import Any

import msgspec

__all__ = ["inspected"]


def inspected(value: Any) -> str:
    """`nil`, `"text"`, `[1, 2]`, `{"a"=>1}`; value is JSON."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    if isinstance(value, list):
        return "[" + ", ".join(map(inspected, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{inspected(key)}=>{inspected(one)}" for key, one in value.items()) + "}"
    return str(value)
