"""The launcher, run as it is in a container: environment, profile scripts in order, start command, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cupola.staging import cell
from tests.staging.staged import write

LAUNCHER = Path(cell.__file__).parent / "lifecycle" / "launcher.py"


def launch(root: Path, command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    given = {"PATH": "/usr/bin:/bin", "CUPOLA_HOME_ROOT": str(root), **(env or {})}
    argv = [sys.executable, "-I", "-S", str(LAUNCHER), "app", command, ""]
    return subprocess.run(argv, env=given, capture_output=True, text=True, check=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = write(tmp_path / "vcap", {"app/here": "", "staging_info.yml": '{"start_command": "echo from the droplet"}'})
    for name in ("deps", "profile.d", "tmp", "logs"):
        (made / name).mkdir()
    return made


def test_the_command_runs_in_the_app_directory_with_its_variables(root: Path) -> None:
    done = launch(root, 'ls; echo "$HOME $TMPDIR $DEPS_DIR"; exit 7')
    assert done.stdout.splitlines() == [
        "Invoking pre-start scripts.", "Invoking start command.", "here", f"{root}/app {root}/tmp {root}/deps",
    ]  # fmt: skip
    assert done.returncode == 7


def test_without_a_command_the_droplets_own_is_run(root: Path) -> None:
    assert launch(root, "").stdout.endswith("from the droplet\n")


def test_profile_scripts_run_in_order_and_set_variables(root: Path) -> None:
    write(root, {
        "profile.d/b.sh": 'export TRAIL="$TRAIL b"', "profile.d/a.sh": 'export TRAIL="a from $(pwd)"',
        "app/.profile.d/c.sh": 'export TRAIL="$TRAIL c"', "app/.profile": 'TRAIL="$TRAIL d"',
    })  # fmt: skip
    assert launch(root, 'echo "$TRAIL"').stdout.endswith(f"a from {root}/app b c d\n")


def test_vcap_application_gets_what_only_the_launcher_knows(root: Path) -> None:
    env = {
        "VCAP_APPLICATION": '{"name": "x"}', "PORT": "8081", "INSTANCE_INDEX": "3", "INSTANCE_GUID": "g", "VCAP_PLATFORM_OPTIONS": "{}",
    }  # fmt: skip
    shown = launch(root, 'echo "$VCAP_APPLICATION"; echo "${VCAP_PLATFORM_OPTIONS-none}"', env).stdout.splitlines()
    assert json.loads(shown[2]) == {
        "name": "x",
        "host": "0.0.0.0",
        "instance_id": "g",
        "port": 8081,
        "instance_index": 3,
    }
    assert shown[3] == "none"
    task = launch(root, 'echo "$VCAP_APPLICATION"', {"VCAP_APPLICATION": "{}"}).stdout.splitlines()
    assert json.loads(task[2]) == {"host": "0.0.0.0", "instance_id": ""}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [("mysql://u:p@h/d", "mysql2://u:p@h/d"), ("postgresql://h/d", "postgres://h/d"), ("postgres://h", "postgres://h"), ("amqp://h", "")],
)  # fmt: skip
def test_the_database_of_the_first_binding(root: Path, uri: str, expected: str) -> None:
    services = json.dumps({"cache": [{"credentials": None}], "db": [{"credentials": {"uri": uri}}]})
    assert launch(root, 'echo "[$DATABASE_URL]"', {"VCAP_SERVICES": services}).stdout.endswith(f"[{expected}]\n")
    own = {"VCAP_SERVICES": services, "DATABASE_URL": "mine"}
    assert launch(root, 'echo "[$DATABASE_URL]"', own).stdout.endswith("[mine]\n")


def test_an_entrypoint_prefix_replaces_the_shell(root: Path) -> None:
    write(root, {"staging_info.yml": '{"start_command": "a b", "config": {"entrypoint_prefix": ["printf", "<%s>"]}}'})
    assert launch(root, "").stdout.endswith("Invoking start command.\n<a b>")


def test_variables_of_the_app_are_not_the_launchers(root: Path) -> None:
    write(root, {"app/json.py": "raise SystemExit('shadowed')"})
    env = {"VCAP_APPLICATION": "{}", "PYTHONPATH": str(root / "app"), "PYTHONHOME": "/none"}
    assert launch(root, 'echo "$PYTHONHOME"', env).stdout.endswith("/none\n")


@pytest.mark.parametrize(
    ("files", "env", "status", "words"),
    [
        ({"staging_info.yml": "{}"}, {}, 1, "no start command: add a Procfile"),
        ({"staging_info.yml": "{"}, {}, 1, "invalid staging info"),
        ({}, {"VCAP_APPLICATION": "{"}, 3, "cannot be read"),
        ({}, {"VCAP_SERVICES": "[]x"}, 3, "cannot be read"),
    ],
)
def test_what_keeps_it_from_starting(
    root: Path, files: dict[str, str], env: dict[str, str], status: int, words: str
) -> None:
    write(root, files)
    done = launch(root, "", env)
    assert done.returncode == status
    assert words in done.stderr
