"""What an app needs, from whichever file says so, as lines of pip's requirements format."""

import json
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cupola.buildpacks.common.steps import Failure, text_of, warn
    from cupola.buildpacks.python.lib.locks import LockError, poetry_lines, uv_lines
else:  # neighbours, where the buildpack runs
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from locks import LockError, poetry_lines, uv_lines
    from steps import Failure, text_of, warn

__all__ = ["MARKERS", "Needs", "needs", "python_asked_for"]

MARKERS = ("requirements.txt", "pyproject.toml", "setup.py", "Pipfile", "Pipfile.lock", "environment.yml")
_EDITABLE = re.compile(r"(?m)^(\s*)(?:-e|--editable)[ =]+")


@dataclass(frozen=True)
class Needs:
    """`source` is the file that was read; `lines` what it asks for; `project`: the app's directory itself is installed, too."""

    source: str
    lines: list[str] = field(default_factory=list)
    project: bool = False
    locked: bool = False
    """The lines are everything: dependencies of dependencies are among them."""
    as_it_is: bool = False
    """The lines are those of the file, which pip may read itself: its messages then name it."""


def needs(build: Path) -> Needs | None:
    """What is to be installed, or None for nothing. The first file that is there decides."""
    if (build / "requirements.txt").is_file():
        text = text_of(build / "requirements.txt")
        # Not editable: the app is started at another place than it is built.
        lines = _EDITABLE.sub(r"\1", text)
        return Needs("requirements.txt", lines.splitlines(), as_it_is=lines == text)
    if text := text_of(build / "Pipfile.lock"):
        return Needs("Pipfile.lock", _pipfile_lock(text), locked=True)
    if text := text_of(build / "Pipfile"):
        warn("There is no Pipfile.lock: versions may differ from those that you tested; run `pipenv lock`")
        packages = _toml(text, "Pipfile").get("packages", {})
        return Needs("Pipfile", [_pipenv_line(name, entry) for name, entry in packages.items()])
    if text := text_of(build / "pyproject.toml"):
        return _project(build, _toml(text, "pyproject.toml"))
    if (build / "setup.py").is_file():
        return Needs("setup.py", project=True)
    if (build / "environment.yml").is_file():
        raise Failure("environment.yml: conda is not supported here; list the packages in requirements.txt")
    return None


def python_asked_for(build: Path) -> tuple[str, str]:
    """(version such as `3.12` or `3`, the file that asks), both empty when nothing does."""
    for name in ("runtime.txt", ".python-version"):
        match = re.match(r"\s*(?:python-?)?(\d+)(?:\.(\d+|x))?", text_of(build / name))
        if match:
            return match[1] if match[2] in (None, "x") else f"{match[1]}.{match[2]}", name
    requires = _toml(text_of(build / "Pipfile"), "Pipfile").get("requires", {})
    match = re.match(r"\d+(\.\d+)?", str(requires.get("python_version") or requires.get("python_full_version") or ""))
    return (match[0], "Pipfile") if match else ("", "")


def _toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Failure(f"{name} is not valid: {error}") from None


def _project(build: Path, project: Mapping[str, Any]) -> Needs | None:
    """From pyproject.toml and the lock beside it. A project that can be built is installed as well."""
    builds = "build-system" in project
    poetry = project.get("tool", {}).get("poetry", {})
    try:
        if text := text_of(build / "uv.lock"):
            return Needs("uv.lock", uv_lines(_toml(text, "uv.lock")), project=builds, locked=True)
        if text := text_of(build / "poetry.lock"):
            lines = poetry_lines(_toml(text, "poetry.lock"), project)
            return Needs("poetry.lock", lines, project=builds and poetry.get("package-mode", True), locked=True)
    except LockError as error:
        raise Failure(str(error)) from None
    declared = project.get("project", {})
    if poetry.get("dependencies") and "dependencies" not in declared and not builds:
        raise Failure(
            "pyproject.toml is for poetry, but there is no poetry.lock: run `poetry lock` and push it as well"
        )
    if builds or (build / "setup.py").is_file():
        return Needs("pyproject.toml", project=True)
    lines = [str(line) for line in declared.get("dependencies", [])]
    if lines:
        warn("There is no uv.lock: versions may differ from those that you tested; run `uv lock`")
    return Needs("pyproject.toml", lines) if lines else None


def _pipfile_lock(text: str) -> list[str]:
    try:
        found = json.loads(text)
        entries = found.get("default", {})
        lines = [_pipenv_line(name, entry) for name, entry in entries.items()]
        sources = [str(source["url"]) for source in found.get("_meta", {}).get("sources", [])]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise Failure(f"Pipfile.lock is not valid: {error}: run `pipenv lock`") from None
    return [*_indexes(sources), *lines]


def _indexes(urls: Sequence[str]) -> list[str]:
    """Options for the indexes after the first, which is the one that pip's own settings name or replace."""
    return [f"--extra-index-url {url}" for url in urls[1:]]


def _pipenv_line(name: str, entry: Any) -> str:
    if isinstance(entry, str):
        return name if entry == "*" else name + entry
    if "git" in entry:
        return f"{name} @ git+{entry['git']}" + (f"@{entry['ref']}" if entry.get("ref") else "")
    if "path" in entry:
        return str(entry["path"])
    extras = f"[{','.join(entry['extras'])}]" if entry.get("extras") else ""
    version = entry.get("version", "")
    line = name + extras + ("" if version == "*" else version)
    return line + (f" ; {entry['markers']}" if entry.get("markers") else "")
