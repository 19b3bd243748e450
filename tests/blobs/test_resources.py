"""Resource matching, from the first push to the second."""

import hashlib
import os
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from cupola.blobs.archives import ArchiveError, unpack_zip, zip_directory
from cupola.blobs.resources import ResourceError, ResourcePool, build_package
from cupola.blobs.store import LocalStore, TooLarge
from cupola.config import Blobs

BIG = os.urandom(50_000)
OTHER = b"other" * 2000
SMALL = b"small"


def sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def resource(path: str, data: bytes, mode: str | None = "755") -> dict[str, Any]:
    return {"checksum": {"value": sha1(data)}, "size_in_bytes": len(data), "path": path, "mode": mode}


@pytest.fixture
def pool(tmp_path: Path) -> ResourcePool:
    return ResourcePool(tmp_path / "resources", min_bytes=4096)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "blobs")


def app_zip(tmp_path: Path, name: str = "upload.zip", /, **files: bytes) -> Path:
    root = tmp_path / f"{name}.dir"
    root.mkdir()
    for path, data in (files or {"big.js": BIG, "other.js": OTHER, "index.html": SMALL}).items():
        (root / path).write_bytes(data)
    zip_directory(root, tmp_path / name)
    return tmp_path / name


def unpacked(store: LocalStore, digest: str, into: Path) -> dict[str, bytes]:
    unpack_zip(store.path(digest), into)
    return {path.relative_to(into).as_posix(): path.read_bytes() for path in into.rglob("*") if path.is_file()}


def left_over(pool: ResourcePool) -> list[Path]:
    return list((pool.root / "tmp").iterdir())


def test_the_second_push_uploads_only_what_is_small(tmp_path: Path, pool: ResourcePool, store: LocalStore) -> None:
    wanted = [(sha1(data), len(data)) for data in (BIG, OTHER, SMALL)]
    assert pool.match(wanted) == []
    first = app_zip(tmp_path)
    blob = build_package(first, [], pool, store, Blobs())
    assert not first.exists()
    assert unpacked(store, blob.digest, tmp_path / "1") == {"big.js": BIG, "other.js": OTHER, "index.html": SMALL}
    assert pool.match(wanted) == wanted[:2]
    second = app_zip(tmp_path, "second.zip", **{"index.html": SMALL})
    resources = [resource("big.js", BIG), resource("lib/other.js", OTHER, None), resource("copy.js", BIG, "100644")]
    blob = build_package(second, resources, pool, store, Blobs())
    assert unpacked(store, blob.digest, tmp_path / "2") == {
        "big.js": BIG,
        "lib/other.js": OTHER,
        "copy.js": BIG,
        "index.html": SMALL,
    }
    assert (tmp_path / "2" / "big.js").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "2" / "lib/other.js").stat().st_mode & 0o777 == 0o744
    assert (tmp_path / "2" / "copy.js").stat().st_mode & 0o777 == 0o644
    assert left_over(pool) == []


def test_a_push_without_any_upload(tmp_path: Path, pool: ResourcePool, store: LocalStore) -> None:
    build_package(app_zip(tmp_path), [], pool, store, Blobs())
    old_form = {"sha1": sha1(OTHER), "size": len(OTHER), "fn": "b", "mode": "0744"}
    blob = build_package(None, [resource("a", BIG), old_form], pool, store, Blobs())
    again = build_package(None, [old_form, resource("a", BIG)], pool, store, Blobs())
    assert blob == again
    assert unpacked(store, blob.digest, tmp_path / "out") == {"a": BIG, "b": OTHER}
    with pytest.raises(ValueError, match="needs an upload or resources"):
        build_package(None, [], pool, store, Blobs())


def test_with_the_default_settings_the_second_push_uploads_nothing(tmp_path: Path, store: LocalStore) -> None:
    settings = Blobs()
    pool = ResourcePool(
        tmp_path / "all", min_bytes=settings.resource_match_min_bytes, max_bytes=settings.resource_pool_mb * 2**20
    )
    files = {"index.html": SMALL, "app.js": BIG}
    first = build_package(app_zip(tmp_path, **files), [], pool, store, settings)
    wanted = [(sha1(data), len(data)) for data in files.values()]
    assert pool.match(wanted) == wanted
    second = build_package(None, [resource(path, data) for path, data in files.items()], pool, store, settings)
    assert unpacked(store, second.digest, tmp_path / "2") == unpacked(store, first.digest, tmp_path / "1") == files


def test_it_runs_in_a_worker_process(tmp_path: Path, pool: ResourcePool, store: LocalStore) -> None:
    upload = app_zip(tmp_path)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as workers:
        blob = workers.submit(build_package, upload, [], pool, store, Blobs()).result(60)
        failed = workers.submit(build_package, None, [resource("x", b"unknown" * 1000)], pool, store, Blobs())
        with pytest.raises(ResourceError, match="'x' is not in the cache"):
            failed.result(60)
    assert store.exists(blob.digest)
    assert pool.match([(sha1(BIG), len(BIG))])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (resource("gone", b"never seen" * 500), "'gone' is not in the cache any more: push again"),
        ({**resource("size", BIG), "size_in_bytes": 5000}, "'size' has not the size 5000"),
        (resource("mode", BIG, "rwx"), "'mode' has the mode 'rwx'"),
        (resource("mode", BIG, "444"), "'mode' has the mode '444'"),
        ({**resource("sum", BIG), "checksum": {"value": "../../x"}}, "'sum' has no SHA-1"),
        ({"checksum": {"value": sha1(BIG)}, "size_in_bytes": 1}, "has no path"),
        (resource("../evil", BIG), "leads out of the archive"),
        (resource("/evil", BIG), "absolute name"),
        (resource("big.js/below", BIG), "lies below 'big.js', which is a file"),
    ],
)
def test_resources_that_cannot_be_used(
    tmp_path: Path, pool: ResourcePool, store: LocalStore, bad: dict[str, Any], message: str
) -> None:
    build_package(app_zip(tmp_path), [], pool, store, Blobs())
    before = set(store.digests())
    upload = app_zip(tmp_path, "second.zip", **{"big.js": b"new"})
    with pytest.raises(ArchiveError, match=message):
        build_package(upload, [bad], pool, store, Blobs())
    assert set(store.digests()) == before
    assert left_over(pool) == []


