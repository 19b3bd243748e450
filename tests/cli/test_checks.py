"""What is complained about before a start, and in which words."""

import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cupola.cli import checks
from cupola.config import Settings


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def settings(data: Path, port: int = 0) -> Settings:
    made = Settings(data_dir=data)
    made.platform.port = port
    return made


def complaint(made: Settings) -> str:
    with pytest.raises(click.ClickException) as caught:
        checks.prepare(made, None)
    return caught.value.message


def test_a_port_in_use_names_its_holder_and_a_free_one(tmp_path: Path, taken: int) -> None:
    text = complaint(settings(tmp_path, taken))
    assert text.startswith(f"port {taken} on 127.0.0.1 is in use by ")
    assert ": stop that, or choose another port (--port " in text
    suggested = int(text.rpartition("--port ")[2].rstrip(")"))
    checks.prepare(settings(tmp_path, suggested), None)


def test_a_port_that_another_router_shares_counts_as_in_use(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        assert "is in use" in complaint(settings(tmp_path, holder.getsockname()[1]))


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    made = settings(tmp_path)
    made.platform.listen = "192.0.2.1"
    assert complaint(made) == "192.0.2.1 is not an address of this machine: set platform.listen to one that is"


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert complaint(settings(tmp_path / "x")) == f"{tmp_path}/x is a file: choose another --data-dir"


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    text = complaint(settings(Path("/proc/cupola")))
    assert text.startswith("cannot write to /proc/cupola (")
    assert text.endswith("or choose another --data-dir")


def test_a_path_too_long_for_sockets(tmp_path: Path) -> None:
    text = complaint(settings(tmp_path / ("x" * 100)))
    assert "bytes too long for the sockets in it: choose a shorter --data-dir" in text


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MIN_FREE_MB", 2**40)
    assert "MiB are free at" in complaint(settings(tmp_path))


def test_the_file_system_of_a_path() -> None:
    assert checks.file_system(Path("/proc/self")) == "proc"
    assert checks.is_network("nfs4")
    assert not checks.is_network(checks.file_system(Path("/proc")))


def test_the_data_directory_is_private(tmp_path: Path) -> None:
    checks.prepare(settings(tmp_path / "a/b"), None)
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700
