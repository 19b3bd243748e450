"""uv.lock and poetry.lock as lines of pip's requirements format: what the app itself needs, not its development tools."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["LockError", "poetry_lines", "uv_lines"]


class LockError(ValueError):
    """A lock file that cannot be read, or does not fit pyproject.toml; the text says which command makes it anew."""


class _Chosen:
    """Packages that were reached, with the conditions (environment markers) under which each is needed."""

    def __init__(self) -> None:
        self._conditions: dict[str, set[str]] = defaultdict(set)

    def add(self, key: str, condition: str) -> bool:
        """Whether this is news."""
        if condition in self._conditions[key]:
            return False
        self._conditions[key].add(condition)
        return True

    def lines(self, text: Mapping[str, str]) -> list[str]:
        """One line per package, sorted; `text` gives its requirement."""
        made = []
        for key, conditions in sorted(self._conditions.items()):
            marker = "" if "" in conditions else " or ".join(f"({one})" for one in sorted(conditions))
            made.append(text[key] + (f" ; {marker}" if marker else ""))
        return made


def uv_lines(lock: Mapping[str, Any]) -> list[str]:
    """The project's dependencies and theirs, at the locked versions. Raises LockError."""
    packages = lock.get("package", [])
    roots = [one for one in packages if set(one.get("source", {})) & {"virtual", "editable"} and _here(one)]
    if not roots:
        raise LockError("uv.lock does not name the project itself: run `uv lock`")
    by_name: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in packages:
        by_name[one["name"]].append(one)
    chosen, text = _Chosen(), {}
    extras = _Chosen()
    waiting = list(roots[0].get("dependencies", []))
    while waiting:
        wanted = waiting.pop()
        marker = wanted.get("marker", "")
        for package in by_name.get(wanted["name"], []):
            if wanted.get("version") not in (None, package.get("version")):
                continue
            key = f"{package['name']}=={package.get('version', '')}"
            text[key] = _uv_requirement(package)
            if chosen.add(key, marker):
                waiting += package.get("dependencies", [])
            for extra in wanted.get("extra", []):
                if extras.add(f"{key}[{extra}]", marker):
                    waiting += package.get("optional-dependencies", {}).get(extra, [])
    return chosen.lines(text)


def _here(package: Mapping[str, Any]) -> bool:
    source = package["source"]
    return "." in (source.get("virtual"), source.get("editable"))


def _uv_requirement(package: Mapping[str, Any]) -> str:
    source = package.get("source", {})
    name = package["name"]
    if git := source.get("git"):
        # https://host/repository?rev=main#<commit>
        address, _, commit = git.partition("#")
        return f"{name} @ git+{address.partition('?')[0]}@{commit}"
    if url := source.get("url"):
        return f"{name} @ {url}"
    if place := source.get("directory") or source.get("path") or source.get("editable"):
        return f"./{place}"
    return f"{name}=={package['version']}"


def poetry_lines(lock: Mapping[str, Any], project: Mapping[str, Any]) -> list[str]:
    """The packages of the main group at the locked versions. Raises LockError."""
    packages = {_normal(one["name"]): one for one in lock.get("package", [])}
    chosen = _Chosen()
    text = {name: _poetry_requirement(package) for name, package in packages.items()}
    if all("groups" in one for one in packages.values()) and packages:
        for name, one in packages.items():
            if "main" in one["groups"] and not one.get("optional"):
                marker = one.get("markers", "")
                chosen.add(name, marker if isinstance(marker, str) else marker.get("main", ""))
        return chosen.lines(text)
    waiting = [(name, "") for name in _poetry_roots(project)]
    while waiting:
        name, condition = waiting.pop()
        if name not in packages:
            raise LockError(f"poetry.lock has no {name}, which pyproject.toml asks for: run `poetry lock`")
        if chosen.add(name, condition):
            waiting += _poetry_edges(packages[name], packages)
    return chosen.lines(text)


def _poetry_roots(project: Mapping[str, Any]) -> Iterable[str]:
    declared = project.get("project", {}).get("dependencies", [])
    names = [match[0] for line in declared if (match := re.match(r"[A-Za-z0-9._-]+", line))]
    own = project.get("tool", {}).get("poetry", {}).get("dependencies", {})
    names += [name for name, entry in own.items() if not (isinstance(entry, dict) and entry.get("optional"))]
    return [_normal(name) for name in names if name != "python"]


def _poetry_edges(package: Mapping[str, Any], packages: Mapping[str, Any]) -> list[tuple[str, str]]:
    edges = []
    for name, entry in package.get("dependencies", {}).items():
        for one in entry if isinstance(entry, list) else [entry]:
            optional = isinstance(one, dict) and one.get("optional")
            if not optional and _normal(name) in packages:
                edges.append((_normal(name), one.get("markers", "") if isinstance(one, dict) else ""))
    return edges


def _poetry_requirement(package: Mapping[str, Any]) -> str:
    source = package.get("source", {})
    kind, name = source.get("type"), package["name"]
    if kind == "git":
        return f"{name} @ git+{source['url']}@{source.get('resolved_reference') or source.get('reference')}"
    if kind == "url":
        return f"{name} @ {source['url']}"
    if kind in ("directory", "file"):
        return f"./{source['url']}"
    return f"{name}=={package['version']}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
