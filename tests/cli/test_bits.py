"""Which files of an app are pushed, and how they are packed."""

import hashlib
import os
import stat
import zipfile
from pathlib import Path

import pytest

from cupola.blobs.archives import unpack_zip
from cupola.cli.bits import BitsProblem, collect, matchable, write_zip


def fill(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def names(root: Path) -> list[str]:
    return [file.name for file in collect(root)]


def test_what_version_control_keeps_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "app.py", ".git/config", ".gitignore", "sub/.svn/x", "sub/a.txt", ".DS_Store")
    assert names(tmp_path) == ["app.py", "sub", "sub/a.txt"]


def test_cfignore_has_the_syntax_of_gitignore(tmp_path: Path) -> None:
    fill(
        tmp_path, "a.log", "keep.log", "build/x", "src/build/x", "src/a.pyc", "notes.txt", "docs/notes.txt", "docs/b.md"
    )
    (tmp_path / ".cfignore").write_text("*.log\n!keep.log\n/build/\n*.pyc\ndocs/**/*.md\n# a comment\n/notes.txt\n")
    assert names(tmp_path) == ["docs", "docs/notes.txt", "keep.log", "src", "src/build", "src/build/x"]


def test_an_empty_directory_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(BitsProblem, match="there is nothing to push in"):
        collect(tmp_path)


def test_matchable_are_files_with_content(tmp_path: Path) -> None:
    fill(tmp_path, "run")
    (tmp_path / "run").chmod(0o755)
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("run")
    assert matchable(collect(tmp_path)) == [
        {"path": "run", "mode": "755", "size_in_bytes": 3, "checksum": {"value": hashlib.sha1(b"run").hexdigest()}}
    ]


def test_modes_links_and_empty_directories_survive(tmp_path: Path) -> None:
    source = fill(tmp_path / "app", "run", "known", "sub/x")
    (source / "run").chmod(0o555)
    (source / "link").symlink_to("sub/x")
    (source / "void").mkdir()
    os.utime(source / "run", (0, 0))
    files = collect(source)
    assert write_zip(files, {"known"}, tmp_path / "p.zip") == 3
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        assert "known" not in archive.namelist()
    target = tmp_path / "out"
    unpack_zip(tmp_path / "p.zip", target)
    # The platform refuses files that their owner could not write again.
    assert stat.S_IMODE((target / "run").stat().st_mode) == 0o755
    assert (target / "link").readlink() == Path("sub/x")
    assert (target / "sub/x").read_text() == "sub/x"
    assert (target / "void").is_dir()


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "secret")
    (tmp_path / "secret").chmod(0)
    with pytest.raises(BitsProblem, match=r"cannot read .*secret: Permission denied"):
        collect(tmp_path)


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == ["a"]
