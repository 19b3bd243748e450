"""Every sample is staged by the real builder and started by the real launcher, at another place than it was built."""

import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.buildpacks.running import running
from tests.staging.staged import SAMPLES, Staged, stage

NAMES = ("static", "python", "database", "node", "binary")
EXPECTED = {
    "static": ("staticfile", "Hello from Cupola"),
    "python": ("python", "Hello from sample"),
    "node": ("nodejs", "Hello from Node"),
    "binary": ("binary", "Hello from a binary"),
}


def built(sample: str, tmp_path: Path, *, cache: str = "") -> Staged:
    if sample == "node" and shutil.which("npm", path="/usr/local/bin:/usr/bin:/bin") is None:
        pytest.skip("there is no npm on this machine")
    staged = stage(SAMPLES / sample, tmp_path, cache=cache)
    if sample in {"python", "database"} and (
        "No matching distribution" in staged.log or "Could not find a version" in staged.log
    ):
        pytest.skip("the package index cannot be reached")
    return staged


@pytest.mark.parametrize("sample", sorted(EXPECTED))
def test_a_sample_is_detected_built_and_answers(tmp_path: Path, sample: str) -> None:
    buildpack, greeting = EXPECTED[sample]
    staged = built(sample, tmp_path)
    metadata = staged.good.result["lifecycle_metadata"]
    assert isinstance(metadata, dict)
    assert [one["name"] for one in metadata["buildpacks"]] == [buildpack]
    with running(staged, tmp_path / "run") as app:
        with urllib.request.urlopen(app.address + "/", timeout=30) as answer:
            assert greeting in answer.read().decode()
        assert "Invoking pre-start scripts.\nInvoking start command.\n" in app.log.read_text()


def test_the_static_sample_has_a_page_for_what_is_not_there(tmp_path: Path) -> None:
    with running(built("static", tmp_path), tmp_path / "run") as app:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(app.address + "/none", timeout=30)
        with caught.value as error:
            assert (error.code, b"There is no such page" in error.read()) == (404, True)


def test_the_python_sample_keeps_a_guest_book(tmp_path: Path) -> None:
    with running(built("python", tmp_path), tmp_path / "run") as app:
        with urllib.request.urlopen(app.address + "/entries", data=b"text=<me>", timeout=30) as answer:
            assert "<li>&lt;me&gt;</li>" in answer.read().decode()
        with urllib.request.urlopen(app.address + "/health", timeout=30) as answer:
            assert answer.read() == b'{"instance":"0","status":"ok"}\n'


def test_the_database_sample_says_what_it_lacks_and_keeps_notes_once_it_has_it(
    tmp_path: Path, postgres_server: str
) -> None:
    staged = built("database", tmp_path)
    with running(staged, tmp_path / "run") as app:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(app.address + "/", timeout=30)
        with caught.value as error:
            assert (error.code, b"No database is bound yet" in error.read()) == (503, True)
    with running(staged, tmp_path / "again", env={"DATABASE_URL": postgres_server}) as app:
        with urllib.request.urlopen(app.address + "/notes", data=b"text=<mine>", timeout=30) as answer:
            page = answer.read().decode()
        assert "Hello from PostgreSQL" in page
        assert "<li>&lt;mine&gt; <small>" in page


@pytest.mark.parametrize("sample", NAMES)
def test_each_sample_has_a_manifest_that_names_it_and_a_readme(sample: str) -> None:
    manifest = yaml.safe_load((SAMPLES / sample / "manifest.yml").read_text())
    (application,) = manifest["applications"]
    assert application["name"] == f"sample-{sample}"
    assert set(application) <= {"name", "memory", "disk_quota", "instances"}
    assert "    cf push\n" in (SAMPLES / sample / "README.md").read_text()
