"""Makes a droplet from an app's files with classic buildpacks, inside the staging container.

    python builder.py PLAN.json

The plan (written by cupola.staging.cell) names the buildpacks: `{"buildpacks": [{"key", "name", "directory" | "url"}],
"skip_detect": bool, "lines": [first lines of the log], "scrub": [texts that no line may show], "environment": {..}}`.
Below CUPOLA_TMP_ROOT (default /tmp) are `app`, `buildpacks/`, `cache/`; this makes `droplet/` (what becomes /home/vcap),
`result.json`, or `failure.json` with `error_id` and `message`. The contract is that of reference/app-runtime.md section 5.

Exit status: 222 nothing detected, 223 compile, supply or finalize of the final buildpack, 224 release, 225 supply of
another buildpack, 1 anything else.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from fetch import FetchError, fetch
from yaml_subset import YamlError, load

__all__ = ["ERRORS", "Builder", "Failure", "Scrubber", "main"]

NOT_DETECTED, COMPILE_FAILED, RELEASE_FAILED, SUPPLY_FAILED, FAILED = 222, 223, 224, 225, 1
ERRORS = {
    NOT_DETECTED: "NoAppDetectedError",
    COMPILE_FAILED: "BuildpackCompileFailed",
    RELEASE_FAILED: "BuildpackReleaseFailed",
}
"""Exit status to error id; all others are StagingError."""
_CREDENTIALS = re.compile(rb"(://)[^/\s@'\"]{1,512}@")


class Failure(Exception):
    """Staging ends here. `status` is the exit status; the text says what to do."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Scrubber:
    """Takes credentials out of lines: the given texts, and user information in URLs."""

    def __init__(self, texts):
        self._texts = sorted(
            (t.encode("utf-8", "surrogateescape") for t in texts if len(t) >= 4), key=len, reverse=True
        )

    def __call__(self, line):
        for text in self._texts:
            if text in line:
                line = line.replace(text, b"[redacted]")
        return _CREDENTIALS.sub(rb"\1[redacted]@", line) if b"@" in line else line


