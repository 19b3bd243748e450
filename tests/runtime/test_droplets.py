"""Trees that are copied for an instance: as they were, and its own."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from cupola.runtime.local import droplets


@pytest.fixture(params=["cp", "python"])
def _copier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With GNU cp, where that is installed, and without."""
    if request.param == "python":
        monkeypatch.setattr(droplets, "_gnu_cp", lambda: "")
    elif not droplets._gnu_cp():
        pytest.skip("no GNU cp on PATH")


@pytest.mark.usefixtures("_copier")
def test_a_copy_is_as_it_was_and_its_own(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "app" / "deep").mkdir(parents=True)
    (source / "app" / ".hidden").write_text("secret")
    run = source / "app" / "run"
    run.write_bytes(os.urandom(300_000))
    run.chmod(0o755)
    os.utime(run, (1_000_000_000, 1_000_000_000))
    (source / "app" / "link").symlink_to("run")
    (source / "app" / "nowhere").symlink_to("/not/there")
    (target / "app").mkdir(parents=True)
    (target / "logs").mkdir()
    droplets.copy_tree(source, target)
    assert sorted(one.name for one in (target / "app").iterdir()) == [".hidden", "deep", "link", "nowhere", "run"]
    copied = target / "app" / "run"
    assert copied.read_bytes() == run.read_bytes()
    assert (copied.stat().st_mode & 0o777, copied.stat().st_mtime) == (0o755, 1_000_000_000)
    assert (target / "app" / "link").readlink() == Path("run")
    assert (target / "app" / "nowhere").is_symlink()
    assert copied.stat().st_ino != run.stat().st_ino
    copied.write_text("changed")
    assert run.stat().st_size == 300_000


@pytest.mark.usefixtures("_copier")
def test_what_cannot_be_copied_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        droplets.copy_tree(tmp_path / "absent", tmp_path / "target")


def _archive(directory: Path, name: str) -> Path:
    made = directory / f"{name}.tgz"
    with tarfile.open(made, "w:gz") as tar:
        member = tarfile.TarInfo("./app/name")
        member.size = 100_000
        tar.addfile(member, io.BytesIO(name.encode().ljust(100_000)))
    return made


def test_the_longest_unused_droplets_go(tmp_path: Path) -> None:
    store = droplets.Droplets(tmp_path / "droplets", -1, keep=2)
    found = {name: store.unpacked(f"sha256:{name}", _archive(tmp_path, name)) for name in ("a", "b", "c", "d")}
    for age, name in enumerate(("d", "c", "b", "a")):
        os.utime(found[name], (1_000_000_000 - age, 1_000_000_000 - age))
    assert store.size(found["a"]) >= 100_000
    assert store.find("sha256:b") == found["b"], "which is a use"
    store.sweep(lambda: {"sha256:a"})
    assert sorted(one.name for one in (tmp_path / "droplets").iterdir()) == ["a", "b", "d"]
    assert store.find("sha256:c") is None
    assert store.find("sha256:a") == found["a"], "an instance uses it"
    assert store.unpacked("sha256:c", tmp_path / "c.tgz") == found["c"]
    assert (found["c"] / "app" / "name").read_text().strip() == "c"


def test_what_an_earlier_cell_unpacked_is_found(tmp_path: Path) -> None:
    made = droplets.Droplets(tmp_path / "droplets", -1).unpacked("sha256:a", _archive(tmp_path, "a"))
    store = droplets.Droplets(tmp_path / "droplets", -1)
    assert store.find("sha256:a") is None, "how large it is has to be counted first"
    assert store.unpacked("sha256:a", tmp_path / "nowhere") == made
    assert store.find("sha256:a") == made
    assert store.size(made) >= 100_000
