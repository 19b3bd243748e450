"""The classic buildpack contract, through the real builder: which scripts run, with what, and what becomes of their output."""

import json
from pathlib import Path

import pytest

from cupola.blobs.store import LocalStore
from tests.staging.staged import Buildpack, Staged, archive, buildpack, stage, write

RELEASE = "echo '---'; echo 'default_process_types:'; echo '  web: ./run --port $PORT'"


@pytest.fixture
def blobs(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "blobs")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write(tmp_path / "app", {"file.txt": "text"})


def information(staged: Staged) -> dict[str, object]:
    found = json.loads((staged.droplet / "staging_info.yml").read_text())
    assert isinstance(found, dict)
    return found


def test_detection_takes_the_first_that_says_yes_and_keeps_what_it_says(
    tmp_path: Path, blobs: LocalStore, app: Path
) -> None:
    no = buildpack(blobs, "no", {"detect": "echo never; exit 1", "compile": "exit 9"})
    broken = buildpack(blobs, "broken", {"supply": "exit 9"})
    yes = buildpack(
        blobs,
        "yes",
        {
            "detect": '[ -f "$1/file.txt" ]; echo "yes 1.2"; echo to-the-log >&2',
            "compile": "exit 0",
            "release": RELEASE,
        },
    )
    later = buildpack(blobs, "later", {"detect": "exit 0", "compile": "exit 9"})
    staged = stage(app, tmp_path, detectable=[no, broken, yes, later])
    metadata = staged.good.result["lifecycle_metadata"]
    assert metadata == {
        "buildpack_key": "yes-key", "detected_buildpack": "yes 1.2",
        "buildpacks": [{"key": "yes-key", "name": "yes", "version": ""}],
    }  # fmt: skip
    assert "to-the-log" in staged.log
    assert "never" not in staged.log
    assert information(staged) == {"detected_buildpack": "yes 1.2", "start_command": "./run --port $PORT"}


def test_nothing_detected_names_what_was_tried_and_what_to_do(tmp_path: Path, blobs: LocalStore, app: Path) -> None:
    staged = stage(
        app,
        tmp_path,
        detectable=[buildpack(blobs, "one", {"detect": "exit 1"}), buildpack(blobs, "two", {"detect": "exit 3"})],
    )
    assert staged.status == 222
    assert staged.bad.error_id == "NoAppDetectedError"
    assert staged.bad.reason.startswith(
        "None of the buildpacks detected a compatible application (tried: one, two; looked at: file.txt)"
    )
    assert "-b NAME" in staged.log


def test_several_buildpacks_supply_in_order_and_the_last_finalizes(
    tmp_path: Path, blobs: LocalStore, app: Path
) -> None:
    first = buildpack(blobs, "first", {
        "detect": "exit 1",
        "supply": 'echo "supply $# $4"; mkdir -p "$3/$4/bin" "$3/$4/lib" "$3/$4/env" "$3/$4/profile.d"; '
        'printf "#!/bin/sh\\necho tool of first\\n" > "$3/$4/bin/tool"; chmod +x "$3/$4/bin/tool"; '
        'printf %s "given by first" > "$3/$4/env/GIVEN"; echo "export FROM_FIRST=1" > "$3/$4/profile.d/first.sh"; '
        'printf "name: first\\nversion: 7.1\\nconfig: {entrypoint_prefix: [nice]}\\n" > "$3/$4/config.yml"',
    })  # fmt: skip
    last = buildpack(blobs, "last", {
        "supply": 'tool; echo "GIVEN=$GIVEN"; echo "LIB=$LD_LIBRARY_PATH"',
        "finalize": 'tool; cp "$3/0/profile.d/first.sh" "$5/0_first.sh"; echo "finalize $# $4"; echo made > "$1/made"',
        "release": RELEASE,
    })  # fmt: skip
    staged = stage(app, tmp_path, chosen=[first, last])
    lines = [
        line for line in staged.log.splitlines() if line.startswith(("supply", "finalize", "tool", "GIVEN", "LIB"))
    ]
    assert lines == [
        "supply 4 0", "tool of first", "GIVEN=given by first", f"LIB={staged.droplet}/deps/0/lib", "tool of first", "finalize 5 1",
    ]  # fmt: skip
    assert (staged.droplet / "profile.d" / "0_first.sh").is_file()
    assert (staged.droplet / "app" / "made").read_text() == "made\n"
    metadata = staged.good.result["lifecycle_metadata"]
    assert isinstance(metadata, dict)
    assert metadata["buildpacks"] == [
        {"key": "first-key", "name": "first", "version": "7.1", "config": {"entrypoint_prefix": ["nice"]}},
        {"key": "last-key", "name": "last", "version": ""},
    ]
    assert information(staged)["config"] == {"entrypoint_prefix": ["nice"]}


