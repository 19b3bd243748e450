"""What the cell makes of a build's remains: packing without trust, credentials that never get out, words for failures."""

import os
import tarfile
from pathlib import Path

import pytest

from cupola.blobs.store import LocalStore
from cupola.blobs.tars import unpack_tar
from cupola.config import Settings
from cupola.runtime.engine import EngineError, Exit, StagingFailure
from cupola.runtime.messages import DesiredTask, StagingInput
from cupola.staging import cell
from cupola.staging.packing import Leak, has_files, pack
from tests.staging.staged import archive, buildpack, stage, write

RELEASE = "echo 'default_process_types: {web: ./x}'"


@pytest.fixture
def blobs(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "blobs")


def test_a_packed_tree_comes_back_as_it_was(tmp_path: Path, blobs: LocalStore) -> None:
    tree = write(tmp_path / "tree", {"app/run": "x", "app/empty/.keep": "", "data": "same"})
    (tree / "app" / "run").chmod(0o4755)
    (tree / "away").symlink_to("/usr/bin/python3")
    (tree / "hard").hardlink_to(tree / "data")
    os.mkfifo(tree / "pipe")
    (tree / "app" / "into").symlink_to("empty", target_is_directory=True)
    stored = pack(blobs, tree, 10**6, [], compress=True)
    unpack_tar(blobs.path(stored.digest), tmp_path / "back", outside_links=True)
    back = tmp_path / "back"
    assert sorted(path.relative_to(back).as_posix() for path in back.rglob("*")) == [
        "app", "app/empty", "app/empty/.keep", "app/into", "app/run", "away", "data", "hard",
    ]  # fmt: skip
    assert (back / "app" / "run").stat().st_mode & 0o7777 == 0o755
    assert str((back / "away").readlink()) == "/usr/bin/python3"
    assert (back / "hard").stat().st_ino == (back / "data").stat().st_ino
    with tarfile.open(blobs.path(stored.digest)) as tar:
        assert {(member.uid, member.uname) for member in tar} == {(0, "")}


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path, blobs: LocalStore) -> None:
    digests = set()
    for name in ("one", "two"):
        tree = write(tmp_path / name / "droplet", {"b": "2", "a/c": "1"})
        for path in tree.rglob("*"):
            os.utime(path, (1_700_000_000.25, 1_700_000_000.25))
        digests.add(pack(blobs, tree, 10**6, [], compress=True).digest)
    assert len(digests) == 1


def test_no_link_of_the_build_is_followed(tmp_path: Path, blobs: LocalStore) -> None:
    outside = write(tmp_path / "outside", {"secret": "s"})
    (tmp_path / "droplet").symlink_to(outside, target_is_directory=True)
    with pytest.raises(OSError, match="Not a directory"):
        pack(blobs, tmp_path / "droplet", 10**6, [], compress=True)
    assert not has_files(tmp_path / "none")


def test_a_credential_in_a_file_is_found_across_pieces(tmp_path: Path, blobs: LocalStore) -> None:
    tree = write(tmp_path / "tree", {"deep/file": "x" * 16_380 + "the-secret" + "y" * 16_380})
    with pytest.raises(Leak, match="deep/file contains a credential of the platform's own package access"):
        pack(blobs, tree, 10**6, ["the-secret"], compress=False)
    assert pack(blobs, tree, 10**6, ["another-secret"], compress=False).size > 32_000


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://builder:topsecret99@index.example/simple")
    return "topsecret99"


def test_inherited_credentials_are_in_no_log_and_in_no_droplet(
    tmp_path: Path, blobs: LocalStore, credentials: str
) -> None:
    app = write(tmp_path / "app", {"a": ""})
    shown = buildpack(
        blobs,
        "shown",
        {
            "compile": 'echo "index: $PIP_EXTRA_INDEX_URL"; echo "${PIP_EXTRA_INDEX_URL#*:}" | cut -c 11-22 >&2',
            "release": RELEASE,
        },
    )
    staged = stage(app, tmp_path, chosen=[shown])
    assert staged.status == 0
    assert "index: https://[redacted]@index.example/simple" in staged.log
    assert credentials not in staged.log
    kept = buildpack(blobs, "kept", {"compile": 'echo "$PIP_EXTRA_INDEX_URL" > "$1/index"', "release": RELEASE})
    refused = stage(app, tmp_path, chosen=[kept])
    assert refused.bad.error_id == "StagingError"
    assert "app/index contains a credential" in refused.bad.reason
    cached = buildpack(blobs, "cached", {"compile": 'echo "$PIP_EXTRA_INDEX_URL" > "$2/index"', "release": RELEASE})
    assert stage(app, tmp_path, chosen=[cached]).good.cache == ""


