"""Tar files as staging makes them, and as an attacker does."""

import gzip
import io
import os
import random
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cupola.blobs.archives import ArchiveError
from cupola.blobs.tars import inspect_tar, tar_directory, unpack_tar


def make(path: Path, *members: tuple[str, bytes, str, bytes], mode: str = "w:gz") -> Path:
    """Each member: name, type, link name, content."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # the mode is not a literal here
        for name, kind, link, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "droplet"
    (root / "app" / "bin").mkdir(parents=True)
    (root / "app" / "bin" / "run").write_text("#!/bin/sh\n")
    (root / "app" / "bin" / "run").chmod(0o755)
    (root / "app" / "bin" / "same").hardlink_to(root / "app" / "bin" / "run")
    (root / "app" / "link").symlink_to("bin/run")
    (root / "app" / ("long" * 50)).write_bytes(os.urandom(100_000))
    (root / "tmp").mkdir(mode=0o700)
    return root


def facts(root: Path) -> dict[str, tuple[int, int, str | bytes | None]]:
    found: dict[str, tuple[int, int, str | bytes | None]] = {}
    for path in root.rglob("*"):
        status = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        links = status.st_nlink if path.is_file() else 0
        found[path.relative_to(root).as_posix()] = (status.st_mode, links, content)
    return found


@pytest.mark.parametrize("compression", ["gz", ""])
def test_what_goes_in_comes_out(tree: Path, tmp_path: Path, compression: str) -> None:
    tar_directory(tree, tmp_path / "a.tar", compression=compression)  # type: ignore[arg-type]  # a parameter of the test
    unpack_tar(tmp_path / "a.tar", tmp_path / "out")
    assert facts(tmp_path / "out") == facts(tree)
    assert {entry.name for entry in inspect_tar(tmp_path / "a.tar")} == set(facts(tree))


@pytest.mark.parametrize("flag", ["-czf", "-cjf", "-cf"])
def test_archives_of_the_tar_program(tree: Path, tmp_path: Path, flag: str) -> None:
    made = subprocess.run(["tar", flag, str(tmp_path / "a"), "-C", str(tree), "."], check=False, capture_output=True)
    if made.returncode:
        pytest.skip(f"tar {flag} does not work here")
    unpack_tar(tmp_path / "a", tmp_path / "out")
    assert facts(tmp_path / "out") == facts(tree)


REG, SYM, LNK, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../evil", REG, "", b"x")], "leads out"),
        ([("/evil", REG, "", b"x")], "absolute name"),
        ([("a", SYM, "/etc", b""), ("a/b", REG, "", b"x")], "lies below 'a', which is a symbolic link"),
        ([("a", SYM, "../..", b"")], "points outside"),
        ([("a", SYM, "/etc/passwd", b"")], "points outside"),
        ([("a", LNK, "/etc/passwd", b"")], "absolute name"),
        ([("a", LNK, "../x", b"")], "leads out"),
        ([("a", LNK, "later", b""), ("later", REG, "", b"")], "no file before it"),
        ([("a", LNK, "a", b"")], "no file before it"),
        ([("s", SYM, "x", b""), ("a", LNK, "s", b"")], "no file before it"),
        ([("x", REG, "", b"1"), ("./x", REG, "", b"2")], "two entries named 'x'"),
        ([("fifo", tarfile.FIFOTYPE, "", b"")], "is neither file"),
        ([("dev", tarfile.CHRTYPE, "", b"")], "is neither file"),
        ([("big", REG, "", b"x" * 20_000)], "larger than 10000 bytes"),
        ([("s", SYM, "", b"")], "no valid target"),
    ],
)
def test_what_is_refused(tmp_path: Path, members: list[tuple[str, bytes, str, bytes]], message: str) -> None:
    make(tmp_path / "a.tgz", *members)
    with pytest.raises(ArchiveError, match=message):
        unpack_tar(tmp_path / "a.tgz", tmp_path / "out", max_bytes=10_000)
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_links_that_lead_out_are_kept_where_expected_and_never_written_through(tmp_path: Path) -> None:
    make(tmp_path / "a.tgz", ("python", SYM, "/usr/bin/python3", b""))
    unpack_tar(tmp_path / "a.tgz", tmp_path / "out", outside_links=True)
    assert (tmp_path / "out/python").readlink() == Path("/usr/bin/python3")
    make(tmp_path / "b.tgz", ("d", SYM, str(tmp_path), b""), ("d/evil", REG, "", b"x"))
    with pytest.raises(ArchiveError, match="lies below"):
        unpack_tar(tmp_path / "b.tgz", tmp_path / "out2", outside_links=True)
    assert not (tmp_path / "evil").exists()


def test_modes_lose_setuid(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("x")
        info.mode = 0o6711
        archive.addfile(info)
    unpack_tar(tmp_path / "a.tar", tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out/x").stat().st_mode) == 0o711


def test_a_huge_extended_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2 * 1024 * 1024
    data = info.tobuf(tarfile.USTAR_FORMAT) + bytes(info.size)
    (tmp_path / "a.tar").write_bytes(
        make(tmp_path / "ok.tar", ("x", REG, "", b"x"), mode="w").read_bytes()[:1024] + data
    )
    with pytest.raises(ArchiveError, match="extended header of 2097152 bytes"):
        inspect_tar(tmp_path / "a.tar")


def test_truncated_and_other_files(tree: Path, tmp_path: Path) -> None:
    tar_directory(tree, tmp_path / "a.tgz")
    (tmp_path / "b.tgz").write_bytes((tmp_path / "a.tgz").read_bytes()[:50_000])
    (tmp_path / "c.tgz").write_bytes(b"nothing of the kind")
    (tmp_path / "d.tgz").write_bytes(b"")
    for name in "bcd":
        with pytest.raises(ArchiveError):
            unpack_tar(tmp_path / f"{name}.tgz", tmp_path / "out")
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_size_in_an_extended_header_and_sparse_files_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("x")
        info.pax_headers = {"size": "5"}
        archive.addfile(info)
    with pytest.raises(ArchiveError, match="gives its size in an extended header"):
        inspect_tar(tmp_path / "a.tar")
    make(tmp_path / "b.tar", ("x", tarfile.GNUTYPE_SPARSE, "", b""), mode="w")
    with pytest.raises(ArchiveError, match="sparse"):
        inspect_tar(tmp_path / "b.tar")


def test_endless_zeros_are_refused(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.tgz", "wb") as file:
        for _ in range(40):
            file.write(bytes(1024 * 1024))
    with pytest.raises(ArchiveError, match="empty blocks"):
        inspect_tar(tmp_path / "a.tgz")


def test_xz_is_refused_because_its_memory_is_not_bounded(tmp_path: Path) -> None:
    make(tmp_path / "a.txz", ("x", REG, "", b"x"), mode="w:xz")
    with pytest.raises(ArchiveError, match="use gzip"):
        inspect_tar(tmp_path / "a.txz")


def test_special_files_are_not_archived(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d" / "pipe")
    with pytest.raises(ArchiveError, match="pipe' is neither"):
        tar_directory(tmp_path / "d", tmp_path / "a.tgz")
    assert not (tmp_path / "a.tgz").exists()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), count=st.integers(1, 30))
def test_damage_is_an_archive_error_and_never_leaves_the_directory(tmp_path: Path, seed: int, count: int) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        root = Path(name)
        members = [("a/b", REG, "", b"x" * 600), ("l", SYM, "a/b", b""), ("h", LNK, "a/b", b"")]
        data = bytearray(make(root / "a.tar", *members, mode="w").read_bytes()[:4096])
        dice = random.Random(seed)
        for _ in range(count):
            data[dice.randrange(len(data))] = dice.randrange(256)
        (root / "b.tar").write_bytes(data)
        try:
            unpack_tar(root / "b.tar", root / "out", max_bytes=100_000)
        except ArchiveError:
            assert not (root / "out").exists() or not list((root / "out").iterdir())
        assert {path.name for path in root.iterdir()} <= {"a.tar", "b.tar", "out"}