def test_ten_buildpacks_have_indices_of_two_digits(tmp_path: Path, blobs: LocalStore, app: Path) -> None:
    many = [buildpack(blobs, f"bp{number}", {"supply": 'echo "index $4"'}) for number in range(10)]
    last = buildpack(blobs, "last", {"finalize": 'echo "index $4"', "release": RELEASE})
    staged = stage(app, tmp_path, chosen=[*many, last])
    assert staged.status == 0
    assert [line for line in staged.log.splitlines() if line.startswith("index")] == [
        f"index {n:02}" for n in range(11)
    ]


def test_a_buildpack_of_the_old_style_compiles(tmp_path: Path, blobs: LocalStore, app: Path) -> None:
    old = buildpack(
        blobs,
        "old",
        {"compile": 'echo "compile $#"; ls "$1/../droplet/deps" | wc -l; echo ok > "$1/compiled"', "release": RELEASE},
    )
    staged = stage(app, tmp_path, chosen=[old])
    assert "compile 2\n0\n" in staged.log
    assert staged.good.result["process_types"] == {"web": "./run --port $PORT"}


def test_the_environment_of_scripts(tmp_path: Path, blobs: LocalStore, app: Path) -> None:
    services = json.dumps({"db": [{"credentials": {"uri": "postgresql://u:p@db/x"}}]})
    show = buildpack(blobs, "show", {"compile": "env | sort", "release": RELEASE})
    env = {"BP_OPTION": "on", "VCAP_SERVICES": services, "PYTHONPATH": "/nonsense", "VCAP_PLATFORM_OPTIONS": "{}"}
    staged = stage(app, tmp_path, chosen=[show], env=env)
    lines = staged.log.splitlines()
    for expected in (
        "BP_OPTION=on",
        "CF_STACK=cflinuxfs4",
        "PYTHONPATH=/nonsense",
        f"TMPDIR={staged.directory}/tmp/tmp",
    ):
        assert expected in lines, expected
    # Credentials in URLs are not for the log, whoever prints them.
    assert "DATABASE_URL=postgres://[redacted]@db/x" in lines
    assert not [
        line for line in lines if line.startswith(("CUPOLA_TMP_ROOT", "CUPOLA_HOME_ROOT", "VCAP_PLATFORM_OPTIONS"))
    ]


def test_the_final_buildpack_cleans_nothing_but_others_caches(tmp_path: Path, blobs: LocalStore, app: Path) -> None:
    counting = 'n=$(cat "$2/n" 2>/dev/null || echo 0); echo "$0 sees $n" | sed "s,.*/bin/,,"; echo $((n + 1)) > "$2/n"'
    helper = buildpack(blobs, "helper", {"supply": counting})
    last = buildpack(blobs, "last", {"finalize": counting, "release": RELEASE})
    first = stage(app, tmp_path, chosen=[helper, last])
    assert "supply sees 0\n" in first.log
    assert "finalize sees 0\n" in first.log
    again = stage(app, tmp_path, chosen=[helper, last], cache=first.good.cache)
    assert "Downloaded build artifacts cache" in again.log
    assert "supply sees 1\n" in again.log
    assert "finalize sees 1\n" in again.log
    # Without the helper its cache goes; the final one stays.
    alone = stage(app, tmp_path, chosen=[last], cache=again.good.cache)
    assert "finalize sees 2\n" in alone.log
    assert [path.name for path in (alone.directory / "tmp" / "cache").iterdir()] == ["final"]


