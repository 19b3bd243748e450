"""Names that belong to everybody, as `co.uk`: no organization gets a domain of such a name for itself.

The operator names a file in the form of https://publicsuffix.org/list; without one there are no such names.
"""

from functools import lru_cache
from pathlib import Path

__all__ = ["is_reserved"]


def is_reserved(path: str, name: str) -> bool:
    """Whether the list at `path` has `name` as a suffix; "" is no list. Raises OSError when it cannot be read."""
    if not path:
        return False
    file = Path(path).expanduser()
    rules = _rules(file, file.stat().st_mtime_ns)
    above = name.partition(".")[2]
    return f"!{name}" not in rules and (name in rules or f"*.{above}" in rules)


@lru_cache(maxsize=1)
def _rules(file: Path, _changed: int) -> frozenset[str]:
    """The rules of a file, as domain names are kept: in lower case, in ASCII. Comments and what follows a blank go."""
    words = (line.split(maxsplit=1)[0] for line in file.read_text("utf-8").splitlines() if line.strip())
    return frozenset(_ascii(word.lower()) for word in words if not word.startswith("//"))


def _ascii(rule: str) -> str:
    try:
        return rule.encode("idna").decode("ascii") if not rule.isascii() else rule
    except UnicodeError:
        return rule