def test_a_wrong_zip_stores_nothing(tmp_path: Path, pool: ResourcePool, store: LocalStore) -> None:
    (tmp_path / "bad.zip").write_bytes(b"not a zip")
    with pytest.raises(ArchiveError, match="not a valid zip"):
        build_package(tmp_path / "bad.zip", [], pool, store, Blobs())
    with pytest.raises(TooLarge, match="100 bytes"):
        build_package(app_zip(tmp_path), [], pool, store, Blobs(max_package_bytes=100))
    assert list(store.digests()) == []
    assert pool.match([(sha1(BIG), len(BIG))]) == []


def test_a_merged_package_has_a_limit_too(tmp_path: Path, pool: ResourcePool, store: LocalStore) -> None:
    build_package(app_zip(tmp_path), [], pool, store, Blobs())
    with pytest.raises(TooLarge):
        build_package(None, [resource("a", BIG)], pool, store, Blobs(max_package_bytes=10_000))
    assert left_over(pool) == []


def test_a_damaged_file_is_removed_from_the_pool(tmp_path: Path, pool: ResourcePool, store: LocalStore) -> None:
    build_package(app_zip(tmp_path), [], pool, store, Blobs())
    pool.fetch(sha1(BIG)).write_bytes(b"x" * len(BIG))
    with pytest.raises(ResourceError, match="is damaged in the cache"):
        build_package(None, [resource("a", BIG)], pool, store, Blobs())
    assert pool.match([(sha1(BIG), len(BIG))]) == []
    with pytest.raises(ResourceError, match="not in the cache"):
        pool.fetch(sha1(BIG))
    with pytest.raises(ResourceError, match="not in the cache"):
        pool.fetch("../../etc/passwd")


def test_the_least_recently_used_files_go_first(tmp_path: Path) -> None:
    pool = ResourcePool(tmp_path / "resources", max_bytes=102_400)
    contents = [os.urandom(20_480) for _ in range(8)]
    for number, data in enumerate(contents[:5]):
        pool.add_from_zip(app_zip(tmp_path, f"{number}.zip", file=data))
        os.utime(pool.fetch(sha1(data)), (1_000_000 + number, 1_000_000 + number))
    assert pool.match([(sha1(contents[0]), 20_480)])  # used now, so it stays
    pool.add_from_zip(app_zip(tmp_path, "5.zip", file=contents[5]))
    kept = [pool.match([(sha1(data), 20_480)]) != [] for data in contents[:6]]
    assert kept == [True, False, True, True, True, True]


def test_what_was_just_matched_is_kept_but_the_pool_stays_bounded(tmp_path: Path) -> None:
    pool = ResourcePool(tmp_path / "resources", max_bytes=102_400)
    for number in range(15):
        pool.add_from_zip(app_zip(tmp_path, f"{number}.zip", file=os.urandom(20_480)))
        total = sum(path.stat().st_size for path in pool.root.rglob("*") if path.is_file())
        assert total <= 204_800
    assert total > 150_000


def test_a_file_too_large_for_the_pool_is_not_kept(tmp_path: Path) -> None:
    pool = ResourcePool(tmp_path / "resources", max_bytes=102_400)
    assert pool.add_from_zip(app_zip(tmp_path, file=os.urandom(30_000))) == 0


def test_adding_twice_keeps_one(tmp_path: Path, pool: ResourcePool) -> None:
    upload = app_zip(tmp_path)
    assert pool.add_from_zip(upload) == 2
    assert pool.add_from_zip(upload) == 0


@pytest.mark.parametrize("content", [OTHER, b"other"])
def test_an_upload_with_a_wrong_checksum_is_refused(
    tmp_path: Path, pool: ResourcePool, store: LocalStore, content: bytes
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("file", content)
    data = (tmp_path / "a.zip").read_bytes().replace(b"other", b"OTHER", 1)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match="'file' is damaged: Bad CRC-32"):
        build_package(tmp_path / "a.zip", [], pool, store, Blobs())
    assert list(pool.root.glob("??/*")) == []
    assert list(store.digests()) == []


def test_a_full_pool_does_not_fail_a_push_but_damage_still_does(
    tmp_path: Path, pool: ResourcePool, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ResourcePool, "_add", full)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("file", OTHER)
    (tmp_path / "bad.zip").write_bytes((tmp_path / "a.zip").read_bytes().replace(b"other", b"OTHER", 1))
    with pytest.raises(ArchiveError, match="'file' is damaged"):
        build_package(tmp_path / "bad.zip", [], pool, store, Blobs())
    assert store.exists(build_package(tmp_path / "a.zip", [], pool, store, Blobs()).digest)
    assert pool.match([(sha1(OTHER), len(OTHER))]) == []