def test_a_damaged_or_missing_cache_costs_only_time(tmp_path: Path, blobs: LocalStore, app: Path) -> None:
    last = buildpack(blobs, "last", {"compile": "exit 0", "release": RELEASE})
    for cache in (blobs.put_stream([b"no tar at all"]).digest, "sha256:" + "0" * 64):
        staged = stage(app, tmp_path, chosen=[last], cache=cache)
        assert staged.good.cache == ""
        assert "The build artifacts cache cannot be read; building without it" in staged.log


def test_start_commands_by_precedence_and_sidecars(tmp_path: Path, blobs: LocalStore) -> None:
    app = write(tmp_path / "app", {"Procfile": "worker: ./from-procfile\nclock: 'tick: 1'\n"})
    launch = """
processes:
- type: web
  command: ./first
- {type: helper, command: ./help, limits: {memory: 32}, platforms: {cloudfoundry: {sidecar_for: [web, worker]}}}
- type: worker
  command: ./first-worker
"""
    first = buildpack(blobs, "first", {"supply": f"cat > \"$3/$4/launch.yml\" <<'END'\n{launch}END"})
    last = buildpack(blobs, "last", {
        "finalize": "printf 'processes:\\n- type: web\\n  command: ./last\\n' > \"$3/$4/launch.yml\"", "release": "echo not run >&2; exit 1",
    })  # fmt: skip
    result = stage(app, tmp_path, chosen=[first, last]).good.result
    assert result["process_types"] == {"web": "./last", "worker": "./from-procfile", "clock": "tick: 1"}
    assert result["sidecars"] == [
        {"name": "helper", "process_types": ["web", "worker"], "command": "./help", "memory": 32}
    ]
    assert result["processes"] == [
        {"type": "web", "command": "./last"}, {"type": "worker", "command": "./from-procfile"}, {"type": "clock", "command": "tick: 1"},
    ]  # fmt: skip


def test_without_a_web_process_staging_succeeds_and_says_so(tmp_path: Path, blobs: LocalStore, app: Path) -> None:
    last = buildpack(blobs, "last", {"compile": "exit 0", "release": "echo '---'"})
    staged = stage(app, tmp_path, chosen=[last])
    assert staged.good.result["process_types"] == {}
    assert "No start command specified by buildpack or via Procfile." in staged.log
    assert "App will not start unless a command is provided at runtime." in staged.log


def test_the_layout_of_a_droplet(tmp_path: Path, blobs: LocalStore, app: Path) -> None:
    staged = stage(app, tmp_path, chosen=[buildpack(blobs, "last", {"finalize": "exit 0", "release": RELEASE})])
    assert staged.status == 0
    names = {path.name for path in staged.droplet.iterdir()}
    assert names == {"app", "deps", "profile.d", "tmp", "logs", "staging_info.yml"}


