"""The package's own source as syntax trees, for tests of what it says."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cupola

__all__ = ["Place", "calls", "strings"]

ROOT = Path(cupola.__file__).parent
Place = str
"""`domain/apps.py:12`."""


@cache
def trees() -> dict[str, ast.Module]:
    """File (relative to the package) to tree; what runs on app machines is not part of the house's vocabulary."""
    return {
        str(file.relative_to(ROOT)): ast.parse(file.read_text())
        for file in sorted(ROOT.rglob("*.py"))
        if "buildpacks" not in file.relative_to(ROOT).parts[:1]
    }


def calls(*names: str) -> Iterator[tuple[Place, ast.Call]]:
    """Calls of functions with one of these names, whatever they are reached through."""
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in names:
                    yield f"{file}:{node.lineno}", node


def strings() -> Iterator[tuple[Place, str]]:
    """String literals; what an f-string puts in is shown as `{}`."""
    for file, tree in trees().items():
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values]
                yield f"{file}:{node.lineno}", "".join(parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                yield f"{file}:{node.lineno}", node.value
