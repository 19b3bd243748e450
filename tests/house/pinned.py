"""Text files that pin what the house does, so that a review sees every change of it."""

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["check", "read_reasons"]

_HERE = Path(__file__).parent
_WRITE = "CUPOLA_WRITE_TABLES"


def check(name: str, header: str, lines: Iterable[str]) -> None:
    """Fail unless the file says exactly this; with CUPOLA_WRITE_TABLES=1 write it instead."""
    file = _HERE / name
    text = "".join(f"# {line}".rstrip() + "\n" for line in header.strip().splitlines())
    text += "".join(line.rstrip() + "\n" for line in lines)
    if os.environ.get(_WRITE):
        file.write_text(text)
        return
    pinned = file.read_text() if file.exists() else ""
    assert text.splitlines() == pinned.splitlines(), (
        f"{name} differs. Look at each line; what is meant is written by: {_WRITE}=1 pytest tests/house"
    )


def read_reasons(name: str) -> dict[tuple[str, ...], str]:
    """A file of exceptions: `what | what else | reason` on each line; `#` begins a comment."""
    found = {}
    for line in (_HERE / name).read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            *key, reason = (part.strip() for part in line.split("|"))
            assert reason, f"{name}: {line} gives no reason"
            found[tuple(key)] = reason
    return found
