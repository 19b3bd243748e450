"""Starts an app or task in its container (reference: Cloud Foundry's buildpack app lifecycle, launcher).

    python launcher.py APP_DIRECTORY COMMAND [METADATA]

Becomes the app: sets what only the launcher knows, sources the profile scripts, then executes COMMAND, or the start
command of staging_info.yml when COMMAND is empty. Exit status 1: bad arguments or staging information, 3: the
environment cannot be read, 4: there is no shell. Only the standard library, and little of it: this is on the way of every start.
"""

import os
import sys
from collections.abc import Mapping, Sequence

__all__ = ["database_url", "environment", "main", "script", "start_command"]

_SHELLS = ("/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash", "/bin/sh")
_DATABASES = {"mysql": "mysql2", "mysql2": "mysql2", "postgres": "postgres", "postgresql": "postgres"}
_SCRIPT = """cd "$1" || exit 4
echo 'Invoking pre-start scripts.'
for cupola_file in ../profile.d/* .profile.d/*; do
  if [ -f "$cupola_file" ]; then . "./$cupola_file"; fi
done
unset cupola_file
if [ -f .profile ]; then . ./.profile; fi
shift
echo 'Invoking start command.'
exec "$@"
"""


def environment(given: Mapping[str, str], root: str) -> dict[str, str]:
    """The app's environment from the container's. Raises ValueError when VCAP_APPLICATION or VCAP_SERVICES is no JSON."""
    env = dict(given)
    env["HOME"] = root + "/app"
    env["TMPDIR"] = root + "/tmp"
    env["DEPS_DIR"] = root + "/deps"
    env.pop("VCAP_PLATFORM_OPTIONS", None)
    env.pop("CUPOLA_TMP_ROOT", None)
    text = env.get("VCAP_APPLICATION")
    if text:
        import json

        application = json.loads(text)
        application["host"] = "0.0.0.0"  # noqa: S104 - the documented value
        application["instance_id"] = env.get("INSTANCE_GUID", "")
        if env.get("PORT"):
            application["port"] = int(env["PORT"])
        if env.get("INSTANCE_INDEX"):
            application["instance_index"] = int(env["INSTANCE_INDEX"])
        env["VCAP_APPLICATION"] = json.dumps(application, separators=(",", ":"))
    url = "" if env.get("DATABASE_URL") else database_url(env.get("VCAP_SERVICES", ""))
    return env | ({"DATABASE_URL": url} if url else {})


def database_url(services: str) -> str:
    """DATABASE_URL by the first binding of VCAP_SERVICES with the address of a database, or an empty string. Raises ValueError."""
    if services in ("", "{}"):
        return ""
    import json

    for bindings in json.loads(services).values():
        for binding in bindings:
            uri = (binding.get("credentials") or {}).get("uri")
            if isinstance(uri, str) and "://" in uri:
                scheme, _, rest = uri.partition(":")
                if scheme in _DATABASES:
                    return f"{_DATABASES[scheme]}:{rest}"
    return ""


def start_command(root: str) -> tuple[str, list[str]]:
    """Start command and entrypoint prefix (list) of staging_info.yml, both possibly empty. Raises OSError, ValueError."""
    import json

    with open(root + "/staging_info.yml", encoding="utf-8") as file:
        information = json.load(file)
    command = information.get("start_command") or ""
    config = information.get("config") or {}
    prefix = config.get("entrypoint_prefix") or []
    return command, [prefix] if isinstance(prefix, str) else [str(part) for part in prefix]


def script(shell: str, app: str, command: str, prefix: Sequence[str]) -> list[str]:
    """The argument list that is executed."""
    return [shell, "-c", _SCRIPT, shell, app, *(prefix or [shell, "-c"]), command]


def main(argv: Sequence[str]) -> int:
    """Replaces this process; returns an exit status only when that is not possible."""
    if len(argv) < 2:
        print("launcher: usage: launcher.py APP_DIRECTORY COMMAND [METADATA]", file=sys.stderr)
        return 1
    app = argv[0] or "app"
    command = argv[1]
    root = os.environ.get("CUPOLA_HOME_ROOT", "/home/vcap")
    app = app if os.path.isabs(app) else os.path.join(root, app)
    prefix: list[str] = []
    if os.path.exists(root + "/staging_info.yml"):
        try:
            found, prefix = start_command(root)
        except (OSError, ValueError) as error:
            print(f"launcher: invalid staging info: {error}: restage the app", file=sys.stderr)
            return 1
        command = command or found
    if not command:
        print(
            "launcher: no start command: add a Procfile with a line `web: COMMAND`, or push with -c COMMAND",
            file=sys.stderr,
        )
        return 1
    try:
        env = environment(os.environ, root)
    except (ValueError, AttributeError, TypeError) as error:
        print(f"launcher: VCAP_APPLICATION or VCAP_SERVICES cannot be read: {error}", file=sys.stderr)
        return 3
    for shell in _SHELLS:
        if os.access(shell, os.X_OK):
            try:
                os.execve(shell, script(shell, app, command, prefix), env)
            except OSError as error:
                print(f"launcher: cannot run {shell}: {error}", file=sys.stderr)
                return 4
    print("launcher: there is neither bash nor sh in the stack", file=sys.stderr)
    return 4


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
