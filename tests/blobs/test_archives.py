"""Zip files as clients make them, and as an attacker does."""

import io
import os
import random
import shutil
import stat
import string
import struct
import subprocess
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cupola.blobs.archives import (
    ArchiveError,
    Entry,
    Matched,
    Tree,
    clean_name,
    inspect_zip,
    merge_zip,
    unpack_zip,
    zip_directory,
)


def make(path: Path, *entries: tuple[str, bytes] | tuple[str, bytes, int]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, *mode in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = (mode[0] if mode else stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data)
    return path


LINK = stat.S_IFLNK | 0o777


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    (root / "bin").mkdir(parents=True)
    (root / "empty").mkdir(mode=0o750)
    (root / "bin" / "run").write_text("#!/bin/sh\n")
    (root / "bin" / "run").chmod(0o755)
    (root / "secret").write_bytes(os.urandom(3_000_000))
    (root / "secret").chmod(0o600)
    (root / "grüße.txt").write_text("hello")
    (root / "bin" / "latest").symlink_to("run")
    (root / "dir-link").symlink_to("bin")
    os.utime(root / "bin" / "run", (1_700_000_000, 1_700_000_000))
    return root


def facts(root: Path) -> dict[str, tuple[int, str | bytes | None]]:
    found: dict[str, tuple[int, str | bytes | None]] = {}
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[path.relative_to(root).as_posix()] = (mode, content)
    return found


def test_what_is_zipped_comes_out_again_with_modes_links_and_times(tree: Path, tmp_path: Path) -> None:
    entries = zip_directory(tree, tmp_path / "app.zip")
    assert entries == inspect_zip(tmp_path / "app.zip") == unpack_zip(tmp_path / "app.zip", tmp_path / "out")
    assert facts(tmp_path / "out") == facts(tree)
    assert (tmp_path / "out" / "bin" / "run").stat().st_mtime == 1_700_000_000
    assert zipfile.ZipFile(tmp_path / "app.zip").testzip() is None


@pytest.mark.skipif(shutil.which("zip") is None, reason="zip is not installed")
def test_archives_of_the_zip_program(tree: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    subprocess.run(["zip", "-q", "-r", "-y", str(tmp_path / "app.zip"), "."], cwd=tree, check=True, env=environment)
    unpack_zip(tmp_path / "app.zip", tmp_path / "out")
    assert facts(tmp_path / "out") == facts(tree)


def test_archives_of_python_have_no_modes_for_directories(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/b/c.txt", b"deep")
        plain = zipfile.ZipInfo("plain")
        with archive.open(plain, "w") as file:
            file.write(b"no mode")
        plain.external_attr = 0
        archive.writestr("./dot//file", b"normalised")
    unpack_zip(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/a/b/c.txt").read_bytes() == b"deep"
    assert stat.S_IMODE((tmp_path / "out/plain").stat().st_mode) == 0o644
    assert (tmp_path / "out/dot/file").read_bytes() == b"normalised"


def test_archives_made_on_windows(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("x")
        info.filename, info.create_system = "a\\b.txt", 0
        archive.writestr(info, b"backslash")
    unpack_zip(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/a/b.txt").read_bytes() == b"backslash"


def test_an_archive_with_data_descriptors_and_a_prefix_is_fine(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        """Cannot seek, as when a client streams its zip: sizes follow the data."""

        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]  # a test needs no other buffers
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one", b"1" * 1000)
        archive.writestr("two", b"2" * 1000)
    (tmp_path / "a.zip").write_bytes(b"#!/bin/sh\nexec java -jar $0\n" + pipe.data)
    unpack_zip(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/two").read_bytes() == b"2" * 1000


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../evil", "leads out of the archive"),
        ("a/../../evil", "leads out of the archive"),
        ("a/..", "leads out of the archive"),
        ("/etc/passwd", "absolute name"),
        ("C:/evil", "absolute name"),
        ("C:\\evil", "absolute name"),
        ("x" * 256, "too long"),
        ("/".join(["x" * 200] * 30), "too long"),
    ],
)
def test_names_that_are_not_safe(tmp_path: Path, name: str, message: str) -> None:
    make(tmp_path / "a.zip", ("good", b""), (name, b"evil"))
    with pytest.raises(ArchiveError, match=message):
        unpack_zip(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "entries",
    [
        [("a", b"/etc", LINK)],
        [("a", b"..", LINK)],
        [("d/a", b"../../x", LINK)],
        [("d/e/f", b"x"), ("up", b"d/e", LINK), ("out", b"up/../../..", LINK)],
        [("a", b"b", LINK), ("b", b"../x", LINK)],
        [("a", b"./././../x", LINK)],
    ],
)
def test_links_that_lead_out(tmp_path: Path, entries: list[tuple[str, bytes, int]]) -> None:
    make(tmp_path / "a.zip", *entries)
    with pytest.raises(ArchiveError, match=r"Symbolic link '.*' points outside of the archive"):
        inspect_zip(tmp_path / "a.zip")


def test_links_inside_are_kept_also_dangling_and_looping_ones(tmp_path: Path) -> None:
    entries: list[tuple[str, bytes, int]] = [
        ("d/e/up", b"../../top", LINK),
        ("top", b"x", stat.S_IFREG | 0o644),
        ("dangling", b"nowhere", LINK),
    ]
    make(tmp_path / "a.zip", *entries, ("l1", b"l2", LINK), ("l2", b"l1", LINK), ("self", b".", LINK))
    unpack_zip(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/d/e/up").read_bytes() == b"x"
    assert (tmp_path / "out/l1").readlink() == Path("l2")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("a", b"d", LINK), ("a/b", b"through a link")], "lies below 'a', which is a symbolic link"),
        ([("a/b", b"first"), ("a", b"d", LINK)], "two entries named 'a'"),
        ([("a", b"file"), ("a/b", b"below")], "lies below 'a', which is a file"),
        ([("a", b"1"), ("a", b"2")], "two entries named 'a'"),
        ([("a", b"1"), ("./a", b"2")], "two entries named 'a'"),
        ([("x/a", b"1"), ("x//a", b"2")], "two entries named 'x/a'"),
        ([("a", b"t", LINK), ("a", b"2")], "two entries named 'a'"),
        ([("fifo", b"", stat.S_IFIFO | 0o644)], "'fifo' is neither file nor directory"),
        ([("dev", b"", stat.S_IFCHR | 0o644)], "'dev' is neither file nor directory"),
        ([("l", b"", LINK)], "'l' has no valid target"),
        ([("l", b"a\0b", LINK)], "'l' has no valid target"),
        ([("l", b"\xff", LINK)], "target that is not valid UTF-8"),
        ([("l", b"x" * 5000, LINK)], "target of more than"),
        ([("d/", b"content", stat.S_IFDIR | 0o755)], "directory with content"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_trees_that_cannot_be(tmp_path: Path, entries: list[tuple[str, bytes, int]], message: str) -> None:
    make(tmp_path / "a.zip", *entries)
    with pytest.raises(ArchiveError, match=message):
        unpack_zip(tmp_path / "a.zip", tmp_path / "out")


def test_a_directory_twice_is_harmless_and_letter_case_matters(tmp_path: Path) -> None:
    make(tmp_path / "a.zip", ("d/", b"", stat.S_IFDIR | 0o711), ("d/x", b"1"), ("readme", b"a"), ("README", b"b"))
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("d/", b"")
    unpack_zip(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/README").read_bytes() == b"b"


def test_setuid_is_taken_away_and_an_unreadable_mode_made_readable(tmp_path: Path) -> None:
    make(tmp_path / "a.zip", ("s", b"", stat.S_IFREG | 0o6755), ("n", b"", stat.S_IFREG | 0o200))
    unpack_zip(tmp_path / "a.zip", tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out/s").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "out/n").stat().st_mode) == 0o600


def test_limits(tmp_path: Path) -> None:
    make(tmp_path / "a.zip", ("a", b"x" * 1000), ("b", b"x" * 1000))
    assert len(inspect_zip(tmp_path / "a.zip", max_bytes=2000, max_files=2)) == 2
    with pytest.raises(ArchiveError, match="larger than 1999 bytes when unpacked"):
        inspect_zip(tmp_path / "a.zip", max_bytes=1999)
    with pytest.raises(ArchiveError, match="more than 1 entries"):
        inspect_zip(tmp_path / "a.zip", max_files=1)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros", "w") as file:
        for _ in range(120):
            file.write(bytes(1024 * 1024))
    with pytest.raises(ArchiveError, match="taken for a zip bomb"):
        inspect_zip(tmp_path / "a.zip")


def test_overlapping_entries_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "a.zip", ("aa", b"data" * 100), ("bb", b"other" * 100))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    second = data.rindex(b"PK\1\2")
    data[second + 42 : second + 46] = struct.pack("<I", 0)  # the second entry's data are the first's
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match=r"another name at its data|overlaps"):
        inspect_zip(tmp_path / "b.zip")
    first = data.index(b"PK\1\2")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    (packed,) = struct.unpack_from("<I", data, first + 20)
    struct.pack_into("<I", data, first + 20, packed + 20)  # the first entry reaches into the second
    (tmp_path / "c.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match="'aa' overlaps another one"):
        inspect_zip(tmp_path / "c.zip")


def test_an_entry_larger_than_it_says_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    make(tmp_path / "a.zip", ("first", b"1"), ("liar", b"x" * 100_000))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    last = data.rindex(b"PK\1\2")
    struct.pack_into("<I", data, last + 24, 10)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match="'liar' is"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_encrypted_and_strangely_compressed_entries(tmp_path: Path) -> None:
    make(tmp_path / "a.zip", ("a", b"secret"))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    place = data.index(b"PK\1\2")
    data[place + 8] |= 1
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match="'a' is encrypted"):
        inspect_zip(tmp_path / "b.zip")
    data[place + 8] &= ~1
    data[place + 10] = 99
    (tmp_path / "c.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match="compression method 99"):
        inspect_zip(tmp_path / "c.zip")


def test_names_in_utf8_without_the_flag_are_read_and_others_refused(tmp_path: Path) -> None:
    make(tmp_path / "a.zip", ("aaaa", b"x"))
    raw = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "b.zip").write_bytes(raw.replace(b"aaaa", "üü".encode()))
    assert [entry.name for entry in inspect_zip(tmp_path / "b.zip")] == ["üü"]
    (tmp_path / "c.zip").write_bytes(raw.replace(b"aaaa", b"\xff\xfe\xfda"))
    with pytest.raises(ArchiveError, match="not valid UTF-8"):
        inspect_zip(tmp_path / "c.zip")
    flagged = bytearray(raw.replace(b"aaaa", b"\xff\xfe\xfda"))
    flagged[flagged.index(b"PK\1\2") + 9] |= 8
    (tmp_path / "d.zip").write_bytes(flagged)
    with pytest.raises(ArchiveError, match="not valid UTF-8"):
        inspect_zip(tmp_path / "d.zip")


def test_a_zero_byte_does_not_hide_the_rest_of_a_name(tmp_path: Path) -> None:
    make(tmp_path / "a.zip", ("a.txt.exe", b"x"))
    (tmp_path / "b.zip").write_bytes((tmp_path / "a.zip").read_bytes().replace(b"a.txt.exe", b"a.txt\0exe"))
    with pytest.raises(ArchiveError, match="zero byte"):
        inspect_zip(tmp_path / "b.zip")


def test_truncated_and_other_files(tmp_path: Path, tree: Path) -> None:
    zip_directory(tree, tmp_path / "a.zip")
    (tmp_path / "b.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-30])
    (tmp_path / "c.zip").write_bytes(b"not a zip")
    (tmp_path / "d.zip").write_bytes(b"")
    for name in "bcd":
        with pytest.raises(ArchiveError, match="not a valid zip archive"):
            inspect_zip(tmp_path / f"{name}.zip")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), count=st.integers(1, 40))
def test_damage_is_an_archive_error_and_never_leaves_the_directory(tmp_path: Path, seed: int, count: int) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        root = Path(name)
        make(root / "a.zip", ("a/b", b"hello" * 50), ("l", b"a/b", LINK), ("c", os.urandom(50)))
        data = bytearray((root / "a.zip").read_bytes())
        dice = random.Random(seed)
        for _ in range(count):
            data[dice.randrange(len(data))] = dice.randrange(256)
        (root / "b.zip").write_bytes(data)
        try:
            unpack_zip(root / "b.zip", root / "out", max_bytes=100_000)
        except ArchiveError:
            assert not (root / "out").exists() or not list((root / "out").iterdir())
        assert {path.name for path in root.iterdir()} <= {"a.zip", "b.zip", "out"}


@given(st.text(string.ascii_letters + "./\\\0ü\ud800", max_size=20))
def test_a_clean_name_stays_inside(name: str) -> None:
    try:
        clean = clean_name(name)
    except ArchiveError:
        return
    assert ".." not in clean.split("/")
    assert not clean.startswith("/")
    assert os.path.normpath(f"/root/{clean}").startswith("/root")
    assert clean_name(clean) == clean


def test_unpacking_into_a_directory_with_content_is_a_mistake(tmp_path: Path) -> None:
    make(tmp_path / "a.zip", ("a", b""))
    with pytest.raises(ValueError, match="not empty"):
        unpack_zip(tmp_path / "a.zip", tmp_path)
    assert (tmp_path / "a.zip").exists()


def test_special_files_are_not_zipped(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    os.mkfifo(tmp_path / "app" / "pipe")
    with pytest.raises(ArchiveError, match="'pipe' is neither"):
        zip_directory(tmp_path / "app", tmp_path / "a.zip")


def test_uploaded_and_matched_files_become_one_package(tmp_path: Path) -> None:
    make(tmp_path / "up.zip", ("index.html", b"new"), ("both", b"uploaded"))
    (tmp_path / "pool").write_bytes(b"x" * 5000)
    matched = [Matched("lib/big.js", tmp_path / "pool", 0o755), Matched("both", tmp_path / "pool")]
    merge_zip(tmp_path / "up.zip", matched, tmp_path / "out.zip")
    merge_zip(tmp_path / "up.zip", list(reversed(matched)), tmp_path / "again.zip")
    assert (tmp_path / "out.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    unpack_zip(tmp_path / "out.zip", tmp_path / "out")
    assert (tmp_path / "out/lib/big.js").read_bytes() == b"x" * 5000
    assert stat.S_IMODE((tmp_path / "out/lib/big.js").stat().st_mode) == 0o755
    assert (tmp_path / "out/both").read_bytes() == b"uploaded"
    assert (tmp_path / "out/index.html").read_bytes() == b"new"


def test_a_package_of_matched_files_alone(tmp_path: Path) -> None:
    (tmp_path / "pool").write_bytes(b"x")
    assert merge_zip(None, [Matched("a", tmp_path / "pool")], tmp_path / "o.zip") == [Entry("a", "file", 0o644, 1)]
    unpack_zip(tmp_path / "o.zip", tmp_path / "out")
    assert (tmp_path / "out/a").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("path", "message"), [("../x", "leads out"), ("link/x", "symbolic link"), ("a/b", "is a file")]
)
def test_a_matched_path_is_no_safer_than_an_uploaded_one(tmp_path: Path, path: str, message: str) -> None:
    make(tmp_path / "up.zip", ("link", b"a", LINK), ("a", b"x"))
    (tmp_path / "pool").write_bytes(b"x")
    with pytest.raises(ArchiveError, match=message):
        merge_zip(tmp_path / "up.zip", [Matched(path, tmp_path / "pool")], tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_the_tree_counts_what_it_holds() -> None:
    tree = Tree(max_bytes=10)
    tree.add(Entry("a/b", "file", 0o644, 4))
    assert tree.has("a")
    assert tree.is_file("a/b")
    assert not tree.is_file("a")
    assert tree.bytes == 4
