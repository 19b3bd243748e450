"""Starts what a staging made, somewhere else than it was built, by the real launcher."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cupola.blobs.tars import unpack_tar
from cupola.staging import cell
from tests.staging.staged import Staged

LAUNCHER = Path(cell.__file__).parent / "lifecycle" / "launcher.py"


@dataclass(frozen=True)
class App:
    """A running app: its port on loopback and its process group."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(root: Path, port: int, env: Mapping[str, str]) -> dict[str, str]:
    """What the engine gives an instance."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "PORT": str(port), "CUPOLA_HOME_ROOT": str(root), "INSTANCE_INDEX": "0",
        "CUPOLA_PYTHON": os.path.realpath(sys.executable), "VCAP_APPLICATION": '{"name": "sample"}', "LANG": "C.UTF-8", **env,
    }  # fmt: skip


@contextmanager
def running(staged: Staged, root: Path, env: Mapping[str, str] | None = None) -> Iterator[App]:
    """The droplet, unpacked at `root` and started; yields when it accepts connections."""
    unpack_tar(staged.blobs.path(staged.good.droplet), root, outside_links=True)
    port = free_port()
    command = [sys.executable, "-I", "-S", str(LAUNCHER), str(root / "app"), ""]
    path = root / "log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            command, env=environment(root, port, env or {}), stdout=log, stderr=log, start_new_session=True
        )
    try:
        _await_port(process, port, path)
        yield App(port, process, path)
    finally:
        _end(process)


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)  # nothing can be awaited from outside of the app
        else:
            return


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                continue
    assert process.poll() is not None
