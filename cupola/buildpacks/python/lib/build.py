"""The python buildpack: a virtual environment in deps/<n>, filled by pip, and a start command where the app names none."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cupola.buildpacks.common.steps import (
        Failure,
        Place,
        finish_profile,
        has_web,
        main,
        run,
        say,
        write_config,
        write_launch,
    )  # fmt: skip
    from cupola.buildpacks.python.lib.defaults import default_command
    from cupola.buildpacks.python.lib.requirements import MARKERS, Needs, needs, python_asked_for
else:  # neighbours, where the buildpack runs
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from defaults import default_command
    from steps import Failure, Place, finish_profile, has_web, main, run, say, write_config, write_launch

    from requirements import MARKERS, Needs, needs, python_asked_for

_LINES = ".cupola-requirements.txt"
_ARCHIVES = (".whl", ".tar.gz", ".zip")
_INDEX_SETTINGS = ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
_PROFILE = """export VIRTUAL_ENV="$DEPS_DIR/{index}"
export PATH="$VIRTUAL_ENV/bin:$PATH"
export PYTHONUNBUFFERED="${{PYTHONUNBUFFERED:-1}}"
export PYTHONPATH="$HOME${{PYTHONPATH:+:$PYTHONPATH}}"
export FORWARDED_ALLOW_IPS="${{FORWARDED_ALLOW_IPS:-*}}"
if [ ! -x "$VIRTUAL_ENV/bin/python" ] && [ -n "$CUPOLA_PYTHON" ]; then
  ln -sfn "$CUPOLA_PYTHON" "$VIRTUAL_ENV/bin/python"
fi
"""


def detect(build: Path) -> str:
    """Whether a file names requirements."""
    return "python" if any((build / name).is_file() for name in MARKERS) else ""


def supply(place: Place) -> None:
    """Make the environment and install into it."""
    say("-----> Python buildpack")
    base, version = _interpreter(place.build)
    say(f"       Python {version}")
    _make_environment(place.own, base, version)
    say("-----> Installing the app's requirements")
    _install(place, base)
    _relocate(place.own / "bin")
    shutil.copyfile(Path(__file__).resolve().parent / "serve.py", place.own / "serve.py")
    (place.own / "profile.d").mkdir(exist_ok=True)
    (place.own / "profile.d" / "python.sh").write_text(_PROFILE.format(index=place.index), encoding="utf-8")
    write_config(place, "python")


def finalize(place: Place) -> None:
    """Collect Django's static files and say how the app starts."""
    finish_profile(place)
    if (place.build / "manage.py").is_file():
        _collect_static(place.build, place.own / "bin" / "python")
    command = "" if has_web(place.build) else default_command(place.build, place.own, place.index)
    if command:
        say(f"-----> Start command: {command}")
    write_launch(place, {"web": command} if command else {})


def release(build: Path) -> Mapping[str, str]:
    """Nothing: finalize wrote launch.yml."""
    return {}


def _interpreter(build: Path) -> tuple[Path, str]:
    """The Python that the app asks for, else the platform's, and its version such as `3.11`."""
    own = Path(os.environ.get("CUPOLA_PYTHON") or sys.executable)
    have = f"{sys.version_info[0]}.{sys.version_info[1]}"
    wanted, asker = python_asked_for(build)
    if not wanted or have == wanted or have.startswith(wanted + "."):
        return own, have
    other = shutil.which(f"python{wanted}")
    if other and other.startswith("/usr/") and "." in wanted:
        return Path(other), wanted
    raise Failure(
        f"{asker} asks for Python {wanted}, but this stack has {have}: change {asker}, or have python{wanted} installed on "
        "the host below /usr"
    )


def _make_environment(target: Path, python: Path, version: str) -> None:
    """A virtual environment that may be moved: nothing in it names its own place."""
    (target / "lib" / f"python{version}" / "site-packages").mkdir(parents=True, exist_ok=True)
    (target / "bin").mkdir(exist_ok=True)
    for name in ("python", "python3", f"python{version}"):
        link = target / "bin" / name
        if not link.is_symlink():
            link.symlink_to(python if name == "python" else "python")
    text = f"home = {python.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
    (target / "pyvenv.cfg").write_text(text, encoding="utf-8")


