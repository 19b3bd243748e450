"""The local blob store, on real files."""

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cupola import clock
from cupola.blobs.store import Blob, LocalStore, NoSpace, NotFound, Store, TooLarge


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "blobs")


def temporary_files(store: LocalStore) -> list[Path]:
    return list((store.root / "tmp").iterdir())


def test_what_is_put_is_read_back_by_its_digest(store: LocalStore) -> None:
    blob = store.put_stream([b"hello ", b"world"])
    assert blob == Blob(
        "sha256:" + hashlib.sha256(b"hello world").hexdigest(), 11, hashlib.sha1(b"hello world").hexdigest()
    )
    with store.open(blob.digest) as file:
        assert file.read() == b"hello world"
    assert store.exists(blob.digest)
    assert store.size(blob.digest) == 11
    assert list(store.digests()) == [blob.digest]
    assert store.path(blob.digest).stat().st_mode & 0o777 == 0o600
    hexadecimal = blob.digest.removeprefix("sha256:")
    assert store.path(blob.digest).relative_to(store.root).parts == (
        "sha256",
        hexadecimal[:2],
        hexadecimal[2:4],
        hexadecimal,
    )
    assert temporary_files(store) == []
    protocol: Store = store
    assert protocol.delete(blob.digest)


def test_an_upload_over_the_limit_is_refused_and_leaves_nothing(store: LocalStore) -> None:
    writer = store.writer(max_bytes=10)
    writer.write(b"0123456789")
    with pytest.raises(TooLarge, match="10 bytes"):
        writer.write(b"x")
    with pytest.raises(ValueError, match="finished or aborted"):
        writer.finish()
    assert temporary_files(store) == []
    assert list(store.digests()) == []
    assert store.put_stream([b"0123456789"], max_bytes=10).size == 10


def test_an_aborted_or_failed_upload_leaves_nothing(store: LocalStore) -> None:
    def broken() -> Iterator[bytes]:
        yield b"some"
        raise ConnectionResetError("client went away")

    with pytest.raises(ConnectionResetError):
        store.put_stream(broken())
    writer = store.writer()
    writer.write(b"abc")
    writer.abort()
    writer.abort()
    with pytest.raises(ValueError, match="finished or aborted"):
        writer.write(b"d")
    assert temporary_files(store) == []
    assert list(store.digests()) == []


def test_put_file_copies_or_moves(store: LocalStore, tmp_path: Path) -> None:
    source = tmp_path / "droplet.tgz"
    source.write_bytes(b"d" * 3_000_000)
    os.utime(source, (1, 1))
    copied = store.put_file(source)
    assert source.exists()
    moved = store.put_file(source, move=True)
    assert moved == copied
    assert not source.exists()
    assert store.size(moved.digest) == 3_000_000
    assert store.path(moved.digest).stat().st_mtime > 1
    source.write_bytes(b"too long")
    with pytest.raises(TooLarge):
        store.put_file(source, move=True, max_bytes=3)
    assert source.exists(), "a refused move leaves the file alone"


def test_a_moved_symbolic_link_stores_the_content_not_the_link(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"content")
    (tmp_path / "link").symlink_to("real")
    blob = store.put_file(tmp_path / "link", move=True)
    assert not store.path(blob.digest).is_symlink()
    assert store.path(blob.digest).read_bytes() == b"content"
    assert (tmp_path / "real").exists()


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc/passwd", "sha1:" + "a" * 40, "sha256:" + "A" * 64])
def test_only_digests_become_paths(store: LocalStore, digest: str) -> None:
    with pytest.raises(ValueError, match="not a blob digest"):
        store.path(digest)


def test_a_missing_blob_is_named(store: LocalStore) -> None:
    digest = "sha256:" + "0" * 64
    with pytest.raises(NotFound, match=digest):
        store.open(digest)
    with pytest.raises(NotFound):
        store.size(digest)
    assert not store.exists(digest)
    assert not store.delete(digest)


def test_sweep_deletes_only_what_is_old_and_unreferenced(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = store.put_stream([b"kept"]).digest
    stale = store.put_stream([b"stale"]).digest
    again = store.put_stream([b"again"]).digest
    now = clock.nanos()
    monkeypatch.setattr(clock, "nanos", lambda: now + 3600 * 10**9)
    young = store.put_stream([b"young"]).digest
    assert store.put_stream([b"again"]).digest == again, "storing equal content makes it young again"
    assert store.sweep(iter([kept]), older_than=600) == [stale]
    assert set(store.digests()) == {kept, again, young}


def test_temporary_files_of_dead_writers_go_and_of_live_writers_stay(store: LocalStore) -> None:
    code = """
import os, sys
from pathlib import Path
from cupola.blobs.store import LocalStore
writer = LocalStore(Path(sys.argv[1])).writer()
writer.write(b"half")
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code, str(store.root)], check=False)
    [abandoned] = temporary_files(store)
    live = store.writer()
    live.write(b"whole")
    LocalStore(store.root)
    assert not abandoned.exists()
    assert store.size(live.finish().digest) == 5


def test_a_full_disk_names_the_directory(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = store.writer()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(NoSpace, match=str(store.root)):
            writer.write(b"abc")
    assert temporary_files(store) == []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(NoSpace):
            store.put_stream([b"abc"])
    assert temporary_files(store) == []
    assert list(store.digests()) == []


def test_memory_stays_constant(store: LocalStore) -> None:
    code = """
import resource, sys
from pathlib import Path
from cupola.blobs.store import LocalStore
store = LocalStore(Path(sys.argv[1]))
store.put_stream(bytes(65536) for _ in range(16))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.put_stream(bytes(65536) for _ in range(2000))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    result = subprocess.run([sys.executable, "-c", code, str(store.root)], check=True, capture_output=True, text=True)
    assert int(result.stdout) < 8 * 1024, "125 MiB went through less than 8 MiB"