def test_what_an_app_sets_wins_over_what_is_inherited(tmp_path: Path, blobs: LocalStore, credentials: str) -> None:
    show = buildpack(blobs, "show", {"compile": 'echo "index: $PIP_EXTRA_INDEX_URL"', "release": RELEASE})
    own = {"PIP_EXTRA_INDEX_URL": "https://own.example/simple"}
    assert (
        "index: https://own.example/simple"
        in stage(write(tmp_path / "app", {"a": ""}), tmp_path, chosen=[show], env=own).log
    )


def _task(blobs: LocalStore) -> DesiredTask:
    staging = StagingInput(package=blobs.put_stream([archive({"a": ""})]).digest, buildpacks=[], skip_detect=True)
    return DesiredTask(guid="t", kind="staging", app_guid="a", memory_mb=64, disk_mb=32, env={}, staging=staging)


@pytest.mark.parametrize(
    ("ended", "error_id", "words"),
    [
        (Exit(statuses=[("STG", 137)], out_of_memory=True), "StagingError", "used more than its 64 MB of memory"),
        (Exit(statuses=[("STG", 0)], out_of_memory=True), "StagingError", "raise staging.memory_mb"),
        (
            Exit(statuses=[("STG", 223)], out_of_memory=True),
            "BuildpackCompileFailed",
            "used more than its 64 MB of memory",
        ),
        (Exit(statuses=[("STG", 137)], out_of_disk=True), "StagingError", "wrote more than its 32 MB of disk"),
        (Exit(statuses=[("STG", 139)]), "StagingError", "ended by signal 11"),
        (Exit(statuses=[("STG", 222)]), "NoAppDetectedError", "name a buildpack with -b"),
        (Exit(statuses=[("STG", 224)]), "BuildpackReleaseFailed", "the staging log says why"),
        (Exit(statuses=[]), "StagingError", "the staging log says why"),
    ],
)
def test_how_a_build_ended_is_said(tmp_path: Path, blobs: LocalStore, ended: Exit, error_id: str, words: str) -> None:
    found = cell.collect(_task(blobs), tmp_path, blobs, ended, Settings())
    assert isinstance(found, StagingFailure)
    assert found.error_id == error_id
    assert words in found.reason


@pytest.mark.parametrize("content", ["[]", "{", "x" * 5_000_000])
def test_a_result_that_is_none_is_not_believed(tmp_path: Path, blobs: LocalStore, content: str) -> None:
    write(tmp_path / "tmp", {"result.json": content, "droplet/app/a": ""})
    found = cell.collect(_task(blobs), tmp_path, blobs, Exit(statuses=[("STG", 0)]), Settings())
    assert isinstance(found, StagingFailure)
    assert found.reason.startswith("The droplet cannot be stored: ")


def test_a_result_that_is_a_pipe_stops_nobody(tmp_path: Path, blobs: LocalStore) -> None:
    write(tmp_path / "tmp", {"droplet/app/a": ""})
    os.mkfifo(tmp_path / "tmp" / "result.json")
    found = cell.collect(_task(blobs), tmp_path, blobs, Exit(statuses=[("STG", 0)]), Settings())
    assert isinstance(found, StagingFailure)
    assert "result.json is no file" in found.reason


def test_bits_that_are_gone_or_broken_are_named(tmp_path: Path, blobs: LocalStore) -> None:
    for digest in ("sha256:" + "0" * 64, blobs.put_stream([b"no zip"]).digest):
        staging = StagingInput(package=digest, buildpacks=[], skip_detect=True)
        task = DesiredTask(guid="t", kind="staging", app_guid="a", memory_mb=1, disk_mb=1, env={}, staging=staging)
        with pytest.raises(EngineError, match="cannot unpack the app's package: "):
            cell.prepare(task, tmp_path / digest[-4:], blobs, Settings())