def _pip(python: Path, base: Path) -> list[str | Path]:
    """How pip is run for the environment's interpreter: the base's own, the platform's, or the one of ensurepip."""
    for place in (
        _asked(base, "import pip, os; print(os.path.dirname(pip.__file__))"),
        os.environ.get("CUPOLA_PIP", ""),
    ):
        if place and (Path(place) / "__pip-runner__.py").is_file():
            return [python, Path(place) / "__pip-runner__.py"]
        if place and (Path(place) / "__main__.py").is_file():
            return [python, place]
    bundled = _asked(base, "import ensurepip, os; print(os.path.dirname(ensurepip.__file__))")
    for directory in (Path(bundled) / "_bundled" if bundled else None, Path("/usr/share/python-wheels")):
        for wheel in sorted(directory.glob("pip-*.whl")) if directory else []:
            return [python, wheel / "pip"]
    raise Failure("there is no pip: have the package python3-pip installed on the host")


def _asked(python: Path, question: str) -> str:
    return subprocess.run([python, "-I", "-c", question], capture_output=True, text=True, check=False).stdout.strip()


def _install(place: Place, base: Path) -> None:
    found = needs(place.build)
    if found is None:
        say("       There are no requirements")
        return
    options = _vendored(place.build)
    env = _environment(place.cache, offline=bool(options))
    pip = [*_pip(place.own / "bin" / "python", base), "install", *options]
    if found.lines:
        _install_lines(place.build, found, pip, env)
    if found.project:
        say("       Running pip install . for the project itself")
        alone = ["--no-deps"] if found.locked else []
        if run([*pip, *alone, "."], place.build, env):
            _fail_install("the project")


def _install_lines(build: Path, found: Needs, pip: list[str | Path], env: Mapping[str, str]) -> None:
    say(f"       Running pip install for {found.source}")
    path = build / (found.source if found.as_it_is else _LINES)
    if not found.as_it_is:
        path.write_text("\n".join(found.lines) + "\n", encoding="utf-8")
    try:
        status = run([*pip, *(["--no-deps"] if found.locked else []), "-r", path.name], build, env)
    finally:
        if not found.as_it_is:
            path.unlink()
    if status:
        _fail_install("the app's requirements")


def _fail_install(what: str) -> None:
    raise Failure(
        f"pip could not install {what}; its last lines say which one. Are its name and version right, and is the package "
        "index reachable (PIP_INDEX_URL, staging.allow)?"
    )


def _vendored(build: Path) -> list[str]:
    """Options for an app that brings its packages in vendor/."""
    vendor = build / "vendor"
    if not vendor.is_dir() or not any(path.name.endswith(_ARCHIVES) for path in vendor.iterdir()):
        return []
    say("       Using the packages in vendor/ and no index")
    return ["--no-index", "--find-links", str(vendor)]


def _environment(cache: Path, *, offline: bool) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not (offline and name in _INDEX_SETTINGS)}
    env.setdefault("PIP_CACHE_DIR", str(cache / "pip"))
    env.setdefault("PIP_PROGRESS_BAR", "off")
    env |= {"PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    env |= {"PIP_NO_WARN_SCRIPT_LOCATION": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    # The app's own search path is for the app.
    env.pop("PYTHONPATH", None)
    return env


def _relocate(directory: Path) -> None:
    """Scripts begin with the absolute path of the interpreter of the moment; find it beside the script instead."""
    for path in directory.iterdir():
        if path.is_symlink() or not path.is_file():
            continue
        first, _, rest = path.read_bytes().partition(b"\n")
        wrapped = first == b"#!/bin/sh" and rest.startswith(b"'''exec'")
        if not wrapped and not (first.startswith(b"#!") and b"python" in first):
            continue
        if wrapped:
            rest = rest.partition(b"\n' '''\n")[2]
        beside = b'#!/bin/sh\n\'\'\'exec\' "$(dirname "$(readlink -f "$0")")/python" "$0" "$@"\n\' \'\'\'\n'
        path.write_bytes(beside + rest)
        path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o755)


def _collect_static(build: Path, python: Path) -> None:
    """Django's static files, as far as the project has them set up."""
    if os.environ.get("DISABLE_COLLECTSTATIC"):
        return
    command = [str(python), "manage.py", "collectstatic", "--noinput"]
    if subprocess.run([*command, "--dry-run"], cwd=build, capture_output=True, check=False).returncode == 0:
        say("-----> Running python manage.py collectstatic --noinput")
        if run(command, build, os.environ):
            raise Failure(
                "collectstatic failed: set the environment variable DISABLE_COLLECTSTATIC to 1 to leave it out"
            )


if __name__ == "__main__":
    main(detect=detect, supply=supply, finalize=finalize, release=release)
