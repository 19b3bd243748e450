"""Every setting of an identity provider is described in docs/identity.md with its default, and is used."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cupola.providers import LdapProvider, OidcProvider

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"\| `([a-z_]+)` \|\s*([^|]*?)\s*\|\s*([^|]*?)\s*\|")


def _described(heading: str) -> dict[str, str]:
    page = (ROOT / "docs/identity.md").read_text()
    section = page.partition(f"### {heading}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    return {row[1]: row[2].strip() for line in section.splitlines() if (row := ROW.fullmatch(line.strip()))}


def _default(field: Any) -> str:
    if field.required:
        return ""
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{', '.join(value)}`" if isinstance(value, list) else f"`{value}`"


@pytest.mark.parametrize(("kind", "heading"), [(OidcProvider, "OpenID Connect"), (LdapProvider, "Directories")])
def test_they_are_described(kind: Any, heading: str) -> None:
    assert _described(heading) == {field.name: _default(field) for field in msgspec.structs.fields(kind)}


@pytest.mark.parametrize("kind", [OidcProvider, LdapProvider])
def test_they_are_used(kind: Any) -> None:
    code = "".join(file.read_text() for file in (ROOT / "cupola/uaa").glob("*.py"))
    code += (ROOT / "cupola/providers.py").read_text()
    unused = [one.name for one in msgspec.structs.fields(kind) if f".{one.name}" not in code]
    assert unused == []
