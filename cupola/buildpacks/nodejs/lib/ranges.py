"""Version ranges as npm writes them (`>=18 <21 || ^22.1`, `20.x`, `1.2 - 2`), judged for a version that there is."""

import re

__all__ = ["satisfies"]

_PART = re.compile(r"v?(\d+|[xX*])(?:\.(\d+|[xX*]))?(?:\.(\d+|[xX*]))?(?:[-+][\w.+-]*)?")
Version = tuple[int, int, int]
_HIGHEST: Version = (10**9, 0, 0)


def satisfies(version: str, wanted: str) -> bool:
    """Whether `version` (such as `20.11.1`) is in the range. Raises ValueError for text that is no range."""
    have = _numbers(version)[0]
    return any(_all(have, part.strip()) for part in wanted.split("||"))


def _all(have: Version, text: str) -> bool:
    hyphen = re.fullmatch(r"(\S+)\s+-\s+(\S+)", text)
    if hyphen:
        low, high = _numbers(hyphen[1])[0], _numbers(hyphen[2])
        return low <= have < _next(*high)
    words = re.sub(r"([<>=~^]+)\s+", r"\1", text).split() or ["*"]
    return all(_one(have, word) for word in words)


def _one(have: Version, word: str) -> bool:
    match = re.fullmatch(r"(>=|<=|>|<|=|~>?|\^)?(.*)", word)
    assert match is not None
    low, given = _numbers(match[2])
    beyond = _next(low, given)
    match match[1]:
        case ">=":
            return have >= low
        case ">":
            return have >= beyond
        case "<":
            return have < low
        case "<=":
            return have < beyond
        case "~" | "~>":
            return low <= have < _next(low, min(given, 2))
        case "^":
            first = next((place for place, number in enumerate(low[:given]) if number), max(given - 1, 0))
            return low <= have < (_next(low, first + 1) if given else _HIGHEST)
        case _:
            return low <= have < beyond


def _numbers(text: str) -> tuple[Version, int]:
    """The version, missing numbers being 0, and how many were given. Raises ValueError."""
    match = _PART.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no version")
    numbers: list[int] = []
    for part in match.groups():
        if part is None or not part.isdigit():
            break
        numbers.append(int(part))
    filled = [*numbers, 0, 0, 0]
    return (filled[0], filled[1], filled[2]), len(numbers)


def _next(version: Version, given: int) -> Version:
    """The first version after all that begin with the `given` first numbers."""
    if given == 0:
        return _HIGHEST
    raised = [*version[: given - 1], version[given - 1] + 1, 0, 0]
    return raised[0], raised[1], raised[2]
