"""Which language runtimes apps and buildpacks find on this machine: what is below /usr, which is all that they see."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

__all__ = ["Tool", "find"]

_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/usr/local/go/bin"
_SECONDS = 10
_VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True)
class Tool:
    """A runtime. `version` is empty when there is none that apps can use; `problem` says why."""

    name: str
    version: str = ""
    path: str = ""
    problem: str = ""
    consequence: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class _Wanted:
    name: str
    programs: tuple[tuple[str, ...], ...]
    """Command lines that print a version; all must be there, the first gives the version."""
    consequence: str
    remedy: str


_WANTED = (
    _Wanted(
        "node", (("node", "--version"), ("npm", "--version")),
        "Node apps get Node from the package index while they are staged, which takes longer", "install nodejs and npm",
    ),
    _Wanted("java", (("java", "-version"),), "apps that start with java do not run", "install a JRE, as default-jre-headless"),
    _Wanted("go", (("go", "version"),), "buildpacks that compile Go fail; a compiled program can be pushed all the same", "install Go below /usr/local, as golang"),
    _Wanted("ruby", (("ruby", "--version"),), "apps that start with ruby do not run", "install ruby"),
    _Wanted("php", (("php", "--version"),), "apps that start with php do not run", "install php-cli"),
    _Wanted("git", (("git", "--version"),), "buildpacks and requirements at git addresses cannot be fetched", "install git"),
)  # fmt: skip


def find(rootfs: str = "") -> list[Tool]:
    """All runtimes that matter, looked for at the same time."""
    with ThreadPoolExecutor(len(_WANTED)) as threads:
        found = list(threads.map(lambda wanted: _look(wanted, rootfs), _WANTED))
    return [_python(), *found]


def _python() -> Tool:
    path = os.path.realpath(sys.executable)  # the buildpack is given exactly this text
    version = ".".join(map(str, sys.version_info[:3]))
    others = [
        f"3.{minor}"
        for minor in range(8, 20)
        if minor != sys.version_info[1] and os.access(f"/usr/bin/python3.{minor}", os.X_OK)
    ]
    return Tool("python", version, path + (f"; also {', '.join(others)}" if others else ""))


def _look(wanted: _Wanted, rootfs: str) -> Tool:
    version, shown = "", ""
    for command in wanted.programs:
        path = shutil.which(command[0], path=_below(rootfs))
        if path is None:
            elsewhere = shutil.which(command[0])
            problem = (
                f"{elsewhere} is not below /usr, so apps do not see it" if elsewhere else f"there is no {command[0]}"
            )
            return Tool(wanted.name, problem=problem, consequence=wanted.consequence, remedy=wanted.remedy)
        if not version:
            # Programs of another root file system are not run here: its libraries are not ours.
            version, shown = ("present" if rootfs else _version([path, *command[1:]])), path
        if not version:
            return Tool(
                wanted.name, problem=f"{path} does not work", consequence=wanted.consequence, remedy=wanted.remedy
            )
    return Tool(wanted.name, version, shown)


def _below(rootfs: str) -> str:
    return ":".join(rootfs + directory for directory in _SEARCH.split(":"))


def _version(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = _VERSION.search(done.stdout + done.stderr)
    return match[0] if match and done.returncode == 0 else ""
