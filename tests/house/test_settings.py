"""Every setting is described in docs/configuration.md, as it is, and is used somewhere."""

import ast
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cupola.config import ConfigError, Settings, load
from tests.house import source

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
WORDS = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    bool | None: "true or false",
}
NOT_YET = ["ssh.port"]
"""Settings that nothing reads. May only shrink."""
COMPANIONS = {
    "identity.mode": {"CUPOLA_UAA_URL": "https://uaa.example.com", "CUPOLA_UAA_CLIENT_SECRET_ENV": "PATH"},
    "platform.listen": {"CUPOLA_PLATFORM_ALLOW_PLAIN_HTTP": "true"},
}
"""What has to be set with a setting."""
ROW = re.compile(r"\| `([a-z0-9_.]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|")


def settings() -> dict[str, tuple[str, str]]:
    """Name to type and default, as the page should have them."""
    found = {}
    for field in msgspec.structs.fields(Settings):
        if field.name == "data_dir":
            found["data_dir"] = ("path", f"`{field.default}`")
            continue
        for one in msgspec.structs.fields(field.type):
            default = one.default_factory() if one.default is msgspec.NODEFAULT else one.default
            found[f"{field.name}.{one.name}"] = (type_of(one.type), shown(default))
    return found


def type_of(type_: Any) -> str:
    if type_ in WORDS:
        return WORDS[type_]
    origin = getattr(type_, "__origin__", None)
    if origin is list:
        return "list of text"
    if origin is dict:
        return "table of integers" if type_.__args__[1] is int else "table of tables"
    return " or ".join(f"`{one}`" for one in type_.__args__)


def shown(value: Any) -> str:
    """A default as TOML has it; `-` for nothing."""
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):
        return "`{" + ", ".join(f"{name} = {number}" for name, number in value.items()) + "}`"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{value}`" if not isinstance(value, list) else "`" + ", ".join(value) + "`"


def rows() -> dict[str, tuple[str, str]]:
    found = {}
    for line in PAGE.read_text().splitlines():
        row = ROW.fullmatch(line.strip())
        if row is not None:
            assert row[1] not in found, f"{row[1]} is described twice"
            assert len(row[4].strip()) > 10, f"{row[1]} is not explained"
            found[row[1]] = (row[2].strip(), row[3].strip())
    return found


def test_every_setting_is_described() -> None:
    described, known = rows(), settings()
    assert {name: "not in docs/configuration.md" for name in known if name not in described} == {}
    assert {name: "no such setting" for name in described if name not in known} == {}


def test_types_and_defaults_are_as_described() -> None:
    described = rows()
    wrong = {name: (described[name], known) for name, known in settings().items() if described.get(name) != known}
    assert wrong == {}


def test_every_setting_is_used() -> None:
    """As `settings.section.key`, or as `settings.key` where a part is given its section alone."""
    read = set()
    for node in (one for tree in source.trees().values() for one in ast.walk(tree)):
        if isinstance(node, ast.Attribute):
            of = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            read.add((of.lstrip("_"), node.attr))
    unused = []
    for name in settings():
        section, _, key = name.rpartition(".")
        if not any((of, key) in read for of in (section, "settings", "limits", "defaults")):
            unused.append(name)
    assert unused == NOT_YET


@pytest.mark.parametrize("name", [name for name in settings() if settings()[name][0] != "table of tables"])
def test_every_setting_comes_from_the_environment(name: str) -> None:
    """Another value than the default arrives; where it is refused, the refusal names the setting."""
    variable, key = "CUPOLA_" + name.replace(".", "_").upper(), name.rpartition(".")[2]
    refusal, loaded = "", load(environment={})
    try:
        loaded = load(environment={variable: another(settings()[name]), **COMPANIONS.get(name, {})})
    except ConfigError as error:
        refusal = str(error)
    assert key in refusal or value_of(loaded, name) != value_of(load(environment={}), name), refusal
    if settings()[name][0] not in {"text", "path", "list of text"}:
        with pytest.raises(ConfigError, match=key):
            load(environment={variable: "no such value"})


def another(described: tuple[str, str]) -> str:
    """Text of a value that is not the default."""
    type_, default = described
    match type_:
        case "integer" | "number":
            return str(int(float(default.strip("`-") or "0")) + 1)
        case "true or false":
            return "false" if default == "`true`" else "true"
        case "table of integers":
            return "another=1"
        case "text" | "path" | "list of text":
            return "another"
    return next(one for one in type_.replace("`", "").split(" or ") if one != default.strip("`"))


def value_of(loaded: Settings, name: str) -> Any:
    section, _, key = name.rpartition(".")
    return getattr(getattr(loaded, section), key) if section else loaded.data_dir