class Builder:
    """One staging. `root` stands for /tmp, `plan` is the parsed plan."""

    def __init__(self, root, plan, out=None, err=None):
        self.root = root
        self.plan = plan
        self.out = out or sys.stdout.buffer
        self.err = err or sys.stderr.buffer
        self.scrub = Scrubber(plan.get("scrub", []))
        self.buildpacks = plan["buildpacks"]
        self.app = os.path.join(root, "app")
        self.droplet = os.path.join(root, "droplet")
        self.deps = os.path.join(self.droplet, "deps")
        self.profile = os.path.join(self.droplet, "profile.d")
        self.cache = os.path.join(root, "cache")
        given = {name: value.replace("@TMP@", root) for name, value in plan.get("environment", {}).items()}
        self.env = {**given, **{name: value for name, value in os.environ.items() if name != "CUPOLA_TMP_ROOT"}}
        self.env["TMPDIR"] = os.path.join(root, "tmp")

    def say(self, text):
        """A line of the log."""
        self.out.write(self.scrub(text.encode("utf-8", "surrogateescape")) + b"\n")
        self.out.flush()

    def run(self):
        """Build. Raises Failure."""
        for line in self.plan.get("lines", []):
            self.say(line)
        for directory in (self.app, self.deps, self.profile, self.cache, self.env["TMPDIR"]):
            os.makedirs(directory, exist_ok=True)
        for name in ("tmp", "logs"):
            os.makedirs(os.path.join(self.droplet, name), exist_ok=True)
        self._download()
        detected = ""
        if self.plan["skip_detect"]:
            chosen = self.buildpacks
            if not chosen:
                raise Failure(
                    FAILED, "No buildpack was given although detection is off: name one with `cf push -b NAME`"
                )
        else:
            buildpack, detected = self._detect()
            chosen = [buildpack]
        self._clean_caches(chosen)
        processes, sidecars = self._build(chosen)
        self._finish(chosen, detected, processes, sidecars)

    def _download(self):
        for number, buildpack in enumerate(self.buildpacks):
            if buildpack.get("url"):
                self.say(f"Downloading buildpack {buildpack.get('name') or buildpack['url']}...")
                target = os.path.join(self.root, "buildpackdownloads", str(number))
                try:
                    fetch(buildpack["url"], target, lambda argv: self._program(argv, self.root, self.env))
                except FetchError as error:
                    raise Failure(FAILED, f"Failed to download buildpack: {error}") from None
                buildpack["directory"] = target
            buildpack["directory"] = _buildpack_root(os.path.join(self.root, buildpack["directory"]), buildpack)

    def _detect(self):
        for buildpack in self.buildpacks:
            status, output = self._capture(buildpack, "detect", [self.app])
            if status == 0:
                return buildpack, output.decode("utf-8", "replace").rstrip("\r\n")
        tried = ", ".join(buildpack["name"] for buildpack in self.buildpacks) or "none is installed"
        raise Failure(
            NOT_DETECTED,
            "None of the buildpacks detected a compatible application "
            f"(tried: {tried}; looked at: {_listing(self.app)}). "
            "Push the directory that has the app's requirements.txt, package.json or Staticfile, or name a buildpack with `cf push -b NAME`",
        )

    def _clean_caches(self, chosen):
        keep = {_hash(buildpack["key"]) for buildpack in chosen[:-1]} | {"final"}
        for name in os.listdir(self.cache):
            if name not in keep:
                _remove(os.path.join(self.cache, name))
        for name in keep:
            os.makedirs(os.path.join(self.cache, name), exist_ok=True)

    def _build(self, chosen):
        width = len(str(len(chosen) - 1))
        indices = [str(number).zfill(width) for number in range(len(chosen))]
        for index in indices:
            os.makedirs(os.path.join(self.deps, index), exist_ok=True)
        for buildpack, index in zip(chosen[:-1], indices[:-1]):  # noqa: B905 - same length, and older Pythons run this
            self._supply(buildpack, index)
        self._final(chosen[-1], indices[-1])
        return self._processes(chosen, indices)

    def _supply(self, buildpack, index):
        name = buildpack["name"]
        if not _executable(buildpack, "supply"):
            raise Failure(
                SUPPLY_FAILED,
                f"Buildpack {name} cannot be used before another: it has no bin/supply. Put it last in the list of buildpacks",
            )
        cache = os.path.join(self.cache, _hash(buildpack["key"]))
        status = self._script(buildpack, "supply", [self.app, cache, self.deps, index])
        if status:
            raise Failure(
                SUPPLY_FAILED,
                f"Failed to run all supply scripts: bin/supply of buildpack {name} exited with status {status}. "
                "The lines before this one say why",
            )

    def _final(self, buildpack, index):
        name = buildpack["name"]
        cache = os.path.join(self.cache, "final")
        if _executable(buildpack, "finalize"):
            steps = [("finalize", [self.app, cache, self.deps, index, self.profile])]
            if _executable(buildpack, "supply"):
                steps.insert(0, ("supply", [self.app, cache, self.deps, index]))
        elif _executable(buildpack, "compile"):
            shutil.rmtree(os.path.join(self.deps, index))
            steps = [("compile", [self.app, cache])]
        else:
            raise Failure(
                COMPILE_FAILED,
                f"Failed to compile droplet: buildpack {name} has neither bin/finalize nor bin/compile: "
                "it is not a classic buildpack, or it can only come before another one",
            )
        for script, arguments in steps:
            status = self._script(buildpack, script, arguments)
            if status:
                raise Failure(
                    COMPILE_FAILED,
                    f"Failed to compile droplet: bin/{script} of buildpack {name} exited with status {status}. "
                    "The lines before this one say why",
                )

    def _processes(self, chosen, indices):
        """Commands by process type, and sidecars, in the order of precedence of the contract."""
        entries = []
        last = None
        for index in indices:
            last = self._launch_entries(index)
            entries += last or []
        if last is None:
            released = self._release(chosen[-1])
            entries += [{"type": type, "command": command} for type, command in released.items()]
        entries += [{"type": type, "command": command} for type, command in self._procfile().items()]
        processes, sidecars = {}, {}
        for entry in entries:
            platforms = entry.get("platforms") or {}
            served = (platforms.get("cloudfoundry") or {}).get("sidecar_for") if isinstance(platforms, dict) else None
            if served:
                limit = (entry.get("limits") or {}).get("memory")
                sidecar = {
                    "name": entry["type"],
                    "process_types": [str(t) for t in served],
                    "command": entry["command"],
                }
                sidecars[entry["type"]] = {**sidecar, **({"memory": limit} if limit else {})}
            else:
                processes[entry["type"]] = entry["command"]
        return processes, list(sidecars.values())

    def _launch_entries(self, index):
        path = os.path.join(self.deps, index, "launch.yml")
        text = _read(path)
        if text is None:
            return None
        try:
            entries = (load(text) or {}).get("processes") or []
            return [{**entry, "type": str(entry["type"]), "command": _command(entry["command"])} for entry in entries]
        except (YamlError, AttributeError, KeyError, TypeError) as error:
            raise Failure(
                FAILED,
                f"Failed to read deps/{index}/launch.yml: {error}: expected `processes:` with `type` and `command` each",
            ) from None

    def _release(self, buildpack):
        name = buildpack["name"]
        if not _executable(buildpack, "release"):
            raise Failure(
                RELEASE_FAILED, f"Buildpack {name} has no bin/release and wrote no launch.yml: it is not complete"
            )
        status, output = self._capture(buildpack, "release", [self.app])
        if status:
            raise Failure(
                RELEASE_FAILED,
                f"Failed to build droplet release: bin/release of buildpack {name} exited with status {status}",
            )
        try:
            released = load(output.decode()) or {}
            types = released.get("default_process_types") or {}
            return {str(type): _command(command) for type, command in types.items()}
        except (YamlError, UnicodeDecodeError, AttributeError, TypeError) as error:
            raise Failure(
                RELEASE_FAILED,
                f"Buildpack {name}'s release output is invalid: {error}: expected YAML with `default_process_types`",
            ) from None

    def _procfile(self):
        text = _read(os.path.join(self.app, "Procfile"))
        if text is None:
            return {}
        try:
            found = load(text) or {}
            return {str(type): _command(command) for type, command in found.items()}
        except (YamlError, AttributeError, TypeError) as error:
            raise Failure(
                FAILED,
                f"Failed to read command from Procfile: invalid YAML: {error}. Each line must be `TYPE: COMMAND`",
            ) from None

    def _finish(self, chosen, detected, processes, sidecars):
        if "web" not in processes:
            self.say("No start command specified by buildpack or via Procfile.")
            self.say("App will not start unless a command is provided at runtime.")
        metadata, config = [], {}
        width = len(str(len(chosen) - 1))
        for number, buildpack in enumerate(chosen):
            found = self._config(str(number).zfill(width))
            metadata.append(
                {
                    "key": buildpack["key"],
                    "name": str(found.get("name") or (buildpack["name"] if not buildpack.get("url") else "")),
                    "version": str(found.get("version") or ""),
                    **({"config": found["config"]} if isinstance(found.get("config"), dict) else {}),
                }
            )
            if isinstance(found.get("config"), dict):
                config = found["config"]
        shutil.move(self.app, os.path.join(self.droplet, "app"))
        information = {"detected_buildpack": detected, "start_command": processes.get("web", "")}
        if config:
            information["config"] = config
        _write_json(os.path.join(self.droplet, "staging_info.yml"), information)
        _write_json(
            os.path.join(self.root, "result.json"),
            {
                "lifecycle_type": "buildpack",
                "lifecycle_metadata": {
                    "buildpack_key": chosen[-1]["key"],
                    "detected_buildpack": detected,
                    "buildpacks": metadata,
                },
                "process_types": processes,
                "processes": [{"type": type, "command": command} for type, command in processes.items()],
                "sidecars": sidecars,
                "execution_metadata": "",
            },
        )
        self.say("Uploading droplet, build artifacts cache...")

    def _config(self, index):
        text = _read(os.path.join(self.deps, index, "config.yml"))
        if text is None:
            return {}
        try:
            found = load(text)
        except YamlError as error:
            raise Failure(FAILED, f"Failed to read deps/{index}/config.yml of a buildpack: {error}") from None
        return found if isinstance(found, dict) else {}

    def _script(self, buildpack, name, arguments):
        return self._program(
            [_script_path(buildpack, name), *arguments], buildpack["directory"], self._script_env(arguments)
        )

    def _script_env(self, arguments):
        """The environment with what earlier buildpacks supplied (deps/<n>/bin, lib, include, pkgconfig, env)."""
        env = dict(self.env)
        if len(arguments) < 4 and not os.path.isdir(self.deps):
            return env
        places = {
            "bin": ("PATH",),
            "lib": ("LD_LIBRARY_PATH", "LIBRARY_PATH"),
            "include": ("CPATH",),
            "pkgconfig": ("PKG_CONFIG_PATH",),
        }
        for index in sorted(os.listdir(self.deps)):
            for directory, variables in places.items():
                path = os.path.join(self.deps, index, directory)
                if os.path.isdir(path):
                    for variable in variables:
                        env[variable] = path + (":" + env[variable] if env.get(variable) else "")
            given = os.path.join(self.deps, index, "env")
            for name in sorted(os.listdir(given)) if os.path.isdir(given) else []:
                value = _read(os.path.join(given, name))
                if value is not None and "\0" not in value and "=" not in name:
                    env[name] = value
        return env

    def _program(self, argv, directory, env):
        """Run with its output going to the log, scrubbed, line by line; returns a shell's status."""
        try:
            child = subprocess.Popen(
                argv, cwd=directory, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            return self._cannot_run(argv[0], error)
        lock = threading.Lock()
        pumps = [
            threading.Thread(target=self._pump, args=(source, sink, lock))
            for source, sink in ((child.stdout, self.out), (child.stderr, self.err))
        ]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        return _status(child.wait())

    def _pump(self, source, sink, lock):
        while line := source.readline(65536):
            with lock:
                sink.write(self.scrub(line))
                sink.flush()
        source.close()

    def _capture(self, buildpack, name, arguments):
        path = _script_path(buildpack, name)
        try:
            child = subprocess.Popen(
                [path, *arguments], cwd=buildpack["directory"], env=self._script_env(arguments),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            return (self._cannot_run(path, error) if name != "detect" or os.path.exists(path) else 1), b""
        pump = threading.Thread(target=self._pump, args=(child.stderr, self.err, threading.Lock()))
        pump.start()
        output = child.stdout.read(1024 * 1024)
        child.stdout.close()
        pump.join()
        return _status(child.wait()), output

    def _cannot_run(self, path, error):
        self.say(
            f"Cannot run {path}: {error.strerror}: is its first line the path of an interpreter that the stack has?"
        )
        return 126


def _status(returncode):
    return returncode if returncode >= 0 else 128 - returncode


def _command(value):
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise TypeError("a command must be text")
    return str(value)


def _hash(key):
    return hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()


def _script_path(buildpack, name):
    return os.path.join(buildpack["directory"], "bin", name)


def _executable(buildpack, name):
    path = _script_path(buildpack, name)
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _buildpack_root(directory, buildpack):
    """A buildpack may be nested one directory deep."""
    if os.path.isdir(os.path.join(directory, "bin")):
        return directory
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    for name in names:
        nested = os.path.join(directory, name)
        if os.path.isdir(os.path.join(nested, "bin")):
            return nested
    raise Failure(
        FAILED,
        f"Buildpack {buildpack.get('name') or buildpack['key']} has no bin directory: upload a classic buildpack, or name another",
    )


def _listing(directory):
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "no files at all"


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1024 * 1024)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _write_json(path, value):
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(value, file)


def main(argv):
    """Build by the plan at argv[0]; returns the exit status."""
    root = os.environ.get("CUPOLA_TMP_ROOT", "/tmp")  # noqa: S108 - the container's own
    path = argv[0] if argv else os.path.join(root, "plan.json")
    with open(os.path.join(root, path), encoding="utf-8") as file:
        plan = json.load(file)
    builder = Builder(root, plan)
    try:
        builder.run()
    except Failure as failure:
        message, status = str(failure), failure.status
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        message, status = (
            f"Staging failed: {error.strerror}{where}: is the disk limit of the build large enough?",
            FAILED,
        )
    else:
        return 0
    message = builder.scrub(message.encode("utf-8", "replace")).decode("utf-8", "replace")
    print(message, file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        _write_json(
            os.path.join(root, "failure.json"), {"error_id": ERRORS.get(status, "StagingError"), "message": message}
        )
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
