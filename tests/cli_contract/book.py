"""The data of this directory, read: commands as lists of calls."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cli_contract.shapes import Shapes

__all__ = ["HERE", "Book", "Call", "Command", "Each", "Use", "read"]

HERE = Path(__file__).parent
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
CALL_KEYS = {
    "json", "yaml", "form", "parts", "auth", "headers", "answers", "is", "matches", "includes", "keep", "until", "unless",
    "needs", "increasing",
}  # fmt: skip
COMMAND_KEYS = {"given", "after", "fresh", "prepare", "calls", "see", "restore", "needs"}


@dataclass(frozen=True)
class Call:
    """One request, and what the CLI expects of the answer; README.md explains the keys of `spec`."""

    method: str
    url: str
    spec: Mapping[str, Any]

    @property
    def status(self) -> int:
        return int(str(self.spec["answers"]).split(" ", 1)[0])

    @property
    def shape(self) -> str:
        """The shape of the body; empty when the CLI does not look at it."""
        return str(self.spec["answers"]).partition(" ")[2]


@dataclass(frozen=True)
class Each:
    """Calls that are made for every value of a kept list."""

    name: str
    among: str
    calls: tuple["Step", ...]


Step = Call | Each


@dataclass(frozen=True)
class Use:
    """Another command that is replayed first; `renamed` gives what it made another name: (old, new)."""

    command: str
    renamed: tuple[str, str] | None = None


@dataclass(frozen=True)
class Command:
    name: str
    given: Mapping[str, str]
    after: tuple[Use, ...]
    fresh: tuple[Use, ...]
    prepare: tuple[Step, ...]
    calls: tuple[Step, ...]
    see: tuple[Step, ...]
    restore: tuple[Step, ...]
    put_off: bool

    @property
    def word(self) -> str:
        """The word after `cf`."""
        return self.name.split()[1]


@dataclass(frozen=True)
class Book:
    commands: Mapping[str, Command]
    shapes: Shapes
    headers: Mapping[str, Mapping[str, str]]
    later: Mapping[str, Any]
    probes: Mapping[str, tuple["Step", ...]]
    local: Mapping[str, str]

    def words(self) -> set[str]:
        return {command.word for command in self.commands.values()}


class _Strict(yaml.SafeLoader):
    """YAML in which a key that comes twice is an error, and in which a time stays text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise ValueError(f"{node.start_mark}: {sorted(twice)} come twice")
        return super().construct_mapping(node, deep)


def _load(name: str) -> Any:
    return yaml.load((HERE / "data" / name).read_text(), _Strict)


def read() -> Book:
    """Everything; raises `ValueError` with the place of a mistake in the data."""
    later = _load("later.yaml")
    reader = _Reader(_load("blocks.yaml"), frozenset(later))
    commands: dict[str, Command] = {}
    for file in sorted((HERE / "data" / "commands").glob("*.yaml")):
        for name, spec in _load(f"commands/{file.name}").items():
            if name in commands:
                raise ValueError(f"{file.name}: {name} is there already")
            command = reader.command(name, spec)
            if not command.put_off:
                commands[name] = command
    probes = {tag: reader.steps(f"later: {tag}", spec["probe"]) for tag, spec in later.items()}
    return Book(commands, Shapes(_load("shapes.yaml")), _load("headers.yaml"), later, probes, _load("local.yaml"))


class _Reader:
    """Turns the YAML of commands into values, with the blocks written out."""

    def __init__(self, blocks: Mapping[str, Any], later: frozenset[str]) -> None:
        self._blocks = blocks
        self._later = later

    def command(self, name: str, spec: Mapping[str, Any]) -> Command:
        if unknown := spec.keys() - COMMAND_KEYS:
            raise ValueError(f"{name}: {sorted(unknown)} is not among {sorted(COMMAND_KEYS)}")
        return Command(
            name=name,
            given=spec.get("given", {}),
            after=tuple(_use(one) for one in spec.get("after", [])),
            fresh=tuple(_use(one) for one in spec.get("fresh", [])),
            prepare=self.steps(name, spec.get("prepare", [])),
            calls=self.steps(name, spec.get("calls", [])),
            see=self.steps(name, spec.get("see", [])),
            restore=self.steps(name, spec.get("restore", [])),
            put_off=self._put_off(name, spec),
        )

    def steps(self, where: str, items: list[Any]) -> tuple[Step, ...]:
        """Calls, with the blocks written out and without those that are put off."""
        return tuple(self._steps(where, items))

    def _put_off(self, where: str, spec: Mapping[str, Any]) -> bool:
        tag = spec.get("needs")
        if tag is not None and tag not in self._later:
            raise ValueError(
                f"{where}: needs {tag}, which later.yaml does not name: is it served now? Then take `needs` away."
            )
        return tag is not None

    def _steps(self, where: str, items: list[Any]) -> Iterator[Step]:
        for item in items:
            if isinstance(item, str):
                yield from self._block(where, item)
                continue
            ((head, spec),) = item.items()
            first, _, rest = head.partition(" ")
            if first == "EACH":
                name, _, among = rest.partition(" of ")
                yield Each(name, among, tuple(self._steps(where, spec)))
            elif first in METHODS:
                if unknown := spec.keys() - CALL_KEYS:
                    raise ValueError(f"{where}: {head}: {sorted(unknown)} is not among {sorted(CALL_KEYS)}")
                if "answers" not in spec:
                    raise ValueError(f"{where}: {head} does not say what answers")
                if not self._put_off(where, spec):
                    yield Call(first, rest, spec)
            else:
                raise ValueError(f"{where}: {head} is neither a call nor EACH")

    def _block(self, where: str, text: str) -> Iterator[Step]:
        name, _, other = text.partition(" as ")
        if name not in self._blocks:
            raise ValueError(f"{where}: there is no block {name}")
        block = self._blocks[name]
        if not other:
            return self._steps(f"{where}: {text}", block["calls"])
        # Blocks inside that are about the same thing get the other name, too.
        items = [
            f"{item} as {other}" if isinstance(item, str) and self._blocks[item]["of"] == block["of"] else item
            for item in block["calls"]
        ]
        return self._steps(f"{where}: {text}", _renamed(items, block["of"], other))


def _use(text: str) -> Use:
    name, _, other = text.partition(" as ")
    if not other:
        return Use(name)
    old, _, new = other.rpartition("=")
    if not old:
        raise ValueError(f"{text}: say `as old=new`")
    return Use(name, (old, new))


def _renamed(item: Any, old: str, new: str) -> Any:
    """The same calls about another thing: `{app}`, `{app.guid}` and what is kept under these names."""

    def name(key: str) -> str:
        return re.sub(rf"^(maybe )?{re.escape(old)}(?=\.|$)", rf"\g<1>{new}", key)

    if isinstance(item, dict):
        return {
            _renamed(key, old, new): {name(kept): _renamed(path, old, new) for kept, path in inner.items()}
            if key in {"keep", "unless"}
            else _renamed(inner, old, new)
            for key, inner in item.items()
        }
    if isinstance(item, list):
        return [_renamed(inner, old, new) for inner in item]
    if isinstance(item, str):
        placed = re.sub(r"\{" + re.escape(old) + r"(?=[.}])", "{" + new, item)
        return re.sub(rf"^(EACH .* of ){re.escape(old)}(?=\.|$)", rf"\g<1>{new}", placed)
    return item
