"""What all system buildpacks do alike: their lines in the log, their files in deps/<index>, profile scripts, start commands."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Failure", "Place", "finish_profile", "has_web", "main", "run", "say", "text_of", "warn", "write_config", "write_launch",
]  # fmt: skip

VERSION = "1.0.0"
"""Of all of them: they come with the platform."""


class Failure(Exception):
    """The step ends here; the text says what to do."""


@dataclass(frozen=True)
class Place:
    """The directories that supply and finalize are given (reference/app-runtime.md section 5)."""

    build: Path
    cache: Path
    deps: Path
    index: str
    profile: Path

    @property
    def own(self) -> Path:
        """What this buildpack may fill: deps/<index>."""
        return self.deps / self.index


def say(text: str) -> None:
    """A line of the staging log, at once."""
    print(text, flush=True)


def warn(text: str) -> None:
    """Something that works otherwise than the developer may think."""
    say("       **WARNING** " + text)


def text_of(path: Path) -> str:
    """The text of a file; empty when there is none."""
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return ""


def run(argv: Sequence[str | Path], directory: Path, env: Mapping[str, str]) -> int:
    """Run a program whose output is this step's; returns its status, 127 when it cannot be run."""
    try:
        return subprocess.run(argv, cwd=directory, env=env, check=False).returncode
    except OSError as error:
        print(f"       {argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
        return 127


def has_web(build: Path) -> bool:
    """Whether the app's Procfile names a web process, which then wins over any default."""
    return any(line.startswith("web:") for line in text_of(build / "Procfile").splitlines())


def write_config(place: Place, name: str) -> None:
    """Say who this buildpack is; shown with the droplet."""
    (place.own / "config.yml").write_text(f"name: {name}\nversion: {VERSION}\n", encoding="utf-8")


def write_launch(place: Place, commands: Mapping[str, str]) -> None:
    """Say how the app starts, by process type. JSON is YAML."""
    entries = [{"type": kind, "command": command} for kind, command in commands.items()]
    (place.own / "launch.yml").write_text(json.dumps({"processes": entries}), encoding="utf-8")


def finish_profile(place: Place) -> None:
    """What the final buildpack does for all: search paths into every deps/<index>, and their profile scripts.

    Nothing names a path of the moment: the droplet is started somewhere else.
    """
    lines = []
    for supplied in sorted(path for path in place.deps.iterdir() if path.is_dir()):
        for directory, variable in (("bin", "PATH"), ("lib", "LD_LIBRARY_PATH")):
            if (supplied / directory).is_dir():
                here = f"$DEPS_DIR/{supplied.name}/{directory}"
                lines.append(f'export {variable}="{here}${{{variable}:+:${variable}}}"')
        scripts = supplied / "profile.d"
        for script in sorted(scripts.iterdir()) if scripts.is_dir() else []:
            shutil.copy(script, place.profile / f"{supplied.name}_{script.name}")
    if lines:
        (place.profile / "000_multi-supply.sh").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(
    *,
    detect: Callable[[Path], str],
    supply: Callable[[Place], None],
    finalize: Callable[[Place], None],
    release: Callable[[Path], Mapping[str, str]],
) -> None:
    """Run the step that sys.argv names. `detect` returns what is printed, or an empty string for no."""
    try:
        _step(sys.argv[1], sys.argv[2:], detect, supply, finalize, release)
    except Failure as failure:
        print(f"       **ERROR** {failure}", file=sys.stderr, flush=True)
        sys.exit(1)


def _step(
    step: str,
    arguments: Sequence[str],
    detect: Callable[[Path], str],
    supply: Callable[[Place], None],
    finalize: Callable[[Place], None],
    release: Callable[[Path], Mapping[str, str]],
) -> None:
    build = Path(arguments[0])
    if step == "detect":
        found = detect(build)
        if not found:
            sys.exit(1)
        say(f"{found} {VERSION}")
    elif step == "release":
        say(json.dumps({"default_process_types": dict(release(build))}))
    else:
        cache, deps, index = Path(arguments[1]), Path(arguments[2]), arguments[3]
        place = Place(build, cache, deps, index, Path(arguments[4]) if step == "finalize" else Path(os.devnull))
        (supply if step == "supply" else finalize)(place)
