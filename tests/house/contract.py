"""The contract tables (tests/contract) as the whole-house tests look at them."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["normal", "operations", "table"]

_DIRECTORY = Path(__file__).parent.parent / "contract"


@cache
def table(name: str) -> Any:
    """One of the JSON files."""
    return msgspec.json.decode((_DIRECTORY / f"{name}.json").read_bytes())


def normal(method: str, path: str) -> str:
    """A key by which operations of the contract and of the code are the same: parameters without their names."""
    return f"{method} {re.sub(r'{[^}]*}', '{}', path)}"


@cache
def operations() -> dict[str, Any]:
    """Operations by `normal`; another form of an operation (`?source_guid=...`) has a key of its own."""
    return {normal(one["method"], one["path"]): one for one in table("operations")}
