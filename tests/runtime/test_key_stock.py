"""Keys that are made ahead: they last, none is used twice, and nobody waits for one."""

import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cupola.runtime.local import key_stock
from cupola.runtime.local.key_stock import KeyStock
from tests.journeys.platform import eventually


@contextmanager
def opened(directory: Path, size: int) -> Iterator[KeyStock]:
    stock = KeyStock(directory / "keys", size)
    stock.open()
    try:
        yield stock
    finally:
        stock.close()


def files(directory: Path) -> list[Path]:
    return sorted((directory / "keys").glob("*.key"))


def test_the_stock_is_filled_and_only_the_cell_reads_it(tmp_path: Path) -> None:
    with opened(tmp_path, 3) as stock:
        eventually(lambda: len(stock) == 3)
    assert len(files(tmp_path)) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files(tmp_path)} == {0o600}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_no_key_is_used_twice_also_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path, 4) as stock:
        eventually(lambda: len(stock) == 4)
    there = {file.name for file in files(tmp_path)}
    numbers: list[int] = []
    with opened(tmp_path, 4) as stock:

        def take() -> None:
            numbers.extend(stock.take().public_key().public_numbers().n for _ in range(3))

        threads = [threading.Thread(target=take) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(numbers)) == 9
        eventually(lambda: len(stock) == 4)
    assert there.isdisjoint(file.name for file in files(tmp_path))


def test_an_empty_stock_makes_nobody_wait(tmp_path: Path) -> None:
    stock = KeyStock(tmp_path / "keys", 3)
    assert stock.take().key_size == 2048


def test_what_a_crash_left_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "a.key").write_bytes(b"half of a k")
    (tmp_path / "keys" / ".b.key").write_bytes(b"-----BEGIN")
    monkeypatch.setattr(key_stock, "_PAUSE_SECONDS", 0.0)
    with opened(tmp_path, 1) as stock:
        assert stock.take().key_size == 2048
        eventually(lambda: len(stock) == 1)
        assert stock.take().key_size == 2048
    assert not (tmp_path / "keys" / ".b.key").exists()


def test_a_full_disk_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: KeyStock, _pem: bytes) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(KeyStock, "_put", full)
    with opened(tmp_path, 1) as stock:
        assert stock.take().key_size == 2048
