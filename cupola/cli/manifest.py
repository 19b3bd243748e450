"""Manifests as `cupola push` reads them: variables filled in, flags laid over, one application after the other."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Application", "Flags", "ManifestProblem", "applications", "document", "read_variables"]

_VARIABLE = re.compile(r"\(\(([-/.\w]+)\)\)")
_OF_PROCESS = frozenset({"memory", "disk_quota", "instances", "command", "health-check-type"})


class ManifestProblem(Exception):
    """A manifest cannot be used; the text names the file and what to change."""


@dataclass(frozen=True)
class Flags:
    """What the command line says about an app; None where it is silent."""

    name: str | None = None
    memory: str | None = None
    disk: str | None = None
    instances: int | None = None
    command: str | None = None
    buildpacks: tuple[str, ...] = ()
    health_check: str | None = None
    no_route: bool = False
    random_route: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)

    def changed(self) -> list[str]:
        """The flags that change one application."""
        values = {
            "--name": self.name,
            "--memory": self.memory,
            "--disk": self.disk,
            "--instances": self.instances,
            "--command": self.command,
            "--buildpack": self.buildpacks or None,
            "--health-check-type": self.health_check,
        }
        return [flag for flag, value in values.items() if value is not None]


@dataclass(frozen=True)
class Application:
    """One app to push: where its files are, and its section of the manifest, complete."""

    name: str
    path: Path
    section: dict[str, Any]

    @property
    def docker(self) -> dict[str, Any] | None:
        """Its image, when it is not made of files."""
        found = self.section.get("docker")
        return found if isinstance(found, dict) else None


def applications(directory: Path, file: Path | None, flags: Flags) -> list[Application]:
    """The apps of a directory: those of `file`, else of its manifest.yml, else one named after it.

    Raises ManifestProblem.
    """
    found = file or next((directory / name for name in _NAMES if (directory / name).is_file()), None)
    if found is None:
        sections: list[dict[str, Any]] = [{"name": flags.name or directory.resolve().name}]
        base = directory
    else:
        sections, base = _read(found, flags.variables), found.parent
        sections = _chosen(sections, flags, found)
    return [_application(section, base, directory, flags) for section in sections]


_NAMES = ("manifest.yml", "manifest.yaml")


def document(chosen: list[Application]) -> bytes:
    """The manifest to apply, as YAML without anchors."""
    return yaml.dump({"applications": [app.section for app in chosen]}, Dumper=_Plain, sort_keys=False).encode()


def read_variables(files: Iterable[Path]) -> dict[str, Any]:
    """The variables of YAML files; later files win. Raises ManifestProblem."""
    found: dict[str, Any] = {}
    for file in files:
        loaded = _load(file)
        if not isinstance(loaded, dict):
            raise ManifestProblem(f"{file} is no mapping of variables")
        found.update({str(name): value for name, value in loaded.items()})
    return found


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _read(file: Path, variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    filled = _fill(_load(file), variables, file)
    sections = filled.get("applications") if isinstance(filled, dict) else None
    if not isinstance(sections, list) or not sections or not all(isinstance(one, dict) for one in sections):
        raise ManifestProblem(f"{file} has no list `applications` of mappings")
    return sections


def _load(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text())
    except OSError as error:
        raise ManifestProblem(f"cannot read {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ManifestProblem(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error


def _fill(value: Any, variables: Mapping[str, Any], file: Path) -> Any:
    """`((name))` alone becomes the variable's value, within a text its text."""
    if isinstance(value, dict):
        return {_fill(key, variables, file): _fill(inner, variables, file) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, variables, file) for inner in value]
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match[str]) -> Any:
        if match[1] not in variables:
            raise ManifestProblem(
                f"{file} uses (({match[1]})): give it with --var {match[1]}=VALUE or --vars-file FILE"
            )
        return variables[match[1]]

    if whole := _VARIABLE.fullmatch(value):
        return look_up(whole)
    return _VARIABLE.sub(lambda match: str(look_up(match)), value)


def _chosen(sections: list[dict[str, Any]], flags: Flags, file: Path) -> list[dict[str, Any]]:
    if flags.name is not None:
        named = [section for section in sections if section.get("name") == flags.name]
        if named:
            return named
        if len(sections) > 1:
            raise ManifestProblem(f"{file} has no application named {flags.name}")
        return [{**sections[0], "name": flags.name}]
    if len(sections) > 1 and (changed := flags.changed()):
        raise ManifestProblem(f"{changed[0]} is for one app, but {file} has {len(sections)}: choose one with --name")
    return sections


def _application(section: dict[str, Any], base: Path, directory: Path, flags: Flags) -> Application:
    merged = dict(section)
    name = merged.get("name")
    if not isinstance(name, str) or not name:
        raise ManifestProblem("an application of the manifest has no name: add `name`, or give --name")
    path = base / str(merged["path"]) if merged.get("path") else directory
    if not path.exists():
        raise ManifestProblem(f"the path {path} of {name} does not exist")
    merged.pop("path", None)
    _lay_over(merged, flags)
    if flags.no_route:
        merged.pop("routes", None)
        merged["no-route"] = True
    elif flags.random_route and not merged.get("routes"):
        merged["random-route"] = True
    elif not any(merged.get(key) for key in ("routes", "no-route", "random-route", "default-route")):
        merged["default-route"] = True
    return Application(name, path, merged)


def _lay_over(section: dict[str, Any], flags: Flags) -> None:
    given = {
        "memory": flags.memory,
        "disk_quota": flags.disk,
        "instances": flags.instances,
        "command": flags.command,
        "health-check-type": flags.health_check,
        "buildpacks": list(flags.buildpacks) or None,
    }
    processes = section.get("processes")
    listed = processes if isinstance(processes, list) else []
    web = next((one for one in listed if isinstance(one, dict) and one.get("type") == "web"), None)
    for key, value in given.items():
        if value is None:
            continue
        if key == "buildpacks":
            section.pop("buildpack", None)
        if web is not None and key in _OF_PROCESS:
            web[key] = value
        else:
            section[key] = value
