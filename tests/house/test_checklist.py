"""tests/api/CHECKLIST.md names a test, or a reason, for every rule; the tests are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
ROWS = [
    line
    for line in (TESTS / "api" / "CHECKLIST.md").read_text().splitlines()
    if line.startswith("|") and not line.startswith(("| rule |", "|---"))
]
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


@cache
def names_in(file: str) -> frozenset[str]:
    """The names of the tests of a file below tests/."""
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


@pytest.mark.parametrize("row", ROWS)
def test_a_rule_has_a_test_or_a_reason(row: str) -> None:
    _, rule, shown, _ = row.split("|")
    assert rule.strip()
    named = NAMED.findall(shown)
    assert named or "cannot be" in shown, "name a test, or say why the rule cannot hold here"
    for file, test in named:
        assert (TESTS / file).is_file(), f"{file} is not there"
        assert test in names_in(file), f"{file} has no {test}"


def test_every_section_has_rules() -> None:
    text = (TESTS / "api" / "CHECKLIST.md").read_text()
    sections = re.findall(r"^## (\d+)\. ", text, re.MULTILINE)
    assert [int(number) for number in sections] == list(range(1, 21))
    assert len(ROWS) > 200
