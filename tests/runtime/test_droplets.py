"""Trees that are copied for an instance: as they were, and its own."""

import os
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