FAILURES: list[tuple[list[dict[str, str]], int, str, str]] = [
    ([{"compile": "exit 3"}], 223, "BuildpackCompileFailed", "bin/compile of buildpack bp0 exited with status 3"),
    ([{"supply": "exit 4", "finalize": "exit 0"}], 223, "BuildpackCompileFailed", "bin/supply of buildpack bp0 exited with status 4"),
    ([{"finalize": "kill -9 $$"}], 223, "BuildpackCompileFailed", "exited with status 137"),
    ([{"supply": "exit 0"}], 223, "BuildpackCompileFailed", "has neither bin/finalize nor bin/compile"),
    ([{"compile": "exit 0"}], 224, "BuildpackReleaseFailed", "no bin/release and wrote no launch.yml"),
    ([{"compile": "exit 0", "release": "exit 5"}], 224, "BuildpackReleaseFailed", "bin/release of buildpack bp0 exited with status 5"),
    ([{"compile": "exit 0", "release": "echo '['"}], 224, "BuildpackReleaseFailed", "release output is invalid"),
    ([{"compile": "exit 0", "release": "echo 'default_process_types: {web: [1]}'"}], 224, "BuildpackReleaseFailed", "release output is invalid"),
    ([{"supply": "exit 6"}, {"finalize": "exit 0"}], 225, "StagingError", "bin/supply of buildpack bp0 exited with status 6"),
    ([{"compile": "exit 0"}, {"finalize": "exit 0"}], 225, "StagingError", "has no bin/supply. Put it last"),
    ([{"finalize": "echo 'processes: [{type: web}]' > $3/$4/launch.yml"}], 1, "StagingError", "Failed to read deps/0/launch.yml"),
    ([], 1, "StagingError", "No buildpack was given although detection is off"),
]  # fmt: skip


@pytest.mark.parametrize(("scripts", "status", "error_id", "text"), FAILURES)
def test_every_failure_has_its_code_and_a_sentence(
    tmp_path: Path, blobs: LocalStore, app: Path, scripts: list[dict[str, str]], status: int, error_id: str, text: str
) -> None:
    chosen = [buildpack(blobs, f"bp{number}", one) for number, one in enumerate(scripts)]
    staged = stage(app, tmp_path, chosen=chosen)
    assert staged.status == status
    assert staged.bad.error_id == error_id
    assert text in staged.bad.reason
    assert text in staged.log


def test_a_procfile_that_is_no_yaml_is_named(tmp_path: Path, blobs: LocalStore) -> None:
    app = write(tmp_path / "app", {"Procfile": "web ./run\n"})
    staged = stage(app, tmp_path, chosen=[buildpack(blobs, "b", {"compile": "exit 0", "release": RELEASE})])
    assert "Failed to read command from Procfile: invalid YAML" in staged.bad.reason


def test_a_script_without_interpreter_is_explained(tmp_path: Path, blobs: LocalStore, app: Path) -> None:
    digest = blobs.put_stream([archive({"bin/compile": "#!/no/such/ruby\n"})]).digest
    staged = stage(app, tmp_path, chosen=[{"key": "k", "name": "odd", "digest": digest}])
    assert staged.bad.error_id == "BuildpackCompileFailed"
    assert "Cannot run compile: No such file or directory: is its first line the path of an interpreter" in staged.log


@pytest.mark.parametrize(
    ("files", "works"),
    [
        ({"nested/bin/compile": "#!/bin/sh\n", "nested/bin/release": "#!/bin/sh\n", "README": ""}, True),
        ({"lib/x": ""}, False),
    ],
)
def test_a_buildpack_may_lie_one_directory_deep(
    tmp_path: Path, blobs: LocalStore, app: Path, files: dict[str, str], works: bool
) -> None:
    chosen: list[Buildpack] = [{"key": "k", "name": "nested", "digest": blobs.put_stream([archive(files)]).digest}]
    staged = stage(app, tmp_path, chosen=chosen)
    if works:
        assert staged.status == 0
    else:
        assert "Buildpack nested has no bin directory" in staged.bad.reason


def test_what_does_not_fit_on_the_disk_is_refused_with_advice(tmp_path: Path, blobs: LocalStore, app: Path) -> None:
    big = buildpack(blobs, "big", {"compile": 'head -c 2000000 /dev/zero > "$1/big"', "release": RELEASE})
    staged = stage(app, tmp_path, chosen=[big], disk_mb=1)
    assert "larger than the disk limit of the build" in staged.bad.reason
    assert "staging.disk_mb" in staged.bad.reason
