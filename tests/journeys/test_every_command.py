"""No command of the official CLI is without a journey."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.journeys.platform import ROOT

CONTRACT = ROOT / "tests" / "cli_contract" / "data"
EXCUSED = {"v3-push": "another name of push"}


def test_every_command_has_a_journey() -> None:
    lines = (CONTRACT / "commands.txt").read_text().splitlines()
    commands = {line for line in lines if line and not line.startswith("#")}
    local = yaml.safe_load((CONTRACT / "local.yaml").read_text())
    journeys = [*Path(__file__).parent.glob("test_*.py"), *(ROOT / "tests" / "uaa").glob("test_cf_cli*.py")]
    used = re.compile("|".join(f"(?:{one})" for file in journeys for one in _commands(ast.parse(file.read_text()))))
    missing = {command for command in commands if not used.fullmatch(command)}
    assert missing - local.keys() - EXCUSED.keys() == set()


def _commands(tree: ast.AST) -> Iterator[str]:
    """Patterns of what a `cf` is told to do: the first argument of a call, or the first of a list of words."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and _is_cf(node.func):
            yield from _pattern(node.args[0])
        elif isinstance(node, ast.List | ast.Tuple) and node.elts:
            yield from _pattern(node.elts[0])


def _is_cf(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return function.attr in {"run", "refused"}
    return isinstance(function, ast.Name)


def _pattern(words: ast.expr) -> Iterator[str]:
    if isinstance(words, ast.Constant) and isinstance(words.value, str):
        yield re.escape(words.value)
    elif isinstance(words, ast.JoinedStr):
        # `f"bind-{lifecycle}-security-group"` stands for each of them.
        yield "".join(re.escape(str(one.value)) if isinstance(one, ast.Constant) else "[a-z]+" for one in words.values)
