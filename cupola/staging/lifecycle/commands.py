"""How an app is started, from what buildpacks and the app say: launch.yml, the output of bin/release, Procfile."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cupola.buildpacks.common.yaml_subset import YamlError, load
else:  # the builder runs as a program, where its neighbours are modules by themselves
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from yaml_subset import YamlError, load

__all__ = ["Unreadable", "combine", "config", "launch", "procfile", "read", "release"]

_MAX_TEXT = 1024 * 1024


class Unreadable(Exception):
    """One of these texts is not what it should be; the message says what is expected."""


def read(path: Path) -> str | None:
    """The text of a file (its first MiB), or None when there is none."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            return file.read(_MAX_TEXT)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def launch(deps: Path, index: str) -> list[dict[str, Any]] | None:
    """The entries of a buildpack's launch.yml, or None when it wrote none. Raises Unreadable."""
    text = read(deps / index / "launch.yml")
    if text is None:
        return None
    try:
        entries = (load(text) or {}).get("processes") or []
        return [{**entry, "type": str(entry["type"]), "command": _command(entry["command"])} for entry in entries]
    except (YamlError, AttributeError, KeyError, TypeError) as error:
        raise Unreadable(
            f"Failed to read deps/{index}/launch.yml: {error}: expected `processes:` with `type` and `command` each"
        ) from None


def release(output: bytes) -> list[dict[str, Any]]:
    """Entries like those of launch.yml from what bin/release printed. Raises Unreadable."""
    try:
        types = (load(output.decode()) or {}).get("default_process_types") or {}
        return _entries(types)
    except (YamlError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise Unreadable(f"{error}: expected YAML with `default_process_types`") from None


def procfile(app: Path) -> list[dict[str, Any]]:
    """Entries like those of launch.yml from the app's Procfile, none when it has none. Raises Unreadable."""
    text = read(app / "Procfile")
    if text is None:
        return []
    try:
        return _entries(load(text) or {})
    except (YamlError, AttributeError, TypeError) as error:
        raise Unreadable(
            f"Failed to read command from Procfile: invalid YAML: {error}. Each line must be `TYPE: COMMAND`"
        ) from None


def config(deps: Path, index: str) -> dict[str, Any]:
    """A buildpack's config.yml (`name`, `version`, `config`); empty when it wrote none. Raises Unreadable."""
    try:
        found = load(read(deps / index / "config.yml") or "")
    except YamlError as error:
        raise Unreadable(f"Failed to read deps/{index}/config.yml of a buildpack: {error}") from None
    return found if isinstance(found, dict) else {}


def combine(entries: Iterable[Mapping[str, Any]]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """(commands by process type, sidecars) of all entries in order; a later one replaces an equal type. Raises Unreadable."""
    processes: dict[str, str] = {}
    sidecars: dict[str, dict[str, Any]] = {}
    for entry in entries:
        served = _served(entry)
        if not served:
            processes[entry["type"]] = entry["command"]
            continue
        sidecar: dict[str, Any] = {"name": entry["type"], "process_types": list(served), "command": entry["command"]}
        limits = entry.get("limits")
        memory = limits.get("memory") if isinstance(limits, dict) else None
        if memory is not None:
            if isinstance(memory, bool) or not isinstance(memory, int) or memory <= 0:
                raise Unreadable(f"launch.yml: limits.memory of {entry['type']} must be a number of MB, not {memory!r}")
            sidecar["memory"] = memory
        sidecars[entry["type"]] = sidecar
    return processes, list(sidecars.values())


def _served(entry: Mapping[str, Any]) -> Sequence[str]:
    """The process types that this entry is a sidecar of."""
    platforms = entry.get("platforms")
    ours = platforms.get("cloudfoundry") if isinstance(platforms, dict) else None
    served = ours.get("sidecar_for") if isinstance(ours, dict) else None
    if not served:
        return []
    if not isinstance(served, list):
        raise Unreadable(f"launch.yml: sidecar_for of {entry['type']} must be a list of process types")
    return [str(one) for one in served]


def _entries(types: Mapping[Any, Any]) -> list[dict[str, Any]]:
    return [{"type": str(type_), "command": _command(command)} for type_, command in types.items()]


def _command(value: object) -> str:
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise TypeError("a command must be text")
    return str(value)
