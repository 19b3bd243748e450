"""docs/security.md names tests: each is there, and no boundary is without one."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[a-z_/]+\.py(?:::[a-z0-9_]+)?)`", PAGE)))
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| threat", "|---"))]


def functions_of(file: Path) -> set[str]:
    found = ast.walk(ast.parse(file.read_text()))
    return {node.name for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("named", NAMED)
def test_it_is_there(named: str) -> None:
    path, _, name = named.partition("::")
    names = functions_of(ROOT / path)
    assert name in names if name else any(one.startswith("test_") for one in names)


def test_every_threat_has_a_test() -> None:
    assert len(ROWS) > 25
    assert [row for row in ROWS if "`tests/" not in row] == []


def test_settings_that_the_page_names_are_settings() -> None:
    described = (ROOT / "docs" / "configuration.md").read_text()
    named = set(re.findall(r"`((?:tls|platform|router|runtime|identity|rate_limits)\.[a-z_]+)`", PAGE))
    assert named
    assert [name for name in sorted(named) if f"| `{name}` |" not in described] == []
