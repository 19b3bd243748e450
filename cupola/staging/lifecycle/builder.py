"""Makes a droplet from an app's files with classic buildpacks, inside the staging container.

    python builder.py PLAN.json

The plan (written by cupola.staging.cell) names the buildpacks: `{"buildpacks": [{"key", "name", "directory" | "url"}],
"skip_detect": bool, "lines": [first lines of the log], "scrub": [texts that no line may show], "environment": {..},
"outbound": {"anywhere", "allow"}}`. Below CUPOLA_TMP_ROOT (default /tmp) are `app`, `buildpacks/`, `cache/`; this makes `droplet/` (what
becomes /home/vcap), `result.json`, or `failure.json` with `error_id` and `message`. The contract is that of Cloud
Foundry's buildpack app lifecycle (reference/app-runtime.md section 5).

Exit status: 222 nothing detected, 223 compile, supply or finalize of the final buildpack, 224 release, 225 supply of
another buildpack, 1 anything else.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from cupola.outbound import Policy
    from cupola.staging.lifecycle import commands, running
    from cupola.staging.lifecycle.fetch import FetchError, Source, fetch
    from cupola.staging.lifecycle.launcher import database_url
else:  # this runs as a program, where its neighbours are modules by themselves
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import commands
    import running
    from fetch import FetchError, Source, fetch
    from launcher import database_url
    from outbound import Policy

__all__ = ["ERRORS", "Builder", "Failure", "main"]

NOT_DETECTED, COMPILE_FAILED, RELEASE_FAILED, SUPPLY_FAILED, FAILED = 222, 223, 224, 225, 1
ERRORS = {
    NOT_DETECTED: "NoAppDetectedError",
    COMPILE_FAILED: "BuildpackCompileFailed",
    RELEASE_FAILED: "BuildpackReleaseFailed",
}
"""Exit status to error id; all others are StagingError."""
_SUPPLIED = {
    "bin": ("PATH",),
    "lib": ("LD_LIBRARY_PATH", "LIBRARY_PATH"),
    "include": ("CPATH",),
    "pkgconfig": ("PKG_CONFIG_PATH",),
}
"""Directories of deps/<index> and the search paths that later buildpacks find them in."""
_BASIC = ("PATH", "HOME", "LANG", "USER")


class Failure(Exception):
    """Staging ends here. `status` is the exit status; the text says what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Builder:
    """One staging. `root` stands for /tmp, `plan` is the parsed plan."""

    def __init__(self, root: Path, plan: Mapping[str, Any], log: running.Log) -> None:
        self.root = root
        self.plan = plan
        self.log = log
        self.buildpacks: list[dict[str, str]] = plan["buildpacks"]
        self.app = root / "app"
        self.droplet = root / "droplet"
        self.deps = self.droplet / "deps"
        self.profile = self.droplet / "profile.d"
        self.cache = root / "cache"
        given: dict[str, str] = plan.get("environment", {})
        self.inherited = {name: value.replace("@TMP@", str(root)) for name, value in given.items()}
        self.env = _environment(root, self.inherited, os.environ)

    def run(self) -> None:
        """Build. Raises Failure."""
        for line in self.plan.get("lines", []):
            self.log.say(line)
        places = (self.app, self.deps, self.profile, self.cache, self.droplet / "tmp", self.droplet / "logs")
        for directory in (*places, Path(self.env["TMPDIR"])):
            directory.mkdir(parents=True, exist_ok=True)
        self._download()
        chosen, detected = self.buildpacks, ""
        if not self.plan["skip_detect"]:
            found, detected = self._detect()
            chosen = [found]
        elif not chosen:
            raise Failure(FAILED, "No buildpack was given although detection is off: name one with `cf push -b NAME`")
        self._clean_caches(chosen)
        indices = self._build(chosen)
        processes, sidecars = self._start_commands(chosen, indices)
        self._finish(chosen, indices, detected, processes, sidecars)

    def _download(self) -> None:
        given = self.plan.get("outbound", {})
        policy = Policy(bool(given.get("anywhere")), tuple(given.get("allow", ())))
        # Without the app's variables: a proxy or git's settings among them would lead around the policy.
        env = {**self.inherited, **{name: os.environ[name] for name in _BASIC if name in os.environ}}
        for number, buildpack in enumerate(self.buildpacks):
            if buildpack.get("url"):
                self.log.say(f"Downloading buildpack {buildpack.get('name') or buildpack['url']}...")
                target = self.root / "buildpackdownloads" / str(number)
                source = Source(buildpack["url"], policy, env, self._git)
                try:
                    fetch(source, target)
                except FetchError as error:
                    raise Failure(FAILED, f"Failed to download buildpack: {error}") from None
                buildpack["directory"] = str(target)
            buildpack["directory"] = str(_buildpack_root(self.root / buildpack["directory"], buildpack))

    def _git(self, argv: Sequence[str], env: Mapping[str, str]) -> int:
        return running.run(self.log, argv, self.root, env)

    def _detect(self) -> tuple[dict[str, str], str]:
        for buildpack in self.buildpacks:
            if _script(buildpack, "detect").is_file():
                status, output = self._capture(buildpack, "detect", [self.app])
                if status == 0:
                    return buildpack, output.decode("utf-8", "replace").rstrip("\r\n")
        tried = ", ".join(buildpack["name"] for buildpack in self.buildpacks) or "none is installed"
        raise Failure(
            NOT_DETECTED,
            "None of the buildpacks detected a compatible application "
            f"(tried: {tried}; looked at: {_listing(self.app)}). Push the directory that has the app's requirements.txt, "
            "package.json, Staticfile or Procfile, or name a buildpack with `cf push -b NAME`",
        )

    def _clean_caches(self, chosen: Sequence[Mapping[str, str]]) -> None:
        keep = {_hash(buildpack["key"]) for buildpack in chosen[:-1]} | {"final"}
        for path in self.cache.iterdir():
            if path.name not in keep:
                _remove(path)
        for name in keep:
            (self.cache / name).mkdir(exist_ok=True)

    def _build(self, chosen: Sequence[dict[str, str]]) -> list[str]:
        """Run supply of each buildpack and finalize or compile of the last; returns their indices."""
        width = len(str(len(chosen) - 1))
        indices = [str(number).zfill(width) for number in range(len(chosen))]
        for index in indices:
            (self.deps / index).mkdir(parents=True, exist_ok=True)
        for buildpack, index in zip(chosen[:-1], indices[:-1], strict=True):
            self._supply(buildpack, index)
        self._final(chosen[-1], indices[-1])
        return indices

    def _supply(self, buildpack: Mapping[str, str], index: str) -> None:
        name = buildpack["name"]
        if not _script(buildpack, "supply").is_file():
            raise Failure(
                SUPPLY_FAILED,
                f"Buildpack {name} cannot be used before another: it has no bin/supply. Put it last in the list of buildpacks",
            )
        cache = self.cache / _hash(buildpack["key"])
        status = self._program(buildpack, "supply", [self.app, cache, self.deps, index])
        if status:
            raise Failure(
                SUPPLY_FAILED,
                f"Failed to run all supply scripts: bin/supply of buildpack {name} exited with status {status}{self._why()}",
            )

    def _final(self, buildpack: Mapping[str, str], index: str) -> None:
        name = buildpack["name"]
        cache = self.cache / "final"
        steps: list[tuple[str, list[Path | str]]]
        if _script(buildpack, "finalize").is_file():
            steps = [("finalize", [self.app, cache, self.deps, index, self.profile])]
            if _script(buildpack, "supply").is_file():
                steps.insert(0, ("supply", [self.app, cache, self.deps, index]))
        elif _script(buildpack, "compile").is_file():
            shutil.rmtree(self.deps / index)
            steps = [("compile", [self.app, cache])]
        else:
            raise Failure(
                COMPILE_FAILED,
                f"Failed to compile droplet: buildpack {name} has neither bin/finalize nor bin/compile: "
                "it is not a classic buildpack, or it can only come before another one",
            )
        for script, arguments in steps:
            status = self._program(buildpack, script, arguments)
            if status:
                raise Failure(
                    COMPILE_FAILED,
                    f"Failed to compile droplet: bin/{script} of buildpack {name} exited with status {status}{self._why()}",
                )

    def _why(self) -> str:
        """The script's last word; clients do not always show the lines before it."""
        return f": {self.log.last}" if self.log.last else " and said nothing"

    def _start_commands(
        self, chosen: Sequence[Mapping[str, str]], indices: Sequence[str]
    ) -> tuple[dict[str, str], list[dict[str, Any]]]:
        """Commands by process type, and sidecars, in the order of precedence of the contract."""
        try:
            written = [commands.launch(self.deps, index) for index in indices]
            entries = [entry for one in written for entry in one or []]
            if written[-1] is None:
                entries += self._release(chosen[-1])
            entries += commands.procfile(self.app)
            return commands.combine(entries)
        except commands.Unreadable as error:
            raise Failure(FAILED, str(error)) from None

    def _release(self, buildpack: Mapping[str, str]) -> list[dict[str, Any]]:
        name = buildpack["name"]
        if not _script(buildpack, "release").is_file():
            raise Failure(
                RELEASE_FAILED, f"Buildpack {name} has no bin/release and wrote no launch.yml: it is not complete"
            )
        status, output = self._capture(buildpack, "release", [self.app])
        if status:
            raise Failure(
                RELEASE_FAILED,
                f"Failed to build droplet release: bin/release of buildpack {name} exited with status {status}{self._why()}",
            )
        try:
            return commands.release(output)
        except commands.Unreadable as error:
            raise Failure(RELEASE_FAILED, f"Buildpack {name}'s release output is invalid: {error}") from None

    def _finish(
        self,
        chosen: Sequence[Mapping[str, str]],
        indices: Sequence[str],
        detected: str,
        processes: Mapping[str, str],
        sidecars: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write staging_info.yml and result.json and put the app into the droplet."""
        if "web" not in processes:
            self.log.say("No start command specified by buildpack or via Procfile.")
            self.log.say("App will not start unless a command is provided at runtime.")
        metadata, config = self._metadata(chosen, indices)
        self.app.rename(self.droplet / "app")
        information = {"detected_buildpack": detected, "start_command": processes.get("web", "")}
        _write_json(self.droplet / "staging_info.yml", information | ({"config": config} if config else {}))
        result = {
            "lifecycle_type": "buildpack",
            "lifecycle_metadata": {
                "buildpack_key": chosen[-1]["key"],
                "detected_buildpack": detected,
                "buildpacks": metadata,
            },
            "process_types": processes,
            "processes": [{"type": type_, "command": command} for type_, command in processes.items()],
            "sidecars": sidecars,
            "execution_metadata": "",
        }
        _write_json(self.root / "result.json", result)
        self.log.say("Uploading droplet, build artifacts cache...")

    def _metadata(
        self, chosen: Sequence[Mapping[str, str]], indices: Sequence[str]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """What each buildpack says of itself in config.yml, and the last `config` among them."""
        metadata: list[dict[str, Any]] = []
        last: dict[str, Any] = {}
        for buildpack, index in zip(chosen, indices, strict=True):
            try:
                found = commands.config(self.deps, index)
            except commands.Unreadable as error:
                raise Failure(FAILED, str(error)) from None
            entry = {
                "key": buildpack["key"],
                "name": str(found.get("name") or ("" if buildpack.get("url") else buildpack["name"])),
                "version": str(found.get("version") or ""),
            }
            if isinstance(found.get("config"), dict):
                last = entry["config"] = found["config"]
            metadata.append(entry)
        return metadata, last

    def _program(self, buildpack: Mapping[str, str], name: str, arguments: Sequence[Path | str]) -> int:
        argv = [str(part) for part in (_script(buildpack, name), *arguments)]
        return running.run(self.log, argv, Path(buildpack["directory"]), self._supplied())

    def _capture(self, buildpack: Mapping[str, str], name: str, arguments: Sequence[Path | str]) -> tuple[int, bytes]:
        argv = [str(part) for part in (_script(buildpack, name), *arguments)]
        return running.capture(self.log, argv, Path(buildpack["directory"]), self._supplied())

    def _supplied(self) -> dict[str, str]:
        """The environment with what earlier buildpacks supplied (deps/<index>/bin, lib, include, pkgconfig, env)."""
        env = dict(self.env)
        for supplied in sorted(self.deps.iterdir()):
            for directory, variables in _SUPPLIED.items():
                if (supplied / directory).is_dir():
                    for variable in variables:
                        env[variable] = f"{supplied / directory}" + (f":{env[variable]}" if env.get(variable) else "")
            given = supplied / "env"
            for path in sorted(given.iterdir()) if given.is_dir() else []:
                value = commands.read(path)
                if value is not None and "\0" not in value and "=" not in path.name:
                    env[path.name] = value
        return env


def _environment(root: Path, inherited: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """What scripts see: the host's package access below the app's own variables, without what is only for this program."""
    env = {**inherited, **own}
    for name in ("CUPOLA_TMP_ROOT", "CUPOLA_HOME_ROOT", "VCAP_PLATFORM_OPTIONS"):
        env.pop(name, None)
    env["TMPDIR"] = str(root / "tmp")
    try:
        url = "" if env.get("DATABASE_URL") else database_url(env.get("VCAP_SERVICES", ""))
    except (ValueError, AttributeError, TypeError) as error:
        raise Failure(FAILED, f"VCAP_SERVICES cannot be read: {error}") from None
    return env | ({"DATABASE_URL": url} if url else {})


def _hash(key: str) -> str:
    return hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()


def _script(buildpack: Mapping[str, str], name: str) -> Path:
    return Path(buildpack["directory"], "bin", name)


def _buildpack_root(directory: Path, buildpack: Mapping[str, str]) -> Path:
    """Where `bin` is: a buildpack may be nested one directory deep. Its scripts become executable."""
    nested = sorted(path for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []
    for place in (directory, *nested):
        if (place / "bin").is_dir():
            for script in (place / "bin").iterdir():
                if script.is_file() and not script.is_symlink():
                    # An archive made on Windows has no mode bits.
                    script.chmod(script.stat().st_mode | 0o755)
            return place
    name = buildpack.get("name") or buildpack["key"]
    raise Failure(FAILED, f"Buildpack {name} has no bin directory: upload a classic buildpack, or name another")


def _listing(directory: Path) -> str:
    names = sorted(path.name for path in directory.iterdir())
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "no files at all"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8", errors="surrogateescape")


def main(argv: Sequence[str]) -> int:
    """Build by the plan at argv[0]; returns the exit status."""
    root = Path(os.environ.get("CUPOLA_TMP_ROOT", "/tmp"))  # noqa: S108 - the container's own
    plan = cast(dict[str, Any], json.loads((root / (argv[0] if argv else "plan.json")).read_text(encoding="utf-8")))
    scrub = running.Scrubber(plan.get("scrub", []))
    log = running.Log(sys.stdout.buffer, sys.stderr.buffer, scrub)
    try:
        Builder(root, plan, log).run()
    except Failure as failure:
        message, status = str(failure), failure.status
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        message = f"Staging failed: {error.strerror or error}{where}: is the disk limit of the build large enough?"
        status = FAILED
    else:
        return 0
    message = scrub.text(message)
    log.say(message, error=True)
    with contextlib.suppress(OSError):
        _write_json(root / "failure.json", {"error_id": ERRORS.get(status, "StagingError"), "message": message})
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
